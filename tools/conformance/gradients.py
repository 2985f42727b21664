"""Checks VJP and JVP of one case in float64: against central differences, and against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from conformance.doubles import flattened, wide, widened
from graphrt.autodiff import reverse
from graphrt.errors import NotDifferentiableError
from graphrt.ir import Graph
from graphrt.runtime.session import Session

Arrays = dict[str, Any]
STEPS = (1e-6, 1e-7, 1e-8, 1e-9)
"""Steps of the differences, times a direction with entries of about 1; the small one for networks with so many
kinks that some lie within the large one."""
RTOL, ATOL = 1e-4, 1e-6
ADJOINT = 1e-9
HIDDEN = (
    "a NaN arises inside (softmax of a row that is all -inf) and a Where hides it: the chain rule has no value there"
)
TWICE = "the model computes a gradient itself: its derivatives are taken forward over reverse, not by a second reverse"
COARSE = "the float inputs are of 8 bits or fewer: too coarse for a small step"
CUT = "integer path: the outputs depend on the floats only through inputs that are never differentiated"
INTEGERS = "integer path: no output is a float tensor"


def tagged_pairs() -> set[str]:
    """``"Op.input"`` for each input of a current op of the main domain that ONNX tags differentiable."""
    newest: dict[str, Any] = {}
    for s in onnx.defs.get_all_schemas():
        if not s.domain and not s.deprecated:
            newest[s.name] = s
    category = onnx.defs.OpSchema.DifferentiationCategory.Differentiable
    return {f"{s.name}.{i.name}" for s in newest.values() for i in s.inputs if i.differentiation_category == category}


def check_gradients(graph: Graph, feeds: Mapping[str, Any]) -> Arrays:
    """Checks the derivatives of all float outputs by all float inputs and parameters.

    Returns:
        ``status``: "pass", "fail", "none" (there is no derivative here: ``reason`` says why) or "no floats" (no
        input is a float tensor); ``pairs``: the (op, input) pairs that were checked.
    """
    fed = {k: wide(v) for k, v in feeds.items()}
    if not any(map(_has_floats, fed.values())):
        return {"status": "no floats"}
    plain = Session(graph).run(dict(feeds))
    if not any(map(_has_floats, plain.values())):
        return {"status": "none", "reason": INTEGERS}
    session = Session(widened(graph))
    tensors, given = flattened(session.graph, fed, session.run(fed))
    return _Check(tensors, given).run()


def _has_floats(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_floats, value))
    return isinstance(value, np.ndarray) and value.dtype.kind in "fcV" and value.dtype.name != "void"


def _is_double(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype in (np.float64, np.complex128)


class _Check:
    def __init__(self, graph: Graph, feeds: Arrays):
        self.session, self.graph, self.feeds = Session(graph), graph, feeds
        self.rng = np.random.default_rng(0)

    def run(self) -> Arrays:
        """Checks at the case's own point, and beside it where that is at a kink."""
        out = self.at(self.feeds)
        self.of = [k for k, v in out.items() if _is_double(v)]
        parameters = [k for k in self.session.trainable() if _is_double(self.graph.initializers[k])]
        wrt = [k for k, v in self.feeds.items() if _is_double(v)] + parameters
        if not wrt:
            return {"status": "none", "reason": COARSE}
        if not self.of:
            return {"status": "none", "reason": INTEGERS}
        try:
            reached = reverse(self.graph, self.session.registry, self.of, wrt).reached
        except NotDifferentiableError as e:
            if any("." in n.op_type for n in self.graph.nodes):
                return {"status": "none", "reason": TWICE}
            return {"status": "fail", "reason": str(e).splitlines()[0]}
        self.wrt = [w for w in wrt if w in reached]
        if not self.wrt:
            return {"status": "none", "reason": CUT}
        return self.verdict()

    def verdict(self) -> Arrays:
        """The status of the case's point; or, where that is at a kink, of a point beside it."""
        first = self.check(self.feeds)
        if first != "kink":
            return self.result(first)
        for scale in (1e-3, 1e-2):
            beside = {k: self.beside(v, scale) if k in self.wrt else v for k, v in self.feeds.items()}
            found = self.check(beside)
            if found != "kink":
                return self.result(found)
        return {"status": "none", "reason": "discontinuity at the point, or no finite value there"}

    def beside(self, x: Any, scale: float) -> Any:
        """A point near x, with numbers of about 1 in place of infinities and the like."""
        noise = self.rng.normal(size=x.shape)
        with np.errstate(all="ignore"):
            return np.where(np.isfinite(x) & (np.abs(x) < 1e6), x + scale * noise, noise)

    def result(self, found: str) -> Arrays:
        if found == HIDDEN:
            return {"status": "none", "reason": HIDDEN}
        return {"status": "fail", "reason": found} if found else {"status": "pass", "pairs": self.pairs()}

    def at(self, feeds: Arrays) -> Arrays:
        self.session.step = 0
        return self.session.run(feeds)

    def moved(self, feeds: Arrays, direction: Arrays, h: float) -> Arrays:
        """The outputs at feeds (and parameters) + h times the direction."""
        before = dict(self.session.parameters)
        try:
            for k in self.wrt:
                if k not in feeds:
                    self.session.parameters[k] = before[k] + h * direction[k]
            out = self.at({k: v + h * direction[k] if k in direction else v for k, v in feeds.items()})
            return {o: np.asarray(out[o]) for o in self.of}
        finally:
            self.session.parameters.update(before)

    def direction(self, feeds: Arrays) -> Arrays:
        at = {k: np.asarray(feeds.get(k, self.session.parameters.get(k))) for k in self.wrt}
        return {k: self._draw(v) for k, v in at.items()}

    def _draw(self, like: Any) -> Any:
        real = self.rng.normal(size=like.shape)
        return real + 1j * self.rng.normal(size=like.shape) if like.dtype.kind == "c" else real

    def check(self, feeds: Arrays) -> str:
        """ "" when all is well, "kink" when the point has no derivative, else what is wrong."""
        v = self.direction(feeds)
        self.session.step = 0
        value, tangent = self.session.jvp(feeds, v, of=self.of)
        empty = not any(x.size for x in v.values()) or not any(np.size(value[o]) for o in self.of)
        if not empty and not any(np.isfinite(value[o]).any() for o in self.of):
            return "kink"
        found = ""
        for h in STEPS if len(self.graph.nodes) > 20 else STEPS[:2]:
            found = self.differences(feeds, v, tangent, h)
            if not found:
                return self.adjoint(feeds, v, value, tangent)
        return found

    def differences(self, feeds: Arrays, v: Arrays, tangent: Arrays, h: float) -> str:
        """ "" when the tangents agree with differences of this step; "kink", or what is wrong."""
        around = [self.moved(feeds, v, s) for s in (-h, -h / 8, 0.0, h / 8, h)]
        wrong, smooth = "", True
        for o in self.of:
            t, steps = np.asarray(tangent[o]), [x[o] for x in around]
            if t.shape != steps[2].shape:
                return f"the tangent of {o!r} has shape {t.shape}, the value {steps[2].shape}"
            if any(x.shape != t.shape for x in steps):
                return "kink"
            ok, kinks = _compare(t, *steps, h)
            smooth &= not kinks.any()
            if not ok and not wrong:
                by = _worst(t, steps[0], steps[-1], kinks, h)
                wrong = f"JVP of {o!r} differs from central differences by {by:.3g}"
        return wrong or ("" if smooth else "kink")

    def adjoint(self, feeds: Arrays, v: Arrays, value: Arrays, tangent: Arrays) -> str:
        """Whether <ct, J v> == <J^T ct, v> holds."""
        self.session.step = 0
        _, pullback = self.session.vjp(feeds, wrt=self.wrt, of=self.of)
        ct = {o: np.where(np.isfinite(value[o]), self._draw(np.asarray(value[o])), 0) for o in self.of}
        back = pullback(ct)
        for w in self.wrt:
            if np.shape(back[w]) != v[w].shape:
                return f"the cotangent of {w!r} has shape {np.shape(back[w])}, the value {v[w].shape}"
        tangent = {o: np.where(np.isfinite(value[o]), tangent[o], 0) for o in self.of}
        if any(np.isnan(value[o]).any() for o in self.of):  # outside an op's domain there is no slope
            back = {w: np.nan_to_num(b, nan=0.0) for w, b in back.items()}
        left = [np.real(np.vdot(ct[o], tangent[o])) for o in self.of]
        right = [np.real(np.vdot(back[w], v[w])) for w in self.wrt]
        size = sum(np.sum(np.abs(ct[o] * tangent[o])) for o in self.of)
        size += sum(np.sum(np.abs(back[w] * v[w])) for w in self.wrt)
        off = abs(sum(left) - sum(right))
        if np.isnan(off) and np.isfinite(sum(left)) and self.hides_nan(feeds):
            return HIDDEN
        return "" if off <= ADJOINT * max(size, 1) else f"adjoint identity: {sum(left):.9g} is not {sum(right):.9g}"

    def hides_nan(self, feeds: Arrays) -> bool:
        """Whether a NaN arises inside, though none comes out."""
        self.session.step = 0
        values = self.session.run(feeds, [o for n in self.graph.nodes for o in n.outputs if o])
        return any(isinstance(v, np.ndarray) and v.dtype == np.float64 and np.isnan(v).any() for v in values.values())

    def pairs(self) -> list[str]:
        """The (op, input) pairs of nodes that a checked value feeds directly."""
        found = set()
        for node in self.graph.nodes:
            if node.domain or "." in node.op_type:
                continue
            schema = onnx.defs.get_schema(node.op_type, onnx.defs.onnx_opset_version(), "")
            for i, name in enumerate(node.inputs):
                if name in self.wrt:
                    found.add(f"{node.op_type}.{schema.inputs[min(i, len(schema.inputs) - 1)].name}")
        return sorted(found)


def _compare(t: Any, low: Any, near_low: Any, mid: Any, near_high: Any, high: Any, h: float) -> tuple[bool, Any]:
    """Whether a tangent agrees with the differences away from kinks, and where the kinks are.

    A kink is where the differences to both sides disagree, or where a smaller step finds another slope.
    """
    with np.errstate(all="ignore"):
        central, nearer = (high - low) / (2 * h), (near_high - near_low) / (h / 4)
        scale = (ATOL + 1e-14 / h) * np.maximum(1, np.abs(mid))
        same = (low == high) | (np.isnan(low) & np.isnan(high))
        fixed = ~np.isfinite(mid) & same  # stays infinite: there is no slope to ask for
        finite = np.isfinite(t) & np.isfinite(central)
        largest = np.max(np.abs(central), where=finite, initial=0)
        unsettled = np.max(np.abs(central - nearer), where=finite & np.isfinite(nearer), initial=0)
        doubt = 2 * unsettled if unsettled < largest / 20 else 0  # how far the differences themselves are off
        off = np.abs(t - central) > scale + RTOL * (np.abs(central) + largest / 10) + doubt
        left, right = (mid - low) / h, (high - mid) / h
        jumps = np.abs(right - left) > 10 * scale + 1e-3 * (np.abs(left) + np.abs(right))
        jumps |= np.abs(central - nearer) > 100 * scale + 1e-3 * (np.abs(central) + np.abs(nearer))
        kinks = (~finite | jumps) & ~fixed
    return not np.any(off & ~kinks & ~fixed), kinks


def _worst(t: Any, low: Any, high: Any, kinks: Any, h: float) -> float:
    off = np.abs(t - (high - low) / (2 * h))[~kinks & np.isfinite(low) & np.isfinite(high)]
    return float(np.max(off)) if off.size else 0.0
