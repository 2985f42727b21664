"""Ops that make tensors from little or nothing: Constant, ConstantOfShape, Range, EyeLike, OneHot."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._axes import as_ints, known_ints, length_of, unknown_shape
from graphrt.ops._element_types import dtype_of_code, name_of_code
from graphrt.types import TensorType, dtype_name

Array = Any


# ---- Constant ----------------------------------------------------------------------------------------


@op("Constant", version=1)
def constant(
    *,
    value: np.ndarray | None = None,
    value_float: float | None = None,
    value_floats: tuple[float, ...] | None = None,
    value_int: int | None = None,
    value_ints: tuple[int, ...] | None = None,
    value_string: str | None = None,
    value_strings: tuple[str, ...] | None = None,
    sparse_value: np.ndarray | None = None,
) -> Array:
    """The tensor in its attribute.

    Exactly one attribute is given: value (a tensor) -> y: that tensor; value_float(s) -> float32 [] or [n];
    value_int(s) -> int64; value_string(s) -> string; sparse_value, stored densely, -> that tensor.
    Source: ONNX operator spec, Constant (the short forms since 12, sparse_value since 11).
    """
    return _constant(value, value_float, value_floats, value_int, value_ints, value_string, value_strings, sparse_value)


def _constant(value, value_float, value_floats, value_int, value_ints, value_string, value_strings, sparse_value):
    tensors = [x for x in (value, sparse_value) if x is not None]
    floats = [np.array(x, np.float32) for x in (value_float, value_floats) if x is not None]
    ints = [np.array(x, np.int64) for x in (value_int, value_ints) if x is not None]
    strings = [_strings(x) for x in (value_string, value_strings) if x is not None]
    found = tensors + floats + ints + strings
    if len(found) != 1:
        raise ValueError(f"takes exactly one of its attributes, {len(found)} are given")
    return found[0]


def _strings(x: Any) -> Array:
    def text(s: Any) -> str:
        return s.decode() if isinstance(s, bytes) else s

    array = np.empty(() if isinstance(x, (str, bytes)) else len(x), object)
    array[...] = text(x) if array.ndim == 0 else [text(s) for s in x]
    return array


@constant.infer
def _(value, value_float, value_floats, value_int, value_ints, value_string, value_strings, sparse_value):
    return TensorType.of(
        _constant(value, value_float, value_floats, value_int, value_ints, value_string, value_strings, sparse_value)
    )


@constant.examples
def _(rng):
    yield (), {"value": rng.normal(size=(2, 3))}
    yield (), {"value_float": 1.5}
    yield (), {"value_floats": (1.5, 2.0)}
    yield (), {"value_int": 3}
    yield (), {"value_ints": (3, 4)}
    yield (), {"value_string": "a"}
    yield (), {"value_strings": ("a", "bc")}
    yield (), {"sparse_value": np.eye(2)}


# ---- ConstantOfShape ---------------------------------------------------------------------------------


@op("ConstantOfShape", version=9, nondiff=True)
def constant_of_shape(input: Array, *, value: np.ndarray | None = None) -> Array:
    """A tensor of one repeated element.

    input: int64 [r], the shape; value: a tensor of one element (float32 0 when absent) -> y: [input], value's dtype.
    Source: ONNX operator spec, ConstantOfShape.
    """
    shape = _checked_shape(as_ints(input))
    return np.zeros(shape, np.float32) if value is None else np.full(shape, value.reshape(()), value.dtype)


def _checked_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    if any(n < 0 for n in shape):
        raise ValueError(f"shape {shape} should have no negative dimension")
    return shape


@constant_of_shape.infer
def _(input, input_value, value):
    dtype = "float32" if value is None else dtype_name(value.dtype)
    shape = known_ints(input_value)
    return TensorType(dtype, unknown_shape(length_of(input)) if shape is None else _checked_shape(shape))


@constant_of_shape.examples
def _(rng):
    yield (np.array([2, 3]),), {"value": np.array([7], np.int64)}
    yield (np.array([2, 0]),), {}
    yield (np.array([], np.int64),), {"value": np.array([0.5])}


# ---- Range -------------------------------------------------------------------------------------------


@op("Range", version=11, nondiff="limit")
def range_(start: Array, limit: Array, delta: Array, *, stash_type: int = 1) -> Array:
    """Numbers from start by delta: y[i] = start + i delta, up to limit (exclusive).

    start, limit, delta: one int or float dtype, [] -> y: [max(ceil((limit - start) / delta), 0)], that dtype.
    Floats are worked out in float64, which is more than any ``stash_type`` asks for, and rounded once.
    Gradient: dy[i]/dstart = 1, dy[i]/ddelta = i; the length, so limit, carries none.
    Raises ValueError for delta 0. Source: ONNX operator spec, Range (stash_type since 27).
    """
    first, step = _number(start), _number(delta)
    return (first + np.arange(_range_length(first, _number(limit), step)) * step).astype(start.dtype)


def _number(x: Array) -> Any:
    """The scalar as a Python number; sub-byte and 16-bit floats exactly."""
    value = x.reshape(()).item()
    return value if isinstance(value, int) else float(value)


def _range_length(start: Any, limit: Any, delta: Any) -> int:
    if delta == 0:
        raise ValueError("delta should not be 0")
    steps: int = -((start - limit) // delta) if isinstance(start, int) else math.ceil((limit - start) / delta)
    return max(steps, 0)


@range_.vjp("start")
def _(ct, start_like):
    return np.sum(ct, dtype=ct.dtype).reshape(start_like.shape)


@range_.vjp("delta")
def _(ct, delta_like):
    return np.sum(ct * np.arange(ct.shape[0]).astype(ct.dtype), dtype=ct.dtype).reshape(delta_like.shape)


@range_.jvp("start")
def _(start_dot, y_like):
    return np.broadcast_to(start_dot.reshape((1,)), y_like.shape)


@range_.jvp("delta")
def _(delta_dot, y_like):
    return delta_dot.reshape((1,)) * np.arange(y_like.shape[0]).astype(y_like.dtype)


@range_.infer
def _(start, limit, delta, start_value, limit_value, delta_value):
    dtype = start.dtype or limit.dtype or delta.dtype
    if start_value is None or limit_value is None or delta_value is None:
        return TensorType(dtype, (None,))
    return TensorType(dtype, (_range_length(_number(start_value), _number(limit_value), _number(delta_value)),))


@range_.examples
def _(rng):
    for bounds in ((3.0, 9.1, 3.0), (10.0, 3.9, -2.0), (0.2, 1.9, 0.5), (1.0, 0.0, 0.5)):
        yield tuple(np.array(b) for b in bounds), {}
    yield tuple(np.array(b) for b in (10, 4, -2)), {}
    yield tuple(np.array(b, np.int32) for b in (0, 5, 2)), {}


# ---- EyeLike -----------------------------------------------------------------------------------------


@op("EyeLike", version=9, nondiff=True)
def eye_like(input: Array, *, dtype: int | None = None, k: int = 0) -> Array:
    """Ones on a diagonal.

    input: any dtype [n, m], only its shape (and dtype, unless the code ``dtype`` is given) matters -> y: [n, m],
    y[i, i + k] = 1, else 0. Constant: no gradient. Source: ONNX operator spec, EyeLike.
    """
    _check_matrix(input.shape)
    rows, columns = input.shape
    return np.eye(rows, columns, k, dtype=input.dtype if dtype is None else dtype_of_code(dtype))


def _check_matrix(shape: Any) -> None:
    if len(shape) != 2:
        raise ValueError(f"takes a matrix, rank 2, not a tensor of rank {len(shape)}")


@eye_like.infer
def _(input, dtype):
    if input.shape is not None:
        _check_matrix(input.shape)
    return TensorType(input.dtype if dtype is None else name_of_code(dtype), input.shape or (None, None))


@eye_like.examples
def _(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (rng.normal(size=(3, 3)),), {"k": -1, "dtype": 7}
    yield (np.zeros((0, 2), np.int32),), {"k": 1, "dtype": 1}


# ---- OneHot ------------------------------------------------------------------------------------------


@op("OneHot", version=11, linear="values", nondiff=("indices", "depth"))
def one_hot(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """Marks each index in a new axis: y[..., j, ...] = on where j is the index, else off.

    indices: number [...], rank r; depth: number [] or [1], the size of the new axis; values: any dtype [2], (off, on)
    -> y: values' dtype, rank r + 1, the new axis at ``axis``. Negative indices count from depth; others out of range
    mark nothing. Gradient of values: the sums of ct where y is off, and where it is on.
    Source: ONNX operator spec, OneHot.
    """
    return values[_is_hot(indices, depth, axis, wraps=True).astype(np.intp)]


@op("OneHot", version=9, linear="values", nondiff=("indices", "depth"))
def one_hot_9(indices: Array, depth: Array, values: Array, *, axis: int = -1) -> Array:
    """Marks each index in a new axis; `OneHot` before opset 11: negative indices mark nothing."""
    return values[_is_hot(indices, depth, axis, wraps=False).astype(np.intp)]


def _new_axis(axis: int, rank: int) -> int:
    if not -rank - 1 <= axis <= rank:
        raise ValueError(f"axis {axis} is out of range [{-rank - 1}, {rank}] for indices of rank {rank}")
    return axis + rank + 1 if axis < 0 else axis


def _is_hot(indices: Array, depth: Array, axis: int, wraps: bool) -> Array:
    at, n = _new_axis(axis, indices.ndim), _depth(depth)
    index = np.expand_dims(indices.astype(np.int64), at)
    if wraps:
        index = np.where(index < 0, index + n, index)
    return index == np.arange(n).reshape((-1,) + (1,) * (indices.ndim - at))


def _depth(depth: Array) -> int:
    n = int(depth.reshape(()).item())
    if n < 0:
        raise ValueError(f"depth {n} should be 0 or more")
    return n


def _sums(ct: Array, hot: Array) -> Array:
    nothing = np.zeros((), ct.dtype)
    off, on = (np.sum(np.where(mask, ct, nothing), dtype=ct.dtype) for mask in (~hot, hot))
    return np.stack([off, on])


@one_hot.vjp("values")
def _(ct, indices, depth, axis):
    return _sums(ct, _is_hot(indices, depth, axis, wraps=True))


@one_hot_9.vjp("values")
def _(ct, indices, depth, axis):
    return _sums(ct, _is_hot(indices, depth, axis, wraps=False))


@one_hot.infer
@one_hot_9.infer
def _(indices, depth_value, values, axis):
    if indices.shape is None:
        return TensorType(values.dtype)
    at = _new_axis(axis, len(indices.shape))
    n = None if depth_value is None else _depth(depth_value)
    return TensorType(values.dtype, (*indices.shape[:at], n, *indices.shape[at:]))


@one_hot.examples
@one_hot_9.examples
def _(rng):
    values = rng.normal(size=2)
    yield (np.array([[0, 3], [-1, 7]]), np.array(4), values), {}
    yield (np.array([1, -4, 2]), np.array([3]), values), {"axis": 0}
    yield (np.array([[0, 1]]), np.array(2), values), {"axis": 1}
    yield (np.array(1), np.array(3), values), {}
    yield (np.array([0, 1]), np.array(0), values), {"axis": -2}
    yield (np.zeros(0, np.int64), np.array(3), np.array([0, 1])), {}


OPS = (constant, constant_of_shape, range_, eye_like, one_hot, one_hot_9)
