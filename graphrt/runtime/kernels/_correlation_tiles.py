"""Kernels of 3 x 3 in steps of one, 4 x 2 outputs at a time: Winograd's F(4 x 2, 3 x 3), the channels innermost.

A tile of 4 x 2 outputs reads 6 x 4 inputs. As many combinations of these, the points, meet those of the kernel's nine
numbers; 24 products, each a matrix product over the channels, stand for 72, and combine to the 8 outputs. Arrays have
the channels as their innermost axis, so that combining neighbours is adding an array to itself from a later start.
Larger tiles would save few products more, and their rounding errors grow: those of this size are about as large as the
plain sum's.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015; see `_tile_points`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels import _correlation_columns
from graphrt.runtime.kernels._correlation import Call, Correlation, Routine, run
from graphrt.runtime.kernels._grid import Block, blocks, lots
from graphrt.runtime.kernels._kept import Kept
from graphrt.runtime.kernels._scratch import Bound, carve, room
from graphrt.runtime.kernels._tile_points import (
    KERNEL,
    POINTS_ALONG,
    POINTS_DOWN,
    by_line,
    combine_lines,
    kernel_points,
    multiply,
    multiply_both,
    separate,
    weigh_lines,
)  # fmt: skip
from graphrt.runtime.kernels._tiles import ALONG, DOWN, Reader, Tiles, pitch
from graphrt.runtime.threads import share, threads_for

Ints = tuple[int, ...]

AREA, AREA_SHARED, LEAST = 20_000, 40_000, 128
"""Places times channels of a block, about: what is worked on stays in the cache. Where several threads take turns with
the interpreter's lock, fewer and larger steps do better. And the fewest places.
"""
SPEED = 0.007
"""Nanoseconds that one of the plain sum's products takes in the end, about."""

Lot = list[tuple[Tiles, list[Block]]]


def _lots(c: Correlation, least: int) -> list[Lot]:
    """The blocks of a batch, divided among threads."""
    rows, line, duration = -(-c.win.out[0] // DOWN), pitch(c), c.products * SPEED
    threads = threads_for(duration)
    area = AREA if threads == 1 else AREA_SHARED
    target = min(max(area // max(c.channels, c.filters), least), -(-c.n * rows * line // threads))
    found = ((Tiles(c, n, r), block) for (n, r), same in blocks(c.n, rows, line, target) for block in same)
    return lots(found, duration, lambda tiles: tiles.places)


def _memory(divided: list[Lot], shapes: Callable[[Tiles], tuple[Ints, ...]]) -> Ints:
    """For each lot room for the largest of its blocks."""
    return len(divided), max(room(*shapes(t)) for lot in divided for t, _ in lot)


@dataclass(frozen=True)
class Outputs:
    """What is prepared to compute the outputs of the blocks of one layout, tiles in ``made`` at first."""

    tiles: Tiles
    blocks: list[Block]
    inputs: Reader
    calls: list[Call]
    made: Array

    def compute(self, x: Array, y: Array) -> None:
        """Computes these blocks of y."""
        self.inputs.begin()
        for block in self.blocks:
            self.inputs.read(x, block)
            run(self.calls)
            self.tiles.write(self.made, y, block)


@dataclass(frozen=True)
class Sums:
    """What is prepared to add up the products of two arrays' points over the blocks of one layout.

    Attributes:
        blocks: these.
        inputs, cotangents: what they read.
        of_inputs, of_cotangents: make points down of the lines read.
        products: set the total to the products; add them to it.
        beyond: the place after the last, whose points are made with others but never of lines.
        total: [4, 6, group, M/group, C/group].
    """

    blocks: list[Block]
    inputs: Reader
    cotangents: Reader
    of_inputs: list[Call]
    of_cotangents: list[Call]
    products: tuple[list[Call], list[Call]]
    beyond: Array
    total: Array

    def compute(self, ct: Array, x: Array, *, more: bool) -> None:
        """Sets the total to the sum over the blocks, or adds it where there is ``more``."""
        self.inputs.begin()
        self.cotangents.begin()
        self.beyond[...] = 0
        for i, block in enumerate(self.blocks):
            self.inputs.read(x, block)
            run(self.of_inputs)
            self.cotangents.read(ct, block)
            run(self.of_cotangents)
            run(self.products[more or i > 0])


def forward(c: Correlation, turned: bool = False) -> Routine:
    """x [N, C, H, W], w [M, C/group, 3, 3], b [M] or None -> y [N, M, *out].

    With ``turned`` w is that of the correlation whose adjoint this is: [C, M/group, 3, 3], each kernel to be turned by
    half a turn.
    """
    divided = _lots(c, LEAST)
    of_kernel, transform = kernel_points(c, turned)
    kept = Kept()

    def shapes(t: Tiles) -> tuple[Ints, ...]:
        n, x = t.places, t.inputs
        shared = max(math.prod(x.shape), ALONG * POINTS_DOWN * n * c.filters)
        down, products = (POINTS_DOWN, ALONG, n + 1, c.channels), (POINTS_DOWN, n, c.filters)
        return x.staged, (shared,), down, (8, n, c.channels), products

    def prepare(memory: Array, points: Array, b: Any = None) -> list[list[Outputs]]:
        return [[outputs(*pair, memory[i], points, b) for pair in lot] for i, lot in enumerate(divided)]

    def outputs(t: Tiles, found: list[Block], memory: Array, points: Array, b: Any) -> Outputs:
        staged, shared, down, spare, products = carve(memory, *shapes(t))
        lines = shared[: math.prod(t.inputs.shape)].reshape(t.inputs.shape)
        made = shared[: ALONG * products.size].reshape(ALONG, *products.shape)
        calls = [
            *combine_lines(t.inputs, lines, by_line(down), spare),
            *multiply(c, down, points, b, made, spare[:POINTS_DOWN], products),
            *separate(made.swapaxes(0, 1), products),
        ]
        return Outputs(t, found, Reader(t.inputs, staged, lines), calls, made[:, :DOWN])

    bound = Bound(prepare)

    def fill(x: Array, w: Array, b: Array | None, y: Array, taps: Array, room: Array, memory: Array) -> None:
        points = kept.of(w, room, lambda w, made: transform(w, taps, made))

        def work(i: int, prepared: list[Outputs]) -> None:
            for of_layout in prepared:
                of_layout.compute(x, y)

        share(work, bound(memory, points, *([] if b is None else [b])))

    return Routine(fill, (*of_kernel, _memory(divided, shapes)))


def x_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], anything, w [M, C/group, 3, 3] -> [N, C, H, W]."""
    back = c.adjoint()
    if back is None:
        return _correlation_columns.x_adjoint(c)
    routine = forward(back, turned=True)
    return Routine(lambda ct, x_like, w, x, *memory: routine.fill(ct, w, None, x, *memory), routine.scratch)


def w_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], x [N, C, H, W], anything -> [M, C/group, 3, 3]."""
    divided = _lots(c, 2 * LEAST)
    inside, outside = c.per_group
    kernel = KERNEL.astype(c.dtype)
    of_kernel = (POINTS_ALONG, POINTS_DOWN, c.group, outside, inside)

    def shapes(t: Tiles) -> tuple[Ints, ...]:
        n, x, ct = t.places, t.inputs, t.cotangents
        lines, spare = max(math.prod(x.shape), math.prod(ct.shape)), max(8 * n * c.channels, 4 * n * c.filters)
        x_down, ct_down = (POINTS_DOWN, ALONG, n + 1, c.channels), (POINTS_DOWN, ALONG, n, c.filters)
        first = of_kernel, of_kernel[1:]  # which have to be at the same place for all blocks
        return *first, x.staged, ct.staged, (lines,), (spare,), x_down, ct_down, (POINTS_DOWN, n, c.filters)

    def prepare(memory: Array) -> list[list[Sums]]:
        return [[sums(*pair, memory[i]) for pair in lot] for i, lot in enumerate(divided)]

    def sums(t: Tiles, found: list[Block], memory: Array) -> Sums:
        total, product, x_staged, ct_staged, lines, spare, x_down, ct_down, combined = carve(memory, *shapes(t))
        x_lines = lines[: math.prod(t.inputs.shape)].reshape(t.inputs.shape)
        ct_lines = lines[: math.prod(t.cotangents.shape)].reshape(t.cotangents.shape)
        by_x = spare[: 8 * t.places * c.channels].reshape(8, t.places, -1)
        operands = c, x_down, ct_down, total, by_x[:POINTS_DOWN], combined
        return Sums(
            found,
            Reader(t.inputs, x_staged, x_lines),
            Reader(t.cotangents, ct_staged, ct_lines),
            [*combine_lines(t.inputs, x_lines, by_line(x_down), by_x)],
            [*weigh_lines(ct_lines.reshape(DOWN, ALONG, -1), by_line(ct_down, 0), spare)],
            ([*multiply_both(*operands)], [*multiply_both(*operands, product)]),
            x_down[:, :, -1],
            total,
        )

    bound = Bound(prepare)

    def fill(ct: Array, x: Array, w_like: Any, w_ct: Array, others: Array, memory: Array) -> None:
        def work(i: int, prepared: list[Sums]) -> None:
            for of_layout in prepared:
                of_layout.compute(ct, x, more=of_layout is not prepared[0])
            points = prepared[0].total.reshape(len(kernel), -1)
            np.matmul(points.T, kernel, w_ct.reshape(-1, 9) if i == 0 else others[i - 1])

        share(work, bound(memory))
        for other in others[: len(divided) - 1]:
            np.add(w_ct, other.reshape(w_ct.shape), w_ct)

    return Routine(fill, ((len(divided), c.filters * inside, 9), _memory(divided, shapes)))
