"""Ops with subgraphs: If, Loop, Scan.

A graph attribute reaches the value function as a callable: the subgraph's inputs in, a tuple of its outputs
out. The derivative runs along the branch and the trip count that really ran: the rule runs the loop again,
keeping each iteration's pullback, and then goes backward through them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.dual import lists
from graphrt.ir import Graph, Node, Value
from graphrt.op import Array, op
from graphrt.types import TensorType


@op("If", version=1, outputs="*outputs", nondiff="cond")
def if_(cond: Array, *, then_branch: Graph, else_branch: Graph) -> tuple[Any, ...]:
    """Runs one of two subgraphs.  cond: bool, one element -> the outputs of the branch taken.

    The branches have no inputs and read outer values by name. Derivative: that of the branch taken; none for
    cond. (ONNX operator spec)
    """
    outputs: tuple[Any, ...] = _branch(cond, then_branch, else_branch)()
    return outputs


@if_.body_vjp
def _(cts: Sequence[Array], inputs: Sequence[Array], *, then_branch: Any, else_branch: Any) -> tuple[Any, ...]:
    _, pullback = _branch(inputs[0], then_branch, else_branch).vjp()
    pullback(cts)
    return (None,)


@if_.body_jvp
def _(dots: Sequence[Array], inputs: Sequence[Array], *, then_branch: Any, else_branch: Any) -> tuple[Any, ...]:
    tangents: tuple[Any, ...] = _branch(inputs[0], then_branch, else_branch).jvp((), ())[1]
    return tangents


def _branch(cond: Array, then_branch: Any, else_branch: Any) -> Any:
    if np.size(cond) != 1:
        raise ValueError(f"cond has {np.size(cond)} elements; If takes one")
    return then_branch if bool(np.reshape(cond, ())) else else_branch


@op("Loop", version=1, outputs="*outputs", nondiff=("M", "cond"))
def loop(M: Array = None, cond: Array = None, *v_initial: Any, body: Graph) -> tuple[Any, ...]:
    """Runs a subgraph again and again.  M: int64, most trips (None: no bound); cond: bool, whether to start
    (None: True); v_initial: the values carried from trip to trip, any type
    -> their last values, then for each scan output the trips' values stacked along a new axis 0.

    body: (trip number int64, cond, carried...) -> (cond, carried..., scan outputs...). Derivative: through
    the trips that ran; none for M and cond. (ONNX operator spec)
    """
    scans: list[list[Array]] = []
    carried = _trips(M, cond, v_initial, body, lambda i, c, v: body(i, c, *v), scans)  # type: ignore[operator]
    return (*carried, *_stacked(scans, body, len(v_initial)))


def _trips(
    m: Array, cond: Array, carried: Sequence[Any], body: Any, run: Callable[..., tuple[Any, ...]], scans: list[Any]
) -> list[Any]:
    """Goes through the trips; gathers each scan output in ``scans``; returns what is carried out."""
    values, n = list(carried), len(carried)
    limit = None if m is None else int(np.reshape(m, ()))
    go = True if cond is None else bool(np.reshape(cond, ()))
    scans += [[] for _ in range(body.n_outputs - 1 - n)]
    trip = 0
    while go and (limit is None or trip < limit):
        keep, *results = run(np.asarray(trip, np.int64), np.asarray(go), values)
        values = list(results[:n])
        for gathered, x in zip(scans, results[n:], strict=True):
            gathered.append(x)
        go, trip = bool(np.reshape(keep, ())), trip + 1
    return values


def _stacked(scans: Sequence[Sequence[Array]], body: Any, carried: int) -> list[Array]:
    if scans and not scans[0]:
        return [_empty_scan(body, 1 + carried + i) for i in range(len(scans))]
    return [np.stack(s) for s in scans]


def _empty_scan(body: Any, output: int) -> Array:
    """A scan output of no trips: no rows, of the element type and shape that the body declares."""
    t = body.output_type(output)
    shape = tuple(d if isinstance(d, int) else 0 for d in t.shape or ())
    return np.zeros((0, *shape), t.dtype or "float32")


@loop.body_vjp
def _(cts: Sequence[Array], inputs: Sequence[Any], *, body: Any) -> tuple[Any, ...]:
    m, cond, *initial = (*inputs, None, None)[: max(2, len(inputs))]
    pullbacks: list[Any] = []

    def run(i: Array, c: Array, values: Sequence[Any]) -> tuple[Any, ...]:
        outputs, pullback = body.vjp(i, c, *values)
        pullbacks.append(pullback)
        return tuple(outputs)

    _trips(m, cond, initial, body, run, [])
    n = len(initial)
    state, scans = list(cts[:n]), cts[n:]
    for i in reversed(range(len(pullbacks))):
        back = pullbacks[i]((None, *state, *(None if s is None else s[i] for s in scans)))
        state = list(back[2:])
    return (None, None, *state)[: len(inputs)]


@loop.body_jvp
def _(dots: Sequence[Array], inputs: Sequence[Any], *, body: Any) -> tuple[Any, ...]:
    m, cond, *initial = (*inputs, None, None)[: max(2, len(inputs))]
    state = [list(dots[2:])]
    gathered: list[list[Array]] = [[] for _ in range(body.n_outputs - 1 - len(initial))]

    def run(i: Array, c: Array, values: Sequence[Any]) -> tuple[Any, ...]:
        outputs, tangents = body.jvp((i, c, *values), (None, None, *state[0]))
        state[0] = list(tangents[1 : 1 + len(values)])
        for g, t, y in zip(gathered, tangents[1 + len(values) :], outputs[1 + len(values) :], strict=True):
            g.append(np.zeros_like(y) if t is None else t)
        return tuple(outputs)

    scans: list[Any] = []
    last = _trips(m, cond, initial, body, run, scans)
    stacked = _stacked(gathered, body, len(initial))
    return (*map(lists.tangent_or_zeros, state[0], last), *stacked)


@op("Scan", version=9, outputs="*outputs")
def scan(
    *initial_state_and_scan_inputs: Array,
    body: Graph,
    num_scan_inputs: int,
    scan_input_axes: tuple[int, ...] | None = None,
    scan_input_directions: tuple[int, ...] | None = None,
    scan_output_axes: tuple[int, ...] | None = None,
    scan_output_directions: tuple[int, ...] | None = None,
) -> tuple[Any, ...]:
    """Runs a subgraph along an axis.  Inputs: the initial state values, then ``num_scan_inputs`` arrays that
    are read slice by slice -> the last state values, then the scan outputs, stacked.

    body: (state..., slices...) -> (state..., output slices...). Axes default to 0, directions to 0 (forward; 1
    is backward). Derivative: through every step. (ONNX operator spec, version 9)
    """
    setup = _ScanSetup(
        len(initial_state_and_scan_inputs), num_scan_inputs, body, scan_input_axes, scan_input_directions,
        scan_output_axes, scan_output_directions,
    )  # fmt: skip
    state, slices = setup.start(initial_state_and_scan_inputs)
    outputs: list[tuple[Any, ...]] = []
    for xs in slices:
        results = body(*state, *xs)  # type: ignore[operator]
        state = list(results[: setup.n_state])
        outputs.append(results[setup.n_state :])
    return (*state, *setup.stack(outputs))


class _ScanSetup:
    """Where a Scan's slices come from and go to."""

    def __init__(
        self,
        n_inputs: int,
        n_scan: int,
        body: Any,
        input_axes: Sequence[int] | None,
        input_directions: Sequence[int] | None,
        output_axes: Sequence[int] | None,
        output_directions: Sequence[int] | None,
    ):
        self.n_state = n_inputs - n_scan
        self.n_out = body.n_outputs - self.n_state
        self.body = body
        self.in_axes = tuple(input_axes or (0,) * n_scan)
        self.in_back = tuple(input_directions or (0,) * n_scan)
        self.out_axes = tuple(output_axes or (0,) * self.n_out)
        self.out_back = tuple(output_directions or (0,) * self.n_out)

    def start(self, inputs: Sequence[Array]) -> tuple[list[Array], list[tuple[Array, ...]]]:
        """The initial state, and the slices of each step."""
        arrays = inputs[self.n_state :]
        lengths = {x.shape[a] for x, a in zip(arrays, self.in_axes, strict=True)}
        if len(lengths) != 1:
            raise ValueError(f"the scan inputs have different lengths along their scan axes: {sorted(lengths)}")
        rows = (self._rows(x, a, b) for x, a, b in zip(arrays, self.in_axes, self.in_back, strict=True))
        steps = zip(*rows, strict=True)
        return list(inputs[: self.n_state]), list(steps)

    def stack(self, outputs: Sequence[Sequence[Array]]) -> list[Array]:
        """The scan outputs from the steps' slices."""
        if not outputs:
            return [_empty_scan(self.body, self.n_state + i) for i in range(self.n_out)]
        columns = zip(*outputs, strict=True)
        return [
            np.stack(c[::-1] if b else c, axis=a) for c, a, b in zip(columns, self.out_axes, self.out_back, strict=True)
        ]

    def unstack_cts(self, cts: Sequence[Array | None], steps: int) -> list[tuple[Array | None, ...]]:
        """The cotangents of each step's output slices."""
        rows = [
            [None] * steps if ct is None else self._rows(ct, a, b)
            for ct, a, b in zip(cts, self.out_axes, self.out_back, strict=True)
        ]
        return [tuple(r[i] for r in rows) for i in range(steps)]

    def input_cts(self, steps: Sequence[Sequence[Array | None]], inputs: Sequence[Array]) -> list[Array | None]:
        """The cotangents of the scan inputs from those of the slices."""
        total: list[Array | None] = []
        for k in range(len(inputs) - self.n_state):
            parts = [s[k] for s in steps]
            if not parts or all(p is None for p in parts):
                total.append(None)
                continue
            like = next(p for p in parts if p is not None)
            filled = [np.zeros_like(like) if p is None else p for p in parts]
            total.append(np.stack(filled[::-1] if self.in_back[k] else filled, axis=self.in_axes[k]))
        return total

    @staticmethod
    def _rows(x: Array, axis: int, backward: int) -> list[Array]:
        rows = np.moveaxis(x, axis, 0)
        order = range(rows.shape[0])
        return [rows[i] for i in (reversed(order) if backward else order)]


@scan.body_vjp
def _(
    cts: Sequence[Array], inputs: Sequence[Array], *, body: Any, num_scan_inputs: int, **axes: Any
) -> tuple[Any, ...]:
    setup = _scan_setup(inputs, body, num_scan_inputs, axes)
    state, slices = setup.start(inputs)
    pullbacks = []
    for xs in slices:
        results, pullback = body.vjp(*state, *xs)
        state = list(results[: setup.n_state])
        pullbacks.append(pullback)
    state_cts: list[Array | None] = list(cts[: setup.n_state])
    out_cts = setup.unstack_cts(cts[setup.n_state :], len(pullbacks))
    step_cts: list[tuple[Array | None, ...]] = [()] * len(pullbacks)
    for i in reversed(range(len(pullbacks))):
        back = pullbacks[i]((*state_cts, *out_cts[i]))
        state_cts, step_cts[i] = list(back[: setup.n_state]), back[setup.n_state :]
    return (*state_cts, *setup.input_cts(step_cts, inputs))


def _scan_setup(inputs: Sequence[Array], body: Any, n: int, axes: dict[str, Any]) -> _ScanSetup:
    names = ("scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions")
    return _ScanSetup(len(inputs), n, body, *(axes.get(k) for k in names))


@scan.body_jvp
def _(
    dots: Sequence[Array], inputs: Sequence[Array], *, body: Any, num_scan_inputs: int, **axes: Any
) -> tuple[Any, ...]:
    setup = _scan_setup(inputs, body, num_scan_inputs, axes)
    state, slices = setup.start(inputs)
    filled = [np.zeros_like(x) if d is None else d for d, x in zip(dots, inputs, strict=True)]
    state_dots, slice_dots = setup.start(filled)
    outputs = []
    for xs, ds in zip(slices, slice_dots, strict=True):
        results, tangents = body.jvp((*state, *xs), (*state_dots, *ds))
        state = list(results[: setup.n_state])
        full = [np.zeros_like(y) if t is None else t for t, y in zip(tangents, results, strict=True)]
        state_dots = full[: setup.n_state]
        outputs.append(full[setup.n_state :])
    return (*state_dots, *setup.stack(outputs))


def _body(name: str, inputs: Sequence[Value], outputs: Sequence[str], *nodes: Node) -> Graph:
    return Graph(name, inputs=tuple(inputs), outputs=tuple(Value(o) for o in outputs), nodes=nodes)


def _floats(*names: str) -> list[Value]:
    return [Value(n, TensorType("float64", (None,))) for n in names]


@if_.examples
def _(rng: np.random.Generator) -> Any:
    then_branch = _body("then", [], ["p"], Node("Mul", ("a", "b"), ("p",)))
    else_branch = _body("else", [], ["q"], Node("Sin", ("a",), ("q",)))
    outer = {"a": rng.normal(size=3), "b": rng.normal(size=3)}
    for cond in (np.array(True), np.array([False])):
        yield (cond,), {"then_branch": then_branch, "else_branch": else_branch, "outer": outer}


@loop.examples
def _(rng: np.random.Generator) -> Any:
    head = [Value("i", TensorType("int64", ())), Value("c", TensorType("bool", ()))]
    nodes = (
        Node("Identity", ("c",), ("go",)),
        Node("Mul", ("v", "a"), ("p",)),
        Node("Tanh", ("p",), ("v_next",)),
        Node("Mul", ("v_next", "v_next"), ("row",)),
    )
    body = _body("body", head + _floats("v"), ["go", "v_next", "row"], *nodes)
    common = {"body": body, "outer": {"a": rng.normal(size=3)}, "n_outputs": 2}
    yield (np.array(4), None, rng.normal(size=3)), common
    yield (np.array(2), np.array(True), rng.normal(size=3)), common
    yield (np.array(3), np.array(False), rng.normal(size=3)), common


@scan.examples
def _(rng: np.random.Generator) -> Any:
    nodes = (Node("Mul", ("state", "row"), ("p",)), Node("Sin", ("p",), ("next",)), Node("Neg", ("next",), ("out",)))
    body = _body("body", _floats("state", "row"), ["next", "out"], *nodes)
    common = {"body": body, "num_scan_inputs": 1, "n_outputs": 2}
    yield (rng.normal(size=2), rng.normal(size=(3, 2))), common
    backward = {"scan_input_axes": (1,), "scan_input_directions": (1,), "scan_output_axes": (1,)}
    yield (rng.normal(size=2), rng.normal(size=(2, 3))), {**common, **backward, "scan_output_directions": (1,)}


OPS = (if_, loop, scan)
