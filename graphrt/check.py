"""Everything that is wrong with a graph, all at once: structure, types, and what training would meet.

``check`` returns a report and never raises for a bad graph; ``validate`` raises on its first errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import numpy as np

from graphrt.errors import GraphError, GraphrtError
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, Node, format_node
from graphrt.ir.dag import find_cycle
from graphrt.ir.text import format_attribute
from graphrt.op import AttributeSpec, Op
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.trainability import Trainability, trainability
from graphrt.types import MapType, OptionalType, SequenceType, TensorType


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding.

    ``severity`` is ``"error"`` (the graph cannot run) or ``"warning"``. ``where`` is the node's line, or the
    value concerned.
    """

    severity: str
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.message}\n    at {self.where}"


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found.

    Attributes:
        problems: errors, then warnings, in the order of the listing.
        trainability: which parameters get gradients and what blocks the others; None when the structure is
            too broken to tell.
        types: inferred value types.
    """

    problems: tuple[Problem, ...]
    trainability: Trainability | None
    types: Inferred

    @property
    def ok(self) -> bool:
        """No errors (warnings are allowed)."""
        return not any(p.severity == "error" for p in self.problems)

    def as_dict(self) -> dict[str, Any]:
        """The report as plain data for JSON."""
        return {
            "ok": self.ok,
            "problems": [asdict(p) for p in self.problems],
            "trainability": self.trainability and asdict(self.trainability),
        }

    def __str__(self) -> str:
        lines = [str(p) for p in self.problems] or ["no problems found"]
        return "\n".join([*lines, *([str(self.trainability)] if self.trainability else [])])


def check(graph: Graph, registry: Registry) -> Report:
    """Checks structure, ops, attributes, types and trainability of a graph and its subgraphs.

    Args:
        graph: any graph, however broken.
        registry: where ops are looked up.

    Returns:
        A report of all problems.
    """
    problems: list[Problem] = []
    for scope in _scopes(graph):
        problems += _check_values(scope)
        problems += (p for node in scope.graph.nodes for p in _check_node(node, scope.graph, registry))
    known, report = Inferred(), None
    if find_cycle(graph) is None:
        known = _check_types(graph, registry, problems)
        with suppress(GraphrtError):  # where a node is too broken for it; that node is among the problems
            report = trainability(graph, registry, known)
    unique = list(dict.fromkeys(problems))
    return Report(tuple(sorted(unique, key=lambda p: p.severity)), report, known)


def validate(graph: Graph, registry: Registry) -> None:
    """Raises GraphError listing the errors that `check` finds."""
    errors = [p for p in check(graph, registry).problems if p.severity == "error"]
    if errors:
        more = f"\n(and {len(errors) - 5} more)" if len(errors) > 5 else ""
        raise GraphError(f"graph {graph.name!r}: " + "\n".join(map(str, errors[:5])) + more)


@dataclass(frozen=True)
class _Scope:
    """A graph or subgraph, and the values of the graphs around it."""

    graph: Graph
    outer: frozenset[str]


def _scopes(graph: Graph) -> Iterator[_Scope]:
    waiting = [_Scope(graph, frozenset())]
    while waiting:
        scope = waiting.pop()
        yield scope
        inner = [g for node in scope.graph.nodes for g in node.subgraphs()]
        if inner:
            visible = scope.outer | scope.graph.names()
            opsets = scope.graph.opset_imports
            waiting += [_Scope(g.replace(opset_imports={**opsets, **g.opset_imports}), visible) for g in inner]


def _check_values(scope: _Scope) -> Iterator[Problem]:
    graph = scope.graph
    label = f"graph {graph.name or 'unnamed'!r}"
    producer: dict[str, str] = {}
    for v in graph.inputs:
        if v.name in producer:
            yield Problem("error", f"input {v}", f"the input {v.name!r} is declared twice; rename one")
        producer[v.name] = f"input {v}"
    for name in graph.initializers:
        producer.setdefault(name, f"initializer {name}")
    for node in graph.nodes:
        line = format_node(node)
        for name in node.outputs:
            if name and name in producer:
                message = f"the value {name!r} is defined twice, first at: {producer[name]}; rename one"
                yield Problem("error", line, message)
            elif name and name in scope.outer:
                yield Problem("error", line, f"the value {name!r} shadows one of an outer graph; rename it")
            producer.setdefault(name, line)
    for node in graph.nodes:
        for name in node.inputs:
            if name and name not in producer and name not in scope.outer:
                yield Problem("error", format_node(node), f"reads {name!r}, which nothing produces")
    for v in graph.outputs:
        if v.name not in producer and v.name not in scope.outer:
            yield Problem("error", f"output {v}", f"the output {v.name!r} is produced by nothing")
    for name, value in graph.state_updates.items():
        if name not in graph.initializers:
            yield Problem("error", label, f"the state update of {name!r} concerns no initializer")
        if value not in producer:
            yield Problem("error", label, f"the state update of {name!r} reads {value!r}, which nothing produces")
    cycle = find_cycle(graph)
    if cycle:
        path = " -> ".join(graph.nodes[i].label for i in (*cycle, cycle[0]))
        yield Problem("error", format_node(graph.nodes[cycle[0]]), f"the nodes form a cycle: {path}")


def _check_node(node: Node, graph: Graph, registry: Registry) -> Iterator[Problem]:
    line = format_node(node)
    if node.domain not in graph.opset_imports:
        where = repr(node.domain) if node.domain else "the default domain"
        yield Problem("error", line, f"{where} is used and has no entry in opset_imports; add its version")
    try:
        found = registry.op_of(node, graph)
    except GraphrtError as e:
        yield Problem("error", line, str(e))
        return
    try:
        bound = found.bind(node.inputs, node.attributes.get("segments"))
    except GraphError as e:
        yield Problem("error", line, str(e))
    else:
        for p in found.inputs:
            if not p.optional and not p.variadic and not bound[p.name]:
                yield Problem("error", line, f"the input {p.name!r} of {found.signature} is required")
    if not found.variadic_output and len(node.outputs) > len(found.outputs):
        yield Problem("error", line, f"names {len(node.outputs)} outputs; {found.signature} has {len(found.outputs)}")
    yield from _check_attributes(node, found, line)


def _check_attributes(node: Node, found: Op, line: str) -> Iterator[Problem]:
    known = found.attributes
    for name, value in node.attributes.items():
        if name == "rng_key" or ("." in node.op_type and name in ("segments", "of", "n_outputs")):
            continue
        if name not in known:
            has = ", ".join(known) or "none"
            yield Problem("error", line, f"{found.qualified_name} has no attribute {name!r}; it has: {has}")
        elif not _fits(value, known[name]):
            is_not = f"is of kind {known[name].kind}, not {type(value).__name__} {_brief(value)}"
            yield Problem("error", line, f"the attribute {name!r} {is_not}")
    for spec in known.values():
        if spec.required and spec.name not in node.attributes:
            needed = f"the attribute {spec.name!r} ({spec.kind}) of {found.qualified_name} is required"
            yield Problem("error", line, needed)


def _brief(value: Any) -> str:
    text = format_attribute(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


_ITEM: dict[str, Any] = {
    "int": int,
    "float": (int, float),
    "string": (str, bytes),
    "bytes": (str, bytes),
    "tensor": np.ndarray,
    "graph": Graph,
    "type": (TensorType, SequenceType, OptionalType, MapType),
}


def _fits(value: Any, spec: AttributeSpec) -> bool:
    if spec.kind == "any":
        return True
    if spec.kind in _ITEM:
        return isinstance(value, _ITEM[spec.kind])
    item = _ITEM[spec.kind.removesuffix("s")]
    return isinstance(value, tuple) and all(isinstance(v, item) for v in value)


def _check_types(graph: Graph, registry: Registry, problems: list[Problem]) -> Inferred:
    def note(node: Node, error: Exception) -> None:
        if not any(p.where == format_node(node) and p.severity == "error" for p in problems):
            problems.append(Problem("error", format_node(node), str(error)))

    known = infer(graph, registry, on_error=note)
    producers = graph.producers()
    for value in graph.outputs:
        found = known.type(value.name)
        if value.name in producers and _contradicts(value.type, found):
            where = format_node(producers[value.name])
            problems.append(
                Problem("warning", where, f"the output {value.name!r} is declared {value.type}, inferred is {found}")
            )
    return known


def _contradicts(declared: Any, inferred: Any) -> bool:
    if not isinstance(declared, TensorType) or not isinstance(inferred, TensorType):
        return False
    if declared.dtype and inferred.dtype and declared.dtype != inferred.dtype:
        return True
    a, b = declared.shape, inferred.shape
    if a is None or b is None:
        return False
    return len(a) != len(b) or any(
        isinstance(m, int) and isinstance(n, int) and m != n for m, n in zip(a, b, strict=True)
    )
