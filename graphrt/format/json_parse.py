"""A pull parser for JSON: the caller asks for what must come next, so nothing of unknown structure is built.

Python's own parser would build any nesting that a text holds, and keeps the last of several equal keys.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import NoReturn

from graphrt.errors import FormatError
from graphrt.format.limits import Limits
from graphrt.format.reader import COST_ENTRY, COST_ITEM

_SPACE = re.compile(r"[ \t\n\r]*")
_BLANKS = frozenset(" \t\n\r")
_NUMBERS = re.compile(r"[-+.0-9eE \t\n\r,]{1,65536}(?<=,)")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_DIGITS = 400


class JsonReader:
    """Reads JSON values one after the other.

    Args:
        text: the JSON text; positions in errors are bytes of its UTF-8 form, with line and column.
        limits: the bounds to keep.
    """

    def __init__(self, text: str, limits: Limits):
        self.limits = limits
        self._text = text
        self._pos = 1 if text.startswith("\ufeff") else 0
        self._left = limits.memory_base + limits.memory_factor * len(text)

    @property
    def pos(self) -> int:
        """Where the next value begins."""
        return self._skip()

    def fail(self, reason: str, at: int | None = None) -> NoReturn:
        """Raises FormatError at a position (default: the current one)."""
        raise self.error(reason, self._pos if at is None else at)

    def error(self, reason: str, at: int) -> FormatError:
        """The error for a problem at a position."""
        line = self._text.count("\n", 0, at) + 1
        column = at - self._text.rfind("\n", 0, at)
        offset = len(self._text[:at].encode("utf-8", "surrogatepass"))
        return FormatError(f"line {line}, column {column}: {reason}", offset=offset)

    def spend(self, nbytes: int) -> None:
        """Takes bytes from the memory budget.

        Raises:
            FormatError: the budget is used up.
        """
        self._left -= nbytes
        if self._left < 0:
            self.fail(
                "decoding needs more memory than the limits allow for a text of this size; "
                "for a file you trust, pass a larger Limits.memory_factor"
            )

    def _skip(self) -> int:
        if self._text[self._pos : self._pos + 1] in _BLANKS:
            match = _SPACE.match(self._text, self._pos)
            self._pos = match.end() if match else self._pos
        return self._pos

    def peek(self) -> str:
        """The first character of what comes next, or ``""`` at the end."""
        pos = self._skip()
        return self._text[pos : pos + 1]

    def found(self) -> str:
        """What comes next, for messages."""
        pos = self._skip()
        return repr(self._text[pos : pos + 20]) if pos < len(self._text) else "the end of the text"

    def take(self, char: str) -> bool:
        """Whether this character comes next; if so, it is consumed."""
        if self.peek() != char:
            return False
        self._pos += 1
        return True

    def expect(self, char: str, what: str) -> None:
        """Consumes this character, which must come next."""
        if not self.take(char):
            self.fail(f"{char!r} expected in {what}, found {self.found()}")

    def items(self, what: str) -> Iterator[None]:
        """Yields once for each element of a list; the caller then reads it."""
        self.expect("[", what)
        if self.take("]"):
            return
        count = 0
        while True:
            count += 1
            if count > self.limits.max_items:
                self.fail(f"{what} has more than {self.limits.max_items} entries")
            self.spend(COST_ITEM)
            yield
            if self.take("]"):
                return
            self.expect(",", what)

    def fields(self, what: str, known: tuple[str, ...] | None = None) -> Iterator[str]:
        """Yields each key of an object; the caller then reads its value.

        Raises:
            FormatError: a key comes twice, or is not among the known ones.
        """
        self.expect("{", what)
        seen: set[str] = set()
        if self.take("}"):
            return
        while True:
            at = self._skip()
            key = self.string(f"a key of {what}")
            if key in seen:
                self.fail(f"the key {key[:80]!r} of {what} comes twice", at)
            if known is not None and key not in known:
                self.fail(f"{what} has no key {key[:80]!r}; there are: {', '.join(known)}", at)
            if len(seen) >= self.limits.max_items:
                self.fail(f"{what} has more than {self.limits.max_items} entries", at)
            seen.add(key)
            self.spend(2 * COST_ENTRY)
            self.expect(":", what)
            yield key
            if self.take("}"):
                return
            self.expect(",", what)

    def string(self, what: str, limit: int | None = None) -> str:
        """A string without lone surrogates, of at most ``limit`` characters (default: the limits')."""
        at = self._skip()
        if self.peek() != '"':
            self.fail(f"{what} must be a string, found {self.found()}")
        try:
            text: str
            text, self._pos = scanstring(self._text, at + 1, True)
        except json.JSONDecodeError as e:
            raise self.error(f"{what}: {e.msg}", min(e.pos, len(self._text))) from e
        if len(text) > (self.limits.max_string if limit is None else limit):
            self.fail(f"{what} has {len(text)} characters; the limit is {self.limits.max_string}", at)
        if not text.isascii() and _SURROGATE.search(text):
            self.fail(f"{what} holds a lone surrogate, which is no character", at)
        self.spend(text.__sizeof__())
        return text

    def number(self, what: str) -> int | float:
        """A number: a float where it is written with a fraction or an exponent, else an int."""
        at = self._skip()
        match = _NUMBER.match(self._text, at)
        if match is None:
            self.fail(f"{what} must be a number, found {self.found()}")
        if match.end() - at > _MAX_DIGITS:
            self.fail(f"{what} has more than {_MAX_DIGITS} digits", at)
        self._pos = match.end()
        if not match[2] and not match[3]:
            return int(match[1])
        value = float(match[0])
        if not math.isfinite(value):
            self.fail(f"{what} is beyond the range of float64", at)
        return value

    def numbers(self, fit: Callable[[list[int | float]], bool]) -> list[int | float] | None:
        """The numbers that follow, each with a comma after it, by Python's own parser: it is fast.

        Args:
            fit: whether numbers are what is wanted; may raise ValueError or OverflowError.

        Returns:
            At most 32768 numbers, or none where something else follows. None, with nothing consumed, when
            they are not JSON or do not fit: reading them one by one then tells what is wrong.
        """
        match = _NUMBERS.match(self._text, self._skip())
        if match is None:
            return []
        try:
            values: list[int | float] = json.loads(f"[{match[0][:-1]}]")
            if not values or not fit(values):
                return None
        except (ValueError, OverflowError):
            return None
        self._pos = match.end()
        return values

    def integer(self, what: str, least: int = -(1 << 63)) -> int:
        """A whole number from ``least`` to 2**63 - 1."""
        at = self._skip()
        value = self.number(what)
        if isinstance(value, float):
            self.fail(f"{what} must be a whole number, without fraction and exponent", at)
        if not least <= value < 1 << 63:
            self.fail(f"{what} must lie from {least} to 2**63 - 1", at)
        return value

    def word(self, what: str, words: dict[str, bool | None]) -> bool | None:
        """One of ``true``, ``false`` and ``null``, as far as ``words`` has them."""
        at = self._skip()
        for word, value in words.items():
            if self._text.startswith(word, at):
                self._pos = at + len(word)
                return value
        raise self.error(f"{what} must be {' or '.join(words)}, found {self.found()}", at)

    def end(self) -> None:
        """Checks that nothing is left."""
        if self.peek():
            self.fail(f"{self.found()} after the end of the graph")
