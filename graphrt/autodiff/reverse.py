"""Reverse mode: a graph becomes a joint graph that also computes cotangents.

The walk: a value's cotangent is the sum of what each of its users sends back. Going through the nodes in
reverse order of execution, when a node is reached all users of its outputs have been; so its outputs'
cotangents are complete, and its rules turn them into contributions to its inputs' cotangents.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

from graphrt.autodiff.rules import RuleWriter
from graphrt.errors import InputError, NotDifferentiableError
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, NameScope, Value, format_neighborhood
from graphrt.ir.dag import between, dependencies, needed_for, schedule
from graphrt.op import Op
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.types import UNKNOWN, TensorType, ValueType, carries_gradient, is_differentiable


@dataclass(frozen=True)
class ReverseGraph:
    """A joint graph and the names of its derivative values.

    Attributes:
        graph: the forward nodes that are needed, then the derivative nodes. Its inputs are the original ones
            and one more per seed; its outputs are the original ones, then the gradients.
        seeds: output name to its own cotangent: an input, or a value of ones.
        gradients: name of each ``wrt`` value to the output that holds its cotangent.
        cotangents: every value that a cotangent came back to, to that cotangent.
        reached: the ``wrt`` values that the outputs depend on; the others' gradients are zeros.
    """

    graph: Graph
    seeds: Mapping[str, str]
    gradients: Mapping[str, str]
    cotangents: Mapping[str, str]
    reached: frozenset[str]


def reverse(
    graph: Graph,
    registry: Registry,
    of: Sequence[str],
    wrt: Sequence[str],
    *,
    inferred: Inferred | None = None,
    keep_outputs: bool = True,
    seed_ones: bool = False,
) -> ReverseGraph:
    """Makes the joint graph for vector-Jacobian products.

    Args:
        graph: acyclic and complete.
        registry: where the rules are looked up.
        of: values to differentiate; each gets a seed input for its cotangent.
        wrt: inputs and initializers to differentiate with respect to.
        inferred: the graph's value types, where the caller has them.
        keep_outputs: whether all original outputs stay outputs (else only those in ``of``).
        seed_ones: the cotangents of ``of`` are ones, made by the graph itself, not inputs: for gradients.

    Raises:
        InputError: a name in ``of`` or ``wrt`` is not a value of the graph, or cannot carry a gradient.
        NotDifferentiableError: a rule is missing on the way; names op, input and plug-in, and shows the node.
    """
    needs = dependencies(graph)
    order = schedule(graph, needs)
    known = infer(graph, registry, order=order, trust_declared=False) if inferred is None else inferred
    check_names(graph, known, of, wrt)
    active = between(graph, wrt, of, needs)
    outputs = [*graph.output_names, *(o for o in of if o not in graph.output_names)] if keep_outputs else list(of)
    needed = needed_for(graph, [*outputs, *graph.state_updates.values()], needs)
    forward = [i for i in order if i in needed]

    scope = NameScope(graph.names())
    writer = RuleWriter(graph, registry, known, scope)
    seeds = {o: writer.ones_like(o) if seed_ones else scope.fresh(f"{o}.seed") for o in of}
    walk = _Walk(writer, graph, known, dict(seeds))
    live = _live_values(graph, known, forward, active, set(wrt), registry)
    for i in reversed(forward):
        if i in active:
            walk.visit(i, live)
    gradients = {w: walk.total(w) or writer.zeros_like(w) for w in wrt}

    seed_inputs = () if seed_ones else tuple(Value(s, known.type(o)) for o, s in seeds.items())
    joint = graph.replace(
        inputs=graph.inputs + seed_inputs,
        outputs=tuple(Value(o, known.type(o)) for o in outputs)
        + tuple(Value(g, _plain(known.type(w))) for w, g in gradients.items()),
        nodes=tuple(writer.joined(graph.nodes[i] for i in forward)),
        opset_imports=writer.opset_imports,
    )
    reached = frozenset(w for w in wrt if w in walk.reached)
    return ReverseGraph(joint, seeds, gradients, walk.cotangents, reached)


def _plain(t: ValueType) -> ValueType:
    return t if isinstance(t, TensorType) else UNKNOWN


def check_names(graph: Graph, known: Inferred, of: Iterable[str], wrt: Iterable[str]) -> None:
    """Raises InputError unless ``wrt`` are leaves, ``of`` are values, and all can be floats."""
    leaves = {*graph.input_names, *graph.initializers}
    for name in wrt:
        if name not in leaves:
            raise InputError(
                f"cannot differentiate with respect to {name!r}: it is no input or initializer of the graph; "
                f"there are: {', '.join(sorted(leaves))}"
            )
    values = graph.names()
    for name in of:
        if name not in values:
            raise InputError(
                f"cannot differentiate {name!r}: the graph has no such value; outputs: {', '.join(graph.output_names)}"
            )
    for name in (*of, *wrt):
        t = known.type(name)
        if isinstance(t, TensorType) and not is_differentiable(t.dtype):
            raise InputError(
                f"cannot differentiate through {name!r}: its values are {t}, and only floats have derivatives"
            )


def _live_values(
    graph: Graph, known: Inferred, order: Sequence[int], active: set[int], wrt: set[str], registry: Registry
) -> set[str]:
    """Values through which a tangent of ``wrt`` can really flow: floats, along differentiable inputs."""
    live = set(wrt)
    for i in order:
        node = graph.nodes[i]
        if i not in active:
            continue
        found = registry.op_of(node, graph)
        if any(node.subgraphs()):
            passes = any(v in live for v in node.free_inputs())
        else:
            passes = bool(differentiable_inputs(found, node.inputs, live, node.attributes.get("segments")))
        if passes:
            live.update(o for o in node.outputs if o and carries_gradient(known.type(o)))
    return live


def differentiable_inputs(
    found: Op, inputs: Sequence[str], live: Container[str], segments: Any = None
) -> tuple[str, ...]:
    """Names of the op's inputs that a node feeds with a live value and that are not ``nondiff``."""
    bound = found.bind(inputs, segments)
    fed = {k: v if isinstance(v, tuple) else (v,) for k, v in bound.items()}
    return tuple(k for k, vs in fed.items() if k not in found.nondiff and any(v in live for v in vs if v))


class _Walk:
    """The reverse walk's state: the sum of what has come back to each value so far."""

    def __init__(self, writer: RuleWriter, graph: Graph, known: Inferred, cotangents: dict[str, str]):
        self.writer, self.graph, self.known = writer, graph, known
        self.cotangents = cotangents
        self.reached: set[str] = set()

    def total(self, value: str) -> str | None:
        """The value's cotangent; None when nothing has come back."""
        if value in self.cotangents:
            self.reached.add(value)
        return self.cotangents.get(value)

    def add(self, value: str, ct: str) -> None:
        """Adds a contribution to the value's cotangent: at once, so that it need not be kept."""
        before = self.cotangents.get(value)
        if before is not None:
            ct = self.writer.sum([before, ct], f"{value}.ct", self.known.type(value))
        self.cotangents[value] = ct

    def visit(self, index: int, live: set[str]) -> None:
        """Sends the cotangents of one node's outputs back to its inputs."""
        node = self.graph.nodes[index]
        cts = [self.total(o) if o in live or o in self.cotangents else None for o in node.outputs]
        if not any(cts):
            return
        found = self.writer.registry.op_of(node, self.graph)
        if any(node.subgraphs()):
            for value, ct in self.writer.body_vjp(node, cts, live):
                self.add(value, ct)
            return
        wanted = differentiable_inputs(found, node.inputs, live, node.attributes.get("segments"))
        done: set[str] = set()
        for name in wanted:
            if name in done:
                continue
            try:
                group = found.vjp_group(name)
            except NotDifferentiableError as e:
                plugin = self.writer.registry.plugin_of("ops", found)
                raise NotDifferentiableError(
                    f"{e} (plug-in {plugin}); cut the path with wrt=, or give the op a rule\n"
                    f"at node {node.label!r}:\n{format_neighborhood(self.graph, node)}"
                ) from None
            done.update(group)
            for value, ct in self.writer.vjp(found, node, group, cts, live):
                self.add(value, ct)
