"""Switches ops that behave differently in training and in inference."""

from __future__ import annotations

from graphrt.definitions import graph_pass
from graphrt.errors import InputError
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
    changed = len(updates) != len(graph.state_updates)
    for node in graph.nodes:
        versions = registry.versions(node.op_type, node.domain)
        rule = registry.op_of(node, graph).mode_rule if versions else None
        if rule is None:
            nodes.append(node)
            continue
        made, more = rule(node, mode == "train", scope)
        changed |= list(made) != [node]
        nodes += made
        updates.update(more)
    return graph.replace(nodes=nodes, state_updates=updates) if changed else graph
