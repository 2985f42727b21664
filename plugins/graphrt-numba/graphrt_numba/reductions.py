"""The sum of the squares of whole arrays: what the norm of a gradient is made of."""

from __future__ import annotations

import math

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, TensorType, kernel
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, constant, is_worth, launching

SPEED, LINE = 0.1, 16
"""Nanoseconds that one number takes, about; and how many of them are on a line of the cache."""


@kernel("SumOfSquares", name="numba_sum_of_squares", domain="graphrt", priority=PRIORITY)
def sum_of_squares(site: KernelSite) -> Into | None:
    """Each thread sums up a part of a large array."""
    types = site.inputs["data"]
    if not all(isinstance(t, TensorType) and t.dtype == "float32" and t.is_static for t in types):
        return None
    if not any(is_worth(site, t) for t in types):
        return None
    from graphrt_numba import reduction_loops as loops
    from graphrt_numba.team import alone

    bounds = [bounds_of(size, size * SPEED) for t in types for size in [math.prod(t.shape)]]
    squares = [by_rows(loops.sum_of_squares, ("float32*", "float32**"), b) for b in bounds]
    counts = constant([len(b) - 1 for b in bounds])
    total = alone(loops.total, ("int64*", "float32***", "float32*"), counts)

    def fill(*arrays: Array) -> None:
        *data, result, sums = arrays
        for run, x, own in zip(squares, data, sums, strict=True):
            run(x.ravel(), own)
        total(sums, result.reshape(1))

    return launching(site, fill, scratch=[((len(types), int(counts.max()), LINE), "float32")])


@kernel("OnesLike", name="numba_ones", domain="graphrt", priority=PRIORITY)
def ones(site: KernelSite) -> Into | None:
    """Writes the ones, into memory it is given."""
    if not is_worth(site, site.inputs["x"]):
        return None
    from graphrt_numba import reduction_loops as loops

    size = math.prod(site.shape("x"))
    run = by_rows(loops.fill, ("float32", "float32*"), bounds_of(size, size * SPEED))
    return launching(site, lambda x, y: run(1.0, y.ravel()))


KERNELS = (sum_of_squares, ones)
