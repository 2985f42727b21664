"""What kernels make of weights before they use them, kept while the same weights come: in inference that is always."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.memory import is_constant


class Kept:
    """An array that a kernel makes of a weight; one for each node.

    It is made in the kernel's scratch memory until the same array has come twice in a row: then it is made once more,
    in memory of its own, and kept until another one comes or that one is gone. What may still be written to is never
    the same.
    """

    def __init__(self) -> None:
        self._last: tuple[Any, Any] = None, None  # a weak reference to the weight, and what was made of it

    def of(self, weight: Array, room: Array, make: Callable[[Array, Array], object]) -> Array:
        """What ``make(weight, array)`` fills an array with: ``room``, or one like it that was filled before."""
        reference, kept = self._last
        if reference is None or reference() is not weight:
            self._last = (weakref.ref(weight, self._forget) if is_constant(weight) else None), None
            make(weight, room)
            return room
        if kept is None:
            kept = np.empty_like(room)
            make(weight, kept)
            self._last = reference, kept
        return kept

    def _forget(self, reference: Any) -> None:
        if self._last[0] is reference:
            self._last = None, None
