"""Which parameters would get gradients, and what stands in the way of the others."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from graphrt.errors import GraphError, GraphrtError, UnknownOpError
from graphrt.inference import Inferred
from graphrt.ir import Graph, Node, format_node
from graphrt.ir.dag import needed_for, schedule
from graphrt.passes.mode import MODES, set_mode
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.types import TensorType, dtype_name, is_differentiable


@dataclass(frozen=True, slots=True)
class Blocked:
    """A float initializer that no gradient reaches, and why: the first obstacles on its ways to the outputs."""

    name: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trainability:
    """What a training run would meet.

    Attributes:
        trainable: parameters that receive a gradient from some float output.
        elements: number of their elements.
        blocked: float parameters that receive none.
        state: running statistics (targets of state updates), never trained.
        missing_rules: inputs without a derivative rule on a gradient's way: differentiation stops at them with an
            error, even where another way is open.
        modes: ops that behave differently in training and in inference, and which of the two this file says.
    """

    trainable: tuple[str, ...]
    elements: int
    blocked: tuple[Blocked, ...]
    state: tuple[str, ...]
    missing_rules: tuple[str, ...] = ()
    modes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"trainable: {len(self.trainable)} parameters, {self.elements:,} elements"]
        if self.state:
            lines.append(f"running statistics, updated and not trained: {', '.join(self.state)}")
        for b in self.blocked:
            lines.append(f"no gradient reaches {b.name!r}:")
            lines += [f"    {r}" for r in b.reasons]
        if self.missing_rules:
            lines.append("no derivative rule; give the op one, or train only what comes after it:")
            lines += [f"    {m}" for m in self.missing_rules]
        lines += self.modes
        return "\n".join(lines)


def trainable_parameters(graph: Graph, registry: Registry) -> tuple[str, ...]:
    """The float initializers that training would change.

    Left out are running statistics (what a training-mode graph updates by itself), defaults of inputs, and
    what only feeds inputs that are never differentiated (the scales of a ``Resize``, say).
    """
    fixed = {*graph.state_updates, *set_mode(graph, registry, mode="train").state_updates, *graph.input_names}
    floats = [k for k, a in graph.initializers.items() if k not in fixed and is_differentiable(dtype_name(a.dtype))]
    used = {name for node in graph.nodes for name in _differentiated(node, graph, registry)} | set(graph.output_names)
    return tuple(k for k in floats if k in used)


def _differentiated(node: Node, graph: Graph, registry: Registry) -> tuple[str, ...]:
    """The values that a node reads through inputs that have derivatives; all, where the op is not known."""
    try:
        found = registry.op_of(node, graph)
        bound = found.bind(node.inputs, node.attributes.get("segments"))
    except GraphrtError:
        return node.free_inputs()
    fixed = {v for k, v in bound.items() if k in found.nondiff and isinstance(v, str)}
    return tuple(v for v in node.free_inputs() if v not in fixed)


def trainability(graph: Graph, registry: Registry, known: Inferred) -> Trainability:
    """Follows gradients from the float outputs back to the initializers.

    Args:
        graph: acyclic; nodes of unknown ops count as obstacles.
        registry: where the rules are looked up.
        known: the graph's value types.
    """
    edges = _Edges(graph, registry, known)
    useful = edges.useful()
    statistics = set_mode(graph, registry, mode="train").state_updates
    outer = {*graph.state_updates, *statistics, *graph.input_names}
    floats = [k for k, a in graph.initializers.items() if is_differentiable(dtype_name(a.dtype))]
    parameters = [k for k in floats if k not in outer]
    good = tuple(k for k in parameters if k in useful)
    blocked = tuple(Blocked(k, edges.obstacles(k, useful)) for k in parameters if k not in useful)
    elements = sum(graph.initializers[k].size for k in good)
    missing = edges.missing_rules(set(parameters))
    return Trainability(good, elements, blocked, tuple(statistics), missing, tuple(_modes(graph, registry)))


def _modes(graph: Graph, registry: Registry) -> Iterator[str]:
    """A line for each op type with two modes: how many nodes are in which."""
    forms: Counter[tuple[str, str]] = Counter()
    for node in graph.nodes:
        if not _is_two_fold(node.op_type, node.domain, registry):
            continue
        single = graph.replace(nodes=(node,), outputs=(), initializers={}, state_updates={})
        made = {mode: set_mode(single, registry, mode=mode) for mode in MODES}
        if made["train"] is not single or made["infer"] is not single:
            form = "inference" if made["infer"] is single else "training"
            forms[node.qualified_op, form] += 1
    for (op_type, form), count in sorted(forms.items()):
        other = "Trainer and Session(mode='train') switch" if form == "inference" else "Session(mode='infer') switches"
        yield f"{count} {op_type} in {form} form; {other} {'it' if count == 1 else 'them'}"


def _is_two_fold(op_type: str, domain: str, registry: Registry) -> bool:
    """Whether some version of an op differs between training and inference."""
    try:
        return any(o.mode_rule is not None for o in registry.versions(op_type, domain))
    except UnknownOpError:
        return False


class _Edges:
    """For each node input: whether a gradient passes, or why not."""

    def __init__(self, graph: Graph, registry: Registry, known: Inferred):
        self.graph, self.registry, self.known = graph, registry, known
        self.users: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.free_inputs():
                self.users.setdefault(name, []).append(node)

    def obstacle(self, node: Node, value: str) -> str | None:
        """Why no gradient passes from a node's outputs to this input; None when one does."""
        if not any(o and self._is_float(o) for o in node.outputs):
            return f"its outputs are not floats: cast later, or train with a smooth stand-in: {format_node(node)}"
        if value not in node.inputs:
            return None  # captured by a subgraph
        try:
            found = self.registry.op_of(node, self.graph)
            bound = found.bind(node.inputs, node.attributes.get("segments"))
        except (GraphrtError, GraphError) as e:
            return f"{e}: {format_node(node)}"
        names = [k for k, v in bound.items() if v == value or (isinstance(v, tuple) and value in v)]
        if all(k in found.nondiff for k in names):
            return f"input {names[0]!r} of {found.qualified_name} is never differentiated: {format_node(node)}"
        if not any(found.is_differentiable(k) for k in names):
            plugin = self.registry.plugin_of("ops", found)
            return f"{found.qualified_name} (plug-in {plugin}) has no rule for input {names[0]!r}: {format_node(node)}"
        return None

    def missing_rules(self, sources: set[str]) -> tuple[str, ...]:
        """The node inputs on ways from the sources to float outputs that have neither rule nor ``nondiff``."""
        live = set(sources)
        for i in schedule(self.graph):
            node = self.graph.nodes[i]
            if any(v in live for v in node.free_inputs()):
                live.update(o for o in node.outputs if o and self._is_float(o))
        needed = needed_for(self.graph, [o for o in self.graph.output_names if self._is_float(o)])
        nodes = [self.graph.nodes[i] for i in sorted(needed)]
        found = (self.obstacle(node, v) for node in nodes for v in node.inputs if v in live)
        return tuple(dict.fromkeys(f for f in found if f and " has no rule for " in f))

    def useful(self) -> set[str]:
        """Values from which a gradient path leads to a float output."""
        producers = self.graph.producers()
        useful = {o for o in self.graph.output_names if self._is_float(o)}
        waiting = deque(useful)
        while waiting:
            node = producers.get(waiting.popleft())
            if node is None:
                continue
            for name in node.free_inputs():
                if name not in useful and self._is_float(name) and self.obstacle(node, name) is None:
                    useful.add(name)
                    waiting.append(name)
        return useful

    def obstacles(self, start: str, useful: set[str], most: int = 3) -> tuple[str, ...]:
        """The first things that stop a gradient on its way from the outputs to ``start``."""
        seen, waiting, found = {start}, deque([start]), list[str]()
        if not self.users.get(start):
            return ("nothing uses it",)
        while waiting and len(found) < most:
            value = waiting.popleft()
            for node in self.users.get(value, ()):
                reason = self.obstacle(node, value)
                if reason is not None:
                    found.append(reason)
                    continue
                for output in node.outputs:
                    if output and output not in seen:
                        seen.add(output)
                        waiting.append(output)
        return tuple(found[:most]) or ("no output depends on it",)

    def _is_float(self, name: str) -> bool:
        t = self.known.type(name)
        return not isinstance(t, TensorType) or is_differentiable(t.dtype)
