"""The deterministic text listing of a graph: one node a line, subgraphs indented beneath their node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrt.types import UNKNOWN, ValueType, dtype_name

if TYPE_CHECKING:
    from graphrt.ir.graph import Graph, Node

_INDENT = "  "


def format_graph(graph: Graph, *, types: Mapping[str, ValueType] | None = None, max_nodes: int | None = None) -> str:
    """The listing of a graph: header, inputs, initializers, nodes, outputs, state updates.

    Args:
        graph: what to print.
        types: value types to print beside node outputs (inferred ones, say); default: `value_info`.
        max_nodes: print at most this many nodes, half from each end.

    Returns:
        Text without a trailing newline. The same graph gives the same text.
    """
    return "\n".join(_graph_lines(graph, dict(graph.value_info) | dict(types or {}), max_nodes, depth=0))


def format_node(node: Node, types: Mapping[str, ValueType] | None = None) -> str:
    """One node as a line, without its subgraphs' bodies: ``y = MatMul(x, w)  # fc1``."""
    types = types or {}
    outputs = ", ".join(_typed(o, types) for o in node.outputs) or "()"
    arguments = [i or "_" for i in node.inputs]
    arguments += [f"{k}={format_attribute(v)}" for k, v in sorted(node.attributes.items()) if k not in _hidden(node)]
    comment = f"  # {node.name}" if node.name else ""
    return f"{outputs} = {node.qualified_op}({', '.join(arguments)}){comment}"


def _hidden(node: Node) -> tuple[str, ...]:
    """What a derivative node's own outputs and name tell already."""
    return ("of", "rng_key") if "." in node.op_type else ()


def format_attribute(value: Any) -> str:
    """An attribute as text; big tensors and graphs are abbreviated."""
    if isinstance(value, np.ndarray):
        if value.ndim == 0:
            return f"{dtype_name(value.dtype)}({value.item()!r})"
        if value.size <= 8:
            return f"{dtype_name(value.dtype)}{value.tolist()}"
        return f"<{dtype_name(value.dtype)}[{', '.join(map(str, value.shape))}]>"
    if isinstance(value, tuple):
        return f"[{', '.join(map(format_attribute, value))}]"
    if hasattr(value, "nodes"):
        return f"<graph {value.name or 'unnamed'}: {len(value.nodes)} nodes>"
    return repr(value) if isinstance(value, (str, bytes, int, float)) else str(value)


def format_neighborhood(graph: Graph, node: Node, radius: int = 3) -> str:
    """The node's line marked with ``>`` among the lines listed around it."""
    index = next((i for i, n in enumerate(graph.nodes) if n is node), None)
    if index is None:
        return f"> {format_node(node)}"
    lo, hi = max(0, index - radius), index + radius + 1
    around = enumerate(graph.nodes[lo:hi], start=lo)
    return "\n".join(f"{'>' if i == index else ' '} {i:>4}  {format_node(n)}" for i, n in around)


def _typed(name: str, types: Mapping[str, ValueType]) -> str:
    known = types.get(name, UNKNOWN)
    return name or "_" if known == UNKNOWN else f"{name}: {known}"


def _graph_lines(graph: Graph, types: Mapping[str, ValueType], max_nodes: int | None, depth: int) -> Iterator[str]:
    pad = _INDENT * depth
    opsets = ", ".join(f"{d or 'onnx'} {v}" for d, v in sorted(graph.opset_imports.items()))
    yield f"{pad}graph {graph.name or 'unnamed'} [{opsets}]"
    pad += _INDENT
    for v in graph.inputs:
        yield f"{pad}input {v}"
    for name, array in graph.initializers.items():
        shape = ", ".join(map(str, array.shape))
        yield f"{pad}initializer {name}: {dtype_name(array.dtype)}[{shape}]"
    count = len(graph.nodes)
    hidden = range(0) if max_nodes is None else range((max_nodes + 1) // 2, count - max_nodes // 2)
    for i, node in enumerate(graph.nodes):
        if i in hidden:
            if i == hidden.start:
                yield f"{pad}… {len(hidden)} nodes more …"
            continue
        yield pad + format_node(node, types)
        for key, value in sorted(node.attributes.items()):
            for body in value if isinstance(value, tuple) else (value,):
                if hasattr(body, "nodes"):
                    yield f"{pad}{_INDENT}{key}:"
                    yield from _graph_lines(body, dict(body.value_info), max_nodes, depth + 2)
    for v in graph.outputs:
        yield f"{pad}output {v}"
    for name, value in graph.state_updates.items():
        yield f"{pad}after each run {name} := {value}"
