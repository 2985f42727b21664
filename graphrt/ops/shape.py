"""Ops that give a tensor another shape: Reshape, Flatten, Expand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.op import op, unbroadcast
from graphrt.ops._axes import as_ints, known_ints, length_of, product, unknown_shape
from graphrt.types import Dim, Shape, TensorType, broadcast_shapes

Array = Any


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


@reshape.vjp("data")
def _(ct, data_like):
    return ct.reshape(data_like.shape)


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


@flatten.vjp("input")
def _(ct, input_like):
    return ct.reshape(input_like.shape)


@flatten.infer
def _(input, axis):
    return TensorType(input.dtype, (None, None) if input.shape is None else _flattened(input.shape, axis))


@flatten.examples
def _(rng):
    for axis in (0, 1, 2, 3, -1):
        yield (rng.normal(size=(2, 3, 4)),), {"axis": axis}
    yield (rng.normal(size=()),), {"axis": 0}
    yield (np.zeros((0, 2, 3)),), {}


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


OPS = (reshape, flatten, expand)
