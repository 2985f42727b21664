"""The tokens of a formula, and errors that point at a column of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from graphrt.errors import ExpressionError

_TOKEN = re.compile(
    r"""(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
      | (?P<name>\w+)
      | (?P<string>"[^"\n]*"|'[^'\n]*')
      | (?P<sign>\*\*|[-+*/^(),=])""",
    re.VERBOSE,
)
_HINTS = {
    "[": "there are no lists and no subscripts here",
    ".": "there are no attributes of values here",
    ":": "write a formula, not a function definition",
    "%": "write mod(a, b)",
    "<": "write less(a, b)",
    ">": "write greater(a, b)",
    "@": "write matmul(a, b)",
}


class Token(NamedTuple):
    """A piece of the text: its kind (number, name, string, sign, end), the characters, and where they begin."""

    kind: str
    text: str
    at: int


def fail_at(text: str, at: int, problem: str) -> NoReturn:
    """Raises an ExpressionError that points at a column of the text."""
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : len(text) if end < 0 else end]
    column = at - start
    lo = max(0, column - 60)
    shown = ("…" if lo else "") + "".join(c if c.isprintable() else " " for c in line[lo : column + 40])
    shown += "…" if column + 40 < len(line) else ""
    caret = " " * (column - lo + bool(lo)) + "^"
    row = f"line {text.count(chr(10), 0, at) + 1}, " if "\n" in text.strip() else ""
    raise ExpressionError(f"{row}column {column + 1}: {problem}\n  {shown}\n  {caret}")


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, then one of kind ``"end"``; raises ExpressionError at what is none."""
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        match = _TOKEN.match(text, at)
        if match is None or (match.lastgroup == "name" and not match.group().isidentifier()):
            hint = _HINTS.get(text[at])
            fail_at(text, at, f"{text[at]!r} has no meaning in an expression" + (f"; {hint}" if hint else ""))
        yield Token(match.lastgroup or "", match.group(), at)
        at = match.end()
    yield Token("end", "", len(text.rstrip()))
