"""Arrays <-> their bytes: little-endian, row-major, and the packed layouts of strings and byte strings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np

from graphrt.errors import FormatError, InputError, SaveError
from graphrt.types import DTYPES, dtype_name, numpy_dtype

T = TypeVar("T")
Array = np.ndarray[Any, Any]


def file_dtype(name: str) -> np.dtype[Any]:
    """The little-endian NumPy dtype of an element type.

    Raises:
        FormatError: it needs ``ml_dtypes``, which is missing.
    """
    try:
        dtype = numpy_dtype(name)
    except InputError as e:
        raise FormatError(str(e)) from e
    return dtype if sys.byteorder == "little" or dtype.itemsize == 1 else dtype.newbyteorder("<")


def array_dtype(array: Array) -> str:
    """The element type's name of an array that is to be saved.

    Raises:
        SaveError: the array's dtype is none of ours.
    """
    try:
        name = dtype_name(array.dtype)
    except InputError as e:
        raise SaveError(str(e)) from e
    if array.dtype.kind == "S":
        raise SaveError("arrays of bytes cannot be saved: decode them to str first")
    return name


def raw_bytes(array: Array) -> memoryview:
    """The array's elements as flat bytes in file order: little-endian, row-major; strings are packed.

    No copy is made of an array that is laid out so already.

    Raises:
        SaveError: an element of an object array is not a str.
    """
    name = array_dtype(array)
    if DTYPES[name].kind == "s":
        return memoryview(pack_strings(_strings_of(array)))
    if name == "bool" and array.size and array.view(np.uint8).max() > 1:
        array = array.view(np.uint8) != 0  # NumPy lets views make such; one bit pattern per value
    flat = np.ascontiguousarray(array, dtype=file_dtype(name)).reshape(-1)
    return flat.view(np.uint8).data


def raw_size(array: Array) -> int:
    """Number of bytes that `raw_bytes` gives."""
    name = array_dtype(array)
    if DTYPES[name].kind == "s":
        return 8 * (array.size + 1) + sum(map(len, map(_utf8, _strings_of(array))))
    return int(array.size) * DTYPES[name].bits // 8


def _strings_of(array: Array) -> Iterable[str]:
    for item in array.reshape(-1).tolist():
        if not isinstance(item, str):
            raise SaveError(f"an element of a string tensor is {item!r}, which is not a str")
        yield item


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise SaveError(f"the text {text!r} holds a lone surrogate and has no UTF-8 form") from e


def pack_strings(strings: Iterable[str]) -> bytes:
    """n + 1 little-endian uint64 offsets from 0, then the UTF-8 bytes they delimit."""
    return pack_bytes([_utf8(s) for s in strings])


def pack_bytes(parts: Sequence[bytes]) -> bytes:
    """n + 1 little-endian uint64 offsets from 0, then the parts they delimit."""
    offsets = np.zeros(len(parts) + 1, "<u8")
    np.cumsum([len(p) for p in parts], out=offsets[1:], dtype="<u8")
    return offsets.tobytes() + b"".join(parts)


def unpack(data: bytes, count: int, at: int, make: Callable[[bytes], T]) -> list[T]:
    """The parts of what `pack_bytes` made.

    Args:
        data: the packed bytes.
        count: number of parts that there must be.
        at: position of ``data`` in the file, for messages.
        make: what turns a part into an element; may raise UnicodeDecodeError.

    Raises:
        FormatError: the offsets do not ascend from 0 to the number of bytes, or a part is not UTF-8.
    """
    start = 8 * (count + 1)
    if len(data) < start:
        raise FormatError(f"{count} packed elements need {start} bytes of offsets; there are {len(data)}", offset=at)
    offsets = np.frombuffer(data, "<u8", count + 1)
    if offsets[0] != 0 or offsets[-1] != len(data) - start or (offsets[1:] < offsets[:-1]).any():
        raise FormatError("the offsets of packed elements must ascend from 0 to the number of bytes", offset=at)
    result: list[T] = []
    for i in range(count):
        lo, hi = start + int(offsets[i]), start + int(offsets[i + 1])
        try:
            result.append(make(data[lo:hi]))
        except UnicodeDecodeError as e:
            raise FormatError(f"packed string {i} is not UTF-8 ({e.reason})", offset=at + lo + e.start) from e
    return result
