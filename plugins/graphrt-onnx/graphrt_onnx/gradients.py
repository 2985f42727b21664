"""The op ``ai.onnx.preview.training::Gradient``: replaced on import by the nodes that compute the gradient."""

from __future__ import annotations

from collections.abc import Mapping

from graphrt.autodiff import reverse
from graphrt.ir import NameScope
from graphrt.ir.dag import needed_for
from graphrt.plugin import ConversionError, Graph, Node, Value
from graphrt.registry import Registry
from graphrt_onnx.errors import converting

DOMAIN = "ai.onnx.preview.training"


def expand_gradients(graph: Graph, registry: Registry) -> Graph:
    """The graph with each Gradient node replaced by reverse mode.

    The node names a value ``y`` and the values ``xs`` (and fixed ``zs``) of its graph; its inputs are the points at
    which dy/dx is taken, its outputs the derivatives. What lies between is copied, so that it is evaluated at
    these points.

    Raises:
        ConversionError: ``y`` is not a value of the graph, or a node on the way has no derivative.
    """
    while True:
        node = next((n for n in graph.nodes if n.op_type == "Gradient" and n.domain == DOMAIN), None)
        if node is None:
            return graph
        with converting(f"node {node.label!r} ({node.qualified_op})"):
            graph = _expanded(graph, node, registry)


def _expanded(graph: Graph, node: Node, registry: Registry) -> Graph:
    xs, zs, y = (_names(node, key) for key in ("xs", "zs", "y"))
    if len(y) != 1 or not xs or len(xs) + len(zs) != len(node.inputs) or len(node.outputs) > len(xs):
        raise ConversionError(
            f"its attributes name {len(xs)} xs, {len(zs)} zs and y={y}; it has {len(node.inputs)} inputs"
        )
    leaves = (*xs, *zs)
    rest = graph.replace(nodes=tuple(n for n in graph.nodes if n is not node and not set(n.outputs) & set(leaves)))
    needed = needed_for(rest, y)
    types = graph.declared_types()
    outer = [v for v in graph.inputs if v.name not in leaves]
    piece = rest.replace(
        inputs=(*(Value(x, types.get(x, Value(x).type)) for x in leaves), *outer),
        outputs=(Value(y[0]),),
        nodes=tuple(rest.nodes[i] for i in sorted(needed)),
        initializers={k: a for k, a in graph.initializers.items() if k not in leaves},
        state_updates={},
    )
    joint = reverse(piece, registry, list(y), list(xs), seed_ones=True)
    wanted = {gradient: out for x, out in zip(xs, node.outputs, strict=False) if (gradient := joint.gradients[x])}
    shared = {*(v.name for v in outer), *piece.initializers}
    names = _renaming(graph, joint.graph, dict(zip(leaves, node.inputs, strict=True)), wanted, shared)
    made = tuple(_renamed(n, names) for n in joint.graph.nodes)
    at = graph.nodes.index(node)
    nodes = (*graph.nodes[:at], *made, *graph.nodes[at + 1 :])
    return graph.replace(nodes=nodes, opset_imports={**graph.opset_imports, **joint.graph.opset_imports})


def _names(node: Node, key: str) -> tuple[str, ...]:
    value = node.attributes.get(key, ())
    return (value,) if isinstance(value, str) else tuple(map(str, value)) if isinstance(value, tuple) else ()


def _renaming(
    graph: Graph, piece: Graph, points: Mapping[str, str], wanted: Mapping[str, str], shared: set[str]
) -> dict[str, str]:
    """Names of the copied values in the whole graph: the points, the node's outputs, else fresh ones."""
    scope = NameScope(graph.names() | {n for v in graph.nodes for b in v.subgraphs() for n in b.names()})
    names = {name: name for name in shared} | dict(points)
    for n in piece.nodes:
        for output in n.outputs:
            if output:
                names[output] = wanted.get(output) or scope.fresh(f"{output}.copy")
    return names


def _renamed(node: Node, names: Mapping[str, str]) -> Node:
    inputs, outputs = (tuple(names.get(v, v) for v in values) for values in (node.inputs, node.outputs))
    if any(node.subgraphs()) and any(names.get(c, c) != c for b in node.subgraphs() for c in b.captured()):
        raise ConversionError(
            f"the gradient passes through {node.label!r}, whose subgraph captures values of its graph"
        )
    return Node(node.op_type, inputs, outputs, node.attributes, node.domain, node.name)
