"""NonZero and Unique: tensors whose size depends on the values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.op import Example, op
from graphrt.ops._axes import normalize_axis, zeros
from graphrt.types import TensorType

Array = Any


@op("NonZero", version=9, nondiff=True)
def non_zero(x: Array) -> Array:
    """Where a tensor is not zero.

    x: number or bool, rank r -> y: int64 [r, n], the indices of the n non-zero elements in row-major order,
    one row per axis (a scalar has none: [0, n]). No gradient. Source: ONNX operator spec, NonZero.
    """
    if x.ndim == 0:
        return np.zeros((0, int(x != 0)), np.int64)
    return np.stack(np.nonzero(x)).astype(np.int64, copy=False)


@non_zero.infer
def _(x):
    return TensorType("int64", (None if x.shape is None else len(x.shape), None))


@non_zero.examples
def _(rng):
    yield (np.array([[1.0, 0.0], [2.0, -3.0]]),), {}
    yield (np.array(2.0),), {}
    yield (np.array([False, True]),), {}
    yield (np.zeros((0, 2)),), {}


@op("Unique", version=11, outputs=("y", "indices", "inverse_indices", "counts"))
def unique(x: Array, *, axis: int | None = None, sorted: int = 1) -> tuple[Array, Array, Array, Array]:
    """The distinct elements of the flattened tensor, or its distinct slices along ``axis``.

    x: any dtype [...] -> y: the distinct ones, ascending, or in order of first occurrence with sorted=0;
    indices: int64 [n], where each first occurs; inverse_indices: int64, which of y each element of x is;
    counts: int64 [n]. Gradient: ct goes to the first occurrence. Source: ONNX operator spec, Unique.
    """
    first, inverse, counts = _first_occurrences(x, axis)
    if not sorted:
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        first, inverse, counts = first[order], place[inverse], counts[order]
    return _pick(x, first, axis), *(i.astype(np.int64, copy=False) for i in (first, inverse, counts))


def _pick(x: Array, first: Array, axis: int | None) -> Array:
    return np.take(x, first, axis=axis)


def _first_occurrences(x: Array, axis: int | None) -> tuple[Array, Array, Array]:
    if axis is None:
        _, first, inverse, counts = np.unique(x.reshape(-1), True, True, True)
        return first, inverse.reshape(-1), counts
    slices = np.moveaxis(x, normalize_axis(axis, x.ndim), 0)
    rows = slices.reshape(slices.shape[0], math.prod(slices.shape[1:]))  # -1 cannot be told where there is no slice
    if rows.dtype == object:  # NumPy cannot sort rows of objects: number the strings in their order first
        rows = np.unique(rows.reshape(-1), return_inverse=True)[1].reshape(rows.shape)
    if not rows.size:
        n = min(rows.shape[0], 1)
        return np.zeros(n, np.intp), np.zeros(rows.shape[0], np.intp), np.full(n, rows.shape[0])
    _, first, inverse, counts = np.unique(rows, True, True, True, axis=0)
    return first, inverse.reshape(-1), counts


@unique.vjp("x")
def _(ct, x, axis, sorted):
    first = unique(x, axis=axis, sorted=sorted)[1]
    if axis is None:
        flat = zeros((x.size,), ct)
        flat[first] = ct
        return flat.reshape(x.shape)
    buffer = zeros(x.shape, ct)
    buffer[(slice(None),) * normalize_axis(axis, x.ndim) + (first,)] = ct
    return buffer


@unique.jvp("x")
def _(x_dot, x, axis, sorted):
    first = unique(x, axis=axis, sorted=sorted)[1]
    return _pick(x_dot, first, axis), None, None, None


@unique.infer
def _(x, axis):
    if axis is None:
        shape: Any = (None,)
    elif x.shape is None:
        shape = None
    else:
        at = normalize_axis(axis, len(x.shape))
        shape = (*x.shape[:at], None, *x.shape[at + 1 :])
    every = None if axis is None or x.shape is None else x.shape[normalize_axis(axis, len(x.shape))]
    some = TensorType("int64", (None,))
    return TensorType(x.dtype, shape), some, TensorType("int64", (every,)), some


@unique.examples
def _(rng):
    x = rng.permutation(6).astype(np.float64)
    yield (x,), {}
    yield (x.reshape(2, 3),), {"axis": -1, "sorted": 0}
    yield Example((np.array([2.0, 1.0, 1.0, 3.0, 4.0, 3.0]),), {"sorted": 0}, smooth=False)
    yield Example((np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 3.0]]),), {"axis": 0}, smooth=False)
    yield (np.array(1.5),), {}
    yield (np.zeros(0),), {}


OPS = (non_zero, unique)
