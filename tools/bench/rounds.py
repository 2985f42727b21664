"""One task, all contenders: they agree on the results first, then they take turns at being timed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .contenders import OURS, Unable
from .process import Process

RTOL, ATOL = 2e-3, 2e-4
"""How near results must be to their median over the contenders: relative, and absolute relative to the largest."""
SLOW, FEW = 5.0, 3  # calls of so many seconds get so few turns
PAUSE = 0.15  # seconds between turns: until the threads of the one before sleep, which takes those of OpenBLAS 0.1


@dataclass(frozen=True)
class Settings:
    """How a run is made.

    Attributes:
        threads: of every contender.
        rounds: turns of each contender in a task.
        seconds: of a turn.
        contenders: their names.
        folder: for the files of this run.
    """

    threads: int
    rounds: int
    seconds: float
    contenders: tuple[str, ...]
    folder: Path


@dataclass
class Result:
    """What was found for one contender in one task.

    Attributes:
        turns: median seconds of a call, in each turn.
        calls: how many were timed.
        best: seconds of the quickest call: beside other busy programs it tells more than the median.
        memory: bytes of the process above what it had before the work was made, at most.
        why: what went wrong, or what the contender cannot do.
        wrong: whether it failed or disagreed, rather than being unable.
    """

    turns: list[float] = field(default_factory=list)
    calls: int = 0
    best: float = 0.0
    memory: int = 0
    why: str = ""
    wrong: bool = False

    def median(self) -> float:
        """Seconds of a call: the median over turns."""
        return statistics.median(self.turns)

    def quartiles(self) -> tuple[float, float]:
        """The quarter and three quarters points of the turns."""
        low, high = np.percentile(self.turns, [25, 75])
        return float(low), float(high)

    def as_json(self) -> dict[str, Any]:
        """For the file."""
        if not self.turns:
            return {"why": self.why, "wrong": self.wrong}
        low, high = self.quartiles()
        return {
            "median": self.median(), "low": low, "high": high, "turns": self.turns, "calls": self.calls,
            "best": self.best, "memory": self.memory,
        }  # fmt: skip


def run_task(task: str, settings: Settings, check: int) -> dict[str, Result]:
    """Times a task.

    Args:
        task: see the contenders' ``prepare``.
        settings: of the run.
        check: how many calls must agree before anything is timed.

    Returns:
        Contender to result.
    """
    results = {name: Result() for name in settings.contenders}
    processes: dict[str, Process] = {}
    values: dict[str, list[float]] = {}
    slowest = 0.0
    try:
        for name, result in results.items():
            try:
                processes[name] = Process(name, settings.threads, settings.folder)
                answer = processes[name].ask(do="prepare", task=task, check=check)
                values[name], result.memory = answer["values"], answer["memory"]
                slowest = max(slowest, answer["taken"])
            except (Unable, RuntimeError) as e:
                result.why, result.wrong = str(e), not isinstance(e, Unable)
                if name in processes:
                    processes.pop(name).close()
        for name, off in disagreements(values).items():
            results[name].why, results[name].wrong = f"its results are off by {off:.2g}", True
            processes.pop(name).close()
        rounds = settings.rounds if slowest < SLOW else min(settings.rounds, FEW)
        _take_turns(processes, results, rounds, settings.seconds)
    finally:
        for process in processes.values():
            process.close()
    return results


def disagreements(values: dict[str, list[float]]) -> dict[str, float]:
    """The contenders whose values are too far from the median over contenders, and how far.

    >>> disagreements({"a": [1.0, 2.0], "b": [1.0001, 2.0], "c": [1.0, 2.5]})
    {'c': 0.5}
    """
    if len(values) < 2:
        return {}
    length = max(map(len, values.values()))
    table = {name: np.array(v) if len(v) == length else np.full(length, np.inf) for name, v in values.items()}
    middle = np.median(np.array(list(table.values())), 0)
    if len(values) == 2:
        middle = table.get(OURS[0], middle)
    limit = RTOL * np.abs(middle) + ATOL * np.max(np.abs(middle), initial=0)
    return {n: float(np.max(np.abs(v - middle))) for n, v in table.items() if not np.all(np.abs(v - middle) <= limit)}


def _take_turns(processes: dict[str, Process], results: dict[str, Result], rounds: int, seconds: float) -> None:
    names: Sequence[str] = list(processes)
    for turn in range(rounds):
        for at in range(len(names)):
            name = names[(at + turn) % len(names)]
            if results[name].wrong:
                continue
            time.sleep(PAUSE)
            try:
                times = processes[name].ask(do="time", seconds=seconds)["times"]
            except (Unable, RuntimeError) as e:
                results[name] = Result(why=str(e), wrong=True)
                continue
            results[name].turns.append(statistics.median(times))
            results[name].calls += len(times)
            results[name].best = min([*times, *([results[name].best] if turn else [])])
