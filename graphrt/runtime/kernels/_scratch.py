"""What a kernel works in while it runs: several arrays in one piece of memory, and what is prepared on them."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator, Sequence
from operator import is_
from typing import Generic, TypeVar

from graphrt.op import Array

T = TypeVar("T")

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


class Bound(Generic[T]):
    """What was made of some arrays, views of them: kept while the same arrays come, and none of them is gone.

    A plan that runs again has its arrays where they were.
    """

    def __init__(self, make: Callable[..., T]):
        self._make = make
        self._last: tuple[tuple[weakref.ref[Array], ...], T] | None = None

    def __call__(self, *arrays: Array) -> T:
        """What ``make(*arrays)`` gives."""
        last = self._last
        if last is not None and len(arrays) == len(last[0]) and all(map(is_, [r() for r in last[0]], arrays)):
            return last[1]
        made = self._make(*arrays)
        self._last = tuple(weakref.ref(a, self._forget) for a in arrays), made
        return made

    def _forget(self, reference: weakref.ref[Array]) -> None:
        last = self._last
        if last is not None and reference in last[0]:
            self._last = None
