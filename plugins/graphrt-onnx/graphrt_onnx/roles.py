"""What a float tensor is to the nodes that read it: a weight, an operand, a running statistic, or a setting.

A role is read off the op and the input, never off names. The largest role among a tensor's uses counts; an op that
only passes a tensor on (Transpose, Reshape, Cast, …) hands it the role of its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum

from graphrt.ir.dag import schedule
from graphrt.plugin import Graph, GraphrtError, Node
from graphrt.registry import Registry


class Role(IntEnum):
    """How a tensor is used; the order is that of precedence."""

    UNUSED = 0
    SETTING = 1
    """An exponent, a bound, a scale of a resize, a quantization scale: never trained."""
    STATE = 2
    """The initial state of a recurrent layer: trained where the file says that it is a parameter."""
    STATISTIC = 3
    """A running mean or variance."""
    OPERAND = 4
    """An operand of arithmetic: trained when it has several elements."""
    WEIGHT = 5
    """A kernel, a matrix, a bias, a table of embeddings, a gain: trained."""


_ALL = frozenset(range(64))
WEIGHTS: Mapping[str, frozenset[int]] = {
    "Conv": frozenset({1, 2}), "ConvTranspose": frozenset({1, 2}), "DeformConv": frozenset({1, 3}),
    "FusedConv": frozenset({1, 2}), "MatMul": frozenset({0, 1}), "Gemm": frozenset({0, 1, 2}), "Einsum": _ALL,
    "FusedMatMul": frozenset({0, 1}), "FusedGemm": frozenset({0, 1, 2}), "BatchNormalization": frozenset({1, 2}),
    "InstanceNormalization": frozenset({1, 2}), "LayerNormalization": frozenset({1, 2}),
    "GroupNormalization": frozenset({1, 2}), "RMSNormalization": frozenset({1}), "PRelu": frozenset({1}),
    "SimplifiedLayerNormalization": frozenset({1}), "SkipLayerNormalization": frozenset({2, 3, 4}),
    "SkipSimplifiedLayerNormalization": frozenset({2, 3}), "EmbedLayerNormalization": frozenset({2, 3, 4, 5, 6}),
    "GroupNorm": frozenset({1, 2}), "BiasGelu": frozenset({1}), "FastGelu": frozenset({1}),
    "LSTM": frozenset({1, 2, 3, 7}), "GRU": frozenset({1, 2, 3}), "RNN": frozenset({1, 2, 3}), "Gather": frozenset({0}),
    "GeneralizedRelu": frozenset({1}), "LearnedPiecewiseLinear": frozenset({1, 2}),
}  # fmt: skip
"""Inputs that take weights, by op. `com.microsoft`'s Attention is told apart by its domain below."""

SETTINGS: Mapping[str, frozenset[int]] = {
    "Pow": frozenset({1}), "Clip": frozenset({1, 2}), "Resize": frozenset({1, 2}), "Upsample": frozenset({1}),
    "Dropout": frozenset({1, 2}), "Pad": frozenset({1, 2}), "Range": _ALL, "OneHot": frozenset({1, 2}),
    "QuantizeLinear": frozenset({1, 2}), "DequantizeLinear": frozenset({1, 2}), "LSTM": frozenset({4}),
    "GRU": frozenset({4}), "RNN": frozenset({4}), "RoiAlign": frozenset({1, 2}), "MaxRoiPool": frozenset({1}),
    "NonMaxSuppression": _ALL, "BlackmanWindow": _ALL, "HannWindow": _ALL, "HammingWindow": _ALL,
    "STFT": frozenset({2}),
    "MelWeightMatrix": _ALL, "Shape": _ALL, "Size": _ALL, "ConstantOfShape": _ALL, "RotaryEmbedding": frozenset({1, 2}),
    "AffineGrid": frozenset({1}), "GridSample": frozenset({1}),
}  # fmt: skip
"""Inputs that take settings, by op, beside those that the op itself declares ``nondiff``."""

STATISTICS = {"BatchNormalization": frozenset({3, 4})}
STATES = {"LSTM": frozenset({5, 6}), "GRU": frozenset({5}), "RNN": frozenset({5})}

PASSES_ON = frozenset(
    ["Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "Slice", "Split",
     "Concat", "Expand", "Tile", "DequantizeLinear", "Gather"]
)  # fmt: skip
"""Ops whose (first, or any) input has the role of the output."""

_MICROSOFT_ATTENTION = {
    "Attention": frozenset({1, 2}),
    "QAttention": frozenset({2}),
    "MultiHeadAttention": frozenset({3}),
}
_BEFORE_BIAS = frozenset(["MatMul", "Conv", "ConvTranspose", "Gemm", "Einsum", "FusedMatMul", "DeformConv"])


def roles_of(graph: Graph, registry: Registry) -> dict[str, Role]:
    """The role of every value, from those of its uses, also in subgraphs; values not listed are unused."""
    return _Roles(registry).walk(graph, {}, graph.opset_imports)


class _Roles:
    def __init__(self, registry: Registry):
        self.registry = registry

    def walk(self, graph: Graph, found: dict[str, Role], opsets: Mapping[str, int]) -> dict[str, Role]:
        """Goes through the nodes backward, so that a value's uses come before the node that makes it."""
        scoped = graph.replace(opset_imports={**opsets, **graph.opset_imports})
        producers = graph.producers()
        for name in graph.output_names:
            _raise(found, name, Role.OPERAND)
        for index in reversed(schedule(graph)):
            node = graph.nodes[index]
            for body in node.subgraphs():
                for name, role in self.walk(body, {}, scoped.opset_imports).items():
                    _raise(found, name, role)
            for position, name in enumerate(node.inputs):
                if name:
                    _raise(found, name, self._role(node, position, scoped, found, producers))
        return found

    def _role(
        self, node: Node, position: int, graph: Graph, found: Mapping[str, Role], producers: Mapping[str, Node]
    ) -> Role:
        weights = (
            _MICROSOFT_ATTENTION if node.domain == "com.microsoft" and node.op_type in _MICROSOFT_ATTENTION else WEIGHTS
        )
        if position in STATISTICS.get(node.op_type, ()):
            return Role.STATISTIC
        if position in STATES.get(node.op_type, ()):
            return Role.STATE
        own = Role.OPERAND
        if position in SETTINGS.get(node.op_type, ()) or self._is_nondiff(node, position, graph):
            return Role.SETTING
        if position in weights.get(node.op_type, ()) or _is_bias(node, position, producers):
            own = Role.WEIGHT
        if node.op_type in PASSES_ON and (position == 0 or node.op_type == "Concat"):
            passed = max((found.get(o, Role.UNUSED) for o in node.outputs), default=Role.UNUSED)
            return own if own is Role.WEIGHT and passed >= Role.OPERAND else passed
        return own

    def _is_nondiff(self, node: Node, position: int, graph: Graph) -> bool:
        try:
            op = self.registry.op_of(node, graph)
            bound = op.bind(range(len(node.inputs)))
        except GraphrtError:
            return False
        names = (k for k, at in bound.items() if at == position or (isinstance(at, tuple) and position in at))
        return any(name in op.nondiff for name in names)


def _is_bias(node: Node, position: int, producers: Mapping[str, Node]) -> bool:
    """Whether this input is added to the result of a matrix product or a convolution."""
    if node.op_type != "Add" or len(node.inputs) != 2:
        return False
    other = producers.get(node.inputs[1 - position])
    return other is not None and other.op_type in _BEFORE_BIAS


def _raise(found: dict[str, Role], name: str, role: Role) -> None:
    found[name] = max(role, found.get(name, Role.UNUSED))
