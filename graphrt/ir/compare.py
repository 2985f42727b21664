"""What two graphs differ in, field by field; tensors are compared by their bits."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from graphrt.ir.graph import Graph, Node
from graphrt.types import dtype_name


def same_graph(a: Graph, b: Graph) -> list[str]:
    """The differences between two graphs, one a line; empty when they hold the same.

    The order of inputs, outputs, nodes and initializers counts; that of other mappings does not. Equal
    tensors have the same element type, shape and bits; ``1`` and ``1.0`` are different attributes.

    Args:
        a, b: the graphs.

    Returns:
        Lines such as ``"initializer 'w': float32[3, 4] became float32[4, 4]"``.
    """
    return list(_graphs(a, b, ""))


def _graphs(a: Graph, b: Graph, where: str) -> Iterator[str]:
    if a.name != b.name:
        yield f"{where}name: {a.name!r} became {b.name!r}"
    for field in ("inputs", "outputs"):
        old, new = (", ".join(map(str, getattr(g, field))) for g in (a, b))
        if getattr(a, field) != getattr(b, field):
            yield f"{where}{field}: ({old}) became ({new})"
    for field in ("opset_imports", "value_info", "state_updates", "metadata", "requires"):
        yield from _mappings(getattr(a, field), getattr(b, field), f"{where}{field}")
    yield from _initializers(a, b, where)
    if len(a.nodes) != len(b.nodes):
        yield f"{where}nodes: {len(a.nodes)} became {len(b.nodes)}"
    for i, (old_node, new_node) in enumerate(zip(a.nodes, b.nodes, strict=False)):
        yield from _nodes(old_node, new_node, f"{where}node {i} ({old_node.label}) ")


def _mappings(a: Mapping[str, Any], b: Mapping[str, Any], where: str) -> Iterator[str]:
    for key in dict.fromkeys([*a, *b]):
        if key not in b:
            yield f"{where} {key!r}: {a[key]} is gone"
        elif key not in a:
            yield f"{where} {key!r}: {b[key]} is new"
        elif a[key] != b[key]:
            yield f"{where} {key!r}: {a[key]} became {b[key]}"


def _initializers(a: Graph, b: Graph, where: str) -> Iterator[str]:
    old, new = a.initializers, b.initializers
    if list(old) != list(new) and old.keys() == new.keys():
        yield f"{where}initializers: their order changed"
    for name in dict.fromkeys([*old, *new]):
        if name not in new:
            yield f"{where}initializer {name!r} is gone"
        elif name not in old:
            yield f"{where}initializer {name!r} is new"
        else:
            yield from (f"{where}initializer {name!r}: {d}" for d in _arrays(old[name], new[name]))


def _arrays(a: Any, b: Any) -> Iterator[str]:
    kinds = [f"{dtype_name(x.dtype)}[{', '.join(map(str, x.shape))}]" for x in (a, b)]
    if kinds[0] != kinds[1]:
        yield f"{kinds[0]} became {kinds[1]}"
    elif dtype_name(a.dtype) == "string":
        if a.tolist() != b.tolist():
            yield "its strings changed"
    elif _bits(a).tobytes() != _bits(b).tobytes():
        count = int((_bits(a) != _bits(b)).any(axis=-1).sum())
        yield f"{count} of {a.size} elements changed"


def _bits(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The bytes of each element, uint8 [elements, bytes]."""
    native = array.dtype.newbyteorder("=") if array.dtype.kind in "iufc" else array.dtype
    flat = np.ascontiguousarray(array, dtype=native).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, flat.itemsize)


def _nodes(a: Node, b: Node, where: str) -> Iterator[str]:
    for field in ("op_type", "domain", "name", "inputs", "outputs"):
        old, new = getattr(a, field), getattr(b, field)
        if old != new:
            yield f"{where}{field}: {old!r} became {new!r}"
    for key in sorted({*a.attributes, *b.attributes}):
        at = f"{where}attribute {key!r}"
        if key not in b.attributes:
            yield f"{at} is gone"
        elif key not in a.attributes:
            yield f"{at} is new"
        else:
            yield from _attributes(a.attributes[key], b.attributes[key], at)


def _attributes(a: Any, b: Any, where: str) -> Iterator[str]:
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        yield from (f"{where}: {d}" for d in _arrays(a, b))
    elif isinstance(a, Graph) and isinstance(b, Graph):
        yield from _graphs(a, b, f"{where}: ")
    elif isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        for i, (old, new) in enumerate(zip(a, b, strict=True)):
            yield from _attributes(old, new, f"{where}[{i}]")
    elif _plain(a) != _plain(b):
        yield f"{where}: {a!r} became {b!r}"


def _plain(value: Any) -> Any:
    """A value that compares by type and, for floats, by bits."""
    if isinstance(value, (bool, int, np.integer)):
        return "int", int(value)
    if isinstance(value, (float, np.floating)):
        return "float", struct.pack("<d", float(value))
    return type(value).__name__, value
