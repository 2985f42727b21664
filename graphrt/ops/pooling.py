"""Pooling over sliding windows: MaxPool, AveragePool, LpPool.

Each loops over kernel taps only; a tap is a pair of slices that leave the padding out (see `Window.taps`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import quiet
from graphrt.ops._windows import Window, wide, window, window_dims, zeros_for
from graphrt.types import TensorType

Ints: TypeAlias = tuple[int, ...]
LEAD = (slice(None), slice(None))  # batch and channel


def _window_over(
    x: Array,
    kernel: Ints,
    strides: Ints | None,
    dilations: Ints | None,
    pads: Ints | None,
    auto_pad: str,
    ceil_mode: int,
) -> Window:
    if x.ndim < 2:
        raise ValueError(f"x of rank {x.ndim}: pooling takes [batch, channels, *spatial]")
    return window(x.shape[2:], kernel, strides, dilations, pads, auto_pad, ceil_mode)


def _pooled_type(
    x: TensorType,
    kernel: Ints,
    strides: Ints | None,
    dilations: Ints | None,
    pads: Ints | None,
    auto_pad: str,
    ceil_mode: int,
) -> TensorType:
    if x.shape is None:
        return x
    spatial = window_dims(x.shape[2:], kernel, strides, dilations, pads, auto_pad, ceil_mode)
    return TensorType(x.dtype, (*x.shape[:2], *spatial))


def _sum_taps(x: Array, win: Window) -> Array:
    y = np.zeros((*x.shape[:2], *win.out), x.dtype, like=x)
    for _, at_out, at_in in win.taps():
        y[LEAD + at_out] += x[LEAD + at_in]
    return y


def _spread_taps(ct: Array, win: Window) -> Array:
    x = np.zeros((*ct.shape[:2], *win.size), ct.dtype, like=ct)
    for _, at_out, at_in in win.taps():
        x[LEAD + at_in] += ct[LEAD + at_out]
    return x


# ---- MaxPool ---------------------------------------------------------------------------------------------


@op("MaxPool", version=1, outputs=("y", "indices"))
def max_pool(
    x: Array, *, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...], pads: tuple[int, ...] | None = None, storage_order: int = 0,
    strides: tuple[int, ...] | None = None, n_outputs: int = 1,
) -> tuple[Array, Array | None]:  # fmt: skip
    """Largest element of each window, padding left out.

    x: float or 8-bit int [N, C, *S] -> y: [N, C, *O] of its dtype, indices: int64 [N, C, *O].
    ``indices`` are positions in x flattened row by row (``storage_order=1``: spatial axes column by column).
    dy/dx is 1 at the element that won. Ties: the first in row-major window order wins. NaN passes through
    (and takes no gradient). A window that sees padding only gives the lowest value.
    Source: ONNX operator spec.
    """
    win = _window_over(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    y = np.zeros((*x.shape[:2], *win.out), x.dtype, like=x)
    y[...] = -np.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
    for _, at_out, at_in in win.taps():
        y[LEAD + at_out] = np.maximum(y[LEAD + at_out], x[LEAD + at_in])
    return y, _winning_indices(x, y, win, storage_order) if n_outputs > 1 else None


def _winners(x: Array, y: Array, win: Window) -> Iterator[tuple[tuple[slice, ...], tuple[slice, ...], Array]]:
    """Per tap: output slices, input slices, and where this tap is the first that equals the maximum."""
    free = np.ones(y.shape, bool)
    for _, at_out, at_in in win.taps():
        to, source = LEAD + at_out, LEAD + at_in
        won = (x[source] == y[to]) & free[to]
        free[to] &= ~won
        yield to, source, won


def _winning_indices(x: Array, y: Array, win: Window, storage_order: int) -> Array:
    per_image = np.arange(math.prod(win.size)).reshape(win.size, order="F" if storage_order else "C")
    image = np.arange(x.shape[0] * x.shape[1]).reshape(*x.shape[:2], *(1,) * len(win.size))
    flat = np.zeros(y.shape, np.int64)
    for at_out, at_in, won in _winners(x, y, win):
        flat[at_out] = np.where(won, image * per_image.size + per_image[at_in[2:]], flat[at_out])
    return flat


@max_pool.vjp("x")
def _(
    ct: Array, x: Array, y: Array, auto_pad: str, ceil_mode: int, dilations: Ints | None, kernel_shape: Ints,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _window_over(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    x_ct = np.zeros(x.shape, ct.dtype, like=ct)
    for at_out, at_in, won in _winners(x, y, win):
        x_ct[at_in] += np.where(won, ct[at_out], ct.dtype.type(0))
    return x_ct


@max_pool.jvp("x")
def _(
    x_dot: Array, x: Array, y: Array, auto_pad: str, ceil_mode: int, dilations: Ints | None, kernel_shape: Ints,
    pads: Ints | None, strides: Ints | None,
) -> Any:  # fmt: skip
    win = _window_over(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    y_dot = np.zeros(y.shape, x_dot.dtype, like=x_dot)
    for at_out, at_in, won in _winners(x, y, win):
        y_dot[at_out] += np.where(won, x_dot[at_in], x_dot.dtype.type(0))
    return y_dot, None


@max_pool.infer
def _(
    x: TensorType, auto_pad: str, ceil_mode: int, dilations: Ints | None, kernel_shape: Ints, pads: Ints | None,
    strides: Ints | None, n_outputs: int,
) -> Any:  # fmt: skip
    y = _pooled_type(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    return (y, TensorType("int64", y.shape))[: max(n_outputs, 1)]


@max_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:  # all different, so that finite differences see no tie
        return rng.permutation(int(np.prod(shape))).reshape(shape) / 7 - 3

    yield (draw(2, 3, 5, 6),), {"kernel_shape": (2, 3)}
    yield (draw(2, 2, 7, 6),), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 0, 1, 2), "storage_order": 1}
    yield (draw(1, 2, 9),), {"kernel_shape": (3,), "dilations": (2,), "strides": (3,), "ceil_mode": 1}
    yield (draw(1, 2, 4, 5, 3),), {"kernel_shape": (2, 2, 2), "strides": (2, 2, 1), "auto_pad": "SAME_UPPER"}
    yield (draw(1, 2, 5, 5),), {"kernel_shape": (2, 4), "auto_pad": "SAME_LOWER"}
    yield (draw(1, 2, 5, 5),), {"kernel_shape": (2, 4), "auto_pad": "VALID"}
    yield (draw(0, 2, 5, 5),), {"kernel_shape": (2, 2)}
    yield (rng.integers(-128, 127, (1, 2, 5, 5)).astype(np.int8),), {"kernel_shape": (3, 2), "pads": (1, 1, 1, 1)}


# ---- AveragePool -----------------------------------------------------------------------------------------


def _counts(win: Window, include_pad: int, dtype: Any) -> Array:
    """How many elements each window averages, [*out]; 1 where there are none."""
    per_axis = win.counts(bool(include_pad))
    return np.maximum(functools.reduce(np.multiply.outer, per_axis, np.ones((), np.int64)), 1).astype(dtype)


@op("AveragePool", version=1, linear="x")
def average_pool(
    x: Array, *, auto_pad: str = "NOTSET", ceil_mode: int = 0, count_include_pad: int = 0,
    dilations: tuple[int, ...] | None = None, kernel_shape: tuple[int, ...], pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Mean of each window.

    x: float [N, C, *S] -> y: float [N, C, *O]. The sum over a window is divided by the number of elements in
    it that lie in x, or with ``count_include_pad`` in x or its padding (never past the padding, where
    ``ceil_mode`` lets the last window reach). The derivative spreads ct / count over the window.
    Source: ONNX operator spec.
    """
    with quiet():
        win = _window_over(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        wide_x = wide(x)
        return (_sum_taps(wide_x, win) / _counts(win, count_include_pad, wide_x.dtype)).astype(x.dtype, copy=False)


@average_pool.vjp("x")
def _(
    ct: Array, x_like: Array, auto_pad: str, ceil_mode: int, count_include_pad: int, dilations: Ints | None,
    kernel_shape: Ints, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _window_over(x_like, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        wide_ct = wide(ct)
        return _spread_taps(wide_ct / _counts(win, count_include_pad, wide_ct.dtype), win).astype(ct.dtype, copy=False)


@average_pool.infer
def _(
    x: TensorType, auto_pad: str, ceil_mode: int, dilations: Ints | None, kernel_shape: Ints, pads: Ints | None,
    strides: Ints | None,
) -> Any:  # fmt: skip
    return _pooled_type(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)


@average_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 5, 6)),), {"kernel_shape": (2, 3)}
    for include in (0, 1):
        more = {"strides": (3, 2), "pads": (1, 0, 1, 2), "count_include_pad": include, "ceil_mode": 1}
        yield (rng.normal(size=(2, 2, 7, 6)),), {"kernel_shape": (3, 3), **more}
    yield (rng.normal(size=(1, 2, 9)),), {"kernel_shape": (3,), "dilations": (2,), "strides": (2,)}
    yield (rng.normal(size=(1, 2, 4, 5, 3)),), {"kernel_shape": (2, 2, 2), "auto_pad": "SAME_UPPER"}
    yield (rng.normal(size=(1, 2, 5, 5)),), {"kernel_shape": (2, 4), "auto_pad": "SAME_LOWER"}
    yield (rng.normal(size=(1, 2, 5, 5)),), {"kernel_shape": (2, 4), "auto_pad": "VALID"}
    yield (rng.normal(size=(0, 2, 5, 5)),), {"kernel_shape": (2, 2)}


# ---- LpPool ----------------------------------------------------------------------------------------------


def lp_weight(x: Array, y: Array, p: float) -> Array:
    """dy/dx of an Lp norm y that x takes part in: sign(x) (|x|/y)^(p-1); 0 where y is 0."""
    ratio = np.abs(x) / np.where(y > 0, y, y.dtype.type(1))
    return np.sign(x) * ratio ** (p - 1)


@op("LpPool", version=2)
def lp_pool(
    x: Array, *, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...], p: int = 2, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Lp norm of each window: (sum |x|^p)^(1/p), padding counting as 0.

    x: float [N, C, *S] -> y: float [N, C, *O]. The largest magnitude of a window is taken out before the power,
    so nothing overflows that need not. dy/dx = sign(x) (|x|/y)^(p-1); 0 where the norm is 0.
    Source: ONNX operator spec.
    """
    with quiet():
        win = _window_over(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        size = np.abs(wide(x))
        top = np.zeros((*x.shape[:2], *win.out), size.dtype, like=size)
        for _, at_out, at_in in win.taps():
            top[LEAD + at_out] = np.maximum(top[LEAD + at_out], size[LEAD + at_in])
        scale = np.where(top > 0, top, top.dtype.type(1))
        total = np.zeros(top.shape, size.dtype, like=size)
        for _, at_out, at_in in win.taps():
            total[LEAD + at_out] += (size[LEAD + at_in] / scale[LEAD + at_out]) ** p
        return (top * np.where(top > 0, total, total.dtype.type(1)) ** (1 / p)).astype(x.dtype, copy=False)


@lp_pool.vjp("x")
def _(
    ct: Array, x: Array, y: Array, auto_pad: str, ceil_mode: int, dilations: Ints | None, kernel_shape: Ints, p: int,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _window_over(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        x_ct = zeros_for(x.shape, ct, x)
        for _, at_out, at_in in win.taps():
            x_ct[LEAD + at_in] += ct[LEAD + at_out] * lp_weight(x[LEAD + at_in], y[LEAD + at_out], p)
        return x_ct


@lp_pool.jvp("x")
def _(
    x_dot: Array, x: Array, y: Array, auto_pad: str, ceil_mode: int, dilations: Ints | None, kernel_shape: Ints,
    p: int, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _window_over(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
        y_dot = zeros_for(y.shape, x_dot, x)
        for _, at_out, at_in in win.taps():
            y_dot[LEAD + at_out] += x_dot[LEAD + at_in] * lp_weight(x[LEAD + at_in], y[LEAD + at_out], p)
        return y_dot


@lp_pool.infer
def _(
    x: TensorType, auto_pad: str, ceil_mode: int, dilations: Ints | None, kernel_shape: Ints, pads: Ints | None,
    strides: Ints | None,
) -> Any:  # fmt: skip
    return _pooled_type(x, kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)


@lp_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.uniform(0.3, 2, shape) * rng.choice([-1.0, 1.0], shape)

    yield (draw(2, 3, 5, 6),), {"kernel_shape": (2, 3)}
    yield (draw(2, 2, 7, 6),), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 0, 1, 2), "p": 3, "ceil_mode": 1}
    yield (draw(1, 2, 9),), {"kernel_shape": (3,), "dilations": (2,), "strides": (2,), "p": 1}
    yield (draw(1, 2, 4, 5),), {"kernel_shape": (2, 2), "auto_pad": "SAME_UPPER", "p": 4}
    yield (draw(1, 2, 4, 5),), {"kernel_shape": (2, 2), "auto_pad": "SAME_LOWER"}
    yield (draw(0, 2, 5, 5),), {"kernel_shape": (2, 2)}


OPS = (max_pool, average_pool, lp_pool)
