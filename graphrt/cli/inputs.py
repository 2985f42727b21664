"""What the verbs read: models and arrays. ``-`` is standard input."""

from __future__ import annotations

import fnmatch
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from graphrt import format as native
from graphrt.cli.usage import UsageError
from graphrt.errors import DataError, FormatError
from graphrt.io import load
from graphrt.ir import Graph
from graphrt.types import TensorType, numpy_dtype

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
