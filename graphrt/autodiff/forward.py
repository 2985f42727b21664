"""Forward mode: a graph becomes a joint graph that also carries tangents.

The walk: in the order of execution, each node whose inputs have tangents is followed by one node that calls
its op's JVP. It applies to any graph, a reverse-mode joint graph too: that is forward over reverse, and gives
Hessian-vector products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphrt.autodiff.reverse import check_names, differentiable_inputs
from graphrt.autodiff.rules import RuleWriter
from graphrt.errors import NotDifferentiableError
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, NameScope, Node, Value, format_neighborhood
from graphrt.ir.dag import between, dependencies, needed_for, schedule
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.types import carries_gradient


@dataclass(frozen=True)
class ForwardGraph:
    """A joint graph and the names of its tangents.

    Attributes:
        graph: the nodes that are needed, each followed by the node of its tangent. Its inputs are the original
            ones and one tangent per ``wrt`` value; its outputs are ``of``, then their tangents.
        seeds: ``wrt`` value to the input that takes its tangent.
        tangents: value of ``of`` to the output that holds its tangent.
        all_tangents: every value that has a tangent, to that tangent.
    """

    graph: Graph
    seeds: Mapping[str, str]
    tangents: Mapping[str, str]
    all_tangents: Mapping[str, str]


def forward(
    graph: Graph,
    registry: Registry,
    of: Sequence[str],
    wrt: Sequence[str],
    *,
    inferred: Inferred | None = None,
    keep_outputs: bool = False,
) -> ForwardGraph:
    """Makes the joint graph for Jacobian-vector products.

    Args:
        graph: acyclic and complete; may be a joint graph itself.
        registry: where the rules are looked up.
        of: values whose tangents are wanted.
        wrt: inputs and initializers that get a tangent.
        inferred: the graph's value types, where the caller has them.
        keep_outputs: whether all original outputs stay outputs, before those in ``of``.

    Raises:
        InputError: a name in ``of`` or ``wrt`` is not a value of the graph, or cannot carry a tangent.
        NotDifferentiableError: a rule is missing on the way.
    """
    needs = dependencies(graph)
    order = schedule(graph, needs)
    known = infer(graph, registry, order=order, trust_declared=False) if inferred is None else inferred
    check_names(graph, known, of, wrt)
    active = between(graph, wrt, of, needs)
    kept = [*graph.output_names, *of] if keep_outputs else of
    outputs = tuple(dict.fromkeys(kept))
    needed = needed_for(graph, [*outputs, *graph.state_updates.values()], needs)
    scope = NameScope(graph.names())
    writer = RuleWriter(graph, registry, known, scope)
    dots = {w: scope.fresh(f"{w}.dot") for w in wrt}
    seeds = dict(dots)
    for i in order:
        if i in needed:
            writer.nodes.append(graph.nodes[i])
            if i in active:
                _push(writer, graph.nodes[i], dots)
    tangents = {o: dots.get(o) or writer.zeros_like(o) for o in of}
    joint = graph.replace(
        inputs=graph.inputs + tuple(Value(s, known.type(w)) for w, s in seeds.items()),
        outputs=tuple(Value(o, known.type(o)) for o in outputs)
        + tuple(Value(t, known.type(o)) for o, t in tangents.items() if t not in outputs),
        nodes=tuple(writer.joined(())),
        opset_imports=writer.opset_imports,
    )
    return ForwardGraph(joint, seeds, tangents, dots)


def _push(writer: RuleWriter, node: Node, dots: dict[str, str]) -> None:
    """Adds the node that turns the tangents of one node's inputs into those of its outputs."""
    found = writer.registry.op_of(node, writer.graph)
    bodies = any(node.subgraphs())
    if bodies and not any(v in dots for v in node.free_inputs()):
        return
    wrt = () if bodies else differentiable_inputs(found, node.inputs, dots, node.attributes.get("segments"))
    if not wrt and not bodies:
        return
    outputs = [
        writer.scope.fresh(f"{o}.dot") if o and carries_gradient(writer.known.type(o)) else "" for o in node.outputs
    ]
    if not any(outputs):
        return
    try:
        if bodies:
            writer.body_jvp(node, dots, outputs)
        else:
            writer.jvp(found, node, wrt, dots, outputs)
    except NotDifferentiableError as e:
        plugin = writer.registry.plugin_of("ops", found)
        raise NotDifferentiableError(
            f"{e} (plug-in {plugin})\nat node {node.label!r}:\n{format_neighborhood(writer.graph, node)}"
        ) from None
    dots.update((o, t) for o, t in zip(node.outputs, outputs, strict=True) if t)
