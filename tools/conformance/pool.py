"""Runs a function over many items in forked processes, each item within a time limit."""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

_fork = mp.get_context("fork")


class _Worker:
    """A process that is sent one item at a time."""

    def __init__(self, function: Callable[[Any], Any]):
        self.here, there = _fork.Pipe()
        self.process = _fork.Process(target=_serve, args=(there, function), daemon=True)
        self.process.start()
        there.close()
        self.item: Any = None
        self.deadline = 0.0

    def give(self, item: Any, limit: float) -> None:
        self.item, self.deadline = item, time.monotonic() + limit
        self.here.send(item)

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.here.close()


def _serve(connection: Connection, function: Callable[[Any], Any]) -> None:
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        connection.send(function(item))


def run_all(
    function: Callable[[Any], Any], items: Sequence[Any], jobs: int, limit: float
) -> Iterator[tuple[Any, Any, str]]:
    """Yields (item, result, "") as each is done, or (item, None, reason) when it took too long or crashed.

    Args:
        function: what to call; inherited by the processes, so it may be a closure.
        items: what to call it with.
        jobs: how many processes.
        limit: seconds that one item may take.
    """
    waiting = list(reversed(items))
    workers = [_Worker(function) for _ in range(min(jobs, len(items)))]
    for worker in workers:
        worker.give(waiting.pop(), limit)
    while workers:
        ready = wait([w.here for w in workers], timeout=0.2)
        for i, worker in reversed(list(enumerate(workers))):
            reason, result = "", None
            if worker.here in ready:
                try:
                    result = worker.here.recv()
                except EOFError:
                    reason = f"crashed: exit code {worker.process.exitcode}"
            elif time.monotonic() > worker.deadline:
                reason = f"took more than {limit:g} s"
            else:
                continue
            yield worker.item, result, reason
            if reason:
                worker.stop()
                workers[i] = worker = _Worker(function) if waiting else worker
            if waiting:
                worker.give(waiting.pop(), limit)
            else:
                worker.stop()
                del workers[i]
