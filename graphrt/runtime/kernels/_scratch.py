"""Memory that kernels work in while they run, and give back: it never leaves them.

Buffers are kept between runs, because fresh memory costs more than the work done in it; a kernel that runs in several
threads at once takes one buffer in each.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphrt.op import Array

ALIGN = 64
KEPT = 4
"""How many buffers are kept; more only exist while as many threads need them."""

_free: list[Array] = []


@contextmanager
def scratch(dtype: Any, *shapes: Sequence[int]) -> Iterator[list[Array]]:
    """Arrays of these shapes, contiguous, aligned to cache lines, with anything in them."""
    dtype = np.dtype(dtype)
    sizes = [-(-math.prod(s) * dtype.itemsize // ALIGN) * ALIGN for s in shapes]
    needed = sum(sizes) + ALIGN
    buffer = _take(needed)
    at = -buffer.ctypes.data % ALIGN
    made = []
    for shape, size in zip(shapes, sizes, strict=True):
        made.append(buffer[at : at + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape))
        at += size
    try:
        yield made
    finally:
        _give(buffer)


def _take(needed: int) -> Array:
    try:
        buffer = _free.pop()
    except IndexError:
        return np.empty(needed, np.uint8)
    return buffer if buffer.size >= needed else np.empty(needed, np.uint8)


def _give(buffer: Array) -> None:
    if len(_free) < KEPT:
        _free.append(buffer)
