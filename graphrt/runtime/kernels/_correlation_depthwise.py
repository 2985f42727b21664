"""A kernel of its own for each channel: shifted rows times a number, added up; no matrix product."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels._correlation import Correlation
from graphrt.runtime.kernels._grid import Block, Grid, blocks
from graphrt.runtime.kernels._scratch import scratch
from graphrt.runtime.kernels._threads import share

ROW, LIMIT = 1 << 13, 1 << 20
"""Numbers in a channel of a block, about, while there are no more than this in all channels."""
PIECE = 1 << 18
"""Numbers worked on at a time: calls are few, and the last-level cache is fast enough."""


def _grids(c: Correlation) -> tuple[list[tuple[int, int]], list[tuple[Grid, list[Block]]]]:
    win = c.win
    taps = [(i * win.dilations[0], j * win.dilations[1]) for i in range(win.kernel[0]) for j in range(win.kernel[1])]
    reach = (taps[-1][0] // win.strides[0], taps[-1][1] // win.strides[1])
    base = Grid(win, win.strides, reach, 1, win.out[0])
    grids = blocks(c.n, win.out[0], base.pitch, min(ROW, LIMIT // c.channels))
    return taps, [(replace(base, images=n, rows=r), found) for (n, r), found in grids]


def _pieces(c: Correlation, grid: Grid) -> list[slice]:
    step = max(1, PIECE // grid.length)
    return [slice(i, min(i + step, c.channels)) for i in range(0, c.channels, step)]


def forward(c: Correlation) -> Callable[..., Array]:
    """x [N, C, H, W], w [C, 1, kh, kw], b [C] or None -> y [N, C, *out]."""
    taps, grids = _grids(c)

    def correlate(x: Array, w: Array, b: Array | None = None) -> Array:
        y = np.empty(c.y_shape, c.dtype)
        by_tap = w.reshape(c.channels, len(taps)).T[:, :, None]

        def work(grid: Grid, found: list[Block]) -> Any:
            pieces = _pieces(c, grid)
            size = (pieces[0].stop, grid.length)
            with scratch(c.dtype, (grid.numbers(c.channels),), size, size) as (flat, total, product):
                flat[:] = 0
                lines, seen = grid.lines(flat, c.channels), [grid.seen(flat, c.channels, t) for t in taps]
                for block in found:
                    grid.fill(lines, x, block)
                    to = grid.output(y, block)
                    for at in pieces:
                        sums, part = total[: at.stop - at.start], product[: at.stop - at.start]
                        np.multiply(seen[0][at], by_tap[0, at], sums)
                        for t in range(1, len(taps)):
                            np.add(sums, np.multiply(seen[t][at], by_tap[t, at], part), sums)
                        if b is None:
                            to[at] = grid.outputs(sums)
                        else:
                            np.add(grid.outputs(sums), b[at, None, None, None], to[at])

        share(work, grids)
        return y

    return correlate


def x_adjoint(c: Correlation) -> Callable[..., Array]:
    """ct [N, C, *out], w [C, 1, kh, kw] -> [N, C, H, W]."""
    taps, grids = _grids(c)

    def correlate(ct: Array, w: Array) -> Array:
        x = np.zeros(c.x_shape, c.dtype)
        by_tap = w.reshape(c.channels, len(taps)).T[:, :, None]

        def work(grid: Grid, found: list[Block]) -> Any:
            pieces = _pieces(c, grid)
            size = (pieces[0].stop, grid.length)
            with scratch(c.dtype, (grid.numbers(c.channels),), (c.channels, grid.length), size) as (
                flat,
                given,
                product,
            ):
                given[:] = 0
                lines, seen = grid.lines(flat, c.channels), [grid.seen(flat, c.channels, t) for t in taps]
                for block in found:
                    flat[:] = 0
                    grid.outputs(given)[...] = grid.output(ct, block)
                    for at in pieces:
                        part = product[: at.stop - at.start]
                        for t, read in enumerate(seen):
                            sums = read[at]
                            np.add(sums, np.multiply(given[at], by_tap[t, at], part), sums)
                    grid.spill(x, lines, block)

        share(work, grids, _image)
        return x

    return correlate


def w_adjoint(c: Correlation) -> Callable[..., Array]:
    """ct [N, C, *out], x [N, C, H, W] -> [C, 1, kh, kw]."""
    taps, grids = _grids(c)

    def correlate(ct: Array, x: Array, w_like: Any = None) -> Array:
        def work(grid: Grid, found: list[Block]) -> Any:
            total = np.zeros((len(taps), c.channels), c.dtype)
            pieces = _pieces(c, grid)
            with scratch(c.dtype, (grid.numbers(c.channels),), (c.channels, grid.length)) as (flat, given):
                flat[:] = 0
                given[:] = 0
                lines, seen = grid.lines(flat, c.channels), [grid.seen(flat, c.channels, t) for t in taps]
                for block in found:
                    grid.fill(lines, x, block)
                    grid.outputs(given)[...] = grid.output(ct, block)
                    for at in pieces:
                        for t, read in enumerate(seen):
                            total[t, at] += np.vecdot(given[at], read[at])
            return total

        total = sum(share(work, grids))
        return total.T.reshape(c.w_shape)

    return correlate


def _image(block: Block) -> int:
    """Blocks of one image add to the same lines."""
    return block.n0
