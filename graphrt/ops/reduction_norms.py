"""Reductions that transform the elements first: norms, sums of squares, logarithms of sums.

As in ``reduction``, each op comes with axes as an input and, for older opsets, as an attribute.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import (
    collapse,
    examples_by_attribute,
    examples_by_input,
    infer_by_attribute,
    infer_by_input,
    keep,
    narrow,
    normalize_axes,
    total,
    widen,
)
from graphrt.types import TensorType

# ---- L1 ----------------------------------------------------------------------------------------------


@op("ReduceL1", version=18, outputs="reduced", nondiff="axes")
def reduce_l1(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Sum of absolute values over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. Over an empty set: 0. Derivative: the sign of each element,
    0 at 0. Source: ONNX operator specification.
    """
    return total(np.abs(data), normalize_axes(axes, data.ndim, noop_with_empty_axes), bool(keepdims))


@op("ReduceL1", version=1, outputs="reduced")
def reduce_l1_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Sum of absolute values over axes, which are an attribute; see the newer version."""
    return reduce_l1(data, axes, keepdims=keepdims)


@reduce_l1_1.vjp("data")
@reduce_l1.vjp("data")
def _(ct: Array, data: Array, axes: Any) -> Array:
    return keep(ct, data, axes) * np.sign(data)


@reduce_l1_1.jvp("data")
@reduce_l1.jvp("data")
def _(data_dot: Array, data: Array, reduced_like: Array, axes: Any) -> Array:
    return collapse(data_dot * np.sign(data), reduced_like, axes)


# ---- L2 ----------------------------------------------------------------------------------------------


@op("ReduceL2", version=18, outputs="reduced", nondiff="axes")
def reduce_l2(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Square root of the sum of squares over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. Over an empty set: 0. Elements are scaled by the largest first,
    so that no square overflows. Derivative: data / reduced, 0 where the norm is 0. Source: ONNX operator
    specification.
    """
    return l2_norm(data, normalize_axes(axes, data.ndim, noop_with_empty_axes), bool(keepdims))


@op("ReduceL2", version=1, outputs="reduced")
def reduce_l2_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Square root of the sum of squares over axes, which are an attribute; see the newer version."""
    return reduce_l2(data, axes, keepdims=keepdims)


@reduce_l2_1.vjp("data")
@reduce_l2.vjp("data")
def _(ct: Array, data: Array, reduced: Array, axes: Any) -> Array:
    return keep(ct, data, axes) * divide_or_zero(data, keep(reduced, data, axes))


@reduce_l2_1.jvp("data")
@reduce_l2.jvp("data")
def _(data_dot: Array, data: Array, reduced: Array, axes: Any) -> Array:
    return collapse(data_dot * divide_or_zero(data, keep(reduced, data, axes)), reduced, axes)


def l2_norm(data: Array, axes: tuple[int, ...], keepdims: bool = True) -> Array:
    """Square root of the sum of squares, without overflow or underflow on the way."""
    x = data.astype(np.float64) if data.dtype.kind in "iu" else widen(data)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        largest = np.max(np.abs(x), axis=axes, keepdims=True, initial=0)
        scale = np.where((largest > 0) & (largest < np.inf), largest, np.ones_like(largest))
        scaled = x / scale
        norm = np.sqrt(np.sum(scaled * scaled, axis=axes, keepdims=True)) * scale
        return narrow(norm if keepdims else np.squeeze(norm, axes), data.dtype)


def divide_or_zero(x: Array, norm: Array) -> Array:
    """``x / norm``, and 0 where the norm is 0."""
    zero = norm == 0
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(zero, np.zeros((), x.dtype), x / np.where(zero, np.ones((), x.dtype), norm))


# ---- sum of squares ----------------------------------------------------------------------------------


@op("ReduceSumSquare", version=18, outputs="reduced", nondiff="axes")
def reduce_sum_square(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Sum of squares over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. Over an empty set: 0. Derivative: 2 data.
    Source: ONNX operator specification.
    """
    x = widen(data)
    with np.errstate(over="ignore", under="ignore"):
        squares = x * x
        summed = total(squares, normalize_axes(axes, data.ndim, noop_with_empty_axes), bool(keepdims))
        return narrow(summed, data.dtype)


@op("ReduceSumSquare", version=1, outputs="reduced")
def reduce_sum_square_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Sum of squares over axes, which are an attribute; see the newer version."""
    return reduce_sum_square(data, axes, keepdims=keepdims)


@reduce_sum_square_1.vjp("data")
@reduce_sum_square.vjp("data")
def _(ct: Array, data: Array, axes: Any) -> Array:
    return (2 * keep(ct, data, axes)) * data


@reduce_sum_square_1.jvp("data")
@reduce_sum_square.jvp("data")
def _(data_dot: Array, data: Array, reduced_like: Array, axes: Any) -> Array:
    return 2 * collapse(data_dot * data, reduced_like, axes)


@op("SumOfSquares", domain="graphrt", outputs="sum")
def sum_of_squares(*data: Array) -> Array:
    """The sum of the squares of all elements of all inputs: of gradients, the square of their norm.

    data: float [...], one or more, of one dtype -> sum: that dtype, []. Derivative: 2 data.
    """
    with np.errstate(over="ignore", under="ignore"):
        parts = [np.sum(x * x) for x in map(widen, data)]
        return narrow(np.asarray(sum(parts[1:], parts[0])), data[0].dtype)


@sum_of_squares.vjp("data")
def _(ct: Array, data: tuple[Array, ...]) -> list[Array]:
    return [(2 * ct) * x for x in data]


@sum_of_squares.jvp("data")
def _(data_dot: tuple[Array | None, ...], data: tuple[Array, ...]) -> Array:
    parts = [2 * np.sum(dot * x) for dot, x in zip(data_dot, data, strict=True) if dot is not None]
    return np.asarray(sum(parts[1:], parts[0]), data[0].dtype)


@sum_of_squares.infer
def _(data: tuple[TensorType, ...]) -> TensorType:
    return TensorType(data[0].dtype, ())


@sum_of_squares.examples
def _(rng: np.random.Generator) -> Any:
    yield (rng.normal(size=(2, 3)), rng.normal(size=4), rng.normal(size=())), {}
    yield (rng.normal(size=3),), {}
    yield (np.zeros((0, 2)), rng.normal(size=2)), {}


# ---- logarithm of a sum ------------------------------------------------------------------------------


@op("ReduceLogSum", version=18, outputs="reduced", nondiff="axes")
def reduce_log_sum(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Natural logarithm of the sum over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. Over an empty set: -inf; NaN where the sum is negative.
    Derivative: 1 / sum, taken from the output as exp(-reduced). Source: ONNX operator specification.
    """
    return _log_sum(data, normalize_axes(axes, data.ndim, noop_with_empty_axes), bool(keepdims))


@op("ReduceLogSum", version=1, outputs="reduced")
def reduce_log_sum_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Natural logarithm of the sum over axes, which are an attribute; see the newer version."""
    return reduce_log_sum(data, axes, keepdims=keepdims)


@reduce_log_sum_1.vjp("data")
@reduce_log_sum.vjp("data")
def _(ct: Array, data_like: Array, reduced: Array, axes: Any) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.broadcast_to(keep(ct * np.exp(-reduced), data_like, axes), data_like.shape)


@reduce_log_sum_1.jvp("data")
@reduce_log_sum.jvp("data")
def _(data_dot: Array, reduced: Array, axes: Any) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return collapse(data_dot, reduced, axes) * np.exp(-reduced)


def _log_sum(data: Array, axes: tuple[int, ...], keepdims: bool) -> Array:
    with np.errstate(all="ignore"):
        return narrow(np.log(total(widen(data), axes, keepdims)), data.dtype)


# ---- logarithm of a sum of exponentials --------------------------------------------------------------


@op("ReduceLogSumExp", version=18, outputs="reduced", nondiff="axes")
def reduce_log_sum_exp(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Natural logarithm of the sum of exponentials over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. The maximum is taken out first, so that nothing overflows;
    over an empty set, or where all elements are -inf: -inf. Derivative: softmax, exp(data - reduced), 0 where
    all elements are -inf. Source: ONNX operator specification.
    """
    return log_sum_exp(data, normalize_axes(axes, data.ndim, noop_with_empty_axes), bool(keepdims))


@op("ReduceLogSumExp", version=1, outputs="reduced")
def reduce_log_sum_exp_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Natural logarithm of the sum of exponentials over axes, which are an attribute; see the newer version."""
    return reduce_log_sum_exp(data, axes, keepdims=keepdims)


@reduce_log_sum_exp_1.vjp("data")
@reduce_log_sum_exp.vjp("data")
def _(ct: Array, data: Array, reduced: Array, axes: Any) -> Array:
    return keep(ct, data, axes) * _softmax(data, keep(reduced, data, axes))


@reduce_log_sum_exp_1.jvp("data")
@reduce_log_sum_exp.jvp("data")
def _(data_dot: Array, data: Array, reduced: Array, axes: Any) -> Array:
    return collapse(data_dot * _softmax(data, keep(reduced, data, axes)), reduced, axes)


def log_sum_exp(data: Array, axes: tuple[int, ...], keepdims: bool = True) -> Array:
    """Logarithm of the sum of exponentials, with the maximum taken out."""
    x = data.astype(np.float64) if data.dtype.kind in "iu" else widen(data)
    with np.errstate(all="ignore"):
        largest = np.max(x, axis=axes, keepdims=True, initial=-np.inf)
        shift = np.where(np.isfinite(largest), largest, np.zeros_like(largest))
        result = np.log(np.sum(np.exp(x - shift), axis=axes, keepdims=True)) + shift
        return narrow(result if keepdims else np.squeeze(result, axes), data.dtype)


def _softmax(data: Array, lse: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return np.exp(data - np.where(lse == -np.inf, np.zeros((), data.dtype), lse))


# ---- types and examples ------------------------------------------------------------------------------


def _away_from_0(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.5, 2, size=shape) * rng.choice([-1.0, 1.0], size=shape)


def _positive(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(0.5, 2, size=shape)


for _op in (reduce_l1, reduce_l2, reduce_sum_square, reduce_log_sum, reduce_log_sum_exp):
    _op.infer(infer_by_input)
for _op in (reduce_l1_1, reduce_l2_1, reduce_sum_square_1, reduce_log_sum_1, reduce_log_sum_exp_1):
    _op.infer(infer_by_attribute)
for _op in (reduce_l1_1, reduce_l2_1, reduce_sum_square_1, reduce_log_sum_exp_1):
    _op.examples(examples_by_attribute(_away_from_0))
reduce_log_sum_1.examples(examples_by_attribute(_positive))
reduce_log_sum.examples(examples_by_input(_positive))


@reduce_l1.examples
@reduce_l2.examples
@reduce_sum_square.examples
def _(rng: np.random.Generator) -> Any:
    yield from examples_by_input(_away_from_0)(rng)
    yield Example((np.zeros((2, 3)), np.array([1])), {}, smooth=False)
    yield Example((np.zeros((2, 0)), np.array([1])), {})


@reduce_log_sum_exp.examples
def _(rng: np.random.Generator) -> Any:
    yield from examples_by_input(_away_from_0)(rng)
    yield Example((np.array([[1000.0, 999.0, 0.0], [-1000.0, -1001.0, -1000.5]]), np.array([1])), {})
    yield Example((np.array([[-np.inf, 1.0, 2.0], [-np.inf, -np.inf, -np.inf]]), np.array([1])), {}, smooth=False)


OPS = (
    reduce_l1, reduce_l1_1, reduce_l2, reduce_l2_1, reduce_sum_square, reduce_sum_square_1,
    sum_of_squares, reduce_log_sum, reduce_log_sum_1, reduce_log_sum_exp, reduce_log_sum_exp_1,
)  # fmt: skip
