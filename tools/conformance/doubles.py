"""A copy of a graph that computes in float64, with tensors for inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphrt.ir import Graph, Node, Value
from graphrt.types import OptionalType, SequenceType, TensorType, ValueType

Arrays = dict[str, Any]
NARROW = ("float16", "bfloat16", "float32")
_NARROW_NUMBERS = (1, 10, 16)  # FLOAT, FLOAT16, BFLOAT16 in TensorProto.DataType
_DOUBLE = 11
_DTYPE_ATTRIBUTES = ("to", "dtype", "stash_type", "softmax_precision", "output_datatype")


def widened(graph: Graph) -> Graph:
    """The graph with float64 in place of float32 and the 16-bit floats, in weights, constants, types and casts."""
    return graph.replace(
        inputs=tuple(Value(v.name, _type(v.type)) for v in graph.inputs),
        outputs=tuple(Value(v.name, _type(v.type)) for v in graph.outputs),
        nodes=tuple(map(_node, graph.nodes)),
        initializers={k: wide(a) for k, a in graph.initializers.items()},
        value_info={k: _type(t) for k, t in graph.value_info.items()},
    )


def wide(value: Any) -> Any:
    """An array (or list, or dictionary of arrays) with its narrow floats in float64."""
    if isinstance(value, list):
        return [wide(v) for v in value]
    if isinstance(value, np.ndarray) and value.dtype.name in NARROW:
        return value.astype(np.float64)
    return value


def _type(t: ValueType) -> ValueType:
    if isinstance(t, TensorType):
        return TensorType("float64", t.shape) if t.dtype in NARROW else t
    if isinstance(t, (SequenceType, OptionalType)):
        return type(t)(_type(t.element))
    return t


def _node(node: Node) -> Node:
    return Node(
        node.op_type, node.inputs, node.outputs,
        _attributes(node), node.domain, node.name,
    )  # fmt: skip


def _attributes(node: Node) -> Arrays:
    found = {k: _attribute(node, k, v) for k, v in node.attributes.items()} | _added(node)
    return {k: v for k, v in found.items() if v is not None}


def _attribute(node: Node, key: str, value: Any) -> Any:
    if key in _DTYPE_ATTRIBUTES and value in _NARROW_NUMBERS and not isinstance(value, np.ndarray):
        return _DOUBLE
    if key == "to" and isinstance(value, str) and value.upper() in ("FLOAT", "FLOAT16"):
        return "DOUBLE"
    if isinstance(value, Graph):
        return widened(value)
    if isinstance(value, tuple):
        return tuple(_attribute(node, "", v) for v in value)
    if isinstance(value, (SequenceType, OptionalType, TensorType)):
        return _type(value)
    return wide(value)


def _added(node: Node) -> Arrays:
    """What makes an op compute in float64 that computes in float32 unless told."""
    if node.op_type == "Constant" and "value_float" in node.attributes:
        return {"value": np.float64(node.attributes["value_float"]) + np.zeros(()), "value_float": None}
    if node.op_type == "Constant" and "value_floats" in node.attributes:
        return {"value": np.array(node.attributes["value_floats"], np.float64), "value_floats": None}
    if node.op_type in ("RandomNormal", "RandomUniform", "SequenceEmpty") and "dtype" not in node.attributes:
        return {"dtype": _DOUBLE}
    if node.op_type == "ConstantOfShape" and "value" not in node.attributes:
        return {"value": np.zeros(1, np.float64)}
    if node.op_type == "LayerNormalization" and "stash_type" not in node.attributes:
        return {"stash_type": _DOUBLE}
    if node.op_type in ("BlackmanWindow", "HannWindow", "HammingWindow", "MelWeightMatrix"):
        return {"output_datatype": _DOUBLE}
    return {}


def with_random_weights(graph: Graph) -> Graph:
    """The graph with random weights in place of those that ConstantOfShape makes, all alike."""
    rng = np.random.default_rng(0)
    variances = {n.inputs[4] for n in graph.nodes if n.op_type == "BatchNormalization"}
    nodes = []
    for n in graph.nodes:
        shape = graph.initializers.get(n.inputs[0]) if n.op_type == "ConstantOfShape" else None
        if shape is not None:
            fan_in = max(int(np.prod(shape[1:])), 1)
            drawn = rng.normal(size=tuple(shape)) / np.sqrt(fan_in)
            if n.outputs[0] in variances:
                drawn = rng.uniform(0.5, 1.5, tuple(shape))
            n = Node("Constant", (), n.outputs, {"value": drawn.astype(np.float32)}, name=n.name)
        nodes.append(n)
    return graph.replace(nodes=tuple(nodes))


def flattened(graph: Graph, feeds: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Graph, Arrays]:
    """The graph with each sequence or optional among its inputs and outputs replaced by its tensors.

    Args:
        graph: any graph.
        feeds: what it is run with; gives the lengths of its sequences.
        outputs: what comes out.

    Returns:
        A graph that takes and gives tensors only, and its feeds.
    """
    before: list[Node] = []
    after: list[Node] = []
    given: Arrays = {}
    inputs: list[Value] = []
    for v in graph.inputs:
        if v.name not in feeds:
            continue
        if isinstance(v.type, TensorType) or not _holds_arrays(feeds[v.name]):
            inputs.append(v)
            given[v.name] = feeds[v.name]
            continue
        _pack(v.name, v.type, feeds[v.name], before, inputs, given)
    found = [v for v in graph.outputs if not isinstance(outputs[v.name], (list, tuple))]
    for v in graph.outputs:
        if isinstance(outputs[v.name], (list, tuple)):
            found += _unpack(v, outputs[v.name], after)
    nodes = (*before, *graph.nodes, *after)
    return graph.replace(inputs=tuple(inputs), outputs=tuple(found), nodes=nodes), given


def _holds_arrays(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (isinstance(value, list) and bool(value) and all(map(_holds_arrays, value)))


def _pack(name: str, t: ValueType, value: Any, nodes: list[Node], inputs: list[Value], given: Arrays) -> None:
    """Builds a sequence or optional from tensor inputs."""
    if isinstance(t, OptionalType):
        _pack(f"{name}.element", t.element, value, nodes, inputs, given)
        nodes.append(Node("Optional", (f"{name}.element",), (name,)))
    elif isinstance(t, SequenceType):
        parts = [f"{name}.{i}" for i in range(len(value))]
        for part, v in zip(parts, value, strict=True):
            _pack(part, t.element, v, nodes, inputs, given)
        nodes.append(Node("SequenceConstruct", tuple(parts), (name,)))
    else:
        inputs.append(Value(name, TensorType.of(value)))
        given[name] = value


def _unpack(v: Value, value: Any, nodes: list[Node]) -> list[Value]:
    """The tensors of a sequence output."""
    found = []
    name = v.name
    if isinstance(v.type, OptionalType):
        nodes.append(Node("OptionalGetElement", (name,), (f"{name}.element",)))
        name = f"{name}.element"
    for i, element in enumerate(value):
        if isinstance(element, np.ndarray):
            nodes.append(Node("Constant", (), (f"{v.name}.at{i}",), {"value": np.array(i, np.int64)}))
            nodes.append(Node("SequenceAt", (name, f"{v.name}.at{i}"), (f"{v.name}.{i}",)))
            found.append(Value(f"{v.name}.{i}", TensorType.of(element)))
    return found
