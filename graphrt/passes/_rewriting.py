"""A graph while it is rewritten: its nodes in order, who makes a value, who reads it, what is known of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.errors import GraphrtError
from graphrt.inference import Inferred, infer
from graphrt.ir import OPSET, Graph, NameScope, Node
from graphrt.op import Array, Op
from graphrt.registry import ONNX_DOMAIN, Registry
from graphrt.types import TensorType

Alias = Callable[["Rewriting", Node], "str | None"]
"""The value that the first output of a node is the same as; None where there is none."""
Rule = Callable[["Rewriting", Node], "Sequence[Node] | None"]
"""What may take the place of a node, the last of its nodes having the same outputs; None where the rule does not
apply."""

_LARGE = 1 << 12
"""Bytes of a tensor attribute from which on it is not compared with others."""


class Rewriting:
    """Goes through nodes in the order of execution, and puts others in their place.

    A value keeps its name as long as there is one like it. A node whose readers are all gone is gone too.

    Args:
        graph: what the nodes are of.
        registry: where ops are looked up.
        known: types and constants; grows by those of new values.
        nodes: in an order of execution. What they read of other nodes is known as constants.
        newest: whether new nodes may be of ops that the graph's opset does not have yet: these are of the domain
            ``ai.onnx``, in the version `OPSET`.
    """

    def __init__(self, graph: Graph, registry: Registry, known: Inferred, nodes: Iterable[Node], newest: bool):
        self.graph, self.registry, self.known = graph, registry, known
        self.given = list(nodes)
        self.opsets = dict(graph.opset_imports)
        if newest:
            self.opsets.setdefault(ONNX_DOMAIN, OPSET)
        self._kept: dict[Node, None] = {}
        self._producer: dict[str, Node] = {}
        self._renamed: dict[str, str] = {}
        self._reads = Counter(name for node in self.given for name in node.inputs)
        self._pinned = {*graph.output_names, *graph.state_updates.values()}
        self._pinned.update(name for n in self.given for body in n.subgraphs() for name in body.captured())
        self._fixed = set(graph.initializers) - {*graph.input_names, *graph.state_updates}
        self._scope: NameScope | None = None
        self._functions: dict[tuple[str, str], bool] = {}

    @property
    def nodes(self) -> tuple[Node, ...]:
        """What is left, in an order of execution."""
        return tuple(self._kept)

    # ---- what rules ask --------------------------------------------------------------------------------------

    def producer(self, name: str, *op_types: str) -> Node | None:
        """The node that makes a value, if it is of the default domain and, where any are named, one of these ops."""
        node = self._producer.get(name)
        if node is None or node.domain not in ("", ONNX_DOMAIN) or (op_types and node.op_type not in op_types):
            return None
        return node

    def term(self, name: str, is_last: bool) -> Node | None:
        """The node that makes a value which is the last of a formula, or is read by nothing but the formula."""
        return self.producer(name) if is_last or self.reads(name) == 1 else None

    def number(self, name: str) -> float | None:
        """The number that a constant of one element holds."""
        array = self.known.constants.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 and array.dtype.kind in "fiu" else None

    def constant(self, name: str) -> Array | None:
        """The array of a small constant."""
        return self.known.constants.get(name)

    def type(self, name: str) -> TensorType:
        """The type of a tensor; of unknown dtype and rank where nothing is known."""
        t = self.known.types.get(name)
        return t if isinstance(t, TensorType) else TensorType()

    def reads(self, name: str) -> int:
        """How many inputs of nodes a value is; more than any number if it is also read from outside the nodes."""
        return 1 << 30 if name in self._pinned else self._reads[name]

    def is_fixed(self, name: str) -> bool:
        """Whether a value depends on nothing but constants and weights that a run does not update."""
        return not name or name in self._fixed or name in self.known.constants

    def op(self, node: Node) -> Op:
        """The op of a node."""
        return self.registry.find_op(node.op_type, node.domain, self.opsets.get(node.domain))

    def version(self, node: Node) -> int:
        """The version of the op of a node."""
        return self.op(node).version

    def fresh(self, base: str) -> str:
        """A name that no value has."""
        if self._scope is None:
            self._scope = NameScope(self.graph.names())
        return self._scope.fresh(base)

    def make(self, op_type: str, inputs: Sequence[str], of: Node, **attributes: Any) -> Node | None:
        """A node of the newest version of an op of the default domain with the outputs and the name of another one.

        None where the graph does not import that version.
        """
        version = self.registry.find_op(op_type).version
        for domain in ("", ONNX_DOMAIN):
            if self.opsets.get(domain, 0) >= version:
                return Node(op_type, tuple(inputs), of.outputs, attributes, domain, of.name)
        return None

    # ---- the walk --------------------------------------------------------------------------------------------

    def walk(self, aliases: Mapping[str, Alias], rules: Mapping[str, Sequence[Rule]]) -> bool:
        """Visits every node: leaves out what only repeats a value, then applies the first rule that fits.

        Args:
            aliases, rules: by op type of the default domain.

        Returns:
            Whether anything changed.
        """
        seen: dict[Any, Node] = {}
        changed = False
        for given in self.given:
            node = self._with_new_names(given)
            plain = node.domain in ("", ONNX_DOMAIN)
            alias = aliases.get(node.op_type) if plain else None
            if (alias and self._stands_for(node, alias(self, node))) or self._repeats(node, seen):
                changed = True
                continue
            self._add(node)
            while (made := self._first_fit(node, rules)) is not None:
                node, changed = self._replace(node, made), True
        return changed

    def _with_new_names(self, node: Node) -> Node:
        if self._renamed and any(i in self._renamed for i in node.inputs):
            return replace(node, inputs=tuple(self._renamed.get(i, i) for i in node.inputs))
        return node

    def _stands_for(self, node: Node, name: str | None) -> bool:
        """Lets the readers of a node's first output read another value; whether that can be done."""
        if name is None or any(self.reads(o) for o in node.outputs[1:] if o) or node.outputs[0] in self._pinned:
            return False
        self._rename(node, {node.outputs[0]: name})
        return True

    def _repeats(self, node: Node, seen: dict[Any, Node]) -> bool:
        """Whether an earlier node makes the same values; they are then read in the place of this one's."""
        key = _key(node)
        first = node if key is None else seen.setdefault(key, node)
        if first is node or not self._is_function(node) or not self._pinned.isdisjoint(node.outputs):
            return False
        if first not in self._kept or any(bool(a) != bool(b) for a, b in zip(first.outputs, node.outputs, strict=True)):
            seen[key] = node
            return False
        self._rename(node, dict(zip(node.outputs, first.outputs, strict=True)))
        return True

    def _rename(self, node: Node, names: Mapping[str, str]) -> None:
        for old, new in names.items():
            self._renamed[old] = new
            self._reads[new] += self._reads.pop(old, 0)
        self._forget(node)

    def _is_function(self, node: Node) -> bool:
        """Whether equal inputs are known to give equal outputs."""
        key = node.op_type, node.domain
        if key not in self._functions:
            try:
                self._functions[key] = "rng" not in self.op(node).context
            except GraphrtError:  # an unknown op; planning tells
                self._functions[key] = False
        return self._functions[key] and not (node.attributes and any(node.subgraphs()))

    def _add(self, node: Node) -> None:
        self._kept[node] = None
        for o in node.outputs:
            self._producer[o] = node
        if all(map(self.is_fixed, node.inputs)) and self._is_function(node):
            self._fixed.update(node.outputs)

    def _first_fit(self, node: Node, rules: Mapping[str, Sequence[Rule]]) -> Sequence[Node] | None:
        for rule in rules.get(node.op_type, ()) if node.domain in ("", ONNX_DOMAIN) else ():
            made = rule(self, node)
            if made and self._fits(node, made):
                return made
        return None

    def _fits(self, node: Node, made: Sequence[Node]) -> bool:
        """Whether nodes make values of the types that they are to have; notes those of new values."""
        outside = [i for n in made for i in n.inputs]
        about = Inferred(
            {i: self.known.types[i] for i in outside if i in self.known.types},
            {i: self.known.constants[i] for i in outside if i in self.known.constants},
        )
        fragment = Graph(opset_imports=self.opsets, nodes=tuple(made))
        problems: list[Exception] = []
        found = infer(
            fragment, self.registry, outer=about, order=list(range(len(made))),
            on_error=lambda _, error: problems.append(error), fold_floats=False,
        )  # fmt: skip
        if problems or any(found.type(o) != self.known.type(o) for o in node.outputs if o and self.reads(o)):
            return False
        for name in (o for new in made[:-1] for o in new.outputs if o):
            self.known.types[name] = found.type(name)
            if name in found.constants:
                self.known.constants[name] = found.constants[name]
        return True

    def _replace(self, node: Node, made: Sequence[Node]) -> Node:
        for new in made:
            self._reads.update(new.inputs)
        self._forget(node)
        for new in made:
            self._add(new)
        return made[-1]

    def _forget(self, node: Node) -> None:
        """Takes a node out, and those before it that nothing reads any more."""
        self._take_out(node)
        waiting = [node]
        while waiting:
            gone = waiting.pop()
            self._reads.subtract(gone.inputs)
            for name in gone.inputs:
                before = self._producer.get(name)
                if before is not None and not any(self.reads(o) for o in before.outputs if o):
                    self._take_out(before)
                    waiting.append(before)

    def _take_out(self, node: Node) -> None:
        self._kept.pop(node, None)
        for o in node.outputs:
            self._producer.pop(o, None)


def _key(node: Node) -> Any:
    """What two nodes that make the same values agree in; None where that is not to be found out."""
    if not node.attributes:
        return node.op_type, node.domain, node.inputs, len(node.outputs)
    if any(node.subgraphs()):
        return None
    found = []
    for name, value in sorted(node.attributes.items()):
        if isinstance(value, np.ndarray):
            if value.nbytes > _LARGE:
                return None
            value = (value.dtype.str, value.shape, value.tobytes())
        try:
            hash(value)
        except TypeError:
            return None
        found.append((name, type(value), value))
    return node.op_type, node.domain, node.inputs, len(node.outputs), tuple(found)
