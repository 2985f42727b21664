"""Kernels in steps of more than one, or over few outputs: one matrix product with what each output reads.

The patches are put together from images that have the channels innermost, so that whatever the steps nothing is copied
but what is read, and in long runs. The kernels are multiplied as they lie.
"""

from __future__ import annotations

import math

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels import _correlation_columns
from graphrt.runtime.kernels._correlation import Correlation, Routine
from graphrt.runtime.kernels._grid import Block, blocks
from graphrt.runtime.threads import divide, share, threads_for

Ints = tuple[int, ...]

MANY = 16
"""From how many channels on runs are long enough."""
NARROW = 4
"""Outputs in a line up to which steps of one pay."""
AREA = 1 << 18
"""Numbers in the patches of a block, about: they stay in the cache."""
SPEED = 0.013
"""Nanoseconds that one of the products takes, about."""


def serves(c: Correlation) -> bool:
    """Whether there are many channels, and steps, or few outputs in a line."""
    return c.group == 1 and c.channels >= MANY and (c.win.strides != (1, 1) or c.win.out[1] <= NARROW)


def _parts(c: Correlation) -> list[list[Block]]:
    """The blocks of a batch, divided among threads."""
    rows, width = c.win.out
    duration, depth = c.products * SPEED, c.channels * c.win.n_taps
    each = -(-c.n * rows * width // threads_for(duration))
    found = [block for _, same in blocks(c.n, rows, width, min(each, max(AREA // depth, width))) for block in same]
    return divide(found, lambda b: (b.n1 - b.n0) * (b.r1 - b.r0), nanoseconds=duration)


def _sizes(c: Correlation, block: Block) -> tuple[Ints, Ints]:
    """The shapes of the padded images of a block, and of its patches: [images, rows, columns, C, taps]."""
    win, images, rows = c.win, block.n1 - block.n0, block.r1 - block.r0
    high, wide = (
        (n - 1) * s + (k - 1) * d + 1
        for n, s, k, d in zip((rows, win.out[1]), win.strides, win.kernel, win.dilations, strict=True)
    )
    return (images, high, wide, c.channels), (images, rows, win.out[1], c.channels, win.n_taps)


def forward(c: Correlation) -> Routine:
    """x [N, C, H, W], w [M, C, kh, kw], b [M] or None -> y [N, M, *out]."""
    parts = _parts(c)
    sizes = {b: _sizes(c, b) for part in parts for b in part}
    staged, patches = (max(math.prod(s[i]) for s in sizes.values()) for i in (0, 1))
    products = max(math.prod(s[1][:3]) for s in sizes.values()) * c.filters

    def fill(x: Array, w: Array, b: Array | None, y: Array, *memory: Array) -> None:
        matrix = w.reshape(c.filters, -1)

        def work(i: int, part: list[Block]) -> None:
            for block in part:
                one(block, *memory[3 * i : 3 * i + 3])

        def one(block: Block, staged: Array, patches: Array, made: Array) -> None:
            image, patch = (a[: math.prod(s)].reshape(s) for a, s in zip((staged, patches), sizes[block], strict=True))
            _stage(c, x, block, image)
            _gather(c, image, patch)
            rows = patch.reshape(-1, matrix.shape[1])
            product = made[: len(rows) * c.filters]
            if c.filters > len(rows):  # the BLAS likes a product tall
                by_filter = product.reshape(c.filters, -1)
                np.matmul(matrix, rows.T, by_filter)
            else:
                np.matmul(rows, matrix.T, product.reshape(-1, c.filters))
                by_filter = product.reshape(-1, c.filters).T
            given = by_filter.reshape(c.filters, *patch.shape[:3]).swapaxes(0, 1)
            there = y[block.n0 : block.n1, :, block.r0 : block.r1]
            if b is None:
                np.copyto(there, given)
            else:
                np.add(given, b[:, None, None], there)

        share(work, parts)

    return Routine(fill, ((staged,), (patches,), (products,)) * len(parts))


def _stage(c: Correlation, x: Array, block: Block, image: Array) -> None:
    """Puts what a block reads of x into [images, lines, columns, C], zeros around it."""
    first = block.r0 * c.win.strides[0] - c.win.begin[0], -c.win.begin[1]
    low = [max(0, -f) for f in first]
    high = [max(a, min(n, size - f)) for a, n, size, f in zip(low, image.shape[1:3], c.win.size, first, strict=True)]
    if low != [0, 0] or high != list(image.shape[1:3]):
        image[...] = 0
    lines, columns = (slice(f + a, f + b) for f, a, b in zip(first, low, high, strict=True))
    part = x[block.n0 : block.n1, :, lines, columns]
    image[:, low[0] : high[0], low[1] : high[1]] = part.transpose(0, 2, 3, 1)


def _gather(c: Correlation, image: Array, patch: Array) -> None:
    """Fills the patches [images, rows, columns, C, taps] tap by tap."""
    steps, spread = c.win.strides, c.win.dilations
    for t, tap in enumerate(np.ndindex(*c.win.kernel)):
        lines, columns = (
            slice(i * d, i * d + (n - 1) * s + 1, s)
            for i, d, n, s in zip(tap, spread, patch.shape[1:3], steps, strict=True)
        )
        patch[..., t] = image[:, lines, columns]


x_adjoint, w_adjoint = _correlation_columns.x_adjoint, _correlation_columns.w_adjoint
