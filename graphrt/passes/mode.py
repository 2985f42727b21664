"""Switches ops that behave differently in training and in inference."""

from __future__ import annotations

from typing import Any

from graphrt.definitions import graph_pass
from graphrt.errors import InputError, UnknownOpError
from graphrt.ir import Graph, NameScope, Node
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
    """
    if mode not in MODES:
        raise InputError(f"mode is 'infer' or 'train', not {mode!r}")
    scope = NameScope(graph.names())
    nodes: list[Node] = []
    updates = dict(graph.state_updates) if mode == "train" else {}
    opsets = dict(graph.opset_imports)
    changed = len(updates) != len(graph.state_updates)
    for node in graph.nodes:
        versions = registry.versions(node.op_type, node.domain)
        rule = _rule(node, graph, registry) if versions else None
        if rule is None:
            nodes.append(node)
            continue
        made, more = rule(node, mode == "train", scope)
        changed |= list(made) != [node] or any(updates.get(k) != v for k, v in more.items())
        nodes += made
        updates.update((k, v) for k, v in more.items() if k in graph.initializers)
        opsets.update((n.domain, 1) for n in made if n.domain not in opsets)
    return graph.replace(nodes=nodes, state_updates=updates, opset_imports=opsets) if changed else graph


def _rule(node: Node, graph: Graph, registry: Registry) -> Any:
    try:
        return registry.op_of(node, graph).mode_rule
    except UnknownOpError:
        return None  # another version than we know: nothing to switch; running it will say so
