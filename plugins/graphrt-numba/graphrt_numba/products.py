"""Matrix products inside compiled loops, by the OpenBLAS that NumPy ships."""

from __future__ import annotations

from typing import Any

from graphrt.runtime.blas import address
from graphrt.runtime.kernels import _pieces
from graphrt_numba.compiler import helper, sgemm

Array = Any


def blas() -> tuple[int, int] | None:
    """The first two arguments of `product`; None where NumPy has another BLAS.

    They are the address of the BLAS's function, and the number of multiplications up to which it works on the matrices
    as they lie (0 if it never does), which is the quickest way.
    """
    found = address("cblas_sgemm")
    return None if found is None else (found, _pieces.SMALL if _pieces.has_small_kernels() else 0)


@helper
def product(
    blas: int, small: int, turned: int, rows: int, columns: int, depth: int,
    a: Array, a_at: int, a_step: int, b: Array, b_at: int, b_step: int, beta: Any, c: Array, c_at: int, c_step: int,
) -> None:  # fmt: skip
    """C = A B + beta C, as `sgemm` does it; where ``turned`` is 1, what lies there is A's transpose.

    Goes through A in pieces of rows, as large as a product may be that is done on the matrices as they lie; where these
    would be narrower than a line of the cache, or very few rows, the BLAS does it all at once.
    """
    piece, least = small // (columns * depth) // 8 * 8, 16 if turned else 8
    if piece < least:
        piece = rows
    along = 1 if turned else a_step
    for row in range(0, rows, piece):
        count = min(piece, rows - row)
        left, right, made = (a, a_at + row * along, a_step), (b, b_at, b_step), (c, c_at + row * c_step, c_step)
        sgemm(blas, turned, 0, count, columns, depth, 1.0, *left, *right, beta, *made)
