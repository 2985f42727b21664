"""Nodes whose output is their input."""

from __future__ import annotations

from graphrt.ir import Node
from graphrt.passes._rewriting import Alias, Rewriting


def _always(graph: Rewriting, node: Node) -> str | None:
    return node.inputs[0]


def _of_same_type(graph: Rewriting, node: Node) -> str | None:
    """Of ops that keep the elements and their order."""
    t = graph.type(node.outputs[0])
    known = t.dtype is not None and t.shape is not None and None not in t.shape
    return node.inputs[0] if known and graph.type(node.inputs[0]) == t else None


def _transpose(graph: Rewriting, node: Node) -> str | None:
    perm = node.attributes.get("perm")
    return node.inputs[0] if isinstance(perm, tuple) and list(perm) == list(range(len(perm))) else None


def _dropout(graph: Rewriting, node: Node) -> str | None:
    version = graph.version(node)
    if version >= 12:
        training = node.inputs[2] if len(node.inputs) > 2 else ""
        flag = graph.constant(training)
        return node.inputs[0] if not training or (flag is not None and not flag.any()) else None
    return node.inputs[0] if version >= 7 or node.attributes.get("is_test", 0) else None


def _of_one(graph: Rewriting, node: Node) -> str | None:
    return node.inputs[0] if len(node.inputs) == 1 else None


ALIASES: dict[str, Alias] = {
    "Identity": _always,
    **dict.fromkeys(("Cast", "Expand", "Flatten", "Reshape", "Squeeze", "Unsqueeze"), _of_same_type),
    "Transpose": _transpose,
    "Dropout": _dropout,
    **dict.fromkeys(("Concat", "Max", "Mean", "Min", "Sum"), _of_one),
}
"""Op type to what says which value the first output is the same as."""
