"""The progress bar of `Trainer.fit`; rich is imported when one is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

INTERVAL = 0.1
"""Seconds between two updates of the bar: a step need not wait for a terminal."""


class SilentProgress:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        """Nothing to close."""

    def begin_epoch(self, label: str, steps: int) -> None:
        """An epoch of so many steps begins."""

    def step(self, done: int, loss: Any) -> None:
        """So many steps of the epoch are done; ``loss`` is the last one's."""

    def end_epoch(self, row: Mapping[str, float]) -> None:
        """An epoch is done, with these figures."""


class RichProgress(SilentProgress):
    """A bar for the epoch on standard error, and a line for each epoch that is done."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar: Any = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task: Any = self._bar.add_task("", total=None)
        self._label, self._next = "", 0.0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, e: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def begin_epoch(self, label: str, steps: int) -> None:
        """Starts the bar anew."""
        self._label = label
        self._bar.reset(self._task, total=steps, description=label)

    def step(self, done: int, loss: Any) -> None:
        """Moves the bar, at most every `INTERVAL` seconds."""
        now = time.monotonic()
        if now >= self._next:
            self._next = now + INTERVAL
            self._bar.update(self._task, completed=done, description=f"{self._label}  loss {loss.item():.4g}")

    def end_epoch(self, row: Mapping[str, float]) -> None:
        """Prints the epoch's figures above the bar."""
        shown = "  ".join(f"{k} {v:.4g}" for k, v in row.items() if k != "epoch")
        self._bar.console.print(f"{self._label}  {shown}", highlight=False)


def make_progress(wanted: bool | str) -> SilentProgress:
    """The progress display for ``True``, ``False`` or ``"auto"`` (if standard error is a terminal)."""
    return RichProgress() if wanted is True or (wanted == "auto" and sys.stderr.isatty()) else SilentProgress()
