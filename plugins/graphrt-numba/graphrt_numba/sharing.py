"""When a node is worth a compiled loop, and how its rows are shared out among threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrt.plugin import Into, KernelSite, TensorType
from graphrt.runtime import fusion
from graphrt.runtime.memory import nbytes_of
from graphrt.runtime.threads import threads_for

if TYPE_CHECKING:
    from graphrt_numba.compiler import Loop

PRIORITY = 10
"""Of all kernels here: before those of graphrt itself."""

LEAST = 10_000
"""Nanoseconds of work for each thread but the first, at least: here they need not be woken as a rule."""


def is_worth(site: KernelSite, t: Any) -> bool:
    """Whether an array is float32, of known shape, and it or another one of its plan large.

    All of a plan is done here as far as can be, or nothing: what is small gains from being linked, and the threads of
    the BLAS and those here would take each other's processors.
    """
    if not isinstance(t, TensorType) or not t.is_static or t.dtype != "float32":
        return False
    return max(nbytes_of(t), site.largest) >= fusion.LEAST


def bounds_of(rows: int, nanoseconds: float) -> Any:
    """Where parts of about equal size begin, and where the last one ends: one for each thread that pays.

    Args:
        rows: how many there are.
        nanoseconds: how long all of them take one thread, about.
    """
    count = max(1, min(threads_for(nanoseconds, LEAST), rows))
    return np.array([rows * i // count for i in range(count + 1)])


def constant(numbers: Any, dtype: Any = np.int64) -> Any:
    """A read-only array that a kernel keeps."""
    made = np.array(numbers, dtype)
    made.setflags(write=False)
    return made


def launching(
    site: KernelSite,
    fill: Callable[..., Any],
    *,
    over: Mapping[int, tuple[int, ...]] | None = None,
    scratch: Sequence[tuple[tuple[int, ...], str]] = (),
) -> Into | None:
    """`KernelSite.into` of a fill that does nothing but launch loops, so that it can be replayed with its neighbors.

    Which loops it launches, and with which arguments, depends on the shapes and strides of its arrays, and not on what
    is in them. What it gives to the loops beside numbers are these arrays, views of them, and read-only arrays that the
    kernel keeps.
    """
    from graphrt_numba.replay import LINKER

    return site.into(fill, over=over, scratch=scratch, linker=LINKER)


def by_rows(loop: Loop, arguments: Sequence[str], bounds: Any) -> Callable[..., None]:
    """A function that runs a loop for all rows, in threads if there is more than one part.

    Args:
        loop: takes the first row of a part and the one after its last, then what the function is given; it is safe to
            be called at the same time for different parts.
        arguments: the types of what the function is given; of a ``"float32**"`` each part gets the row of its number.
        bounds: of the parts, from `bounds_of`.
    """
    from graphrt_numba.team import TEAM

    return TEAM.shares(loop, arguments, bounds)
