"""Gather, GatherElements and GatherND: elements and slices picked by index."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._axes import (
    element_positions,
    normalize_axis,
    row_positions,
    scatter_add,
    take_adjoint,
    wrapped,
    zeros,
)
from graphrt.types import TensorType

Array = Any


# ---- Gather ------------------------------------------------------------------------------------------


@op("Gather", version=1, linear="data", nondiff="indices")
def gather(data: Array, indices: Array, *, axis: int = 0) -> Array:
    """Picks slices along an axis, an embedding lookup for axis 0 of a table.

    data: any dtype, rank r >= 1; indices: int32 or int64 [...], in [-s, s-1] for an axis of size s
    -> y: shape[:axis] + indices.shape + shape[axis+1:]. Gradient: ct added up in the slices it came from.
    Raises ValueError for an index out of range. Source: ONNX operator spec, Gather (negative indices since 11).
    """
    axis = normalize_axis(axis, data.ndim)
    try:
        return np.take(data, indices, axis=axis)
    except IndexError:
        return np.take(data, wrapped(indices, data.shape[axis], axis), axis=axis)  # raises a ValueError that says more


@gather.vjp("data")
def _(ct, data_like, indices, axis):
    shape, axis = data_like.shape, normalize_axis(axis, data_like.ndim)
    index = wrapped(indices, shape[axis], axis).reshape(-1)
    if index.size == 1:
        buffer = zeros(shape, ct)
        at = (slice(None),) * axis + (index[0],)
        buffer[at] = ct.reshape(shape[:axis] + shape[axis + 1 :])
        return buffer
    return take_adjoint(ct, index, shape, axis)


@gather.infer
def _(data, indices, axis):
    if data.shape is None:
        return TensorType(data.dtype)
    at = normalize_axis(axis, len(data.shape))
    if indices.shape is None:
        return TensorType(data.dtype)
    return TensorType(data.dtype, (*data.shape[:at], *indices.shape, *data.shape[at + 1 :]))


@gather.examples
def _(rng):
    x = rng.normal(size=(4, 3, 2))
    yield (x, np.array([0, 3, 3, -1])), {}
    yield (x, np.array([[2, 0], [-3, 2]])), {"axis": 1}
    yield (x, np.array(1)), {"axis": -1}
    yield (x, np.array([[-2]])), {"axis": 0}
    yield (x, np.zeros((0, 2), np.int64)), {"axis": 1}
    yield (rng.normal(size=(3,)), np.array(-1)), {}


# ---- GatherElements ----------------------------------------------------------------------------------


@op("GatherElements", version=11, linear="data", nondiff="indices")
def gather_elements(data: Array, indices: Array, *, axis: int = 0) -> Array:
    """Picks elements: y[i, j, ...] = data[i, ..., indices[i, j, ...], ...] with the index on ``axis``.

    data: any dtype, rank r >= 1; indices: int32 or int64, rank r, in [-s, s-1] for an axis of size s, no longer
    than data along the other axes -> y: the shape of indices. Gradient: ct added up where it came from.
    Raises ValueError for an index out of range. Source: ONNX operator spec, GatherElements.
    """
    return data.reshape(-1)[element_positions(indices, data.shape, axis)]


@gather_elements.vjp("data")
def _(ct, data_like, indices, axis):
    shape = data_like.shape
    return scatter_add(element_positions(indices, shape, axis), ct, math.prod(shape)).reshape(shape)


@gather_elements.infer
def _(data, indices, axis):
    if data.shape is not None:
        normalize_axis(axis, len(data.shape))
        if indices.shape is not None and len(indices.shape) != len(data.shape):
            raise ValueError(f"indices {indices} and data {data} should have the same rank")
    if indices.shape is None and data.shape is not None:
        return TensorType(data.dtype, (None,) * len(data.shape))
    return TensorType(data.dtype, indices.shape)


@gather_elements.examples
def _(rng):
    x = rng.normal(size=(3, 4))
    yield (x, np.array([[0, 2, 1, 0], [2, 2, -1, -3]])), {}
    yield (x, np.array([[0, 3], [3, -1], [1, 1]])), {"axis": 1}
    yield (x, np.array([[0, 3]])), {"axis": -1}
    yield (rng.normal(size=(3,)), np.array([1, 1, 1, 1, 0])), {}
    yield (x, np.zeros((0, 4), np.int64)), {}


# ---- GatherND ----------------------------------------------------------------------------------------


@op("GatherND", version=11, linear="data", nondiff="indices")
def gather_nd(data: Array, indices: Array, *, batch_dims: int = 0) -> Array:
    """Picks slices by index tuples: y[b, i] = data[b, indices[b, i, 0], ..., indices[b, i, k-1]].

    data: any dtype, rank r; indices: int64 [batch..., ..., k], k <= r - batch_dims, negative ones count from the
    end; the first ``batch_dims`` axes of both run together -> y: indices.shape[:-1] + data.shape[batch_dims+k:].
    Gradient: ct added up in the slices it came from. Source: ONNX operator spec, GatherND (batch_dims since 12).
    """
    split = batch_dims + (indices.shape[-1] if indices.ndim else 0)
    rows = row_positions(indices, data.shape, batch_dims)
    tail = data.shape[split:]
    picked = np.take(data.reshape((math.prod(data.shape[:split]), math.prod(tail))), rows, axis=0)
    return picked.reshape(rows.shape + tail)


@gather_nd.vjp("data")
def _(ct, data_like, indices, batch_dims):
    shape, split = data_like.shape, batch_dims + indices.shape[-1]
    rows = row_positions(indices, shape, batch_dims).reshape(-1)
    table = (math.prod(shape[:split]), math.prod(shape[split:]))
    return take_adjoint(ct, rows, table, 0).reshape(shape)


@gather_nd.infer
def _(data, indices, batch_dims):
    if data.shape is None or indices.shape is None:
        return TensorType(data.dtype)
    k = indices.shape[-1] if indices.shape else 0
    if not isinstance(k, int):
        return TensorType(data.dtype)
    if not batch_dims < len(indices.shape) or batch_dims + k > len(data.shape):
        raise ValueError(f"index tuples of {indices} do not fit data {data} with batch_dims={batch_dims}")
    return TensorType(data.dtype, (*indices.shape[:-1], *data.shape[batch_dims + k :]))


@gather_nd.examples
def _(rng):
    x = rng.normal(size=(2, 3, 4))
    yield (x, np.array([[0, 1, 2], [1, -1, -4], [0, 1, 2]])), {}
    yield (x, np.array([[[0, 1]], [[1, 0]]])), {}
    yield (x, np.array([[1], [-3]])), {"batch_dims": 1}
    yield (x, np.array([[[1], [1], [0]], [[2], [2], [-1]]])), {"batch_dims": 1}
    yield (rng.normal(size=(2, 2, 3)), np.array([[[0], [2]], [[1], [1]]])), {"batch_dims": 2}
    yield (x, np.array([1])), {}
    yield (x, np.zeros((0, 2), np.int64)), {}


OPS = (gather, gather_elements, gather_nd)
