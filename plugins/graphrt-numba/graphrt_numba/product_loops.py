"""The product of two matrices, compiled: in tiles whose sums stay in registers, of blocks packed for the caches.

After K. Goto and R. van de Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008): a block of A
and one of B are in the second-level cache; a panel of B, one tile wide, is in the first-level cache while the rows of A
go by. While one block of B is used, the next one is brought nearer.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, call, copy, helper, inline, local, loop
from graphrt_numba.team import share
from graphrt_numba.vectors import (
    HALF,
    HEIGHT,
    LANES,
    SQUARE,
    VECTORS,
    address,
    copy_vector,
    numbers_at,
    prefetch,
    tile,
    transpose,
)

Array = Any

WIDTH = LANES * VECTORS
"""Columns of a tile."""
DEPTH, ROWS, COLUMNS = 512, 32 * HEIGHT, 128
"""Columns of a block of A, which are the rows of one of B; rows of a block of A; columns of a block of B."""
LEFT, RIGHT, EDGE = ROWS * DEPTH // LOCAL + 1, COLUMNS * DEPTH // LOCAL, HEIGHT * HALF // LOCAL + 1
"""The memory for a block of A, for one of B, and for a tile, as `local` counts it."""
FEW, LOW = 2 * WIDTH, 8 * HEIGHT
"""Columns up to which A is not worth packing, and rows up to which B is not, where its lines are whole vectors."""
LINE = 16
"""Numbers of a line of the cache."""
SHARED = 1 << 19
"""Multiplications of a product within a loop for its parts to be shared out, at least."""
ZERO = np.float32(0)


def product() -> int:
    """The first argument of `multiply`; it is one of the loop that calls it."""
    return _multiply.address(*["int64"] * 12)


@helper
def multiply(
    product: int, rows: int, columns: int, depth: int, a: Array, a_at: int, a_row: int, a_column: int,
    b: Array, b_at: int, b_row: int, b_column: int, c: Array, c_at: int, c_row: int, add: int,
) -> None:  # fmt: skip
    """C = A B, or C += A B if ``add`` is not 0, for float32 matrices in arrays.

    A matrix begins at element ``_at`` of its array, its rows ``_row`` and its columns ``_column`` elements apart (those
    of C lie side by side). How a sum is rounded depends on the depth alone, not on how many rows and columns are asked
    for at a time.
    """
    of_a, of_b = (address(a, a_at), a_row, a_column), (address(b, b_at), b_row, b_column)
    call(product, (rows, columns, depth, *of_a, *of_b, address(c, c_at), c_row, add))


@helper
def multiply_in_parts(
    by: Any, rows: int, columns: int, depth: int, a: Array, a_at: int, a_row: int, a_column: int,
    b: Array, b_at: int, b_row: int, b_column: int, c: Array, c_at: int, c_row: int, add: int,
) -> None:  # fmt: skip
    """`multiply`, its rows shared out if that pays; ``by`` is a team, how many hands it has, and ``product``."""
    team, hands, product = by
    x, y, z = (a, a_at, a_row, a_column), (b, b_at, b_row, b_column), (c, c_at, c_row, add)
    if hands > 0 and rows * columns * depth >= SHARED:
        share(team, hands, hands + 1, _some_rows, (hands + 1, product, rows, columns, depth, *x, *y, *z))
    else:
        multiply(product, rows, columns, depth, *x, *y, *z)


@helper
def _some_rows(
    part: int, parts: int, product: int, rows: int, columns: int, depth: int, a: Array, a_at: int, a_row: int,
    a_column: int, b: Array, b_at: int, b_row: int, b_column: int, c: Array, c_at: int, c_row: int, add: int,
) -> None:  # fmt: skip
    """A part's rows of a product: a multiple of `LINE`, but for the last ones."""
    lines = -(-rows // LINE)
    first, last = lines * part // parts * LINE, min(rows, lines * (part + 1) // parts * LINE)
    if last > first:
        multiply(
            product, last - first, columns, depth, a, a_at + first * a_row, a_row, a_column,
            b, b_at, b_row, b_column, c, c_at + first * c_row, c_row, add,
        )  # fmt: skip


@loop
def _multiply(
    rows: int, columns: int, depth: int, a_address: int, a_row: int, a_column: int,
    b_address: int, b_row: int, b_column: int, c_address: int, c_row: int, add: int,
) -> None:  # fmt: skip
    """`multiply`, of matrices at addresses."""
    a, b, c = numbers_at(a_address), numbers_at(b_address), numbers_at(c_address)
    left, right, edge = local(c, LEFT), local(c, RIGHT), local(c, EDGE)
    step, long, all_lines = (b_row, COLUMNS, DEPTH) if b_column == 1 else (b_column, DEPTH, COLUMNS)
    for k in range(0, depth, DEPTH):
        deep, more = min(DEPTH, depth - k), add + k
        for i in range(0, rows, ROWS):
            high, of_a = min(ROWS, rows - i), i * a_row + k * a_column
            rows_of, first, row, column, tall = a, of_a, a_row, a_column, HEIGHT * a_row
            if columns > FEW:
                pack_left(a, of_a, a_row, a_column, high, deep, left)
                rows_of, first, row, column, tall = left, 0, 1, HEIGHT, HEIGHT * deep
            for j in range(0, columns, COLUMNS):
                count = min(COLUMNS, columns - j)
                of_b, of_c = k * b_row + j * b_column, i * c_row + j
                panels, from_, between, wide, following, lines = b, of_b, b_row, WIDTH, 0, 0
                if high > LOW or b_column != 1 or count % LANES:
                    pack_right(b, of_b, b_row, b_column, deep, count, right)
                    panels, from_, between, wide = right, 0, WIDTH, deep * WIDTH
                    if j + count < columns:
                        following, lines = of_b + COLUMNS * b_column, all_lines
                    elif k + DEPTH < depth:
                        following, lines = (k + DEPTH) * b_row, all_lines
                across(
                    high, count, deep, rows_of, first, row, column, tall, panels, from_, between, wide,
                    c, of_c, c_row, more, edge, b, following, step, lines, long,
                )  # fmt: skip


@inline
def pack_left(a: Array, at: int, row: int, column: int, rows: int, depth: int, packed: Array) -> None:
    """Writes `HEIGHT` rows of A side by side, column after column; then the next ones."""
    whole = rows // HEIGHT * HEIGHT
    for first in range(0, rows, HEIGHT):
        to, here, done = first * depth, at + first * row, 0
        if first < whole and row == 1:
            done = depth
            for k in range(depth):
                copy_vector(HEIGHT, a, here + k * column, packed, to + k * HEIGHT)
        elif first < whole and column == 1:
            done = depth // SQUARE * SQUARE
            for k in range(0, done, SQUARE):
                transpose(HEIGHT, a, here + k, row, packed, to + k * HEIGHT, HEIGHT)
        count = min(HEIGHT, rows - first)
        for k in range(done, depth):
            for i in range(count):
                packed[to + k * HEIGHT + i] = a[here + k * column + i * row]


@inline
def pack_right(b: Array, at: int, row: int, column: int, depth: int, columns: int, packed: Array) -> None:
    """Writes B in panels of `WIDTH` columns, each of them row after row; what the last vector lacks are zeros."""
    whole, done = 0, 0
    if column == 1:
        whole, done = columns // LANES * LANES, depth
        for k in range(depth):
            for j in range(0, whole, LANES):
                copy_vector(LANES, b, at + k * row + j, packed, (j // WIDTH * depth + k) * WIDTH + j % WIDTH)
    elif row == 1:
        whole, done = columns // SQUARE * SQUARE, depth // SQUARE * SQUARE
        for j in range(0, whole, SQUARE):
            to = j // WIDTH * depth * WIDTH + j % WIDTH
            for k in range(0, done, SQUARE):
                transpose(SQUARE, b, at + k + j * column, column, packed, to + k * WIDTH, WIDTH)
    full = -(-columns // LANES) * LANES
    for first in range(0, columns, WIDTH):
        to, here, end, filled = first * depth, at + first * column, min(WIDTH, full - first), max(whole - first, 0)
        for k in range(depth):
            for j in range(min(filled, WIDTH) if k < done else 0, min(end, columns - first)):
                packed[to + k * WIDTH + j] = b[here + k * row + j * column]
            for j in range(columns - first, end):
                packed[to + k * WIDTH + j] = ZERO


@helper
def across(
    rows: int, columns: int, depth: int, a: Array, a_at: int, a_row: int, a_column: int, a_panel: int,
    b: Array, b_at: int, b_row: int, b_panel: int, c: Array, c_at: int, c_row: int, add: int, edge: Array,
    following: Array, next_at: int, next_row: int, lines: int, long: int,
) -> None:  # fmt: skip
    """A block of C, from panels of A, `HEIGHT` rows each, and panels of B, `WIDTH` columns each.

    Meanwhile brings nearer what is going to be packed: so many ``lines`` of ``long`` numbers.
    """
    whole, turns, brought = rows // HEIGHT * HEIGHT, -(-columns // WIDTH), 0
    each = -(-lines // max(turns * (whole // HEIGHT), 1))
    of_last = a_at + whole // HEIGHT * a_panel
    for j in range(0, columns, WIDTH):
        count, of_b, of_c = min(WIDTH, columns - j), b_at + j // WIDTH * b_panel, c_at + j
        if count == WIDTH:
            for i in range(0, whole, HEIGHT):
                for line in range(brought, min(brought + each, lines)):
                    for x in range(0, long, LINE):
                        prefetch(following, next_at + line * next_row + x)
                brought += each
                of_a = a_at + i // HEIGHT * a_panel
                tile(
                    HEIGHT, VECTORS, LANES, depth, a, of_a, a_row, a_column, b, of_b, b_row,
                    c, of_c + i * c_row, c_row, add,
                )  # fmt: skip
            _last_rows(
                rows - whole, depth, a, of_last, a_row, a_column, b, of_b, b_row, c, of_c + whole * c_row, c_row, add
            )  # fmt: skip
            continue
        if count >= LANES:
            for i in range(0, whole, HEIGHT):
                of_a = a_at + i // HEIGHT * a_panel
                tile(HEIGHT, 1, LANES, depth, a, of_a, a_row, a_column, b, of_b, b_row, c, of_c + i * c_row, c_row, add)
            for i in range(rows - whole):
                to = of_c + (whole + i) * c_row
                tile(1, 1, LANES, depth, a, of_last + i * a_row, a_row, a_column, b, of_b, b_row, c, to, c_row, add)
            count, of_b, of_c = count - LANES, of_b + LANES, of_c + LANES
        if count >= HALF:
            for i in range(0, whole, HEIGHT):
                of_a = a_at + i // HEIGHT * a_panel
                tile(HEIGHT, 1, HALF, depth, a, of_a, a_row, a_column, b, of_b, b_row, c, of_c + i * c_row, c_row, add)
            for i in range(rows - whole):
                to = of_c + (whole + i) * c_row
                tile(1, 1, HALF, depth, a, of_last + i * a_row, a_row, a_column, b, of_b, b_row, c, to, c_row, add)
            count, of_b, of_c = count - HALF, of_b + HALF, of_c + HALF
        for i in range(0, rows if count else 0, HEIGHT):
            of_a = a_at + i // HEIGHT * a_panel
            high = min(HEIGHT, rows - i)
            for y in range(high if add else 0):
                for x in range(count):
                    edge[y * HALF + x] = c[of_c + (i + y) * c_row + x]
            if high == HEIGHT:
                tile(HEIGHT, 1, HALF, depth, a, of_a, a_row, a_column, b, of_b, b_row, edge, 0, HALF, add)
            else:
                for y in range(high):
                    at = of_a + y * a_row
                    tile(1, 1, HALF, depth, a, at, a_row, a_column, b, of_b, b_row, edge, y * HALF, HALF, add)
            for y in range(high):
                for x in range(count):
                    c[of_c + (i + y) * c_row + x] = edge[y * HALF + x]


@helper
def _last_rows(
    rows: int, depth: int, a: Array, a_at: int, a_row: int, a_column: int, b: Array, b_at: int, b_row: int,
    c: Array, c_at: int, c_row: int, add: int,
) -> None:  # fmt: skip
    """Fewer than `HEIGHT`, of as many columns as a tile has."""
    done = 0
    if rows >= 4:
        tile(4, VECTORS, LANES, depth, a, a_at, a_row, a_column, b, b_at, b_row, c, c_at, c_row, add)
        done = 4
    for i in range(done, rows):
        at, to = a_at + i * a_row, c_at + i * c_row
        tile(1, VECTORS, LANES, depth, a, at, a_row, a_column, b, b_at, b_row, c, to, c_row, add)


# ---- stacks of products ------------------------------------------------------------------------------------


@loop
def products(
    team: Array, hands: int, parts: Array, product: int, a: Array, b: Array, c: Array, bias: Array, sums: Array
) -> None:  # fmt: skip
    """c = a b and the bias, if there is one, for the matrices in the last two axes of arrays of four.

    The columns of c, or its rows, lie side by side. A part is a row of ``parts``: the first matrix of the stack and the
    one after the last, the same of rows, columns and terms of the sums; parts with later terms than the first fill a
    row of ``sums`` each, which are added to c. The bias is added to each row.
    """
    share(team, hands, len(parts), _products, (parts, product, a, b, c, bias, sums))
    if sums.shape[1]:
        share(team, hands, len(parts), _add_sums, (len(parts), c, sums))


@helper
def _products(part: int, parts: Array, product: int, a: Array, b: Array, c: Array, bias: Array, sums: Array) -> None:
    begin, end, top, bottom, left, right, first, last = parts[part]
    inner, rows, columns, depth = a.shape[1], bottom - top, right - left, last - first
    a_outer, a_inner, a_row, a_column = _steps(a)
    b_outer, b_inner, b_row, b_column = _steps(b)
    c_outer, c_inner, c_row, c_column = _steps(c)
    for s in range(begin, end):
        of_a = s // inner * a_outer + s % inner * a_inner + top * a_row + first * a_column
        of_b = s // inner * b_outer + s % inner * b_inner + left * b_column + first * b_row
        of_c = s // inner * c_outer + s % inner * c_inner + top * c_row + left * c_column
        x, y = (a, of_a, a_row, a_column), (b, of_b, b_row, b_column)
        if first > 0:
            multiply(product, rows, columns, depth, *x, *y, sums[part - 1], 0, columns, 0)
        elif c_column != 1 and c_row == 1:  # the transpose of the product of the transposes
            x, y = (b, of_b, b_column, b_row), (a, of_a, a_column, a_row)
            multiply(product, columns, rows, depth, *x, *y, c, of_c, c_column, 0)
        elif not bias.size:
            multiply(product, rows, columns, depth, *x, *y, c, of_c, c_row, 0)
        else:
            for i in range(0, rows, ROWS):
                high, to = min(ROWS, rows - i), of_c + i * c_row
                for line in range(high):
                    copy(c, to + line * c_row, bias, left, columns)
                x = (a, of_a + i * a_row, a_row, a_column)
                multiply(product, high, columns, depth, *x, *y, c, to, c_row, 1)


@helper
def _add_sums(part: int, parts: int, c: Array, sums: Array) -> None:
    """Adds a part of the sums to the product, which lies without gaps."""
    size = sums.shape[1]
    first, last = size * part // parts, size * (part + 1) // parts
    total = numbers_at(address(c, first))
    for i in range(len(sums)):
        more = sums[i, first:last]
        for k in range(last - first):
            total[k] += more[k]


@inline
def _steps(x: Array) -> tuple[int, int, int, int]:
    """How many elements lie between those of each axis."""
    s = x.strides
    return s[0] // 4, s[1] // 4, s[2] // 4, s[3] // 4
