"""The loops of `graphrt_numba.normalization`."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, local, reduction

Array = Any
Number = Any


@reduction
def layer(
    first: int, last: int, columns: int, is_centered: bool, epsilon: Number,
    x: Array, scale: Array, b: Array, y: Array, means: Array, inverses: Array,
) -> None:  # fmt: skip
    """y = (x - mean) inv scale + b for rows of x; not centered, the mean is 0."""
    for r in range(first, last):
        row, out = x[r * columns : (r + 1) * columns], y[r * columns : (r + 1) * columns]
        total, squares = np.float32(0), np.float32(0)
        if is_centered:
            for i in range(columns):
                total += row[i]
        mean = total / np.float32(columns)
        for i in range(columns):
            squares += (row[i] - mean) * (row[i] - mean)
        inv = np.float32(1) / sqrt(squares / np.float32(columns) + epsilon)
        for i in range(columns):
            out[i] = (row[i] - mean) * inv * scale[i] + b[i]
        means[r], inverses[r] = mean, inv


@reduction
def layer_cotangents(
    first: int, last: int, columns: int, is_centered: bool, epsilon: Number,
    ct: Array, mean_ct: Array, inv_ct: Array, x: Array, scale: Array, x_ct: Array, scale_ct: Array,
) -> None:  # fmt: skip
    """x_ct = inv (v - <v> - xhat <v xhat>) with v = ct scale, without <v> if not centered; scale_ct = sum of ct xhat.

    ``mean_ct`` and ``inv_ct``, with an element for each row or none, are the cotangents of the statistics.
    """
    block = local(x, 1)
    for i in range(columns):
        scale_ct[i] = np.float32(0)
    for r in range(first, last):
        row, back = x[r * columns : (r + 1) * columns], ct[r * columns : (r + 1) * columns]
        total, squares = np.float32(0), np.float32(0)
        if is_centered:
            for i in range(columns):
                total += row[i]
        mean = total / np.float32(columns)
        for i in range(columns):
            squares += (row[i] - mean) * (row[i] - mean)
        inv = np.float32(1) / sqrt(squares / np.float32(columns) + epsilon)
        along, shift = np.float32(0), np.float32(0)
        for i in range(columns):
            product = back[i] * ((row[i] - mean) * inv)
            scale_ct[i] += product
            along += product * scale[i]
            shift += back[i] * scale[i]
        if not is_centered:
            shift = np.float32(0)
        if mean_ct.size:
            shift -= mean_ct[r] / inv
        if inv_ct.size:
            along += inv_ct[r] * inv
        along /= np.float32(columns)
        shift /= np.float32(columns)
        for start in range(0, columns, LOCAL):
            stop = min(start + LOCAL, columns)
            row_, back_, scale_ = row[start:stop], back[start:stop], scale[start:stop]
            out = x_ct[r * columns + start : r * columns + stop]
            for i in range(stop - start):
                block[i] = inv * (back_[i] * scale_[i] - shift - (row_[i] - mean) * inv * along)
            for i in range(stop - start):
                out[i] = block[i]
