"""The points of Winograd's F(4 x 2, 3 x 3): what tiles and kernels are combined to, multiplied, and combined back.

Everything here is calls to be made later, in order, on arrays in place (`graphrt.runtime.kernels._correlation.run`).
Points down the image: 0, 1, -1, 2, -2, infinity; along a line: 0, 1, -1, infinity. Arrays of points have those down
first; they are [6, 2, places, channels] where the columns of a tile are not combined yet, [6, places, channels] for one
point along the line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels._correlation import Call, Correlation
from graphrt.runtime.kernels._tiles import Source
from graphrt.runtime.threads import divide, share

Ints = tuple[int, ...]

POINTS_DOWN, POINTS_ALONG = 6, 4
SPEED = 10
"""Nanoseconds that a kernel takes to become points, about."""
KERNELS = 1 << 12
"""How many kernels become points at a time."""

KERNEL = np.einsum(
    "jq,kp->jkpq",
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
).reshape(-1, 9)
"""A kernel's nine numbers to its 4 x 6 points, those along a line first."""


def kernel_points(c: Correlation, turned: bool) -> tuple[tuple[Ints, Ints], Callable[[Array, Array, Array], None]]:
    """The shapes of ``taps`` and ``points``, and a function of w, taps and points that fills these, in several threads.

    Of taps: [9, group, C/group, M/group]; of points: [4, 6, group, C/group, M/group].
    """
    inside, outside = c.per_group
    step = max(1, KERNELS // (c.group * outside))
    channels = [slice(i, i + step) for i in range(0, inside, step)]
    parts = divide(channels, nanoseconds=c.channels * outside * SPEED)
    kernel = (KERNEL[:, ::-1] if turned else KERNEL).astype(c.dtype)
    one = c.group, inside, outside

    def transform(w: Array, taps: Array, points: Array) -> None:
        if turned:
            by_tap = w.reshape(*one, 9).transpose(3, 0, 1, 2)
        else:
            by_tap = w.reshape(c.group, outside, inside, 9).transpose(3, 0, 2, 1)
        given, made = taps.swapaxes(0, 1), points.reshape(len(kernel), *one).swapaxes(0, 1)

        def work(i: int, part: list[slice]) -> None:
            for at in part:
                taps[:, :, at] = by_tap[:, :, at]
                to = made[:, :, at]
                np.matmul(kernel, given[:, :, at].reshape(c.group, 9, -1), to.reshape(c.group, len(kernel), -1))

        share(work, parts)

    return ((9, *one), (POINTS_ALONG, POINTS_DOWN, *one)), transform


def by_line(down: Array, more: int = 1) -> Array:
    """[6, 2, places and more, C] as [6, 2, places * C]."""
    return down[:, :, : down.shape[2] - more].reshape(*down.shape[:2], -1)


def _by_group(c: Correlation, a: Array) -> Array:
    """[6, places, C] -> [6, group, places, C/group]."""
    return a.reshape(*a.shape[:2], c.group, -1).swapaxes(1, 2)


def combine_lines(source: Source, lines: Array, v: Array, spare: Array) -> Iterator[Call]:
    """Six lines of each tile to six points v [6, 2, places * C]."""
    add, subtract, multiply = np.add, np.subtract, np.multiply
    near, far = source.lines(lines, 1, 2), source.lines(lines, 3, 2)
    (first,), (last,) = source.lines(lines, 0, 1), source.lines(lines, 5, 1)
    s, t = spare.reshape(2, 2, *v.shape[1:])
    yield multiply, near, 4, s
    yield subtract, far, s, s
    yield add, s[1], s[0], v[1]
    yield subtract, s[1], s[0], v[2]
    yield subtract, far, near, t
    yield multiply, t[0], 2, t[0]
    yield add, t[1], t[0], v[3]
    yield subtract, t[1], t[0], v[4]
    yield subtract, first, near[1], v[0]
    yield multiply, v[0], 4, v[0]
    yield add, v[0], t[1], v[0]
    yield multiply, t[0], 2, t[0]
    yield subtract, last, far[0], v[5]
    yield subtract, v[5], t[0], v[5]


def _combine_along(down: Array, j: int, v: Array) -> Call:
    """Point j along the lines of down [6, 2, places + 1, C]: v [6, places, C]."""
    even, odd = down[:, :, :-1].swapaxes(0, 1)
    next_even, next_odd = down[:, :, 1:].swapaxes(0, 1)
    if j == 1:
        return np.add, odd, next_even, v
    return (np.subtract, *((even, next_even), (), (next_even, odd), (next_odd, odd))[j], v)


def multiply(
    c: Correlation, down: Array, points: Array, b: Any, made: Array, spare: Array, products: Array
) -> Iterator[Call]:
    """The products with the kernel's points, combined for the columns of each tile: made [2, 6, places, M]."""
    even, odd = made
    results = even, odd, products, products
    combinations = (
        (),
        (*([] if b is None else [(np.add, odd[1], b, odd[1])]), (np.add, even, odd, even)),
        ((np.add, even, products, even), (np.subtract, odd, products, odd)),
        ((np.add, odd, products, odd),),
    )
    for j, (result, combination) in enumerate(zip(results, combinations, strict=True)):
        yield _combine_along(down, j, spare)
        yield np.matmul, _by_group(c, spare), points[j], _by_group(c, result)
        yield from combination


def separate(m: Array, spare: Array) -> Iterator[Call]:
    """Six products m [6, 2, places, M] to the four lines of each tile, in place of the first four."""
    add, subtract, multiply = np.add, np.subtract, np.multiply
    s = spare[:4].reshape(2, *m.shape[1:])
    yield add, m[1:5:2], m[2:5:2], s
    yield subtract, m[1:5:2], m[2:5:2], m[1:5:2]
    yield add, m[0], s[0], m[0]
    yield add, m[0], s[1], m[0]
    yield multiply, s[1], 4, s[1]
    yield add, s[0], s[1], m[2]
    yield multiply, m[3], 2, m[4]
    yield multiply, m[3], 8, m[3]
    yield add, m[3], m[5], m[3]
    yield add, m[3], m[1], m[3]
    yield add, m[1], m[4], m[1]


def weigh_lines(e: Array, d: Array, spare: Array) -> Iterator[Call]:
    """The adjoint of `separate`: four lines of each tile to six points, both [., 2, places * M]."""
    add, subtract, multiply = np.add, np.subtract, np.multiply
    s = spare[: 2 * e[0].size].reshape(2, *e.shape[1:])
    near, far = e[:2], e[2:]
    yield np.copyto, d[0], e[0]
    yield np.copyto, d[5], e[3]
    yield add, near, far, s
    yield add, s[0], s[1], d[1]
    yield subtract, s[0], s[1], d[2]
    yield multiply, far, 4, s
    yield add, near, s, s
    yield multiply, s[1], 2, s[1]
    yield add, s[0], s[1], d[3]
    yield subtract, s[0], s[1], d[4]


def multiply_both(
    c: Correlation, x: Array, ct: Array, total: Array, spare: Array, combined: Array, product: Any = None
) -> Iterator[Call]:
    """Adds the products of points of ct [6, 2, places, M] and of x [6, 2, places + 1, C] to the total, or sets it."""
    even, odd = ct.swapaxes(0, 1)
    for j, weigh in enumerate((None, np.add, np.subtract, None)):
        yield _combine_along(x, j, spare)
        if weigh is not None:
            yield weigh, even, odd, combined
        points = combined if weigh is not None else odd if j else even
        result = total[j] if product is None else product
        yield np.matmul, _by_group(c, points).swapaxes(2, 3), _by_group(c, spare), result
        if product is not None:
            yield np.add, total[j], product, total[j]
