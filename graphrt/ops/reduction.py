"""Reductions to a sum, mean, maximum, minimum or product.

Each op comes in two forms with one set of rules: axes as an input (``reduce_sum``) and, in older opsets, as an
attribute (``reduce_sum_1``). Whether dimensions were kept, and whether empty axes meant none or all of them, shows
in the shape of the output, so that the rules need only the axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import (
    accumulator,
    collapse,
    examples_by_attribute,
    examples_by_input,
    infer_by_attribute,
    infer_by_input,
    keep,
    narrow,
    normalize_axes,
    total,
)

# ---- sum ---------------------------------------------------------------------------------------------


@op("ReduceSum", version=13, outputs="reduced", linear="data", nondiff="axes")
def reduce_sum(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Sum over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. Over an empty set: 0. 16-bit floats are added up in float32.
    Derivative: the cotangent, broadcast. Source: ONNX operator specification.
    """
    return total(data, normalize_axes(axes, data.ndim, noop_with_empty_axes), bool(keepdims))


@op("ReduceSum", version=1, outputs="reduced", linear="data")
def reduce_sum_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Sum over axes, which are an attribute; see the newer version."""
    return reduce_sum(data, axes, keepdims=keepdims)


@reduce_sum_1.vjp("data")
@reduce_sum.vjp("data")
def _(ct: Array, data_like: Array, axes: Any) -> Array:
    return np.broadcast_to(keep(ct, data_like, axes), data_like.shape)


# ---- mean --------------------------------------------------------------------------------------------


@op("ReduceMean", version=18, outputs="reduced", linear="data", nondiff="axes")
def reduce_mean(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Arithmetic mean over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. Over an empty set: NaN (0 for integers). The mean of integers
    is cut toward 0. Derivative: the cotangent over the number of elements. Source: ONNX operator specification.
    """
    over = normalize_axes(axes, data.ndim, noop_with_empty_axes)
    count = _count(data.shape, over)
    if data.dtype.kind in "iu":
        whole = np.sum(data, axis=over, keepdims=bool(keepdims))
        return (np.sign(whole) * (np.abs(whole) // max(count, 1))).astype(data.dtype)
    with np.errstate(all="ignore"):
        whole = np.sum(data, axis=over, keepdims=bool(keepdims), dtype=accumulator(data.dtype))
        return narrow(whole / count, data.dtype)


@op("ReduceMean", version=1, outputs="reduced", linear="data")
def reduce_mean_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Arithmetic mean over axes, which are an attribute; see the newer version."""
    return reduce_mean(data, axes, keepdims=keepdims)


@reduce_mean_1.vjp("data")
@reduce_mean.vjp("data")
def _(ct: Array, data_like: Array, axes: Any) -> Array:
    count = max(data_like.size, 1) // max(ct.size, 1)
    return np.broadcast_to(keep(ct, data_like, axes) / count, data_like.shape)


def _count(shape: Sequence[int], axes: tuple[int, ...]) -> int:
    return int(np.prod([shape[a] for a in axes], dtype=np.int64))


# ---- maximum and minimum -----------------------------------------------------------------------------


@op("ReduceMax", version=18, outputs="reduced", nondiff="axes")
def reduce_max(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Largest element over axes.

    data: number or bool [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same
    dtype; the reduced axes are 1, or gone with keepdims=0. Over an empty set: -inf, or the dtype's lowest value;
    a NaN wins. Ties: all elements equal to the maximum share its derivative evenly; NaNs get none.
    Source: ONNX operator specification.
    """
    return _extreme(np.max, data, normalize_axes(axes, data.ndim, noop_with_empty_axes), keepdims)


@op("ReduceMax", version=1, outputs="reduced")
def reduce_max_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Largest element over axes, which are an attribute; see the newer version."""
    return reduce_max(data, axes, keepdims=keepdims)


@op("ReduceMin", version=18, outputs="reduced", nondiff="axes")
def reduce_min(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Smallest element over axes.

    data: number or bool [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same
    dtype; the reduced axes are 1, or gone with keepdims=0. Over an empty set: +inf, or the dtype's highest value;
    a NaN wins. Ties: all elements equal to the minimum share its derivative evenly; NaNs get none.
    Source: ONNX operator specification.
    """
    return _extreme(np.min, data, normalize_axes(axes, data.ndim, noop_with_empty_axes), keepdims)


@op("ReduceMin", version=1, outputs="reduced")
def reduce_min_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Smallest element over axes, which are an attribute; see the newer version."""
    return reduce_min(data, axes, keepdims=keepdims)


@reduce_min_1.vjp("data")
@reduce_min.vjp("data")
@reduce_max_1.vjp("data")
@reduce_max.vjp("data")
def _(ct: Array, data: Array, reduced: Array, axes: Any) -> Array:
    return keep(ct, data, axes) * _shares(data, keep(reduced, data, axes))


@reduce_min_1.jvp("data")
@reduce_min.jvp("data")
@reduce_max_1.jvp("data")
@reduce_max.jvp("data")
def _(data_dot: Array, data: Array, reduced: Array, axes: Any) -> Array:
    return collapse(data_dot * _shares(data, keep(reduced, data, axes)), reduced, axes)


def _extreme(function: Any, data: Array, axes: tuple[int, ...], keepdims: int) -> Array:
    if data.size:
        return function(data, axis=axes, keepdims=bool(keepdims))
    return function(data, axis=axes, keepdims=bool(keepdims), initial=_identity(data.dtype, function is np.max))


def _identity(dtype: np.dtype[Any], of_max: bool) -> Any:
    if dtype.kind == "b":
        return not of_max
    if dtype.kind in "iu":
        return np.iinfo(dtype).min if of_max else np.iinfo(dtype).max
    return -np.inf if of_max else np.inf


def _shares(data: Array, extreme: Array) -> Array:
    """1/m at the m elements equal to their extreme, 0 elsewhere."""
    hit = data == extreme
    over = tuple(i for i, n in enumerate(extreme.shape) if n != data.shape[i])
    return hit.astype(data.dtype) / np.maximum(np.sum(hit, axis=over, keepdims=True), 1).astype(data.dtype)


# ---- product -----------------------------------------------------------------------------------------


@op("ReduceProd", version=18, outputs="reduced", nondiff="axes")
def reduce_prod(data: Array, axes: Array = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Array:
    """Product over axes.

    data: number [...], axes: int64 [k] or absent (all; none with noop_with_empty_axes) -> reduced: the same dtype;
    the reduced axes are 1, or gone with keepdims=0. Over an empty set: 1. Derivative: the product of all the other
    elements, found without a division and so exact where elements are 0. Source: ONNX operator specification.
    """
    over = normalize_axes(axes, data.ndim, noop_with_empty_axes)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        product = np.prod(data, axis=over, keepdims=bool(keepdims), dtype=accumulator(data.dtype))
        return narrow(product, data.dtype)


@op("ReduceProd", version=1, outputs="reduced")
def reduce_prod_1(data: Array, *, axes: tuple[int, ...] | None = None, keepdims: int = 1) -> Array:
    """Product over axes, which are an attribute; see the newer version."""
    return reduce_prod(data, axes, keepdims=keepdims)


@reduce_prod_1.vjp("data")
@reduce_prod.vjp("data")
def _(ct: Array, data: Array, axes: Any) -> Array:
    return keep(ct, data, axes) * _product_of_others(data, ct, axes)


@reduce_prod_1.jvp("data")
@reduce_prod.jvp("data")
def _(data_dot: Array, data: Array, reduced_like: Array, axes: Any) -> Array:
    return collapse(data_dot * _product_of_others(data, reduced_like, axes), reduced_like, axes)


def _product_of_others(data: Array, reduced_like: Array, axes: Any) -> Array:
    over = normalize_axes(axes, data.ndim, noop=int(reduced_like.shape == data.shape))
    kept = tuple(i for i in range(data.ndim) if i not in over)
    order = (*kept, *over)
    moved = np.transpose(data, order)
    flat = np.reshape(moved, (*moved.shape[: len(kept)], _count(data.shape, over)))
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        others = product_of_others(flat)
    return np.transpose(np.reshape(others, moved.shape), np.argsort(order))


def product_of_others(x: Array) -> Array:
    """For each element of the last axis, the product of the others: [..., n] -> [..., n].

    Neighbors are paired, the pairs' products solve the half-sized problem, and each element takes its pair's answer
    times its neighbor: n multiplications a level, log2(n) levels.
    """
    n = x.shape[-1]
    if n < 2 or not x.size:
        return np.ones(x.shape, x.dtype)
    even = n - n % 2
    left, right = x[..., 0:even:2], x[..., 1:even:2]
    pairs = left * right
    if n % 2:
        pairs = np.concatenate([pairs, x[..., -1:]], axis=-1)
    outer = product_of_others(pairs)
    inner = outer[..., : even // 2]
    both = np.reshape(np.stack([inner * right, inner * left], axis=-1), (*x.shape[:-1], even))
    return np.concatenate([both, outer[..., -1:]], axis=-1) if n % 2 else both


# ---- types and examples ------------------------------------------------------------------------------


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.normal(size=shape)


def _distinct(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    count = int(np.prod(shape, dtype=np.int64))
    return np.reshape(rng.permutation(count) - 0.3 * count, shape)


for _op in (reduce_sum, reduce_mean, reduce_max, reduce_min, reduce_prod):
    _op.infer(infer_by_input)
for _op in (reduce_sum_1, reduce_mean_1, reduce_max_1, reduce_min_1, reduce_prod_1):
    _op.infer(infer_by_attribute)
for _op in (reduce_sum, reduce_mean):
    _op.examples(examples_by_input(_normal))
for _op in (reduce_sum_1, reduce_mean_1):
    _op.examples(examples_by_attribute(_normal))
for _op in (reduce_max_1, reduce_min_1):
    _op.examples(examples_by_attribute(_distinct))
reduce_prod_1.examples(examples_by_attribute(_normal))


@reduce_max.examples
@reduce_min.examples
def _(rng: np.random.Generator) -> Any:
    yield from examples_by_input(_distinct)(rng)
    yield Example((np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 2.0]]), np.array([1])), {}, smooth=False)
    yield Example((np.zeros((2, 0)), np.array([1])), {}, smooth=False)
    yield Example((np.array([[True, False], [False, False]]), np.array([1])), {})


@reduce_prod.examples
def _(rng: np.random.Generator) -> Any:
    yield from examples_by_input(_normal)(rng)
    yield Example((np.array([[2.0, 0.0, 3.0, 5.0, 7.0], [0.0, 4.0, 0.0, 1.0, 2.0]]), np.array([1])), {})
    yield Example((np.zeros((2, 0)), np.array([1])), {})


OPS = (
    reduce_sum, reduce_sum_1, reduce_mean, reduce_mean_1, reduce_max, reduce_max_1,
    reduce_min, reduce_min_1, reduce_prod, reduce_prod_1,
)  # fmt: skip
