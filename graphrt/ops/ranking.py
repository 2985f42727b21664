"""Positions of extremes, and the k largest or smallest elements along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import axis_index, reduced_dims
from graphrt.types import TensorType

# ---- positions of extremes ---------------------------------------------------------------------------


@op("ArgMax", version=1, outputs="reduced", nondiff=True)
def arg_max(data: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    """Position of the largest element along an axis.

    data: number [...] -> reduced: int64; the axis is 1, or gone with keepdims=0. Ties: the first position, or the
    last with select_last_index. A NaN counts as largest. Not differentiable. Source: ONNX operator specification.
    """
    return _position(np.argmax, data, axis, keepdims, select_last_index)


@op("ArgMin", version=1, outputs="reduced", nondiff=True)
def arg_min(data: Array, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Array:
    """Position of the smallest element along an axis.

    data: number [...] -> reduced: int64; the axis is 1, or gone with keepdims=0. Ties: the first position, or the
    last with select_last_index. A NaN counts as smallest. Not differentiable. Source: ONNX operator specification.
    """
    return _position(np.argmin, data, axis, keepdims, select_last_index)


def _position(function: Any, data: Array, axis: int, keepdims: int, select_last_index: int) -> Array:
    at = axis_index(axis, data.ndim)
    found = function(np.flip(data, at) if select_last_index else data, axis=at, keepdims=bool(keepdims))
    return (data.shape[at] - 1 - found if select_last_index else found).astype(np.int64)


@arg_max.infer
@arg_min.infer
def _(data: TensorType, axis: int, keepdims: int) -> TensorType:
    if data.shape is None:
        return TensorType("int64", None)
    return TensorType("int64", reduced_dims(data.shape, (axis_index(axis, len(data.shape)),), keepdims))


@arg_max.examples
@arg_min.examples
def _(rng: np.random.Generator) -> Any:
    x = rng.normal(size=(2, 3, 4))
    yield Example((x,), {})
    yield Example((x,), {"axis": -1, "keepdims": 0})
    ties = np.array([[1, 2, 2, 1], [3, 3, 3, 3]])
    yield Example((ties,), {"axis": 1})
    yield Example((ties,), {"axis": 1, "select_last_index": 1})
    yield Example((np.zeros((0, 3)),), {"axis": 1})
    yield Example((x.T[:, ::-1],), {"axis": 2, "select_last_index": 1, "keepdims": 0})


# ---- the k largest or smallest -----------------------------------------------------------------------


@op("TopK", version=10, outputs=("values", "indices"), nondiff="k")
def top_k(x: Array, k: Array, *, axis: int = -1, largest: int = 1, sorted: int = 1) -> tuple[Array, Array]:
    """The k largest (or smallest) elements along an axis, and where they are.

    x: number [...], k: int64 [1] -> values: like x with k elements along the axis; indices: int64, the same shape.
    Both are sorted, the best first, whatever ``sorted`` says; of equal elements the one with the lower index comes
    first; a NaN counts as largest. Derivative of values: the cotangent goes to the chosen places.
    Source: ONNX operator specification.
    """
    return _top_k(x, _number(k), axis, largest)


@op("TopK", version=1, outputs=("values", "indices"))
def top_k_1(x: Array, *, k: int, axis: int = -1) -> tuple[Array, Array]:
    """The k largest elements along an axis, and where they are; k is an attribute. See the newer version."""
    return _top_k(x, k, axis, 1)


@top_k_1.vjp("x")
@top_k.vjp("x")
def _(ct: Array, x_like: Array, indices: Array, axis: int) -> Array:
    out = np.zeros(x_like.shape, ct.dtype, like=ct)
    out[_places(indices, axis)] = ct
    return out


@top_k_1.jvp("x")
@top_k.jvp("x")
def _(x_dot: Array, indices: Array, axis: int) -> tuple[Array, None]:
    return x_dot[_places(indices, axis)], None


def _number(k: Array) -> int:
    if np.size(k) != 1:
        raise ValueError(f"k is one number, not {np.size(k)}")
    return int(np.reshape(k, ()))


def _top_k(x: Array, k: int, axis: int, largest: int) -> tuple[Array, Array]:
    at = axis_index(axis, x.ndim)
    n = x.shape[at]
    if not 0 <= k <= n:
        raise ValueError(f"k is {k}, but axis {axis} has {n} elements")
    if largest:
        # A stable sort of the reversed axis, read backwards: descending, and equal elements keep their order.
        order = np.flip(n - 1 - np.argsort(np.flip(x, at), axis=at, kind="stable"), at)
    else:
        order = np.argsort(x, axis=at, kind="stable")
    indices = np.ascontiguousarray(order[(slice(None),) * at + (slice(0, k),)], dtype=np.int64)
    return x[_places(indices, at)], indices


def _places(indices: Array, axis: int) -> tuple[Array, ...]:
    """Index arrays of all axes, with ``indices`` along one of them."""
    at = axis_index(axis, indices.ndim)
    grid = np.ogrid[tuple(slice(0, n) for n in indices.shape)]
    return (*grid[:at], indices, *grid[at + 1 :])


def _top_k_types(x: TensorType, k: int | None, axis: int) -> tuple[TensorType, TensorType]:
    if x.shape is None:
        return TensorType(x.dtype, None), TensorType("int64", None)
    at = axis_index(axis, len(x.shape))
    n = x.shape[at]
    if k is not None and (k < 0 or (isinstance(n, int) and k > n)):
        raise ValueError(f"k is {k}, but axis {axis} has {n} elements")
    shape = (*x.shape[:at], k, *x.shape[at + 1 :])
    return TensorType(x.dtype, shape), TensorType("int64", shape)


@top_k.infer
def _(x: TensorType, k_value: Array | None, axis: int) -> tuple[TensorType, TensorType]:
    return _top_k_types(x, None if k_value is None else _number(k_value), axis)


@top_k_1.infer
def _(x: TensorType, k: int, axis: int) -> tuple[TensorType, TensorType]:
    return _top_k_types(x, k, axis)


def _distinct(rng: np.random.Generator, *shape: int) -> Array:
    return np.reshape(rng.permutation(int(np.prod(shape))) * 0.7 - 3, shape)


@top_k.examples
def _(rng: np.random.Generator) -> Any:
    x = _distinct(rng, 3, 4, 2)
    yield Example((x, np.array([2])), {"axis": 1})
    yield Example((x, np.array([2])), {})
    yield Example((x, np.array([1])), {"axis": -3, "largest": 0})
    yield Example((x.T[::-1], np.array([3])), {"axis": 1, "sorted": 0})
    yield Example((x, np.array([0])), {})
    yield Example((np.zeros((0, 3)), np.array([2])), {})
    yield Example((np.array([1.0, 2.0, 2.0, 2.0]), np.array([2])), {}, smooth=False)


@top_k_1.examples
def _(rng: np.random.Generator) -> Any:
    yield Example((_distinct(rng, 3, 4, 2),), {"k": 2, "axis": 1})
    yield Example((_distinct(rng, 5),), {"k": 5})


OPS = (arg_max, arg_min, top_k, top_k_1)
