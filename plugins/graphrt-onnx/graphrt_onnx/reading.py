"""An ONNX model becomes a graph.

Ops keep the meaning of the opset that the model imports: graphrt looks each up by version. What ONNX has and a
graph has not is resolved here: model-local functions are expanded, sparse tensors made dense, and weights,
constants and running statistics told apart (`graphrt_onnx.parameters`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto

from graphrt.ir.dag import find_cycle
from graphrt.manager import get_registry
from graphrt.plugin import ConversionError, Graph, Node, Value
from graphrt.registry import Registry
from graphrt.types import UNKNOWN, ValueType
from graphrt_onnx.errors import converting, describe
from graphrt_onnx.external import ExternalData
from graphrt_onnx.functions import expand_functions
from graphrt_onnx.gradients import expand_gradients
from graphrt_onnx.notes import Notes, metadata_from
from graphrt_onnx.parameters import sort_out_weights
from graphrt_onnx.tensors import Array, array_of, dense_array
from graphrt_onnx.value_types import type_from_onnx

_SCALARS: dict[int, str] = {
    AttributeProto.INT: "i", AttributeProto.INTS: "ints", AttributeProto.FLOAT: "f", AttributeProto.FLOATS: "floats",
}  # fmt: skip
_A = AttributeProto


def from_onnx(model: ModelProto | str | os.PathLike[str], *, registry: Registry | None = None) -> Graph:
    """Makes a graph of an ONNX model.

    Args:
        model: the model, or the path of its file. External data is only found through a path.
        registry: where ops are looked up (default: what is installed). Ops that it does not have stay in the
            graph as they are, unless ONNX or the model defines them by a function body.

    Returns:
        A graph with the model's names, opsets, types, metadata and weights; `graphrt_onnx.to_onnx` gives them back.

    Raises:
        ConversionError: the model is damaged or not well formed; names file, node and reason.
    """
    found = get_registry() if registry is None else registry
    if isinstance(model, ModelProto):
        with converting(f"model {model.graph.name!r}"):
            return _convert(model, None, found)
    path = Path(model)
    with converting(str(path)):
        return _convert(parse(path), path.resolve().parent, found)


def parse(path: Path) -> ModelProto:
    """The message in a file, without the external data.

    Raises:
        ConversionError: it cannot be read, or is no ONNX model.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ConversionError(f"cannot be read: {e.strerror or e}") from e
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, ValueError, RuntimeError) as e:
        raise ConversionError(
            "not an ONNX model, or a damaged one: its bytes are no protobuf message of that kind"
        ) from e
    return model


def _convert(model: ModelProto, folder: Path | None, registry: Registry) -> Graph:
    if not model.HasField("graph") or not model.ir_version:
        raise ConversionError("not an ONNX model: it has no graph or no ir_version")
    opsets = _opset_imports(model.opset_import)
    expanded = expand_functions(model, opsets, registry)
    opsets = _opset_imports(expanded.opset_import)
    notes = Notes()
    graph = _Reader(ExternalData(folder), notes).graph(expanded.graph, frozenset(), frozenset())
    graph = graph.replace(opset_imports=opsets, metadata=metadata_from(model, graph, notes))
    return sort_out_weights(expand_gradients(graph, registry), registry, model, notes)


def _opset_imports(imports: Iterable[onnx.OperatorSetIdProto]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in imports:
        domain = normal_domain(entry.domain)
        if found.setdefault(domain, entry.version) != entry.version:
            raise ConversionError(
                f"opset_import lists domain {domain!r} with versions {found[domain]} and {entry.version}"
            )
    return found or {"": 1}  # before IR version 3 there was no import: the first opset was meant


def normal_domain(domain: str) -> str:
    """The domain as graphs spell it: the default one has the empty name."""
    return "" if domain == "ai.onnx" else domain


class _Reader:
    """Reads graphs and their subgraphs.

    Values are single-assignment. A subgraph sees the values of the graphs around it that are defined before its
    node; redefining one of these is an error, while a name that only comes later is renamed inside the subgraph.
    """

    def __init__(self, external: ExternalData, notes: Notes):
        self.external, self.notes = external, notes

    def graph(self, proto: GraphProto, visible: frozenset[str], outer: frozenset[str]) -> Graph:
        """One graph.

        Args:
            proto: the message.
            visible: names of outer values that the graph may read.
            outer: all names defined around it, also those that are not visible yet.
        """
        defined = _definitions(proto)
        for name in sorted(defined & visible):
            raise ConversionError(
                f"subgraph {proto.name!r} defines {name!r} again, which an outer graph defines; rename the inner value"
            )
        rename = {n: _fresh(n, defined | outer) for n in sorted(defined & outer)}
        here = {rename.get(n, n) for n in defined}
        inputs = [self._value(v, rename) for v in proto.input]
        initializers = self._initializers(proto, rename)
        nodes = self._nodes(
            proto, rename, visible, frozenset(here) | outer, {v.name for v in inputs} | set(initializers)
        )
        outputs = [self._value(v, rename) for v in proto.output]
        info = {v.name: v.type for v in (self._value(v, rename) for v in proto.value_info) if v.type != UNKNOWN}
        graph = Graph(proto.name, {}, tuple(inputs), tuple(outputs), tuple(nodes), initializers, info)
        self._require_well_formed(graph, visible)
        if not outer and not visible:
            self.notes.remember_graph(proto)
        return graph

    def _nodes(
        self,
        proto: GraphProto,
        rename: Mapping[str, str],
        visible: frozenset[str],
        outer: frozenset[str],
        seen: set[str],
    ) -> list[Node]:
        nodes = []
        for n in proto.node:
            with converting(describe(n)):
                inside = frozenset(seen) | visible if any(a.HasField("g") or a.graphs for a in n.attribute) else visible
                nodes.append(self._node(n, rename, inside, outer))
            seen.update(nodes[-1].outputs)
        return nodes

    def _node(self, n: NodeProto, rename: Mapping[str, str], visible: frozenset[str], outer: frozenset[str]) -> Node:
        if not n.op_type:
            raise ConversionError("it has no op_type")
        inputs = _trimmed(rename.get(i, i) for i in n.input)
        outputs = _trimmed(rename.get(o, o) for o in n.output)
        attributes: dict[str, Any] = {}
        for a in n.attribute:
            if a.name in attributes:
                raise ConversionError(f"it has the attribute {a.name!r} twice")
            with converting(f"attribute {a.name!r}"):
                attributes[a.name] = self._attribute(a, rename, visible, outer)
        domain = normal_domain(n.domain)
        if n.op_type == "Constant" and not domain and "sparse_value" in attributes:
            attributes["value"] = attributes.pop("sparse_value")
        return Node(n.op_type, inputs, outputs, attributes, domain, n.name)

    def _attribute(
        self, a: AttributeProto, rename: Mapping[str, str], visible: frozenset[str], outer: frozenset[str]
    ) -> Any:
        if a.ref_attr_name:
            raise ConversionError(f"it refers to {a.ref_attr_name!r}, and there is no function around it")
        kind = a.type or _kind_of(a)
        if kind in _SCALARS:
            value = getattr(a, _SCALARS[kind])
            return value if isinstance(value, (int, float)) else tuple(value)
        if kind in (_A.STRING, _A.STRINGS):
            return _text(a.s) if kind == _A.STRING else tuple(map(_text, a.strings))
        if kind in (_A.TENSOR, _A.TENSORS):
            return self._array(a.t) if kind == _A.TENSOR else tuple(map(self._array, a.tensors))
        if kind in (_A.GRAPH, _A.GRAPHS):
            graphs = tuple(self.graph(g, visible, outer) for g in ([a.g] if kind == _A.GRAPH else a.graphs))
            return graphs[0] if kind == _A.GRAPH else graphs
        if kind in (_A.TYPE_PROTO, _A.TYPE_PROTOS):
            types = tuple(map(type_from_onnx, [a.tp] if kind == _A.TYPE_PROTO else a.type_protos))
            return types[0] if kind == _A.TYPE_PROTO else types
        if kind in (_A.SPARSE_TENSOR, _A.SPARSE_TENSORS):
            tensors = [a.sparse_tensor] if kind == _A.SPARSE_TENSOR else a.sparse_tensors
            dense = tuple(dense_array(t, self.external) for t in tensors)
            return dense[0] if kind == _A.SPARSE_TENSOR else dense
        raise ConversionError("it has no value of a known type")

    def _array(self, tensor: onnx.TensorProto) -> Array:
        return array_of(tensor, self.external)

    def _value(self, v: ValueInfoProto, rename: Mapping[str, str]) -> Value:
        with converting(f"value {v.name!r}"):
            t: ValueType = type_from_onnx(v.type) if v.HasField("type") else UNKNOWN
        return Value(rename.get(v.name, v.name), t)

    def _initializers(self, proto: GraphProto, rename: Mapping[str, str]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        for name, tensor in [(t.name, t) for t in proto.initializer] + [
            (t.values.name, t) for t in proto.sparse_initializer
        ]:
            with converting(f"initializer {name!r}"):
                if not name:
                    raise ConversionError("it has no name")
                if rename.get(name, name) in found:
                    raise ConversionError("it is defined twice")
                sparse = isinstance(tensor, onnx.SparseTensorProto)
                found[rename.get(name, name)] = dense_array(tensor, self.external) if sparse else self._array(tensor)
        return found

    def _require_well_formed(self, graph: Graph, visible: frozenset[str]) -> None:
        where = f"graph {graph.name!r}"
        produced: set[str] = set()
        for v in graph.inputs:
            if v.name in produced:
                raise ConversionError(f"{where}: the input {v.name!r} is declared twice")
            produced.add(v.name)
        produced.update(graph.initializers)
        for node in graph.nodes:
            for name in node.outputs:
                if name and name in produced:
                    raise ConversionError(
                        f"node {node.label!r} ({node.qualified_op}): the value {name!r} is defined already"
                    )
                produced.add(name)
        known = produced | visible | {""}
        for node in graph.nodes:
            for name in node.inputs:
                if name not in known:
                    raise ConversionError(
                        f"node {node.label!r} ({node.qualified_op}) reads {name!r}, which nothing produces"
                    )
        for v in graph.outputs:
            if v.name not in known or not v.name:
                raise ConversionError(f"{where}: the output {v.name!r} is produced by nothing")
        cycle = find_cycle(graph)
        if cycle:
            path = " -> ".join(f"{graph.nodes[i].label!r}" for i in (*cycle, cycle[0]))
            raise ConversionError(f"{where}: its nodes form a cycle: {path}")


def _definitions(proto: GraphProto) -> frozenset[str]:
    names = {v.name for v in proto.input} | {t.name for t in proto.initializer}
    names |= {t.values.name for t in proto.sparse_initializer} | {o for n in proto.node for o in n.output}
    return frozenset(names - {""})


def _fresh(name: str, taken: frozenset[str]) -> str:
    n = 1
    while f"{name}_{n}" in taken:
        n += 1
    return f"{name}_{n}"


def _trimmed(names: Iterable[str]) -> tuple[str, ...]:
    """Names without the absent ones at the end, which mean nothing."""
    found = list(names)
    while found and not found[-1]:
        found.pop()
    return tuple(found)


def _text(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _kind_of(a: AttributeProto) -> int:
    """The kind of an attribute that does not say it, as in files before IR version 2: by what is filled in."""
    fields = {
        "f": _A.FLOAT, "i": _A.INT, "s": _A.STRING, "t": _A.TENSOR, "g": _A.GRAPH, "floats": _A.FLOATS,
        "ints": _A.INTS, "strings": _A.STRINGS, "tensors": _A.TENSORS, "graphs": _A.GRAPHS,
    }  # fmt: skip
    set_fields = {f.name for f, _ in a.ListFields()}
    return next((kind for name, kind in fields.items() if name in set_fields), 0)
