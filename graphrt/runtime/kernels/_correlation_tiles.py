"""Kernels of 3 x 3 in steps of one, 4 x 2 outputs at a time: Winograd's F(4 x 2, 3 x 3), the channels innermost.

A tile of 4 x 2 outputs reads 6 x 4 inputs. As many combinations of these, the points, meet those of the kernel's nine
numbers; 24 products, each a matrix product over the channels, stand for 72, and combine to the 8 outputs. Arrays have
the channels as their innermost axis, so that combining neighbours is adding an array to itself from a later start.
Larger tiles would save few products more, and their rounding errors grow: those of this size are about as large as the
plain sum's.

Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015. Points down the image: 0, 1, -1, 2, -2,
infinity; along a line: 0, 1, -1, infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels import _correlation_columns
from graphrt.runtime.kernels._correlation import Call, Correlation, Routine, run
from graphrt.runtime.kernels._grid import Block, blocks, lots
from graphrt.runtime.kernels._kept import Kept
from graphrt.runtime.kernels._scratch import Bound, carve, room
from graphrt.runtime.threads import divide, share, threads_for

Ints = tuple[int, ...]

DOWN, ALONG = 4, 2
"""The size of a tile."""
POINTS_DOWN, POINTS_ALONG = 6, 4
AREA, AREA_SHARED, LEAST = 20_000, 40_000, 128
"""Places times channels of a block, about: what is worked on stays in the cache. Where several threads take turns with
the interpreter's lock, fewer and larger steps do better. And the fewest places.
"""
SPEED, KERNEL_SPEED = 0.007, 10
"""Nanoseconds that one of the plain sum's products takes in the end, about; and a kernel, to become points."""
KERNELS = 1 << 12
"""How many kernels become points at a time."""
CACHE_LINE = 64

KERNEL = np.einsum(
    "jq,kp->jkpq",
    np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]]) / 2,
    np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24,
).reshape(-1, 9)
"""A kernel's nine numbers to its 4 x 6 points, those along a line first."""


@dataclass(frozen=True)
class Tiles:
    """The tiles of a block: places [rows, images, pitch], of which the last in each row is none.

    (There lies what the tile before it reads beyond its own two columns.)
    """

    c: Correlation
    images: int
    rows: int

    @property
    def pitch(self) -> int:
        """Places in a row."""
        return _pitch(self.c)

    @property
    def places(self) -> int:
        """Of the whole block."""
        return self.rows * self.images * self.pitch

    @property
    def inputs(self) -> Source:
        """How the block's part of x is read."""
        return Source(self, self.c.channels, self.c.win.begin, 1)

    @property
    def cotangents(self) -> Source:
        """How the block's part of ct is read."""
        return Source(self, self.c.filters, (0, 0), 0)

    def write(self, made: Array, y: Array, block: Block) -> None:
        """Puts tiles [2, 4, places, M] into y [N, M, *out]."""
        tiles = made.reshape(ALONG, DOWN, self.rows, self.images, self.pitch, -1)
        images, bottom = slice(block.n0, block.n1), min(DOWN * block.r1, self.c.win.out[0])
        for rows, high, lines in _spans(DOWN * block.r0, bottom, DOWN):
            for columns, wide, along in _spans(0, self.c.win.out[1], ALONG):
                for column in range(wide):
                    part = y[images, :, lines, along][..., column::wide]
                    there = part.reshape(*part.shape[:2], -1, high, part.shape[3])
                    there.transpose(3, 2, 0, 4, 1)[...] = tiles[column, :high, rows, :, columns]


@dataclass(frozen=True)
class Source:
    """An array [N, channels, H, W] as a block's tiles see it, with zeros around the images.

    The first lines of all tiles are one array, the second ones another, and so on; in each the even columns come first.

    Attributes:
        tiles: of the block.
        channels: of the array.
        begin: how many lines and columns of zeros there are before the image.
        more: how many more rows of tiles are read than the block has.
    """

    tiles: Tiles
    channels: int
    begin: Ints
    more: int

    @property
    def staged(self) -> Ints:
        """The shape of the padded images; channels an odd number of cache lines apart, for fast access across them."""
        each = CACHE_LINE // self.tiles.c.dtype.itemsize
        return self.tiles.images, self.channels, (-(-math.prod(self.plane) // each) | 1) * each

    @property
    def shape(self) -> Ints:
        """[4, 2, rows, images * pitch * channels]."""
        t = self.tiles
        return DOWN, ALONG, t.rows + self.more, t.images * t.pitch * self.channels

    @property
    def plane(self) -> Ints:
        """A padded image: [rows, 4, pitch, 2]."""
        return self.tiles.rows + self.more, DOWN, self.tiles.pitch, ALONG

    def lines(self, made: Array, first: int, count: int) -> Array:
        """Of all tiles the lines from the first on: [count, 2, rows * images * pitch * channels], a view.

        Lines beyond the fourth are those of the tile below; none but 3 and 4 may come from both.
        """
        (row, which), each = divmod(first, DOWN), made.itemsize
        size = made.shape[1] * made.shape[2] * made.shape[3]
        step = made.shape[3] - (DOWN - 1) * size if which == DOWN - 1 else size
        start = which * size + row * made.shape[3]
        shape = count, ALONG, self.tiles.rows * made.shape[3]
        return np.ndarray(shape, made.dtype, made, start * each, (step * each, size // ALONG * each, each))


class Reader:
    """Reads blocks of an array into ``made`` of `Source.shape`, by way of ``staged``."""

    def __init__(self, source: Source, staged: Array, made: Array):
        t = source.tiles
        planes = staged[:, :, : math.prod(source.plane)].reshape(*staged.shape[:2], *source.plane)
        self._staged, self._begin = staged, source.begin
        self._padded = planes.reshape(*staged.shape[:2], -1, t.pitch * ALONG)
        self._lines = planes.transpose(3, 5, 2, 0, 4, 1)
        self._made = made.reshape(*made.shape[:3], t.images, t.pitch, -1)

    def begin(self) -> None:
        """Makes zeros of what no image covers."""
        self._staged[...] = 0

    def read(self, a: Array, block: Block) -> None:
        """Reads a block of an array [N, channels, H, W]."""
        (above, left), (height, width), count = self._begin, a.shape[2:], self._padded.shape[2]
        first = DOWN * block.r0 - above
        low, high = max(0, -first), min(count, height - first)
        if low:
            self._padded[:, :, :low] = 0
        if high < count:
            self._padded[:, :, high:] = 0
        part = a[block.n0 : block.n1, :, first + low : first + high]
        self._padded[:, :, low:high, left : left + width] = part
        self._made[...] = self._lines


def _pitch(c: Correlation) -> int:
    return -(-c.win.out[1] // ALONG) + 1


def _spans(start: int, stop: int, step: int) -> Iterator[tuple[slice, int, slice]]:
    """The whole steps between, and what remains: which steps, how long each is, from where to where."""
    whole = (stop - start) // step
    middle = start + whole * step
    if whole:
        yield slice(0, whole), step, slice(start, middle)
    if middle < stop:
        yield slice(whole, whole + 1), stop - middle, slice(middle, stop)


Lot = list[tuple[Tiles, list[Block]]]


def _lots(c: Correlation, least: int) -> list[Lot]:
    """The blocks of a batch, divided among threads."""
    rows, pitch, duration = -(-c.win.out[0] // DOWN), _pitch(c), c.products * SPEED
    threads = threads_for(duration)
    area = AREA if threads == 1 else AREA_SHARED
    target = min(max(area // max(c.channels, c.filters), least), -(-c.n * rows * pitch // threads))
    found = ((Tiles(c, n, r), block) for (n, r), same in blocks(c.n, rows, pitch, target) for block in same)
    return lots(found, duration, lambda tiles: tiles.places)


def _memory(divided: list[Lot], shapes: Callable[[Tiles], tuple[Ints, ...]]) -> Ints:
    """For each lot room for the largest of its blocks."""
    return len(divided), max(room(*shapes(t)) for lot in divided for t, _ in lot)


def forward(c: Correlation, turned: bool = False) -> Routine:
    """x [N, C, H, W], w [M, C/group, 3, 3], b [M] or None -> y [N, M, *out].

    With ``turned`` w is that of the correlation whose adjoint this is: [C, M/group, 3, 3], each kernel to be turned by
    half a turn.
    """
    divided = _lots(c, LEAST)
    of_kernel, transform = _kernel_points(c, turned)
    kept = Kept()

    def shapes(t: Tiles) -> tuple[Ints, ...]:
        n, x = t.places, t.inputs
        shared = max(math.prod(x.shape), ALONG * POINTS_DOWN * n * c.filters)
        down, products = (POINTS_DOWN, ALONG, n + 1, c.channels), (POINTS_DOWN, n, c.filters)
        return x.staged, (shared,), down, (8, n, c.channels), products

    def prepare(memory: Array, points: Array, b: Any = None) -> list[list[tuple[Any, ...]]]:
        return [[part(*pair, memory[i], points, b) for pair in lot] for i, lot in enumerate(divided)]

    def part(t: Tiles, found: list[Block], memory: Array, points: Array, b: Any) -> tuple[Any, ...]:
        staged, shared, down, spare, products = carve(memory, *shapes(t))
        lines = shared[: math.prod(t.inputs.shape)].reshape(t.inputs.shape)
        made = shared[: ALONG * products.size].reshape(ALONG, *products.shape)
        calls = [
            *_combine_lines(t.inputs, lines, _by_line(down), spare),
            *_multiply(c, down, points, b, made, spare[:POINTS_DOWN], products),
            *_separate(made.swapaxes(0, 1), products),
        ]
        return t, found, Reader(t.inputs, staged, lines), calls, made[:, :DOWN]

    bound = Bound(prepare)

    def fill(x: Array, w: Array, b: Array | None, y: Array, taps: Array, room: Array, memory: Array) -> None:
        points = kept.of(w, room, lambda w, made: transform(w, taps, made))

        def work(i: int, parts: list[tuple[Any, ...]]) -> None:
            for t, found, inputs, calls, made in parts:
                inputs.begin()
                for block in found:
                    inputs.read(x, block)
                    run(calls)
                    t.write(made, y, block)

        share(work, bound(memory, points, *([] if b is None else [b])))

    return Routine(fill, (*of_kernel, _memory(divided, shapes)))


def x_adjoint(c: Correlation) -> Routine:
    """ct [N, M, *out], anything, w [M, C/group, 3, 3] -> [N, C, H, W]."""
    back = c.adjoint()
    if back is None:
        return _correlation_columns.x_adjoint(c)
    routine = forward(back, turned=True)
    return Routine(lambda ct, x_like, w, x, *memory: routine.fill(ct, w, None, x, *memory), routine.scratch)


def _kernel_points(c: Correlation, turned: bool) -> tuple[tuple[Ints, Ints], Callable[[Array, Array, Array], None]]:
    """The shapes of ``taps`` and ``points``, and a function of w, taps and points that fills these, in several threads.

    Of taps: [9, group, C/group, M/group]; of points: [4, 6, group, C/group, M/group].
    """
    inside, outside = c.per_group
    step = max(1, KERNELS // (c.group * outside))
    channels = [slice(i, i + step) for i in range(0, inside, step)]
    parts = divide(channels, nanoseconds=c.channels * outside * KERNEL_SPEED)
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

    def prepare(memory: Array) -> list[list[tuple[Any, ...]]]:
        return [[part(*pair, memory[i]) for pair in lot] for i, lot in enumerate(divided)]

    def part(t: Tiles, found: list[Block], memory: Array) -> tuple[Any, ...]:
        total, product, x_staged, ct_staged, lines, spare, x_down, ct_down, combined = carve(memory, *shapes(t))
        x_lines = lines[: math.prod(t.inputs.shape)].reshape(t.inputs.shape)
        ct_lines = lines[: math.prod(t.cotangents.shape)].reshape(t.cotangents.shape)
        by_x = spare[: 8 * t.places * c.channels].reshape(8, t.places, -1)
        of_x = [*_combine_lines(t.inputs, x_lines, _by_line(x_down), by_x)]
        of_ct = [*_weigh_lines(ct_lines.reshape(DOWN, ALONG, -1), _by_line(ct_down, 0), spare)]
        operands = c, x_down, ct_down, total, by_x[:POINTS_DOWN], combined
        both = [*_multiply_both(*operands)], [*_multiply_both(*operands, product)]
        readers = Reader(t.inputs, x_staged, x_lines), Reader(t.cotangents, ct_staged, ct_lines)
        return found, *readers, of_x, of_ct, both, x_down[:, :, -1], total

    bound = Bound(prepare)

    def fill(ct: Array, x: Array, w_like: Any, w_ct: Array, others: Array, memory: Array) -> None:
        def work(i: int, parts: list[tuple[Any, ...]]) -> None:
            begun = False
            for found, inputs, cotangents, of_x, of_ct, both, beyond, _ in parts:
                inputs.begin()
                cotangents.begin()
                beyond[...] = 0
                for block in found:
                    inputs.read(x, block)
                    run(of_x)
                    cotangents.read(ct, block)
                    run(of_ct)
                    run(both[begun])
                    begun = True
            points = parts[0][-1].reshape(len(kernel), -1)
            np.matmul(points.T, kernel, w_ct.reshape(-1, 9) if i == 0 else others[i - 1])

        share(work, bound(memory))
        for other in others[: len(divided) - 1]:
            np.add(w_ct, other.reshape(w_ct.shape), w_ct)

    return Routine(fill, ((len(divided), c.filters * inside, 9), _memory(divided, shapes)))


def _by_line(down: Array, more: int = 1) -> Array:
    """[6, 2, places and more, C] as [6, 2, places * C]."""
    return down[:, :, : down.shape[2] - more].reshape(*down.shape[:2], -1)


def _by_group(c: Correlation, a: Array) -> Array:
    """[6, places, C] -> [6, group, places, C/group]."""
    return a.reshape(*a.shape[:2], c.group, -1).swapaxes(1, 2)


def _combine_lines(source: Source, lines: Array, v: Array, spare: Array) -> Iterator[Call]:
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


def _multiply(
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


def _separate(m: Array, spare: Array) -> Iterator[Call]:
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


def _weigh_lines(e: Array, d: Array, spare: Array) -> Iterator[Call]:
    """The adjoint of `_separate`: four lines of each tile to six points, both [., 2, places * M]."""
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


def _multiply_both(
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
