"""Groups of nodes that make single numbers, as one node: there the calls are what costs, not the memory.

A group becomes a node ``graphrt::FusedScalars`` of a plan (`graphrt.runtime.fusion`). It is whatever such nodes come
one after the other before something else reads from them, connected or not, and runs where the last of them stands.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphrt.inference import Inferred
from graphrt.ir import Graph, Node
from graphrt.registry import ONNX_DOMAIN, Registry
from graphrt.runtime.formulas import FILLS, OPERANDS
from graphrt.runtime.formulas import OPS as FORMULAS
from graphrt.runtime.fusion import group_of, is_elementwise, is_scalar

FEWEST, MOST = 4, 8192
"""How many nodes a group has: so many that it saves something, so few that its code is no burden."""


def fuse_scalars(
    nodes: list[Node], graph: Graph, known: Inferred, registry: Registry, kept: Iterable[str]
) -> list[Node]:
    """The nodes with groups of single numbers; each runs where its last member stands."""
    groups: list[list[int]] = [[]]
    made: set[str] = set()  # by the last group
    for position, node in enumerate(nodes):
        if node.op_type in FORMULAS and _makes_scalar(node, graph, known, registry):
            if len(groups[-1]) == MOST:
                groups.append([])
                made = set()
            groups[-1].append(position)
            made.add(node.outputs[0])
        elif made and not made.isdisjoint(node.free_inputs()):
            groups.append([])
            made = set()
    groups = [g for g in groups if len(g) >= FEWEST]
    if not groups:
        return nodes
    at = {group[-1]: group for group in groups}
    inside = {position for group in groups for position in group}
    needed, result = set(kept), list[Node]()
    for position in reversed(range(len(nodes))):
        if position in at or position not in inside:
            node = nodes[position]
            if position in at:
                members = [_without_likes(nodes[i]) for i in at[position]]
                node = group_of("FusedScalars", members, graph, known, needed)
            needed.update(node.free_inputs())
            result.append(node)
    return result[::-1]


def _makes_scalar(node: Node, graph: Graph, known: Inferred, registry: Registry) -> bool:
    """Whether a node of a type that has a formula makes a single number from single numbers."""
    if len(node.outputs) != 1 or not is_scalar(known.type(node.outputs[0])):
        return False
    if not all(is_scalar(known.type(i)) for i in node.inputs if i):
        return False
    if node.op_type in FILLS:
        return node.domain == "graphrt"
    return node.domain in ("", ONNX_DOMAIN) and is_elementwise(node, graph, registry)


def _without_likes(node: Node) -> Node:
    """A member of a group of single numbers, with its first input for those that its formula does not read."""
    count = OPERANDS.get(node.op_type, len(node.inputs))
    if not 0 < count < len(node.inputs):
        return node
    read = (*node.inputs[:count], *(i and node.inputs[0] for i in node.inputs[count:]))
    return Node(node.op_type, read, node.outputs, node.attributes, node.domain, node.name)
