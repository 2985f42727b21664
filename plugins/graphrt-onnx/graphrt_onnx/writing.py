"""A graph becomes an ONNX model that ONNX's checker accepts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from graphrt.inference import infer
from graphrt.ir.dag import schedule
from graphrt.manager import get_registry
from graphrt.passes.mode import set_mode
from graphrt.plugin import ConversionError, Graph, GraphrtError, MapType, Node, OptionalType, SequenceType, TensorType
from graphrt.registry import Registry
from graphrt.types import UNKNOWN, ValueType
from graphrt_onnx.bodies import Bodies
from graphrt_onnx.errors import converting
from graphrt_onnx.notes import LAYOUT, TEXTS, read_json, write_model_fields, write_texts
from graphrt_onnx.tensors import Array, tensor_of
from graphrt_onnx.value_types import is_complete, type_to_onnx

KNOWN_DOMAINS = frozenset(
    ["", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training", "ai.onnx.training", "com.microsoft"]
)
"""Domains whose ops an ONNX runtime knows by itself."""

_A = AttributeProto
_FIELDS = {
    "i": (_A.INT, _A.INTS, "ints"), "f": (_A.FLOAT, _A.FLOATS, "floats"), "s": (_A.STRING, _A.STRINGS, "strings"),
    "t": (_A.TENSOR, _A.TENSORS, "tensors"), "g": (_A.GRAPH, _A.GRAPHS, "graphs"),
    "tp": (_A.TYPE_PROTO, _A.TYPE_PROTOS, "type_protos"),
}  # fmt: skip
"""Field of an attribute with one value to its kind, that of a list, and the list's field."""
MakeTensor = Callable[[Array, str], TensorProto]


def to_onnx(
    graph: Graph,
    *,
    custom_domains: Collection[str] = (),
    registry: Registry | None = None,
    check: bool = True,
    initializer: MakeTensor = tensor_of,
) -> ModelProto:
    """Makes an ONNX model of a graph.

    Ops of domain ``graphrt`` (losses, Step, Maxout, …) are written as calls of functions whose bodies are ONNX
    ops. State updates have no form in ONNX: where a graph has them, it is written as it runs in inference.

    Args:
        graph: what to write. One that came from `from_onnx` gets its names, order, opsets and metadata back.
        custom_domains: further domains whose ops may be written as they are, for a runtime that knows them;
            those that an imported model used are always allowed.
        registry: where ops are looked up for the types of values (default: what is installed).
        check: whether ONNX's checker, with shape inference, must accept the model.
        initializer: makes the message of a weight from its array and name.

    Raises:
        ConversionError: the graph cannot be said in ONNX; names the node and what to do.
    """
    found = get_registry() if registry is None else registry
    with converting(f"graph {graph.name or 'unnamed'!r}"):
        return _Writer(graph, found, custom_domains, initializer).model(check)


class _Writer:
    def __init__(self, graph: Graph, registry: Registry, custom_domains: Collection[str], initializer: MakeTensor):
        self.registry = registry
        self.graph = set_mode(graph, registry, mode="infer") if graph.state_updates else graph
        self.layout = read_json(graph.metadata, LAYOUT)
        self.allowed = KNOWN_DOMAINS | set(custom_domains) | set(self.layout.get("domains", ()))
        self.initializer = initializer
        known = infer(self.graph, registry, on_error=lambda node, error: None)
        self.types = {**known.types, **{v.name: v.type for v in self.graph.inputs}}
        self.bodies = Bodies(self.types, self.graph.opset_imports.get("", 1), set(custom_domains))

    def model(self, check: bool) -> ModelProto:
        """The whole model."""
        model = ModelProto()
        self._fill(model.graph, self.graph, outermost=True)
        texts = read_json(self.graph.metadata, TEXTS)
        model.graph.value_info.extend(_noted_weights(model.graph, texts.get("values", {})))
        write_texts(model.graph.node, texts.get("nodes", {}))
        for values in (model.graph.input, model.graph.output, model.graph.value_info):
            write_texts(values, texts.get("values", {}))
        model.functions.extend(self.bodies.functions)
        self._write_opsets(model)
        write_model_fields(model, self.graph.metadata)
        model.ir_version = max(model.ir_version, _least_ir_version(model))
        if check:
            _require_valid(model, imported="onnx.ir_version" in self.graph.metadata)
        return model

    def _write_opsets(self, model: ModelProto) -> None:
        imports = dict(self.graph.opset_imports)
        used = {n.domain for n in _all_nodes(model.graph)}
        if "" in used or not imports:
            imports.setdefault("", onnx.defs.onnx_opset_version())
        imports.update((f.domain, 1) for f in self.bodies.functions)
        for domain, version in imports.items():
            if domain in used or not domain.startswith("graphrt"):
                model.opset_import.add(domain=domain, version=version)

    # ---- graphs ----------------------------------------------------------------------------------------

    def _fill(self, proto: GraphProto, graph: Graph, outermost: bool = False) -> None:
        proto.name = graph.name or "graph"  # the checker demands one
        weights, nodes, inputs = dict(graph.initializers), list(graph.nodes), list(graph.inputs)
        if outermost:
            weights, nodes = self._restored(weights, nodes)
        for name, array in weights.items():
            with converting(f"initializer {name!r}"):
                proto.initializer.append(self.initializer(array, name))
        for node in _in_order(graph.replace(nodes=tuple(nodes))):
            with converting(f"node {node.label!r} ({node.qualified_op})"):
                self._write_node(node, proto)
        listed = {v.name: v for v in inputs}
        for name in self.layout.get("inputs", ()) if outermost else ():
            if name in weights:
                listed[name] = _value(name, TensorType.of(weights[name]))
        order = {name: i for i, name in enumerate(self.layout.get("inputs", ()))} if outermost else {}
        for v in sorted(listed.values(), key=lambda v: order.get(v.name, len(order))):
            proto.input.append(
                v if isinstance(v, ValueInfoProto) else self._declared(v.name, v.type, "input", outermost)
            )
        for v in graph.outputs:
            proto.output.append(self._declared(v.name, v.type, "output", outermost))
        for name, t in graph.value_info.items():
            if is_complete(t) and name not in weights:
                proto.value_info.append(_value(name, t))

    def _restored(self, weights: dict[str, Array], nodes: list[Node]) -> tuple[dict[str, Array], list[Node]]:
        """The initializers in the order in which they were read, with those that became Constant nodes."""
        names = self.layout.get("initializers", [])
        constants = {
            n.outputs[0]: n for n in nodes if n.op_type == "Constant" and not n.domain and n.outputs[0] in set(names)
        }
        arrays = {
            k: n.attributes["value"] for k, n in constants.items() if isinstance(n.attributes.get("value"), np.ndarray)
        }
        order = {name: i for i, name in enumerate(names)}
        merged: dict[str, Any] = {**weights, **arrays}
        kept = [n for n in nodes if not n.outputs or n.outputs[0] not in arrays]
        return dict(sorted(merged.items(), key=lambda item: order.get(item[0], len(order)))), kept

    def _declared(self, name: str, t: ValueType, what: str, outermost: bool) -> ValueInfoProto:
        inferred = self.types.get(name, UNKNOWN)
        if not is_complete(t) and (t == UNKNOWN or is_complete(inferred)):
            t = inferred
        if outermost and _lacks_element_type(t):
            raise ConversionError(f"the {what} {name!r} has the type {t}: ONNX needs its element type; declare it")
        return _value(name, t)

    # ---- nodes -----------------------------------------------------------------------------------------

    def _write_node(self, node: Node, target: GraphProto) -> None:
        if ".vjp[" in node.op_type or ".jvp[" in node.op_type:
            raise ConversionError(
                "it computes a derivative, and ONNX has no such op; export the forward graph, which is the one to run"
            )
        op_type, attributes = node.op_type, dict(node.attributes)
        kinds = self._kinds(node)
        if node.domain not in self.allowed:
            attributes = {**self._defaults(node), **attributes}
            called = self.bodies.call(Node(node.op_type, node.inputs, node.outputs, attributes, node.domain))
            if called is None:
                raise ConversionError(
                    f"ONNX has no op {node.qualified_op!r} and no function body is known; to write it as its own op, "
                    f"for a runtime that knows it, pass custom_domains=[{node.domain!r}]"
                )
            op_type = called
        proto = NodeProto(op_type=op_type, input=node.inputs, output=node.outputs)
        if node.name:
            proto.name = node.name
        if node.domain:
            proto.domain = node.domain
        for key, value in attributes.items():
            with converting(f"attribute {key!r}"):
                proto.attribute.append(self._attribute(key, value, kinds.get(key, "")))
        target.node.append(proto)

    def _kinds(self, node: Node) -> dict[str, str]:
        """Attribute name to kind, as the op declares it; empty for an unknown op."""
        try:
            return {a.name: a.kind for a in self.registry.op_of(node, self.graph).attributes.values()}
        except GraphrtError:
            return {}

    def _defaults(self, node: Node) -> dict[str, Any]:
        try:
            return {k: v for k, v in self.registry.op_of(node, self.graph).defaults().items() if v is not None}
        except GraphrtError:
            return {}

    def _attribute(self, name: str, value: Any, kind: str) -> AttributeProto:
        proto = AttributeProto(name=name)
        if isinstance(value, tuple) and not value:
            proto.type = {"floats": _A.FLOATS, "strings": _A.STRINGS, "graphs": _A.GRAPHS}.get(kind, _A.INTS)
            return proto
        if kind in ("float", "floats") and isinstance(value, (int, tuple)):
            value = tuple(map(float, value)) if isinstance(value, tuple) else float(value)
        field, make = self._field(value if isinstance(value, tuple) else (value,))
        single, several, plural = _FIELDS[field]
        if isinstance(value, tuple):
            proto.type = several
            getattr(proto, plural).extend(map(make, value))
        elif field in ("t", "g", "tp"):
            proto.type = single
            getattr(proto, field).CopyFrom(make(value))
        else:
            proto.type = single
            setattr(proto, field, make(value))
        return proto

    def _field(self, items: tuple[Any, ...]) -> tuple[str, Callable[[Any], Any]]:
        """The field of an attribute with one value, and what makes that value."""
        first = items[0]
        if all(isinstance(v, (int, np.integer)) for v in items):
            return "i", int
        if all(isinstance(v, (int, float, np.number)) for v in items):
            return "f", float
        if isinstance(first, (str, bytes)):
            return "s", lambda v: v if isinstance(v, bytes) else v.encode()
        if isinstance(first, np.ndarray):
            return "t", tensor_of
        if isinstance(first, Graph):
            return "g", self._subgraph
        if isinstance(first, (TensorType, SequenceType, OptionalType, MapType)):
            return "tp", type_to_onnx
        raise ConversionError(f"a value of type {type(first).__name__} cannot be an attribute in ONNX")

    def _subgraph(self, graph: Graph) -> GraphProto:
        proto = GraphProto()
        self._fill(proto, graph)
        return proto


def _value(name: str, t: ValueType) -> ValueInfoProto:
    proto = ValueInfoProto(name=name)
    if t != UNKNOWN:
        proto.type.CopyFrom(type_to_onnx(t))
    return proto


def _lacks_element_type(t: ValueType) -> bool:
    if isinstance(t, TensorType):
        return t.dtype is None
    return _lacks_element_type(t.value if isinstance(t, MapType) else t.element)


def _noted_weights(graph: GraphProto, texts: Collection[str]) -> list[ValueInfoProto]:
    """Declarations of the initializers that have texts, such as PyTorch's note whether they are parameters."""
    listed = {v.name for v in (*graph.input, *graph.output, *graph.value_info)}
    noted = [t for t in graph.initializer if t.name in texts and t.name not in listed]
    return [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in noted]


def _in_order(graph: Graph) -> Iterable[Node]:
    """The nodes, each after those that it reads from: what ONNX demands."""
    return [graph.nodes[i] for i in schedule(graph)]


def _all_nodes(graph: GraphProto) -> Iterable[NodeProto]:
    waiting = [graph]
    while waiting:
        for node in waiting.pop().node:
            yield node
            waiting += [g for a in node.attribute for g in ([a.g] if a.HasField("g") else a.graphs)]


def _least_ir_version(model: ModelProto) -> int:
    """The oldest IR version that has everything the model uses; 3 for an imported model that says so."""
    imports = [e for e in model.opset_import if e.domain in ("", "ai.onnx.ml", "ai.onnx.training")]
    least = 4
    listed = {v.name for v in model.graph.input}
    if model.ir_version == 3 and all(t.name in listed for t in model.graph.initializer):
        least = 3
    if model.functions:
        least = 8
    try:
        return max(
            least,
            int(onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True)) if not model.ir_version else least,
        )
    except ValueError:
        return least


def _require_valid(model: ModelProto, imported: bool) -> None:
    """Asks ONNX's checker; where its shape inference fails on a model that came from ONNX, it did so before."""
    try:
        try:
            onnx.checker.check_model(model, full_check=True)
        except onnx.shape_inference.InferenceError:
            if not imported:
                raise
            onnx.checker.check_model(model)
    except Exception as e:
        raise ConversionError(f"ONNX's checker refuses the model: {e}") from e
