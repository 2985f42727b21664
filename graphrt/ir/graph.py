"""The graph: frozen data, no behavior that knows an op or a byte.

Invariants that every consumer may rely on after ``graphrt.check``: values are single-assignment (a name is
produced by one input, initializer or node output), the nodes have no cycle, and every name that is used is
produced somewhere. Nodes need not be listed in the order of their execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from graphrt.errors import GraphError
from graphrt.ir.text import format_graph
from graphrt.records import dataclass, field
from graphrt.types import UNKNOWN, ValueType

Attribute: TypeAlias = "int | float | str | bytes | tuple[Any, ...] | np.ndarray[Any, Any] | Graph | ValueType"
"""What an attribute may hold: a number, a string, bytes, a tensor, a graph, a type, or a tuple of one of these."""

OPSET = 24
"""The version of the default domain that new graphs are made for."""


_EMPTY: Mapping[Any, Any] = MappingProxyType({})


def _frozen(mapping: Mapping[Any, Any]) -> Mapping[Any, Any]:
    if not mapping:
        return _EMPTY
    return mapping if isinstance(mapping, MappingProxyType) else MappingProxyType(dict(mapping))


@dataclass(frozen=True, slots=True)
class Value:
    """A named value of a graph's interface and its declared type."""

    name: str
    type: ValueType = UNKNOWN

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One application of an op.

    Args:
        op_type: the op's name within its domain, e.g. ``"MatMul"``.
        inputs: names of the values read, in the op's order; ``""`` is an absent optional input.
        outputs: names of the values produced; ``""`` is an output nobody wants.
        attributes: name to attribute; lists are kept as tuples.
        domain: ``""`` is ONNX's default domain.
        name: a label for people; may be empty, need not be unique.
    """

    op_type: str
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    domain: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "outputs", tuple(self.outputs))
        if not self.attributes:
            object.__setattr__(self, "attributes", _EMPTY)
        elif not isinstance(self.attributes, MappingProxyType):
            items = self.attributes.items()
            frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in items}
            object.__setattr__(self, "attributes", MappingProxyType(frozen))

    @property
    def qualified_op(self) -> str:
        """``"MatMul"``, or ``"graphrt::Step"`` outside the default domain."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type

    @property
    def label(self) -> str:
        """The node's name, or its first output's when it has none: what messages call it."""
        return self.name or self.identity or self.op_type

    @property
    def identity(self) -> str:
        """The first output's name, which no other node of the graph has: what keys a random op's draws."""
        return next((o for o in self.outputs if o), "")

    def subgraphs(self) -> Iterator[Graph]:
        """The graphs among the attributes (bodies of If, Loop, Scan, …)."""
        for value in self.attributes.values():
            if isinstance(value, Graph):
                yield value
            elif isinstance(value, tuple):
                yield from (v for v in value if isinstance(v, Graph))

    def free_inputs(self) -> tuple[str, ...]:
        """Every outer value the node reads: its inputs, then what its subgraphs capture, each once."""
        seen = dict.fromkeys(i for i in self.inputs if i)
        for graph in self.subgraphs():
            seen.update(dict.fromkeys(graph.captured()))
        return tuple(seen)


@dataclass(frozen=True, eq=False)
class Graph:
    """A model: ops, weights, and what it needs to run. Frozen; a change makes a new graph (`replace`).

    Args:
        name: a label.
        opset_imports: domain to the version of its ops that the nodes mean.
        inputs: what is fed at run time.
        outputs: what `Session.run` returns.
        nodes: in any order.
        initializers: name to array: weights, constants, running statistics. An input of the same name
            makes the initializer a default that a caller may override.
        value_info: declared types of inner values.
        state_updates: initializer to the value that replaces it after each run (running statistics,
            optimizer state).
        metadata: free text, e.g. author or license.
        requires: domain to the distribution and versions that bring its ops, e.g.
            ``{"graphrt.special": "graphrt-special>=1"}``. Never acted upon, only shown.
    """

    name: str = ""
    opset_imports: Mapping[str, int] = field(default_factory=lambda: {"": OPSET})
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    nodes: tuple[Node, ...] = ()
    initializers: Mapping[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    value_info: Mapping[str, ValueType] = field(default_factory=dict)
    state_updates: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    requires: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("inputs", "outputs", "nodes"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("opset_imports", "initializers", "value_info", "state_updates", "metadata", "requires"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))

    def replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed."""
        return replace(self, **changes)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(v.name for v in self.inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return tuple(v.name for v in self.outputs)

    def producers(self) -> dict[str, Node]:
        """Value name to the node that produces it."""
        return {o: n for n in self.nodes for o in n.outputs if o}

    def names(self) -> set[str]:
        """Every value name the graph mentions, not looking into subgraphs."""
        names = {*self.input_names, *self.output_names, *self.initializers, *self.state_updates.values()}
        for node in self.nodes:
            names.update(node.inputs, node.outputs)
        names.discard("")
        return names

    def captured(self) -> tuple[str, ...]:
        """Outer values a subgraph reads: used within, produced nowhere within."""
        produced = {*self.input_names, *self.initializers}
        for node in self.nodes:
            produced.update(node.outputs)
        used: Iterable[str] = (i for n in self.nodes for i in n.free_inputs())
        wanted = dict.fromkeys([*used, *self.output_names])
        return tuple(name for name in wanted if name and name not in produced)

    def declared_types(self) -> dict[str, ValueType]:
        """Declared type of each value that has one: inputs, outputs, `value_info`."""
        types = dict(self.value_info)
        types.update((v.name, v.type) for v in self.outputs if v.type != UNKNOWN)
        types.update((v.name, v.type) for v in self.inputs)
        return types

    def text(self, **options: Any) -> str:
        """A deterministic listing, one node a line; see `graphrt.ir.text.format_graph`."""
        return format_graph(self, **options)

    def __str__(self) -> str:
        return self.text()


class NameScope:
    """Hands out value names that a graph does not use yet.

    >>> scope = NameScope(["x", "x.ct"])
    >>> scope.fresh("x.ct"), scope.fresh("y")
    ('x.ct_1', 'y')
    """

    def __init__(self, taken: Iterable[str] = ()):
        self._taken = set(taken)
        self._count: dict[str, int] = {}

    def fresh(self, base: str) -> str:
        """``base``, or ``base_1``, ``base_2``, … when it is taken."""
        name = base
        while name in self._taken:
            self._count[base] = n = self._count.get(base, 0) + 1
            name = f"{base}_{n}"
        self._taken.add(name)
        return name

    def claim(self, name: str) -> str:
        """Takes exactly this name.

        Raises:
            GraphError: it is in use already.
        """
        if name in self._taken:
            raise GraphError(f"the value {name!r} is defined already; values are single-assignment: choose another")
        self._taken.add(name)
        return name
