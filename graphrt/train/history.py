"""What training achieved, epoch by epoch."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

from graphrt.errors import InputError
from graphrt.format.atomic import write_atomically


class History:
    """One row of figures an epoch: ``history["loss"]`` is a column, ``history.rows[-1]`` the last epoch.

    Attributes:
        rows: for each epoch: ``epoch`` (1 for the first), ``loss``, metrics, ``val_*`` with a validation set,
            ``learning_rate`` (of its last step), ``seconds``.
        stopped: why training ended before its last epoch; empty when it did not.
    """

    def __init__(self, rows: list[dict[str, float]] | None = None, stopped: str = ""):
        self.rows, self.stopped = rows if rows is not None else [], stopped

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, float]]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> list[float]:
        """One column; NaN where an epoch has no such figure.

        Raises:
            InputError: no epoch has it.
        """
        if name not in self.columns:
            raise InputError(f"the history has no column {name!r}; it has: {', '.join(self.columns)}")
        return [row.get(name, math.nan) for row in self.rows]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns."""
        return tuple(dict.fromkeys(k for row in self.rows for k in row))

    def table(self) -> str:
        """The rows as aligned text.

        >>> print(History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]).table())
        epoch    loss
            1     0.5
            2    0.25
        """
        columns = self.columns
        cells = [[_short(row.get(c)) for c in columns] for row in self.rows]
        widths = [max([len(c), 7 if c != "epoch" else 0, *(len(r[i]) for r in cells)]) for i, c in enumerate(columns)]
        lines = [list(columns), *cells]
        return "\n".join(" ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines)

    def __str__(self) -> str:
        return self.table()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a ``.json`` (a list of rows) or ``.csv`` file, whole or not at all.

        Raises:
            InputError: another suffix.
            SaveError: the file cannot be written.
        """
        name = os.fspath(path)
        suffix = os.path.splitext(name)[1].lower()
        if suffix not in (".json", ".csv"):
            raise InputError(f"{name}: a history is saved as .json or .csv")
        text = self._json() if suffix == ".json" else self._csv()
        write_atomically(name, lambda f: _write(f, text))

    def _json(self) -> str:
        rows = [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in self.rows]
        return json.dumps(rows, indent=1) + "\n"

    def _csv(self) -> str:
        out = io.StringIO()
        writer = csv.DictWriter(out, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()


def _short(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.5g}"


def _write(f: Any, text: str) -> None:
    f.write(text.encode())
