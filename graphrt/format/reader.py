"""A strict pull reader for the subset of msgpack that the header uses.

The decoder asks for exactly the item that the format has next, so nothing of unknown structure is ever
built. Only the shortest encoding of each item is accepted: a header has one spelling. Counts and lengths
are compared with the bytes that are left, and the cost of what will be built with the memory budget,
before anything is allocated.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import NoReturn, TypeAlias, TypeVar

from graphrt.errors import FormatError
from graphrt.format.limits import Limits

Buffer: TypeAlias = "bytes | mmap.mmap"
T = TypeVar("T")

_U16, _U32, _U64 = struct.Struct(">H"), struct.Struct(">I"), struct.Struct(">Q")
_I64, _F64 = struct.Struct(">q"), struct.Struct(">d")
_CACHED_STRINGS, _CACHED_LENGTH = 4096, 128
_UNSIGNED = {0xCC: (1, 0x80), 0xCD: (2, 0x100), 0xCE: (4, 0x10000), 0xCF: (8, 0x100000000)}
_SIGNED = {0xD0: (1, -0x20), 0xD1: (2, -0x80), 0xD2: (4, -0x8000), 0xD3: (8, -0x80000000)}

COST_ITEM = 16
"""Bytes charged for one entry of a list: its slot in the list and in the tuple made of it."""
COST_ENTRY = 104
"""Bytes charged for one entry of a map, while it grows."""


class Reader:
    """Reads items one after the other from ``buffer[start:end]``.

    Args:
        buffer: the file's bytes or a map of it; positions in errors are positions in it.
        start, end: the part that holds the items.
        limits: the bounds to keep.
    """

    def __init__(self, buffer: Buffer, start: int, end: int, limits: Limits):
        self.pos = start
        self.limits = limits
        self._buffer, self._end = buffer, end
        self._left = limits.memory_base + limits.memory_factor * (end - start)
        self._strings: dict[bytes, str] = {}

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raises FormatError at a position (default: the current one)."""
        raise self.error(reason, self.pos if at is None else at)

    def error(self, reason: str, at: int) -> FormatError:
        """The error for a problem at a position."""
        return FormatError(reason, offset=at)

    def spend(self, nbytes: int) -> None:
        """Takes bytes from the memory budget.

        Raises:
            FormatError: the budget is used up.
        """
        self._left -= nbytes
        if self._left < 0:
            self.fail(
                "decoding needs more memory than the limits allow for a header of this size; "
                "for a file you trust, pass a larger Limits.memory_factor"
            )

    def _need(self, nbytes: int, at: int, what: str) -> None:
        if nbytes > self._end - self.pos:
            self.fail(f"{what} of {nbytes} bytes, but the header has {self._end - self.pos} left", at)

    def _byte(self, what: str) -> int:
        if self.pos >= self._end:
            self.fail(f"the header ends where {what} is due")
        byte = self._buffer[self.pos]
        self.pos += 1
        return byte

    def _wrong(self, byte: int, what: str) -> NoReturn:
        raise self.error(f"{what} expected, found {_describe(byte)}", self.pos - 1)

    def _number(self, width: int, at: int, least: int) -> int:
        """A big-endian unsigned number that would not fit a shorter form."""
        self._need(width, at, "a number")
        value = int.from_bytes(self._buffer[self.pos : self.pos + width], "big")
        self.pos += width
        if value < least:
            self.fail(f"{value} is not in its shortest encoding", at)
        return value

    def _count(self, byte: int, at: int, fix: int, long: int, what: str, item_bytes: int) -> int:
        """The count of a list or map header, checked against limit and bytes left."""
        if byte & 0xF0 == fix:
            count = byte & 0x0F
        elif byte == long:
            count = self._number(2, at, 16)
        elif byte == long + 1:
            count = self._number(4, at, 1 << 16)
        else:
            self._wrong(byte, what)
        if count > self.limits.max_items:
            self.fail(f"{what} of {count} entries; the limit is {self.limits.max_items}", at)
        if count * item_bytes > self._end - self.pos:
            self.fail(f"{what} of {count} entries, but the header has {self._end - self.pos} bytes left", at)
        return count

    def list_header(self, what: str, item_bytes: int = 1, item_cost: int = COST_ITEM) -> int:
        """The number of entries of the list that begins here.

        Each takes at least ``item_bytes`` of the header; the budget is charged ``item_cost`` for each.
        """
        at = self.pos
        count = self._count(self._byte(what), at, 0x90, 0xDC, what, item_bytes)
        self.spend(count * item_cost)
        return count

    def map_header(self, what: str) -> int:
        """The number of entries of the map that begins here; the budget is charged for them."""
        at = self.pos
        count = self._count(self._byte(what), at, 0x80, 0xDE, what, 2)
        if count:
            self.spend(120 + count * COST_ENTRY)
        return count

    def record(self, what: str, fields: int) -> None:
        """A map with exactly this many entries."""
        at = self.pos
        count = self._count(self._byte(what), at, 0x80, 0xDE, what, 2)
        if count != fields:
            self.fail(f"{what} has {count} fields; it must have exactly {fields}", at)

    def key(self, encoded: bytes) -> None:
        """The given key of a record (its name packed), which must be next."""
        if self._buffer[self.pos : min(self.pos + len(encoded), self._end)] != encoded:
            self.fail(f"the key {encoded[1:].decode()!r} is due here: the specification fixes keys and their order")
        self.pos += len(encoded)

    def nil(self) -> bool:
        """Whether nil is next; if so, it is consumed."""
        if self.pos < self._end and self._buffer[self.pos] == 0xC0:
            self.pos += 1
            return True
        return False

    def is_string(self) -> bool:
        """Whether a string is next; nothing is consumed."""
        byte = self._buffer[self.pos] if self.pos < self._end else 0
        return 0xA0 <= byte <= 0xBF or 0xD9 <= byte <= 0xDB

    def integer(self, what: str, least: int = -(1 << 63)) -> int:
        """A whole number from ``least`` to 2**63 - 1."""
        at = self.pos
        byte = self._byte(what)
        if byte < 0x80:
            value = byte
        elif byte >= 0xE0:
            value = byte - 0x100
        elif byte in _UNSIGNED:
            value = self._number(_UNSIGNED[byte][0], at, _UNSIGNED[byte][1])
        elif byte in _SIGNED:
            width, bound = _SIGNED[byte]
            value = self._number(width, at, 0)
            value -= (value >> (8 * width - 1)) << (8 * width)
            if value >= bound:
                self.fail(f"{value} is not in its shortest encoding", at)
        else:
            self._wrong(byte, what)
        if not least <= value < 1 << 63:
            self.fail(f"{what} is {value}; it must lie from {least} to 2**63 - 1", at)
        self.spend(0 if -6 < value < 257 else 32)
        return value

    def floating(self, what: str) -> float:
        """A float64, bit for bit."""
        at = self.pos
        byte = self._byte(what)
        if byte != 0xCB:
            self._wrong(byte, what)
        self._need(8, at, what)
        self.spend(24)
        value: float = _F64.unpack(self._buffer[self.pos : self.pos + 8])[0]
        self.pos += 8
        return value

    def _length(self, byte: int, at: int, forms: tuple[int, int, int], what: str, fix: bool) -> int:
        if fix and byte & 0xE0 == 0xA0:
            length = byte & 0x1F
        elif byte == forms[0]:
            length = self._number(1, at, 32 if fix else 0)
        elif byte == forms[1]:
            length = self._number(2, at, 1 << 8)
        elif byte == forms[2]:
            length = self._number(4, at, 1 << 16)
        else:
            self._wrong(byte, what)
        self._need(length, at, what)
        return length

    def string(self, what: str) -> str:
        """A UTF-8 string; equal short ones are usually one object."""
        at = self.pos
        byte = self._byte(what)
        length = self._length(byte, at, (0xD9, 0xDA, 0xDB), what, fix=True)
        if not length:
            return ""
        if length > self.limits.max_string:
            self.fail(f"{what} of {length} bytes; the limit is {self.limits.max_string}", at)
        if length > _CACHED_LENGTH:
            self.spend(2 * length)
        raw = self._buffer[self.pos : self.pos + length]
        known = self._strings.get(raw)
        self.pos += length
        return self._decoded(raw, what, at) if known is None else known

    def _decoded(self, raw: bytes, what: str, at: int) -> str:
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as e:
            raise FormatError(f"{what} is not UTF-8 ({e.reason})", offset=self.pos - len(raw) + e.start) from e
        self.spend(text.__sizeof__())
        if len(raw) <= _CACHED_LENGTH:
            if len(self._strings) >= _CACHED_STRINGS:
                self._strings.clear()
            self._strings[raw] = text
        return text

    def binary(self, what: str, factor: float = 1) -> tuple[int, bytes]:
        """A byte string and where its content begins.

        ``factor``: bytes of memory to charge for each byte.
        """
        at = self.pos
        length = self._length(self._byte(what), at, (0xC4, 0xC5, 0xC6), what, fix=False)
        self.spend(33 + int(length * factor))
        start, self.pos = self.pos, self.pos + length
        return start, self._buffer[start : self.pos]

    def sorted_map(self, what: str, read: Callable[[], T]) -> dict[str, T]:
        """A map from strings, keys strictly ascending by their UTF-8 bytes, so none comes twice."""
        result: dict[str, T] = {}
        last: str | None = None
        for _ in range(self.map_header(what)):
            at = self.pos
            key = self.string(f"a key of {what}")
            if last is not None and key <= last:
                problem = "comes twice" if key == last else "is out of order"
                self.fail(f"the key {key[:80]!r} of {what} {problem}: keys ascend strictly", at)
            result[key], last = read(), key
        return result

    def end(self) -> None:
        """Checks that nothing is left."""
        if self.pos != self._end:
            self.fail(f"{self._end - self.pos} bytes of the header are left over")


def _describe(byte: int) -> str:
    """The msgpack family of a leading byte, for messages."""
    table = [
        (0x80, "an integer"), (0x90, "a map"), (0xA0, "a list"), (0xC0, "a string"), (0xC1, "nil"),
        (0xC2, "the reserved byte c1"), (0xC4, "a boolean"), (0xC7, "a byte string"), (0xCA, "an extension type"),
        (0xCC, "a float"), (0xD4, "an integer"), (0xD9, "an extension type"), (0xDC, "a string"),
        (0xDE, "a list"), (0xE0, "a map"), (0x100, "an integer"),
    ]  # fmt: skip
    return next(name for bound, name in table if byte < bound)
