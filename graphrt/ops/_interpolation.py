"""Interpolation at arbitrary positions, shared by GridSample and DeformConv.

A position between grid points mixes the points around it, its corners. `corners` yields one flat index and one
weight per corner for all positions at once, and the slope of that weight along each axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from graphrt.op import Array

_FAR = 2.0**40  # positions beyond are as good as this one, and still fit an index


class Corner(NamedTuple):
    """One corner of every position: ``index`` [B, P] into the flattened image, ``weights`` and ``slopes`` per axis."""

    index: Array
    weights: tuple[Array, ...]
    slopes: tuple[Array, ...]

    @property
    def weight(self) -> Array:
        """The corner's weight, [B, P]."""
        return math.prod(self.weights[1:], start=self.weights[0])

    def slope(self, axis: int) -> Array:
        """d weight / d position along one axis, [B, P]."""
        return math.prod((w for i, w in enumerate(self.weights) if i != axis), start=self.slopes[axis])


def _keys_cubic(t: Array, a: float = -0.75) -> tuple[Array, Array]:
    """Keys' cubic kernel at distance t, and its derivative."""
    s, t = np.sign(t), np.abs(t)
    near = t <= 1
    value = np.where(near, ((a + 2) * t - (a + 3)) * t * t + 1, ((a * t - 5 * a) * t + 8 * a) * t - 4 * a)
    slope = np.where(near, (3 * (a + 2) * t - 2 * (a + 3)) * t, (3 * a * t - 10 * a) * t + 8 * a)
    return value, s * slope


def _axis_taps(p: Array, mode: str) -> list[tuple[Array, Array, Array]]:
    """(index, weight, slope) of each tap along one axis; indices may lie outside."""
    finite = np.clip(np.where(np.isnan(p), p.dtype.type(-_FAR), p), -_FAR, _FAR)
    if mode == "nearest":
        return [(np.rint(finite).astype(np.int64), np.ones(p.shape, p.dtype), np.zeros(p.shape, p.dtype))]
    low = np.floor(finite).astype(np.int64)
    away = finite - low.astype(p.dtype)
    if mode == "linear":
        one = np.ones(p.shape, p.dtype)
        return [(low, 1 - away, -one), (low + 1, away, one)]
    return [(low + k, *_keys_cubic(away - k)) for k in (-1, 0, 1, 2)]


def corners(
    positions: Array, sizes: Sequence[int], mode: str, resolve: Callable[[Array, int], tuple[Array, Array | None]]
) -> Iterator[Corner]:
    """Yields every corner of positions [B, P, axes] in an image of the given spatial sizes.

    ``resolve(index, size)`` brings indices inside and says which count (None: all).
    """
    axes = []
    for a, n in enumerate(sizes):
        taps = []
        for index, weight, slope in _axis_taps(positions[..., a], mode):
            inside, counts = resolve(index, n)
            if counts is not None:
                zero = weight.dtype.type(0)
                weight, slope = np.where(counts, weight, zero), np.where(counts, slope, zero)
            taps.append((inside, weight, slope))
        axes.append(taps)
    for corner in product(*axes):
        flat = 0
        for (index, _, _), n in zip(corner, sizes, strict=True):
            flat = flat * n + index
        yield Corner(flat, tuple(t[1] for t in corner), tuple(t[2] for t in corner))


def zeros_outside(index: Array, n: int) -> tuple[Array, Array]:
    """Outside the image there are zeros."""
    return np.clip(index, 0, n - 1), (index >= 0) & (index < n)


def gather(x: Array, index: Array) -> Array:
    """x [B, C, L] at index [B, P] -> [B, C, P]."""
    b, c = x.shape[:2]
    return x[np.arange(b)[:, None, None], np.arange(c)[:, None], index[:, None]]


def scatter(total: Array, index: Array, part: Array) -> None:
    """Adds part [B, C, P] into total [B, C, L] at index [B, P]: the adjoint of `gather`."""
    b, c = total.shape[:2]
    np.add.at(total, (np.arange(b)[:, None, None], np.arange(c)[:, None], index[:, None]), part)
