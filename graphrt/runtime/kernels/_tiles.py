"""Where the tiles of a block of images lie, of 4 x 2 outputs each (see `_correlation_tiles`); a place stands for one.

The lines and columns of an image are taken apart, so that what all tiles read is one array; the channels are innermost.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels._correlation import Correlation
from graphrt.runtime.kernels._grid import Block

Ints = tuple[int, ...]

DOWN, ALONG = 4, 2
"""The size of a tile."""
CACHE_LINE = 64


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
        return pitch(self.c)

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
        self._moves = DOWN * t.rows < t.c.win.out[0]  # the blocks are parts of images

    def begin(self) -> None:
        """Makes zeros of what no image covers."""
        self._staged[...] = 0

    def read(self, a: Array, block: Block) -> None:
        """Reads a block of an array [N, channels, H, W]."""
        (above, left), (height, width), count = self._begin, a.shape[2:], self._padded.shape[2]
        first = DOWN * block.r0 - above
        low, high = max(0, -first), min(count, height - first)
        if self._moves:
            self._padded[:, :, :low] = 0
            self._padded[:, :, high:] = 0
        part = a[block.n0 : block.n1, :, first + low : first + high]
        self._padded[:, :, low:high, left : left + width] = part
        self._made[...] = self._lines


def pitch(c: Correlation) -> int:
    """Places in a row of tiles."""
    return -(-c.win.out[1] // ALONG) + 1


def _spans(start: int, stop: int, step: int) -> Iterator[tuple[slice, int, slice]]:
    """The whole steps between, and what remains: which steps, how long each is, from where to where."""
    whole = (stop - start) // step
    middle = start + whole * step
    if whole:
        yield slice(0, whole), step, slice(start, middle)
    if middle < stop:
        yield slice(whole, whole + 1), stop - middle, slice(middle, stop)
