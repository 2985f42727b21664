"""Ops that change or read a tensor's shape and leave its elements alone."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.op import Example, like, op, unbroadcast
from graphrt.ops._axes import (
    as_ints,
    known_ints,
    length_of,
    normalize_axes,
    product,
    unknown_shape,
)
from graphrt.types import Dim, Shape, TensorType, ValueType, broadcast_shapes

Array = Any


# ---- Identity and its silent relatives ---------------------------------------------------------------


@op("Identity", version=1, linear="input")
def identity(input: Array) -> Array:
    """The input itself.

    input: any value, tensors of every dtype, sequences and optionals too -> y: the same. dy/dinput = 1.
    Source: ONNX operator spec, Identity.
    """
    return input


@identity.vjp("input")
def _(ct):
    return ct


@identity.infer
def _(input):
    return input


@identity.examples
def _(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.float64(rng.normal()) + np.zeros(()),), {}
    yield (np.zeros((0, 2)),), {}


@op("ZerosLike", domain="graphrt", nondiff=True)
def zeros_like(x: Array) -> Array:
    """Zeros.  x: any dtype [...] -> y: the same dtype and shape, all 0 (False; empty strings). Constant: no gradient."""
    return np.full(x.shape, "", object) if x.dtype == object else np.zeros(x.shape, x.dtype)


@op("Like", domain="graphrt", nondiff=True)
def like_op(x: Array) -> Array:
    """Shape and dtype without the memory.  x: any dtype [...] -> y: the same dtype and shape, read-only.

    All elements of y are one zero (strides 0): rules that need only a shape take this instead of x.
    """
    return like(x)


@zeros_like.infer
@like_op.infer
def _(x):
    return x


@zeros_like.examples
@like_op.examples
def _(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.ones((), np.float32),), {}
    yield (np.ones((0, 2), np.int64),), {}


# ---- Reshape, Flatten --------------------------------------------------------------------------------


def _inferred_dim(data: Sequence[Dim], explicit: Sequence[Dim], shown: object) -> Dim:
    """The dimension written -1: what is left of ``data`` over the product of the dimensions named beside it."""
    have, named = product(data), product(explicit)
    if have == 0:
        return 0
    if isinstance(have, int) and isinstance(named, int):
        if named == 0 or have % named:
            raise ValueError(f"{have} elements do not divide among the dimensions of shape {shown}")
        return have // named
    numbers = math.prod(d for d in data if isinstance(d, int))
    symbols = [d for d in data if not isinstance(d, int)]
    return symbols[0] if len(symbols) == 1 and numbers == named else None


def _new_shape(old: Sequence[Dim], shape: tuple[int, ...], allowzero: int) -> Shape:
    """The shape that Reshape makes of ``old``, where copied dimensions (0) cancel before -1 is worked out."""
    copied = () if allowzero else tuple(i for i, n in enumerate(shape) if n == 0)
    if shape.count(-1) > 1 or any(n < -1 for n in shape) or (allowzero and 0 in shape and -1 in shape):
        raise ValueError(f"shape {shape}: at most one -1, nothing below it, and no -1 beside an explicit 0")
    if copied and copied[-1] >= len(old):
        raise ValueError(f"shape {shape} copies dimension {copied[-1]} of a tensor of rank {len(old)}")
    new: list[Dim] = [old[i] if i in copied else n for i, n in enumerate(shape)]
    if -1 in shape:
        rest = [d for i, d in enumerate(old) if i not in copied]
        named = [n for i, n in enumerate(shape) if n != -1 and i not in copied]
        new[shape.index(-1)] = _inferred_dim(rest, named, shape)
    return tuple(new)


@op("Reshape", version=5, linear="data", nondiff="shape")
def reshape(data: Array, shape: Array, *, allowzero: int = 0) -> Array:
    """The same elements in another shape, in row-major order.

    data: any dtype [...]; shape: int64 [r], where -1 (at most one) takes what is left, and 0 copies the
    dimension of ``data`` at its place unless ``allowzero`` -> y: [shape]. Copied dimensions cancel before -1
    is worked out, so shape (0, -1) also serves an empty batch. Gradient: ct in the shape of data.
    Source: ONNX operator spec, Reshape (allowzero since 14).
    """
    return data.reshape(_new_shape(data.shape, as_ints(shape), allowzero))


@reshape.infer
def _(data, shape, shape_value, allowzero):
    wanted = known_ints(shape_value)
    if wanted is None:
        return TensorType(data.dtype, unknown_shape(length_of(shape)))
    if data.shape is None:
        copy = 0 if allowzero else None
        return TensorType(data.dtype, tuple(n if n > 0 else copy if n == 0 else None for n in wanted))
    new = _new_shape(data.shape, wanted, allowzero)
    before, after = product(data.shape), product(new)
    if isinstance(before, int) and isinstance(after, int) and before != after:
        raise ValueError(f"{before} elements of shape {data.shape} do not fit shape {wanted}")
    return TensorType(data.dtype, new)


@reshape.examples
def _(rng):
    x = rng.normal(size=(2, 3, 4))
    yield (x, np.array([4, 6])), {}
    yield (x, np.array([0, -1])), {}
    yield (x, np.array([2, 0, 2, -1])), {}
    yield (rng.normal(size=(1, 1)), np.array([], np.int64)), {}
    yield (rng.normal(size=()), np.array([-1, 1])), {}
    yield (np.zeros((0, 3)), np.array([0, -1])), {}
    yield (np.zeros((0, 3)), np.array([5, 0, 2])), {"allowzero": 1}


@op("Flatten", version=1, linear="input")
def flatten(input: Array, *, axis: int = 1) -> Array:
    """A matrix of the input: axes before ``axis`` become its rows, the others its columns.

    input: any dtype, rank r -> y: [prod(shape[:axis]), prod(shape[axis:])]; -r <= axis <= r.
    Gradient: ct in the shape of input. Source: ONNX operator spec, Flatten (negative axis since 11).
    """
    rows, columns = _flattened(input.shape, axis)
    return input.reshape((rows, columns))


def _flattened(shape: Shape, axis: int) -> Shape:
    if not -len(shape) <= axis <= len(shape):
        raise ValueError(f"axis {axis} is out of range [-{len(shape)}, {len(shape)}] for a tensor of rank {len(shape)}")
    at = axis + len(shape) if axis < 0 else axis
    return product(shape[:at]), product(shape[at:])


@flatten.infer
def _(input, axis):
    return TensorType(input.dtype, (None, None) if input.shape is None else _flattened(input.shape, axis))


@flatten.examples
def _(rng):
    for axis in (0, 1, 2, 3, -1):
        yield (rng.normal(size=(2, 3, 4)),), {"axis": axis}
    yield (rng.normal(size=()),), {"axis": 0}
    yield (np.zeros((0, 2, 3)),), {}


# ---- Squeeze, Unsqueeze ------------------------------------------------------------------------------


def _squeezed(shape: Shape, axes: Sequence[int] | None) -> Shape:
    gone = [i for i, n in enumerate(shape) if n == 1] if axes is None else normalize_axes(axes, len(shape))
    for i in gone:
        if isinstance(shape[i], int) and shape[i] != 1:
            raise ValueError(f"axis {i} cannot be squeezed: its size is {shape[i]}, not 1, in shape {shape}")
    return tuple(n for i, n in enumerate(shape) if i not in gone)


def _unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    rank = len(shape) + len(axes)
    new = normalize_axes(axes, rank)
    old = iter(shape)
    return tuple(1 if i in new else next(old) for i in range(rank))


def _squeezed_type(data: TensorType, axes: Sequence[int] | None) -> TensorType:
    if data.shape is None or (axes is None and not all(isinstance(n, int) for n in data.shape)):
        return TensorType(data.dtype)
    return TensorType(data.dtype, _squeezed(data.shape, axes))


def _unsqueezed_type(data: TensorType, axes: Sequence[int] | None) -> TensorType:
    return TensorType(data.dtype, None if data.shape is None or axes is None else _unsqueezed(data.shape, axes))


@op("Squeeze", version=13, linear="data", nondiff="axes")
def squeeze(data: Array, axes: Array = None) -> Array:
    """Removes axes of size 1.

    data: any dtype, rank r; axes: int64 [k] in [-r, r-1], or absent for every axis of size 1 -> y: rank r - k.
    Gradient: ct in the shape of data. Raises ValueError when a named axis has another size.
    Source: ONNX operator spec, Squeeze.
    """
    return data.reshape(_squeezed(data.shape, None if axes is None else as_ints(axes)))


@squeeze.infer
def _(data, axes, axes_value):
    wanted = known_ints(axes_value)
    if axes is not None and wanted is None:
        n = length_of(axes)
        return TensorType(data.dtype, None if n is None or data.shape is None else unknown_shape(len(data.shape) - n))
    return _squeezed_type(data, wanted)


@op("Squeeze", version=1, linear="data")
def squeeze_1(data: Array, *, axes: tuple[int, ...] | None = None) -> Array:
    """Removes axes of size 1; `Squeeze` before opset 13, when ``axes`` was an attribute (negative since 11)."""
    return data.reshape(_squeezed(data.shape, axes))


@squeeze_1.infer
def _(data, axes):
    return _squeezed_type(data, axes)


@op("Unsqueeze", version=13, linear="data", nondiff="axes")
def unsqueeze(data: Array, axes: Array) -> Array:
    """Inserts axes of size 1.

    data: any dtype, rank r; axes: int64 [k], distinct, places in the result, in [-r-k, r+k-1] -> y: rank r + k.
    Gradient: ct in the shape of data. Source: ONNX operator spec, Unsqueeze.
    """
    return data.reshape(_unsqueezed(data.shape, as_ints(axes)))


@unsqueeze.infer
def _(data, axes, axes_value):
    n = length_of(axes)
    if axes_value is None and n is not None and data.shape is not None:
        return TensorType(data.dtype, unknown_shape(len(data.shape) + n))
    return _unsqueezed_type(data, known_ints(axes_value))


@op("Unsqueeze", version=1, linear="data")
def unsqueeze_1(data: Array, *, axes: tuple[int, ...]) -> Array:
    """Inserts axes of size 1; `Unsqueeze` before opset 13, when ``axes`` was an attribute (negative since 11)."""
    return data.reshape(_unsqueezed(data.shape, axes))


@unsqueeze_1.infer
def _(data, axes):
    return _unsqueezed_type(data, axes)


@reshape.vjp("data")
@squeeze.vjp("data")
@squeeze_1.vjp("data")
@unsqueeze.vjp("data")
@unsqueeze_1.vjp("data")
def _(ct, data_like):
    return ct.reshape(data_like.shape)


@flatten.vjp("input")
def _(ct, input_like):
    return ct.reshape(input_like.shape)


def _squeeze_cases(rng: np.random.Generator) -> Iterator[tuple[Array, tuple[int, ...] | None]]:
    yield rng.normal(size=(1, 3, 1, 2)), (0,)
    yield rng.normal(size=(1, 3, 1, 2)), (-2, 0)
    yield rng.normal(size=(1, 3, 1, 2)), None
    yield rng.normal(size=(1, 1)), None
    yield np.zeros((1, 0)), (0,)


@squeeze.examples
def _(rng):
    for x, axes in _squeeze_cases(rng):
        yield (x,) if axes is None else (x, np.array(axes)), {}
    yield (rng.normal(size=(2, 1)), np.array([], np.int64)), {}


@squeeze_1.examples
def _(rng):
    for x, axes in _squeeze_cases(rng):
        yield (x,), {} if axes is None else {"axes": axes}


@unsqueeze.examples
def _(rng):
    for shape, axes in (((2, 3), (1,)), ((2, 3), (3, 0)), ((2, 3), (-1, 1)), ((), (0,)), ((0, 2), (-3,))):
        yield (rng.normal(size=shape), np.array(axes)), {}


@unsqueeze_1.examples
def _(rng):
    for shape, axes in (((2, 3), (0, 3)), ((), (0,)), ((2,), (-1,))):
        yield (rng.normal(size=shape),), {"axes": axes}


# ---- Expand ------------------------------------------------------------------------------------------


@op("Expand", version=8, linear="input", nondiff="shape")
def expand(input: Array, shape: Array) -> Array:
    """Repeats the input along axes of size 1 (and new leading axes) until it broadcasts with ``shape``.

    input: any dtype [...]; shape: int64 [r] -> y: the broadcast of input's shape and ``shape`` (both ways), as
    a read-only view. Gradient: ct summed over what was repeated. Source: ONNX operator spec, Expand.
    """
    return np.broadcast_to(input, np.broadcast_shapes(input.shape, as_ints(shape)))


@expand.vjp("input")
def _(ct, input_like):
    return unbroadcast(ct, input_like)


@expand.infer
def _(input, shape, shape_value):
    wanted = known_ints(shape_value)
    return TensorType(
        input.dtype, broadcast_shapes([input.shape, unknown_shape(length_of(shape)) if wanted is None else wanted])
    )


@expand.examples
def _(rng):
    yield (rng.normal(size=(3, 1)), np.array([2, 1, 4])), {}
    yield (rng.normal(size=(2, 3)), np.array([1])), {}
    yield (rng.normal(size=()), np.array([2, 2])), {}
    yield (rng.normal(size=(2, 1)), np.array([], np.int64)), {}
    yield (rng.normal(size=(1, 2)), np.array([0, 2])), {}


# ---- Shape, Size -------------------------------------------------------------------------------------


@op("Shape", version=1, nondiff=True)
def shape_of(data: Array, *, start: int = 0, end: int | None = None) -> Array:
    """The tensor's shape, or the part of it from axis ``start`` up to ``end``.

    data: any dtype, rank r -> y: int64 [k], k = r without attributes; both count from the end when negative
    and are clamped to [0, r]. No gradient. Source: ONNX operator spec, Shape (start and end since 15).
    """
    return np.array(data.shape[start:end], np.int64)


@shape_of.infer
def _(data, start, end):
    return TensorType("int64", (None if data.shape is None else len(data.shape[start:end]),))


@op("Size", version=1, nondiff=True)
def size_of(data: Array) -> Array:
    """The number of elements.  data: any dtype [...] -> y: int64 []. No gradient. Source: ONNX operator spec, Size."""
    return np.array(data.size, np.int64)


@size_of.infer
def _(data):
    return TensorType("int64", ())


@shape_of.examples
def _(rng):
    for attributes in ({}, {"start": 1}, {"start": -1}, {"end": -1}, {"start": 1, "end": 2}, {"start": 5}, {"start": 2, "end": 1}):
        yield (rng.normal(size=(2, 3, 4)),), attributes
    yield (np.ones(()),), {}


@size_of.examples
def _(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.ones(()),), {}
    yield (np.zeros((0, 2)),), {}


OPS = (
    identity, zeros_like, like_op, reshape, flatten, squeeze, squeeze_1, unsqueeze, unsqueeze_1, expand, shape_of, size_of,
)  # fmt: skip
