"""A contender's process: takes commands as lines of JSON on standard input and answers on standard output.

    {"do": "prepare", "task": "train/lenet", "check": 4}  ->  {"values": [...], "memory": bytes}
    {"do": "time", "seconds": 0.2}                        ->  {"times": [seconds of each call]}

Anything that fails is answered with ``{"error": text, "unable": whether the contender just cannot do that}``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import MODULES, Unable

SLOW = 1.0


def main(name: str, threads: str, folder: str) -> None:
    """Serves one contender until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print does not get between the answers
    worker = Worker(name, int(threads), Path(folder))
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Unable as e:
            answer = {"error": str(e), "unable": True}
        except Exception as e:
            answer = {"error": f"{type(e).__name__}: {e}"[:500], "unable": isinstance(e, ImportError)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Worker:
    """The contender's module, and the work it has prepared."""

    def __init__(self, name: str, threads: int, folder: Path):
        self.name, self.threads, self.folder = name, threads, folder
        self.module: Any = None
        self.run: Callable[[], Any] = lambda: None
        self.taken = 0.0  # seconds of the last call before timing

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Does a command."""
        if command["do"] == "time":
            return {"times": self.time(command["seconds"], command.get("least", 2))}
        if self.module is None:
            self.module = importlib.import_module(f".contenders.{MODULES[self.name]}", __package__)
            self.module.set_threads(self.threads)
        if command["do"] == "version":
            return {"version": self.module.version()}
        return self.prepare(command["task"], command["check"])

    def prepare(self, task: str, check: int) -> dict[str, Any]:
        """Makes the work, does it ``check`` times, and says what came out and how much memory that took."""
        with contextlib.suppress(Unable):
            first = self.module.prepare("infer/tiny" if "infer" in task else "train/tiny", self.folder)
            first(), first()  # loads what is loaded late
        first = None
        gc.collect()
        before = _memory("VmRSS")
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts from here
        self.run = self.module.prepare(task, self.folder)
        values: list[float] = []
        for _ in range(check):
            start = time.perf_counter()
            found = self.run()
            self.taken = time.perf_counter() - start
            values += map(float, np.ravel(np.asarray(found))[:64])
        peak = _memory("VmHWM")
        return {"values": values, "taken": self.taken, "memory": max(peak - before, 0), "peak": peak}

    def time(self, seconds: float, least: int) -> list[float]:
        """The seconds of each call: at least ``least`` calls, for ``seconds``; a first one is not counted.

        Of what takes longer than `SLOW` one call is enough.
        """
        run, clock, times = self.run, time.perf_counter, []
        if self.taken < SLOW:
            run()
        else:
            least = 1
        end = clock() + seconds
        while len(times) < least or clock() < end:
            start = clock()
            run()
            times.append(clock() - start)
        return times


def _memory(field: str) -> int:
    """A field of ``/proc/self/status`` in bytes; 0 where there is no such file."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main(*sys.argv[1:])
