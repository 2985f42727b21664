"""A kernel of one element: matrix products on the images as they lie."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels._correlation import Correlation, Routine
from graphrt.runtime.kernels._pieces import pieces
from graphrt.runtime.threads import divide, share

Ints = tuple[int, ...]
Part = tuple[slice, slice]
"""Images, and places of an image."""

SPEED = 0.012
"""Nanoseconds that one of the products takes, about."""
STEP = 64
"""Places are divided in multiples of this."""
THIN = 64
"""Up to so many channels or filters products are in pieces."""


def _parts(c: Correlation, *, images_only: bool = False) -> list[Part]:
    """The work for each thread: images, or where there is but one the places of it."""
    places = math.prod(c.win.out)
    if c.n == 1 and not images_only:
        runs = divide(range(0, places, STEP), nanoseconds=c.products * SPEED)
        return [(slice(0, 1), slice(run[0], min(run[-1] + STEP, places))) for run in runs]
    return [
        (slice(run[0], run[-1] + 1), slice(0, places)) for run in divide(range(c.n), nanoseconds=c.products * SPEED)
    ]


def _pieces(c: Correlation, places: slice) -> list[slice]:
    """Some places, so many at a time that a product is fast."""
    count = places.stop - places.start
    step = count // pieces(count, *c.per_group) if min(c.per_group) <= THIN else count
    return [slice(i, i + step) for i in range(places.start, places.stop, step)]


def _picked(c: Correlation) -> tuple[slice, ...]:
    """Which places of x are read."""
    every = slice(None)
    return (every, every, *(slice(0, (o - 1) * s + 1, s) for o, s in zip(c.win.out, c.win.strides, strict=True)))


def _strided(c: Correlation) -> tuple[Ints, ...]:
    """The shape of the space for those places of x that are read, where others are not."""
    return () if c.win.out == c.win.size else ((c.n, c.channels, *c.win.out),)


def forward(c: Correlation) -> Routine:
    """x [N, C, H, W], w [M, C/group, 1, 1], b [M] or None -> y [N, M, *out]."""
    picked, parts, (inside, outside) = _picked(c), _parts(c), c.per_group

    def fill(x: Array, w: Array, b: Array | None, y: Array, *space: Array) -> None:
        matrices = w.reshape(c.group, outside, inside)
        for read in space:
            np.copyto(read, x[picked])
        images = (space[0] if space else x).reshape(c.n, c.group, inside, -1)
        made = y.reshape(c.n, c.group, outside, -1)

        def work(i: int, part: Part) -> None:
            found, places = part
            for piece in _pieces(c, places):
                np.matmul(matrices, images[found, ..., piece], made[found, ..., piece])
            if b is not None:
                to = made[found, ..., places]
                np.add(to, b.reshape(c.group, outside, 1), to)

        share(work, parts)

    return Routine(fill, _strided(c))


def x_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], anything, w [M, C/group, 1, 1] -> [N, C, H, W]."""
    picked, parts, (inside, outside) = _picked(c), _parts(c), c.per_group

    def fill(ct: Array, x_like: Any, w: Array, x: Array, *space: Array) -> None:
        matrices, rows = w.reshape(c.group, outside, inside).swapaxes(1, 2), ct.reshape(c.n, c.group, outside, -1)
        made = (space[0] if space else x).reshape(c.n, c.group, inside, -1)

        def work(i: int, part: Part) -> None:
            images, places = part
            np.matmul(matrices, rows[images, ..., places], made[images, ..., places])

        share(work, parts)
        for written in space:
            x[...] = 0
            x[picked] = written

    return Routine(fill, _strided(c))


def w_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], x [N, C, H, W], anything -> [M, C/group, 1, 1]."""
    picked, parts, (inside, outside) = _picked(c), _parts(c, images_only=True), c.per_group
    tall = outside >= inside  # as the BLAS likes a product
    shape = c.group, max(inside, outside), min(inside, outside)

    def fill(ct: Array, x: Array, w_like: Any, w: Array, totals: Array, *space: Array) -> None:
        for read in space:
            np.copyto(read, x[picked])
        images = (space[0] if space else x).reshape(c.n, c.group, inside, -1)
        rows = ct.reshape(c.n, c.group, outside, -1)
        left, right = (rows, images) if tall else (images, rows)

        def work(i: int, part: Part) -> None:
            total, product = totals[i]
            total[...] = 0
            for one, other in zip(left[part[0]], right[part[0]], strict=True):
                np.add(total, np.matmul(one, other.swapaxes(1, 2), product), total)

        share(work, parts)
        for other in totals[1:, 0]:
            np.add(totals[0, 0], other, totals[0, 0])
        w[...] = (totals[0, 0] if tall else totals[0, 0].swapaxes(1, 2)).reshape(w.shape)

    return Routine(fill, ((len(parts), 2, *shape), *_strided(c)))
