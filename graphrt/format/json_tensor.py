"""Tensors in JSON text: nested or flat lists for people, base64 for exactness."""

from __future__ import annotations

import base64
import binascii
import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.errors import FormatError
from graphrt.format.json_parse import JsonReader
from graphrt.format.tensors import Array, file_dtype, unpack
from graphrt.types import DTYPES, numpy_dtype

_CHUNK = 4096
_NAMED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read_dtype(r: JsonReader, what: str = "dtype") -> str:
    """The name of an element type."""
    at = r.pos
    name = r.string(what)
    if name not in DTYPES:
        r.fail(f"no element type is named {name[:80]!r}; there are: {', '.join(DTYPES)}", at)
    return DTYPES[name].name


def read_base64(r: JsonReader, what: str) -> bytes:
    """Bytes in standard base64 with padding, in its only spelling."""
    at = r.pos
    text = r.string(what, limit=r.limits.max_json)
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as e:
        raise r.error(f"{what} is not base64: {e}", at) from e
    if base64.b64encode(data).decode("ascii") != text:
        r.fail(f"{what} is not base64 in its only spelling: bits that encode nothing must be zero", at)
    return data


def read_float(r: JsonReader) -> float:
    """``NaN``, ``Infinity``, ``-Infinity`` or 16 hexadecimal digits: the bits of another NaN."""
    at = r.pos
    text = r.string("a float")
    if text in _NAMED:
        return _NAMED[text]
    try:
        value: float = struct.unpack(">d", bytes.fromhex(text))[0]
    except (ValueError, struct.error):
        value = 0.0
    if len(text) != 16 or not math.isnan(value):
        r.fail(f"a float is NaN, Infinity, -Infinity or the 16 hexadecimal digits of a NaN, not {text[:40]!r}", at)
    return value


def read_tensor(r: JsonReader) -> Array:
    """A tensor object; the array is read-only.

    Raises:
        FormatError: keys are missing, lists are ragged, or elements do not fit the element type.
    """
    at = r.pos
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    array: Array | None = None
    data: bytes | None = None
    r.spend(200)
    for key in r.fields("a tensor", ("dtype", "shape", "data", "base64")):
        if key == "dtype":
            dtype = read_dtype(r)
        elif key == "shape":
            shape = tuple([r.integer("a dimension", 0) for _ in r.items("shape")])
        elif array is not None or data is not None:
            r.fail("a tensor has both data and base64")
        elif key == "base64":
            data = read_base64(r, "base64")
        elif dtype is None:
            r.fail("a tensor's dtype comes before its data")
        else:
            array = _read_data(r, dtype)
    if dtype is None or (array is None and data is None) or (array is None and shape is None):
        r.fail("a tensor needs dtype, and data or base64; with base64 also shape", at)
    if shape is not None and len(shape) > r.limits.max_rank:
        r.fail(f"{len(shape)} dimensions; the limit is {r.limits.max_rank}", at)
    try:
        result = _from_bytes(dtype, shape or (), data) if data is not None else _shaped(array, shape)
    except (FormatError, ValueError) as e:
        raise r.error(getattr(e, "reason", str(e)), at) from e
    result.flags.writeable = False
    return result


def _from_bytes(dtype: str, shape: tuple[int, ...], data: bytes) -> Array:
    count = math.prod(shape)
    if dtype == "string":
        parts = unpack(data, count, 0, lambda b: b.decode("utf-8"))
        strings = np.empty(shape, dtype=object)
        strings.reshape(-1)[:] = parts
        return strings
    if len(data) * 8 != count * DTYPES[dtype].bits:
        raise FormatError(f"{dtype}{list(shape)} takes {count * DTYPES[dtype].bits // 8} bytes; there are {len(data)}")
    if dtype == "bool" and data and max(data) > 1:
        raise FormatError("the bytes of a bool tensor are 0 or 1")
    return np.frombuffer(data, file_dtype(dtype)).reshape(shape)


def _shaped(array: Array | None, shape: tuple[int, ...] | None) -> Array:
    assert array is not None
    if shape is None or shape == array.shape:
        return array
    if array.ndim == 1 and array.size == math.prod(shape):
        return array.reshape(shape)
    raise FormatError(f"data is of shape {list(array.shape)}; shape says {list(shape)}")


def _read_data(r: JsonReader, dtype: str) -> Array:
    """Nested lists of elements as an array of the shape that the nesting has."""
    if DTYPES[dtype].kind == "c":
        r.fail("complex tensors are written as base64")
    at = r.pos
    elements = _Elements(r, dtype)
    counts: list[int] = []  # elements so far of each list that is open
    lengths: dict[int, int] = {}  # depth to the length of the lists there
    leaf_depth = None
    while True:
        if r.take("["):
            counts.append(0)
            if len(counts) > r.limits.max_rank:
                r.fail(f"lists nest deeper than {r.limits.max_rank}")
            if r.peek() != "]":
                continue
        else:
            leaf_depth = len(counts) if leaf_depth is None else leaf_depth
            if leaf_depth != len(counts):
                r.fail("lists are ragged: elements lie at different depths")
            if counts:
                counts[-1] += elements.read_run()
                if r.peek() == "[":
                    continue
                counts[-1] += 1
            elements.read()
        while counts and r.take("]"):
            depth, length = len(counts) - 1, counts.pop()
            if lengths.setdefault(depth, length) != length:
                r.fail(f"lists are ragged: {length} elements where others have {lengths[depth]}")
            if counts:
                counts[-1] += 1
        if not counts:
            break
        r.expect(",", "data")
    if leaf_depth not in (None, len(lengths)):
        r.fail("lists are ragged: elements lie at different depths", at)
    return elements.array().reshape([lengths[d] for d in range(len(lengths))])


class _Elements:
    """Collects elements in NumPy arrays, so that a million numbers never are a million objects."""

    def __init__(self, r: JsonReader, dtype: str):
        self._r = r
        self._kind = DTYPES[dtype].kind
        self._name = dtype
        try:
            self._dtype = numpy_dtype(dtype)
        except Exception as e:
            raise r.error(str(e), r.pos) from e
        self._range = _integer_range(self._dtype) if self._kind in "iu" else range(0)
        self._quick = self._kind in "fiu"
        self._chunk: list[Any] = []
        self._arrays: list[Array] = []
        reads: dict[str, Callable[[], Any]] = {
            "f": self._float,
            "b": lambda: r.word("an element", {"true": True, "false": False}),
            "s": lambda: r.string("an element"),
        }
        self._read = reads.get(self._kind, self._integer)

    def read(self) -> None:
        """Reads one element."""
        self._r.spend(2 * self._dtype.itemsize)
        self._chunk.append(self._read())
        if len(self._chunk) >= _CHUNK:
            self._flush()

    def read_run(self) -> int:
        """Reads numbers as long as that is quick; gives how many there were, a comma after each."""
        if not self._quick:
            return 0
        values = self._r.numbers(self._fit)
        if values is None:
            self._quick = False  # for good: trying again and again would take a hostile text quadratic time
            return 0
        self._r.spend(2 * self._dtype.itemsize * len(values))
        self._chunk += values
        if len(self._chunk) >= _CHUNK:
            self._flush()
        return len(values)

    def _fit(self, values: list[int | float]) -> bool:
        if self._kind == "f":
            return all(map(math.isfinite, values))
        return all(type(v) is int for v in values) and min(values) in self._range and max(values) in self._range

    def array(self) -> Array:
        """All elements, flat."""
        self._flush()
        return np.concatenate(self._arrays) if len(self._arrays) != 1 else self._arrays[0]

    def _integer(self) -> int:
        at = self._r.pos
        value = self._r.number("an element")
        if isinstance(value, float) or value not in self._range:
            self._r.fail(f"the element {str(value)[:40]} is not a whole number of {self._name}", at)
        return value

    def _float(self) -> float:
        at = self._r.pos
        if self._r.peek() == '"':
            text = self._r.string("an element")
            if text not in _NAMED:
                self._r.fail(f"an element is a number, NaN, Infinity or -Infinity, not {text[:40]!r}", at)
            return _NAMED[text]
        try:
            return float(self._r.number("an element"))
        except OverflowError as e:
            raise self._r.error("an element is beyond the range of float64", at) from e

    def _flush(self) -> None:
        given = np.array(self._chunk, dtype=np.float64 if self._kind == "f" else None)
        if self._kind == "s":
            given = np.empty(len(self._chunk), dtype=object)
            given[:] = self._chunk
        elif self._kind in "iu":
            given = np.array(self._chunk, dtype=np.uint64 if self._name == "uint64" else np.int64)
        with np.errstate(all="ignore"):
            converted = given.astype(self._dtype)
        if self._kind == "f" and (np.isfinite(given) & ~np.isfinite(converted.astype(np.float64))).any():
            self._r.fail(f"an element is beyond the range of {self._name}")
        self._arrays.append(converted)
        self._chunk = []


def _integer_range(dtype: np.dtype[Any]) -> range:
    """The whole numbers of an integer type."""
    if dtype.kind in "iu" and dtype.name.lstrip("u") in ("int8", "int16", "int32", "int64"):
        info = np.iinfo(dtype)
        return range(int(info.min), int(info.max) + 1)
    bits = int(dtype.name.lstrip("uint"))
    return range(1 << bits) if dtype.name.startswith("u") else range(-(1 << bits - 1), 1 << bits - 1)
