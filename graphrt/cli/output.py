"""What the verbs print: JSON that is valid everywhere, tables, numbers.

JSON has no NaN and no infinities; they are written as the strings ``"nan"``, ``"inf"`` and ``"-inf"``, which
Python's ``float()`` and ``graphrt grad --at`` read back.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np


def print_json(value: Any) -> None:
    """Prints a value as one JSON document: numbers, strings, lists, mappings, arrays."""
    print(json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False))


def plain(value: Any) -> Any:
    """A value made of what JSON knows; arrays become nested lists."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(_readable(value).tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        return plain(_readable(np.asarray(value)).item())
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, complex):
        return {"real": plain(value.real), "imag": plain(value.imag)}
    if value is None or isinstance(value, (str, int)):
        return value
    return value.hex() if isinstance(value, bytes) else str(value)


def _readable(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Small element types of ``ml_dtypes`` as float64 or int64; the others as they are."""
    if array.dtype.kind != "V":
        return array
    return array.astype(np.int64 if "int" in array.dtype.name else np.float64)


def table(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as aligned columns under their headings; numbers are aligned right."""
    cells = [[str(c) for c in row] for row in rows]
    numeric = [all(_is_number(row[i]) for row in cells) for i in range(len(headings))]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]

    def line(row: Sequence[str]) -> str:
        parts = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(row, widths, numeric, strict=True))
        return "  ".join(parts).rstrip()

    return "\n".join([line(list(headings)), *map(line, cells)])


def _is_number(text: str) -> bool:
    try:
        float(text.rstrip("%"))
    except ValueError:
        return text in ("", "-")
    return True


def number(value: Any) -> str:
    """A scalar in full precision, an array as NumPy prints it."""
    array = _readable(np.asarray(value))
    if array.ndim == 0:
        return repr(array.item())
    return np.array2string(array, threshold=100, separator=", ")


def size_text(nbytes: int) -> str:
    """A number of bytes for people.

    >>> size_text(512), size_text(3 << 20)
    ('512 B', '3.0 MiB')
    """
    size = float(nbytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{nbytes} B" if unit == "B" else f"{size:.1f} {unit}"
