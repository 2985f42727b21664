"""The sum of the squares of whole arrays: what the norm of a gradient is made of."""

from __future__ import annotations

import math
from collections.abc import Callable

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, TensorType, kernel
from graphrt.runtime.kernels.reduction import square
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_large

SPEED, LINE = 0.1, 16
"""Nanoseconds that one number takes, about; and how many of them are on a line of the cache."""


@kernel("SumOfSquares", name="numba_sum_of_squares", domain="graphrt", priority=PRIORITY)
def sum_of_squares(site: KernelSite) -> Into | None:
    """Each thread sums up a part of a large array; small ones are left to NumPy."""
    types = site.inputs["data"]
    if not any(map(is_large, types)) or any(not isinstance(t, TensorType) or t.dtype != "float32" for t in types):
        return None
    bounds = [bounds_of(size, size * SPEED) if is_large(t) else None for t in types for size in [math.prod(t.shape)]]
    squares = [None if b is None else _in_parts(b) for b in bounds]
    most = max(len(b) - 1 for b in bounds if b is not None)

    def fill(*arrays: Array) -> None:
        *data, result, sums = arrays
        result.fill(sum([square(x) if own is None else own(x, sums) for own, x in zip(squares, data, strict=True)]))

    return site.into(fill, scratch=[((most, LINE), "float32")])


def _in_parts(bounds: Array) -> Callable[[Array, Array], float]:
    from graphrt_numba import reduction_loops as loops

    run, parts = by_rows(loops.sum_of_squares, ("float32*", "float32**"), bounds), len(bounds) - 1

    def squared(x: Array, sums: Array) -> float:
        run(x.ravel(), sums)
        return float(sum(sums[:parts, 0].tolist()))

    return squared


KERNELS = (sum_of_squares,)
