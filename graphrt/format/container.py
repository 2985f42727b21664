"""The ``.grt`` container: prefix, header, tensors. `schemas/README.md` is its specification."""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Iterable
from typing import BinaryIO

from graphrt.errors import FormatError, SaveError
from graphrt.format.decode import HeaderDecoder
from graphrt.format.digest import sha256
from graphrt.format.encode import HeaderEncoder
from graphrt.format.limits import DEFAULT_LIMITS, Limits
from graphrt.format.reader import Buffer, Reader
from graphrt.format.table import TensorEntry, padded
from graphrt.format.tensors import raw_bytes
from graphrt.ir.graph import Graph

MAGIC = b"\x89GRT\r\n\x1a\n"
"""The first eight bytes of every container."""
VERSION = 1
"""The container version that this package reads and writes."""

_PREFIX = struct.Struct("<8sQQQ32s")  # magic, version, header bytes, file bytes, header digest: 64 bytes
_CHUNK = 1 << 22


def write_container(graph: Graph, out: BinaryIO) -> None:
    """Writes a graph to a file that can seek and is empty.

    Raises:
        SaveError: the graph holds what the format cannot, e.g. a list of mixed kinds.
        OSError: writing failed.
    """
    encoder = HeaderEncoder(graph)
    blank = encoder.header(bytes(32) for _ in encoder.tensors)
    if len(blank) > DEFAULT_LIMITS.max_header:
        raise SaveError(f"the header would take {len(blank)} bytes; the limit is {DEFAULT_LIMITS.max_header}")
    position = _PREFIX.size + padded(len(blank))
    out.seek(position)
    digests = []
    for tensor in encoder.tensors:
        data = raw_bytes(tensor.array)
        digest = sha256(len(data))
        for start in range(0, len(data), _CHUNK):
            digest.update(data[start : start + _CHUNK])
            out.write(data[start : start + _CHUNK])
        out.write(bytes(padded(len(data)) - len(data)))
        digests.append(digest.digest())
        position += padded(len(data))
    header = encoder.header(digests)
    out.seek(0)
    out.write(_prefix(header, position))
    out.write(header)
    out.write(bytes(padded(len(header)) - len(header)))


def _prefix(header: bytes, file_size: int) -> bytes:
    digest = sha256(len(header))
    digest.update(header)
    return _PREFIX.pack(MAGIC, VERSION, len(header), file_size, digest.digest())


def dumps(graph: Graph) -> bytes:
    """A graph as the bytes of a ``.grt`` file. The same graph gives the same bytes.

    Raises:
        SaveError: the graph holds what the format cannot, e.g. a list of mixed kinds.
    """
    out = io.BytesIO()
    write_container(graph, out)
    return out.getvalue()


def loads(data: bytes, *, verify: bool = True, limits: Limits | None = None) -> Graph:
    """The graph in the bytes of a ``.grt`` file.

    Args:
        data: the file's bytes. The graph's arrays are read-only views on them.
        verify: whether to check the tensors against their digests; the header always is.
        limits: bounds on what reading may cost; default: `Limits()`.

    Raises:
        FormatError: the bytes are not a valid file; names the position and the reason.
    """
    return read_container(data if isinstance(data, bytes) else bytes(data), verify, limits or DEFAULT_LIMITS)


def read_container(buffer: Buffer, verify: bool, limits: Limits) -> Graph:
    """The graph in a file's bytes or in a map of it; see `loads`."""
    header_end = _check_prefix(buffer, limits)
    data_start = padded(header_end)
    _check_zeros(buffer, header_end, data_start)
    decoder = HeaderDecoder(Reader(buffer, _PREFIX.size, header_end, limits), buffer, data_start, len(buffer))
    try:
        graph = decoder.header()
    except (RecursionError, MemoryError) as e:
        raise FormatError(f"the header cannot be decoded here: {e or type(e).__name__}", offset=_PREFIX.size) from e
    if verify:
        verify_tensors(buffer, data_start, decoder.table)
    return graph


def _check_prefix(buffer: Buffer, limits: Limits) -> int:
    """Checks the first 64 bytes and the header's digest; gives the header's end."""
    size = len(buffer)
    if buffer[: len(MAGIC)] != MAGIC:
        raise FormatError(_wrong_magic(bytes(buffer[: len(MAGIC)])), offset=0)
    if size < _PREFIX.size:
        raise FormatError(f"the file ends within its first {_PREFIX.size} bytes", offset=size)
    _, version, header_size, file_size, digest = _PREFIX.unpack(buffer[: _PREFIX.size])
    if version != VERSION:
        hint = "upgrade graphrt to read it" if version < 1 << 16 else "the file is damaged"
        raise FormatError(f"container version {version}; this graphrt reads version {VERSION}: {hint}", offset=8)
    if header_size > limits.max_header:
        raise FormatError(f"a header of {header_size} bytes; the limit is {limits.max_header}", offset=16)
    if file_size != size:
        problem = "is cut short" if size < file_size else "has bytes after its end"
        raise FormatError(f"the file {problem}: it must have {file_size} bytes and has {size}", offset=24)
    if _PREFIX.size + padded(header_size) > size:
        raise FormatError(f"a header of {header_size} bytes does not fit in the file", offset=16)
    header_end: int = _PREFIX.size + header_size
    if _sha256(buffer, _PREFIX.size, header_end, header_size) != digest:
        raise FormatError("the header is damaged: its SHA-256 is not the one recorded", offset=32)
    return header_end


def _wrong_magic(start: bytes) -> str:
    if start[:4] == MAGIC[:4]:
        return "the line ends of this file were translated: transfer it in binary mode"
    return f"not a .grt file: it begins with {start.hex(' ') or 'nothing'}, not {MAGIC.hex(' ')}"


def _check_zeros(buffer: Buffer, start: int, end: int) -> None:
    padding = buffer[start:end]
    if any(padding):
        at = start + next(i for i, b in enumerate(padding) if b)
        raise FormatError("padding must be zero", offset=at)


def _sha256(buffer: Buffer, start: int, end: int, total: int) -> bytes:
    """The digest of a part; ``total`` is how many bytes are digested in all."""
    digest = sha256(total)
    with memoryview(buffer) as view:
        for lo in range(start, end, _CHUNK):
            digest.update(view[lo : min(lo + _CHUNK, end)])
            _let_go(buffer, lo, min(lo + _CHUNK, end))
    found: bytes = digest.digest()
    return found


def _let_go(buffer: Buffer, start: int, end: int) -> None:
    """Tells the system that a big map's pages need not stay in memory once they are checked."""
    if isinstance(buffer, mmap.mmap) and end - start == _CHUNK and hasattr(mmap, "MADV_DONTNEED"):
        first = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE
        buffer.madvise(mmap.MADV_DONTNEED, first, end - first)


def verify_tensors(buffer: Buffer, data_start: int, table: Iterable[TensorEntry]) -> None:
    """Checks every tensor's digest, padding, and values where not every bit pattern is one.

    Raises:
        FormatError: one does not match; names the tensor and its position.
    """
    for index, entry in enumerate(table):
        start = data_start + entry.offset
        end = start + entry.nbytes
        if _sha256(buffer, start, end, len(buffer)) != entry.digest:
            label = entry.name[:80] or f"number {index}"
            raise FormatError(f"the tensor {label!r} is damaged: its SHA-256 is not the one recorded", offset=start)
        _check_zeros(buffer, end, data_start + entry.offset + padded(entry.nbytes))
        if entry.dtype == "bool":
            _check_bools(buffer, start, end)


def _check_bools(buffer: Buffer, start: int, end: int) -> None:
    for lo in range(start, end, _CHUNK):
        chunk = buffer[lo : min(lo + _CHUNK, end)]
        if max(chunk) > 1:
            at = lo + next(i for i, b in enumerate(chunk) if b > 1)
            raise FormatError("the bytes of a bool tensor are 0 or 1", offset=at)
