"""Image rearrangements and region max pooling: Col2Im, CenterCropPad, MaxRoiPool."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._correlation import columns, scatter_columns
from graphrt.ops._math import quiet
from graphrt.ops._windows import Window, window, zeros_for
from graphrt.types import Dim, TensorType

Ints: TypeAlias = tuple[int, ...]


# ---- Col2Im ------------------------------------------------------------------------------------------------


def _blocks(input: Array, image_shape: Array, block_shape: Array, dilations: Any, pads: Any, strides: Any) -> Window:
    win = window([int(n) for n in image_shape], [int(n) for n in block_shape], strides, dilations, pads)
    if input.ndim != 3 or input.shape[1] % win.n_taps or input.shape[2] != math.prod(win.out):
        expected = f"[N, C * {win.n_taps}, {math.prod(win.out)}]"
        raise ValueError(f"input {input.shape} is {expected} for blocks {block_shape} in {image_shape}")
    return win


@op("Col2Im", version=18, outputs=("output",), linear="input", nondiff=("image_shape", "block_shape"))
def col2im(
    input: Array, image_shape: Array, block_shape: Array, *, dilations: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Lays columns of blocks back into an image, summing where blocks overlap: the adjoint of gathering windows.

    input: float [N, C*T, L], T elements of a block, L blocks in row-major order; image_shape, block_shape: int64 [r]
    -> output: float [N, C, *image_shape]. Source: ONNX operator spec.
    """
    with quiet():
        win = _blocks(input, image_shape, block_shape, dilations, pads, strides)
        split = input.reshape(input.shape[0], input.shape[1] // win.n_taps, win.n_taps, *win.out)
        return scatter_columns(np.moveaxis(split, 0, 2), win)


@col2im.vjp("input")
def _(
    ct: Array, input_like: Array, image_shape: Array, block_shape: Array, dilations: Ints | None, pads: Ints | None,
    strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _blocks(input_like, image_shape, block_shape, dilations, pads, strides)
        return np.moveaxis(columns(ct, win), 2, 0).reshape(input_like.shape)


@col2im.infer
def _(input: TensorType, image_shape_value: Array | None, block_shape_value: Array | None) -> Any:
    if image_shape_value is None:
        return TensorType(input.dtype)
    channels = None
    if input.shape is not None and block_shape_value is not None and isinstance(input.shape[1], int):
        channels = input.shape[1] // math.prod(int(n) for n in block_shape_value)
    return TensorType(input.dtype, (input.shape[0] if input.shape else None, channels, *map(int, image_shape_value)))


@col2im.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 12, 9)), np.array([4, 5]), np.array([2, 3])), {}
    more = {"dilations": (1, 2), "pads": (1, 0, 0, 2), "strides": (2, 1)}
    yield (rng.normal(size=(1, 8, 10)), np.array([4, 5]), np.array([2, 2])), more
    yield (rng.normal(size=(1, 4, 6)), np.array([7]), np.array([2])), {}
    yield (rng.normal(size=(0, 4, 9)), np.array([4, 4]), np.array([2, 2])), {}


# ---- CenterCropPad -----------------------------------------------------------------------------------------


def _targets(shape: tuple[Dim, ...], wanted: Array, axes: Ints | None) -> tuple[Dim, ...]:
    over = tuple(range(len(shape))) if axes is None else axes
    if len(over) != len(wanted) or any(not -len(shape) <= a < len(shape) for a in over):
        raise ValueError(f"{len(wanted)} sizes for axes {over} of an input of rank {len(shape)}")
    result = list(shape)
    for a, n in zip(over, wanted, strict=True):
        result[a] = int(n)
    return tuple(result)


def _center(x: Array, target: tuple[int, ...]) -> Array:
    """The middle of x: cropped, or padded by zeros, to the target shape; halves round down at the start."""
    source, place = [], []
    for n, t in zip(x.shape, target, strict=True):
        source.append(slice((n - t) // 2, (n - t) // 2 + t) if n > t else slice(None))
        place.append(slice((t - n) // 2, (t - n) // 2 + n) if n < t else slice(None))
    x = x[tuple(source)]
    if x.shape == target:
        return x
    y = np.zeros(target, x.dtype, like=x)
    y[tuple(place)] = x
    return y


@op("CenterCropPad", version=18, outputs=("output_data",), linear="input_data", nondiff="shape")
def center_crop_pad(input_data: Array, shape: Array, *, axes: tuple[int, ...] | None = None) -> Array:
    """Crops or zero-pads each axis around the center to a given size.

    input_data: [d1, ...], shape: int64 [len(axes)] -> output_data: of its dtype. Of an odd difference, a crop drops
    and a pad adds one more at the end. The derivative pads what was cropped and crops what was padded.
    Source: ONNX operator spec.
    """
    target: Any = _targets(input_data.shape, shape, axes)
    return _center(input_data, target)


@center_crop_pad.vjp("input_data")
def _(ct: Array, input_data_like: Array) -> Array:
    return _center(ct, input_data_like.shape)


@center_crop_pad.infer
def _(input_data: TensorType, shape_value: Array | None, axes: Ints | None) -> Any:
    if input_data.shape is None:
        return TensorType(input_data.dtype)
    if shape_value is not None:
        return TensorType(input_data.dtype, _targets(input_data.shape, shape_value, axes))
    changed = range(len(input_data.shape)) if axes is None else [a % len(input_data.shape) for a in axes]
    return TensorType(input_data.dtype, tuple(None if i in changed else d for i, d in enumerate(input_data.shape)))


@center_crop_pad.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(4, 5, 3)), np.array([3, 2, 3])), {}
    yield (rng.normal(size=(3, 4, 2)), np.array([6, 7, 2])), {}
    yield (rng.normal(size=(3, 5, 2)), np.array([5, 2])), {"axes": (-1, 1)}
    yield (rng.normal(size=(0, 3)), np.array([2, 2])), {}


# ---- MaxRoiPool --------------------------------------------------------------------------------------------


def _bins(rois: Array, axis: int, scale: float, bins: int, n: int) -> tuple[Array, Array]:
    """First and last+1 pixel of each bin along one axis, int [R, bins]."""
    ends = np.clip(np.nan_to_num(rois[:, [1 + axis, 3 + axis]].astype(np.float64) * scale), -(2.0**40), 2.0**40)
    first, last = (np.sign(ends) * np.floor(np.abs(ends) + 0.5)).astype(np.int64).T  # halves away from zero
    length = np.maximum(last - first + 1, 1)[:, None]
    k = np.arange(bins)
    start, stop = k * length // bins, -(-(k + 1) * length // bins)
    return np.clip(start + first[:, None], 0, n), np.clip(stop + first[:, None], 0, n)


def _readings(x: Array, rois: Array, pooled_shape: Ints, scale: float) -> Iterator[tuple[Any, Array]]:
    """Per tap of the largest bin: index into x [R, C, h, w] and which bins have it."""
    if x.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 5:
        raise ValueError(f"x {x.shape} and rois {rois.shape} are [N, C, H, W] and [R, 5]")
    image = rois[:, 0].astype(np.int64).reshape(-1, 1, 1, 1)
    if image.size and not (image.min() >= 0 and image.max() < x.shape[0]):
        raise ValueError(f"the first column of rois must lie in 0..{x.shape[0] - 1}")
    channel = np.arange(x.shape[1])[:, None, None]
    top, bottom = _bins(rois, 1, scale, pooled_shape[0], x.shape[2])
    left, right = _bins(rois, 0, scale, pooled_shape[1], x.shape[3])
    for i in range(int(np.max(bottom - top, initial=0))):
        for j in range(int(np.max(right - left, initial=0))):
            has = (top + i < bottom)[:, None, :, None] & (left + j < right)[:, None, None]
            row = np.minimum(top + i, x.shape[2] - 1)[:, None, :, None]
            yield (image, channel, row, np.minimum(left + j, x.shape[3] - 1)[:, None, None]), has


def _won(x: Array, y: Array, rois: Array, pooled_shape: Ints, scale: float) -> Iterator[tuple[Any, Array]]:
    free = np.ones(y.shape, bool)
    for at, has in _readings(x, rois, pooled_shape, scale):
        won = (x[at] == y) & has & free
        free &= ~won
        yield at, won


@op("MaxRoiPool", version=1, nondiff="rois")
def max_roi_pool(x: Array, rois: Array, *, pooled_shape: tuple[int, ...], spatial_scale: float = 1.0) -> Array:
    """Maximum over each bin of each region of interest.

    x: float [N, C, H, W], rois: float [R, 5] = (image, x1, y1, x2, y2) -> y: float [R, C, *pooled_shape].
    Corners, scaled, are rounded to whole pixels and belong to the region; a bin without pixels gives 0.
    dy/dx is 1 at the maximum, of several at the first. Source: ONNX operator spec; Girshick 2015.
    """
    shape = (rois.shape[0], x.shape[1], *pooled_shape)
    y, found = zeros_for(shape, x), np.zeros(shape, bool)
    for at, has in _readings(x, rois, pooled_shape, spatial_scale):
        y = np.where(has, np.where(found, np.maximum(y, x[at]), x[at]), y)
        found |= has
    return y


@max_roi_pool.vjp("x")
def _(ct: Array, x: Array, rois: Array, y: Array, pooled_shape: Ints, spatial_scale: float) -> Array:
    x_ct = np.zeros(x.shape, ct.dtype, like=ct)
    for at, won in _won(x, y, rois, pooled_shape, spatial_scale):
        np.add.at(x_ct, at, np.where(won, ct, ct.dtype.type(0)))
    return x_ct


@max_roi_pool.jvp("x")
def _(x_dot: Array, x: Array, rois: Array, y: Array, pooled_shape: Ints, spatial_scale: float) -> Array:
    y_dot = np.zeros(y.shape, x_dot.dtype, like=x_dot)
    for at, won in _won(x, y, rois, pooled_shape, spatial_scale):
        y_dot = y_dot + np.where(won, x_dot[at], x_dot.dtype.type(0))
    return y_dot


@max_roi_pool.infer
def _(x: TensorType, rois: TensorType, pooled_shape: Ints) -> Any:
    return TensorType(x.dtype, (rois.shape[0] if rois.shape else None, x.shape[1] if x.shape else None, *pooled_shape))


@max_roi_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.permutation(2 * 2 * 6 * 7).reshape(2, 2, 6, 7) / 7
    rois = np.array([[0, 1, 1, 4, 3], [1, 0, 2, 9, 5], [1, 3, 3, 3, 3]], float)
    yield (x, rois), {"pooled_shape": (2, 3)}
    yield (x, rois), {"pooled_shape": (2, 2), "spatial_scale": 0.6}
    yield (x, np.zeros((0, 5))), {"pooled_shape": (1, 1)}


OPS = (col2im, center_crop_pad, max_roi_pool)
