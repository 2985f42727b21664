"""A kernel of its own for each channel: shifted rows times a number, added up; no matrix product."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels._correlation import Call, Correlation, Routine, run
from graphrt.runtime.kernels._grid import Block, Grid, blocks, lots
from graphrt.runtime.kernels._scratch import carve, room
from graphrt.runtime.threads import share, threads_for

Ints = tuple[int, ...]
Lot = list[tuple[Grid, list[Block]]]

ROW, LIMIT = 1 << 13, 1 << 20
"""Numbers in a channel of a block, about, while there are no more than this in all channels."""
PIECE = 1 << 18
"""Numbers worked on at a time: calls are few, and the last-level cache is fast enough."""
SPEED = 0.3
"""Nanoseconds that one of the products takes, about."""


@dataclass(frozen=True)
class Rows:
    """The layout of one correlation."""

    c: Correlation

    @cached_property
    def taps(self) -> list[Ints]:
        """Padded positions of a kernel's numbers."""
        win = self.c.win
        return [
            (i * win.dilations[0], j * win.dilations[1]) for i in range(win.kernel[0]) for j in range(win.kernel[1])
        ]

    def lots(self, *, together: bool = False) -> list[Lot]:
        """The blocks of a batch, divided among threads; those of one image not, if they are to stay together."""
        c, win, last = self.c, self.c.win, self.taps[-1]
        base = Grid(win, win.strides, (last[0] // win.strides[0], last[1] // win.strides[1]), 1, win.out[0])
        whole, duration = c.n * win.out[0] * base.pitch, c.products * SPEED
        target = min(ROW, LIMIT // c.channels, -(-whole // threads_for(duration)))
        sizes = blocks(c.n, win.out[0], base.pitch, target)
        found = [(replace(base, images=n, rows=r), block) for (n, r), same in sizes for block in same]
        if not together:
            return lots(found, duration, lambda grid: grid.length)
        found.sort(key=lambda pair: pair[1].n0)
        return lots(found, duration, lambda grid: grid.length, lambda block: block.n0)

    def pieces(self, grid: Grid) -> list[slice]:
        """The channels, some at a time."""
        step = max(1, PIECE // grid.length)
        return [slice(i, min(i + step, self.c.channels)) for i in range(0, self.c.channels, step)]

    def shapes(self, grid: Grid) -> tuple[Ints, ...]:
        """Of the arrays that a block needs: its inputs, its outputs, and a piece of these."""
        c = self.c
        return (grid.numbers(c.channels),), (c.channels, grid.length), (self.pieces(grid)[0].stop, grid.length)

    def memory(self, divided: list[Lot]) -> Ints:
        """The shape of an array with room for each lot's largest block."""
        return len(divided), max(room(*self.shapes(grid)) for lot in divided for grid, _ in lot)

    def seen(self, grid: Grid, flat: Array) -> list[Array]:
        """What each tap reads: [C, length], views."""
        return [grid.seen(flat, self.c.channels, t) for t in self.taps]

    def by_tap(self, w: Array) -> Array:
        """w [C, 1, kh, kw] -> [taps, C, 1]."""
        return np.ascontiguousarray(w.reshape(self.c.channels, -1).T)[:, :, None]


def forward(c: Correlation) -> Routine:
    """x [N, C, H, W], w [C, 1, kh, kw], b [C] or None -> y [N, C, *out]."""
    plan = Rows(c)
    divided = plan.lots()

    def fill(x: Array, w: Array, b: Array | None, y: Array, memory: Array) -> None:
        by_tap = plan.by_tap(w)

        def work(i: int, lot: Lot) -> None:
            for grid, found in lot:
                flat, made, spare = carve(memory[i], *plan.shapes(grid))
                flat[:] = 0
                lines, seen = grid.lines(flat, c.channels), plan.seen(grid, flat)
                calls: list[Call] = []
                for at in plan.pieces(grid):
                    sums, product = made[at], spare[: at.stop - at.start]
                    calls.append((np.multiply, seen[0][at], by_tap[0, at], sums))
                    for read, number in zip(seen[1:], by_tap[1:], strict=True):
                        calls += [(np.multiply, read[at], number[at], product), (np.add, sums, product, sums)]
                for block in found:
                    grid.fill(lines, x, block)
                    run(calls)
                    if b is None:
                        grid.output(y, block)[...] = grid.outputs(made)
                    else:
                        np.add(grid.outputs(made), b[:, None, None, None], grid.output(y, block))

        share(work, divided)

    return Routine(fill, (plan.memory(divided),))


def x_adjoint(c: Correlation) -> Routine:
    """ct [N, C, *out], anything, w [C, 1, kh, kw] -> [N, C, H, W]."""
    back = c.adjoint()
    if back is not None:
        routine = forward(back)

        def fill_back(ct: Array, x_like: Any, w: Array, x: Array, memory: Array) -> None:
            routine.fill(ct, c.turned(w), None, x, memory)

        return Routine(fill_back, routine.scratch)
    plan = Rows(c)
    divided = plan.lots(together=True)

    def fill(ct: Array, x_like: Any, w: Array, x: Array, memory: Array) -> None:
        by_tap = plan.by_tap(w)
        x[...] = 0

        def work(i: int, lot: Lot) -> None:
            for grid, found in lot:
                flat, given, spare = carve(memory[i], *plan.shapes(grid))
                given[:] = 0
                lines, seen = grid.lines(flat, c.channels), plan.seen(grid, flat)
                calls: list[Call] = []
                for at in plan.pieces(grid):
                    product = spare[: at.stop - at.start]
                    for read, number in zip(seen, by_tap, strict=True):
                        calls += [(np.multiply, given[at], number[at], product), (np.add, read[at], product, read[at])]
                for block in found:
                    flat[:] = 0
                    grid.outputs(given)[...] = grid.output(ct, block)
                    run(calls)
                    grid.spill(x, lines, block)

        share(work, divided)

    return Routine(fill, (plan.memory(divided),))


def w_adjoint(c: Correlation) -> Routine:
    """ct [N, C, *out], x [N, C, H, W], anything -> [C, 1, kh, kw]."""
    plan = Rows(c)
    divided = plan.lots()

    def fill(ct: Array, x: Array, w_like: Any, w: Array, memory: Array) -> None:
        def work(i: int, lot: Lot) -> Array:
            total = np.zeros((len(plan.taps), c.channels), c.dtype)
            for grid, found in lot:
                flat, given, _ = carve(memory[i], *plan.shapes(grid))
                flat[:] = 0
                given[:] = 0
                lines, seen = grid.lines(flat, c.channels), plan.seen(grid, flat)
                for block in found:
                    grid.fill(lines, x, block)
                    grid.outputs(given)[...] = grid.output(ct, block)
                    for at in plan.pieces(grid):
                        for sums, read in zip(total, seen, strict=True):
                            sums[at] += np.vecdot(given[at], read[at])
            return total

        w[...] = sum(share(work, divided)).T.reshape(w.shape)

    return Routine(fill, (plan.memory(divided),))
