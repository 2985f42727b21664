"""Updates of small parameters as one node: there the calls are what costs, and a network has many biases and scales.

A group becomes a node ``graphrt::FusedUpdates`` of a plan (`graphrt.runtime.fusion`). Its members are updates by one
optimizer with the same settings, learning rate and step, of parameters of one float type; it runs where the last of
them stands. Where the memory of its parameters, and that of each of their states, is in one piece (as a session that
overwrites its weights has it), a kernel updates all of them as one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from graphrt.definitions import OPTIMIZER_DOMAIN
from graphrt.inference import Inferred
from graphrt.ir import Graph, Node, Value
from graphrt.records import dataclass, field
from graphrt.registry import Registry
from graphrt.runtime.fusion import Group
from graphrt.types import TensorType

STATES = {"SGD": ("m",), "Adam": ("m", "v", "v_max"), "AdamW": ("m", "v", "v_max")}
"""The optimizers that update each element by itself, and the names of their states, which follow ``w, g, learning_rate,
step`` in their inputs and ``w`` in their outputs."""

FEWEST, LARGEST, MOST = 6, 2_048, 10_000
"""How many parameters a group has at least, so that it saves something; how many elements each of them has at most, and
all of them together."""


def fuse_updates(nodes: list[Node], graph: Graph, known: Inferred, registry: Registry) -> list[Node]:
    """The nodes with groups of updates; each runs where its last member stands."""
    read = {i for n in nodes for i in n.free_inputs()}.union(graph.output_names)
    groups: dict[object, _Group] = {}
    finished: list[_Group] = []
    for position, node in enumerate(nodes):
        found = _member(node, known) if read.isdisjoint(node.outputs) else None
        if found is None:
            continue
        key, size = found
        group = groups.setdefault(key, _Group())
        if group.size + size > MOST or node.inputs[1] in group.gradients:
            finished.append(group)
            group = groups[key] = _Group()
        group.members.append(position)
        group.gradients.add(node.inputs[1])
        group.size += size
    made = [g.members for g in (*finished, *groups.values()) if len(g.members) >= FEWEST]
    if not made:
        return nodes
    at = {members[-1]: members for members in made}
    inside = {i for members in made for i in members}
    return [
        _node([nodes[i] for i in at[p]], graph, known, registry) if p in at else node
        for p, node in enumerate(nodes)
        if p in at or p not in inside
    ]


@dataclass(slots=True)
class _Group:
    """Positions of the members, their gradients, and how many elements they have."""

    members: list[int] = field(default_factory=list)
    gradients: set[str] = field(default_factory=set)
    size: int = 0


def _member(node: Node, known: Inferred) -> tuple[object, int] | None:
    """What members of one group have in common, and the number of elements; None for what is in no group."""
    if node.domain != OPTIMIZER_DOMAIN or node.op_type not in STATES or len(node.inputs) < 4:
        return None
    w, g, *numbers = node.inputs
    states = numbers[2:]
    t = known.type(w)
    if not isinstance(t, TensorType) or not t.is_static or t.dtype not in ("float32", "float64"):
        return None
    size = math.prod(t.shape or ())  # type: ignore[arg-type]
    wanted = tuple(map(bool, node.outputs))
    if size > LARGEST or len({w, g, *filter(None, states)}) < 2 + sum(map(bool, states)):
        return None
    if any(known.type(x) != t for x in (g, *states) if x) or wanted[1 : 1 + len(states)] != tuple(map(bool, states)):
        return None
    return (node.op_type, t.dtype, *numbers[:2], tuple(map(bool, states)), tuple(sorted(node.attributes.items()))), size


def _node(nodes: list[Node], graph: Graph, known: Inferred, registry: Registry) -> Node:
    """The node: inputs are all parameters, all gradients, learning rate, step, then all of the first state, and so on;
    outputs all new parameters, all of the new first state, and so on."""
    rate, step = nodes[0].inputs[2:4]
    inputs = tuple(filter(None, (*_each(nodes, (0, 1)), rate, step, *_each(nodes, range(4, len(nodes[0].inputs))))))
    outputs = tuple(filter(None, (o for row in zip(*(n.outputs for n in nodes), strict=True) for o in row)))
    read, made = ([Value(name, known.type(name)) for name in names] for names in (inputs, outputs))
    defaults = registry.op_of(nodes[0], graph).defaults()
    members = [Node(n.op_type, n.inputs, n.outputs, {**defaults, **n.attributes}, n.domain, n.name) for n in nodes]
    body = Graph("updates", graph.opset_imports, tuple(read), tuple(made), tuple(members))
    return Group(
        "FusedUpdates", inputs, outputs, {"body": body}, "graphrt", f"{nodes[0].label} and {len(nodes) - 1} more"
    )


def _each(nodes: list[Node], positions: Iterable[int]) -> Iterator[str]:
    return (n.inputs[i] for i in positions for n in nodes)
