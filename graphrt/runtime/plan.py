"""Makes a `Plan`: what the interpreter does for one graph and one signature of inputs, decided once."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from graphrt.autodiff.rules import RULE_ONLY, captured_by, rng_key
from graphrt.definitions import KernelSite
from graphrt.errors import GraphError, UnknownOpError
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, Node, format_neighborhood
from graphrt.ir.dag import dependency_graph, needed_for, schedule
from graphrt.op import Array, Op
from graphrt.registry import Registry
from graphrt.runtime.bodies import Body, body_caller
from graphrt.runtime.interpreter import ABSENT, CONTEXT_SLOT, Plan, RunContext, Step
from graphrt.types import UNKNOWN, TensorType, ValueType


def make_plan(
    graph: Graph,
    registry: Registry,
    *,
    inputs: Mapping[str, ValueType] | None = None,
    captured: Sequence[str] = (),
    outer: Inferred | None = None,
) -> Plan:
    """Plans a graph for inputs of given types.

    Nodes that nothing needs are left out; values that only depend on constants and known shapes are
    computed now. Initializers of float type may change between runs (training) and are not folded.

    Args:
        graph: what to run.
        registry: where ops and kernels are looked up.
        inputs: types of the inputs as they will be fed.
        captured: outer values a subgraph reads; they are fed like inputs.
        outer: what is known of those.

    Raises:
        GraphError, UnknownOpError, TypeInferenceError: the graph cannot run.
    """
    dag = dependency_graph(graph)
    order = schedule(graph, dag)
    known = infer(graph, registry, inputs=inputs, outer=outer, order=order, fold_floats=False, trust_declared=False)
    targets = [*graph.output_names, *graph.state_updates.values()]
    folded = {i for i in order if _is_folded(graph.nodes[i], known)}
    dag.remove_edges_from([(a, b) for b in folded for a in list(dag.predecessors(b))])
    wanted = needed_for(graph, targets, dag)
    run = [i for i in order if i in wanted and i not in folded]
    return _Planner(graph, registry, known).plan([graph.nodes[i] for i in run], targets, captured)


def _is_folded(node: Node, known: Inferred) -> bool:
    return bool(node.outputs) and all(o in known.constants for o in node.outputs if o)


class _Planner:
    def __init__(self, graph: Graph, registry: Registry, known: Inferred):
        self.graph, self.registry, self.known = graph, registry, known
        self.slots: list[Any] = [None, None]
        self.slot_of: dict[str, int] = {}
        self.kernels = _kernels_by_op(registry)

    def slot(self, name: str) -> int:
        """The slot of a value, made on first use; a folded constant is put in place."""
        if not name:
            return ABSENT
        if name not in self.slot_of:
            self.slot_of[name] = len(self.slots)
            self.slots.append(self.known.constants.get(name))
        return self.slot_of[name]

    def plan(self, nodes: list[Node], targets: Iterable[str], captured: Sequence[str]) -> Plan:
        graph = self.graph
        leaves = {*graph.input_names, *graph.initializers, *captured}
        last_use = {name: i for i, n in enumerate(nodes) for name in n.free_inputs()}
        produced_by = {o: i for i, n in enumerate(nodes) for o in n.outputs if o}
        last_use.update((name, max(last_use.get(name, i), i)) for name, i in produced_by.items())
        kept = set(targets)
        dying: dict[int, list[str]] = {}
        for name, i in last_use.items():
            if name not in kept and name not in leaves and name in produced_by:
                dying.setdefault(i, []).append(name)
        self._check_defined(nodes, leaves | set(produced_by))
        steps = [self._step(n, dying.get(i, ())) for i, n in enumerate(nodes)]
        fetches = {o: self.slot(o) for o in graph.output_names}
        updates = {k: self.slot(v) for k, v in graph.state_updates.items()}
        feeds = {n: s for n, s in self.slot_of.items() if n in leaves and self.slots[s] is None}
        return Plan(graph, steps, self.slots, feeds, fetches, updates, self.known)

    def _check_defined(self, nodes: Sequence[Node], defined: set[str]) -> None:
        for node in nodes:
            for name in node.free_inputs():
                if name not in defined and name not in self.known.constants:
                    raise GraphError(
                        f"node {node.label!r} reads {name!r}, which nothing produces; name an existing value "
                        f"or add the node that makes it:\n{format_neighborhood(self.graph, node)}"
                    )
        for name in (*self.graph.output_names, *self.graph.state_updates.values()):
            if name not in defined and name not in self.known.constants:
                raise GraphError(f"the output {name!r} of graph {self.graph.name!r} is produced by nothing")

    def _step(self, node: Node, dying: Iterable[str]) -> Step:
        try:
            found = self.registry.op_of(node, self.graph)
        except UnknownOpError as e:
            raise UnknownOpError(f"{e}\nat node {node.label!r}:\n{format_neighborhood(self.graph, node)}") from None
        if len(node.outputs) > len(found.outputs) and not found.variadic_output:
            raise GraphError(
                f"names {len(node.outputs)} outputs; {found.signature} has {len(found.outputs)}\n"
                f"at node {node.label!r}:\n{format_neighborhood(self.graph, node)}"
            )
        call, inputs = self._call(found, node)
        outputs = tuple(self.slot(o) if o else -1 for o in node.outputs)
        single = outputs[0] if outputs and not found.many_outputs else -1
        release = tuple(self.slot(name) for name in dying)
        zeros = tuple(self._static(o) for o in node.outputs) if "." in node.op_type else ()
        return Step(call, inputs, single, outputs if single < 0 else (), release, node, zeros)

    def _static(self, name: str) -> TensorType | None:
        t = self.known.types.get(name)
        return t if isinstance(t, TensorType) and t.is_static else None

    def _call(self, found: Op, node: Node) -> tuple[Callable[..., Any], tuple[int, ...]]:
        """The function of a node with its attributes bound, and the slots it takes."""
        inputs = tuple(self.slot(i) for i in node.inputs)
        defaults = found.defaults() if "." in found.op_type else {}  # a rule has no defaults of its own
        attributes: dict[str, Any] = {**defaults, **{k: v for k, v in node.attributes.items() if k not in RULE_ONLY}}
        supplied = {"n_outputs": len(node.outputs), "opset": self.graph.opset_imports.get(node.domain, 0)}
        attributes.update((c, supplied[c]) for c in found.context if c in supplied and c not in attributes)
        made = self._kernel(found, node, attributes)
        if made is not None:
            return made, inputs
        function = found.function
        if any(node.subgraphs()):
            return self._with_bodies(function, node, attributes, inputs)
        call = partial(function, **attributes) if attributes else function
        if found.grouped:
            call = _grouping(call, found, len(inputs), node.attributes.get("segments"))
        if "rng" in found.context:
            return _drawing(call, _draw_key(node)), (CONTEXT_SLOT, *inputs)
        return call, inputs

    def _kernel(self, found: Op, node: Node, attributes: Mapping[str, Any]) -> Callable[..., Any] | None:
        """What the kernel with the highest priority makes of the node; None when none serves it."""
        candidates = self.kernels.get((found.domain, found.op_type))
        if not candidates:
            return None
        types = [self.known.types.get(i, UNKNOWN) if i else None for i in node.inputs]
        bound = found.bind(types, node.attributes.get("segments"))
        outputs = tuple(self.known.types.get(o, UNKNOWN) for o in node.outputs)
        site = KernelSite(node, bound, {**found.defaults(), **attributes}, outputs)
        for kernel in candidates:
            made: Callable[..., Any] | None = kernel.make(site)
            if made is not None:
                return made
        return None

    def _with_bodies(
        self, function: Callable[..., Any], node: Node, attributes: dict[str, Any], inputs: tuple[int, ...]
    ) -> tuple[Callable[..., Any], tuple[int, ...]]:
        """For ops with subgraphs: each body becomes a function of its inputs, closed over what it captures.

        The rules of such an op (``Loop.vjp[*]``, ``Loop.jvp[*]``) are called with their two groups of arguments
        as tuples, and also exchange the cotangents or tangents of captured values with the bodies.
        """
        captured = captured_by(node)
        segments: Any = node.attributes.get("segments")

        def body(graph: Graph) -> Body:
            opsets = dict(self.graph.opset_imports) | dict(graph.opset_imports)
            return Body(graph.replace(opset_imports=opsets), captured, self.registry, self.known, make_plan)

        bodies: dict[str, Any] = {}
        for key, value in attributes.items():
            if isinstance(value, Graph):
                bodies[key] = body(value)
            elif isinstance(value, tuple) and any(isinstance(v, Graph) for v in value):
                bodies[key] = tuple(body(v) for v in value)
        plain = {k: v for k, v in attributes.items() if k not in bodies}
        call = body_caller(function, node.op_type, bodies, plain, captured, len(inputs), segments)
        return _within(call, _draw_key(node)), (CONTEXT_SLOT, *inputs, *(self.slot(c) for c in captured))


def _kernels_by_op(registry: Registry) -> dict[tuple[str, str], list[Any]]:
    found: dict[tuple[str, str], list[Any]] = {}
    for kernel in registry.table("kernels").values():
        found.setdefault((kernel.domain, kernel.op_type), []).append(kernel)
    for kernels in found.values():
        kernels.sort(key=lambda k: -k.priority)
    return found


def _draw_key(node: Node) -> int:
    return zlib.crc32(rng_key(node).encode(errors="surrogatepass"))


def _within(call: Callable[..., Any], key: int) -> Callable[..., Any]:
    """The call of a node with subgraphs, whose random ops draw apart from those of other nodes' subgraphs."""
    return lambda context, *arrays: call(context.within(key), *arrays)


def _drawing(call: Callable[..., Any], key: int) -> Callable[..., Any]:
    """A random op's call: takes the context first, and draws from a generator keyed by the node."""

    def draw(context: RunContext, *arrays: Array) -> Any:
        return call(*arrays, rng=context.generator(key))

    return draw


def _grouping(call: Callable[..., Any], found: Op, count: int, segments: Any) -> Callable[..., Any]:
    """A rule's call: gathers the node's flat inputs into the tuples that variadic parameters take."""
    positions = found.bind(range(count), segments)
    spans = [(p.variadic, positions[p.name]) for p in found.inputs]

    def grouped(*arrays: Array) -> Any:
        return call(
            *(tuple(arrays[i] for i in at) if many else None if at is None else arrays[at] for many, at in spans)
        )

    return grouped
