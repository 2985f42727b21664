"""Switches ops that behave differently in training and in inference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from graphrt.definitions import graph_pass
from graphrt.errors import GraphError, InputError, PassError
from graphrt.ir import Graph, NameScope, Node, format_neighborhood
from graphrt.registry import Registry

MODES = ("infer", "train")


@graph_pass("set_mode")
def set_mode(graph: Graph, registry: Registry, *, mode: str) -> Graph:
    """Makes every Dropout, BatchNormalization and the like behave as in training or as in inference.

    Args:
        graph: any graph; ops that are unknown or have one behavior only stay as they are.
        mode: ``"train"`` or ``"infer"``.

    Raises:
        InputError: another mode.
        PassError: a node is too broken to be switched.
    """
    if mode not in MODES:
        raise InputError(f"mode is 'infer' or 'train', not {mode!r}")
    scope = NameScope(graph.names())
    nodes: list[Node] = []
    updates = dict(graph.state_updates) if mode == "train" else {}
    opsets = dict(graph.opset_imports)
    changed = len(updates) != len(graph.state_updates)
    for given in graph.nodes:
        node = _with_bodies(given, graph, registry, mode)
        changed |= node is not given
        rule = _rule(node, graph, registry) if registry.versions(node.op_type, node.domain) else None
        if rule is None:
            nodes.append(node)
            continue
        try:
            made, more = rule(node, mode == "train", scope)
        except Exception as e:
            where = format_neighborhood(graph, given)
            raise PassError(f"set_mode: node {node.label!r} has no {mode} mode: {e}\n{where}") from e
        changed |= list(made) != [node] or any(updates.get(k) != v for k, v in more.items())
        nodes += made
        updates.update((k, v) for k, v in more.items() if k in graph.initializers)
        opsets.update((n.domain, 1) for n in made if n.domain not in opsets)
    return graph.replace(nodes=nodes, state_updates=updates, opset_imports=opsets) if changed else graph


def _with_bodies(node: Node, graph: Graph, registry: Registry, mode: str) -> Node:
    """The node with its subgraphs in the mode; the very node where that changes nothing."""
    if not any(node.subgraphs()):
        return node

    def switched(body: Any) -> Any:
        if isinstance(body, tuple):
            members = tuple(map(switched, body))
            return body if all(a is b for a, b in zip(members, body, strict=True)) else members
        if not isinstance(body, Graph):
            return body
        opsets = {**graph.opset_imports, **body.opset_imports}
        whole = body if opsets == body.opset_imports else body.replace(opset_imports=opsets)
        made = set_mode(whole, registry, mode=mode)
        return body if made is whole else made

    attributes = {k: switched(v) for k, v in node.attributes.items()}
    if all(v is node.attributes[k] for k, v in attributes.items()):
        return node
    return replace(node, attributes=attributes)


def _rule(node: Node, graph: Graph, registry: Registry) -> Any:
    try:
        found = registry.op_of(node, graph)
        found.bind(node.inputs)
    except GraphError:
        return None  # another version than we know, or too few inputs: running it will say so
    return found.mode_rule
