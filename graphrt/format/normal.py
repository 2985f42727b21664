"""What an attribute holds, as a kind and a plain value: the one place that tells the kinds apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphrt.errors import SaveError
from graphrt.ir.graph import Graph
from graphrt.types import MapType, OptionalType, SequenceType, TensorType

PLURAL = {
    "int": "ints",
    "float": "floats",
    "string": "strings",
    "bytes": "bytes_list",
    "tensor": "tensors",
    "graph": "graphs",
    "type": "types",
}
"""Kind of an attribute to the kind of a list of such."""

INT64 = range(-(1 << 63), 1 << 63)


def sorted_keys(mapping: Mapping[str, Any], what: str) -> list[str]:
    """The keys in the order in which a file lists them: that of their UTF-8 bytes.

    Raises:
        SaveError: a key is not a str.
    """
    for key in mapping:
        if not isinstance(key, str):
            raise SaveError(f"a key of {what} is {key!r}; a str is due")
    return sorted(mapping)


def attribute_kind(value: Any) -> tuple[str, Any]:
    """The kind of an attribute and the value as plain Python.

    NumPy scalars become numbers, bool becomes int, a list becomes a tuple; the empty tuple is of kind
    ``ints``.

    Raises:
        SaveError: the value is of no kind, a list is of mixed kinds, or an int needs more than 64 bits.
    """
    if isinstance(value, (tuple, list)):
        items = [attribute_kind(v) for v in value]
        kinds = {k for k, _ in items} or {"int"}
        if len(kinds) > 1:
            raise SaveError(f"a list attribute mixes {' and '.join(sorted(kinds))}; make its elements all of one kind")
        kind = PLURAL.get(kinds.pop())
        if kind is None:
            raise SaveError("a list attribute holds lists; use a tensor")
        return kind, tuple(v for _, v in items)
    if isinstance(value, (bool, np.bool_, int, np.integer)):
        if int(value) not in INT64:
            raise SaveError(f"the attribute value {value} does not fit in 64 bits")
        return "int", int(value)
    if isinstance(value, (float, np.floating)):
        return "float", float(value)
    if isinstance(value, str):
        return "string", str(value)
    if isinstance(value, (bytes, bytearray)):
        return "bytes", bytes(value)
    return _object_kind(value), value


def _object_kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return "tensor"
    if isinstance(value, Graph):
        return "graph"
    if isinstance(value, (TensorType, SequenceType, OptionalType, MapType)):
        return "type"
    raise SaveError(
        f"an attribute holds {type(value).__name__}; it may hold a number, str, bytes, an array, a graph, a type, "
        "or a tuple of one of these"
    )
