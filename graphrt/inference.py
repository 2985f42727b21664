"""Types of all values of a graph, from the declared ones and the ops' own rules.

Small values that are known before the graph runs (constants, and shape arithmetic over known shapes) are
computed along the way, so that a ``Reshape`` or ``Slice`` steered by them has a known result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from graphrt.errors import GraphrtError, TypeInferenceError
from graphrt.ir import Graph, Node, format_neighborhood
from graphrt.ir.dag import execution_order
from graphrt.op import Op
from graphrt.records import dataclass, field
from graphrt.registry import Registry
from graphrt.types import UNKNOWN, TensorType, ValueType, numpy_dtype

SMALL = 256
"""The most elements a value may have to be computed ahead of time."""

Problem = Callable[[Node, Exception], None]


@dataclass
class Inferred:
    """What is known of each value: its type, and its array where that is a small constant."""

    types: dict[str, ValueType] = field(default_factory=dict)
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def type(self, name: str) -> ValueType:
        """The type of a value; unknown when nothing is known."""
        return self.types.get(name, UNKNOWN)


def infer(
    graph: Graph,
    registry: Registry,
    *,
    inputs: Mapping[str, ValueType] | None = None,
    outer: Inferred | None = None,
    order: list[int] | None = None,
    on_error: Problem | None = None,
    fold_floats: bool = True,
    trust_declared: bool = True,
) -> Inferred:
    """Infers the type of every value.

    Args:
        graph: the graph; acyclic.
        registry: where the ops are looked up. A node whose op is unknown has outputs of declared type.
        inputs: types of the inputs as they will be fed (default: as declared).
        outer: what is known outside, for a subgraph.
        order: positions of the nodes in topological order, where the caller has it.
        on_error: called with the node and the error instead of raising.
        fold_floats: whether initializers of float type count as constants (they do not where they are trained).
        trust_declared: whether declared shapes of inner values count where nothing is inferred. Files often
            declare them loosely, so plans and derivatives build on the declared element types alone.

    Raises:
        TypeInferenceError: the types of a node's inputs do not fit its op; shows the node in the listing.
        UnknownOpError: only through ``on_error``; otherwise unknown ops are passed over.
    """
    known = Inferred(dict(outer.types), dict(outer.constants)) if outer else Inferred()
    declared = graph.declared_types()
    if not trust_declared:
        declared = {k: TensorType(t.dtype) if isinstance(t, TensorType) else t for k, t in declared.items()}
    overridable = set(graph.input_names) | set(graph.state_updates)
    for name, array in graph.initializers.items():
        known.types[name] = TensorType.of(array)
        if array.size <= SMALL and name not in overridable and (fold_floats or array.dtype.kind not in "fcV"):
            known.constants[name] = _read_only(array)
    for value in graph.inputs:
        if value.type != UNKNOWN or value.name not in known.types:
            known.types[value.name] = value.type
    known.types.update(inputs or {})
    with np.errstate(all="ignore"):  # as when the graph runs
        for index in execution_order(graph) if order is None else order:
            _infer_node(graph, graph.nodes[index], registry, known, declared, on_error)
    return known


def _infer_node(
    graph: Graph,
    node: Node,
    registry: Registry,
    known: Inferred,
    declared: Mapping[str, ValueType],
    on_error: Problem | None,
) -> None:
    try:
        found = registry.op_of(node, graph)
    except GraphrtError as e:
        if on_error:
            on_error(node, e)
        _note(node, (), known, declared)
        return
    try:
        values = [known.constants.get(i) for i in node.inputs]
        types = [known.types.get(i, UNKNOWN) if i else None for i in node.inputs]
        opset = graph.opset_imports.get(node.domain, 0)
        if "of" in node.attributes and "." in node.op_type:  # cotangents and tangents are of the type of their values
            inferred = tuple(known.type(v) if v else UNKNOWN for v in cast(tuple[str, ...], node.attributes["of"]))
        else:
            inferred = found.infer_types(types, node.attributes, values, len(node.outputs), opset)
        _note(node, inferred, known, declared)
        _compute(node, found, values, opset, known)
    except GraphrtError as e:
        if on_error is None:
            raise TypeInferenceError(f"{e}\nat node {node.label!r}:\n{format_neighborhood(graph, node)}") from e
        on_error(node, e)
        _note(node, (), known, declared)


def _note(node: Node, inferred: tuple[ValueType, ...], known: Inferred, declared: Mapping[str, ValueType]) -> None:
    for i, name in enumerate(node.outputs):
        if name:
            found = inferred[i] if i < len(inferred) and inferred[i] is not None else UNKNOWN
            known.types[name] = merge_types(found, declared.get(name, UNKNOWN))


def merge_types(inferred: ValueType, declared: ValueType) -> ValueType:
    """The more precise of two types of one value; what is inferred wins where they differ."""
    if inferred == UNKNOWN:
        return declared
    if not isinstance(inferred, TensorType) or not isinstance(declared, TensorType):
        return inferred
    shape = inferred.shape
    if shape is None:
        shape = declared.shape
    elif declared.shape is not None and len(shape) == len(declared.shape):
        shape = tuple(b if a is None else a for a, b in zip(shape, declared.shape, strict=True))
    return TensorType(inferred.dtype or declared.dtype, shape)


def _compute(node: Node, found: Op, values: list[Any], opset: int, known: Inferred) -> None:
    """Runs the op ahead of time when everything it reads is a small known array, or a known shape."""
    if "." in node.op_type or "rng" in found.context or any(node.subgraphs()) or not any(node.outputs):
        return
    of_shape = _OF_SHAPE.get((node.domain, node.op_type))
    if of_shape is None:
        absent = any(v is None and i for v, i in zip(values, node.inputs, strict=True))
        if absent or not all(_is_small(known.type(o)) for o in node.outputs if o):
            return
    supplied = {"n_outputs": len(node.outputs), "opset": opset}
    attributes = dict(node.attributes) | {c: supplied[c] for c in found.context}
    try:
        result = of_shape(known.type(node.inputs[0]), attributes) if of_shape else found.function(*values, **attributes)
    except Exception as e:
        raise TypeInferenceError(f"{found.qualified_name}: {e}") from e
    for name, r in zip(node.outputs, result if isinstance(result, tuple) else (result,), strict=False):
        if name and isinstance(r, (np.ndarray, np.generic)):
            known.constants[name] = _read_only(np.asarray(r))


def _read_only(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _shape_value(t: ValueType, attributes: Mapping[str, Any]) -> Any:
    shape = _static_shape(t)
    return None if shape is None else np.asarray(shape[attributes.get("start", 0) : attributes.get("end")], np.int64)


def _size_value(t: ValueType, attributes: Mapping[str, Any]) -> Any:
    shape = _static_shape(t)
    return None if shape is None else np.asarray(np.prod(shape, dtype=np.int64))


def _like_value(t: ValueType, attributes: Mapping[str, Any]) -> Any:
    shape, dtype = _static_shape(t), getattr(t, "dtype", None)
    return None if shape is None or dtype is None else np.broadcast_to(np.zeros((), numpy_dtype(dtype)), shape)


_OF_SHAPE: Mapping[tuple[str, str], Callable[[ValueType, Mapping[str, Any]], Any]] = {
    ("", "Shape"): _shape_value,
    ("", "Size"): _size_value,
    ("graphrt", "Like"): _like_value,
}
"""Ops that look at nothing but the type of their input: known with it, whatever the input's size."""


def _static_shape(t: ValueType) -> tuple[int, ...] | None:
    if isinstance(t, TensorType) and t.shape is not None:
        dims = tuple(d for d in t.shape if isinstance(d, int))
        return dims if len(dims) == len(t.shape) else None
    return None


def _is_small(t: ValueType) -> bool:
    shape = _static_shape(t)
    return shape is not None and int(np.prod(shape, dtype=np.float64)) <= SMALL
