"""What nodes that call a rule of an op (``Tanh.vjp[x]``) say beside the attributes of the rule."""

from __future__ import annotations

from graphrt.ir.graph import Node

RULE_ONLY = frozenset({"segments", "rng_key", "of"})
"""Attributes of derivative nodes that do not reach the rule: how many arguments each variadic parameter takes, what
keys random draws, and for each output the value whose cotangent or tangent it is (they have one type)."""


def rng_key(node: Node) -> str:
    """What keys the random draws of a node, and of the derivative nodes made from it."""
    return str(node.attributes.get("rng_key", node.identity))


def captured_by(node: Node) -> tuple[str, ...]:
    """The outer values that a node's subgraphs read, each once, in order."""
    return tuple(dict.fromkeys(c for g in node.subgraphs() for c in g.captured()))
