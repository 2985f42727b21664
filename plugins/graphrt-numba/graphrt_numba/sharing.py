"""When a node is worth a compiled loop, and how its rows are shared out among threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphrt.plugin import TensorType
from graphrt.runtime import fusion
from graphrt.runtime.memory import nbytes_of
from graphrt.runtime.threads import share, threads_for

PRIORITY = 10
"""Of all kernels here: before those of graphrt itself."""

Rows = tuple[int, int]
"""The first row of a part, and the one after its last."""


def is_large(t: Any) -> bool:
    """Whether an array is float32, of known shape, and so large that chains of its like are made one node."""
    return isinstance(t, TensorType) and t.is_static and t.dtype == "float32" and nbytes_of(t) >= fusion.LEAST


def parts_of(rows: int, nanoseconds: float) -> list[Rows]:
    """Rows in parts of about equal size, one for each thread that pays; all take one thread about so long."""
    count = max(1, min(threads_for(nanoseconds), rows))
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]


def in_parts(work: Callable[[int, Rows], Any], parts: list[Rows]) -> None:
    """Calls ``work(i, part)`` for all parts, in a thread each."""
    if len(parts) == 1:
        work(0, parts[0])
    else:
        share(work, parts)


def by_rows(run: Callable[..., Any], rows: int, nanoseconds: float) -> Callable[..., None]:
    """A function of arrays and numbers that calls ``run(first, last, ...)`` for all rows, in threads if that pays.

    Args:
        run: does the rows from ``first`` up to ``last``; safe to be called at the same time for different ones.
        rows: how many there are.
        nanoseconds: how long all of them take one thread, about.
    """
    parts = parts_of(rows, nanoseconds)
    if len(parts) == 1:
        return lambda *arguments: run(0, rows, *arguments)
    return lambda *arguments: in_parts(lambda i, part: run(*part, *arguments), parts)
