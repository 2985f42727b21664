"""Formulas that exporters write out of small ops, and the one op that computes each."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from graphrt.ir import Node
from graphrt.ops._reduced import normalize_axes
from graphrt.passes._formulas import Formula, Match, candidates
from graphrt.passes._rewriting import Rewriting, Rule

Make: TypeAlias = Callable[[Rewriting, Node, Match], "Sequence[Node | None] | None"]
"""The nodes in the place of a match whose last node is given; None, or one of them None, where that cannot be."""


def _gelu(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None]:
    return [graph.make("Gelu", [m.values["x"]], last)]


def _gelu_tanh(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None]:
    return [graph.make("Gelu", [m.values["x"]], last, approximate="tanh")]


def _swish(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None]:
    return [graph.make("Swish", [m.values["x"]], last, alpha=m.numbers["alpha"])]


def _hard_swish(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None] | None:
    for gate in m.all("HardSigmoid"):
        a = gate.attributes
        if abs(float(a.get("alpha", 0.2)) - 1 / 6) > 1e-6 or a.get("beta", 0.5) != 0.5:  # type: ignore[arg-type]
            return None
    return [graph.make("HardSwish", [m.values["x"]], last)]


def _are_over_last_axis(graph: Rewriting, m: Match) -> bool:
    """Whether all means are over the last axis of ``x``, which is kept, and ``scale`` has one number for each place."""
    x, scale = graph.type(m.values["x"]), graph.type(m.values["scale"])
    if x.shape is None or x.dtype not in ("float32", "float64") or scale.dtype != x.dtype:
        return False
    if scale.shape is None or len(scale.shape) != 1 or scale.shape[0] != x.shape[-1]:
        return False
    rank = len(x.shape)
    for node in m.all("ReduceMean"):
        axes = node.attributes.get("axes")
        if len(node.inputs) > 1:
            axes = graph.constant(node.inputs[1])
        if axes is None or normalize_axes(axes, rank, 0) != (rank - 1,) or not node.attributes.get("keepdims", 1):
            return False
    return True


def _layer_normalization(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None] | None:
    if not _are_over_last_axis(graph, m):
        return None
    inputs = [m.values["x"], m.values["scale"]]
    return [graph.make("LayerNormalization", inputs, last, axis=-1, epsilon=m.numbers["epsilon"], **_stash(graph, m))]


def _rms_normalization(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None] | None:
    if not _are_over_last_axis(graph, m):
        return None
    inputs = [m.values["x"], m.values["scale"]]
    return [graph.make("RMSNormalization", inputs, last, axis=-1, epsilon=m.numbers["epsilon"], **_stash(graph, m))]


def _stash(graph: Rewriting, m: Match) -> dict[str, int]:
    """The statistics are made in x's own dtype."""
    return {"stash_type": 11} if graph.type(m.values["x"]).dtype == "float64" else {}


def _shift(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None] | None:
    (node,) = m.all("LayerNormalization")
    shift = graph.type(m.values["b"])
    if len(node.inputs) > 2 or len(node.outputs) > 1 or shift != graph.type(node.inputs[1]):
        return None
    inputs, attributes = (*node.inputs, m.values["b"]), node.attributes
    return [Node(node.op_type, inputs, last.outputs, attributes, node.domain, last.name)]


def _attention(graph: Rewriting, last: Node, m: Match) -> Sequence[Node | None] | None:
    q, k, v = (graph.type(m.values[n]).shape for n in ("q", "k", "v"))
    scale = m.numbers["a"] * m.numbers["b"] * m.numbers["c"]
    axes = {node.attributes.get("axis", -1) for node in m.all("Softmax")}
    if q is None or k is None or v is None or not len(q) == len(k) == len(v) == 4 or not axes <= {-1, 3}:
        return None
    if not q[:2] == k[:2] == v[:2] or scale <= 0:
        return None
    inputs = [m.values["q"], graph.fresh(f"{last.outputs[0]}.k"), m.values["v"]]
    if "mask" in m.values:
        mask = graph.type(m.values["mask"]).shape
        if mask is None or len(mask) > 4 or mask[-1:] != k[3:]:
            return None
        inputs.append(m.values["mask"])
    turned = Node("Transpose", (m.values["k"],), (inputs[1],), {"perm": (0, 1, 3, 2)})
    return [turned, graph.make("Attention", inputs, last, scale=scale)]


_FORMULAS: tuple[tuple[Formula, Make], ...] = (
    (Formula("x * (1 + erf(x / 1.4142135623730951)) * 0.5"), _gelu),
    (Formula("x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x^3))) * 0.5"), _gelu_tanh),
    (Formula("x * (1 + tanh(0.7978845608028654 * x * (1 + 0.044715 * x^2))) * 0.5"), _gelu_tanh),
    (Formula("x * sigmoid(x * alpha)", ("alpha",)), _swish),
    (Formula("x * hardsigmoid(x)"), _hard_swish),
    (Formula("x * clip(x + 3, 0, 6) / 6"), _hard_swish),
    (
        Formula("(x - reducemean(x)) / sqrt(reducemean((x - reducemean(x))^2) + epsilon) * scale", ("epsilon",)),
        _layer_normalization,
    ),
    (Formula("layernormalization(x, scale) + b"), _shift),
    (Formula("x / sqrt(reducemean(x^2) + epsilon) * scale", ("epsilon",)), _rms_normalization),
    (Formula("matmul(softmax(matmul(q * a, k * b) * c), v)", ("a", "b", "c")), _attention),
    (Formula("matmul(softmax(matmul(q * a, k * b) * c + mask), v)", ("a", "b", "c")), _attention),
)
"""What is looked for, and what makes the nodes for it; of those with the same last op the first that fits is taken."""


def fusions(present: Collection[str]) -> dict[str, list[Rule]]:
    """The rules that replace formulas of ops that are present, by the op type of their last node."""
    known = {op_type.lower() for op_type in present}
    if "ReduceMean" in present:
        known.add("layernormalization")  # may come of the formula before
    by_roots: dict[tuple[str, ...], dict[Formula, Make]] = {}
    for formula, make in _FORMULAS:
        if formula.functions <= known:
            by_roots.setdefault(formula.roots, {})[formula] = make
    return {op_type: [_replacing(found)] for roots, found in by_roots.items() for op_type in roots}


def _replacing(makes: dict[Formula, Make]) -> Rule:
    def rule(graph: Rewriting, node: Node) -> Sequence[Node] | None:
        for formula in candidates(makes, graph, node):
            match = formula.find(graph, node)
            made = makes[formula](graph, node, match) if match is not None else None
            if made is not None and None not in made:
                return made  # type: ignore[return-value]
        return None

    return rule
