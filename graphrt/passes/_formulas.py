"""Formulas that are looked for in a graph, in whichever of many equal ways an exporter has written them.

A formula is text such as ``"x * (1 + erf(x / 1.4142135623730951)) * 0.5"`` (see `graphrt.ir.expression`). Sums and
products of a formula and of a graph are compared as chains: a number and a set of terms, whatever the order, the
brackets and the constants' places. Differences, quotients, negation, reciprocals, squares and cubes are chains, too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import chain
from typing import TypeAlias

from graphrt.ir import Graph, Node
from graphrt.ir.expression import Function, parse_expression
from graphrt.passes._rewriting import Rewriting
from graphrt.records import dataclass, field

_TOLERANCE = 1e-6
"""Relative; what is left of a constant that was written in float32."""
_FUNCTIONS = {
    name.lower(): Function(name)
    for name in (
        "Clip", "Erf", "HardSigmoid", "LayerNormalization", "MatMul", "ReduceMean", "Sigmoid", "Softmax", "Sqrt",
        "Tanh",
    )
}  # fmt: skip
_LONGEST = 8
"""Terms of a chain; what has more is no formula."""
_SIGNED = {"Add": ("Add", "Sub"), "Mul": ("Mul", "Div")}


@dataclass(frozen=True)
class Call:
    """An op applied to patterns."""

    op_type: str
    args: tuple[Pattern, ...]


@dataclass(frozen=True)
class Chain:
    """A sum (``"Add"``) or product (``"Mul"``) of a number and terms; those with False are subtracted or divided by."""

    kind: str
    number: float
    terms: tuple[tuple[Pattern, bool], ...]


Pattern: TypeAlias = "Call | Chain | float | str"
"""A string is a variable."""


@dataclass(frozen=True)
class Match:
    """Where a formula was found.

    Attributes:
        values: variable to the name of the value it stands for.
        numbers: variable to number, for those that `Formula.numbers` lists.
        nodes: what the formula has gone through, the last one first; some may be there twice.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()

    def all(self, op_type: str) -> list[Node]:
        """The nodes of an op type."""
        return [n for n in dict.fromkeys(self.nodes) if n.op_type == op_type]


@dataclass(frozen=True)
class Formula:
    """A formula to look for.

    Args:
        text: its names are variables, each stands for one value.
        numbers: those variables that stand for a number of a sum or product instead.
    """

    text: str
    numbers: tuple[str, ...] = ()

    @cached_property
    def pattern(self) -> Pattern:
        """What the text says."""
        graph = parse_expression(self.text, _FUNCTIONS)
        return _Reader(graph).pattern(graph.output_names[0])

    @cached_property
    def functions(self) -> frozenset[str]:
        """The ops that it names, in lower case."""
        return frozenset(re.findall(r"(\w+)\(", self.text))

    @property
    def roots(self) -> tuple[str, ...]:
        """The op types of nodes that may be its last."""
        p = self.pattern
        return (p.op_type,) if isinstance(p, Call) else _SIGNED[p.kind] if isinstance(p, Chain) else ()

    @cached_property
    def size(self) -> tuple[int, float | None]:
        """How many terms its chain has, and its number if that is not free."""
        p = self.pattern
        if not isinstance(p, Chain):
            return 1, None
        free = sum(t in self.numbers for t, _ in p.terms)
        return len(p.terms) - free, None if free else p.number

    def may_be(self, number: float, terms: int) -> bool:
        """Whether a chain of so many terms can be the formula."""
        count, own = self.size
        return terms == count and (own is None or _is_close(number, own))

    def find(self, graph: Rewriting, node: Node) -> Match | None:
        """The formula with this node as its last, all its inner values being read by nothing else."""
        search = _Search(graph, self.numbers)
        for match in search.at(self.pattern, node.outputs[0], Match()):
            if _is_closed(graph, node, match):
                return match
        return None


def candidates(formulas: Iterable[Formula], graph: Rewriting, node: Node) -> list[Formula]:
    """Those of some formulas with roots of one kind that a node may be the last of."""
    kind = next((k for k, roots in _SIGNED.items() if node.op_type in roots), None)
    if kind is None:
        return list(formulas)
    number, terms, _ = _chain(kind, node.outputs[0], graph.term, graph.number)
    return [f for f in formulas if f.may_be(number, len(terms))]


def _is_closed(graph: Rewriting, last: Node, match: Match) -> bool:
    nodes = set(match.nodes)
    within = list(chain.from_iterable(n.inputs for n in nodes))
    return all(n is last or all(graph.reads(o) == within.count(o) for o in n.outputs if o) for n in nodes)


class _Reader:
    """Makes patterns of the nodes of a formula's graph."""

    def __init__(self, graph: Graph):
        self.producers = graph.producers()

    def pattern(self, name: str) -> Pattern:
        node = self.producers.get(name)
        if node is None:
            return name
        if node.op_type == "Constant":
            return float(node.attributes["value"])  # type: ignore[arg-type]
        for kind in ("Mul", "Add"):
            number, terms = self.chain(kind, name)
            if terms != ((name, True),):
                return Chain(kind, number, tuple((self.pattern(t), sign) for t, sign in terms))
        return Call(node.op_type, tuple(map(self.pattern, node.inputs)))

    def chain(self, kind: str, name: str) -> tuple[float, tuple[tuple[str, bool], ...]]:
        def number(value: str) -> float | None:
            found = self.producers.get(value)
            return float(found.attributes["value"]) if found is not None and found.op_type == "Constant" else None  # type: ignore[arg-type]

        return _chain(kind, name, lambda value, _: self.producers.get(value), number)[:2]


class _Search:
    """Compares patterns with values, trying terms of chains in every order."""

    def __init__(self, graph: Rewriting, numbers: tuple[str, ...]):
        self.graph, self.numbers = graph, numbers

    def at(self, pattern: Pattern, name: str, match: Match) -> Iterator[Match]:
        """The ways in which a value is what a pattern says."""
        if isinstance(pattern, str):
            if match.values.get(pattern, name) == name:
                yield Match({**match.values, pattern: name}, match.numbers, match.nodes)
        elif isinstance(pattern, float):
            number = self.graph.number(name)
            if number is not None and _is_close(number, pattern):
                yield match
        elif isinstance(pattern, Call):
            node = self.graph.producer(name, pattern.op_type)
            if node is not None and len(node.inputs) >= len(pattern.args):
                yield from self.all(list(zip(pattern.args, node.inputs, strict=False)), self._through(match, node))
        else:
            yield from self.chain(pattern, name, match)

    def all(self, pairs: list[tuple[Pattern, str]], match: Match) -> Iterator[Match]:
        if not pairs:
            yield match
            return
        for found in self.at(*pairs[0], match):
            yield from self.all(pairs[1:], found)

    def chain(self, pattern: Chain, name: str, match: Match) -> Iterator[Match]:
        variable = [p for p, sign in pattern.terms if p in self.numbers]
        wanted = [t for t in pattern.terms if t[0] not in self.numbers]
        number, terms, nodes = _chain(pattern.kind, name, self.graph.term, self.graph.number)
        if len(terms) != len(wanted):
            return
        if variable:
            match = Match(match.values, {**match.numbers, variable[0]: number}, match.nodes)
        elif not _is_close(number, pattern.number):
            return
        wanted.sort(key=lambda t: isinstance(t[0], str))  # variables last
        yield from self.terms(wanted, list(terms), self._through(match, *nodes))

    def terms(self, wanted: list[tuple[Pattern, bool]], terms: list[tuple[str, bool]], match: Match) -> Iterator[Match]:
        if not wanted:
            yield match
            return
        (pattern, sign), *others = wanted
        for i, (name, there) in enumerate(terms):
            if there == sign and terms.index(terms[i]) == i:
                for found in self.at(pattern, name, match):
                    yield from self.terms(others, terms[:i] + terms[i + 1 :], found)

    def _through(self, match: Match, *nodes: Node) -> Match:
        return Match(match.values, match.numbers, match.nodes + nodes)


def _chain(
    kind: str, name: str, producer: Callable[[str, bool], Node | None], number: Callable[[str], float | None]
) -> tuple[float, tuple[tuple[str, bool], ...], list[Node]]:
    """A value as a sum or product: its number, its terms, and the nodes that make it of these.

    Args:
        kind: ``"Add"`` or ``"Mul"``.
        name: the value.
        producer: value and whether it is ``name`` to the node that makes it; None where that is not to be looked into.
        number: value to the number that it is.
    """
    total, terms, nodes = (0.0 if kind == "Add" else 1.0), list[tuple[str, bool]](), list[Node]()
    waiting = [(name, True)]
    while waiting and len(terms) <= _LONGEST:
        value, sign = waiting.pop()
        n = number(value)
        if n is not None and (sign or n):
            total = total + (n if sign else -n) if kind == "Add" else total * n if sign else total / n
            continue
        node = producer(value, value is name)
        parts = None if node is None else _parts(kind, node, number)
        if node is None or parts is None:
            terms.append((value, sign))
            continue
        nodes.append(node)
        waiting += [(part, same == sign) for part, same in parts]
        if kind == "Mul" and node.op_type == "Neg":
            total = -total
    return total, tuple(terms + waiting), nodes


def _parts(kind: str, node: Node, number: Callable[[str], float | None]) -> list[tuple[str, bool]] | None:
    """The terms that a node adds or multiplies; False where it subtracts or divides by one."""
    a = node.inputs[0] if node.inputs else ""
    if node.op_type in _SIGNED[kind]:
        return [(a, True), (node.inputs[1], node.op_type == kind)]
    if node.op_type == "Neg":
        return [(a, kind == "Mul")]
    if kind == "Mul" and node.op_type == "Reciprocal":
        return [(a, False)]
    if kind == "Mul" and node.op_type == "Pow":
        power = number(node.inputs[1])
        return [(a, True)] * int(power) if power in (2.0, 3.0) else None
    return None


def _is_close(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=_TOLERANCE)
