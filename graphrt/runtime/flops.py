"""How many floating-point operations a node takes, told from shapes.

Products (MatMul, Gemm, Conv, recurrent layers, ...) count a multiplication and an addition each; ops that only move
numbers count nothing; any other op counts one operation for each number of its largest array. A derivative node
(``Conv.vjp[w]``) counts as much as its op does, for each of the arrays that it makes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphrt.ir import Node

Shape = tuple[int, ...]
Count = Callable[[Sequence[Shape], Sequence[Shape], Mapping[str, Any]], float]

MOVES = frozenset({
    "Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Concat", "Split", "Slice", "Gather",
    "GatherElements", "GatherND", "ScatterND", "ScatterElements", "Expand", "Tile", "Pad", "Shape", "Size", "Constant",
    "ConstantOfShape", "Cast", "CastLike", "DepthToSpace", "SpaceToDepth", "Like", "ZerosLike", "OnesLike", "Range",
    "EyeLike", "OneHot", "NonZero", "ReverseSequence", "If", "Loop", "Scan",
})  # fmt: skip
"""Ops that compute nothing themselves."""


def count_flops(node: Node, inputs: Sequence[Any], outputs: Sequence[Any]) -> float:
    """Floating-point operations of one run of a node.

    Args:
        node: the node; its op need not be known.
        inputs: what it reads, in its own order: anything with a shape; None for an absent input.
        outputs: what it makes, likewise.
    """
    name, _, rule = node.op_type.partition(".")
    read, made = ([_shape(x) for x in arrays] for arrays in (inputs, outputs))
    if name in MOVES and not (rule and name in ("Gather", "Expand", "Tile")):
        return 0.0
    count = _FORWARD.get(name) if not rule else _REVERSE.get(name) if rule.startswith("vjp") else None
    if count is not None:
        try:
            return count(read, made, node.attributes)
        except (IndexError, ZeroDivisionError):
            pass
    return float(max((_size(s) for s in (*read, *made)), default=0))


def _shape(x: Any) -> Shape:
    return tuple(getattr(x, "shape", ()))


def _size(shape: Shape) -> int:
    return math.prod(shape)


def _matmul(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    return 2.0 * _size(made[0]) * read[0][-1]


def _matmul_vjp(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    return 2.0 * _size(read[0]) * read[1][-1] * len(made)  # (ct, a, b): along a's last axis


def _gemm(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    return _three(read[0], read[1], made[0])


def _gemm_vjp(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    return sum(_three(read[0], read[1], m) if len(m) == 2 and len(read[1]) == 2 else _size(read[0]) for m in made)


def _three(a: Shape, b: Shape, c: Shape) -> float:
    """A product of matrices: 2 m n k, from the three sizes mk, kn, mn."""
    return 2.0 * math.sqrt(_size(a) * _size(b) * _size(c))


def _conv(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    return 2.0 * _size(made[0]) * _size(read[1][1:])


def _conv_vjp(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    if len(read) < 3:
        return float(_size(read[0]))  # of the bias
    return 2.0 * _size(read[0]) * _size(read[2][1:]) * sum(1 for m in made if len(m) > 1)


def _conv_transpose(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    return 2.0 * _size(read[0]) * _size(read[1][1:])


def _conv_transpose_vjp(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    if len(read) < 3:
        return float(_size(read[0]))
    return 2.0 * _size(read[1]) * _size(read[2][1:]) * sum(1 for m in made if len(m) > 1)


def _recurrent(read: Sequence[Shape], made: Sequence[Shape], _: Mapping[str, Any]) -> float:
    x, w, r = read[:3]
    return 2.0 * x[0] * x[1] * (_size(w) + _size(r))


def _recurrent_vjp(outputs: int) -> Count:
    return lambda read, made, attributes: 2.0 * _recurrent(read[outputs:], made, attributes)


def _attention(read: Sequence[Shape], made: Sequence[Shape], attributes: Mapping[str, Any]) -> float:
    q, k = read[:2]
    keys = k[-2] + (read[4][-2] if len(read) > 4 and len(read[4]) == 4 else 0)
    return 2.0 * (_size(q) + _size(made[0])) * keys


def _einsum(read: Sequence[Shape], made: Sequence[Shape], attributes: Mapping[str, Any]) -> float:
    terms = str(attributes.get("equation", "")).replace(" ", "").partition("->")[0].split(",")
    sizes = {c: n for term, shape in zip(terms, read, strict=False) for c, n in zip(term, shape, strict=False)}
    return float(len(read)) * math.prod(sizes.values())


def _per_number(operations: float) -> Count:
    return lambda read, made, _: operations * _size(max((*read, *made), key=_size))


_FORWARD: dict[str, Count] = {
    "SumOfSquares": lambda read, made, _: 2.0 * sum(map(_size, read)),
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "RNN": _recurrent,
    "GRU": _recurrent,
    "LSTM": _recurrent,
    "Attention": _attention,
    "Einsum": _einsum,
    "Softmax": _per_number(5),
    "LogSoftmax": _per_number(5),
    "LayerNormalization": _per_number(7),
    "RMSNormalization": _per_number(4),
    "BatchNormalization": _per_number(4),
    "InstanceNormalization": _per_number(7),
    "GroupNormalization": _per_number(7),
}
_REVERSE: dict[str, Count] = {
    "MatMul": _matmul_vjp,
    "Gemm": _gemm_vjp,
    "Conv": _conv_vjp,
    "ConvTranspose": _conv_transpose_vjp,
    "RNN": _recurrent_vjp(2),
    "GRU": _recurrent_vjp(2),
    "LSTM": _recurrent_vjp(3),
    "Softmax": _per_number(4),
    "LayerNormalization": _per_number(11),
    "BatchNormalization": _per_number(9),
}
