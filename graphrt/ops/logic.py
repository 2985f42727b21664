"""Comparisons, logic and bits. No gradient flows through any of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Op, op
from graphrt.ops._math import quiet
from graphrt.types import TensorType, broadcast_shapes


def _declare_comparison(comparison: Op) -> Op:
    _declare_bool(comparison)

    @comparison.examples
    def _(rng: np.random.Generator) -> Iterator[Any]:
        yield (np.array([[1.0, 2.0, 3.0]]), np.array([[2.0], [np.nan]])), {}
        yield (np.array([1, -2, 3]), np.array([1, 2, 2])), {}
        yield (np.array(1.5, np.float32), np.array(1.5, np.float32)), {}
        yield (np.zeros((0, 2)), np.zeros(2)), {}

    return comparison


def _declare_logic(logic: Op) -> Op:
    _declare_bool(logic)

    @logic.examples
    def _(rng: np.random.Generator) -> Iterator[Any]:
        yield (np.array([[True], [False]]), np.array([True, False])), {}
        yield (np.array(True), np.array(True)), {}
        yield (np.zeros((0,), bool), np.zeros((0,), bool)), {}

    return logic


def _declare_bool(comparison: Op) -> Op:
    @comparison.infer
    def _(a: TensorType, b: TensorType) -> TensorType:
        return TensorType("bool", broadcast_shapes([a.shape, b.shape]))

    return comparison


# ---- comparisons ---------------------------------------------------------------------------------------


@_declare_comparison
@op("Equal", version=7, elementwise=True, outputs="c", nondiff=True)
def equal(a: Array, b: Array) -> Array:
    """Whether a equals b.  a, b: any dtype [...], broadcast together -> c: bool.

    NaN equals nothing.  Source: ONNX operator spec.
    """
    with quiet():
        return np.equal(a, b)


@_declare_comparison
@op("Greater", version=7, elementwise=True, outputs="c", nondiff=True)
def greater(a: Array, b: Array) -> Array:
    """Whether a > b.  a, b: number [...], broadcast together -> c: bool.

    Source: ONNX operator spec.
    """
    with quiet():
        return np.greater(a, b)


@_declare_comparison
@op("GreaterOrEqual", version=12, elementwise=True, outputs="c", nondiff=True)
def greater_or_equal(a: Array, b: Array) -> Array:
    """Whether a >= b.  a, b: number [...], broadcast together -> c: bool.

    Source: ONNX operator spec.
    """
    with quiet():
        return np.greater_equal(a, b)


@_declare_comparison
@op("Less", version=7, elementwise=True, outputs="c", nondiff=True)
def less(a: Array, b: Array) -> Array:
    """Whether a < b.  a, b: number [...], broadcast together -> c: bool.

    Source: ONNX operator spec.
    """
    with quiet():
        return np.less(a, b)


@_declare_comparison
@op("LessOrEqual", version=12, elementwise=True, outputs="c", nondiff=True)
def less_or_equal(a: Array, b: Array) -> Array:
    """Whether a <= b.  a, b: number [...], broadcast together -> c: bool.

    Source: ONNX operator spec.
    """
    with quiet():
        return np.less_equal(a, b)


# ---- logic ---------------------------------------------------------------------------------------------


@_declare_logic
@op("And", version=7, elementwise=True, outputs="c", nondiff=True)
def and_(a: Array, b: Array) -> Array:
    """Logical and.  a, b: bool [...], broadcast together -> c: bool.

    Source: ONNX operator spec.
    """
    return np.logical_and(a, b)


@_declare_logic
@op("Or", version=7, elementwise=True, outputs="c", nondiff=True)
def or_(a: Array, b: Array) -> Array:
    """Logical or.  a, b: bool [...], broadcast together -> c: bool.

    Source: ONNX operator spec.
    """
    return np.logical_or(a, b)


@_declare_logic
@op("Xor", version=7, elementwise=True, outputs="c", nondiff=True)
def xor(a: Array, b: Array) -> Array:
    """Logical exclusive or.  a, b: bool [...], broadcast together -> c: bool.

    Source: ONNX operator spec.
    """
    return np.logical_xor(a, b)


@op("Not", version=1, elementwise=True, nondiff=True)
def not_(x: Array) -> Array:
    """Logical negation.  x: bool [...] -> y: bool.

    Source: ONNX operator spec.
    """
    return np.logical_not(x)


@not_.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[True, False]]),), {}
    yield (np.array(True),), {}


# ---- kinds of floats -----------------------------------------------------------------------------------


@op("IsNaN", version=9, elementwise=True, nondiff=True)
def is_nan(x: Array) -> Array:
    """Whether x is NaN.  x: float [...] -> y: bool.

    Source: ONNX operator spec.
    """
    return np.isnan(x)


@is_nan.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[1.0, np.nan, np.inf]]),), {}
    yield (np.array(np.nan, np.float32),), {}


@op("IsInf", version=10, elementwise=True, nondiff=True)
def is_inf(x: Array, *, detect_negative: int = 1, detect_positive: int = 1) -> Array:
    """Whether x is infinite.  x: float [...] -> y: bool.

    The attributes say which of the two infinities count.  Source: ONNX operator spec.
    """
    with quiet():
        infinite = np.isinf(x)
        if not detect_negative:
            infinite = infinite & (x > 0)
        return infinite if detect_positive else infinite & (x < 0)


@is_inf.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = np.array([-1.7, np.nan, np.inf, 3.6, -np.inf])
    for negative in (0, 1):
        for positive in (0, 1):
            yield (x,), {"detect_negative": negative, "detect_positive": positive}


# ---- bits ----------------------------------------------------------------------------------------------


def _declare_bitwise(bitwise: Op) -> Op:
    @bitwise.examples
    def _(rng: np.random.Generator) -> Iterator[Any]:
        yield (np.array([[5], [-3]]), np.array([1, 6, 12])), {}
        yield (np.array(200, np.uint8), np.array(15, np.uint8)), {}

    return bitwise


@_declare_bitwise
@op("BitwiseAnd", version=18, elementwise=True, outputs="c", nondiff=True)
def bitwise_and(a: Array, b: Array) -> Array:
    """And of each bit.  a, b: integer [...], broadcast together -> c: their dtype.

    Source: ONNX operator spec.
    """
    return np.bitwise_and(a, b)


@_declare_bitwise
@op("BitwiseOr", version=18, elementwise=True, outputs="c", nondiff=True)
def bitwise_or(a: Array, b: Array) -> Array:
    """Or of each bit.  a, b: integer [...], broadcast together -> c: their dtype.

    Source: ONNX operator spec.
    """
    return np.bitwise_or(a, b)


@_declare_bitwise
@op("BitwiseXor", version=18, elementwise=True, outputs="c", nondiff=True)
def bitwise_xor(a: Array, b: Array) -> Array:
    """Exclusive or of each bit.  a, b: integer [...], broadcast together -> c: their dtype.

    Source: ONNX operator spec.
    """
    return np.bitwise_xor(a, b)


@op("BitwiseNot", version=18, elementwise=True, nondiff=True)
def bitwise_not(x: Array) -> Array:
    """Every bit inverted.  x: integer [...] -> y: the same dtype.

    Source: ONNX operator spec.
    """
    return np.bitwise_not(x)


@bitwise_not.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[0, 1, -5]]),), {}
    yield (np.array(200, np.uint8),), {}


@op("BitShift", version=11, elementwise=True, outputs="z", nondiff=True)
def bit_shift(x: Array, y: Array, *, direction: str) -> Array:
    """Bits moved by y places.  x, y: integer [...], one dtype, broadcast together -> z: that dtype.

    Value: x * 2**y ("LEFT", high bits dropped) or floor(x / 2**y) ("RIGHT"); with y negative or not below the
    width, 0, or -1 for a negative x moved right.
    Source: ONNX operator spec, opset 28; older opsets have unsigned integers only.
    """
    if direction not in ("LEFT", "RIGHT"):
        raise ValueError(f"attribute direction is 'LEFT' or 'RIGHT', not {direction!r}")
    return np.left_shift(x, y) if direction == "LEFT" else np.right_shift(x, y)


@bit_shift.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for direction in ("LEFT", "RIGHT"):
        yield (np.array([16, 4, 1, 255], np.uint8), np.array([1, 2, 9, 3], np.uint8)), {"direction": direction}
        yield (np.array([[-16], [5]]), np.array([1, 2, 70, -1])), {"direction": direction}


OPS = (
    equal, greater, greater_or_equal, less, less_or_equal, and_, or_, xor, not_, is_nan, is_inf,
    bitwise_and, bitwise_or, bitwise_xor, bitwise_not, bit_shift,
)  # fmt: skip
