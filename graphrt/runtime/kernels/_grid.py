"""Where a block of images lies while it is convolved: padded, taken apart by stride, each channel one long row.

With stride ``s`` along an axis, padded position ``p`` is in phase ``p % s`` at place ``p // s``. A channel of a phase
is a row of ``rows x images x pitch`` numbers, so that what a kernel tap reads for all outputs is the same row from
another start: a plain slice. Outputs lie likewise; ``pitch`` may be wider than an output line, and what is computed
past its end is never read. Zeros to the right of a line are those to the left of the next.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cached_property
from typing import Any, TypeAlias, TypeVar

import numpy as np

from graphrt.op import Array
from graphrt.ops._windows import Window
from graphrt.records import dataclass
from graphrt.runtime.threads import divide

Ints: TypeAlias = tuple[int, ...]
Layout = TypeVar("Layout", bound=Hashable)
ALL = slice(None)


@dataclass(frozen=True)
class Block:
    """Images ``n0`` to ``n1`` and output rows (in the grid's own count) ``r0`` to ``r1`` of a batch."""

    n0: int
    n1: int
    r0: int
    r1: int


@dataclass(frozen=True)
class Grid:
    """The layout of ``images`` images, ``rows`` lines of output each.

    Attributes:
        win: the two-dimensional window.
        phases: how many phases there are along each axis: the strides, or fewer, longer steps.
        reach: how many more lines, and places in a line, than the output has are read.
        images, rows: the size of a block.
    """

    win: Window
    phases: Ints
    reach: Ints
    images: int
    rows: int

    @cached_property
    def pitch(self) -> int:
        """Numbers in a line."""
        out, need = self.win.out[1], self.win.out[1] + self.reach[1]
        step, begin, size = self.phases[1], self.win.begin[1], self.win.size[1]
        data_end = min((begin + size - 1) // step + 1, need)
        return max(out, data_end, need - begin // step)

    @property
    def line(self) -> int:
        """How far apart two lines of an image are."""
        return self.images * self.pitch

    @property
    def length(self) -> int:
        """Numbers in a channel of the output."""
        return self.rows * self.line

    @property
    def stretch(self) -> int:
        """Numbers in a channel of a phase of the input."""
        return (self.rows + self.reach[0]) * self.line

    def numbers(self, channels: int) -> int:
        """How many numbers the input takes, with what the last channel reads past its end."""
        return self.phases[0] * self.phases[1] * channels * self.stretch + self.reach[1]

    def lines(self, flat: Array, channels: int) -> Array:
        """The input by line: [phase, phase, channels, rows + reach, images, pitch]."""
        shape = (*self.phases, channels, self.rows + self.reach[0], self.images, self.pitch)
        return flat[: flat.size - self.reach[1]].reshape(shape)

    def seen(self, flat: Array, channels: int, tap: Ints, more: int = 0) -> Array:
        """What the tap at padded position ``tap`` of a window reads: [channels, length + more], a view."""
        (qa, a), (qb, b) = (divmod(t, s) for t, s in zip(tap, self.phases, strict=True))
        start = (a * self.phases[1] + b) * channels * self.stretch + qa * self.line + qb
        each = flat.itemsize
        return np.ndarray((channels, self.length + more), flat.dtype, flat, start * each, (self.stretch * each, each))

    def places(self, r0: int) -> list[tuple[Ints, Any, Any]]:
        """Per phase: its numbers, where in ``[channels, lines, images, places]`` and in [N, C, H, W] its image lies."""
        found = self._places.get(r0)
        if found is None:
            found = self._places[r0] = []
            for a, b in np.ndindex(*self.phases):
                lines, rows = self._span(0, a, r0, self.rows + self.reach[0])
                along, columns = self._span(1, b, 0, self.pitch)
                found.append(((a, b), (ALL, lines, ALL, along), (ALL, ALL, rows, columns)))
        return found

    @cached_property
    def _places(self) -> dict[int, list[tuple[Ints, Any, Any]]]:
        return {}

    def _span(self, axis: int, phase: int, first: int, count: int) -> tuple[slice, slice]:
        step, shift = self.phases[axis], phase - self.win.begin[axis]
        low = max(first, -(shift // step))  # the first place whose position is in the image
        high = max(low, min(first + count, (self.win.size[axis] - 1 - shift) // step + 1))
        start = low * step + shift
        stop = start + (high - low - 1) * step + 1 if high > low else start
        return slice(min(low - first, count), min(high - first, count)), slice(start, stop, step)

    def fill(self, lines: Array, x: Array, block: Block) -> None:
        """Puts a block of x [N, C, H, W] in place; places that are padding along a line are left as they are."""
        part = x[block.n0 : block.n1]
        for phase, there, here in self.places(block.r0):
            rows = there[1]
            if rows.start:
                lines[phase][:, : rows.start] = 0
            if rows.stop < self.rows + self.reach[0]:
                lines[phase][:, rows.stop :] = 0
            lines[phase][there] = part[here].transpose(1, 2, 0, 3)

    def spill(self, x: Array, lines: Array, block: Block) -> None:
        """The adjoint of `fill`: adds what lies in the places of the image to x."""
        part = x[block.n0 : block.n1]
        whole = self.rows == self.win.out[0]
        for phase, there, here in self.places(block.r0):
            found = lines[phase][there].transpose(2, 0, 1, 3)
            part[here] = found if whole else part[here] + found

    def output(self, y: Array, block: Block) -> Array:
        """The block of y [N, M, *out] as [M, rows, images, columns], a view."""
        return y[block.n0 : block.n1, :, block.r0 : block.r1].transpose(1, 2, 0, 3)

    def outputs(self, flat: Array) -> Array:
        """[M, length] without what is never read: [M, rows, images, columns], a view."""
        return flat.reshape(-1, self.rows, self.images, self.pitch)[..., : self.win.out[1]]


def blocks(n: int, rows: int, line: int, target: int) -> list[tuple[Ints, list[Block]]]:
    """A batch of n images of so many rows in blocks of about ``target`` numbers: whole images if they fit, else rows.

    Returns:
        Size of block (images, rows) to the blocks of that size; two to four sizes at most.
    """
    if rows * line <= target:
        return [
            ((b - a, rows), [Block(i, i + b - a, 0, rows) for i in range(a, end, b - a)])
            for a, b, end in _runs(n, max(1, target // (rows * line)))
        ]
    step = max(1, target // line)
    return [
        ((1, b - a), [Block(i, i + 1, r, r + b - a) for i in range(n) for r in range(a, end, b - a)])
        for a, b, end in _runs(rows, step)
    ]


def lots(
    found: Iterable[tuple[Layout, Block]],
    nanoseconds: float,
    size: Callable[[Layout], float],
    key: Callable[[Block], Any] | None = None,
) -> list[list[tuple[Layout, list[Block]]]]:
    """Blocks, each with its layout, divided among threads: for each thread the layouts with their blocks.

    Args:
        found: in an order in which neighbours may go to one thread.
        nanoseconds: how long all take one thread, about.
        size: of a block of a layout.
        key: blocks side by side with equal keys go to one thread.
    """
    of_block = None if key is None else lambda pair: key(pair[1])
    divided = []
    for run in divide(list(found), lambda pair: size(pair[0]), of_block, nanoseconds):
        by_layout: dict[Layout, list[Block]] = {}
        for layout, block in run:
            by_layout.setdefault(layout, []).append(block)
        divided.append(list(by_layout.items()))
    return divided


def _runs(n: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Steps of equal length up to n, then a shorter one: (start, start + step, end of the run)."""
    if n == 0:
        return
    step = -(-n // -(-n // most))
    whole = n // step * step
    yield 0, step, whole
    if whole < n:
        yield whole, n, n
