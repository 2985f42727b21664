"""Any kernel as one matrix product per chunk of columns, each column what one output reads.

With few filters a product would be too thin for the BLAS: then ``tile`` output lines are made at once, by as many
shifted copies of the kernel one below the other.
"""

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

Ints = tuple[int, ...]
TARGET = 1 << 10
"""Numbers in a channel of a block, about, while channels are many."""
LIMIT = 1 << 18
"""Numbers in all channels of a block, while channels are few."""
CHUNK = 1 << 20
"""Numbers in a chunk of columns."""
THICK = 12
"""With fewer filters than this, several lines are made at once."""


class Columns:
    """The layout of one correlation: the kernel grown to ``tile`` lines of output, and where its taps read."""

    def __init__(self, c: Correlation):
        win = c.win
        lines = -(-THICK // c.per_group[1]) if c.win.dilations[0] == 1 else 1
        self.c, self.tile = c, max(1, min(lines, 4, win.out[0]))
        self.steps = (win.strides[0] * self.tile, win.strides[1])
        self.high = win.kernel[0] + (self.tile - 1) * win.strides[0]
        self.taps = [
            (i * win.dilations[0], j * win.dilations[1]) for i in range(self.high) for j in range(win.kernel[1])
        ]
        reach = (self.taps[-1][0] // self.steps[0], self.taps[-1][1] // self.steps[1])
        rows = -(-win.out[0] // self.tile)
        base = Grid(replace(win, out=(rows, win.out[1])), self.steps, reach, 1, rows)
        self.depth = len(self.taps) * c.per_group[0]
        whole = c.n * rows * base.pitch
        target = max(TARGET, min(LIMIT // max(c.channels, c.filters * self.tile), -(-whole // 2)))
        self.grids = [
            (replace(base, images=n, rows=r), found) for (n, r), found in blocks(c.n, rows, base.pitch, target)
        ]

    @property
    def filters(self) -> int:
        """Rows of the product, over all groups."""
        return self.c.filters * self.tile

    def chunks(self, length: int) -> list[slice]:
        """A channel's length in pieces."""
        count = -(-length * self.c.group * self.depth // CHUNK)
        step = max(-(-length // count + 15) // 16 * 16, 64) if count > 1 else length
        return [slice(i, min(i + step, length)) for i in range(0, length, step)]

    def matrix(self, w: Array) -> Array:
        """w [M, C/group, kh, kw] -> [group, tile * M/group, depth], depth being taps by channels."""
        c = self.c
        inside, outside = c.per_group
        kh, kw = c.win.kernel
        lines = w.reshape(c.group, outside, inside, kh, kw).transpose(0, 1, 3, 4, 2)
        if self.tile == 1:
            return lines.reshape(c.group, outside, self.depth)
        grown = np.zeros((c.group, self.tile, outside, self.high, kw, inside), c.dtype)
        for k in range(self.tile):
            at = k * c.win.strides[0]
            grown[:, k, :, at : at + kh] = lines
        return grown.reshape(c.group, self.tile * outside, self.depth)

    def kernel(self, matrix: Array) -> Array:
        """The adjoint of `matrix`."""
        c = self.c
        inside, outside = c.per_group
        kh, kw = c.win.kernel
        grown = matrix.reshape(c.group, self.tile, outside, self.high, kw, inside)
        lines = grown[:, 0, :, :kh]
        for k in range(1, self.tile):
            at = k * c.win.strides[0]
            lines = lines + grown[:, k, :, at : at + kh]
        return lines.transpose(0, 1, 4, 2, 3).reshape(c.w_shape)

    def outputs(self, grid: Grid, products: Array, y: Array, block: Block) -> list[tuple[Array, Array]]:
        """Pairs of views [group, M/group, rows, images, columns]: in products [filters, length], in y [N, M, *out]."""
        c, k = self.c, self.tile
        part = y[block.n0 : block.n1].reshape(grid.images, c.group, c.per_group[1], *c.win.out).transpose(1, 2, 3, 0, 4)
        made = grid.outputs(products).reshape(c.group, k, c.per_group[1], grid.rows, grid.images, -1)
        pairs = []
        for i in range(k):
            there = part[:, :, k * block.r0 + i : k * block.r1 : k]
            pairs.append((made[:, i, :, : there.shape[2]], there))
        return pairs

    def seen(self, grid: Grid, flat: Array) -> list[Array]:
        """What each tap reads: [group, C/group, length]."""
        c = self.c
        return [grid.seen(flat, c.channels, t).reshape(c.group, c.per_group[0], -1) for t in self.taps]


def forward(c: Correlation) -> Callable[..., Array]:
    """x [N, C, H, W], w [M, C/group, kh, kw], b [M] or None -> y [N, M, *out]."""
    plan = Columns(c)
    outside = c.per_group[1]

    def correlate(x: Array, w: Array, b: Array | None = None) -> Array:
        y = np.empty(c.y_shape, c.dtype)
        matrix = plan.matrix(w)
        bias = None if b is None else b.reshape(c.group, outside, 1, 1, 1)

        def work(grid: Grid, found: list[Block]) -> Any:
            chunks = plan.chunks(grid.length)
            widest = chunks[0].stop
            shapes = (grid.numbers(c.channels),), (c.group * plan.depth * widest,), (plan.filters, grid.length)
            with scratch(c.dtype, *shapes) as (flat, room, products):
                flat[:] = 0
                lines, seen = grid.lines(flat, c.channels), plan.seen(grid, flat)
                made = products.reshape(c.group, -1, grid.length)
                for block in found:
                    grid.fill(lines, x, block)
                    for at in chunks:
                        columns = _room(room, plan, c, at)
                        for t, read in enumerate(seen):
                            columns[:, t] = read[..., at]
                        np.matmul(matrix, columns.reshape(c.group, plan.depth, -1), out=made[..., at])
                    for given, there in plan.outputs(grid, products, y, block):
                        if bias is None:
                            there[...] = given
                        else:
                            np.add(given, bias, there)

        share(work, plan.grids)
        return y

    return correlate


def x_adjoint(c: Correlation) -> Callable[..., Array]:
    """ct [N, M, *out], w [M, C/group, kh, kw] -> [N, C, H, W]."""
    plan = Columns(c)

    def correlate(ct: Array, w: Array) -> Array:
        x = np.zeros(c.x_shape, c.dtype)
        matrix = plan.matrix(w).swapaxes(1, 2)

        def work(grid: Grid, found: list[Block]) -> Any:
            chunks = plan.chunks(grid.length)
            widest = chunks[0].stop
            shapes = (grid.numbers(c.channels),), (c.group * plan.depth * widest,), (plan.filters, grid.length)
            with scratch(c.dtype, *shapes) as (flat, room, given):
                given[:] = 0
                lines, seen = grid.lines(flat, c.channels), plan.seen(grid, flat)
                rows = given.reshape(c.group, -1, grid.length)
                for block in found:
                    flat[:] = 0
                    _read(plan, grid, given, ct, block)
                    for at in chunks:
                        columns = _room(room, plan, c, at)
                        np.matmul(matrix, rows[..., at], out=columns.reshape(c.group, plan.depth, -1))
                        for t, read in enumerate(seen):
                            part = read[..., at]
                            np.add(part, columns[:, t], part)
                    grid.spill(x, lines, block)

        share(work, plan.grids, _image)
        return x

    return correlate


def w_adjoint(c: Correlation) -> Callable[..., Array]:
    """ct [N, M, *out], x [N, C, H, W] -> [M, C/group, kh, kw]."""
    plan = Columns(c)

    def correlate(ct: Array, x: Array, w_like: Any = None) -> Array:
        def work(grid: Grid, found: list[Block]) -> Any:
            total = np.zeros((c.group, plan.depth, plan.filters // c.group), c.dtype)  # so: the BLAS likes it tall
            chunks = plan.chunks(grid.length)
            widest = chunks[0].stop
            shapes = (
                (grid.numbers(c.channels),), (c.group * plan.depth * widest,), (plan.filters, grid.length), total.shape,
            )  # fmt: skip
            with scratch(c.dtype, *shapes) as (flat, room, given, product):
                flat[:] = 0
                given[:] = 0
                lines, seen = grid.lines(flat, c.channels), plan.seen(grid, flat)
                rows = given.reshape(c.group, -1, grid.length).swapaxes(1, 2)
                for block in found:
                    grid.fill(lines, x, block)
                    _read(plan, grid, given, ct, block)
                    for at in chunks:
                        columns = _room(room, plan, c, at)
                        for t, read in enumerate(seen):
                            columns[:, t] = read[..., at]
                        np.matmul(columns.reshape(c.group, plan.depth, -1), rows[:, at], out=product)
                        np.add(total, product, total)
            return total

        total = sum(share(work, plan.grids))
        return plan.kernel(total.swapaxes(1, 2))

    return correlate


def _room(room: Array, plan: Columns, c: Correlation, at: slice) -> Array:
    """Space for a chunk's columns: [group, taps, C/group, chunk]."""
    width = at.stop - at.start
    return room[: c.group * plan.depth * width].reshape(c.group, len(plan.taps), -1, width)


def _read(plan: Columns, grid: Grid, given: Array, ct: Array, block: Block) -> None:
    """Puts a block of ct [N, M, *out] into given [filters, length]; lines past the image's end become 0."""
    for to, part in plan.outputs(grid, given, ct, block):
        to[...] = part
    if plan.tile * block.r1 > plan.c.win.out[0]:
        whole = given.reshape(plan.c.group, plan.tile, -1, grid.rows, grid.line)
        for i in range(plan.tile):
            whole[:, i, :, max(0, len(range(plan.tile * block.r0 + i, plan.c.win.out[0], plan.tile))) :] = 0


def _image(block: Block) -> int:
    """Blocks of one image add to the same lines."""
    return block.n0
