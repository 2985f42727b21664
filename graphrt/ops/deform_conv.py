"""Deformable convolution: every kernel tap reads at a learned offset, weighted by a learned mask."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._interpolation import Corner, corners, gather, scatter, zeros_outside
from graphrt.ops._math import quiet
from graphrt.ops._windows import Window, wide, window, window_dims, zeros_for
from graphrt.types import TensorType

Ints: TypeAlias = tuple[int, ...]


class Sampled(NamedTuple):
    """The read positions: one image per (example, offset group) and T*O positions in it."""

    win: Window
    corners: list[Corner]
    images: Array  # [N*OG, C/OG, pixels]
    mask: Array | None  # [N, OG, 1, T, O]


def _sample(
    x: Array, w: Array, offset: Array, mask: Array | None, dilations: Ints | None, group: int,
    kernel_shape: Ints | None, offset_group: int, pads: Ints | None, strides: Ints | None,
) -> Sampled:  # fmt: skip
    n, c, r = x.shape[0], x.shape[1], x.ndim - 2
    if c != w.shape[1] * group or w.shape[0] % group or c % offset_group:
        raise ValueError(f"x {x.shape}, w {w.shape}, group {group} and offset_group {offset_group} do not fit together")
    if kernel_shape and tuple(kernel_shape) != tuple(w.shape[2:]):
        raise ValueError(f"kernel_shape {tuple(kernel_shape)} is not that of w {w.shape}")
    win = window(x.shape[2:], w.shape[2:], strides, dilations, pads)
    taps, out = win.n_taps, math.prod(win.out)
    if offset.shape != (n, offset_group * taps * r, *win.out):
        raise ValueError(f"offset has shape {offset.shape}, expected {(n, offset_group * taps * r, *win.out)}")
    if mask is not None and mask.shape != (n, offset_group * taps, *win.out):
        raise ValueError(f"mask has shape {mask.shape}, expected {(n, offset_group * taps, *win.out)}")
    moved = wide(offset).reshape(n * offset_group, taps, r, out) + _regular(win, wide(offset).dtype)
    positions = np.moveaxis(moved, 2, -1).reshape(n * offset_group, taps * out, r)
    images = wide(x).reshape(n * offset_group, c // offset_group, math.prod(x.shape[2:]))
    mask = None if mask is None else wide(mask).reshape(n, offset_group, 1, taps, out)
    return Sampled(win, list(corners(positions, win.size, "linear", zeros_outside)), images, mask)


def _regular(win: Window, dtype: Any) -> Array:
    """Where the taps lie without offsets: [taps, axes, outputs]."""
    starts = [np.arange(o) * s - b for o, s, b in zip(win.out, win.strides, win.begin, strict=True)]
    shifts = [np.arange(k) * d for k, d in zip(win.kernel, win.dilations, strict=True)]
    start = np.stack([m.reshape(-1) for m in np.meshgrid(*starts, indexing="ij")])
    shift = np.stack([m.reshape(-1) for m in np.meshgrid(*shifts, indexing="ij")])
    return (shift.T[:, :, None] + start).astype(dtype)


def _read(images: Array, points: list[Corner]) -> Array:
    parts = (gather(images, p.index) * p.weight[:, None] for p in points)
    return sum(parts, next(parts))


def _multiply(w: Array, cols: Array, s: Sampled, n: int, group: int, dtype: Any) -> Array:
    """Sampled columns [N*OG, C/OG, T*O] to the output [N, M, *out]; ``cols`` are masked already."""
    rows = w.shape[1] * s.win.n_taps
    cols = cols.reshape(n, group, rows, math.prod(s.win.out))
    y = np.matmul(wide(w).reshape(group, w.shape[0] // group, rows), cols)
    return y.reshape(n, w.shape[0], *s.win.out).astype(dtype, copy=False)


def _masked(cols: Array, mask: Array | None) -> Array:
    """Columns [N*OG, C/OG, T*O] times the mask."""
    if mask is None:
        return cols
    n, og, _, taps, out = mask.shape
    return (cols.reshape(n, og, cols.shape[1], taps, out) * mask).reshape(cols.shape)


@op("DeformConv", version=19)
def deform_conv(
    x: Array, w: Array, offset: Array, b: Array = None, mask: Array = None, *, dilations: tuple[int, ...] | None = None,
    group: int = 1, kernel_shape: tuple[int, ...] | None = None, offset_group: int = 1,
    pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Convolution whose taps read at moved positions, by linear interpolation, zero outside x.

    x: float [N, C, *S], w: float [M, C/group, *K], offset: float [N, OG*T*r, *O] (T taps, r axes, OG offset groups of
    channels), b: float [M], mask: float [N, OG*T, *O] -> y: float [N, M, *O].
    y[n, m, o] = b[m] + sum over c, t of w[m, c, t] mask[n, t, o] x(n, c, p + offset[n, t, o]) with
    p = o*stride - pad + t*dilation.
    The derivative for offset is the slope of the interpolation (at a grid point, that to its right).
    Source: ONNX operator spec; Dai et al. 2017, Zhu et al. 2018.
    """
    with quiet():
        s = _sample(x, w, offset, mask, dilations, group, kernel_shape, offset_group, pads, strides)
        y = _multiply(w, _masked(_read(s.images, s.corners), s.mask), s, x.shape[0], group, x.dtype)
        return y if b is None else y + b.reshape(-1, *(1,) * (x.ndim - 2))


@deform_conv.vjp("x", "w", "offset", "mask")
def _(
    ct: Array, x: Array, w: Array, offset: Array, mask: Array | None, dilations: Ints | None, group: int,
    kernel_shape: Ints | None, offset_group: int, pads: Ints | None, strides: Ints | None,
) -> Any:  # fmt: skip
    with quiet():
        s = _sample(x, w, offset, mask, dilations, group, kernel_shape, offset_group, pads, strides)
        n, r, taps, out = x.shape[0], x.ndim - 2, s.win.n_taps, math.prod(s.win.out)
        rows = w.shape[1] * taps
        ct_rows = wide(ct).reshape(n, group, w.shape[0] // group, out)
        read = _read(s.images, s.corners)
        cols = _masked(read, s.mask).reshape(n, group, rows, out)
        w_ct = np.sum(np.matmul(ct_rows, np.swapaxes(cols, 2, 3)), axis=0).reshape(w.shape)
        w_rows = np.swapaxes(wide(w).reshape(group, w.shape[0] // group, rows), 1, 2)
        cols_ct = np.matmul(w_rows, ct_rows).reshape(read.shape)
        mask_ct = None
        if mask is not None:
            by_tap = (cols_ct * read).reshape(n, offset_group, read.shape[1], taps, out)
            mask_ct = np.sum(by_tap, axis=2).reshape(mask.shape).astype(mask.dtype, copy=False)
        read_ct = _masked(cols_ct, s.mask)
        x_ct = zeros_for(s.images.shape, read_ct, s.corners[0].weights[0])
        for p in s.corners:
            scatter(x_ct, p.index, read_ct * p.weight[:, None])
        along = [np.sum(read_ct * gather(s.images, p.index), axis=1) for p in s.corners]
        axes = [sum(a * p.slope(axis) for a, p in zip(along, s.corners, strict=True)) for axis in range(r)]
        offset_ct = np.stack([a.reshape(n * offset_group, taps, out) for a in axes], axis=2).reshape(offset.shape)
        return (
            x_ct.reshape(x.shape).astype(x.dtype, copy=False), w_ct.astype(w.dtype, copy=False),
            offset_ct.astype(offset.dtype, copy=False), mask_ct,
        )  # fmt: skip


@deform_conv.vjp("b")
def _(ct: Array) -> Array:
    with quiet():
        return np.sum(ct, axis=(0, *range(2, ct.ndim)), dtype=ct.dtype)


@deform_conv.jvp("x", "w", "offset", "mask")
def _(
    x_dot: Array | None, w_dot: Array | None, offset_dot: Array | None, mask_dot: Array | None, x: Array, w: Array,
    offset: Array, mask: Array | None, dilations: Ints | None, group: int,
    kernel_shape: Ints | None, offset_group: int, pads: Ints | None, strides: Ints | None,
) -> Any:  # fmt: skip
    with quiet():
        s = _sample(x, w, offset, mask, dilations, group, kernel_shape, offset_group, pads, strides)
        n, r, taps, out = x.shape[0], x.ndim - 2, s.win.n_taps, math.prod(s.win.out)
        read = _read(s.images, s.corners)
        cols_dot = np.zeros(read.shape, read.dtype)
        if x_dot is not None:
            cols_dot = cols_dot + _masked(_read(wide(x_dot).reshape(s.images.shape), s.corners), s.mask)
        if offset_dot is not None:
            p_dot = np.moveaxis(wide(offset_dot).reshape(n * offset_group, taps, r, out), 2, 0).reshape(
                r, -1, taps * out
            )
            moved = sum(
                gather(s.images, p.index) * sum(p.slope(a) * p_dot[a] for a in range(r))[:, None] for p in s.corners
            )
            cols_dot = cols_dot + _masked(moved, s.mask)
        if mask_dot is not None:
            cols_dot = cols_dot + _masked(read, wide(mask_dot).reshape(n, offset_group, 1, taps, out))
        y_dot = _multiply(w, cols_dot, s, n, group, x.dtype)
        return y_dot if w_dot is None else y_dot + _multiply(w_dot, _masked(read, s.mask), s, n, group, x.dtype)


@deform_conv.jvp("b")
def _(b_dot: Array, y_like: Array) -> Array:
    with quiet():
        return np.broadcast_to(b_dot.reshape(-1, *(1,) * (y_like.ndim - 2)), y_like.shape)


@deform_conv.infer
def _(
    x: TensorType, w: TensorType, offset: TensorType, dilations: Ints | None, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Any:  # fmt: skip
    if x.shape is None:
        return TensorType(x.dtype)
    r = len(x.shape) - 2
    kernel = kernel_shape or ((None,) * r if w.shape is None else w.shape[2:])
    spatial = window_dims(x.shape[2:], kernel, strides, dilations, pads)
    if offset.shape is not None:
        spatial = tuple(o if s is None else s for s, o in zip(spatial, offset.shape[2:], strict=True))
    return TensorType(x.dtype, (x.shape[0], None if w.shape is None else w.shape[0], *spatial))


@deform_conv.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    yield (draw(2, 2, 4, 5), draw(3, 2, 2, 3), draw(2, 12, 3, 3), draw(3), draw(2, 6, 3, 3)), {}
    more = {"group": 2, "offset_group": 2, "pads": (1, 0, 1, 1), "strides": (2, 2), "dilations": (2, 1)}
    args = draw(1, 4, 5, 5), draw(4, 2, 2, 2), draw(1, 16, 3, 3), None, draw(1, 8, 3, 3)
    yield args, {"kernel_shape": (2, 2), **more}
    yield (draw(1, 2, 6), draw(2, 2, 3), draw(1, 3, 4)), {}
    yield (draw(1, 2, 3, 3, 3), draw(1, 2, 2, 2, 2), draw(1, 24, 2, 2, 2)), {}
    yield (draw(0, 2, 4, 4), draw(3, 2, 2, 2), draw(0, 8, 3, 3)), {}


OPS = (deform_conv,)
