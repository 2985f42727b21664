"""Tables of text (``.csv``) as arrays, with the line of a cell that does not fit in every message."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphrt.errors import DataError
from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.types import numpy_dtype

Column = str | int


@dataclass(frozen=True)
class Table:
    """The cells of a file, as text.

    Attributes:
        path: for messages.
        names: of the columns; their positions as text where the file names none.
        rows: the cells of each line.
        lines: the line number of each row.
    """

    path: str
    names: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    lines: Sequence[int]

    def arrays(
        self, target: Any, inputs: str | Mapping[str, Sequence[Column]], output: str, dtype: str
    ) -> tuple[dict[str, Array], dict[str, tuple[str, ...]]]:
        """Arrays by name, and the texts of the classes; see `graphrt.train.data.load_data` for the arguments."""
        wanted = [] if target is None else [target] if isinstance(target, (str, int)) else list(target)
        targets = [self.position(t) for t in wanted]
        arrays: dict[str, Array] = {}
        labels: dict[str, tuple[str, ...]] = {}
        if isinstance(inputs, str):
            rest = [i for i in range(len(self.names)) if i not in targets]
            if rest:
                arrays[inputs] = self.numbers(rest, dtype)
        else:
            for name, columns in inputs.items():
                arrays[name] = self.numbers([self.position(c) for c in columns], dtype)
        if len(targets) == 1:
            arrays[output], texts = self.classes_or_numbers(targets[0], dtype)
            labels |= {output: texts} if texts else {}
        elif targets:
            arrays[output] = self.numbers(targets, dtype)
        return arrays, labels

    def position(self, column: Column) -> int:
        """Where a column is.

        Raises:
            DataError: there is none of this name or position.
        """
        n = len(self.names)
        if isinstance(column, int):
            if -n <= column < n:
                return column % n
        elif column in self.names:
            return self.names.index(column)
        raise DataError(f"{self.path}: there is no column {column!r}; there are: {', '.join(self.names)}")

    def numbers(self, columns: Sequence[int], dtype: str) -> Array:
        """Some columns as floats [n, columns].

        Raises:
            DataError: a cell is no number.
        """
        cells = [[row[c] for c in columns] for row in self.rows]
        try:
            return np.array(cells, np.float64).astype(numpy_dtype(dtype))
        except ValueError:
            for line, row in zip(self.lines, cells, strict=True):
                for c, cell in zip(columns, row, strict=True):
                    if not _is_number(cell):
                        what = f"{cell!r:.40} is no number" if cell.strip() else "the cell is empty"
                        raise DataError(f"{self.path}, line {line}, column {self.names[c]!r}: {what}") from None
            raise

    def classes_or_numbers(self, column: int, dtype: str) -> tuple[Array, tuple[str, ...]]:
        """One column: int64 [n] of whole numbers or of classes with their texts, else floats [n]."""
        cells = [row[column].strip() for row in self.rows]
        empty = next((line for line, cell in zip(self.lines, cells, strict=True) if not cell), None)
        if empty is not None:
            raise DataError(f"{self.path}, line {empty}, column {self.names[column]!r}: the cell is empty")
        if all(_is_whole(c) for c in cells):
            return np.array([int(c) for c in cells], np.int64), ()
        if any(_is_number(c) for c in cells):
            return self.numbers([column], dtype)[:, 0], ()
        texts = sorted(set(cells))
        number = {t: i for i, t in enumerate(texts)}
        return np.array([number[c] for c in cells], np.int64), tuple(texts)


def read_csv(path: str, header: bool | None = None) -> Table:
    """The cells of a comma-separated file (UTF-8). Empty lines are passed over.

    Args:
        path: the file.
        header: whether the first line names the columns; None: it does if no cell in it is a number, or one is text
            above a number.

    Raises:
        DataError: the file cannot be read, has no rows, or a row has another number of cells than the first.
    """
    rows: list[list[str]] = []
    lines: list[int] = []
    try:
        with open(path, newline="", encoding="utf-8-sig") as f:
            reader = csv.reader(f, strict=True)
            for row in reader:
                if row:
                    rows.append(row)
                    lines.append(reader.line_num)
                    if len(row) != len(rows[0]):
                        found = f"{len(row)} cells, the first line has {len(rows[0])}"
                        raise DataError(f"{path}, line {reader.line_num}: {found}")
    except (OSError, UnicodeDecodeError, csv.Error) as e:
        where = f", line {reader.line_num}" if isinstance(e, csv.Error) else ""
        raise DataError(f"{path}{where}: cannot be read as .csv: {getattr(e, 'strerror', None) or e}") from e
    named = bool(rows) and (_looks_like_names(rows) if header is None else header)
    if len(rows) <= named:
        raise DataError(f"{path}: there are no rows of data")
    names = tuple(c.strip() for c in rows[0]) if named else tuple(map(str, range(len(rows[0]))))
    if len(set(names)) < len(names):
        raise DataError(f"{path}: two columns have one name: {', '.join(names)}")
    return Table(path, names, rows[named:], lines[named:])


def _looks_like_names(rows: Sequence[Sequence[str]]) -> bool:
    first = [_is_number(c) for c in rows[0]]
    below = [_is_number(c) for c in rows[1]] if len(rows) > 1 else first
    return not any(first) or any(b and not a for a, b in zip(first, below, strict=True))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _is_whole(cell: str) -> bool:
    return cell.removeprefix("-").removeprefix("+").isdecimal() and len(cell) < 19
