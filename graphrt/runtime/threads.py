"""Work shared out among threads, while the BLAS keeps to one thread in each of them.

A kernel divides its work when it is planned, into as many parts as there may be threads (`thread_count`); which threads
do the parts then does not matter to the result. NumPy lets go of the interpreter's lock while it computes, so the
parts run at the same time.

The threads of an OpenBLAS keep looking for work for some hundredths of a second once it has used them, which halves the
speed of whatever is shared out here in that time. So a run uses either: where kernels of its plan share work that is
worth it (`planned_sharing`), the BLAS keeps to one thread for the whole run, and products are shared out too
(`single_blas`, `matmul`); elsewhere they are left to the threads of the BLAS.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from graphrt.op import Array
from graphrt.runtime.blas import thread_functions

T = TypeVar("T")
R = TypeVar("R")

LEAST = 250_000
"""Nanoseconds of work for each thread but the first, at least: waking one takes up to 90,000, and the threads wait for
each other at the interpreter's lock."""
PRODUCT, UNSHARED = 0.021, 1 << 18
"""Nanoseconds that one multiplication of a matrix product takes, about; and up to how many of them OpenBLAS uses one
thread in any case."""
WORTH = 0.08
"""The share of a plan's products that other work has to take, for all of it to be shared out here."""


def thread_count() -> int:
    """How many parts work planned now is divided into: as many as the BLAS has threads, or `limit_threads` allows."""
    return min(_blas.most(), _here.limit)


def threads_for(nanoseconds: float, least: float | None = None) -> int:
    """How many parts pay for work that takes one thread about so long.

    Those after the first want ``least`` nanoseconds each, or `LEAST`.
    """
    count = int(min(thread_count(), 1 + nanoseconds // (LEAST if least is None else least)))
    if count > 1:
        _here.shared += nanoseconds
    return count


def plan_product(multiplications: int) -> None:
    """Tells that a kernel planned now will call `matmul` for so many multiplications."""
    _here.products += multiplications * PRODUCT


@contextmanager
def planned_sharing() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether what this thread plans meanwhile is to run with a BLAS of one thread.

    It is, if so much work is shared out that the products' own gain from the threads of the BLAS, which is small, is
    worth less.
    """
    before = _here.shared, _here.products
    _here.shared = _here.products = 0.0
    try:
        yield lambda: _here.shared > _here.products * WORTH
    finally:
        _here.shared, _here.products = before


class single_blas:
    """A context: the BLAS uses one thread for the while, and `matmul`, called from this thread, those here.

    Entered in every run, and so no generator.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before, _here.single = _here.single, True
        _blas.limit(1)

    def __exit__(self, *raised: object) -> None:
        _blas.lift(1)
        _here.single = self._before


@contextmanager
def limit_threads(count: int) -> Iterator[None]:
    """Kernels called from this thread use at most so many threads for the while, and the BLAS, whoever calls it."""
    before = _here.limit
    _here.limit = limit = max(1, min(before, count))
    _blas.limit(limit)
    try:
        yield
    finally:
        _blas.lift(limit)
        _here.limit = before


def share(work: Callable[[int, T], R], parts: Sequence[T]) -> list[R]:
    """Calls ``work(i, part)`` for the parts, at the same time as far as threads are free, each with a BLAS of one.

    Args:
        work: safe to run at the same time for different parts.
        parts: of about equal size.

    Returns:
        What the calls returned, in order.

    Raises:
        What one of them raised, when all have ended.
    """
    results: list[Any] = [None] * len(parts)
    hands = _crew.hire(min(len(parts), _here.limit) - 1)

    def do(first: int) -> None:
        for i in range(first, len(parts), len(hands) + 1):
            results[i] = work(i, parts[i])

    started: list[_Worker] = []
    _blas.limit(1)
    try:
        for first, worker in enumerate(hands, 1):
            worker.start(do, first)
            started.append(worker)
        do(0)
    finally:
        failures = [worker.wait() for worker in started]
        _blas.lift(1)
        _crew.dismiss(hands)
    for failure in filter(None, failures):
        raise failure
    return results


def divide(
    items: Sequence[T],
    size: Callable[[T], float] = lambda item: 1,
    key: Callable[[T], Any] | None = None,
    nanoseconds: float = math.inf,
) -> list[list[T]]:
    """Runs of items of about equal size, none empty: one for each thread that there is and that pays.

    Args:
        items: what is divided, in order.
        size: of an item.
        key: items side by side with equal keys stay together.
        nanoseconds: how long all of them take one thread, about.
    """
    groups = [list(g) for _, g in groupby(items, key)] if key is not None else [[item] for item in items]
    weights = [sum(map(size, group)) for group in groups]
    count, total, done = threads_for(nanoseconds), sum(weights), 0.0
    runs: list[list[T]] = []
    for group, weight in zip(groups, weights, strict=True):
        middle = done + weight / 2
        if not runs or (len(runs) < count and middle * count >= total * len(runs)):
            runs.append([])
        runs[-1] += group
        done += weight
    return runs


def matmul(a: Array, b: Array, out: Array) -> None:
    """``np.matmul`` of two matrices, or of two stacks of as many, by the threads that `single_blas` says."""
    if not _here.single:
        np.matmul(a, b, out)
        return
    *stack, rows, inner = a.shape
    size = math.prod(stack) * rows * inner * b.shape[-1]
    if size <= UNSHARED:
        np.matmul(a, b, out)
        return
    count = threads_for(size * PRODUCT)
    if stack:
        axis = max(range(len(stack)), key=stack.__getitem__)
        arrays = a.swapaxes(0, axis), b.swapaxes(0, axis), out.swapaxes(0, axis)
    elif b.shape[-1] > rows:  # of the transposed product, rows are columns of b
        arrays = b.T, a.T, out.T
    else:
        arrays = a, b, out
    length = len(arrays[0])
    step = -(-length // count)

    def work(i: int, start: int) -> None:
        left, right, made = arrays
        at = slice(start, start + step)
        np.matmul(left[at], right[at] if stack else right, made[at])

    share(work, range(0, length, step))


class _Worker:
    """A thread that does one thing after another for others, and ends with the process."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Callable[[int], None], int]] = SimpleQueue()
        self._ends: SimpleQueue[None] = SimpleQueue()
        self._busy = False
        self._failure: BaseException | None = None
        threading.Thread(target=self._serve, name="graphrt", daemon=True).start()

    def start(self, task: Callable[[int], None], argument: int) -> None:
        """Begins a call."""
        self._busy, self._failure = True, None
        self._tasks.put((task, argument))

    def wait(self) -> BaseException | None:
        """What the call has raised, or what interrupted the waiting; returns when the call has ended, not before."""
        interrupt = None
        while self._busy:
            try:
                self._ends.get()
            except BaseException as e:
                interrupt = e
        return interrupt or self._failure

    def _serve(self) -> None:
        with np.errstate(all="ignore"):  # as the interpreter has it in its own thread
            while True:
                task, argument = self._tasks.get()
                try:
                    task(argument)
                except BaseException as e:
                    self._failure = e
                del task  # and what it refers to
                self._busy = False
                self._ends.put(None)


class _Crew:
    """All workers of the process: one less than threads, however many ask at a time."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Nobody is hired, and there is nobody to hire."""
        self._lock = threading.Lock()
        self._free: list[_Worker] = []
        self._hired = 0

    def hire(self, count: int) -> list[_Worker]:
        """So many workers, or as many as are free."""
        if count < 1:
            return []
        with self._lock:
            count = min(count, _blas.most() - 1 - self._hired)
            while len(self._free) < count:
                self._free.append(_Worker())
            self._hired += max(count, 0)
            return [self._free.pop() for _ in range(count)]

    def dismiss(self, hands: list[_Worker]) -> None:
        """They are free again."""
        if hands:
            with self._lock:
                self._free += hands
                self._hired -= len(hands)


class _Blas:
    """The number of threads of the OpenBLAS that came with NumPy; of any other nothing is known: one thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits: list[int] = []
        self._most = 1  # what it was set to by others, when the first limit was set
        self._set = self._most  # what it is set to now

    def most(self) -> int:
        """How many threads it uses where nothing here limits it."""
        return self._most if self._limits else thread_functions()[0]()

    def limit(self, count: int) -> None:
        """No more than so many, until this is lifted."""
        with self._lock:
            if not self._limits:
                self._most = self._set = thread_functions()[0]()
            self._limits.append(count)
            if count < self._set:
                self._apply(count)

    def lift(self, count: int) -> None:
        """A limit is no longer needed."""
        with self._lock:
            if count in self._limits:  # else the process is a child of the one that set it
                self._limits.remove(count)
                if count == self._set:
                    self._apply(min(self._limits, default=self._most))

    def reset(self) -> None:
        """Nobody needs a limit any more."""
        self._lock, self._limits = threading.Lock(), []
        self._apply(self._most)

    def _apply(self, count: int) -> None:
        if count != self._set:
            thread_functions()[1](count)
            self._set = count


class _Here(threading.local):
    """What holds for the calling thread."""

    limit = sys.maxsize
    shared, products = 0.0, 0.0
    single = False


_blas, _here, _crew = _Blas(), _Here(), _Crew()


def _reset_after_fork() -> None:
    """A child process has no workers, and none of the threads that had set limits."""
    _blas.reset()
    _crew.reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)
