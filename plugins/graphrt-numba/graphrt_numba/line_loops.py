"""The loops of `graphrt_numba.lines`: what the taps along the lines of some images read, and products with it.

Of a padded image, the lines that the taps of one column of the kernel read lie one after the other: line ``r`` is at
`place` (r, dh, high). In a line, ``channels * kw`` rows are what each tap along it reads for the outputs of all images.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import copy, helper, inline, loop
from graphrt_numba.product_loops import multiply

Array = Any
ZERO = np.float32(0)


@inline
def place(r: int, dh: int, high: int) -> int:
    """Where a line lies: by what its number leaves when divided by dh, then by its number; high: a multiple of dh."""
    return r % dh * (high // dh) + r // dh


@helper
def write(
    begin: int, count: int, channels: int, height: int, width: int, top: int, left: int, out_width: int, high: int,
    kw: int, dh: int, dw: int, x: Array, written: Array,
) -> None:  # fmt: skip
    """What the taps along the lines of images read: [place, channel, tap, image, output]."""
    row = count * out_width
    for r in range(high):
        at = place(r, dh, high) * channels * kw * row
        if r < top or r >= top + height:
            written[at : at + channels * kw * row] = ZERO
            continue
        for c in range(channels):
            for j in range(kw):
                shift = j * dw - left
                first = min(max(0, -shift), out_width)
                stop = max(first, min(out_width, width - shift))
                source = ((begin * channels + c) * height + r - top) * width + first + shift
                for _ in range(count):
                    for o in range(first):
                        written[at + o] = ZERO
                    copy(written, at + first, x, source, stop - first)
                    for o in range(stop, out_width):
                        written[at + o] = ZERO
                    at += out_width
                    source += channels * height * width


@helper
def gather(
    begin: int, count: int, filters: int, out_height: int, out_width: int, h: int, pitch: int, y: Array, lines: Array,
    at: int,
) -> None:  # fmt: skip
    """Line h of some images, [filter, image, pitch], from ``at`` on; what is beyond the lines stays."""
    for m in range(filters):
        for i in range(count):
            start = (((begin + i) * filters + m) * out_height + h) * out_width
            copy(lines, at, y, start, out_width)
            at += pitch


@loop
def outputs(
    first: int, last: int, product: int, block: int, channels: int, filters: int, height: int, width: int, top: int,
    left: int, out_height: int, out_width: int, high: int, kh: int, kw: int, sh: int, dh: int, dw: int,
    x: Array, matrix: Array, b: Array, y: Array, written: Array, made: Array,
) -> None:  # fmt: skip
    """y of images first to last; matrix: [filter, kh, channel, kw]."""
    depth = channels * kw
    for begin in range(first, last, block):
        count = min(block, last - begin)
        row = count * out_width
        write(begin, count, channels, height, width, top, left, out_width, high, kw, dh, dw, x, written)
        for h in range(out_height):
            at = place(h * sh, dh, high) * depth * row
            for m in range(filters):
                made[m * row : (m + 1) * row] = b[m] if b.size else ZERO
            multiply(product, filters, row, kh * depth, matrix, 0, kh * depth, 1, written, at, row, 1, made, 0, row, 1)
            for m in range(filters):
                for i in range(count):
                    start = (((begin + i) * filters + m) * out_height + h) * out_width
                    copy(y, start, made, m * row + i * out_width, out_width)


@loop
def weights(
    first: int, last: int, product: int, block: int, channels: int, filters: int, height: int, width: int, top: int,
    left: int, out_height: int, out_width: int, high: int, kh: int, kw: int, sh: int, dh: int, dw: int,
    ct: Array, x: Array, total: Array, written: Array, given: Array,
) -> None:  # fmt: skip
    """The sums over images first to last of the products of ct with what the taps read: [kh, channel, kw, filter]."""
    depth = channels * kw
    total[:] = ZERO
    for begin in range(first, last, block):
        count = min(block, last - begin)
        row = count * out_width
        write(begin, count, channels, height, width, top, left, out_width, high, kw, dh, dw, x, written)
        for h in range(out_height):
            gather(begin, count, filters, out_height, out_width, h, out_width, ct, given, 0)
            at = place(h * sh, dh, high) * depth * row
            multiply(product, kh * depth, filters, row, written, at, row, 1, given, 0, 1, row, total, 0, filters, 1)


@loop
def inputs(
    first: int, last: int, product: int, block: int, channels: int, filters: int, height: int, width: int, top: int,
    left: int, out_height: int, out_width: int, high: int, kh: int, kw: int, sh: int, dh: int, dw: int,
    ct: Array, matrix: Array, x: Array, lines: Array, spread: Array, written: Array,
) -> None:  # fmt: skip
    """x's cotangent of images first to last; matrix: [kh, channel, filter, kw].

    Its lines are summed up padded, [place, channel, image, pitch], where what goes beyond a line is not read.
    """
    reach = (kw - 1) * dw
    pitch, depth = out_width + reach, filters * kw
    for begin in range(first, last, block):
        count = min(block, last - begin)
        row = count * pitch
        lines[: high * channels * row] = ZERO
        spread[: filters * row + reach] = ZERO
        for h in range(out_height):
            gather(begin, count, filters, out_height, out_width, h, pitch, ct, spread, reach)
            for m in range(filters):
                for j in range(kw):
                    copy(written, (m * kw + j) * row, spread, m * row + reach - j * dw, row)
            at = place(h * sh, dh, high) * channels * row
            multiply(product, kh * channels, row, depth, matrix, 0, depth, 1, written, 0, row, 1, lines, at, row, 1)
        for i in range(count):
            for c in range(channels):
                for h in range(height):
                    start = (((begin + i) * channels + c) * height + h) * width
                    inside = max(0, min(width, pitch - left)) if h + top < high else 0
                    at = (place(h + top, dh, high) * channels + c) * row + i * pitch + left
                    copy(x, start, lines, at, inside)
                    for o in range(inside, width):
                        x[start + o] = ZERO
