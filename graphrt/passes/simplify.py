"""Makes a graph do the same with fewer and faster ops."""

from __future__ import annotations

from collections.abc import Sequence

from graphrt.definitions import graph_pass
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, Node
from graphrt.ir.dag import dependencies, needed_for, schedule
from graphrt.passes._aliases import ALIASES
from graphrt.passes._folding import fold_batch_normalization, scale_and_shift
from graphrt.passes._rewriting import Rewriting, Rule
from graphrt.registry import Registry

_FUSED = frozenset({"Clip", "Erf", "HardSigmoid", "LayerNormalization", "ReduceMean", "Sigmoid", "Softmax", "Tanh"})
"""Each formula has one of these ops."""
_LAST = frozenset({"Add", "Sub", "Mul", "Div", "MatMul"})
"""Each formula ends in one of these."""


@graph_pass("simplify")
def simplify(graph: Graph, registry: Registry) -> Graph:
    """Leaves out what is not needed, what repeats a value and what does nothing; fuses what is one op in small pieces.

    Batch normalization with given statistics goes into the weights before it, or becomes a factor and a term; these are
    computed from the parameters by nodes of the graph. The results are the same up to rounding; inputs, outputs and
    initializers stay as they are.
    Derivative nodes, and graphs that have any, are left alone.

    Args:
        graph: any graph.
        registry: where ops are looked up.
    """
    needs = dependencies(graph)
    order = schedule(graph, needs)
    known = infer(graph, registry, order=order, trust_declared=False)
    wanted = needed_for(graph, [*graph.output_names, *graph.state_updates.values()], needs)
    nodes = [graph.nodes[i] for i in order if i in wanted]
    made = simplified(graph, registry, known, nodes, newest=False)
    if made is None:
        return graph if len(nodes) == len(graph.nodes) else graph.replace(nodes=nodes)
    return made


def simplified(
    graph: Graph, registry: Registry, known: Inferred, nodes: Sequence[Node], *, newest: bool = True
) -> Graph | None:
    """As the pass `simplify`, where types and an order are known already.

    Args:
        graph: what the nodes are of.
        registry: where ops are looked up.
        known: what is known of each value; grows by what is known of new ones.
        nodes: the nodes that are needed, in an order of execution; what they read of others is among ``known``.
        newest: whether new nodes may be of ops that the graph's opset does not have yet.

    Returns:
        The graph of the nodes that are left; None where there is nothing to change.
    """
    if any("." in node.op_type for node in nodes):
        return None
    work = Rewriting(graph, registry, known, nodes, newest)
    if not work.walk(ALIASES, _rules({node.op_type for node in nodes})):
        return None
    used = {node.domain for node in work.nodes}
    opsets = {d: v for d, v in work.opsets.items() if d in graph.opset_imports or d in used}
    made = {o for node in work.nodes for o in node.outputs}
    info = {name: t for name, t in graph.value_info.items() if name in made}
    return graph.replace(nodes=work.nodes, opset_imports=opsets, value_info=info)


def _rules(present: set[str]) -> dict[str, list[Rule]]:
    """What may be replaced where these ops are present, by op type."""
    rules: dict[str, list[Rule]] = {"BatchNormalization": [fold_batch_normalization, scale_and_shift]}
    if present & _FUSED and present & _LAST:
        from graphrt.passes._fusions import fusions  # reads formulas, which takes longer than a small plan

        rules |= fusions(present)
    return rules
