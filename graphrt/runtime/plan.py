"""Makes a `Plan`: what the interpreter does for one graph and one signature of inputs, decided once."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from graphrt.definitions import Into, Kernel, KernelSite, Linker, View
from graphrt.errors import GraphError, UnknownOpError
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, Node, format_neighborhood
from graphrt.ir.dag import dependencies, execution_order, needed_for
from graphrt.ir.rules import RULE_ONLY, captured_by, rng_key
from graphrt.op import Array, Op
from graphrt.passes.simplify import simplified
from graphrt.registry import Registry
from graphrt.runtime.fusion import Group, fuse
from graphrt.runtime.interpreter import Plan, Preparation, RunContext
from graphrt.runtime.memory import Buffer, Tenant, nbytes_of
from graphrt.runtime.steps import ABSENT, CONTEXT_SLOT, FILLED, MANY, Step
from graphrt.runtime.storage import Reuse, Storage, Work, assign_storage
from graphrt.runtime.threads import planned_sharing
from graphrt.types import UNKNOWN, TensorType, ValueType, numpy_dtype


def make_plan(
    graph: Graph,
    registry: Registry,
    *,
    inputs: Mapping[str, ValueType] | None = None,
    captured: Sequence[str] = (),
    outer: Inferred | None = None,
    overwrite: bool = False,
    observed: bool = False,
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
        overwrite: whether state updates may be written over the initializers they replace.
        observed: whether what a step reads has to be there still when the step is done, and every node is a step.

    Raises:
        GraphError, UnknownOpError, TypeInferenceError: the graph cannot run.
    """
    needs = dependencies(graph)
    order = execution_order(graph, needs)
    known = infer(graph, registry, inputs=inputs, outer=outer, order=order, fold_floats=False, trust_declared=False)
    folded = {i for i in order if _is_folded(graph.nodes[i], known)}
    needs = [() if i in folded else read for i, read in enumerate(needs)]
    wanted = needed_for(graph, [*graph.output_names, *graph.state_updates.values()], needs)
    run = [i for i in order if i in wanted and i not in folded]
    nodes = [graph.nodes[i] for i in run]
    simpler = simplified(graph, registry, known, nodes)
    if simpler is not None:
        graph, nodes = simpler, [n for n in simpler.nodes if not _is_folded(n, known)]
    if not observed:
        nodes = fuse(nodes, graph, known, registry, (*graph.output_names, *graph.state_updates.values()))
    reuse = Reuse(values=not observed, weights=overwrite and not observed, results=not observed)
    return _Planner(graph, registry, known).plan(nodes, captured, reuse)


def _is_folded(node: Node, known: Inferred) -> bool:
    return bool(node.outputs) and all(o in known.constants for o in node.outputs if o)


class _Planner:
    def __init__(self, graph: Graph, registry: Registry, known: Inferred):
        self.graph, self.registry, self.known = graph, registry, known
        self.slots: list[Any] = [None, None]
        self.slot_of: dict[str, int] = {}
        self.scratch: list[Buffer] = []
        self.observed = False
        arrays = (t for t in known.types.values() if isinstance(t, TensorType) and t.is_static and t.dtype)
        self.largest = max(map(nbytes_of, arrays), default=0)

    def slot(self, name: str) -> int:
        """The slot of a value, made on first use; a folded constant is put in place."""
        if not name:
            return ABSENT
        if name not in self.slot_of:
            self.slot_of[name] = len(self.slots)
            self.slots.append(self.known.constants.get(name))
        return self.slot_of[name]

    def plan(self, nodes: list[Node], captured: Sequence[str], reuse: Reuse) -> Plan:
        graph = self.graph
        leaves = {*graph.input_names, *graph.initializers, *captured}
        self._check_defined(nodes, leaves.union(*(n.outputs for n in nodes)))
        with planned_sharing() as shares:
            works = [w for n in nodes for w in self._works(n)]
            single_blas = shares()
        self.observed = not reuse.values
        storage = assign_storage(graph, works, self.known, reuse)
        steps = [self._step(w, storage, i) for i, w in enumerate(storage.works)]
        fetches = {o: self.slot(o) for o in graph.output_names}
        overwritten = {k: self.slot(graph.state_updates[k]) for k in storage.overwritten}
        updates = {k: self.slot(v) for k, v in graph.state_updates.items() if k not in overwritten}
        feeds = {n: s for n, s in self.slot_of.items() if n in leaves and self.slots[s] is None}
        buffers = [Buffer(self.slot(name), t.offset, t.type) for name, t in storage.places.items()]
        return Plan(
            graph,
            steps,
            self.slots,
            feeds,
            fetches,
            updates,
            self.known,
            storage.places,
            tuple(buffers + self.scratch),
            storage.nbytes,
            overwritten,
            storage.overwriting,
            self._preparation(steps[: storage.preparing]),
            self.slot_of,
            self.registry,
            single_blas,
        )

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

    def _preparation(self, steps: Sequence[Step]) -> Preparation | None:
        """The first steps; what they make, and the weights that they read, by slot."""
        made = {s for step in steps for s in (step.output, *step.outputs) if s > 0}
        read = {i for step in steps for i in step.inputs if i > 0} - made - {b.slot for b in self.scratch}
        weights = tuple(i for i in read if self.slots[i] is None)
        return Preparation(len(steps), weights, tuple(made)) if steps else None

    def _step(self, work: Work, storage: Storage, index: int) -> Step:
        node, call = work.node, work.call
        outputs = tuple(self.slot(o) if o else -1 for o in node.outputs)
        release = tuple(self.slot(name) for name in storage.released.get(index, ()))
        if isinstance(call, Into):
            absent = (ABSENT,) * (len(call.outputs) - len(outputs))
            wanted = tuple(max(slot, ABSENT) for slot in outputs + absent)
            scratch = tuple(map(self._scratch_slot, storage.scratch.get(index, ())))
            omitted = 0 if any(p.variadic for p in work.op.inputs) else len(work.op.inputs) - len(node.inputs)
            inputs = (*(self.slot(i) for i in node.inputs), *(ABSENT,) * omitted, *wanted, *scratch)
            fresh = tuple((self.slot(o), *_concrete(t)) for o, t in storage.fresh.get(index, ()))
            made = wanted[: len(outputs)]
            return Step(call.fill, inputs, FILLED, made, release, node, (), fresh, work.kernel, self._linker(call))
        single = outputs[0] if outputs and not work.op.many_outputs else MANY
        zeros = tuple(self._static(o) for o in node.outputs) if "." in node.op_type else ()
        view = call if isinstance(call, View) else None
        function: Any = call if view is None else view.function
        made = outputs if single < 0 else ()
        return Step(function, work.inputs, single, made, release, node, zeros, (), work.kernel, view=view)

    def _linker(self, call: Into) -> Linker | None:
        """What may link the step: nothing, where whoever watches the plan wants to see every node."""
        return None if self.observed else call.linker

    def _scratch_slot(self, tenant: Tenant) -> int:
        self.slots.append(None)
        self.scratch.append(Buffer(len(self.slots) - 1, tenant.offset, tenant.type))
        return len(self.slots) - 1

    def _static(self, name: str) -> TensorType | None:
        t = self.known.types.get(name)
        return t if isinstance(t, TensorType) and t.is_static else None

    def _works(self, node: Node) -> list[Work]:
        """What does the work of a node; of a group that no kernel serves, of its members."""
        work = self._work(node)
        if isinstance(node, Group) and work.kernel is None:
            return [self._work(member) for member in cast(Graph, node.attributes["body"]).nodes]
        return [work]

    def _work(self, node: Node) -> Work:
        """What does the work of a node: a kernel, or the op's own function with the attributes bound."""
        found = self._op(node)
        attributes = self._attributes(found, node)
        chosen = self._kernel(found, node, attributes)
        if chosen is not None:
            kernel, made = chosen
            return Work(node, found, made, tuple(self.slot(i) for i in node.inputs), kernel)
        return Work(node, found, *self._function(found, node, attributes))

    def _op(self, node: Node) -> Op:
        try:
            found = self.registry.op_of(node, self.graph)
        except UnknownOpError as e:
            raise UnknownOpError(f"{e}\nat node {node.label!r}:\n{format_neighborhood(self.graph, node)}") from None
        if len(node.outputs) > len(found.outputs) and not found.variadic_output:
            raise GraphError(
                f"names {len(node.outputs)} outputs; {found.signature} has {len(found.outputs)}\n"
                f"at node {node.label!r}:\n{format_neighborhood(self.graph, node)}"
            )
        return found

    def _attributes(self, found: Op, node: Node) -> dict[str, Any]:
        """What the op's function is told beside its inputs."""
        defaults = found.defaults() if "." in found.op_type else {}  # a rule has no defaults of its own
        attributes: dict[str, Any] = {**defaults, **{k: v for k, v in node.attributes.items() if k not in RULE_ONLY}}
        supplied = {"n_outputs": len(node.outputs), "opset": self.graph.opset_imports.get(node.domain, 0)}
        attributes.update((c, supplied[c]) for c in found.context if c in supplied and c not in attributes)
        return attributes

    def _function(
        self, found: Op, node: Node, attributes: dict[str, Any]
    ) -> tuple[Callable[..., Any], tuple[int, ...]]:
        """The op's own function for a node, and the slots that it takes."""
        inputs = tuple(self.slot(i) for i in node.inputs)
        function = found.function
        if any(node.subgraphs()):
            return self._with_bodies(function, node, attributes, inputs)
        call = partial(function, **attributes) if attributes else function
        if found.grouped:
            call = _grouping(call, found, len(inputs), node.attributes.get("segments"))
        if "rng" in found.context:
            return _drawing(call, _draw_key(node)), (CONTEXT_SLOT, *inputs)
        return call, inputs

    def _kernel(
        self, found: Op, node: Node, attributes: Mapping[str, Any]
    ) -> tuple[Kernel, Callable[..., Any] | Into | View] | None:
        """The kernel with the highest priority that serves the node, and what it makes of it; None if none does."""
        candidates = self.registry.kernels_for(found.op_type, found.domain)
        if not candidates:
            return None
        types = [self.known.types.get(i, UNKNOWN) if i else None for i in node.inputs]
        bound = found.bind(types, node.attributes.get("segments"))
        absent = ("",) * (len(found.outputs) - len(node.outputs))
        outputs = tuple(self.known.types.get(o, UNKNOWN) if o else None for o in node.outputs + absent)
        site = KernelSite(node, bound, {**found.defaults(), **attributes}, outputs, self.largest)
        for kernel in candidates:
            made = kernel.make(site)
            if made is not None:
                return kernel, made
        return None

    def _with_bodies(
        self, function: Callable[..., Any], node: Node, attributes: dict[str, Any], inputs: tuple[int, ...]
    ) -> tuple[Callable[..., Any], tuple[int, ...]]:
        """For ops with subgraphs: each body becomes a function of its inputs, closed over what it captures.

        The rules of such an op (``Loop.vjp[*]``, ``Loop.jvp[*]``) are called with their two groups of arguments
        as tuples, and also exchange the cotangents or tangents of captured values with the bodies.
        """
        from graphrt.runtime.bodies import Body, body_caller

        captured = captured_by(node)
        segments: Any = node.attributes.get("segments")

        def body(graph: Graph) -> Body:
            opsets = dict(self.graph.opset_imports) | dict(graph.opset_imports)
            planner = partial(make_plan, observed=True)  # whoever watches the node watches its subgraphs too
            return Body(graph.replace(opset_imports=opsets), captured, self.registry, self.known, planner)

        bodies: dict[str, Any] = {}
        for key, value in attributes.items():
            if isinstance(value, Graph):
                bodies[key] = body(value)
            elif isinstance(value, tuple) and any(isinstance(v, Graph) for v in value):
                bodies[key] = tuple(body(v) for v in value)
        plain = {k: v for k, v in attributes.items() if k not in bodies}
        call = body_caller(function, node.op_type, bodies, plain, captured, len(inputs), segments)
        return _within(call, _draw_key(node)), (CONTEXT_SLOT, *inputs, *(self.slot(c) for c in captured))


def _concrete(t: TensorType) -> tuple[Any, Any]:
    return t.shape, numpy_dtype(t.dtype or "float32")


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
