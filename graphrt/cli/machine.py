"""What this machine can do at most, measured with NumPy: matrix products and memory traffic."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZE = 1536
"""Rows and columns of the matrices."""
BYTES = 1 << 26
"""Size of the arrays that are copied: beyond any cache."""


def sgemm_peak() -> float:
    """Operations a second of a product of float32 matrices."""
    a, b, out = (np.ones((SIZE, SIZE), np.float32) for _ in range(3))
    return 2 * SIZE**3 / _quickest(lambda: np.matmul(a, b, out=out))


def bandwidth_peak() -> float:
    """Bytes a second, read and written, of copying arrays."""
    a, b = (np.ones(BYTES // 4, np.float32) for _ in range(2))
    return 2 * BYTES / _quickest(lambda: np.copyto(a, b))


def _quickest(run: Callable[[], Any], calls: int = 7) -> float:
    run()
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return min(taken)
