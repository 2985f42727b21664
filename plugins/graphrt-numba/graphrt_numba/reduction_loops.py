"""The loops of `graphrt_numba.reductions`."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import reduction

Array = Any


@reduction
def sum_of_squares(first: int, last: int, x: Array, total: Array) -> None:
    """The first element of ``total`` becomes the sum over the part."""
    x, s = x[first:last], np.float32(0)
    for i in range(last - first):
        s += x[i] * x[i]
    total[0] = s
