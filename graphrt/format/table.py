"""The tensor table: where each tensor lies in the file, checked before any is touched."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgpack
import numpy as np

from graphrt.format.reader import Buffer, Reader
from graphrt.format.tensors import file_dtype, unpack
from graphrt.types import DTYPES

ALIGNMENT = 64
"""Header and tensors begin at multiples of this many bytes."""

_COST_ARRAY, _COST_DIMENSION = 240, 32
_NAMES = {name: name for name in DTYPES}
_NAME, _DTYPE, _SHAPE, _OFFSET, _NBYTES, _DIGEST = (
    msgpack.packb(key) for key in ("name", "dtype", "shape", "offset", "nbytes", "digest")
)


def padded(nbytes: int) -> int:
    """The next multiple of the alignment."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class TensorEntry(NamedTuple):
    """One row of the tensor table; ``offset`` is from the start of the tensor section, ``at`` the row's position."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int
    digest: bytes
    at: int


def read_dtype(r: Reader) -> str:
    """The name of an element type."""
    at = r.pos
    name = r.string("an element type")
    known = _NAMES.get(name)
    if known is None:
        r.fail(f"no element type is named {name[:80]!r}; there are: {', '.join(DTYPES)}", at)
    return known


def read_rank(r: Reader) -> int:
    """The number of dimensions of the shape that begins here."""
    at = r.pos
    rank = r.list_header("a shape", item_cost=0)
    if rank > r.limits.max_rank:
        r.fail(f"{rank} dimensions; the limit is {r.limits.max_rank}", at)
    return rank


def read_table(r: Reader, data_start: int, file_size: int) -> list[TensorEntry]:
    """The tensor table: its tensors follow one another without overlap or gap, to the end of the file.

    Args:
        r: stands at the table.
        data_start: position of the tensor section in the file.
        file_size: bytes of the whole file.
    """
    at = r.pos
    count = r.list_header("the tensor table", item_bytes=64)
    if count > r.limits.max_tensors:
        r.fail(f"{count} tensors; the limit is {r.limits.max_tensors}", at)
    end = 0
    table = []
    for _ in range(count):
        entry = _entry(r)
        if entry.offset != end:
            problem = "overlaps the one before" if entry.offset < end else "leaves a gap"
            r.fail(f"the tensor at offset {entry.offset} {problem}: offset {end} is due", entry.at)
        end += padded(entry.nbytes)
        if data_start + end > file_size:
            r.fail("the tensor lies outside the file", entry.at)
        table.append(entry)
    if data_start + end != file_size:
        r.fail(f"the file has {file_size} bytes; its tensors end at {data_start + end}", at)
    return table


def _entry(r: Reader) -> TensorEntry:
    at = r.pos
    r.spend(_COST_ARRAY)
    r.record("a tensor", 6)
    r.key(_NAME)
    name = r.string("a tensor's name")
    r.key(_DTYPE)
    dtype = read_dtype(r)
    r.key(_SHAPE)
    rank = read_rank(r)
    r.spend(rank * _COST_DIMENSION)
    shape = tuple([r.integer("a dimension", 0) for _ in range(rank)])
    r.key(_OFFSET)
    offset = r.integer("an offset", 0)
    r.key(_NBYTES)
    nbytes = r.integer("a size", 0)
    r.key(_DIGEST)
    digest_at, digest = r.binary("a digest")
    if len(digest) != 32:
        r.fail(f"a digest has 32 bytes, not {len(digest)}", digest_at)
    _check_size(r, dtype, shape, nbytes, at)
    return TensorEntry(name, dtype, shape, offset, nbytes, digest, at)


def _check_size(r: Reader, dtype: str, shape: tuple[int, ...], nbytes: int, at: int) -> None:
    itemsize = DTYPES[dtype].bits // 8 or 8
    extent = itemsize
    for n in shape:
        extent *= max(n, 1)
        if extent >= 1 << 62:
            r.fail("the shape has too many elements", at)
    count = 0 if 0 in shape else extent // itemsize
    if dtype == "string":
        if nbytes < 8 * (count + 1):
            r.fail(f"{count} strings need at least {8 * (count + 1)} bytes; the table says {nbytes}", at)
    elif nbytes != count * itemsize:
        r.fail(f"{dtype}{list(shape)} takes {count * itemsize} bytes; the table says {nbytes}", at)


def read_array(entry: TensorEntry, buffer: Buffer, data_start: int) -> np.ndarray[Any, Any]:
    """The array of a table entry: a read-only view on the buffer, or decoded strings (dtype object).

    Raises:
        FormatError: packed strings are not valid.
    """
    start = data_start + entry.offset
    if entry.dtype == "string":
        data = buffer[start : start + entry.nbytes]
        strings = np.empty(entry.shape, dtype=object)
        strings.reshape(-1)[:] = unpack(data, strings.size, start, lambda b: b.decode("utf-8"))
        strings.flags.writeable = False
        return strings
    array: np.ndarray[Any, Any] = np.ndarray(entry.shape, file_dtype(entry.dtype), buffer, start)
    array.flags.writeable = False
    return array
