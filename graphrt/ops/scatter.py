"""ScatterElements, ScatterND, Scatter and TensorScatter: values written into a tensor by index."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Example, op
from graphrt.ops._axes import normalize_axis, same_dim, writable
from graphrt.ops._scatter import (
    data_adjoint,
    positions_of_elements,
    positions_of_slices,
    scatter,
    tangent,
    updates_adjoint,
)
from graphrt.types import TensorType

Array = Any


def _type_like_data(data: TensorType, updates: TensorType) -> TensorType:
    if data.shape == ():
        raise ValueError("data should have rank 1 or more")
    return TensorType(data.dtype or updates.dtype, data.shape)


# ---- ScatterElements ---------------------------------------------------------------------------------


@op("ScatterElements", version=16, nondiff="indices")
def scatter_elements(data: Array, indices: Array, updates: Array, *, axis: int = 0, reduction: str = "none") -> Array:
    """Writes elements: y[i, ..., indices[i, j, ...], ...] = updates[i, j, ...] with the index on ``axis``.

    data: any dtype, rank r >= 1; indices: int32 or int64, rank r; updates: the shape of indices -> y: data's shape.
    With ``reduction`` add, mul, max or min (the latter two since 18) the update is combined with what is there.
    Gradient: with none, the updates' elements take it, of repeated indices the last; add: both; mul: the product of
    the other factors; max, min: the element that won, of equals the data, then the first update.
    Raises ValueError for an index out of range. Source: ONNX operator spec, ScatterElements.
    """
    return scatter(data, positions_of_elements(indices, updates, data.shape, axis), updates, reduction)


@scatter_elements.vjp("data")
def _(ct, data, indices, updates, y, axis, reduction):
    return data_adjoint(ct, positions_of_elements(indices, updates, ct.shape, axis), data, updates, y, reduction)


@scatter_elements.vjp("updates")
def _(ct, data, indices, updates, y, axis, reduction):
    return updates_adjoint(ct, positions_of_elements(indices, updates, ct.shape, axis), data, updates, y, reduction)


@scatter_elements.jvp("data", "updates")
def _(data_dot, updates_dot, data, indices, updates, y, axis, reduction):
    at = positions_of_elements(indices, updates, data.shape, axis)
    return tangent(data_dot, updates_dot, at, data, updates, y, reduction)


@op("ScatterElements", version=11, linear=(("data", "updates"),), nondiff="indices")
def scatter_elements_11(data: Array, indices: Array, updates: Array, *, axis: int = 0) -> Array:
    """Writes elements; `ScatterElements` before opset 16, without reductions."""
    return scatter(data, positions_of_elements(indices, updates, data.shape, axis), updates, "none")


@op("Scatter", version=9, linear=(("data", "updates"),), nondiff="indices")
def scatter_9(data: Array, indices: Array, updates: Array, *, axis: int = 0) -> Array:
    """Writes elements; the old name of `ScatterElements`, deprecated since opset 11."""
    return scatter(data, positions_of_elements(indices, updates, data.shape, axis), updates, "none")


@scatter_9.vjp("data")
@scatter_elements_11.vjp("data")
def _(ct, indices, updates_like, axis):
    return data_adjoint(ct, positions_of_elements(indices, updates_like, ct.shape, axis), None, None, None, "none")


@scatter_9.vjp("updates")
@scatter_elements_11.vjp("updates")
def _(ct, indices, updates_like, axis):
    at = positions_of_elements(indices, updates_like, ct.shape, axis)
    return updates_adjoint(ct, at, None, updates_like, None, "none")


@scatter_elements.infer
@scatter_elements_11.infer
@scatter_9.infer
def _(data, indices, updates, axis):
    for t in (indices, updates):
        if data.shape is not None and t.shape is not None and len(t.shape) != len(data.shape):
            raise ValueError(f"data {data}, indices {indices} and updates {updates} should have the same rank")
    if data.shape is not None:
        normalize_axis(axis, len(data.shape))
    return _type_like_data(data, updates)


@scatter_elements.examples
def _(rng):
    x, columns = rng.normal(size=(3, 4)), np.array([[0, 3], [1, -1], [2, 2]])
    once = np.array([[0, 3], [1, -1], [2, 0]])
    yield (x, once, rng.normal(size=(3, 2))), {"axis": 1}
    yield (x, columns, rng.normal(size=(3, 2))), {"axis": -1, "reduction": "none"}
    for reduction in ("add", "mul", "max", "min"):
        yield (x, columns, rng.normal(size=(3, 2))), {"axis": 1, "reduction": reduction}
        at = np.array([[0, 0], [0, -1], [0, 1], [0, 1], [2, 1]])
        yield (rng.normal(size=(3, 2)), at, rng.normal(size=(5, 2))), {"reduction": reduction}
        yield (x, np.zeros((0, 4), np.int64), np.zeros((0, 4))), {"reduction": reduction}
    factors = np.array([0.0, 2.0, 0.0, 3.0, 0.0])
    yield (np.array([1.5, 0.0]), np.array([0, 0, 1, 1, 1]), factors), {"reduction": "mul"}
    yield Example((np.ones(2), np.array([0, 0, 1]), np.ones(3)), {"reduction": "max"}, smooth=False)


@scatter_elements_11.examples
@scatter_9.examples
def _(rng):
    yield (rng.normal(size=(3, 4)), np.array([[0, 3], [1, -1], [2, 0]]), rng.normal(size=(3, 2))), {"axis": 1}
    yield (rng.normal(size=(3,)), np.array([1, 1, 0]), rng.normal(size=(3,))), {}


# ---- ScatterND ---------------------------------------------------------------------------------------


@op("ScatterND", version=16, nondiff="indices")
def scatter_nd(data: Array, indices: Array, updates: Array, *, reduction: str = "none") -> Array:
    """Writes slices by index tuples: y[indices[i, 0], ..., indices[i, k-1]] = updates[i].

    data: any dtype, rank r >= 1; indices: int64 [..., k], k <= r; updates: indices.shape[:-1] + data.shape[k:]
    -> y: data's shape. ``reduction``, gradients and their conventions as in `ScatterElements`.
    Raises ValueError for an index out of range. Source: ONNX operator spec, ScatterND.
    """
    return scatter(data, positions_of_slices(indices, updates, data.shape), updates, reduction)


@scatter_nd.vjp("data")
def _(ct, data, indices, updates, y, reduction):
    return data_adjoint(ct, positions_of_slices(indices, updates, ct.shape), data, updates, y, reduction)


@scatter_nd.vjp("updates")
def _(ct, data, indices, updates, y, reduction):
    return updates_adjoint(ct, positions_of_slices(indices, updates, ct.shape), data, updates, y, reduction)


@scatter_nd.jvp("data", "updates")
def _(data_dot, updates_dot, data, indices, updates, y, reduction):
    at = positions_of_slices(indices, updates, data.shape)
    return tangent(data_dot, updates_dot, at, data, updates, y, reduction)


@op("ScatterND", version=11, linear=(("data", "updates"),), nondiff="indices")
def scatter_nd_11(data: Array, indices: Array, updates: Array) -> Array:
    """Writes slices by index tuples; `ScatterND` before opset 16, without reductions."""
    return scatter(data, positions_of_slices(indices, updates, data.shape), updates, "none")


@scatter_nd_11.vjp("data")
def _(ct, indices, updates_like):
    return data_adjoint(ct, positions_of_slices(indices, updates_like, ct.shape), None, None, None, "none")


@scatter_nd_11.vjp("updates")
def _(ct, indices, updates_like):
    at = positions_of_slices(indices, updates_like, ct.shape)
    return updates_adjoint(ct, at, None, updates_like, None, "none")


@scatter_nd.infer
@scatter_nd_11.infer
def _(data, indices, updates):
    k = indices.shape[-1] if indices.shape else None
    if data.shape is not None and isinstance(k, int) and k > len(data.shape):
        raise ValueError(f"index tuples of length {k} do not fit data {data}")
    return _type_like_data(data, updates)


@scatter_nd.examples
def _(rng):
    x, rows = rng.normal(size=(4, 2, 3)), np.array([[0], [3], [-4], [1]])
    for reduction in ("none", "add", "mul", "max", "min"):
        yield (x, rows, rng.normal(size=(4, 2, 3))), {"reduction": reduction}
        yield (x, np.array([[[1, 0]], [[-1, -1]]]), rng.normal(size=(2, 1, 3))), {"reduction": reduction}
    yield (x, np.array([2, 1, 0]), rng.normal(size=())), {}
    yield (x, np.zeros((0, 1), np.int64), np.zeros((0, 2, 3))), {"reduction": "mul"}


@scatter_nd_11.examples
def _(rng):
    yield (rng.normal(size=(4, 2)), np.array([[0], [3], [-4]]), rng.normal(size=(3, 2))), {}
    yield (rng.normal(size=(4, 2)), np.array([[0, 1], [3, -2]]), rng.normal(size=(2,))), {}


# ---- TensorScatter -----------------------------------------------------------------------------------


def _cache_index(
    past_like: Array, update_like: Array, write_indices: Array | None, mode: str, axis: int
) -> tuple[Array, Array]:
    """The index into the cache, batch axis first and sequence axis second, at which the update lands."""
    axis = normalize_axis(axis, past_like.ndim)
    if axis == 0 or mode not in ("linear", "circular"):
        raise ValueError(f"axis {axis} should not be the batch axis 0, and mode {mode!r} should be linear or circular")
    size, steps, batch = past_like.shape[axis], update_like.shape[axis], past_like.shape[0]
    expected = (*past_like.shape[:axis], steps, *past_like.shape[axis + 1 :])
    if update_like.shape != expected or steps > size:
        raise ValueError(f"update {update_like.shape} does not fit cache {past_like.shape} along axis {axis}")
    start = np.zeros(batch, np.intp) if write_indices is None else write_indices
    if start.shape != (batch,):
        raise ValueError(f"write_indices have shape {start.shape}, expected ({batch},)")
    at = start[:, None] + np.arange(steps)
    if mode == "circular":
        at = at % size
    elif at.size and (at.min() < 0 or at.max() >= size):
        raise ValueError(f"write_indices {start.tolist()} plus {steps} steps leave axis {axis} of size {size}")
    return np.arange(batch)[:, None], at


@op("TensorScatter", version=24, linear=(("past_cache", "update"),), nondiff="write_indices")
def tensor_scatter(
    past_cache: Array, update: Array, write_indices: Array = None, *, mode: str = "linear", axis: int = -2
) -> Array:
    """Writes a run of steps into a cache of keys or values: y[b, ..., write_indices[b] + t] = update[b, ..., t].

    past_cache: any dtype [batch, ..., size, ...], ``axis`` is the one of ``size``; update: the same with t <= size
    steps; write_indices: int64 [batch], 0 when absent -> y: past_cache's shape. Mode circular counts modulo size.
    Gradient: the update takes what it overwrote. Raises ValueError when mode linear would write past the end.
    Source: ONNX operator spec, TensorScatter.
    """
    y = writable(past_cache, update)
    np.moveaxis(y, axis, 1)[_cache_index(past_cache, update, write_indices, mode, axis)] = np.moveaxis(update, axis, 1)
    return y


@tensor_scatter.vjp("past_cache")
def _(ct, update_like, write_indices, mode, axis):
    kept = writable(ct)
    np.moveaxis(kept, axis, 1)[_cache_index(ct, update_like, write_indices, mode, axis)] = 0
    return kept


@tensor_scatter.vjp("update")
def _(ct, update_like, write_indices, mode, axis):
    at = _cache_index(ct, update_like, write_indices, mode, axis)
    return np.moveaxis(np.moveaxis(ct, axis, 1)[at], 1, axis)


@tensor_scatter.infer
def _(past_cache, update, axis):
    if past_cache.shape is None or update.shape is None:
        return TensorType(past_cache.dtype, past_cache.shape)
    if len(past_cache.shape) != len(update.shape):
        raise ValueError(f"update {update} and cache {past_cache} should have the same rank")
    at = normalize_axis(axis, len(past_cache.shape))
    pairs = enumerate(zip(past_cache.shape, update.shape, strict=True))
    dims = tuple(a if i == at else same_dim(a, b, f"sizes along axis {i}") for i, (a, b) in pairs)
    return TensorType(past_cache.dtype, dims)


@tensor_scatter.examples
def _(rng):
    cache = rng.normal(size=(2, 3, 4, 2))
    yield (cache, rng.normal(size=(2, 3, 2, 2))), {}
    yield (cache, rng.normal(size=(2, 3, 2, 2)), np.array([1, 2])), {}
    yield (cache, rng.normal(size=(2, 3, 3, 2)), np.array([3, 2])), {"mode": "circular"}
    yield (rng.normal(size=(2, 4)), rng.normal(size=(2, 1)), np.array([0, 3])), {"axis": 1}
    yield (rng.normal(size=(2, 2, 4)), rng.normal(size=(2, 2, 2)), np.array([2, 0])), {"axis": -1}


OPS = (scatter_elements, scatter_elements_11, scatter_9, scatter_nd, scatter_nd_11, tensor_scatter)
