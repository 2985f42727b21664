"""An array with its axes in another order and then in another shape: a copy, found when a plan is made.

The two nodes become one node ``graphrt::Fused`` (`graphrt.runtime.fusion`), where a kernel may make the copy; elsewhere
they stay a view and NumPy's copy of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence

from graphrt.inference import Inferred
from graphrt.ir import Graph, Node
from graphrt.registry import ONNX_DOMAIN
from graphrt.runtime.fusion import group_of
from graphrt.types import TensorType

TRANSPOSES = frozenset({"Transpose", "Transpose.vjp[data]"})
RESHAPES = frozenset(
    {f"{op}{rule}" for op in ("Reshape", "Squeeze", "Unsqueeze") for rule in ("", ".vjp[data]")}
    | {"Flatten", "Flatten.vjp[input]"}
)
"""Ops that only move the axes of their first input, and those that only give it another shape."""


def permutation(perm: object, rank: int, is_undone: bool) -> tuple[int, ...]:
    """The order of the axes that Transpose makes with this attribute, or the order that undoes it.

    >>> permutation((2, 0, 1), 3, False), permutation((2, 0, 1), 3, True), permutation(None, 3, False)
    ((2, 0, 1), (1, 2, 0), (2, 1, 0))
    """
    order = tuple(i % rank for i in perm) if isinstance(perm, tuple) else tuple(range(rank))[::-1]
    return tuple(order.index(i) for i in range(rank)) if is_undone else order


def fuse_rearrangements(nodes: Sequence[Node], graph: Graph, known: Inferred, kept: Container[str]) -> list[Node]:
    """The nodes, each pair of these as one, where the second stands.

    Args:
        nodes: in an order of execution.
        graph: whose they are.
        known: the types of the values.
        kept: the values that are needed when all has run.
    """
    if not any(_is(n, TRANSPOSES) for n in nodes):
        return list(nodes)
    reads = Counter(name for n in nodes for name in n.free_inputs())
    moved = {n.outputs[0]: n for n in nodes if _is(n, TRANSPOSES) and n.outputs[0] not in kept}
    made: list[Node] = []
    gone: set[Node] = set()
    for node in nodes:
        first = moved.get(node.inputs[0]) if _is(node, RESHAPES) and node.inputs[0] else None
        if first is None or reads[node.inputs[0]] > 1 or not _is_static(known, first.outputs[0], node.outputs[0]):
            made.append(node)
            continue
        gone.add(first)
        made.append(group_of("Fused", [first, node], graph, known, node.outputs))
    return [n for n in made if n not in gone]


def _is(node: Node, ops: Container[str]) -> bool:
    return node.op_type in ops and node.domain in ("", ONNX_DOMAIN)


def _is_static(known: Inferred, *names: str) -> bool:
    types = map(known.type, names)
    return all(isinstance(t, TensorType) and t.is_static and t.dtype for t in types)
