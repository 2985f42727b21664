"""Computes values of the forward part again in the backward part, so that they need not be kept for it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from graphrt.definitions import graph_pass
from graphrt.errors import PassError
from graphrt.ir import Graph, NameScope, Node
from graphrt.ir.dag import schedule
from graphrt.ir.rules import rng_key
from graphrt.registry import Registry


@graph_pass("rematerialize")
def rematerialize(graph: Graph, registry: Registry, *, values: Collection[str]) -> Graph:
    """Makes the backward part compute these values for itself.

    The backward part is every derivative node of reverse mode, and what depends on one. In the place of one of
    ``values`` it reads a copy, made by a second node of the same op from the same inputs, or from copies of these where
    they are among ``values`` too. Each such node is listed right before the first one that needs it; so memory for the
    value is free from its last use in the forward part to there. The copies are equal to the bit: a random op draws
    the numbers again that it drew. State updates (running statistics) are taken from the first computation.

    Trading operations for memory this way is Griewank and Walther's checkpointing, for networks in Chen et al. 2016,
    "Training deep nets with sublinear memory cost".

    Args:
        graph: a joint graph of reverse mode, or one of a training step.
        registry: where ops are looked up.
        values: outputs of nodes before the backward part.

    Raises:
        PassError: one of them is something else, or captured by a subgraph, which reads it under its own name.
    """
    nodes = [graph.nodes[i] for i in schedule(graph)]
    late = backward_part(nodes)
    chosen = set(values)
    _check(graph, nodes, late, chosen)
    copier = _Copier(graph, registry, nodes, chosen)
    made = tuple(n for i, node in enumerate(nodes) for n in (copier.with_copies(node) if i in late else (node,)))
    return graph.replace(nodes=made) if copier.copy_of else graph


def backward_part(nodes: Sequence[Node]) -> set[int]:
    """Positions of the derivative nodes of reverse mode, and of all that depend on them.

    Args:
        nodes: in an order of execution.
    """
    late: set[int] = set()
    values: set[str] = set()
    for i, node in enumerate(nodes):
        if ".vjp[" in node.op_type or not values.isdisjoint(node.free_inputs()):
            late.add(i)
            values.update(o for o in node.outputs if o)
    return late


def captured_values(nodes: Iterable[Node]) -> set[str]:
    """What subgraphs of the nodes read from outside."""
    return {name for node in nodes for body in node.subgraphs() for name in body.captured()}


def _check(graph: Graph, nodes: Sequence[Node], late: Collection[int], chosen: set[str]) -> None:
    early = {o for i, n in enumerate(nodes) if i not in late for o in n.outputs}
    for wrong, why in ((chosen - early, "no node before the backward part makes it"),
                       (chosen & captured_values(nodes), "a subgraph reads it")):  # fmt: skip
        if wrong:
            raise PassError(f"rematerialize: {sorted(wrong)[0]!r} of graph {graph.name!r} cannot be made again: {why}")


class _Copier:
    """Makes the second nodes.

    Attributes:
        copy_of: value to its copy.
    """

    def __init__(self, graph: Graph, registry: Registry, nodes: Sequence[Node], chosen: set[str]):
        self.graph, self.registry, self.nodes, self.chosen = graph, registry, nodes, chosen
        self.copy_of: dict[str, str] = {}
        self._maker = {o: i for i, n in enumerate(nodes) for o in n.outputs if o in chosen}
        self._scope = NameScope(graph.names())

    def with_copies(self, node: Node) -> Iterator[Node]:
        """The nodes that make the copies that the node is the first to need, then the node, reading copies."""
        for i in sorted(self._missing(node)):
            yield self._again(self.nodes[i])
        yield self._reading_copies(node)

    def _missing(self, node: Node) -> set[int]:
        """Positions of the nodes that have to run again for the node."""
        found: set[int] = set()
        waiting = [node]
        while waiting:
            for name in waiting.pop().inputs:
                maker = self._maker.get(name)
                if maker is not None and name not in self.copy_of and maker not in found:
                    found.add(maker)
                    waiting.append(self.nodes[maker])
        return found

    def _again(self, node: Node) -> Node:
        copies = {o: self._scope.fresh(f"{o}.again") for o in node.outputs if o}
        attributes = dict(node.attributes)
        if "rng" in self.registry.op_of(node, self.graph).context or any(node.subgraphs()):
            attributes["rng_key"] = rng_key(node)
        outputs = tuple(copies.get(o, "") for o in node.outputs)
        made = replace(self._reading_copies(node), outputs=outputs, attributes=attributes)
        self.copy_of.update((o, c) for o, c in copies.items() if o in self.chosen)
        return made

    def _reading_copies(self, node: Node) -> Node:
        inputs = tuple(self.copy_of.get(i, i) for i in node.inputs)
        return node if inputs == node.inputs else replace(node, inputs=inputs)
