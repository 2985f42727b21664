"""What an ONNX model says beside its graph, kept in `Graph.metadata` so that it can be written back.

Keys that begin with ``onnx.`` are ours; every other entry is one of the model's ``metadata_props``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from onnx import GraphProto, ModelProto, NodeProto, StringStringEntryProto, ValueInfoProto

from graphrt.plugin import ConversionError, Graph

PREFIX = "onnx."
_MODEL_FIELDS = ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string")
_WHOLE = ("ir_version", "model_version")
LAYOUT = "onnx.layout"
"""Metadata key: JSON with what import moved: the order of inputs and initializers, and the custom domains."""
TEXTS = "onnx.texts"
"""Metadata key: JSON with the doc strings and properties of nodes and values."""


@dataclass
class Notes:
    """Collected while a model is read.

    Attributes:
        nodes, values: first output (of a node) or name to its doc string and properties.
        properties: initializer or value to its ``metadata_props``.
        order: names of inputs and of initializers as the model lists them.
    """

    nodes: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    graph_doc: str = ""
    order: dict[str, list[str]] = field(default_factory=dict)

    def remember_graph(self, proto: GraphProto) -> None:
        """Takes the texts of the outermost graph, its nodes and its values."""
        self.graph_doc = proto.doc_string
        for node in proto.node:
            if node.output:
                _remember(self.nodes, node.output[0], node)
        for group in (proto.input, proto.output, proto.value_info):
            for value in group:
                _remember(self.values, value.name, value)
        for tensor in proto.initializer:
            _remember(self.values, tensor.name, tensor)
        self.order = {"inputs": [v.name for v in proto.input], "initializers": [t.name for t in proto.initializer]}

    def property(self, value: str, key: str) -> str:
        """One of the ``metadata_props`` of a value, or "" when there is none."""
        return str(self.values.get(value, {}).get("properties", {}).get(key, ""))


def _remember(table: dict[str, Any], name: str, proto: Any) -> None:
    text: dict[str, Any] = {"doc": proto.doc_string} if proto.doc_string else {}
    if proto.metadata_props:
        text["properties"] = {e.key: e.value for e in proto.metadata_props}
    if text:
        table.setdefault(name, text)


def metadata_from(model: ModelProto, graph: Graph, notes: Notes) -> dict[str, str]:
    """The graph's metadata: the model's properties, fields and texts."""
    found = {e.key if not e.key.startswith(PREFIX) else f"onnx.property.{e.key}": e.value for e in model.metadata_props}
    for name in _MODEL_FIELDS:
        value = getattr(model, name)
        if value:
            found[PREFIX + name] = str(value)
    if notes.graph_doc:
        found["onnx.graph_doc_string"] = notes.graph_doc
    if notes.nodes or notes.values:
        found[TEXTS] = json.dumps({"nodes": notes.nodes, "values": notes.values}, sort_keys=True)
    return found


def write_model_fields(model: ModelProto, metadata: Mapping[str, str]) -> None:
    """Fills in what `metadata_from` kept; ``producer_name`` is graphrt's where the graph names none."""
    model.producer_name = "graphrt"
    for name in _MODEL_FIELDS:
        text = metadata.get(PREFIX + name)
        if text is not None:
            setattr(model, name, _whole(name, text) if name in _WHOLE else text)
    model.graph.doc_string = metadata.get("onnx.graph_doc_string", "")
    properties = {k: v for k, v in metadata.items() if not k.startswith(PREFIX)}
    prefix = "onnx.property."
    properties |= {k.removeprefix(prefix): v for k, v in metadata.items() if k.startswith(prefix)}
    add_properties(model.metadata_props, properties)


def _whole(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConversionError(
            f"the graph's metadata entry {PREFIX + name!r} is not a whole number: {text!r:.40}"
        ) from None


def add_properties(target: Any, properties: Mapping[str, str]) -> None:
    """Appends ``metadata_props`` entries."""
    target.extend(StringStringEntryProto(key=k, value=v) for k, v in properties.items())


def write_texts(protos: Iterable[NodeProto | ValueInfoProto], texts: Mapping[str, Any]) -> None:
    """Gives nodes or values their doc strings and properties back."""
    for proto in protos:
        key = proto.name if isinstance(proto, ValueInfoProto) else next(iter(proto.output), "")
        text = texts.get(key)
        if isinstance(text, dict):
            proto.doc_string = str(text.get("doc", ""))
            add_properties(proto.metadata_props, text.get("properties", {}))


def read_json(metadata: Mapping[str, str], key: str) -> dict[str, Any]:
    """One of our JSON entries; empty when there is none.

    Raises:
        ConversionError: the entry was damaged.
    """
    try:
        found = json.loads(metadata.get(key, "{}"))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConversionError(f"the graph's metadata entry {key!r} is not the JSON that import wrote; remove it")
    return found
