"""A kernel of one element: matrix products on the images as they lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels._correlation import Correlation


def forward(c: Correlation) -> Callable[..., Array]:
    """x [N, C, H, W], w [M, C/group, 1, 1], b [M] or None -> y [N, M, *out]."""
    picked = _picked(c)
    inside, outside = c.per_group

    def correlate(x: Array, w: Array, b: Array | None = None) -> Array:
        images = x[picked].reshape(c.n, c.group, inside, -1)
        y = np.matmul(w.reshape(c.group, outside, inside), images)
        if b is not None:
            y += b.reshape(c.group, outside, 1)
        return y.reshape(c.y_shape)

    return correlate


def x_adjoint(c: Correlation) -> Callable[..., Array]:
    """ct [N, M, *out], w [M, C/group, 1, 1] -> [N, C, H, W]."""
    picked = _picked(c)
    inside, outside = c.per_group
    strided = set(c.win.strides) != {1}

    def correlate(ct: Array, w: Array) -> Array:
        rows = ct.reshape(c.n, c.group, outside, -1)
        found = np.matmul(w.reshape(c.group, outside, inside).swapaxes(1, 2), rows)
        if not strided:
            return found.reshape(c.x_shape)
        x = np.zeros(c.x_shape, c.dtype)
        x[picked] = found.reshape(c.n, c.channels, *c.win.out)
        return x

    return correlate


def w_adjoint(c: Correlation) -> Callable[..., Array]:
    """ct [N, M, *out], x [N, C, H, W] -> [M, C/group, 1, 1]."""
    picked = _picked(c)
    inside, outside = c.per_group

    def correlate(ct: Array, x: Array, w_like: Any = None) -> Array:
        images = x[picked].reshape(c.n, c.group, inside, -1)
        rows = ct.reshape(c.n, c.group, outside, -1)
        left, right = (rows, images) if outside >= inside else (images, rows)  # the BLAS likes the product tall
        total = np.zeros((c.group, left.shape[2], right.shape[2]), c.dtype)
        product = np.empty_like(total)
        for one, other in zip(left, right, strict=True):
            np.add(total, np.matmul(one, other.swapaxes(1, 2), out=product), total)
        return (total if left is rows else total.swapaxes(1, 2)).reshape(c.w_shape)

    return correlate


def _picked(c: Correlation) -> tuple[slice, ...]:
    """Which places of x are read."""
    every = slice(None)
    return (every, every, *(slice(0, (o - 1) * s + 1, s) for o, s in zip(c.win.out, c.win.strides, strict=True)))
