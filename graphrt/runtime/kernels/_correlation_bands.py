"""A kernel for each channel, as matrix products along the lines of an image.

What one line of a kernel makes of one line of an image is the product with a banded matrix, whose columns hold the
kernel's numbers where the outputs read. So a kernel of three lines takes three products of images [H, W] with matrices
[W, W'], of which only the parts around the band are made and multiplied. A small image is one line of all its numbers,
and takes one product. Most that is multiplied are zeros, but the BLAS is that much faster than passes through memory.
"""

from __future__ import annotations

import math

import numpy as np

from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels import _correlation_depthwise
from graphrt.runtime.kernels._correlation import Correlation, Routine
from graphrt.runtime.kernels._kept import Kept
from graphrt.runtime.kernels._scratch import carve, room
from graphrt.runtime.threads import divide, share

Ints = tuple[int, ...]

BAND = 16
"""Outputs of a part of a banded matrix."""
LINES = 4
"""Lines of output from which on the products pay."""
WHOLE = 1 << 12
"""Numbers in the matrix of a whole image, at most, if it meets so many images as `FEW`."""
FEW = 4
SPEED = 0.25
"""Nanoseconds that one of the kernel's products takes, about."""


@dataclass(frozen=True)
class Span:
    """Outputs along one axis, and what a tap of the kernel, or all of it, reads for them."""

    outputs: slice
    inputs: slice

    @property
    def size(self) -> int:
        """How many outputs."""
        return int(self.outputs.stop - self.outputs.start)


def _tap(c: Correlation, axis: int, tap: int, first: int = 0, end: int | None = None) -> Span:
    """Those of some outputs for which a tap reads from within the image, and what it reads."""
    win = c.win
    step, shift = win.strides[axis], tap * win.dilations[axis] - win.begin[axis]
    low = max(first, -(shift // step))
    high = max(low, min(win.out[axis] if end is None else end, (win.size[axis] - 1 - shift) // step + 1))
    start = low * step + shift
    return Span(slice(low, high), slice(start, start + max(0, (high - low - 1) * step + 1), step))


def _bands(c: Correlation) -> list[Span]:
    """The outputs of a line, some at a time, and all that they read."""
    win, found = c.win, []
    step, reach = win.strides[1], (win.kernel[1] - 1) * win.dilations[1] + 1
    for first in range(0, win.out[1], BAND):
        end = min(first + BAND, win.out[1])
        start = min(max(0, first * step - win.begin[1]), win.size[1])
        stop = max(start, min(win.size[1], (end - 1) * step - win.begin[1] + reach))
        found.append(Span(slice(first, end), slice(start, stop)))
    return found


def serves(c: Correlation) -> bool:
    """Whether there is a kernel for each channel, and lines enough."""
    return c.per_group == (1, 1) and (c.win.out[0] >= LINES or _is_whole(c))


def _is_whole(c: Correlation) -> bool:
    numbers = math.prod(c.win.size) * math.prod(c.win.out)
    return numbers <= (WHOLE if c.n >= FEW else WHOLE // 16)


def forward(c: Correlation) -> Routine:
    """x [N, C, H, W], w [C, 1, kh, kw], b [C] or None -> y [N, C, *out]."""
    return _forward_whole(c) if _is_whole(c) else _forward_by_line(c)


def x_adjoint(c: Correlation) -> Routine:
    """ct [N, C, *out], anything, w [C, 1, kh, kw] -> [N, C, H, W]."""
    back = c.adjoint()
    if back is None or not serves(back):
        return _correlation_depthwise.x_adjoint(c)
    routine = forward(back)
    return Routine(lambda ct, x_like, w, x, *memory: routine.fill(ct, c.turned(w), None, x, *memory), routine.scratch)


w_adjoint = _correlation_depthwise.w_adjoint


def _channels(c: Correlation) -> list[slice]:
    runs = divide(range(c.channels), nanoseconds=c.products * SPEED)
    return [slice(run[0], run[-1] + 1) for run in runs]


def _forward_by_line(c: Correlation) -> Routine:
    """One product for each line of the kernel and band; those of the first line make all outputs, if there is such."""
    win, kept, parts, bands = c.win, Kept(), _channels(c), _bands(c)
    lines = [(i, _tap(c, 0, i)) for i in range(win.kernel[0])]
    lines = sorted(((i, s) for i, s in lines if s.size), key=lambda line: -line[1].size)
    all_at_once = bool(lines) and lines[0][1].size == win.out[0]
    shapes = [(win.kernel[0], c.channels, b.inputs.stop - b.inputs.start, b.size) for b in bands]

    def matrices(w: Array, made: Array) -> None:
        made[...] = 0
        numbers = w.reshape(c.channels, *win.kernel).transpose(1, 2, 0)
        for band, matrix in zip(bands, carve(made, *shapes), strict=True):
            for j in range(win.kernel[1]):
                diagonal = _diagonal(c, j, band, matrix)
                diagonal[...] = numbers[:, j, :, None]

    def fill(x: Array, w: Array, b: Array | None, y: Array, memory: Array, products: Array) -> None:
        banded = list(zip(bands, carve(kept.of(w, memory, matrices), *shapes), strict=True))

        def work(i: int, part: slice) -> None:
            images, to, product = x[:, part], y[:, part], products[:, part]
            if not all_at_once:
                to[...] = 0
            for n, (line, rows) in enumerate(lines):
                there = to[:, :, rows.outputs]
                first = all_at_once and n == 0
                made = there if first else product[:, :, rows.outputs]
                for band, matrix in banded:
                    read = images[:, :, rows.inputs, band.inputs]
                    np.matmul(read, matrix[line, part], made[..., band.outputs])
                if not first:
                    np.add(there, made, there)
            if b is not None:
                np.add(to, b[part, None, None], to)

        share(work, parts)

    return Routine(fill, ((room(*shapes),), c.y_shape))


def _diagonal(c: Correlation, tap: int, band: Span, matrix: Array) -> Array:
    """Where a tap stands in a banded matrix [kernel lines, C, inputs, outputs]: [lines, C, outputs], a view."""
    span = _tap(c, 1, tap, band.outputs.start, band.outputs.stop)
    first, origin = band.outputs.start, band.inputs.start
    rows = slice(span.inputs.start - origin, max(0, span.inputs.stop - origin), span.inputs.step)
    return np.einsum("rcoo->rco", matrix[:, :, rows, span.outputs.start - first : span.outputs.stop - first])


def _forward_whole(c: Correlation) -> Routine:
    """One product for each channel, of the images as lines."""
    win, kept, parts = c.win, Kept(), _channels(c)

    def matrices(w: Array, made: Array) -> None:
        made[...] = 0
        by_place = made.reshape(c.channels, *win.size, *win.out)
        for i, j in np.ndindex(*win.kernel):
            rows, along = _tap(c, 0, i), _tap(c, 1, j)
            there = by_place[:, rows.inputs, along.inputs, rows.outputs, along.outputs]
            diagonal = np.einsum("croro->cro", there)
            diagonal[...] = w[:, 0, i, j, None, None]

    def fill(x: Array, w: Array, b: Array | None, y: Array, room: Array) -> None:
        of_channel = kept.of(w, room, matrices)
        lines, made = (a.reshape(c.n, c.channels, -1).swapaxes(0, 1) for a in (x, y))

        def work(i: int, part: slice) -> None:
            np.matmul(lines[part], of_channel[part], made[part])
            if b is not None:
                np.add(made[part], b[part, None, None], made[part])

        share(work, parts)

    return Routine(fill, ((c.channels, math.prod(win.size), math.prod(win.out)),))
