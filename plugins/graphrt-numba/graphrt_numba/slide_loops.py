"""Loops over the planes of images for windows of any size: depthwise convolution, and the largest of each window.

A plane is copied into a padded one, whose lines are split into phases: numbers whose places leave the same when they
are divided by the step. Then what a tap reads for a vector of outputs is a vector; `ROWS` lines of outputs are made at
a time, in registers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from graphrt_numba.compiler import helper, intrinsic, local, loop
from graphrt_numba.vectors import (
    LANES,
    SQUARE,
    copy_vector,
    element,
    everywhere,
    load_vector,
    store_vector,
    vector_type,
    written_out,
)

Array = Any
Number = Any

ROWS = 4
"""Lines of outputs that are made at a time."""
ZERO, LOWEST = np.float32(0), np.float32(-np.inf)
_index = ir.IntType(64)


@intrinsic  # type: ignore[untyped-decorator]
def _slide(
    context: Any, rows: Any, lanes: Any, taps: Any, x: Any, x_at: Any, x_row: Any, distances: Any,
    weights: Any, w_at: Any, start: Any, y: Any, y_at: Any, y_row: Any,
) -> Any:  # fmt: skip
    """``rows`` lines of ``lanes`` numbers (both written out): the largest of ``start`` and the taps, or a sum.

    The taps of number q of line r are ``x[x_at + r * x_row + q + distances[t]]``. If ``weights`` are an array and not
    an empty tuple, it is ``start`` plus the sum of the taps, each times ``weights[w_at + t]``.
    """
    high, wide = written_out(rows, lanes)
    long, vector, zero, summed = types.int64, vector_type(wide), _index(0), isinstance(weights, types.Array)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, _, taps, x, x_at, x_row, distances, w, w_at, start, y, y_at, y_row = args
        first, far = (element(context, builder, sig.args[n], *at) for n, at in ((3, (x, x_at)), (6, (distances, zero))))
        weight_of = element(context, builder, sig.args[7], w, w_at) if summed else None
        lines = [builder.gep(first, [builder.mul(x_row, _index(r))]) for r in range(high)]
        beginning, entry = everywhere(builder, start, wide), builder.block
        body, end = (builder.append_basic_block(n) for n in ("body", "end"))
        builder.branch(body)

        builder.position_at_end(body)
        t = builder.phi(_index)
        t.add_incoming(zero, entry)
        totals = [builder.phi(vector) for _ in lines]
        distance = builder.load(builder.gep(far, [t]))
        values = [load_vector(builder, builder.gep(line, [distance]), wide) for line in lines]
        if summed:
            weight = everywhere(builder, builder.load(builder.gep(weight_of, [t]), align=4), wide)
            multiply_add = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
                builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fma.v{wide}f32"
            )
            made = [builder.call(multiply_add, [weight, *pair]) for pair in zip(values, totals, strict=True)]
        else:  # what is no number wins
            made = []
            for v, total in zip(values, totals, strict=True):
                won = builder.or_(builder.fcmp_ordered(">", v, total), builder.fcmp_unordered("uno", v, v))
                made.append(builder.select(won, v, total))
        following = builder.add(t, _index(1))
        t.add_incoming(following, body)
        for total, value in zip(totals, made, strict=True):
            total.add_incoming(beginning, entry)
            total.add_incoming(value, body)
        builder.cbranch(builder.icmp_signed("<", following, taps), body, end)

        builder.position_at_end(end)
        to = element(context, builder, sig.args[10], y, y_at)
        for r, value in enumerate(made):
            store_vector(builder, value, builder.gep(to, [builder.mul(y_row, _index(r))]))
        return context.get_dummy_value()

    kind = types.void(
        rows, lanes, long, x, long, long, distances, weights, long, types.float32, y, long, long
    )  # fmt: skip
    return kind, build


@intrinsic  # type: ignore[untyped-decorator]
def _halve(context: Any, count: Any, x: Any, x_at: Any, y: Any, even_at: Any, odd_at: Any) -> Any:
    """Of twice ``count`` (written out) numbers of x those at even places side by side, and those at odd ones."""
    (lanes,) = written_out(count)
    long = types.int64

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, x, x_at, y, even_at, odd_at = args
        first = element(context, builder, sig.args[1], x, x_at)
        pair = load_vector(builder, first, lanes), load_vector(builder, builder.gep(first, [_index(lanes)]), lanes)
        for phase, at in enumerate((even_at, odd_at)):
            chosen = ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(phase, 2 * lanes, 2)))
            store_vector(builder, builder.shuffle_vector(*pair, chosen), element(context, builder, sig.args[3], y, at))
        return context.get_dummy_value()

    return types.void(count, x, long, y, long, long), build


@helper
def _pad(
    x: Array, plane: int, height: int, width: int, top: int, left: int, sw: int, lines: int, phase: int, padded: Array
) -> None:  # fmt: skip
    """A plane of x with its phases side by side in each line; what is around it stays as it is."""
    for h in range(min(height, lines - top)):
        at, to, done = (plane * height + h) * width, (h + top) * sw * phase, 0
        if sw == 1:
            done, to = width // SQUARE * SQUARE, to + left
            for i in range(0, width // LANES * LANES, LANES):
                copy_vector(LANES, x, at + i, padded, to + i)
            for i in range(width // LANES * LANES, done, SQUARE):
                copy_vector(SQUARE, x, at + i, padded, to + i)
            for i in range(done, width):
                padded[to + i] = x[at + i]
            continue
        if sw == 2:
            done = width // (2 * LANES) * 2 * LANES
            even, odd = to + left % 2 * phase + left // 2, to + (left + 1) % 2 * phase + (left + 1) // 2
            for i in range(0, done, 2 * LANES):
                _halve(LANES, x, at + i, padded, even + i // 2, odd + i // 2)
            for i in range(done, width - 2 * SQUARE + 1, 2 * SQUARE):
                _halve(SQUARE, x, at + i, padded, even + i // 2, odd + i // 2)
                done = i + 2 * SQUARE
            for i in range(done, width - 1, 2):
                padded[even + i // 2], padded[odd + i // 2] = x[at + i], x[at + i + 1]
            done = width // 2 * 2
        for i in range(done, width):
            padded[to + (i + left) % sw * phase + (i + left) // sw] = x[at + i]


@helper
def _plane(
    padded: Array, row: int, distances: Array, weights: Array, at: int, start: Number, y: Array, to: int, height: int,
    width: int, edge: Array,
) -> None:  # fmt: skip
    """A plane of y from the padded one; ``row``: how far it is there from a line of outputs to the next."""
    taps = distances.size
    for h in range(0, height, ROWS):
        high = min(ROWS, height - h)
        for i in range(0, width, LANES):
            of_x, of_y, rest = h * row + i, to + h * width + i, min(LANES, width - i)
            if high == ROWS and rest == LANES:
                _slide(ROWS, LANES, taps, padded, of_x, row, distances, weights, at, start, y, of_y, width)
                continue
            if high == ROWS and rest == SQUARE:
                _slide(ROWS, SQUARE, taps, padded, of_x, row, distances, weights, at, start, y, of_y, width)
                continue
            if high == ROWS:
                _slide(ROWS, LANES, taps, padded, of_x, row, distances, weights, at, start, edge, 0, LANES)
            else:
                for r in range(high):
                    of_line = of_x + r * row
                    _slide(1, LANES, taps, padded, of_line, row, distances, weights, at, start, edge, r * LANES, LANES)
            for r in range(high):
                for q in range(rest):
                    y[of_y + r * width + q] = edge[r * LANES + q]


@loop
def sums(
    first: int, last: int, channels: int, height: int, width: int, top: int, left: int, out_height: int, out_width: int,
    sh: int, sw: int, lines: int, phase: int, distances: Array, x: Array, w: Array, b: Array, y: Array, padded: Array,
) -> None:  # fmt: skip
    """Planes first to last: the sum of what the taps read, each times its weight of the channel, plus b."""
    edge = local(x, 1)
    padded[:] = ZERO
    for plane in range(first, last):
        c = plane % channels
        _pad(x, plane, height, width, top, left, sw, lines, phase, padded)
        start = b[c] if b.size else ZERO
        _plane(
            padded, sh * sw * phase, distances, w, c * distances.size, start, y, plane * out_height * out_width,
            out_height, out_width, edge,
        )  # fmt: skip


@loop
def largest(
    first: int, last: int, height: int, width: int, top: int, left: int, out_height: int, out_width: int,
    sh: int, sw: int, lines: int, phase: int, distances: Array, x: Array, y: Array, padded: Array,
) -> None:  # fmt: skip
    """Planes first to last: the largest of what the taps read."""
    edge = local(x, 1)
    padded[:] = LOWEST
    for plane in range(first, last):
        _pad(x, plane, height, width, top, left, sw, lines, phase, padded)
        _plane(
            padded, sh * sw * phase, distances, (), 0, LOWEST, y, plane * out_height * out_width, out_height, out_width,
            edge,
        )  # fmt: skip
