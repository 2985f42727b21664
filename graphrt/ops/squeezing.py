"""Squeeze and Unsqueeze: axes of size 1 taken out and put in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._axes import as_ints, known_ints, length_of, normalize_axes, unknown_shape
from graphrt.types import Shape, TensorType

Array = Any


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


@squeeze.vjp("data")
@squeeze_1.vjp("data")
@unsqueeze.vjp("data")
@unsqueeze_1.vjp("data")
def _(ct, data_like):
    return ct.reshape(data_like.shape)


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


OPS = (squeeze, squeeze_1, unsqueeze, unsqueeze_1)
