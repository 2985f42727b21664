"""The loops of `graphrt_numba.halving`: windows of 2 x 2 side by side, many rows of them at a time.

The upper lines of the windows are put one after the other, and the lower ones, so that lines may be short.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, copy, helper, local, loop
from graphrt_numba.functions import maximum

Array = Any
PIECES = 8
MOST = PIECES * LOCAL // 2
"""Outputs at a time."""
ZERO = np.float32(0)


@helper
def _gather(
    begin: int, count: int, height: int, width: int, out_height: int, out_width: int, x: Array, upper: Array,
    lower: Array,
) -> None:  # fmt: skip
    """The lines of x that rows of outputs, of all images, read."""
    for i in range(count):
        plane, row = (begin + i) // out_height, (begin + i) % out_height
        source, at = (plane * height + 2 * row) * width, 2 * out_width * i
        copy(upper, at, x, source, 2 * out_width)
        copy(lower, at, x, source + width, 2 * out_width)


@loop
def largest(
    first: int, last: int, height: int, width: int, out_height: int, out_width: int, x: Array, y: Array
) -> None:  # fmt: skip
    """The largest number of each window, in rows first to last of all images."""
    upper, lower = local(x, 8), local(x, 8)
    step = MOST // out_width
    for begin in range(first, last, step):
        count = min(step, last - begin)
        _gather(begin, count, height, width, out_height, out_width, x, upper, lower)
        to = y[begin * out_width : (begin + count) * out_width]
        for o in range(count * out_width):
            above, below = maximum(upper[2 * o], upper[2 * o + 1]), maximum(lower[2 * o], lower[2 * o + 1])
            to[o] = maximum(above, below)


@loop
def winners(
    first: int, last: int, height: int, width: int, out_height: int, out_width: int, ct: Array, x: Array, y: Array,
    x_ct: Array,
) -> None:  # fmt: skip
    """The cotangent of `largest`: the first number that is the largest takes all of ct."""
    upper, lower = local(x, 8), local(x, 8)
    step = MOST // out_width
    for begin in range(first, last, step):
        count = min(step, last - begin)
        _gather(begin, count, height, width, out_height, out_width, x, upper, lower)
        gains = ct[begin * out_width : (begin + count) * out_width]
        maxima = y[begin * out_width : (begin + count) * out_width]
        for o in range(count * out_width):
            gain, most = gains[o], maxima[o]
            won = upper[2 * o] == most
            upper[2 * o], gain = gain if won else ZERO, ZERO if won else gain
            won = upper[2 * o + 1] == most
            upper[2 * o + 1], gain = gain if won else ZERO, ZERO if won else gain
            won = lower[2 * o] == most
            lower[2 * o], gain = gain if won else ZERO, ZERO if won else gain
            lower[2 * o + 1] = gain if lower[2 * o + 1] == most else ZERO
        for i in range(count):
            plane, row = (begin + i) // out_height, (begin + i) % out_height
            to, at = (plane * height + 2 * row) * width, 2 * out_width * i
            copy(x_ct, to, upper, at, 2 * out_width)
            copy(x_ct, to + width, lower, at, 2 * out_width)
            for o in range(2 * out_width, width):
                x_ct[to + o] = x_ct[to + width + o] = ZERO
            if row == out_height - 1:
                for o in range(to + 2 * width, (plane + 1) * height * width):
                    x_ct[o] = ZERO
