"""The loops of `graphrt_numba.batch_normalization`, channel by channel of arrays [count, channels, size]."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, inline, local, loop, reduction

Array = Any
Number = Any
ZERO: Number = 0.0


@reduction
def normalize(
    first: int, last: int, count: int, channels: int, size: int, epsilon: Number,
    x: Array, scale: Array, b: Array, y: Array, means: Array, variances: Array,
) -> None:  # fmt: skip
    """y = (x - mean) / sqrt(variance + epsilon) scale + b with each channel's own statistics, which are written too."""
    block = local(x, 1)
    for c in range(first, last):
        mean, squares = ZERO, ZERO
        for n in range(count):
            row = x[(n * channels + c) * size : (n * channels + c + 1) * size]
            total, around = np.float32(0), np.float32(0)
            for i in range(size):
                total += row[i]
            middle = total / np.float32(size)
            for i in range(size):
                around += (row[i] - middle) * (row[i] - middle)
            mean, squares = _joined(n, size, mean, squares, middle, around)
        means[c], variances[c] = mean, squares / (count * size)
        factor = np.float32(scale[c] / sqrt(variances[c] + epsilon))
        _scale(c, count, channels, size, np.float32(mean), factor, b[c], x, y, block)


@loop
def scale(
    first: int, last: int, count: int, channels: int, size: int, epsilon: Number,
    x: Array, scale: Array, b: Array, means: Array, variances: Array, y: Array,
) -> None:  # fmt: skip
    """y = (x - mean) / sqrt(variance + epsilon) scale + b with given statistics."""
    block = local(x, 1)
    for c in range(first, last):
        factor = np.float32(scale[c] / sqrt(variances[c] + epsilon))
        _scale(c, count, channels, size, means[c], factor, b[c], x, y, block)


@reduction
def cotangents(
    first: int, last: int, count: int, channels: int, size: int, epsilon: Number,
    ct: Array, mean_ct: Array, var_ct: Array, x: Array, scale: Array, x_ct: Array, scale_ct: Array, b_ct: Array,
) -> None:  # fmt: skip
    """x_ct = scale inv (ct - <ct> - xhat <ct xhat>), scale_ct = sum(ct xhat), b_ct = sum(ct).

    ``mean_ct`` and ``var_ct``, with an element for each channel or none, are the cotangents of the statistics.
    """
    block = local(x, 1)
    for c in range(first, last):
        mean, squares, sum_ct, sum_product, sum_shifted = ZERO, ZERO, ZERO, ZERO, ZERO
        for n in range(count):
            row = x[(n * channels + c) * size : (n * channels + c + 1) * size]
            back = ct[(n * channels + c) * size : (n * channels + c + 1) * size]
            total, total_ct, around, product = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
            for i in range(size):
                total += row[i]
                total_ct += back[i]
            middle = total / np.float32(size)
            for i in range(size):
                around += (row[i] - middle) * (row[i] - middle)
                product += back[i] * (row[i] - middle)
            mean, squares = _joined(n, size, mean, squares, middle, around)
            sum_ct += total_ct
            sum_product += product
            sum_shifted += np.float64(middle) * total_ct
        inv = 1.0 / sqrt(squares / (count * size) + epsilon)
        along = (sum_product + sum_shifted - mean * sum_ct) * inv
        scale_ct[c], b_ct[c] = along, sum_ct
        slope, shift = -scale[c] * inv * inv * along, -scale[c] * inv * sum_ct
        if mean_ct.size:
            shift += mean_ct[c]
        if var_ct.size:
            slope += 2 * var_ct[c]
        middle, factor = np.float32(mean), np.float32(scale[c] * inv)
        tilt, rise = np.float32(slope / (count * size)), np.float32(shift / (count * size))
        for n in range(count):
            for start in range(0, size, LOCAL):
                stop = min(start + LOCAL, size)
                at = (n * channels + c) * size
                row, back, out = x[at + start : at + stop], ct[at + start : at + stop], x_ct[at + start : at + stop]
                for i in range(stop - start):
                    block[i] = back[i] * factor + (row[i] - middle) * tilt + rise
                for i in range(stop - start):
                    out[i] = block[i]


@inline
def _joined(n: int, size: int, mean: Number, squares: Number, middle: Number, around: Number) -> tuple[Number, Number]:
    """Mean and sum of squares around it of n + 1 rows, from those of n rows and of one more."""
    away = np.float64(middle) - mean
    return mean + away / (n + 1), squares + np.float64(around) + away * away * size * n / (n + 1)


@inline
def _scale(
    c: int, count: int, channels: int, size: int, mean: Number, factor: Number, shift: Number,
    x: Array, y: Array, block: Array,
) -> None:  # fmt: skip
    """y = (x - mean) factor + shift for one channel."""
    for n in range(count):
        for start in range(0, size, LOCAL):
            stop = min(start + LOCAL, size)
            at = (n * channels + c) * size
            row, out = x[at + start : at + stop], y[at + start : at + stop]
            for i in range(stop - start):
                block[i] = (row[i] - mean) * factor + shift
            for i in range(stop - start):
                out[i] = block[i]
