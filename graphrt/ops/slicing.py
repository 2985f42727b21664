"""Slice and Compress: parts of a tensor along its axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._axes import as_ints, length_of, normalize_axes, normalize_axis, unknown_shape, zeros
from graphrt.types import Dim, Shape, TensorType

Array = Any
UNBOUNDED = 2**31 - 1
"""A bound at least this far out means "to the end", whatever the size of the axis."""


# ---- Slice -------------------------------------------------------------------------------------------


def _slices(
    shape: Shape, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None, steps: Sequence[int] | None
) -> tuple[slice, ...]:
    """One slice per axis. ONNX counts and clamps bounds as Python does, but for a start before the first element:
    stepping backward it means the first element, where Python finds nothing.
    """
    n, rank = len(starts), len(shape)
    at = range(n) if axes is None else normalize_axes(axes, rank)
    by = (1,) * n if steps is None else steps
    if not len(ends) == len(at) == len(by) == n or n > rank:
        raise ValueError(f"{n} starts, {len(ends)} ends, {len(at)} axes and {len(by)} steps do not fit rank {rank}")
    if 0 in by:
        raise ValueError(f"steps {tuple(by)} should not be 0")
    found = [slice(None)] * rank
    for axis, start, end, step in zip(at, starts, ends, by, strict=True):
        size = shape[axis]
        found[axis] = slice(max(start, -size) if step < 0 and isinstance(size, int) else start, end, step)
    return tuple(found)


def _ints(bounds: Array | None) -> tuple[int, ...] | None:
    return None if bounds is None else as_ints(bounds)


def _sliced_dim(dim: Dim, s: slice) -> Dim:
    if isinstance(dim, int):
        return len(range(*s.indices(dim)))
    step = 1 if s.step is None else s.step
    forward = step == 1 and s.start in (None, 0) and (s.stop is None or s.stop >= UNBOUNDED)
    backward = step == -1 and (s.start == -1 or s.start >= UNBOUNDED) and s.stop <= -UNBOUNDED
    if forward or backward:
        return dim
    return 0 if s.start == s.stop and step > 0 else None


def _sliced_shape(shape: Shape, slices: Sequence[slice]) -> Shape:
    return tuple(_sliced_dim(d, s) for d, s in zip(shape, slices, strict=True))


def _unslice(ct: Array, data_like: Array, slices: tuple[slice, ...]) -> Array:
    """The adjoint of ``data[slices]``: ct in its place among zeros."""
    buffer = zeros(data_like.shape, ct)
    buffer[slices] = ct
    return buffer


@op("Slice", version=10, linear="data", nondiff=("starts", "ends", "axes", "steps"))
def slice_(data: Array, starts: Array, ends: Array, axes: Array = None, steps: Array = None) -> Array:
    """A part of a tensor: along each of ``axes`` the positions from start to end (exclusive) by step.

    data: any dtype [...]; starts, ends, axes, steps: int [k]; axes default to the first k, steps to 1 (not 0)
    -> y: a view of data. Bounds count from the end when negative and are clamped to the axis; a start
    before the first element means the first element in either direction.
    Gradient: ct in its place among zeros. Source: ONNX operator spec, Slice.
    """
    return data[_slices(data.shape, as_ints(starts), as_ints(ends), _ints(axes), _ints(steps))]


@slice_.vjp("data")
def _(ct, data_like, starts, ends, axes, steps):
    bounds = as_ints(starts), as_ints(ends), _ints(axes), _ints(steps)
    return _unslice(ct, data_like, _slices(data_like.shape, *bounds))


@slice_.infer
def _(data, starts, starts_value, ends_value, axes, axes_value, steps, steps_value):
    if data.shape is None:
        return TensorType(data.dtype)
    rank = len(data.shape)
    if axes is None:
        at: Sequence[int] | None = None if length_of(starts) is None else range(length_of(starts) or 0)
    else:
        at = None if axes_value is None else normalize_axes(as_ints(axes_value), rank)
    if at is None:
        return TensorType(data.dtype, unknown_shape(rank))
    if starts_value is None or ends_value is None or (steps is not None and steps_value is None):
        return TensorType(data.dtype, tuple(None if i in at else d for i, d in enumerate(data.shape)))
    slices = _slices(data.shape, as_ints(starts_value), as_ints(ends_value), at, _ints(steps_value))
    return TensorType(data.dtype, _sliced_shape(data.shape, slices))


@op("Slice", version=1, linear="data")
def slice_1(
    data: Array, *, starts: tuple[int, ...], ends: tuple[int, ...], axes: tuple[int, ...] | None = None
) -> Array:
    """A part of a tensor; `Slice` before opset 10, when the bounds were attributes and there were no steps."""
    return data[_slices(data.shape, starts, ends, axes, None)]


@slice_1.vjp("data")
def _(ct, data_like, starts, ends, axes):
    return _unslice(ct, data_like, _slices(data_like.shape, starts, ends, axes, None))


@slice_1.infer
def _(data, starts, ends, axes):
    if data.shape is None:
        return TensorType(data.dtype)
    return TensorType(data.dtype, _sliced_shape(data.shape, _slices(data.shape, starts, ends, axes, None)))


@slice_.examples
def _(rng):
    x = rng.normal(size=(5, 4, 3))
    yield (x, np.array([1, 0]), np.array([4, 2])), {}
    yield (x, np.array([-3]), np.array([2**63 - 1]), np.array([0])), {}
    yield (x, np.array([4, -1]), np.array([0, -(2**63)]), np.array([0, -2]), np.array([-2, -1])), {}
    yield (x, np.array([0]), np.array([100]), None, np.array([3])), {}
    yield (x, np.array([-9]), np.array([-9]), np.array([1]), np.array([-1])), {}
    yield (x, np.array([3]), np.array([1])), {}
    yield (rng.normal(size=()), np.zeros(0, np.int64), np.zeros(0, np.int64)), {}


@slice_1.examples
def _(rng):
    x = rng.normal(size=(5, 4))
    yield (x,), {"starts": (1, 0), "ends": (4, -1)}
    yield (x,), {"starts": (-3,), "ends": (1000,), "axes": (-1,)}


# ---- Compress ----------------------------------------------------------------------------------------


@op("Compress", version=9, linear="input", nondiff="condition")
def compress(input: Array, condition: Array, *, axis: int | None = None) -> Array:
    """The slices along ``axis`` (or elements of the flattened input) at which the condition is true.

    input: any dtype, rank >= 1; condition: bool [k], k at most the size of the axis; positions past k are dropped
    -> y: size sum(condition) along ``axis``. Gradient: ct in its places among zeros.
    Source: ONNX operator spec, Compress (negative axis since 11).
    """
    return np.take(input, _chosen(condition, input, axis), axis=axis)


def _chosen(condition: Array, x: Array, axis: int | None) -> Array:
    size = x.size if axis is None else x.shape[normalize_axis(axis, x.ndim)]
    if condition.ndim != 1 or condition.size > size:
        raise ValueError(f"condition of shape {condition.shape} should be 1-d, with at most {size} elements")
    return np.flatnonzero(condition)


@compress.vjp("input")
def _(ct, input_like, condition, axis):
    chosen = _chosen(condition, input_like, axis)
    if axis is None:
        flat = zeros((input_like.size,), ct)
        flat[chosen] = ct
        return flat.reshape(input_like.shape)
    buffer = zeros(input_like.shape, ct)
    buffer[(slice(None),) * normalize_axis(axis, ct.ndim) + (chosen,)] = ct
    return buffer


@compress.infer
def _(input, condition_value, axis):
    n = None if condition_value is None else int(np.count_nonzero(condition_value))
    if axis is None:
        return TensorType(input.dtype, (n,))
    if input.shape is None:
        return TensorType(input.dtype)
    at = normalize_axis(axis, len(input.shape))
    return TensorType(input.dtype, (*input.shape[:at], n, *input.shape[at + 1 :]))


@compress.examples
def _(rng):
    x = rng.normal(size=(3, 4))
    yield (x, np.array([True, False, True])), {"axis": 0}
    yield (x, np.array([False, True])), {"axis": -1}
    yield (x, np.array([True, False, False, True, True])), {}
    yield (x, np.zeros(4, bool)), {"axis": 1}


OPS = (slice_, slice_1, compress)
