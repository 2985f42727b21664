"""Products of which one matrix is thin, done in pieces.

For processors with AVX-512 OpenBLAS has kernels that do a product of at most 10^6 multiplications on the matrices as
they lie, in one thread; those of larger products first copy the matrices into an order of their own, which takes a
good part of the time where one of them is thin. So a thin product is faster in pieces, unless several threads share it.
Source: OpenBLAS, pull request 3335.
"""

from __future__ import annotations

from functools import cache

from graphrt.runtime.blas import blas_facts

MOST = 32
"""Pieces of larger products would be too flat."""
SMALL = 10**6
"""Multiplications of a product that is done on the matrices as they lie."""
_CORES = frozenset({"SKYLAKEX", "COOPERLAKE", "SAPPHIRERAPIDS"})


def pieces(rows: int, depth: int, columns: int) -> int:
    """Into how many pieces of equal numbers of rows a product [rows, depth] [depth, columns] is best divided."""
    if not has_small_kernels() or columns == 1:
        return 1
    counts = (n for n in range(1, MOST + 1) if rows % n == 0 and rows // n * depth * columns <= SMALL)
    return next(counts, 1)


@cache
def has_small_kernels() -> bool:
    """Whether OpenBLAS has such kernels for this processor."""
    return str(blas_facts()["kernel"]).upper() in _CORES
