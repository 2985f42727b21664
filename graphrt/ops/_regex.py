r"""Regular expressions in RE2's syntax, matched against whole strings in linear time.

The pattern is parsed into a small tree, the tree becomes a nondeterministic automaton (Thompson's construction), and a
string is read by keeping the set of states it can be in; sets and steps seen before are remembered. So no pattern,
however written, takes exponential time, as it can in Python's `re`. What RE2 leaves out (back-references,
look-around, possessive repeats) is refused; so are ``\C`` and scripts in ``\p{...}``, for which Python has no tables.
Source: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

Predicate = Callable[[str], bool]
Tree = tuple[Any, ...]
"""``("char", predicate)``, ``("cat", trees)``, ``("alt", trees)``, ``("repeat", tree, low, high)`` or ``("at", kind)``.
"""

MOST_REPEATS, MOST_DEPTH, MOST_STATES, MOST_REMEMBERED = 1000, 100, 50_000, 10_000

_DIGITS = frozenset("0123456789")
_WORD = frozenset("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
_LETTERS = {c for c in _WORD if c.isalpha()}
_PUNCTUATION = {chr(i) for i in range(33, 127)} - (_WORD - {"_"})
_PERL = {"d": _DIGITS, "w": _WORD, "s": frozenset("\t\n\f\r ")}
_POSIX = {
    "alnum": _WORD - {"_"}, "alpha": _LETTERS, "ascii": {chr(i) for i in range(128)}, "blank": set("\t "),
    "cntrl": {chr(i) for i in (*range(32), 127)}, "digit": _DIGITS, "graph": {chr(i) for i in range(33, 127)},
    "lower": {c for c in _LETTERS if c.islower()}, "print": {chr(i) for i in range(32, 127)}, "punct": _PUNCTUATION,
    "space": set("\t\n\v\f\r "), "upper": {c for c in _LETTERS if c.isupper()}, "word": _WORD,
    "xdigit": _DIGITS | set("abcdefABCDEF"),
}  # fmt: skip
_CONTROL = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_CATEGORIES = frozenset("CLMNPSZ") | {
    "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu", "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc", "Pd", "Pe", "Pf",
    "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs",
}  # fmt: skip


# ---- pattern to tree ---------------------------------------------------------------------------------------


class _Parser:
    """Reads a pattern by recursive descent; ``flags`` are those in force, of i, m, s, U."""

    def __init__(self, pattern: str):
        self.text, self.at, self.depth, self.flags = pattern, 0, 0, frozenset[str]()

    def parse(self) -> Tree:
        tree = self.alternatives()
        if self.at < len(self.text):
            raise self.error("unexpected )")
        return tree

    def error(self, what: str) -> ValueError:
        return ValueError(f"the pattern {self.text!r} is not RE2's: {what} at position {self.at}")

    def peek(self, n: int = 1) -> str:
        return self.text[self.at : self.at + n]

    def take(self, prefix: str) -> bool:
        """Whether the text goes on with ``prefix``, which is then passed."""
        found = self.text.startswith(prefix, self.at)
        self.at += len(prefix) if found else 0
        return found

    def next(self) -> str:
        if self.at >= len(self.text):
            raise self.error("unexpected end")
        self.at += 1
        return self.text[self.at - 1]

    def until(self, end: str) -> str:
        """The text up to ``end``, which is passed too."""
        stop = self.text.find(end, self.at)
        if stop < 0:
            raise self.error(f"missing {end}")
        found, self.at = self.text[self.at : stop], stop + len(end)
        return found

    def alternatives(self) -> Tree:
        branches = [self.sequence()]
        while self.take("|"):
            branches.append(self.sequence())
        return branches[0] if len(branches) == 1 else ("alt", branches)

    def sequence(self) -> Tree:
        parts: list[Tree] = []
        while self.peek() not in ("", "|", ")"):
            parts += self.quoted() if self.take("\\Q") else [self.atom()]
            if parts:
                parts[-1] = self.repeated(parts[-1])
        return ("cat", parts)

    def quoted(self) -> list[Tree]:
        literal, _, rest = self.text[self.at :].partition("\\E")
        self.at = len(self.text) - len(rest)
        return [self.literal(c) for c in literal]

    def repeated(self, tree: Tree) -> Tree:
        bounds = self.bounds()
        if bounds is None:
            return tree
        self.take("?")  # lazy or not, the same strings match
        if self.bounds() is not None:
            raise self.error("one repetition after another")
        return ("repeat", tree, *bounds)

    def bounds(self) -> tuple[int, int | None] | None:
        for mark, found in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self.take(mark):
                return found
        if self.peek() != "{":
            return None
        inside, closed, _ = self.text[self.at + 1 :].partition("}")
        low, comma, high = inside.partition(",")
        if not (closed and _is_number(low) and (not high or _is_number(high))):
            return None  # a literal brace
        self.at += len(inside) + 2
        most = int(low) if not comma else int(high) if high else None
        if max(int(low), most or 0) > MOST_REPEATS or (most is not None and most < int(low)):
            raise self.error(f"bad repetition {{{inside}}}")
        return int(low), most

    def atom(self) -> Tree:
        c = self.next()
        if c == "(":
            return self.group()
        if c == "[":
            return self.char(self.bracket())
        if c == ".":
            return ("char", (lambda x: True) if "s" in self.flags else (lambda x: x != "\n"))
        if c == "^":
            return ("at", "line start" if "m" in self.flags else "start")
        if c == "$":
            return ("at", "line end" if "m" in self.flags else "end")
        if c in "*+?":
            raise self.error("nothing to repeat")
        return self.escape() if c == "\\" else self.literal(c)

    def literal(self, c: str) -> Tree:
        return self.char(lambda x: x == c)

    def char(self, accepts: Predicate) -> Tree:
        return ("char", _ignoring_case(accepts) if "i" in self.flags else accepts)

    def group(self) -> Tree:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise self.error(f"groups nest deeper than {MOST_DEPTH}")
        outer = self.flags
        if self.take("?") and not self.named() and self.options():
            self.depth -= 1
            if self.bounds() is not None:
                raise self.error("nothing to repeat")
            return ("cat", [])  # (?i): for the rest of the enclosing group
        tree = self.alternatives()
        if not self.take(")"):
            raise self.error("missing )")
        self.flags, self.depth = outer, self.depth - 1
        return tree

    def named(self) -> bool:
        if self.peek(2) in ("<=", "<!") or self.peek() in ("=", "!", ">", "#", "(") or self.peek(2) in ("P=", "P>"):
            raise self.error(f"(?{self.peek(2)} is not supported")
        if not (self.take("P<") or self.take("<")):
            return False
        name = self.until(">")
        if not name or not all(c == "_" or c.isalnum() for c in name):
            raise self.error(f"bad group name {name!r}")
        return True

    def options(self) -> bool:
        """Flags after ``(?``; whether they stand alone, for what follows the group."""
        on, flags = True, set(self.flags)
        while (c := self.next()) not in ":)":
            if c == "-" and on:
                on = False
            elif c in "imsU":
                (flags.add if on else flags.discard)(c)
            else:
                raise self.error(f"unknown flag {c!r}")
        if self.text[self.at - 2] == "-":
            raise self.error("no flag after -")
        self.flags = frozenset(flags)
        return c == ")"

    def escape(self) -> Tree:
        c = self.peek()
        kind = {"A": "start", "z": "end", "b": "boundary", "B": "no boundary"}.get(c)
        if kind:
            self.at += 1
            return ("at", kind)
        found = self.char_class() or self.one_char()
        return self.char(found) if callable(found) else self.literal(found)

    def char_class(self) -> Predicate | None:
        r"""A class after a backslash: ``\d``, ``\pL``, ...; None where it is a single character."""
        c = self.peek()
        if c.lower() in _PERL and c:
            self.at += 1
            members = _PERL[c.lower()]
            return (lambda x: x in members) if c.islower() else (lambda x: x not in members)
        if c not in ("p", "P"):
            return None
        self.at += 1
        name = self.until("}") if self.take("{") else self.next()
        negative = (c == "P") != name.startswith("^")
        name = name.removeprefix("^")
        if name == "Any":
            return lambda x: not negative
        if name not in _CATEGORIES:
            raise self.error(f"unknown category {name!r}; only general categories such as L and Lu are supported,")
        return lambda x: unicodedata.category(x).startswith(name) != negative

    def one_char(self) -> str:
        c = self.next()
        if c in _CONTROL:
            return _CONTROL[c]
        if c == "x":
            digits = self.until("}") if self.take("{") else self.next() + self.next()
            return self.code(digits, 16)
        if c == "0" or (c in "1234567" and self.peek() in tuple("01234567")):
            digits = c
            while len(digits) < 3 and self.peek() in tuple("01234567"):
                digits += self.next()
            return self.code(digits, 8)
        if c in _PUNCTUATION:
            return c
        raise self.error(f"\\{c} is not supported")

    def code(self, digits: str, base: int) -> str:
        try:
            return chr(int(digits, base))
        except (ValueError, OverflowError):
            raise self.error(f"bad character code {digits!r}") from None

    def bracket(self) -> Predicate:
        negative = self.take("^")
        parts: list[Predicate] = []
        first = True
        while first or self.peek() != "]":
            first = False
            parts.append(self.bracket_item())
        self.next()
        fold = _ignoring_case if "i" in self.flags else lambda p: p
        accepts = fold(lambda x: any(p(x) for p in parts))
        return (lambda x: not accepts(x)) if negative else accepts

    def bracket_item(self) -> Predicate:
        if self.take("[:"):
            name = self.until(":]")
            members = _POSIX.get(name.removeprefix("^"))
            if members is None:
                raise self.error(f"unknown class [:{name}:]")
            negative = name.startswith("^")
            return lambda x: (x in members) != negative
        low = self.bracket_char()
        if callable(low):
            return low
        if self.peek() != "-" or self.peek(2) in ("-]", "-"):
            return lambda x: x == low
        self.next()
        high = self.bracket_char()
        if callable(high) or high < low:
            raise self.error("bad range")
        return lambda x: low <= x <= high

    def bracket_char(self) -> str | Predicate:
        c = self.next()
        return (self.char_class() or self.one_char()) if c == "\\" else c


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 4


def _ignoring_case(accepts: Predicate) -> Predicate:
    def either(x: str) -> bool:
        return any(accepts(v) for v in {x, x.lower(), x.upper(), x.casefold()} if len(v) == 1)

    return either


# ---- tree to automaton -------------------------------------------------------------------------------------


class Regex:
    """An automaton for one pattern.

    States are numbers; ``_steps[s]`` is ``("char", predicate, next)``, ``("split", nexts)``, ``("at", kind, next)`` or
    ``("match",)``.

    Args:
        pattern: RE2's syntax.

    Raises:
        ValueError: the pattern is malformed, uses what RE2 lacks, or is too large.

    >>> Regex("a(b|c)*").fullmatch("abcb")
    True
    """

    def __init__(self, pattern: str):
        self._steps: list[Tree] = []
        self._pattern = pattern
        self._start = self._emit(_Parser(pattern).parse(), self._new(("match",)))
        self._closures: dict[Any, frozenset[int]] = {}
        self._moves: dict[Any, frozenset[int]] = {}

    def fullmatch(self, text: str) -> bool:
        """Whether the whole text matches."""
        core = frozenset([self._start])
        before = "edge"
        for c in text:
            kind = _kind(c)
            core = self._move(self._closure(core, before, kind), c)
            if not core:
                return False
            before = kind
        return any(self._steps[s][0] == "match" for s in self._closure(core, before, "edge"))

    def _new(self, step: Tree) -> int:
        if len(self._steps) >= MOST_STATES:
            raise ValueError(f"the pattern {self._pattern!r:.80} is too large: more than {MOST_STATES} states")
        self._steps.append(step)
        return len(self._steps) - 1

    def _emit(self, tree: Tree, after: int) -> int:
        """Adds the states of a tree that is followed by state ``after``; returns its first."""
        if tree[0] in ("char", "at"):
            return self._new((*tree, after))
        if tree[0] == "cat":
            for part in reversed(tree[1]):
                after = self._emit(part, after)
            return after
        if tree[0] == "alt":
            return self._new(("split", [self._emit(part, after) for part in tree[1]]))
        _, inner, low, high = tree
        if high is None:
            again = self._new(("split", []))
            self._steps[again][1].extend([self._emit(inner, again), after])
            after = again
        else:
            last = after
            for _ in range(high - low):
                after = self._new(("split", [self._emit(inner, after), last]))
        for _ in range(low):
            after = self._emit(inner, after)
        return after

    def _closure(self, core: frozenset[int], before: str, behind: str) -> frozenset[int]:
        """All states reachable without reading, between a character of kind ``before`` and one of kind ``behind``."""
        key = core, before, behind
        if key not in self._closures:
            self._closures[key] = frozenset(self._reachable(core, before, behind))
            _forget(self._closures)
        return self._closures[key]

    def _reachable(self, core: frozenset[int], before: str, behind: str) -> Iterator[int]:
        seen, waiting = set(core), list(core)
        while waiting:
            s = waiting.pop()
            step = self._steps[s]
            yield s
            onward = step[1] if step[0] == "split" else ()
            if step[0] == "at" and _holds(step[1], before, behind):
                onward = (step[2],)
            fresh = [n for n in onward if n not in seen]
            seen.update(fresh)
            waiting += fresh

    def _move(self, states: frozenset[int], c: str) -> frozenset[int]:
        key = states, c
        if key not in self._moves:
            steps = (self._steps[s] for s in states)
            self._moves[key] = frozenset(t[2] for t in steps if t[0] == "char" and t[1](c))
            _forget(self._moves)
        return self._moves[key]


def _forget(remembered: dict[Any, Any]) -> None:
    if len(remembered) > MOST_REMEMBERED:
        newest = remembered.popitem()
        remembered.clear()
        remembered.update([newest])


def _kind(c: str) -> str:
    return "word" if c in _WORD else "newline" if c == "\n" else "other"


def _holds(assertion: str, before: str, behind: str) -> bool:
    boundary = (before == "word") != (behind == "word")
    return {
        "start": before == "edge",
        "end": behind == "edge",
        "line start": before in ("edge", "newline"),
        "line end": behind in ("edge", "newline"),
        "boundary": boundary,
        "no boundary": not boundary,
    }[assertion]


@lru_cache(maxsize=64)
def compiled(pattern: str) -> Regex:
    """The automaton of a pattern, kept for the next call."""
    return Regex(pattern)
