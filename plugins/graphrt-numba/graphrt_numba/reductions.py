"""The sum of the squares of a whole array: what the norm of a gradient is made of."""

from __future__ import annotations

import math

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_large

SPEED, LINE = 0.1, 16
"""Nanoseconds that one number takes, about; and how many of them are on a line of the cache."""


@kernel("ReduceSumSquare", name="numba_sum_of_squares", priority=PRIORITY)
def sum_of_squares(site: KernelSite) -> Into | None:
    """Over all axes; each thread sums up a part."""
    a = site.attributes
    everything = site.inputs.get("axes") is None and a.get("axes") is None and not a.get("noop_with_empty_axes", 0)
    if not everything or not is_large(site.inputs["data"]):
        return None
    from graphrt_numba import reduction_loops as loops

    size = math.prod(site.shape("data"))
    bounds = bounds_of(size, size * SPEED)
    parts = len(bounds) - 1
    run = by_rows(loops.sum_of_squares, ("float32*", "float32**"), bounds)

    def fill(data: Array, *rest: Array) -> None:
        *_, result, sums = rest
        run(data.ravel(), sums)
        result[...] = sum(sums[:, 0].tolist())

    return site.into(fill, scratch=[((parts, LINE), "float32")])


KERNELS = (sum_of_squares,)
