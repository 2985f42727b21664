"""Kernels three lines high, four output lines at a time: Winograd's F(4,3) down the image, plain taps along the line.

Six combinations of six neighbouring lines of the input meet six combinations of the three kernel lines; six products
in place of twelve give four lines of output. Everything runs along whole lines, so that combining costs little, and
with one axis transformed the rounding error stays within a few units of the plain sum's.
Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015; points 0, 1, -1, 2, -2, infinity.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels._correlation import Correlation
from graphrt.runtime.kernels._grid import Block, Grid, blocks
from graphrt.runtime.kernels._scratch import scratch
from graphrt.runtime.kernels._threads import share

TILE, POINTS = 4, 6
ROW, LIMIT = 600, 300_000
"""Numbers in a channel of a block, about, while there are no more than this in all channels: what a block works on
is still in the cache when it is used next."""

KERNEL = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
"""Three kernel lines to the six points."""


def _grids(c: Correlation) -> list[tuple[Grid, list[Block]]]:
    tiles = -(-c.win.out[0] // TILE)
    reach = (1, (c.win.kernel[1] - 1) * c.win.dilations[1])
    base = Grid(replace(c.win, out=(tiles, c.win.out[1])), (TILE, 1), reach, 1, tiles)
    target = min(ROW, LIMIT // max(c.channels, c.filters))
    return [(replace(base, images=n, rows=r), found) for (n, r), found in blocks(c.n, tiles, base.pitch, target)]


def forward(c: Correlation) -> Callable[..., Array]:
    """x [N, C, H, W], w [M, C/group, 3, kw], b [M] or None -> y [N, M, *out]."""
    grids, taps, step, group = _grids(c), c.win.kernel[1], c.win.dilations[1], c.group
    inside, outside = c.per_group
    kernel = KERNEL.astype(c.dtype)

    def correlate(x: Array, w: Array, b: Array | None = None) -> Array:
        y = np.empty(c.y_shape, c.dtype)
        lines_of_w = w.reshape(group, outside, inside, 3, taps).transpose(3, 0, 1, 4, 2)
        points = np.tensordot(kernel, lines_of_w, 1).reshape(POINTS, group, outside, taps * inside)
        bias = None if b is None else b.reshape(-1, 1)

        def work(grid: Grid, found: list[Block]) -> Any:
            length, more = grid.length, grid.reach[1]
            shapes = (
                (grid.numbers(c.channels),), (POINTS, group, taps, inside, -(-(length + more) // 16) * 16),
                (POINTS, c.filters, length), (2, c.channels, length + more), (c.filters, length),
            )  # fmt: skip
            with scratch(c.dtype, *shapes) as (flat, spread, products, spare, sums):
                flat[:] = 0
                lines, seen = grid.lines(flat, c.channels), _seen(grid, flat, c)
                combined = spread[:, :, 0, :, : length + more]
                spare = spare.reshape(2, group, inside, length + more)
                operand = spread.reshape(POINTS, group, taps * inside, -1)[..., :length]
                made = products.reshape(POINTS, group, outside, length)
                for block in found:
                    grid.fill(lines, x, block)
                    _combine_lines(seen, combined, *spare)
                    for t in range(1, taps):
                        spread[:, :, t, :, :length] = combined[..., t * step : t * step + length]
                    np.matmul(points, operand, out=made)
                    if bias is not None:
                        products[1] += bias
                    _separate(products, sums, _outputs(grid, y, block), grid)

        share(work, grids)
        return y

    return correlate


def w_adjoint(c: Correlation) -> Callable[..., Array]:
    """ct [N, M, *out], x [N, C, H, W] -> [M, C/group, 3, kw]."""
    grids, taps, step, group = _grids(c), c.win.kernel[1], c.win.dilations[1], c.group
    inside, outside = c.per_group
    kernel = KERNEL.astype(c.dtype)

    def correlate(ct: Array, x: Array, w_like: Any = None) -> Array:
        def work(grid: Grid, found: list[Block]) -> Any:
            total = np.zeros((POINTS, taps, group, outside, inside), c.dtype)
            length, more = grid.length, grid.reach[1]
            shapes = (
                (grid.numbers(c.channels),), (POINTS, group, inside, length + more), (2, group, inside, length + more),
                (TILE, c.filters, length), (POINTS, c.filters, length), (2, c.filters, length), total.shape,
            )  # fmt: skip
            with scratch(c.dtype, *shapes) as (flat, combined, spare, given, weighed, more_spare, products):
                flat[:] = 0
                given[:] = 0
                lines, seen = grid.lines(flat, c.channels), _seen(grid, flat, c)
                right = [combined[..., t * step : t * step + length].swapaxes(2, 3) for t in range(taps)]
                left = weighed.reshape(POINTS, group, outside, length)
                places = given.reshape(TILE, c.filters, grid.rows, grid.images, grid.pitch)[..., : c.win.out[1]]
                for block in found:
                    grid.fill(lines, x, block)
                    _combine_lines(seen, combined, *spare)
                    for place, there in zip(places, _outputs(grid, ct, block), strict=True):
                        place[:, : there.shape[1]] = there
                        place[:, there.shape[1] :] = 0
                    _weigh(given, weighed, *more_spare)
                    for t in range(taps):
                        np.matmul(left, right[t], out=products[:, t])
                    total += products
            return total

        total = sum(share(work, grids))
        found = np.tensordot(kernel, total, (0, 0))  # [3, kw, group, M/group, C/group]
        return found.transpose(2, 3, 4, 0, 1).reshape(c.w_shape)

    return correlate


def _seen(grid: Grid, flat: Array, c: Correlation) -> list[Array]:
    """The six lines that each tile reads: [group, C/group, length + reach] each."""
    lines = [grid.seen(flat, c.channels, (k, 0), grid.reach[1]) for k in range(POINTS)]
    return [d.reshape(c.group, -1, d.shape[1]) for d in lines]


def _outputs(grid: Grid, y: Array, block: Block) -> list[Array]:
    """The four lines of each tile of y [N, M, *out]: [M, tiles, images, columns], fewer tiles past the image's end."""
    part, first = y[block.n0 : block.n1].transpose(1, 2, 0, 3), TILE * block.r0
    return [part[:, first + k : first + TILE * grid.rows : TILE] for k in range(TILE)]


def _combine_lines(d: Sequence[Array], v: Array, s: Array, t: Array) -> None:
    """Six lines d to the six points v; s and t are space to work in."""
    add, subtract, multiply = np.add, np.subtract, np.multiply
    subtract(d[4], multiply(d[2], 4, s), s)
    subtract(d[3], multiply(d[1], 4, t), t)
    add(s, t, v[1])
    subtract(s, t, v[2])
    subtract(d[4], d[2], s)
    multiply(subtract(d[3], d[1], t), 2, t)
    add(s, t, v[3])
    subtract(s, t, v[4])
    v0 = subtract(d[0], d[2], v[0])
    multiply(v0, 4, v0)
    add(v0, s, v0)
    v5 = subtract(d[5], d[3], v[5])
    subtract(v5, multiply(t, 2, t), v5)


def _separate(m: Array, s: Array, y: Sequence[Array], grid: Grid) -> None:
    """Six products m to the four lines y of each tile; m is used up, s is space to work in."""
    add, subtract, multiply = np.add, np.subtract, np.multiply

    def write(a: Array, b: Array, to: Array) -> None:
        rows = to.shape[1]
        add(grid.outputs(a)[:, :rows], grid.outputs(b)[:, :rows], to)

    add(m[1], m[2], s)
    difference = subtract(m[1], m[2], m[1])
    far = add(m[3], m[4], m[2])
    far_difference = subtract(m[3], m[4], m[3])
    write(add(m[0], s, m[0]), far, y[0])
    write(difference, multiply(far_difference, 2, m[4]), y[1])
    write(s, multiply(far, 4, far), y[2])
    write(difference, add(multiply(far_difference, 8, m[3]), m[5], m[3]), y[3])


def _weigh(e: Array, d: Array, s: Array, t: Array) -> None:
    """The adjoint of `_separate`: four lines e to six points d."""
    add, subtract, multiply = np.add, np.subtract, np.multiply
    d[0] = e[0]
    add(e[0], e[2], s)
    add(e[1], e[3], t)
    add(s, t, d[1])
    subtract(s, t, d[2])
    add(e[0], multiply(e[2], 4, s), s)
    add(multiply(e[1], 2, d[3]), multiply(e[3], 8, t), t)
    add(s, t, d[3])
    subtract(s, t, d[4])
    d[5] = e[3]
