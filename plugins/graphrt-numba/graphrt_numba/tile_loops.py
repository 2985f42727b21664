"""The loops of `graphrt_numba.convolution`: images to the points of their tiles, and back.

A tile of 4 x 4 outputs reads 6 x 6 inputs. Loops run along the tiles of several rows at once: ``MOST`` of them at most,
so that what lies between the two directions stays in the first-level cache. Numbers that are next to each other in an
image are first put into four arrays, each with every fourth column; and rows are ordered by what their number leaves
when divided by four. Then the same number of each tile lies side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, helper, inline, local, loop
from graphrt_numba.convolution import PAD, POINTS
from graphrt_numba.product_loops import multiply

Array = Any
Number = Any

ZERO = np.float32(0)
PIECES = 2
MOST = PIECES * LOCAL
"""Tiles times four that the arrays on the stack have room for."""

# The points are 0, +-sqrt(1/2), +-sqrt(2) and infinity: with these, errors are twice those of the plain sum, with the
# customary 0, +-1, +-2 four times.
NEAR, FAR = np.float32(0.5**0.5), np.float32(2**0.5)
HALF, TWO, BOTH = np.float32(0.5), np.float32(2), np.float32(2.5)
NEAR_CUBED, FAR_CUBED = np.float32(0.5**1.5), np.float32(2**1.5)


@helper
def _gather(
    x: Array, plane: int, height: int, width: int, top: int, left: int, row: int, count: int, reach: int, along: int,
    flat: Array, beyond: Array,
) -> None:  # fmt: skip
    """Rows of a padded image, ``count`` tiles high, by row modulo four: 4 * along numbers each, two more in ``beyond``.

    Of the last tile's rows two more are there: ``reach`` is 1, else 0.
    """
    for phase in range(4):
        for q in range(count + reach):
            h, line = 4 * (row + q) + phase - top, phase * (count + reach) + q
            out = flat[line * 4 * along : (line + 1) * 4 * along]
            beyond[2 * line], beyond[2 * line + 1] = np.float32(0), np.float32(0)
            if h < 0 or h >= height:
                for i in range(4 * along):
                    out[i] = np.float32(0)
                continue
            source = x[(plane * height + h) * width : (plane * height + h + 1) * width]
            inside = min(4 * along - left, width)
            for i in range(left):
                out[i] = np.float32(0)
            to = out[left : left + inside]
            for i in range(inside):
                to[i] = source[i]
            for i in range(left + inside, 4 * along):
                out[i] = np.float32(0)
            for i in range(reach * min(width - inside, 2)):
                beyond[2 * line + i] = source[inside + i]


@inline
def _columns(flat: Array, count: int, d0: Array, d1: Array, d2: Array, d3: Array) -> None:
    """Every fourth number, from each of the first four on."""
    for u in range(count):
        d0[u], d1[u], d2[u], d3[u] = flat[4 * u], flat[4 * u + 1], flat[4 * u + 2], flat[4 * u + 3]


@helper
def input_points(
    first: int, last: int, begin: int, end: int, channels: int, height: int, width: int, top: int, left: int,
    down: int, along: int, tiles: int, pitch: int, x: Array, points: Array,
) -> None:  # fmt: skip
    """Each 6 x 6 inputs to 6 x 6 points: of channels first to last, of rows of tiles begin to end (of all images)."""
    flat, beyond, lines = local(x, 8), local(x, 4), local(x, 12)
    d0, d1, d2, d3 = local(x, 3), local(x, 3), local(x, 3), local(x, 3)
    for c in range(first, last):
        at = begin
        while at < end:
            n, row = at // down, at % down
            count = min(down - row, end - at, MOST // (4 * along) - 1)
            _gather(x, n * channels + c, height, width, top, left, row, count, 1, along, flat, beyond)
            size, step = count * along, (count + 1) * along
            _columns(flat, 4 * step, d0, d1, d2, d3)
            for u in range(4 * step):
                _points_along(d0[u], d1[u], d2[u], d3[u], d0[u + 1], d1[u + 1], u, lines)
            for line in range(4 * (count + 1)):
                u = (line + 1) * along - 1
                _points_along(d0[u], d1[u], d2[u], d3[u], beyond[2 * line], beyond[2 * line + 1], u, lines)
            for j in range(6):
                line = lines[j * MOST : (j + 1) * MOST]
                _points_down(line, along, size, step, points, c * tiles + (at - begin) * along + j * pitch, pitch)
            at += count


@inline
def _points_along(d0: Number, d1: Number, d2: Number, d3: Number, d4: Number, d5: Number, u: int, lines: Array) -> None:
    """Six numbers of a line to six points, ``MOST`` apart."""
    even, odd = d4 - TWO * d2, NEAR * (d3 - TWO * d1)
    far_even, far_odd = d4 - HALF * d2, FAR * (d3 - HALF * d1)
    lines[u] = d0 - BOTH * d2 + d4
    lines[MOST + u] = even + odd
    lines[2 * MOST + u] = even - odd
    lines[3 * MOST + u] = far_even + far_odd
    lines[4 * MOST + u] = far_even - far_odd
    lines[5 * MOST + u] = d1 - BOTH * d3 + d5


@helper
def _points_down(r: Array, along: int, size: int, step: int, points: Array, to: int, pitch: int) -> None:
    """As `_points_along`, down the image; a loop for each point, so that there is one array to write to."""
    d0, d1, d2, d3 = r[:size], r[step : step + size], r[2 * step : 2 * step + size], r[3 * step : 3 * step + size]
    d4, d5 = r[along : along + size], r[step + along : step + along + size]
    out = points[to : to + size]
    for u in range(size):
        out[u] = d0[u] - BOTH * d2[u] + d4[u]
    out = points[to + 6 * pitch : to + 6 * pitch + size]
    for u in range(size):
        out[u] = (d4[u] - TWO * d2[u]) + NEAR * (d3[u] - TWO * d1[u])
    out = points[to + 12 * pitch : to + 12 * pitch + size]
    for u in range(size):
        out[u] = (d4[u] - TWO * d2[u]) - NEAR * (d3[u] - TWO * d1[u])
    out = points[to + 18 * pitch : to + 18 * pitch + size]
    for u in range(size):
        out[u] = (d4[u] - HALF * d2[u]) + FAR * (d3[u] - HALF * d1[u])
    out = points[to + 24 * pitch : to + 24 * pitch + size]
    for u in range(size):
        out[u] = (d4[u] - HALF * d2[u]) - FAR * (d3[u] - HALF * d1[u])
    out = points[to + 30 * pitch : to + 30 * pitch + size]
    for u in range(size):
        out[u] = d1[u] - BOTH * d3[u] + d5[u]


@helper
def output_values(
    first: int, last: int, begin: int, end: int, filters: int, height: int, width: int,
    down: int, along: int, tiles: int, pitch: int, points: Array, b: Array, y: Array,
) -> None:  # fmt: skip
    """Each 6 x 6 points to 4 x 4 outputs: of filters first to last, of rows of tiles begin to end (of all images)."""
    flat, values = local(y, 8), local(y, 48)
    for m in range(first, last):
        shift = b[m] if b.size else np.float32(0)
        at = begin
        while at < end:
            n, row = at // down, at % down
            count = min(down - row, end - at, MOST // (4 * along) - 1)
            source, size = m * tiles + (at - begin) * along, count * along
            for j in range(6):
                _values_down(points[source + j * pitch :], size, pitch, values[j * 4 * MOST : (j + 1) * 4 * MOST])
            for phase in range(4):
                p0, p1 = values[phase * MOST :], values[(4 + phase) * MOST :]
                p2, p3 = values[(8 + phase) * MOST :], values[(12 + phase) * MOST :]
                p4, p5 = values[(16 + phase) * MOST :], values[(20 + phase) * MOST :]
                for u in range(size):
                    near, near_odd, far, far_odd = p1[u] + p2[u], p1[u] - p2[u], p3[u] + p4[u], p3[u] - p4[u]
                    flat[4 * u] = p0[u] + near + far + shift
                    flat[4 * u + 1] = NEAR * near_odd + FAR * far_odd + shift
                    flat[4 * u + 2] = HALF * near + TWO * far + shift
                    flat[4 * u + 3] = NEAR_CUBED * near_odd + FAR_CUBED * far_odd + p5[u] + shift
                for q in range(count):
                    h = 4 * (row + q) + phase
                    if h < height:
                        out = y[((n * filters + m) * height + h) * width : ((n * filters + m) * height + h + 1) * width]
                        line = flat[4 * q * along :]
                        for i in range(width):
                            out[i] = line[i]
            at += count


@inline
def _values_down(points: Array, size: int, pitch: int, values: Array) -> None:
    """Six points to four numbers, ``MOST`` apart."""
    p0, p1, p2 = points, points[6 * pitch :], points[12 * pitch :]
    p3, p4, p5 = points[18 * pitch :], points[24 * pitch :], points[30 * pitch :]
    for u in range(size):
        near, near_odd, far, far_odd = p1[u] + p2[u], p1[u] - p2[u], p3[u] + p4[u], p3[u] - p4[u]
        values[u] = p0[u] + near + far
        values[MOST + u] = NEAR * near_odd + FAR * far_odd
        values[2 * MOST + u] = HALF * near + TWO * far
        values[3 * MOST + u] = NEAR_CUBED * near_odd + FAR_CUBED * far_odd + p5[u]


@helper
def output_points(
    first: int, last: int, begin: int, end: int, filters: int, height: int, width: int,
    down: int, along: int, tiles: int, pitch: int, ct: Array, points: Array,
) -> None:  # fmt: skip
    """The adjoint of `output_values`: each 4 x 4 cotangents to those of 6 x 6 points."""
    flat, beyond, lines = local(ct, 8), local(ct, 4), local(ct, 12)
    d0, d1, d2, d3 = local(ct, 3), local(ct, 3), local(ct, 3), local(ct, 3)
    for m in range(first, last):
        at = begin
        while at < end:
            n, row = at // down, at % down
            count = min(down - row, end - at, MOST // (4 * along) - 1)
            _gather(ct, n * filters + m, height, width, 0, 0, row, count, 0, along, flat, beyond)
            _columns(flat, 4 * count * along, d0, d1, d2, d3)
            for u in range(4 * count * along):
                even, odd = d0[u] + HALF * d2[u], NEAR * (d1[u] + HALF * d3[u])
                far_even, far_odd = d0[u] + TWO * d2[u], FAR * (d1[u] + TWO * d3[u])
                lines[u], lines[5 * MOST + u] = d0[u], d3[u]
                lines[MOST + u], lines[2 * MOST + u] = even + odd, even - odd
                lines[3 * MOST + u], lines[4 * MOST + u] = far_even + far_odd, far_even - far_odd
            for j in range(6):
                line, to = lines[j * MOST : (j + 1) * MOST], m * tiles + (at - begin) * along + j * pitch
                _cotangents_down(line, count * along, points, to, pitch)
            at += count


@helper
def _cotangents_down(r: Array, size: int, points: Array, to: int, pitch: int) -> None:
    """Four numbers to six points; a loop for each point, so that there is one array to write to."""
    d0, d1, d2, d3 = r[:size], r[size : 2 * size], r[2 * size : 3 * size], r[3 * size : 4 * size]
    out = points[to : to + size]
    for u in range(size):
        out[u] = d0[u]
    out = points[to + 6 * pitch : to + 6 * pitch + size]
    for u in range(size):
        out[u] = (d0[u] + HALF * d2[u]) + NEAR * (d1[u] + HALF * d3[u])
    out = points[to + 12 * pitch : to + 12 * pitch + size]
    for u in range(size):
        out[u] = (d0[u] + HALF * d2[u]) - NEAR * (d1[u] + HALF * d3[u])
    out = points[to + 18 * pitch : to + 18 * pitch + size]
    for u in range(size):
        out[u] = (d0[u] + TWO * d2[u]) + FAR * (d1[u] + TWO * d3[u])
    out = points[to + 24 * pitch : to + 24 * pitch + size]
    for u in range(size):
        out[u] = (d0[u] + TWO * d2[u]) - FAR * (d1[u] + TWO * d3[u])
    out = points[to + 30 * pitch : to + 30 * pitch + size]
    for u in range(size):
        out[u] = d3[u]


# ---- all of it ---------------------------------------------------------------------------------------------


@helper
def _pitch(planes: int, step: int, along: int) -> int:
    """How far the points of one kind lie from those of the next: no power of two, for the caches."""
    return planes * step * along + PAD


@loop
def correlation(
    first: int, last: int, step: int, product: int, channels: int, filters: int, height: int, width: int,
    top: int, left: int, out_height: int, out_width: int, down: int, along: int,
    kernels: Array, x: Array, b: Array, y: Array, xs: Array, ys: Array,
) -> None:  # fmt: skip
    """The outputs of rows of tiles first to last (of all images), ``step`` rows at a time; kernels: [36, M, C]."""
    x_pitch, y_pitch = _pitch(channels, step, along), _pitch(filters, step, along)
    for begin in range(first, last, step):
        end = min(begin + step, last)
        tiles = (end - begin) * along
        input_points(0, channels, begin, end, channels, height, width, top, left, down, along, tiles, x_pitch, x, xs)
        for p in range(POINTS):
            multiply(
                product, filters, tiles, channels, kernels, p * filters * channels, channels, 1,
                xs, p * x_pitch, tiles, 1, ys, p * y_pitch, tiles, 0,
            )  # fmt: skip
        output_values(0, filters, begin, end, filters, out_height, out_width, down, along, tiles, y_pitch, ys, b, y)


@loop
def weights(
    first: int, last: int, step: int, product: int, channels: int, filters: int, height: int, width: int,
    top: int, left: int, out_height: int, out_width: int, down: int, along: int,
    ct: Array, x: Array, total: Array, xs: Array, ys: Array,
) -> None:  # fmt: skip
    """The sums over rows of tiles first to last of the products of ct's points and x's: [36, M, C]."""
    x_pitch, y_pitch = _pitch(channels, step, along), _pitch(filters, step, along)
    total[:] = ZERO
    for begin in range(first, last, step):
        end = min(begin + step, last)
        tiles = (end - begin) * along
        input_points(0, channels, begin, end, channels, height, width, top, left, down, along, tiles, x_pitch, x, xs)
        output_points(0, filters, begin, end, filters, out_height, out_width, down, along, tiles, y_pitch, ct, ys)
        for p in range(POINTS):
            multiply(
                product, filters, channels, tiles, ys, p * y_pitch, tiles, 1, xs, p * x_pitch, 1, tiles,
                total, p * filters * channels, channels, 1,
            )  # fmt: skip
