"""The loops of `graphrt_numba.patches`: sums over the taps of places of images whose channels lie side by side.

What a line of taps reads is a run of numbers then; so a sum over the taps of a place is one over a few runs, and a tile
of sums, of places times filters, stays in registers for all of them. Nothing is written out but the image, once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from graphrt_numba.compiler import LOCAL, helper, inline, intrinsic, local, loop
from graphrt_numba.patches import MOST
from graphrt_numba.product_loops import WIDTH
from graphrt_numba.team import share
from graphrt_numba.vectors import (
    LANES,
    SQUARE,
    VECTORS,
    copy_vector,
    element,
    end_of_loop,
    everywhere,
    load_vector,
    store_vector,
    transpose,
    vector_type,
    written_out,
)

Array = Any

ACROSS = 2 if LANES == 16 else 1
"""Vectors of filters in a tile of `SQUARE` places; its sums are in registers."""
PANEL = ACROSS * LANES
"""Filters of a tile."""
STRIP = WIDTH
"""Places that are multiplied with the weights of filters at a time, for kernels of one tap."""
FEW = 2 * SQUARE
"""Filters for which the images are read as they lie."""
ROOM = STRIP * MOST // LOCAL
"""The memory for all their channels of a strip, as `local` counts it."""
ZERO = np.float32(0)
(
    OUT_HEIGHT, OUT_WIDTH, RUNS, LENGTH, STEPS, X_AT, X_LINE, X_STEP, Y_AT, Y_LINE, Y_STEP, W_AT,
) = range(12)  # fmt: skip
"""The numbers of a form, see `outputs`."""

_index = ir.IntType(64)


@intrinsic  # type: ignore[untyped-decorator]
def tile_of_runs(
    context: Any, vectors: Any, runs: Any, length: Any, a: Any, places: Any, a_steps: Any, a_step: Any,
    b: Any, b_at: Any, b_row: Any, b_steps: Any, b_step: Any, before: Any, by_row: Any, c: Any, c_at: Any, c_row: Any,
) -> Any:  # fmt: skip
    """C = ``before``, plus the sum over runs r and their numbers q of A[r, q] B[r, q].

    C has `SQUARE` rows of ``vectors`` (written out) times `LANES` columns, ``c_row`` apart. The element of row i of A
    is ``a[places[i] + a_steps[a_step + r] + q]``; the row of B begins at element ``b_at + b_steps[b_step + r] + q *
    b_row`` of b. ``before`` are the numbers that each row begins with; or, if ``by_row`` (written out) is 1,
    a number for each row. There is at least one run, of at least one number.
    """
    count, each_row = written_out(vectors, by_row)
    long, lanes, wide = types.int64, LANES, vector_type(LANES)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, runs, length, a, places, a_steps, a_step, b, b_at, b_row, b_steps, b_step, before, _, c, c_at, c_row = args
        zero = _index(0)

        def begin(position: int, array: Any, at: Any) -> Any:
            return element(context, builder, sig.args[position], array, at)

        multiply_add = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(wide, [wide] * 3), f"llvm.fma.v{lanes}f32"
        )
        at = begin(4, places, zero)
        rows = [begin(3, a, builder.load(builder.gep(at, [_index(i)]))) for i in range(SQUARE)]
        b_first, c_first = begin(7, b, b_at), begin(14, c, c_at)
        a_far, b_far, first = begin(5, a_steps, a_step), begin(10, b_steps, b_step), begin(12, before, zero)
        if each_row:
            numbers = [builder.load(builder.gep(first, [_index(i)]), align=4) for i in range(SQUARE)]
            beginning = [everywhere(builder, number, lanes) for number in numbers for _ in range(count)]
        else:
            beginning = SQUARE * [
                load_vector(builder, builder.gep(first, [_index(j * lanes)]), lanes) for j in range(count)
            ]
        entry = builder.block
        outer, inner, following, end = (builder.append_basic_block(n) for n in ("outer", "inner", "following", "end"))
        builder.branch(outer)

        builder.position_at_end(outer)
        r = builder.phi(_index)
        r.add_incoming(zero, entry)
        held = [builder.phi(wide) for _ in range(SQUARE * count)]
        for total, value in zip(held, beginning, strict=True):
            total.add_incoming(value, entry)
        far = builder.load(builder.gep(a_far, [r]))
        here = [builder.gep(row, [far]) for row in rows]
        line = builder.gep(b_first, [builder.load(builder.gep(b_far, [r]))])
        builder.branch(inner)

        builder.position_at_end(inner)
        q = builder.phi(_index)
        q.add_incoming(zero, outer)
        sums = [builder.phi(wide) for _ in held]
        for total, value in zip(sums, held, strict=True):
            total.add_incoming(value, outer)
        from_ = builder.gep(line, [builder.mul(q, b_row)])
        right = [load_vector(builder, builder.gep(from_, [_index(j * lanes)]), lanes) for j in range(count)]
        made = []
        for i in range(SQUARE):
            left = everywhere(builder, builder.load(builder.gep(here[i], [q]), align=4), lanes)
            made += [builder.call(multiply_add, [left, right[j], sums[i * count + j]]) for j in range(count)]
        end_of_loop(builder, q, length, sums, made, inner, following)

        builder.position_at_end(following)
        end_of_loop(builder, r, runs, held, made, outer, end)

        builder.position_at_end(end)
        for n, value in enumerate(made):
            place = builder.add(builder.mul(c_row, _index(n // count)), _index(n % count * lanes))
            store_vector(builder, value, builder.gep(c_first, [place]))
        return context.get_dummy_value()

    return types.void(
        vectors, long, long, a, places, a_steps, long, b, long, long, b_steps, long, before, by_row, c, long, long
    ), build  # fmt: skip


# ---- images whose channels lie side by side ----------------------------------------------------------------


@helper
def _spread(
    part: int, bounds: Array, channels: int, height: int, width: int, top: int, left: int, high: int, wide: int,
    x: Array, spread: Array,
) -> None:  # fmt: skip
    """Padded lines of all images, [images, high, wide, channels]; bounds: of the lines of each part."""
    begin = min(left, wide)
    inside = max(0, min(width, wide - begin))
    whole, blocks = inside // SQUARE * SQUARE, channels // SQUARE * SQUARE
    for line in range(bounds[part], bounds[part + 1]):
        n, h, to = line // high, line % high - top, line * wide * channels
        if h < 0 or h >= height:
            spread[to : to + wide * channels] = ZERO
            continue
        spread[to : to + begin * channels] = ZERO
        spread[to + (begin + inside) * channels : to + wide * channels] = ZERO
        at, to, plane = (n * channels * height + h) * width, to + begin * channels, height * width
        for w in range(0, whole, SQUARE):
            for c in range(0, blocks, SQUARE):
                transpose(SQUARE, x, at + c * plane + w, plane, spread, to + w * channels + c, channels)
        for c in range(channels):
            source = x[at + c * plane : at + c * plane + inside]
            out = spread[to + c :]
            for w in range(whole if c < blocks else 0, inside):
                out[w * channels] = source[w]


# ---- outputs -----------------------------------------------------------------------------------------------


@loop
def panels(groups: int, group: int, filters: int, step: int, taps: Array, w: Array, at: int, packed: Array) -> None:
    """The filters of each group in panels of `PANEL` (the last one may be half as wide), number after number.

    Number k of filter m of group g is ``w[g * group + m * step + taps[k]]``.
    """
    to = at
    for g in range(groups):
        for first in range(0, filters, PANEL):
            count = min(PANEL, filters - first)
            width = LANES if count <= LANES else PANEL
            for k in range(taps.size):
                source = g * group + first * step + taps[k]
                for m in range(count):
                    packed[to + m] = w[source + m * step]
                for m in range(count, width):
                    packed[to + m] = ZERO
                to += width


@loop
def outputs(
    team: Array, hands: int, bounds: Array, parts: Array, forms: Array, steps: Array,
    images: int, channels: int, height: int, width: int, top: int, left: int, high: int, wide: int,
    filters: int, groups: int, plane: int, block: int, x: Array, packed: Array, b: Array, y: Array, spread: Array,
) -> None:  # fmt: skip
    """The sums at the places that ``forms`` tell, by ``parts`` (form, first and last tile, first and last panel).

    A form has as many lines and places as ``OUT_HEIGHT, OUT_WIDTH``; they read ``RUNS`` of ``LENGTH``, which begin
    ``steps[STEPS + r]`` after ``X_AT + line * X_LINE + place * X_STEP`` of a spread image, and are written to element
    ``Y_AT + line * Y_LINE + place * Y_STEP`` of a plane. A tile is `SQUARE` places of all images.
    """
    share(
        team, hands, len(bounds) - 1, _spread,
        (bounds, channels, height, width, top, left, high, wide, x, spread),
    )  # fmt: skip
    share(
        team, hands, len(parts), _outputs,
        (parts, forms, steps, images, channels, high * wide * channels, filters, groups, plane, block, packed, b, y,
         spread),
    )  # fmt: skip


@helper
def _outputs(
    part: int, parts: Array, forms: Array, steps: Array, images: int, channels: int, size: int, filters: int,
    groups: int, plane: int, block: int, packed: Array, b: Array, y: Array, spread: Array,
) -> None:  # fmt: skip
    f, first, last, first_panel, last_panel = parts[part]
    form = forms[f]
    depth, own, inside = form[RUNS] * form[LENGTH], filters // groups, channels // groups
    each = -(-own // PANEL)
    places, following, sums, bias = local(parts, 1), local(parts, 1), local(spread, 1), local(spread, 1)
    room = -(-own // LANES) * LANES * depth
    count, along = form[OUT_HEIGHT] * form[OUT_WIDTH], form[OUT_WIDTH]
    dense = form[Y_STEP] == 1 and form[Y_LINE] == along
    for begin in range(first, last, block):
        for panel in range(first_panel, last_panel):
            group, m = panel // each, panel % each * PANEL
            wanted = min(PANEL, own - m)
            width = LANES if wanted <= LANES else PANEL
            of_w, m = form[W_AT] + group * room + m * depth, group * own + m
            for r in range(form[RUNS]):
                following[r] = r * form[LENGTH] * width
            for i in range(PANEL):
                bias[i] = b[m + i] if b.size and i < wanted else ZERO
            for tile in range(begin, min(begin + block, last)):
                n, p = tile * SQUARE // count, tile * SQUARE % count
                line, place, image = p // along, p % along, n
                for i in range(SQUARE):
                    at = image * size + form[X_AT] + line * form[X_LINE] + place * form[X_STEP]
                    places[i] = at + group * inside
                    place += 1
                    if place == along:
                        place, line = 0, line + 1
                        if line == form[OUT_HEIGHT]:
                            line, image = 0, min(image + 1, images - 1)
                if width == PANEL:
                    tile_of_runs(
                        ACROSS, form[RUNS], form[LENGTH], spread, places, steps, form[STEPS],
                        packed, of_w, width, following, 0, bias, 0, sums, 0, PANEL,
                    )  # fmt: skip
                else:
                    tile_of_runs(
                        1, form[RUNS], form[LENGTH], spread, places, steps, form[STEPS],
                        packed, of_w, width, following, 0, bias, 0, sums, 0, PANEL,
                    )  # fmt: skip
                if dense and p + SQUARE <= count:
                    to = (n * filters + m) * plane + form[Y_AT] + p
                    whole = wanted // SQUARE * SQUARE
                    for i in range(0, whole, SQUARE):
                        transpose(SQUARE, sums, i, PANEL, y, to + i * plane, plane)
                    for i in range(whole, wanted):
                        for q in range(SQUARE):
                            y[to + i * plane + q] = sums[q * PANEL + i]
                else:
                    for q in range(min(SQUARE, images * count - tile * SQUARE)):
                        image, p = (tile * SQUARE + q) // count, (tile * SQUARE + q) % count
                        to = form[Y_AT] + p // along * form[Y_LINE] + p % along * form[Y_STEP]
                        to += (image * filters + m) * plane
                        for i in range(wanted):
                            y[to + i * plane] = sums[q * PANEL + i]


# ---- weights -----------------------------------------------------------------------------------------------


@loop
def weights(
    team: Array, hands: int, bounds: Array, parts: Array, runs: Array, of_ct: Array, of_x: Array,
    channels: int, height: int, width: int, top: int, left: int, high: int, wide: int,
    own: int, length: int, inside: int, plane: int, out_width: int, step: int,
    ct: Array, x: Array, total: Array, spread: Array,
) -> None:  # fmt: skip
    """For each run of a place the sums of ct of all filters times what is there: total [runs, groups, own, length].

    ``of_ct, of_x``: where the lines of outputs of all images begin, and what they read, ``step`` numbers after each
    other. Filters of a group and numbers of a run are rounded up to whole tiles. By parts: first tile and the one
    after the last, of all runs, groups, filters and numbers.
    """
    share(
        team, hands, len(bounds) - 1, _spread,
        (bounds, channels, height, width, top, left, high, wide, x, spread),
    )  # fmt: skip
    share(
        team, hands, len(parts), _weights,
        (parts, runs, of_ct, of_x, own, length, inside, plane, out_width, step, ct, total, spread),
    )  # fmt: skip


@helper
def _weights(
    part: int, parts: Array, runs: Array, of_ct: Array, of_x: Array, own: int, length: int, inside: int, plane: int,
    out_width: int, step: int, ct: Array, total: Array, spread: Array,
) -> None:  # fmt: skip
    rows, bias = local(parts, 1), local(ct, 1)
    for i in range(PANEL):
        bias[i] = ZERO
    tall, broad = -(-own // SQUARE), -(-length // PANEL)
    groups = total.size // (runs.size * tall * SQUARE * broad * PANEL)
    for unit in range(parts[part, 0], parts[part, 1]):
        j, i = unit % broad * PANEL, unit // broad % tall * SQUARE
        g, r = unit // (broad * tall) % groups, unit // (broad * tall * groups)
        for k in range(SQUARE):
            rows[k] = (g * own + min(i + k, own - 1)) * plane
        to = (((r * groups + g) * tall * SQUARE + i) * broad) * PANEL + j
        from_ = runs[r] + g * inside + j
        if length - j > LANES:
            tile_of_runs(
                ACROSS, of_ct.size, out_width, ct, rows, of_ct, 0, spread, from_, step, of_x, 0, bias, 0,
                total, to, broad * PANEL,
            )  # fmt: skip
        else:
            tile_of_runs(
                1, of_ct.size, out_width, ct, rows, of_ct, 0, spread, from_, step, of_x, 0, bias, 0,
                total, to, broad * PANEL,
            )  # fmt: skip


# ---- kernels of one tap ------------------------------------------------------------------------------------


@loop
def points(
    team: Array, hands: int, parts: Array, images: int, channels: int, filters: int, plane: int,
    w: Array, x: Array, b: Array, y: Array,
) -> None:  # fmt: skip
    """y = w x + b for each image, by parts: the first strip and the one after the last, the same of filters.

    A strip is `STRIP` places of all images.
    """
    share(team, hands, len(parts), _points, (parts, images * plane, channels, filters, plane, w, x, b, y))


@helper
def _points(
    part: int, parts: Array, count: int, channels: int, filters: int, plane: int, w: Array, x: Array, b: Array,
    y: Array,
) -> None:  # fmt: skip
    first, last, top, bottom = parts[part]
    packed, sums, bias = local(x, ROOM), local(x, 1), local(x, 1)
    rows, none = local(parts, 1), local(parts, 1)
    none[0] = 0
    many = bottom - top > FEW or plane % STRIP != 0
    together = max(1, min((bottom - top) // STRIP, MOST // channels))  # as many numbers as there are weights
    for start in range(first, last, together):
        end = min(start + together, last)
        for strip in range(start, end if many else start):
            _pack(x, channels, plane, count, strip * STRIP, packed, (strip - start) * channels * STRIP)
        for m in range(top, bottom, SQUARE):
            high = min(SQUARE, bottom - m)
            for i in range(SQUARE):
                rows[i] = (m + min(i, high - 1)) * channels
                bias[i] = b[m + min(i, high - 1)] if b.size else ZERO
            for strip in range(start, end):
                n, p, at = strip * STRIP // plane, strip * STRIP % plane, (strip - start) * channels * STRIP
                direct = high == SQUARE and p + STRIP <= plane
                made, to, step = (y, (n * filters + m) * plane + p, plane) if direct else (sums, 0, STRIP)
                read, at, far = (packed, at, STRIP) if many else (x, n * channels * plane + p, plane)
                tile_of_runs(
                    VECTORS, 1, channels, w, rows, none, 0, read, at, far, none, 0, bias, 1, made, to, step
                )  # fmt: skip
                if not direct:
                    _put(sums, high, plane, filters, m, count, strip * STRIP, y)


@inline
def _pack(x: Array, channels: int, plane: int, count: int, begin: int, packed: Array, to: int) -> None:
    """The places of all images from ``begin`` on, a strip of them for each channel."""
    n, p = begin // plane, begin % plane
    if p + STRIP <= plane:
        for c in range(channels):
            at = (n * channels + c) * plane + p
            for j in range(0, STRIP, LANES):
                copy_vector(LANES, x, at + j, packed, to + c * STRIP + j)
        return
    done = 0
    while done < STRIP:
        wanted = min(STRIP - done, plane - p, count - begin - done)
        for c in range(channels):
            at, into = (n * channels + c) * plane + p, to + c * STRIP + done
            if wanted == LANES:
                copy_vector(LANES, x, at, packed, into)
            else:
                for q in range(wanted):
                    packed[into + q] = x[at + q]
        done, n, p = done + wanted, n + 1, 0
        if begin + done == count:
            for c in range(channels):
                for q in range(done, STRIP):
                    packed[to + c * STRIP + q] = ZERO
            break


@inline
def _put(
    sums: Array, high: int, plane: int, filters: int, m: int, count: int, begin: int, y: Array
) -> None:  # fmt: skip
    """A strip of some filters to where it belongs."""
    n, p, done = begin // plane, begin % plane, 0
    while done < STRIP and begin + done < count:
        wanted = min(STRIP - done, plane - p)
        for i in range(high):
            at, to = i * STRIP + done, (n * filters + m + i) * plane + p
            if wanted == LANES:
                copy_vector(LANES, sums, at, y, to)
            else:
                for q in range(min(wanted, count - begin - done)):
                    y[to + q] = sums[at + q]
        done, n, p = done + wanted, n + 1, 0
