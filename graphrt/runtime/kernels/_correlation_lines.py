"""Few channels, many images: one matrix product per line of outputs, of what the lines of all images lie side by side.

What the taps along a line read is written out, [line, C * kw, images * pitch]; then all that one line of outputs reads
is a matrix of kh * C * kw rows as it lies, and neighbouring lines of outputs share all but one of its lines. So a
number is copied kw times instead of kh * kw times, and the products are wide.

Source: Cho and Brand, MEC: memory-efficient convolution for deep neural networks, 2017.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels import _correlation_columns
from graphrt.runtime.kernels._correlation import Call, Correlation, Routine, run
from graphrt.runtime.kernels._grid import Block, Grid, blocks, lots
from graphrt.runtime.kernels._kept import Kept
from graphrt.runtime.kernels._pieces import SMALL
from graphrt.runtime.kernels._scratch import Bound, carve, room
from graphrt.runtime.threads import share, threads_for

Ints = tuple[int, ...]
as_strided = np.lib.stride_tricks.as_strided

NUMBERS = 1 << 18
"""Numbers in what a block of images writes out, about: it stays in the cache. No image takes more."""
WIDE = 128
"""Numbers in a line of all images from which on the products pay."""
BROAD = 32
"""From how many filters on fewer, longer products make the gradient of the weights."""
SPEED, COPY_SPEED, IMAGE_SPEED = 0.022, 0.06, 0.35
"""Nanoseconds that one of the products takes, about; a number that is written out; and one of x or y."""


def serves(c: Correlation) -> bool:
    """Whether the weights are few, and the images of a batch small, and enough for wide products."""
    if c.group > 1 or c.win.dilations[0] > 1 or c.n * c.win.out[1] < WIDE or math.prod(c.w_shape) * WIDE > SMALL:
        return False
    return _numbers(c, c.channels * c.win.kernel[1]) <= NUMBERS


@dataclass(frozen=True)
class Lines:
    """Where a block of images lies: line by line, each channel, and in it each phase, one long row.

    Attributes:
        c: the correlation.
        images: how many there are in the block.
    """

    c: Correlation
    images: int

    @cached_property
    def grid(self) -> Grid:
        """The places of images and outputs in lines."""
        win = self.c.win
        reach = (win.kernel[1] - 1) * win.dilations[1] // win.strides[1]
        return Grid(win, (1, win.strides[1]), (self.high - self.rows, reach), self.images, self.rows)

    @property
    def rows(self) -> int:
        """Lines of output."""
        return self.c.win.out[0]

    @property
    def high(self) -> int:
        """Lines of input."""
        return (self.rows - 1) * self.c.win.strides[0] + self.c.win.kernel[0]

    @property
    def length(self) -> int:
        """Numbers in a line of all images, of one channel and phase."""
        return self.grid.line

    @property
    def reach(self) -> int:
        """How far the last tap reads past the line."""
        return self.grid.reach[1]

    @property
    def across(self) -> int:
        """Rows of a line of input: channels by phases."""
        return self.c.channels * self.c.win.strides[1]

    @property
    def depth(self) -> int:
        """Numbers of one line that an output reads: channels by taps."""
        return self.c.channels * self.c.win.kernel[1]

    @property
    def input(self) -> Ints:
        """The shape of the lines of input, with what is read past the last, as one row."""
        return (self.high * self.across * self.length + self.reach,)

    @property
    def output(self) -> Ints:
        """[line, filter, images * pitch]."""
        return self.rows, self.c.filters, self.length

    @property
    def written(self) -> Ints:
        """What all taps along the lines read."""
        return self.high, self.c.channels, self.c.win.kernel[1], self.length

    def lines(self, flat: Array) -> Array:
        """The input as `Grid.fill` takes it: [1, phase, channel, line, image, place], a view."""
        by_line = flat[: flat.size - self.reach].reshape(
            self.high, self.c.channels, 1, self.c.win.strides[1], self.images, self.grid.pitch
        )
        return by_line.transpose(2, 3, 1, 0, 4, 5)

    def outputs(self, given: Array) -> Array:
        """[line, filter, images * pitch] as [image, filter, line, place], a view without what is beyond the lines."""
        by_image = given.reshape(self.rows, self.c.filters, self.images, self.grid.pitch)
        return by_image[..., : self.c.win.out[1]].transpose(2, 1, 0, 3)

    def write(self, flat: Array, written: Array) -> list[Call]:
        """Calls that write out what the taps read."""
        win, each, calls = self.c.win, flat.itemsize, []
        step, spread = win.strides[1], win.dilations[1]
        apart = step // math.gcd(step, spread)
        for first in range(min(apart, win.kernel[1])):
            phase, shift = first * spread % step, first * spread // step
            to = written[:, :, first::apart]
            strides = (self.across * self.length, step * self.length, apart * spread // step, 1)
            read = as_strided(flat[phase * self.length + shift :], to.shape, [s * each for s in strides])
            calls.append((np.copyto, to, read))
        return calls

    def read(self, written: Array) -> Array:
        """What each line of output reads: [line, kh * depth, images * pitch], overlapping views."""
        row = self.length * written.itemsize
        shape = self.rows, self.c.win.kernel[0] * self.depth, self.length
        return as_strided(written, shape, (self.c.win.strides[0] * self.depth * row, row, written.itemsize))


Lot = list[tuple[Lines, list[Block]]]
Prepared = list[tuple[Lines, list[Block], Any]]
"""What a thread does: layouts, their blocks, and what is prepared for them."""


def _numbers(c: Correlation, depth: int) -> int:
    """How many numbers an image takes, of which ``depth`` times as many are written out."""
    one = Lines(c, 1)
    return max(one.high * depth, one.rows * c.filters) * one.length


def _divided(c: Correlation, depth: int) -> list[Lot]:
    """The blocks of a batch, divided among threads; of an image ``depth`` rows are written out for each line."""
    one = Lines(c, 1)
    duration = c.products * SPEED + c.n * one.high * depth * one.length * COPY_SPEED
    duration += (math.prod(c.x_shape) + math.prod(c.y_shape)) * IMAGE_SPEED
    most = min(max(NUMBERS // _numbers(c, depth), WIDE // one.length), SMALL // (math.prod(c.w_shape) * one.length))
    each = min(max(1, most), -(-c.n // threads_for(duration)))
    sizes = blocks(c.n, 1, 1, each)
    return lots([(Lines(c, n), b) for (n, _), same in sizes for b in same], duration, lambda layout: layout.images)


def _bound(parts: list[Lot], prepare: Callable[..., Any]) -> Bound[list[Prepared]]:
    """Of an array with a row for each part, and more: what ``prepare(layout, row, *more)`` makes for each layout."""

    def prepare_all(memory: Array, *more: Array) -> list[Prepared]:
        each = zip(parts, memory, strict=True)
        return [[(layout, found, prepare(layout, own, *more)) for layout, found in part] for part, own in each]

    return Bound(prepare_all)


def _memory(parts: list[Lot], shapes: Callable[[Lines], tuple[Ints, ...]]) -> Ints:
    """The shape of an array with a row for each part that has room for its largest layout."""
    return len(parts), max(room(*shapes(layout)) for part in parts for layout, _ in part)


def forward(c: Correlation) -> Routine:
    """x [N, C, H, W], w [M, C, kh, kw], b [M] or None -> y [N, M, *out]."""
    parts, kept = _divided(c, c.channels * c.win.kernel[1]), Kept()

    def shapes(layout: Lines) -> tuple[Ints, ...]:
        return layout.input, layout.written, layout.output

    def prepare(layout: Lines, memory: Array, matrix: Array) -> tuple[Array, list[Call], Array]:
        flat, written, given = carve(memory, *shapes(layout))
        calls = [*layout.write(flat, written), (np.matmul, matrix, layout.read(written), given)]
        return flat, calls, layout.outputs(given)

    bound = _bound(parts, prepare)

    def by_line(w: Array, matrix: Array) -> None:
        np.copyto(matrix.reshape(c.filters, c.win.kernel[0], c.channels, -1), w.swapaxes(1, 2))

    def fill(x: Array, w: Array, b: Array | None, y: Array, matrix: Array, memory: Array) -> None:
        def work(i: int, part: Prepared) -> None:
            for layout, found, (flat, calls, outputs) in part:
                flat[:] = 0
                lines = layout.lines(flat)
                for block in found:
                    layout.grid.fill(lines, x, block)
                    run(calls)
                    to = y[block.n0 : block.n1]
                    np.copyto(to, outputs)
                    if b is not None:
                        np.add(to, b[:, None, None], to)

        share(work, bound(memory, kept.of(w, matrix, by_line)))

    return Routine(fill, ((c.filters, math.prod(c.w_shape[1:])), _memory(parts, shapes)))


def w_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], x [N, C, H, W], anything -> [M, C, kh, kw]."""
    if c.filters >= BROAD:
        return _correlation_columns.w_adjoint(c)
    parts = _divided(c, c.channels * c.win.kernel[1])
    shape = c.win.kernel[0] * c.channels * c.win.kernel[1], c.filters  # tall, as the BLAS likes a product

    def shapes(layout: Lines) -> tuple[Ints, ...]:
        return shape, shape, (layout.rows, *shape), layout.input, layout.written, layout.output

    def prepare(layout: Lines, memory: Array) -> tuple[Array, Array, list[Call], Array, Array]:
        total, summed, products, flat, written, given = carve(memory, *shapes(layout))
        calls = [
            *layout.write(flat, written),
            (np.matmul, layout.read(written), given.swapaxes(1, 2), products),
            (np.add.reduce, products, 0, None, summed),
            (np.add, total, summed, total),
        ]
        return total, flat, calls, given, layout.outputs(given)

    bound = _bound(parts, prepare)

    def fill(ct: Array, x: Array, w_like: Any, w: Array, memory: Array) -> None:
        def work(i: int, part: Prepared) -> Array:
            total: Array = part[0][2][0]
            total[...] = 0
            for layout, found, (_, flat, calls, given, outputs) in part:
                flat[:] = 0
                given[...] = 0
                lines = layout.lines(flat)
                for block in found:
                    layout.grid.fill(lines, x, block)
                    np.copyto(outputs, ct[block.n0 : block.n1])
                    run(calls)
            return total

        total, *others = share(work, bound(memory))
        for other in others:
            np.add(total, other, total)
        by_line = total.T.reshape(c.filters, c.win.kernel[0], c.channels, c.win.kernel[1])
        np.copyto(w, by_line.swapaxes(1, 2))

    return Routine(fill, (_memory(parts, shapes),))


def x_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], anything, w [M, C, kh, kw] -> [N, C, H, W].

    Written out is what the taps along a line read of ct; each of its lines gives kh lines of x. That is copies of ct in
    the place of additions to x.
    """
    (high, wide), spread = c.win.kernel, c.win.dilations[1]
    if c.win.strides != (1, 1) or c.filters > 2 * c.channels * high:
        return _correlation_columns.x_adjoint(c)
    parts, reach = _divided(c, c.filters * wide), (wide - 1) * spread

    def shapes(layout: Lines) -> tuple[Ints, ...]:
        row = layout.length
        given = layout.rows * c.filters * row + reach
        written, products = (layout.rows, c.filters * wide, row), (layout.rows, high, c.channels * row)
        return layout.input, (given,), written, products

    def prepare(layout: Lines, memory: Array, matrix: Array) -> tuple[Array, list[Call], Array, Array]:
        flat, given, written, products = carve(memory, *shapes(layout))
        row, each = layout.length, flat.itemsize
        shape, strides = (layout.rows, c.filters, wide, row), (c.filters * row, row, -spread, 1)
        read = as_strided(given[reach:], shape, [s * each for s in strides])
        lines = flat[: flat.size - layout.reach].reshape(layout.high, -1)
        calls: list[Call] = [
            (np.copyto, written.reshape(shape), read),
            (np.matmul, matrix, written, products.reshape(layout.rows, -1, row)),
        ]
        for i in range(high):
            to = lines[i : i + layout.rows]
            calls.append((np.add, to, products[:, i], to))
        return flat, calls, given, layout.outputs(given[reach:])

    def by_line(w: Array, matrix: Array) -> None:
        np.copyto(matrix.reshape(high, c.channels, c.filters, wide), w.transpose(2, 1, 0, 3))

    bound, kept = _bound(parts, prepare), Kept()

    def fill(ct: Array, x_like: Any, w: Array, x: Array, matrix: Array, memory: Array) -> None:
        x[...] = 0

        def work(i: int, part: Prepared) -> None:
            for layout, found, (flat, calls, given, outputs) in part:
                given[...] = 0
                lines = layout.lines(flat)
                for block in found:
                    flat[:] = 0
                    np.copyto(outputs, ct[block.n0 : block.n1])
                    run(calls)
                    layout.grid.spill(x, lines, block)

        share(work, bound(memory, kept.of(w, matrix, by_line)))

    return Routine(fill, ((high * c.channels, c.filters * wide), _memory(parts, shapes)))
