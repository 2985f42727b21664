"""Graphs in files: the suffix and the first bytes say which form a file has."""

from __future__ import annotations

import mmap as memory_map
import os
import stat
from typing import BinaryIO

from graphrt.errors import FormatError, SaveError
from graphrt.format.atomic import write_atomically
from graphrt.format.container import MAGIC, read_container, write_container
from graphrt.format.limits import DEFAULT_LIMITS, Limits
from graphrt.format.reader import Buffer
from graphrt.ir.graph import Graph

SUFFIXES = (".grt", ".json")
"""The suffixes of the files that `load` and `save` handle."""


def save(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Writes a graph to a ``.grt`` or ``.json`` file, whole or not at all.

    Raises:
        SaveError: another suffix, a graph that the format cannot hold, a missing or unwritable folder,
            a full disk. A file that was there before is intact.
    """
    name = os.fspath(path)
    suffix = os.path.splitext(name)[1].lower()
    if suffix == ".grt":
        write_atomically(name, lambda out: write_container(graph, out))
    elif suffix == ".json":
        from graphrt.format.json_write import to_json

        text = to_json(graph).encode("utf-8")
        write_atomically(name, lambda out: _write_all(out, text))
    else:
        raise SaveError(f"{name}: the suffix {suffix!r} names no form of file; use .grt or .json")


def _write_all(out: BinaryIO, data: bytes) -> None:
    out.write(data)


def load(
    path: str | os.PathLike[str], *, verify: bool = True, mmap: bool = True, limits: Limits | None = None
) -> Graph:
    """Reads a graph from a ``.grt`` or ``.json`` file.

    A file that begins with the magic of ``.grt`` is read as such whatever its suffix.

    Args:
        path: the file.
        verify: whether to check the tensors against their digests, which reads the whole file. Without,
            opening costs the header only, and `verify_file` can do it later.
        mmap: whether the arrays are views on a map of the file (nothing is read before it is used, and
            the file must not be changed in place meanwhile) or on a copy in memory. Read-only either way.
        limits: bounds on what reading may cost; default: `Limits()`.

    Raises:
        FormatError: there is no such file, it cannot be read, or it is not valid.
    """
    name = os.fspath(path)
    limits = limits or DEFAULT_LIMITS
    try:
        with _open_regular(name) as f:
            if f.read(len(MAGIC)) == MAGIC or name.lower().endswith(".grt"):
                return read_container(_contents(f, mmap), verify, limits)
            if not name.lower().endswith(".json"):
                suffix = os.path.splitext(name)[1]
                raise FormatError(f"not a .grt file, and the suffix {suffix!r} is not .json: convert it first")
            from graphrt.format.json_read import from_json

            return from_json(_read_text(f, limits), limits=limits)
    except FormatError as e:
        raise FormatError(e.reason, offset=e.offset, path=name) from e
    except (OSError, ValueError) as e:
        raise FormatError(f"cannot be read: {getattr(e, 'strerror', None) or e}", path=name) from e


def verify_file(path: str | os.PathLike[str], *, limits: Limits | None = None) -> None:
    """Checks a whole file, tensors included: for one that was loaded with ``verify=False``.

    Raises:
        FormatError: the file is not valid.
    """
    load(path, limits=limits)


def _open_regular(name: str) -> BinaryIO:
    try:
        info = os.stat(name)
    except FileNotFoundError as e:
        raise FormatError("there is no such file: check the path") from e
    if stat.S_ISDIR(info.st_mode):
        raise FormatError("this is a folder: name a .grt or .json file in it")
    if not stat.S_ISREG(info.st_mode):
        raise FormatError("this is not a regular file: copy its content to one")
    return open(name, "rb")


def _contents(f: BinaryIO, mapped: bool) -> Buffer:
    """A read-only map of the file, or a copy of it in memory that is aligned alike."""
    size = os.fstat(f.fileno()).st_size
    if size == 0:
        return b""
    if mapped:
        return memory_map.mmap(f.fileno(), 0, access=memory_map.ACCESS_READ)
    copy = memory_map.mmap(-1, size)
    f.seek(0)
    with memoryview(copy) as view:
        done = 0
        while done < size and (got := f.readinto(view[done:])):  # type: ignore[attr-defined]
            done += got
    return copy


def _read_text(f: BinaryIO, limits: Limits) -> str:
    size = os.fstat(f.fileno()).st_size
    if size > limits.max_json:
        raise FormatError(f"a JSON text of {size} bytes; the limit is {limits.max_json}", offset=limits.max_json)
    f.seek(0)
    try:
        return f.read(size).decode("utf-8")
    except UnicodeDecodeError as e:
        raise FormatError(f"the text is not UTF-8 ({e.reason})", offset=e.start) from e
