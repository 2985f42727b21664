"""Graph -> JSON text: readable, deterministic, without loss."""

from __future__ import annotations

import base64
import json
import math
import struct
from typing import Any

import numpy as np

from graphrt.errors import GraphrtError, SaveError
from graphrt.format.limits import DEFAULT_LIMITS
from graphrt.format.normal import INT64, attribute_kind, sorted_keys
from graphrt.format.tensors import Array, array_dtype, raw_bytes
from graphrt.ir.graph import Graph, Node, Value
from graphrt.types import DTYPES, MapType, OptionalType, SequenceType, TensorType, ValueType

JSON_VERSION = 1
"""The version of the text form that this package reads and writes."""
LISTED_ELEMENTS = 64
"""Tensors of at most this many elements are written as lists, bigger ones as base64."""

_WIDTH = 110
_NAMED = {math.inf: "Infinity", -math.inf: "-Infinity"}
_QUIET_NAN = struct.pack("<d", math.nan)


def to_json(graph: Graph) -> str:
    """A graph as JSON text; see `schemas/README.md`. The same graph gives the same text.

    Returns:
        Text that ends in a newline and that `from_json` reads back without loss.

    Raises:
        SaveError: the graph holds what the format cannot, e.g. a list of mixed kinds.
    """
    text = _render({"graphrt": JSON_VERSION} | _graph(graph, 1), "") + "\n"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise SaveError(f"the text {text[e.start : e.end]!r} is a lone surrogate and has no UTF-8 form") from e
    return text


def _render(value: Any, pad: str) -> str:
    """JSON on one line where it fits, else an entry a line."""
    inner = pad + " "
    if isinstance(value, dict) and value:
        parts = [f"{json.dumps(k, ensure_ascii=False)}: {_render(v, inner)}" for k, v in value.items()]
        brackets = "{}"
    elif isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value):
        parts = [_render(v, inner) for v in value]
        brackets = "[]"
    else:
        return json.dumps(value, ensure_ascii=False)
    length = len(pad) + 2 + sum(map(len, parts)) + 2 * len(parts)
    if length <= _WIDTH and not any("\n" in p for p in parts):
        return brackets[0] + ", ".join(parts) + brackets[1]
    return f"{brackets[0]}\n{inner}" + f",\n{inner}".join(parts) + f"\n{pad}{brackets[1]}"


def _text(value: Any, what: str) -> str:
    if not isinstance(value, str):
        raise SaveError(f"{what} is {value!r}; a str is due")
    return str(value)


def _whole(value: Any, what: str) -> int:
    if not isinstance(value, (int, np.integer)) or int(value) not in INT64:
        raise SaveError(f"{what} is {value!r}; an int of 64 bits is due")
    return int(value)


# -- the graph ------------------------------------------------------------------------------------


def _graph(graph: Graph, depth: int) -> dict[str, Any]:
    if depth > DEFAULT_LIMITS.max_depth:
        raise SaveError(f"graphs lie deeper within graphs than {DEFAULT_LIMITS.max_depth}")
    texts = {
        field: {k: _text(mapping[k], f"a value of {field}") for k in sorted_keys(mapping, field)}
        for field, mapping in [
            ("state_updates", graph.state_updates),
            ("metadata", graph.metadata),
            ("requires", graph.requires),
        ]
    }
    versions, types = graph.opset_imports, graph.value_info
    opsets = {k: _whole(versions[k], "a version") for k in sorted_keys(versions, "opset_imports")}
    fields = {
        "name": _text(graph.name, "a graph's name"),
        "opset_imports": opsets,
        "requires": texts["requires"],
        "metadata": texts["metadata"],
        "inputs": [_value(v) for v in graph.inputs],
        "outputs": [_value(v) for v in graph.outputs],
        "nodes": [_node(n, depth) for n in graph.nodes],
        "initializers": {
            _text(k, "an initializer's name"): tensor_object(v, f"the initializer {k!r}")
            for k, v in graph.initializers.items()
        },
        "value_info": {k: _type(types[k]) for k in sorted_keys(types, "value_info")},
        "state_updates": texts["state_updates"],
    }
    return {k: v for k, v in fields.items() if v or (k == "opset_imports" and depth == 1)}


def _value(value: Value) -> dict[str, Any]:
    if not isinstance(value, Value):
        raise SaveError(f"an input or output is {value!r}; a Value is due")
    result: dict[str, Any] = {"name": _text(value.name, "a value's name")}
    if value.type != TensorType():
        result["type"] = _type(value.type)
    return result


def _node(node: Node, depth: int) -> dict[str, Any]:
    if not isinstance(node, Node):
        raise SaveError(f"a node is {node!r}; a Node is due")
    result: dict[str, Any] = {"op_type": _text(node.op_type, "an op_type")}
    if node.domain:
        result["domain"] = _text(node.domain, "a domain")
    if node.name:
        result["name"] = _text(node.name, "a node's name")
    result["inputs"] = [_text(i, "a value's name") for i in node.inputs]
    result["outputs"] = [_text(o, "a value's name") for o in node.outputs]
    if node.attributes:
        try:
            keys = sorted_keys(node.attributes, "attributes")
            result["attributes"] = {k: _attribute(node.attributes[k], depth) for k in keys}
        except GraphrtError as e:
            raise SaveError(f"node {node.label!r} ({node.qualified_op}): {e}") from e
    return result


def _type(value_type: ValueType, depth: int = 0) -> dict[str, Any]:
    if depth > DEFAULT_LIMITS.max_type_depth:
        raise SaveError(f"a type nests deeper than {DEFAULT_LIMITS.max_type_depth}")
    if isinstance(value_type, SequenceType):
        return {"sequence": _type(value_type.element, depth + 1)}
    if isinstance(value_type, OptionalType):
        return {"optional": _type(value_type.element, depth + 1)}
    if isinstance(value_type, MapType):
        if value_type.key not in DTYPES:
            raise SaveError(f"the keys of a map type are of {value_type.key!r}, which is no element type")
        return {"map": {"key": value_type.key, "value": _type(value_type.value, depth + 1)}}
    if not isinstance(value_type, TensorType):
        raise SaveError(f"{value_type!r} is not the type of a value")
    result: dict[str, Any] = {}
    if value_type.dtype is not None:
        result["dtype"] = value_type.dtype
    if value_type.shape is not None:
        if len(value_type.shape) > DEFAULT_LIMITS.max_rank:
            raise SaveError(f"a type has more than {DEFAULT_LIMITS.max_rank} dimensions")
        result["shape"] = [d if d is None or isinstance(d, str) else _whole(d, "a dimension") for d in value_type.shape]
    return result


# -- attributes -----------------------------------------------------------------------------------


def _attribute(value: Any, depth: int) -> Any:
    kind, value = attribute_kind(value)
    if isinstance(value, tuple):
        return [_attribute(v, depth) for v in value]
    if kind == "float":
        return value if math.isfinite(value) else {"float": _non_finite(value)}
    if kind == "bytes":
        return {"bytes": base64.b64encode(value).decode("ascii")}
    if kind == "tensor":
        return {"tensor": tensor_object(value, "a tensor")}
    if kind == "graph":
        return {"graph": _graph(value, depth + 1)}
    return {"type": _type(value)} if kind == "type" else value


def _non_finite(value: float) -> str:
    """``Infinity``, ``-Infinity``, ``NaN``, or the 16 hexadecimal digits of a NaN with other bits."""
    bits = struct.pack("<d", value)
    return _NAMED.get(value) or ("NaN" if bits == _QUIET_NAN else bits[::-1].hex())


# -- tensors --------------------------------------------------------------------------------------


def tensor_object(array: Any, what: str) -> dict[str, Any]:
    """A tensor as a JSON object: dtype, shape, and ``data`` (nested lists) or ``base64`` (its bytes)."""
    if not isinstance(array, (np.ndarray, np.generic)):
        raise SaveError(f"{what} is of type {type(array).__name__}; a NumPy array is due")
    array = np.asarray(array)
    try:
        dtype, raw = array_dtype(array), raw_bytes(array)
    except SaveError as e:
        raise SaveError(f"{what}: {e}") from e
    result: dict[str, Any] = {"dtype": dtype, "shape": [int(n) for n in array.shape]}
    listed = _listed(array, dtype, raw)
    if listed is None:
        result["base64"] = base64.b64encode(raw).decode("ascii")
    else:
        result["data"] = listed
    return result


def _listed(array: Array, dtype: str, raw: memoryview) -> Any:
    """The elements as nested lists, or None where lists would be long or would lose bits."""
    if dtype == "string":
        return array.tolist() if array.size else []
    if array.size > LISTED_ELEMENTS or DTYPES[dtype].kind == "c":
        return None
    if not array.size:
        return []
    flat = [_element(x, DTYPES[dtype].kind) for x in array.reshape(-1)]
    with np.errstate(all="ignore"):
        back = np.array([float(x) if isinstance(x, str) else x for x in flat]).astype(array.dtype)
    if raw_bytes(back).tobytes() != raw.tobytes():
        return None
    for n in reversed(array.shape[1:]):
        flat = [flat[i : i + n] for i in range(0, len(flat), n)]
    return flat if array.ndim else flat[0]


def _element(x: Any, kind: str) -> Any:
    """One element as a JSON value: the shortest decimal that gives it back, where NumPy knows it."""
    if kind == "b":
        return bool(x)
    if kind in "iu":
        return int(x)
    number = float(str(x)) if isinstance(x, np.floating) else float(x)
    return number if math.isfinite(number) else _NAMED.get(number, "NaN")
