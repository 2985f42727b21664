"""Any kernel as one matrix product per chunk of columns, each column what one output reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels._correlation import Call, Correlation, Routine, run
from graphrt.runtime.kernels._grid import Block, Grid, blocks, lots
from graphrt.runtime.kernels._scratch import Bound, carve, room
from graphrt.runtime.threads import share, threads_for

Ints = tuple[int, ...]
Pair = tuple[Array, Array]
Lot = list[tuple[Grid, list[Block]]]
Prepared = tuple[Grid, list[Block], Any]
"""A layout, its blocks, and what is prepared for them."""

AREA, LEAST = 1 << 18, 1 << 10
"""Numbers in all channels of a block, about; and the fewest in one channel."""
CHUNK, CHUNK_BACK = 1 << 17, 1 << 20
"""Numbers in a chunk of columns: one that stays in the cache; and where they are added up, tap by tap."""
SMALL, WIDE = 10**6, 256
"""Up to how many multiplications OpenBLAS spares itself the packing of matrices; and a width that pays for it."""
TALL = 128
"""From how many filters on a product may be wider than tall."""
SPEED, COPY_SPEED, IMAGE_SPEED = 0.012, 0.1, 0.6
"""Nanoseconds that one of the products takes, about; a number in the columns; and one of x or y."""


@dataclass(frozen=True)
class Columns:
    """The columns of one correlation: which outputs make a block, and what of the inputs is in a column.

    Attributes:
        c: the correlation.
        size: how many numbers there are in a chunk of columns, about.
    """

    c: Correlation
    size: int

    @cached_property
    def depth(self) -> int:
        """Numbers in a column of one group: channels by taps."""
        return self.c.win.n_taps * self.c.per_group[0]

    def lots(self, *, together: bool = False) -> list[Lot]:
        """The blocks of a batch, divided among threads; those of one image not, if they are to stay together."""
        c, win = self.c, self.c.win
        reach = tuple((k - 1) * d // s for k, d, s in zip(win.kernel, win.dilations, win.strides, strict=True))
        base = Grid(win, win.strides, reach, 1, win.out[0])
        whole, numbers = c.n * win.out[0] * base.pitch, math.prod(c.x_shape) + math.prod(c.y_shape)
        duration = c.products * SPEED + c.group * self.depth * whole * COPY_SPEED + numbers * IMAGE_SPEED
        target = min(max(LEAST, AREA // max(c.channels, c.filters)), -(-whole // threads_for(duration)))
        sizes = blocks(c.n, win.out[0], base.pitch, target)
        found = [(replace(base, images=n, rows=r), block) for (n, r), same in sizes for block in same]
        if not together:
            return lots(found, duration, lambda grid: grid.length)
        found.sort(key=lambda pair: pair[1].n0)
        return lots(found, duration, lambda grid: grid.length, lambda block: block.n0)

    def shapes(self, grid: Grid) -> tuple[Ints, ...]:
        """Of the arrays that a block needs: its inputs, a chunk of columns, its outputs [M, length]."""
        c = self.c
        return (grid.numbers(c.channels),), (c.group * self.depth * self.chunk(grid),), (c.filters, grid.length)

    def memory(self, divided: list[Lot], *more: Ints) -> Ints:
        """The shape of an array with room for each lot: what all its blocks share, and the largest block."""
        return len(divided), max(room(*more, *self.shapes(grid)) for lot in divided for grid, _ in lot)

    def bound(self, divided: list[Lot], prepare: Callable[..., Any]) -> Bound[list[list[Prepared]]]:
        """Of an array as `memory` says, and more: what ``prepare(grid, a row of it, *more)`` makes for a layout."""

        def prepare_all(memory: Array, *more: Array) -> list[list[Prepared]]:
            each = zip(divided, memory, strict=True)
            return [[(grid, found, prepare(grid, own, *more)) for grid, found in lot] for lot, own in each]

        return Bound(prepare_all)

    def chunk(self, grid: Grid) -> int:
        """How many columns are made at a time."""
        return min(grid.length, max(self.size // (self.c.group * self.depth) // 16 * 16, 64))

    def chunks(self, grid: Grid, flat: Array, memory: Array) -> Iterator[tuple[slice, Array, list[Pair]]]:
        """For each chunk: where it is, its columns [group, depth, chunk], and pairs of views that hold the same.

        One of a pair is a part of the columns, [group, C/group, taps down, taps along, chunk], the other what of the
        inputs these are.
        """
        c, step = self.c, self.chunk(grid)
        seen = list(self._seen(grid, flat))
        for start in range(0, grid.length, step):
            at = slice(start, min(start + step, grid.length))
            width = at.stop - start
            columns = memory[: c.group * self.depth * width].reshape(c.group, self.depth, width)
            by_tap = columns.reshape(c.group, c.per_group[0], *c.win.kernel, width)
            yield at, columns, [(by_tap[:, :, down, along], read[..., at]) for down, along, read in seen]

    def _seen(self, grid: Grid, flat: Array) -> Iterator[tuple[slice, slice, Array]]:
        """The taps that read one phase, and what they read: [group, C/group, taps down, taps along, length], a view."""
        c, win = self.c, self.c.win
        each, apart = flat.itemsize, [s // math.gcd(s, d) for s, d in zip(win.strides, win.dilations, strict=True)]
        down, along = (a * d // s * each for a, d, s in zip(apart, win.dilations, win.strides, strict=True))
        for first in np.ndindex(*(min(a, k) for a, k in zip(apart, win.kernel, strict=True))):
            one = grid.seen(flat, c.channels, (first[0] * win.dilations[0], first[1] * win.dilations[1]))
            taps = slice(first[0], None, apart[0]), slice(first[1], None, apart[1])
            counts = (len(range(win.kernel[i])[t]) for i, t in enumerate(taps))
            shape = c.group, c.per_group[0], *counts, grid.length
            strides = c.per_group[0] * one.strides[0], one.strides[0], down * grid.line, along, each
            yield *taps, np.lib.stride_tricks.as_strided(one, shape, strides)


def forward(c: Correlation) -> Routine:
    """x [N, C, H, W], w [M, C/group, kh, kw], b [M] or None -> y [N, M, *out]."""
    small = SMALL // c.per_group[1] * c.group
    plan = Columns(c, min(CHUNK, small) if small >= WIDE * c.channels * c.win.n_taps else CHUNK)
    divided = plan.lots()

    def prepare(grid: Grid, memory: Array, w: Array) -> tuple[Array, list[Call], Array]:
        flat, space, products = carve(memory, *plan.shapes(grid))
        matrix, made = w.reshape(c.group, -1, plan.depth), products.reshape(c.group, -1, grid.length)
        calls: list[Call] = []
        for at, columns, pairs in plan.chunks(grid, flat, space):
            calls += [(np.copyto, *pair) for pair in pairs]
            calls.append((np.matmul, matrix, columns, made[..., at]))
        return flat, calls, grid.outputs(products)

    bound = plan.bound(divided, prepare)

    def fill(x: Array, w: Array, b: Array | None, y: Array, memory: Array) -> None:
        def work(i: int, parts: list[Prepared]) -> None:
            for grid, found, (flat, calls, outputs) in parts:
                flat[:] = 0
                lines = grid.lines(flat, c.channels)
                for block in found:
                    grid.fill(lines, x, block)
                    run(calls)
                    if b is None:
                        grid.output(y, block)[...] = outputs
                    else:
                        np.add(outputs, b[:, None, None, None], grid.output(y, block))

        share(work, bound(memory, w))

    return Routine(fill, (plan.memory(divided),))


def x_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], anything, w [M, C/group, kh, kw] -> [N, C, H, W]."""
    plan = Columns(c, CHUNK_BACK)
    divided = plan.lots(together=True)

    def prepare(grid: Grid, memory: Array, w: Array) -> tuple[Array, list[Call], Array]:
        flat, space, given = carve(memory, *plan.shapes(grid))
        matrix = w.reshape(c.group, -1, plan.depth).swapaxes(1, 2)
        rows = given.reshape(c.group, -1, grid.length)
        calls: list[Call] = []
        for at, columns, pairs in plan.chunks(grid, flat, space):
            calls.append((np.matmul, matrix, rows[..., at], columns))
            for part, seen in pairs:
                for tap in np.ndindex(*part.shape[2:4]):
                    to = seen[:, :, *tap]
                    calls.append((np.add, to, part[:, :, *tap], to))
        return flat, calls, given

    bound = plan.bound(divided, prepare)

    def fill(ct: Array, x_like: Any, w: Array, x: Array, memory: Array) -> None:
        x[...] = 0

        def work(i: int, parts: list[Prepared]) -> None:
            for grid, found, (flat, calls, given) in parts:
                given[:] = 0
                lines, outputs = grid.lines(flat, c.channels), grid.outputs(given)
                for block in found:
                    flat[:] = 0
                    outputs[...] = grid.output(ct, block)
                    run(calls)
                    grid.spill(x, lines, block)

        share(work, bound(memory, w))

    return Routine(fill, (plan.memory(divided),))


def w_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], x [N, C, H, W], anything -> [M, C/group, kh, kw]."""
    plan = Columns(c, CHUNK)
    divided = plan.lots()
    tall = c.per_group[1] < TALL  # as the BLAS likes a product of few filters
    shape = (c.group, plan.depth, c.per_group[1]) if tall else (c.group, c.per_group[1], plan.depth)

    def prepare(grid: Grid, memory: Array) -> tuple[Array, list[Call], Array, Array]:
        total, product, flat, space, given = carve(memory, shape, shape, *plan.shapes(grid))
        rows = given.reshape(c.group, -1, grid.length)
        calls: list[Call] = []
        for at, columns, pairs in plan.chunks(grid, flat, space):
            calls += [(np.copyto, *pair) for pair in pairs]
            left, right = (columns, rows[..., at]) if tall else (rows[..., at], columns)
            calls += [(np.matmul, left, right.swapaxes(1, 2), product), (np.add, total, product, total)]
        return flat, calls, given, total

    bound = plan.bound(divided, prepare)

    def fill(ct: Array, x: Array, w_like: Any, w: Array, memory: Array) -> None:
        def work(i: int, parts: list[Prepared]) -> Array:
            total: Array = parts[0][2][-1]
            total[...] = 0
            for grid, found, (flat, calls, given, _) in parts:
                flat[:] = 0
                given[:] = 0
                lines, outputs = grid.lines(flat, c.channels), grid.outputs(given)
                for block in found:
                    grid.fill(lines, x, block)
                    outputs[...] = grid.output(ct, block)
                    run(calls)
            return total

        total, *others = share(work, bound(memory))
        for other in others:
            np.add(total, other, total)
        w[...] = (total.swapaxes(1, 2) if tall else total).reshape(w.shape)

    return Routine(fill, (plan.memory(divided, shape, shape),))
