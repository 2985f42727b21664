"""What the innermost loops of products are made of, in the vector instructions of the processor at hand.

Compiled code is kept per kind of processor, so what is chosen here for this one holds for all that is kept for it.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, errors, types

from graphrt_numba.compiler import arrays, intrinsic

_WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f"))
LANES = 16 if _WIDE else 8
"""How many float32 numbers a vector register has."""
HALF = LANES // 2
"""And how many half of one has."""
HEIGHT, VECTORS = (8, 2) if _WIDE else (6, 2)
"""Rows of a tile, and vectors in each row: its sums fill most of the registers, and hide how long an addition takes."""
SQUARE = 8
"""Rows and columns of what `transpose` turns."""

_index, _byte, _real, _int = ir.IntType(64), ir.IntType(8), ir.FloatType(), ir.IntType(32)


def vector_type(lanes: int) -> Any:
    """So many float32 numbers, as one value."""
    return ir.VectorType(_real, lanes)


def written_out(*numbers: Any) -> list[int]:
    """Numbers that an intrinsic has to know when it is compiled, from their types."""
    if not all(isinstance(n, types.IntegerLiteral) for n in numbers):
        raise errors.RequireLiteralValue("these numbers have to be written out")
    return [n.literal_value for n in numbers]


def element(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    """A pointer to an element of an array."""
    return builder.gep(arrays.make_array(kind)(context, builder, array).data, [at])


def load_vector(builder: Any, pointer: Any, lanes: int) -> Any:
    """The numbers from a pointer on."""
    return builder.load(builder.bitcast(pointer, vector_type(lanes).as_pointer()), align=4)


def store_vector(builder: Any, value: Any, pointer: Any) -> None:
    """Writes numbers from a pointer on."""
    builder.store(value, builder.bitcast(pointer, value.type.as_pointer()), align=4)


def _fetch(builder: Any, pointer: Any, write: bool) -> None:
    """Begins to bring a line of memory into the first-level cache, to be written, or into the second-level one."""
    kind = ir.FunctionType(ir.VoidType(), [_byte.as_pointer(), _int, _int, _int])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")  # type: ignore[no-untyped-call]
    builder.call(function, [builder.bitcast(pointer, _byte.as_pointer()), _int(int(write)), _int(2 + write), _int(1)])


def everywhere(builder: Any, number: Any, lanes: int) -> Any:
    """A vector of equal numbers."""
    nothing = ir.Constant(vector_type(lanes), ir.Undefined)
    first = ir.Constant(ir.VectorType(_int, lanes), [0] * lanes)
    return builder.shuffle_vector(builder.insert_element(nothing, number, _int(0)), nothing, first)


def end_of_loop(builder: Any, count: Any, limit: Any, sums: Any, made: Any, again: Any, after: Any) -> None:
    """Goes to the block ``again`` with the next count and what was made of the sums; ``after`` it at the limit."""
    here, following = builder.block, builder.add(count, _index(1))
    count.add_incoming(following, here)
    for total, value in zip(sums, made, strict=True):
        total.add_incoming(value, here)
    builder.cbranch(builder.icmp_signed("<", following, limit), again, after)


@intrinsic  # type: ignore[untyped-decorator]
def tile(
    context: Any, height: Any, vectors: Any, lanes: Any, depth: Any, a: Any, a_at: Any, a_row: Any, a_column: Any,
    b: Any, b_at: Any, b_row: Any, c: Any, c_at: Any, c_row: Any, add: Any,
) -> Any:  # fmt: skip
    """C = A B, or C = C + A B if ``add`` is not 0, for float32 matrices [height, depth], [depth, columns], [height,
    columns], where the columns are ``vectors`` times ``lanes``: `LANES` or `HALF`.

    Height, vectors and lanes are written out. A matrix begins at element ``_at`` of its array; ``_row`` and ``_column``
    are how far its rows and columns are apart (those of B and C lie side by side). The depth is at least 1.
    """
    kinds = height, vectors, lanes
    rows, count, lanes = written_out(*kinds)
    long, wide = types.int64, vector_type(lanes)

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        depth, a, a_at, a_row, a_column, b, b_at, b_row, c, c_at, c_row, add = args[3:]
        a_now, b_now, c_now = (
            element(context, builder, kind, array, at)
            for kind, array, at in ((sig.args[4], a, a_at), (sig.args[8], b, b_at), (sig.args[11], c, c_at))
        )
        multiply_add = cgutils.get_or_insert_function(  # type: ignore[no-untyped-call]
            builder.module, ir.FunctionType(wide, [wide] * 3), f"llvm.fma.v{lanes}f32"
        )
        places = [
            builder.gep(c_now, [builder.add(builder.mul(c_row, _index(r)), _index(j * lanes))])
            for r in range(rows)
            for j in range(count)
        ]
        zero = ir.Constant(wide, [0.0] * lanes)
        for place in places:  # until the sums are made, it will be there
            _fetch(builder, place, write=True)
        fresh, seen, body, end = (builder.append_basic_block(n) for n in ("fresh", "seen", "body", "end"))
        builder.cbranch(builder.icmp_signed("!=", add, _index(0)), seen, fresh)
        builder.position_at_end(seen)
        before = [load_vector(builder, place, lanes) for place in places]
        builder.branch(body)
        builder.position_at_end(fresh)
        builder.branch(body)
        builder.position_at_end(body)
        k = builder.phi(_index)
        sums = [builder.phi(wide) for _ in places]
        for block, first in ((seen, before), (fresh, [zero] * len(places))):
            k.add_incoming(_index(0), block)
            for total, value in zip(sums, first, strict=True):
                total.add_incoming(value, block)
        a_here = builder.gep(a_now, [builder.mul(k, a_column)])
        b_here = builder.gep(b_now, [builder.mul(k, b_row)])
        right = [load_vector(builder, builder.gep(b_here, [_index(j * lanes)]), lanes) for j in range(count)]
        made = []
        for r in range(rows):
            left = builder.load(builder.gep(a_here, [builder.mul(a_row, _index(r))]), align=4)
            left = everywhere(builder, left, lanes)
            made += [builder.call(multiply_add, [left, right[j], sums[r * count + j]]) for j in range(count)]
        end_of_loop(builder, k, depth, sums, made, body, end)
        builder.position_at_end(end)
        for place, value in zip(places, made, strict=True):
            store_vector(builder, value, place)
        return context.get_dummy_value()

    return types.void(*kinds, long, a, long, long, long, b, long, long, c, long, long, long), build


@intrinsic  # type: ignore[untyped-decorator]
def address(context: Any, x: Any, at: Any) -> Any:
    """Where an element of an array is in memory; indices may be negative."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(element(context, builder, sig.args[0], *args), _index)

    return types.int64(x, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def numbers_at(context: Any, address: Any) -> Any:
    """The float32 numbers from an address on, and before it, as a flat array whose indices are not checked."""
    made = types.Array(types.float32, 1, "C")

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        flat = arrays.make_array(made)(context, builder)
        first, size = builder.inttoptr(args[0], _real.as_pointer()), _index(4)
        # without a length, as compiled code adds that to negative indices
        arrays.populate_array(flat, first, [_index(0)], [size], size, None)
        return flat._getvalue()

    return made(types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(context: Any, x: Any, at: Any) -> Any:
    """Begins to bring the line of memory with an element of an array, which need not exist, into the cache."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _fetch(builder, element(context, builder, sig.args[0], *args), write=False)
        return context.get_dummy_value()

    return types.void(x, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def transpose(
    context: Any, rows: Any, x: Any, x_at: Any, x_row: Any, y: Any, y_at: Any, y_row: Any
) -> Any:  # fmt: skip
    """Writes the transpose of ``rows`` (written out, at most `SQUARE`) rows of `SQUARE` float32 numbers of x to y.

    Every row of y gets `SQUARE` numbers, zeros where x has no rows; where the rows of y are nearer to each other than
    that, a row overwrites the zeros at the end of the one before.
    """
    (count,) = written_out(rows)
    long = types.int64

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, x, x_at, x_row, y, y_at, y_row = args
        source = element(context, builder, sig.args[1], x, x_at)
        target = element(context, builder, sig.args[4], y, y_at)
        zero = ir.Constant(vector_type(SQUARE), [0.0] * SQUARE)
        lines = [
            load_vector(builder, builder.gep(source, [builder.mul(x_row, _index(r))]), SQUARE) if r < count else zero
            for r in range(SQUARE)
        ]
        step = 1
        while step < SQUARE:  # exchanges the blocks above and below the diagonal, of 1, 2 and 4 rows
            lower = [i if i & step == 0 else i - step + SQUARE for i in range(SQUARE)]
            upper = [i + step if i & step == 0 else i + SQUARE for i in range(SQUARE)]
            turned = list(lines)
            for r in range(SQUARE):
                if r & step == 0:
                    pair = lines[r], lines[r + step]
                    turned[r] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_int, SQUARE), lower))
                    turned[r + step] = builder.shuffle_vector(*pair, ir.Constant(ir.VectorType(_int, SQUARE), upper))
            lines, step = turned, step * 2
        for r, line in enumerate(lines):
            store_vector(builder, line, builder.gep(target, [builder.mul(y_row, _index(r))]))
        return context.get_dummy_value()

    return types.void(rows, x, long, long, y, long, long), build


@intrinsic  # type: ignore[untyped-decorator]
def copy_vector(context: Any, count: Any, x: Any, x_at: Any, y: Any, y_at: Any) -> Any:
    """Copies ``count`` (written out) float32 numbers from element ``x_at`` of x on to y, from element ``y_at`` on."""
    (lanes,) = written_out(count)
    long = types.int64

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, x, x_at, y, y_at = args
        line = load_vector(builder, element(context, builder, sig.args[1], x, x_at), lanes)
        store_vector(builder, line, element(context, builder, sig.args[3], y, y_at))
        return context.get_dummy_value()

    return types.void(count, x, long, y, long), build
