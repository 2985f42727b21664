"""Several arrays in one piece of memory: what a kernel works in while it runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from graphrt.op import Array

ALIGN = 16
"""Every array begins a multiple of so many numbers after the piece: a cache line of float32."""


def room(*shapes: Sequence[int]) -> int:
    """How many numbers arrays of these shapes take."""
    return sum(-(-math.prod(s) // ALIGN) * ALIGN for s in shapes)


def carve(memory: Array, *shapes: Sequence[int]) -> Iterator[Array]:
    """Arrays of these shapes, side by side in a flat piece of `room` numbers, with anything in them."""
    at = 0
    for shape in shapes:
        size = math.prod(shape)
        yield memory[at : at + size].reshape(shape)
        at += -(-size // ALIGN) * ALIGN
