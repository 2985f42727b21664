"""3-tap columns, four output lines at a time: Winograd's F(4,3) down the image, plain taps along the line.

Six combinations of six neighbouring lines of the input meet six combinations of the three kernel lines; six products
in place of twelve give four lines of output. Everything runs along whole lines, so the combinations cost little, and
with one axis transformed the rounding error stays within a few units of the plain sum's.
Source: Lavin and Gray, Fast algorithms for convolutional neural networks, 2015; points 0, 1, -1, 2, -2, infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels._correlation import Correlation
from graphrt.runtime.kernels._grid import Grid, blocks
from graphrt.runtime.kernels._scratch import scratch

TILE, POINTS = 4, 6
TARGET = 600
"""Numbers in a channel of a block, about: the six products of a block stay in the cache."""

KERNEL = np.array(
    [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]]
)  # fmt: skip
"""Three kernel lines to the six points."""


def _grids(c: Correlation) -> list[tuple[Grid, Any]]:
    tiles = -(-c.win.out[0] // TILE)
    reach = (1, (c.win.kernel[1] - 1) * c.win.dilations[1])
    base = Grid(replace(c.win, out=(tiles, c.win.out[1])), (TILE, 1), reach, 1, tiles)
    return [(replace(base, images=n, rows=r), found) for (n, r), found in blocks(c.n, tiles, base.pitch, TARGET)]


def forward(c: Correlation) -> Callable[[Array, Array, Array | None], Array]:
    """x [N, C, H, W], w [M, C/group, 3, kw], b [M] or None -> y [N, M, *out]."""
    grids, taps = _grids(c), c.win.kernel[1]
    step = c.win.dilations[1]
    inside, outside = c.channels // c.group, c.filters // c.group

    def correlate(x: Array, w: Array, b: Array | None = None) -> Array:
        y = np.empty(c.out_shape, c.dtype)
        points = _kernel_points(c, w)
        bias = None if b is None else b.reshape(-1, 1)
        for grid, found in grids:
            length, wide = grid.length, -(-grid.length // 16) * 16
            with scratch(
                c.dtype, (grid.numbers(c.channels),), (POINTS, c.group, taps, inside, wide),
                (POINTS, c.filters, length), (5, max(c.channels, c.filters), length + grid.reach[1]),
            ) as (flat, spread, products, spare):  # fmt: skip
                flat[:] = 0
                lines = grid.lines(flat, c.channels)
                seen = [grid.seen(flat, c.channels, (k, 0), grid.reach[1]) for k in range(POINTS)]
                operand = spread.reshape(POINTS, c.group, taps * inside, wide)[..., :length]
                result = products.reshape(POINTS, c.group, outside, length)
                parts = grid.outputs(products[0])
                for block in found:
                    grid.fill(lines, x, block)
                    ...
        return y

    return correlate
