"""What convolution and its transpose are made of: three linear maps on columns.

A column holds what one output position reads, one row per channel and kernel tap; columns of the whole batch lie
side by side. The maps are: gather columns and multiply by the weights; multiply by the transposed weights and scatter
back; and the outer product that is the weights' cotangent. One matrix product per group does the work.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.ops._windows import Window, wide

ALL: Any = slice(None)


def columns(x: Array, win: Window) -> Array:
    """Gathers windows: x [N, C, *size] -> [C, n_taps, N, *out], zeros where a tap reads padding."""
    channels_first = np.swapaxes(x, 0, 1)
    if win.is_pointwise:
        return channels_first[:, None]
    cols = np.zeros((x.shape[1], win.n_taps, x.shape[0], *win.out), x.dtype, like=x)
    for t, at_out, at_in in win.taps():
        cols[(ALL, t, ALL, *at_out)] = channels_first[(ALL, ALL, *at_in)]
    return cols


def scatter_columns(cols: Array, win: Window) -> Array:
    """The adjoint of `columns`: [C, n_taps, N, *out] -> [N, C, *size], summing what windows share."""
    if win.is_pointwise:
        return np.swapaxes(cols[:, 0], 0, 1)
    x = np.zeros((cols.shape[0], cols.shape[2], *win.size), cols.dtype, like=cols)
    for t, at_out, at_in in win.taps():
        x[(ALL, ALL, *at_in)] += cols[(ALL, t, ALL, *at_out)]
    return np.swapaxes(x, 0, 1)


def correlate(x: Array, w: Array, win: Window, group: int) -> Array:
    """x [N, C, *size], w [M, C/group, *kernel] -> [N, M, *out]."""
    dtype = np.result_type(x.dtype, w.dtype)
    cols = columns(wide(x), win).reshape(group, _row_count(w), x.shape[0] * math.prod(win.out))
    y = np.matmul(_weight_rows(wide(w), group), cols).astype(dtype, copy=False)
    return np.swapaxes(y.reshape(w.shape[0], x.shape[0], *win.out), 0, 1)


def correlate_x_adjoint(ct: Array, w: Array, win: Window, group: int) -> Array:
    """ct [N, M, *out], w [M, C/group, *kernel] -> [N, C, *size]."""
    dtype, n = np.result_type(ct.dtype, w.dtype), ct.shape[0]
    rows = np.swapaxes(_weight_rows(wide(w), group), 1, 2)
    cols = np.matmul(rows, _output_rows(wide(ct), group))
    cols = cols.reshape(group * w.shape[1], win.n_taps, n, *win.out)
    return scatter_columns(cols, win).astype(dtype, copy=False)


def correlate_w_adjoint(ct: Array, x: Array, win: Window, group: int) -> Array:
    """ct [N, M, *out], x [N, C, *size] -> [M, C/group, *kernel]."""
    dtype, per_group = np.result_type(ct.dtype, x.dtype), x.shape[1] // group
    positions = x.shape[0] * math.prod(win.out)
    cols = columns(wide(x), win).reshape(group, per_group * win.n_taps, positions)
    w = np.matmul(_output_rows(wide(ct), group), np.swapaxes(cols, 1, 2))
    return w.reshape(ct.shape[1], per_group, *win.kernel).astype(dtype, copy=False)


def _row_count(w: Array) -> int:
    return math.prod(w.shape[1:])


def _weight_rows(w: Array, group: int) -> Array:
    return w.reshape(group, w.shape[0] // group, _row_count(w))


def _output_rows(y: Array, group: int) -> Array:
    n, m = y.shape[:2]
    return np.swapaxes(y, 0, 1).reshape(group, m // group, n * math.prod(y.shape[2:]))


def add_bias(y: Array, b: Array | None) -> Array:
    """y [N, M, *out] plus b [M] per channel."""
    return y if b is None else y + b.reshape(-1, *(1,) * (y.ndim - 2))


def sum_to_channels(ct: Array) -> Array:
    """[N, M, *out] -> [M]: the adjoint of adding a bias."""
    return np.sum(ct, axis=(0, *range(2, ct.ndim)), dtype=ct.dtype)


def spread_channels(b_dot: Array, y_like: Array) -> Array:
    """b_dot [M] in the shape of y [N, M, *out]."""
    return np.broadcast_to(b_dot.reshape(-1, *(1,) * (y_like.ndim - 2)), y_like.shape)
