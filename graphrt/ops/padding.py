"""Pad: a border of constants, mirrored, repeated or wrapped elements around a tensor; negative pads crop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._axes import as_ints, known_ints, normalize_axes, take_positions, total, unknown_shape, zeros
from graphrt.types import Shape, TensorType

Array = Any
Widths = tuple[tuple[int, int], ...]
"""Per axis, how much is added before and after; negative numbers crop."""
MODES = ("constant", "reflect", "edge", "wrap")


def _widths(pads: Sequence[int], axes: Sequence[int] | None, rank: int) -> Widths:
    at = range(rank) if axes is None else normalize_axes(axes, rank)
    n = len(at)
    if len(pads) != 2 * n:
        raise ValueError(f"{len(pads)} pads for {n} axes; two per axis are needed (all the begins, then all the ends)")
    widths = [(0, 0)] * rank
    for i, axis in enumerate(at):
        widths[axis] = (pads[i], pads[n + i])
    return tuple(widths)


def _padded_shape(shape: Shape, widths: Widths) -> tuple[Any, ...]:
    sizes = [total((n, b + e)) if b or e else n for n, (b, e) in zip(shape, widths, strict=True)]
    if any(isinstance(n, int) and n < 0 for n in sizes):
        raise ValueError(f"pads {widths} crop more than there is in shape {shape}")
    return tuple(sizes)


def _kept(shape: Sequence[int], widths: Widths) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Which part of the data survives cropping, and where in the result it lands."""
    source, target = [], []
    for n, (b, e) in zip(shape, widths, strict=True):
        start = min(max(-b, 0), n)
        length = max(n - max(-e, 0) - start, 0)
        source.append(slice(start, start + length))
        target.append(slice(max(b, 0), max(b, 0) + length))
    return tuple(source), tuple(target)


def _border_sources(size: int, before: int, after: int, mode: str) -> Array:
    """Which of ``size`` elements along an axis each element of its padded form repeats."""
    if size == 0:
        raise ValueError(f"mode {mode!r} has no elements to repeat along an axis of size 0")
    at = np.arange(-before, size + after)
    if mode == "edge":
        return np.clip(at, 0, size - 1)
    if mode == "wrap":
        return at % size
    period = max(2 * (size - 1), 1)
    return np.where(at % period < size, at % period, period - at % period)


def _growing_axes(widths: Widths) -> list[tuple[int, int, int]]:
    return [(axis, max(b, 0), max(e, 0)) for axis, (b, e) in enumerate(widths) if b > 0 or e > 0]


def _pad(data: Array, widths: Widths, mode: str, constant: Array | None) -> Array:
    shape = _padded_shape(data.shape, widths)
    source, target = _kept(data.shape, widths)
    if mode == "constant":
        padded = zeros(shape, data, *(() if constant is None else (constant,)))
        padded[...] = constant.reshape(()) if constant is not None else "" if data.dtype == object else 0
        padded[target] = data[source]
        return padded
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} should be one of {', '.join(MODES)}")
    padded = data[source]
    for axis, before, after in _growing_axes(widths):
        padded = np.take(padded, _border_sources(padded.shape[axis], before, after, mode), axis=axis)
    return padded


def _pad_adjoint(ct: Array, data_like: Array, widths: Widths, mode: str) -> Array:
    """Cotangent of the data: its place in ct, and what the border that repeats it sends back."""
    source, target = _kept(data_like.shape, widths)
    if mode == "constant":
        core = ct[target]
    else:
        core = ct
        for axis, before, after in reversed(_growing_axes(widths)):
            core = _fold_border(core, before, after, mode, axis)
    buffer = zeros(data_like.shape, ct)
    buffer[source] = core
    return buffer


def _fold_border(ct: Array, before: int, after: int, mode: str, axis: int) -> Array:
    """Adds each border element's cotangent to that of the element it repeats, along one axis."""
    size = ct.shape[axis] - before - after
    sources = _border_sources(size, before, after, mode)
    lead = (slice(None),) * axis
    ends = (slice(None, before), slice(before + size, None))
    inner = ct[(*lead, slice(before, before + size))]
    folded = zeros(inner.shape, ct)
    folded[...] = inner
    border = np.concatenate([ct[(*lead, s)] for s in ends], axis=axis)
    positions = take_positions(np.concatenate([sources[s] for s in ends]), folded.shape, axis)
    np.add.at(folded.reshape(-1), positions.reshape(-1), border.reshape(-1))
    return folded


# ---- Pad ---------------------------------------------------------------------------------------------


@op("Pad", version=11, linear=(("data", "constant_value"),), nondiff=("pads", "axes"))
def pad(data: Array, pads: Array, constant_value: Array = None, axes: Array = None, *, mode: str = "constant") -> Array:
    """Adds a border around a tensor, or crops it.

    data: any dtype [...]; pads: int64 [2k], before each of the axes, then after each, negative to crop;
    constant_value: [] of data's dtype (0, False or "" when absent); axes: int [k] (all when absent)
    -> y: sizes grown by the pads. Cropping comes first. Modes: constant; reflect (mirrored without repeating the
    edge); edge; wrap (around). Wide borders reflect and wrap as often as needed.
    Gradient: each element of ct goes to the element (or the constant) that it repeats.
    Source: ONNX operator spec, Pad (axes since 18, wrap since 19).
    """
    return _pad(data, _widths_of(pads, axes, data.ndim), mode, constant_value)


def _widths_of(pads: Array, axes: Array | None, rank: int) -> Widths:
    return _widths(as_ints(pads), None if axes is None else as_ints(axes), rank)


@pad.vjp("data")
def _(ct, data_like, pads, axes, mode):
    return _pad_adjoint(ct, data_like, _widths_of(pads, axes, data_like.ndim), mode)


@pad.vjp("constant_value")
def _(ct, constant_value_like, data_like, pads, axes, mode):
    if mode != "constant":
        return np.zeros(constant_value_like.shape, ct.dtype)
    border = np.ones(ct.shape, bool)
    border[_kept(data_like.shape, _widths_of(pads, axes, data_like.ndim))[1]] = False
    return np.sum(np.where(border, ct, np.zeros((), ct.dtype)), dtype=ct.dtype).reshape(constant_value_like.shape)


@pad.infer
def _(data, pads_value, axes, axes_value):
    if data.shape is None:
        return TensorType(data.dtype)
    rank, at = len(data.shape), known_ints(axes_value)
    if axes is not None and at is None:
        return TensorType(data.dtype, unknown_shape(rank))
    if pads_value is None:
        padded = range(rank) if at is None else normalize_axes(at, rank)
        return TensorType(data.dtype, tuple(None if i in padded else d for i, d in enumerate(data.shape)))
    return TensorType(data.dtype, _padded_shape(data.shape, _widths(as_ints(pads_value), at, rank)))


@pad.examples
def _(rng):
    x = rng.normal(size=(3, 4))
    for mode in MODES:
        yield (x, np.array([1, 2, 0, 3])), {"mode": mode}
        yield (x, np.array([-1, 2, 1, -1])), {"mode": mode}
        yield (rng.normal(size=(2, 2, 3)), np.array([5, 0, 1, 4]), None, np.array([-1, 0])), {"mode": mode}
        yield (rng.normal(size=(1, 2)), np.array([2, 0, 3, 0])), {"mode": mode}
    yield (x, np.array([1, 0, 0, 2]), np.array(0.7)), {}
    yield (x, np.array([1, 1]), np.array([0.7]), np.array([1])), {}
    yield (x, np.array([1, 0, 0, 2]), np.array(0.7)), {"mode": "edge"}
    yield (x, np.array([-2, 0, 2, 0]), np.array(0.7)), {}
    yield (np.zeros((0, 2)), np.array([1, 0, 1, 1]), np.array(0.7)), {}
    yield (rng.normal(size=()), np.array([], np.int64)), {}


@op("Pad", version=2)
def pad_2(data: Array, *, pads: tuple[int, ...], mode: str = "constant", value: float = 0.0) -> Array:
    """Adds a border around a tensor, or crops it; `Pad` before opset 11, with attributes ``pads`` and ``value``."""
    return _pad(data, _widths(pads, None, data.ndim), mode, np.array(value, data.dtype))


@pad_2.vjp("data")
def _(ct, data_like, pads, mode):
    return _pad_adjoint(ct, data_like, _widths(pads, None, data_like.ndim), mode)


@pad_2.jvp("data")
def _(data_dot, pads, mode):
    return _pad(data_dot, _widths(pads, None, data_dot.ndim), mode, None)


@pad_2.infer
def _(data, pads):
    if data.shape is None:
        return TensorType(data.dtype, unknown_shape(len(pads) // 2))
    return TensorType(data.dtype, _padded_shape(data.shape, _widths(pads, None, len(data.shape))))


@pad_2.examples
def _(rng):
    for mode in MODES[:3]:
        yield (rng.normal(size=(3, 4)),), {"pads": (1, 2, 0, -1), "mode": mode}
    yield (rng.normal(size=(2, 3)),), {"pads": (1, 0, 0, 2), "value": 1.5}


OPS = (pad, pad_2)
