"""What the verbs read: models, formulas, points, arrays. ``-`` is standard input."""

from __future__ import annotations

import fnmatch
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from graphrt import format as native
from graphrt.cli.usage import UsageError
from graphrt.errors import DataError, ExpressionError, FormatError
from graphrt.expressions import evaluate, expression
from graphrt.io import load
from graphrt.ir import Graph
from graphrt.types import TensorType, numpy_dtype

_FILE = re.compile(r".*\.[A-Za-z][A-Za-z0-9_]*")
_ENTRY_ERRORS = (OSError, ValueError, EOFError, MemoryError, KeyError, NotImplementedError)


def read_graph(path: str) -> Graph:
    """The model in a file, or on standard input (``-``: a ``.grt`` or its JSON text).

    Raises:
        UsageError: there is no such file.
        FormatError, ConversionError: it cannot be read.
    """
    if path == "-":
        return _graph_from_bytes(sys.stdin.buffer.read())
    if not os.path.exists(path):
        raise UsageError(f"{path}: there is no such file")
    return load(path)


def _graph_from_bytes(data: bytes) -> Graph:
    if data[: len(native.MAGIC)] == native.MAGIC:
        return native.loads(data)
    try:
        return native.from_json(data.decode())
    except UnicodeDecodeError as e:
        raise FormatError("neither a .grt file nor a JSON text", path="standard input") from e


def read_formula_or_graph(text: str) -> tuple[Graph, bool]:
    """A formula's graph and True, or a file's graph and False.

    A text that names an existing file, or that ends like a file name (a point and letters, which no formula
    does), is a file.
    """
    if text == "-" or os.path.isfile(text) or _FILE.fullmatch(text.strip()):
        return read_graph(text if text == "-" else text.strip()), False
    return expression(text), True


def read_point(items: Iterable[str]) -> dict[str, Any]:
    """Inputs from ``name=value`` items: a number, a JSON list, a formula such as ``pi/2``, or a ``.npy`` file.

    Raises:
        UsageError: an item is none of these, or a name comes twice.
    """
    point: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name, text = name.strip(), text.strip()
        if not equals or not name or not text:
            raise UsageError(f"{item!r}: write NAME=VALUE, such as x=3, x=pi/2 or x=[1,2]")
        if name in point:
            raise UsageError(f"{name!r} is given twice")
        point[name] = _read_value(name, text)
    return point


def _read_value(name: str, text: str) -> Any:
    if text == "-" or text.lower().endswith(".npy"):
        return read_array(text)
    if text[0] in "[{":
        try:
            return _as_list(json.loads(text))
        except (ValueError, RecursionError) as e:
            raise UsageError(f"{name}={text}: not a JSON list of numbers: {e}") from None
    try:
        return float(text) if not re.fullmatch(r"[+-]?\d{1,18}", text) else int(text)
    except ValueError:
        pass
    try:
        return evaluate(text)
    except ExpressionError as e:
        raise UsageError(f"the value of {name} is not a number: {e}") from None


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list) or np.asarray(value).dtype.kind not in "fiub":
        raise ValueError("its elements must be numbers, and its rows of one length")
    return value


def read_inputs(items: Sequence[str], data: str | None) -> dict[str, Any]:
    """Arrays to run a model with: those of an ``.npz`` file, then ``name=value`` items."""
    return {**({} if data is None else read_arrays(data)), **read_point(items)}


def fit_inputs(graph: Graph, given: Mapping[str, Any]) -> dict[str, Any]:
    """Arrays with the element type that the inputs declare, where that only changes their precision."""
    fitted = dict(given)
    for value in graph.inputs:
        array, declared = given.get(value.name), value.type
        if isinstance(array, np.ndarray) and isinstance(declared, TensorType) and declared.dtype is not None:
            wanted = numpy_dtype(declared.dtype)
            if array.dtype != wanted and array.dtype.kind in "fiub" and np.can_cast(array.dtype, wanted, "same_kind"):
                fitted[value.name] = array.astype(wanted)
    return fitted


def choose_names(patterns: Iterable[str], names: Sequence[str]) -> list[str]:
    """The names that match any pattern (``*`` and ``?`` as in a shell; commas separate), in their own order.

    Raises:
        UsageError: a pattern matches none.
    """
    chosen: set[str] = set()
    for pattern in (p.strip() for text in patterns for p in ([text] if text in names else text.split(","))):
        matching = [n for n in names if n == pattern] or fnmatch.filter(names, pattern)
        if not matching:
            raise UsageError(f"no name matches {pattern!r}; there are: {', '.join(names[:20]) or 'none'}")
        chosen.update(matching)
    return [n for n in names if n in chosen]


def read_array(path: str) -> np.ndarray[Any, Any]:
    """The array of a ``.npy`` file.

    Raises:
        UsageError: there is no such file.
        DataError: it is no such file, or holds Python objects.
    """
    try:
        with _open(path) as f:
            found: np.ndarray[Any, Any] = np.lib.format.read_array(f, allow_pickle=False)
            return found
    except _ENTRY_ERRORS as e:
        raise DataError(f"{path}: not a .npy file that can be used: {e}") from e


def read_arrays(path: str) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an ``.npz`` file by name; see `read_array` for what is raised."""
    import zipfile

    try:
        with _open(path) as f, np.load(f, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (*_ENTRY_ERRORS, zipfile.BadZipFile, AttributeError, TypeError) as e:
        raise DataError(f"{path}: not an .npz file that can be used: {e}") from e


def _open(path: str) -> BinaryIO:
    if path == "-":
        return io.BytesIO(sys.stdin.buffer.read())
    if not os.path.isfile(path):
        raise UsageError(f"{path}: there is no such file")
    return open(path, "rb")
