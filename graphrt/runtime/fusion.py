"""Chains of elementwise nodes as one node, found when a plan is made; a graph that is saved never holds one.

A chain of large arrays takes as many passes through memory as it has nodes. Here groups of such nodes become nodes
``graphrt::Fused``, whose kernels take one pass. A group is connected, and everything in it has one shape and one float
type; operands may be smaller ones that broadcast. It runs where its last node stands, so nothing outside reads from it
before that.

Nodes that make single numbers are grouped by `graphrt.runtime.scalar_groups`, updates of small parameters by
`graphrt.runtime.update_groups`, copies in another order by `graphrt.runtime.rearrangements`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence

from graphrt.definitions import OPTIMIZER_DOMAIN
from graphrt.inference import Inferred
from graphrt.ir import Graph, Node, Value
from graphrt.records import dataclass, field
from graphrt.registry import ONNX_DOMAIN, Registry
from graphrt.runtime.memory import nbytes_of
from graphrt.types import TensorType, ValueType

LEAST = 1 << 16
"""Bytes that a group's values have each, at least: what smaller ones cost is the call, not the memory."""

MOST = 24
"""How many nodes a group has at most: its kernel keeps all their values at hand."""

_UNARY = {
    "Abs": "x", "Erf": "input", "Exp": "input", "Gelu": "x", "HardSigmoid": "x", "HardSwish": "x", "LeakyRelu": "x",
    "Log": "input", "Neg": "x", "Reciprocal": "x", "Relu": "x", "Sigmoid": "x", "Softplus": "x", "Sqrt": "x",
    "Swish": "x", "Tanh": "input",
}  # fmt: skip
"""Op to the name of its input."""

MEMBERS = frozenset(
    {"Add", "Sub", "Mul", "Div", "Sum", "Max", "Min", "Clip", "Clip.vjp[input]", "Sub.vjp[b]", "Div.vjp[a]"}
    | {"Div.vjp[b]", "Mul.vjp[a]", "Mul.vjp[b]", "Mul.jvp[a]", "Mul.jvp[b]", "Mul.jvp[a,b]", "Add.jvp[a,b]"}
    | {"Sub.jvp[a,b]", *_UNARY, *(f"{op}.{mode}[{x}]" for op, x in _UNARY.items() for mode in ("vjp", "jvp"))}
)
"""What a group is made of: elementwise ops of the default domain and their rules."""

ALIASES = frozenset({"Add.vjp[a]", "Add.vjp[b]", "Sub.vjp[a]", "Identity"})
"""What passes its first input on, if that has the type of the output."""

_CANDIDATES = MEMBERS | ALIASES


class Group(Node):
    """A node in the place of the nodes of its attribute ``body``, which name the same values as the graph."""

    __slots__ = ()

    def free_inputs(self) -> tuple[str, ...]:
        """Its inputs: the body captures nothing."""
        return self.inputs


def fuse(nodes: Sequence[Node], graph: Graph, known: Inferred, registry: Registry, kept: Iterable[str]) -> list[Node]:
    """The nodes, in an order of execution, with groups in the place of their members.

    Args:
        nodes: in an order of execution.
        graph: whose they are.
        known: the types of the values.
        registry: tells the ops; there are no groups of a kind that no kernel in it serves.
        kept: the values that are needed when all has run.
    """
    made, kept = list(nodes), set(kept)
    if any(is_scalar(known.type(n.outputs[0])) for n in nodes if n.outputs):
        from graphrt.runtime.scalar_groups import fuse_scalars  # few graphs have single numbers

        made = fuse_scalars(made, graph, known, registry, kept)
    if any(n.domain == OPTIMIZER_DOMAIN for n in nodes) and registry.kernels_for("FusedUpdates", "graphrt"):
        from graphrt.runtime.update_groups import fuse_updates  # in training alone

        made = fuse_updates(made, graph, known, registry)
    if registry.kernels_for("Fused", "graphrt"):
        finder = _Finder(graph, known, registry)
        for position, node in enumerate(made):
            finder.add(position, node)
        made = finder.result(made, set(kept))
        if any(n.op_type.startswith("Transpose") for n in made):
            from graphrt.runtime.rearrangements import fuse_rearrangements  # few graphs have any

            made = fuse_rearrangements(made, graph, known, kept)
    return made


def is_scalar(t: ValueType | None) -> bool:
    """Whether a type is that of a single float64 number."""
    return isinstance(t, TensorType) and t.shape == () and t.dtype == "float64"


@dataclass(eq=False, slots=True)
class _Group:
    """What its members make, by position; the last position is where the group runs."""

    type: TensorType
    members: dict[int, str]
    is_open: bool = True

    @property
    def position(self) -> int:
        """Where it runs."""
        return max(self.members)


@dataclass(slots=True)
class _Finder:
    graph: Graph
    known: Inferred
    registry: Registry
    groups: dict[str, _Group] = field(default_factory=dict)  # the value that a member makes to its group
    source: dict[str, str] = field(default_factory=dict)  # the value that an alias makes to what it passes on
    aliases: dict[int, str] = field(default_factory=dict)  # position to that

    def add(self, position: int, node: Node) -> None:
        """Takes the next node into a group; the groups that it reads from without joining them end."""
        made = self._made(node)
        if made is not None and node.op_type in ALIASES:
            first = self._source(node.inputs[0])
            if first in self.groups:
                self.source[node.outputs[0]] = self.aliases[position] = first
            return
        read = {self._source(name) for name in node.free_inputs()} if self.groups else set()
        before = {id(g): g for g in map(self.groups.get, read) if g is not None and g.is_open}.values()
        if made is None:
            for group in before:
                group.is_open = False
            return
        own = self.groups[node.outputs[0]] = _Group(made, {position: node.outputs[0]})
        for group in before:
            if group.type == made and len(own.members) + len(group.members) <= MOST:
                own.members.update(group.members)
                self.groups.update(dict.fromkeys(group.members.values(), own))
            else:
                group.is_open = False

    def _source(self, name: str) -> str:
        return self.source.get(name, name)

    def _made(self, node: Node) -> TensorType | None:
        """The type of what a node makes, if it can be in a group."""
        if node.op_type not in _CANDIDATES or node.domain not in ("", ONNX_DOMAIN) or len(node.outputs) != 1:
            return None
        made = self.known.type(node.outputs[0])
        if not isinstance(made, TensorType) or not _is_large(made):
            return None
        if not is_elementwise(node, self.graph, self.registry):
            return None
        base, dot, _ = node.op_type.partition(".")
        types = [self.known.type(i) if i else None for i in node.inputs]
        likes = self._likes(node) if dot else set()
        same = {*likes, 0} if likes or node.op_type in ALIASES else set()
        for i, t in enumerate(types):
            if not (t == made if i in same else base == "Clip" if t is None else broadcasts(t, made)):
                return None
        return made

    def _likes(self, node: Node) -> set[int]:
        """Which inputs of a rule are there for their type alone."""
        names = [p.name for p in self.registry.op_of(node, self.graph).inputs]
        return {i for i, name in zip(range(len(node.inputs)), names, strict=False) if name.endswith("_like")}

    def result(self, nodes: Sequence[Node], needed: set[str]) -> list[Node]:
        """The nodes with the groups among them; aliases that only members read are left out."""
        fused = {id(g): g for g in self.groups.values() if len(g.members) > 1}
        if not fused:
            return list(nodes)
        member = {p for g in fused.values() for p in g.members}
        at: dict[int, _Group] = {g.position: g for g in fused.values()}
        order = sorted((self._place(p), p in self.aliases, p) for p in range(len(nodes)) if p not in member or p in at)
        made: list[Node] = []
        for _, is_alias, p in reversed(order):
            if is_alias and nodes[p].outputs[0] not in needed:
                continue
            node = nodes[p]
            if p in at:
                members = [self._inner(nodes[m]) for m in sorted(at[p].members)]
                node = group_of("Fused", members, self.graph, self.known, needed)
            needed.update(node.free_inputs())
            made.append(node)
        return made[::-1]

    def _place(self, position: int) -> int:
        """Where a node runs: what passes on a group's value not before the group."""
        source = self.aliases.get(position)
        return position if source is None else max(position, self.groups[source].position)

    def _inner(self, node: Node) -> Node:
        """A member as its group's body has it: past the aliases, and with its first input for those of its type."""
        read = [self._source(i) for i in node.inputs]
        for i in self._likes(node) if "." in node.op_type else ():
            read[i] = read[0]
        return Node(node.op_type, tuple(read), node.outputs, node.attributes, node.domain, node.name)


def is_elementwise(node: Node, graph: Graph, registry: Registry) -> bool:
    """Whether a node's op works element by element; older versions of some broadcast in ways of their own."""
    base = node.op_type.partition(".")[0]
    return base == "Identity" or registry.find_op(base, node.domain, graph.opset_imports.get(node.domain)).elementwise


def group_of(op_type: str, nodes: Sequence[Node], graph: Graph, known: Inferred, needed: Container[str]) -> Group:
    """The node for a group of nodes, in their order."""
    inside = {n.outputs[0] for n in nodes}
    inputs = tuple(dict.fromkeys(i for n in nodes for i in n.inputs if i and i not in inside))
    outputs = tuple(n.outputs[0] for n in nodes if n.outputs[0] in needed)
    read, made = ([Value(name, known.type(name)) for name in names] for names in (inputs, outputs))
    body = Graph("fused", graph.opset_imports, tuple(read), tuple(made), tuple(nodes))
    return Group(op_type, inputs, outputs, {"body": body}, "graphrt")


def _is_large(t: TensorType) -> bool:
    return t.is_static and t.dtype in ("float32", "float64") and nbytes_of(t) >= LEAST


def broadcasts(t: ValueType, made: TensorType) -> bool:
    """Whether an operand is of the type of the result, or a smaller one of its dtype that broadcasts to it."""
    if t == made:
        return True
    if not isinstance(t, TensorType) or t.dtype != made.dtype or t.shape is None or made.shape is None:
        return False
    lead = len(made.shape) - len(t.shape)
    return lead >= 0 and all(n in (1, m) for n, m in zip(t.shape, made.shape[lead:], strict=True))
