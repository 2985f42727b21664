"""A kernel's blocks shared out among threads, while the BLAS keeps to one thread for each of them.

Off (one worker) unless `use_workers` says otherwise: NumPy's elementwise work and small products then run on one core.
"""

from __future__ import annotations

import ctypes
import glob
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

_state: dict[str, Any] = {"workers": 1, "pool": None}
_lock = threading.Lock()


def use_workers(count: int) -> None:
    """How many threads kernels share their blocks among, the calling one included."""
    with _lock:
        _state.update(workers=max(1, count), pool=ThreadPoolExecutor(count - 1, "graphrt") if count > 1 else None)


os.register_at_fork(after_in_child=lambda: _state.update(workers=1, pool=None))


def share(
    work: Callable[[Any, list[Any]], Any],
    found: Sequence[tuple[Any, list[Any]]],
    key: Callable[[Any], Any] | None = None,
) -> list[Any]:
    """Calls ``work(grid, blocks)`` for each grid, or for parts of its blocks at the same time in several threads.

    Args:
        work: safe to run at the same time on different blocks.
        found: grids with their blocks, in order.
        key: blocks of equal key, one after the other, stay together.

    Returns:
        What each call gave, in the order of the blocks.
    """
    pool, workers = _state["pool"], _state["workers"]
    if pool is None:
        return [work(grid, blocks) for grid, blocks in found]
    tasks = [(grid, part) for grid, blocks in found for part in _parts(blocks, workers, key)]
    if len(tasks) == 1:
        return [work(*tasks[0])]
    with _single_threaded_blas():
        later = [pool.submit(_quietly, work, task) for task in tasks[1:]]
        return [work(*tasks[0]), *(f.result() for f in later)]


def _quietly(work: Callable[[Any, list[Any]], Any], task: Any) -> Any:
    with np.errstate(all="ignore"):  # as the interpreter's thread has it
        return work(*task)


def _parts(blocks: list[Any], count: int, key: Callable[[Any], Any] | None) -> Iterator[list[Any]]:
    """About ``count`` runs of blocks, of equal length as far as ``key`` lets them."""
    start = 0
    for i in range(1, count + 1):
        stop = max(start, len(blocks) * i // count)
        while key is not None and 0 < stop < len(blocks) and key(blocks[stop]) == key(blocks[stop - 1]):
            stop += 1
        if stop > start:
            yield blocks[start:stop]
        start = stop


def _blas() -> tuple[Any, Any] | None:
    """OpenBLAS's own (get, set) of its number of threads, if NumPy came with one."""
    folders = (
        os.path.join(os.path.dirname(os.path.dirname(np.__file__)), "numpy.libs"),
        os.path.join(np.__path__[0], ".dylibs"),
    )
    for path in (p for f in folders for p in sorted(glob.glob(os.path.join(f, "*openblas*")))):
        library = ctypes.CDLL(path)
        for prefix, suffix in (
            ("scipy_openblas", "64_"),
            ("openblas", "64_"),
            ("scipy_openblas", ""),
            ("openblas", ""),
        ):
            names = f"{prefix}_get_num_threads{suffix}", f"{prefix}_set_num_threads{suffix}"
            if all(hasattr(library, n) for n in names):
                return getattr(library, names[0]), getattr(library, names[1])
    return None


@contextmanager
def _single_threaded_blas() -> Iterator[None]:
    if "blas" not in _state:
        _state["blas"] = _blas()
    functions = _state["blas"]
    before = functions[0]() if functions else 1
    if before == 1:
        yield
        return
    functions[1](1)
    try:
        yield
    finally:
        functions[1](before)
