"""Expands functions: those that the model brings, and ops that ONNX itself defines by a body.

ONNX's own inliner does the work: it renames what would clash, substitutes attributes, goes into nested calls and
converts a body that was written for another opset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx
import onnx.inliner
from onnx import GraphProto, ModelProto, NodeProto

from graphrt.plugin import ConversionError, GraphrtError
from graphrt.registry import Registry

NATIVE = "graphrt"
"""The domain whose functions are bodies of ops that graphrt has natively."""


def expand_functions(model: ModelProto, opsets: Mapping[str, int], registry: Registry) -> ModelProto:
    """The model without calls to functions.

    Args:
        model: any model; not changed.
        opsets: what it imports.
        registry: an op that it has is left alone, unless the model brings a function of that name.

    Returns:
        The model itself when there is nothing to expand.

    Raises:
        ConversionError: a function calls itself, or cannot be expanded.
    """
    native = [(f.domain, f.name) for f in model.functions if f.domain == NATIVE and registry.versions(f.name, NATIVE)]
    if len(native) < len(model.functions):
        _require_no_recursion(model)
        model = _inlined(model, native)
    wanted = sorted({(n.domain, n.op_type) for n in _nodes(model.graph) if _has_body_only(n, opsets, registry)})
    if wanted:
        model = _bodies_inlined(model, wanted, opsets)
    return model


def _inlined(model: ModelProto, native: list[tuple[str, str]]) -> ModelProto:
    light, weights = _without_weights(model)
    try:
        if native:
            found = onnx.inliner.inline_selected_functions(light, native, exclude=True)
        else:
            found = onnx.inliner.inline_local_functions(light, convert_version=_mixes_versions(model))
    except Exception as e:
        raise ConversionError(f"the model's functions cannot be expanded: {e}") from e
    return _with_weights(found, weights)


def _bodies_inlined(model: ModelProto, wanted: list[tuple[str, str]], opsets: Mapping[str, int]) -> ModelProto:
    light, weights = _without_weights(model)
    if light is model:
        light = ModelProto()
        light.CopyFrom(model)
    _fill_in_defaults(light, wanted, opsets)
    try:
        found = onnx.inliner.inline_selected_functions(light, wanted, inline_schema_functions=True)
    except Exception as e:
        names = ", ".join(name for _, name in wanted)
        raise ConversionError(f"ONNX's own definition of {names} cannot be expanded: {e}") from e
    return _with_weights(found, weights)


def _fill_in_defaults(model: ModelProto, wanted: list[tuple[str, str]], opsets: Mapping[str, int]) -> None:
    """Writes out the attributes that nodes leave to their default: the inliner does not know these."""
    for node in _nodes(model.graph):
        if (node.domain, node.op_type) in wanted:
            domain = "" if node.domain == "ai.onnx" else node.domain
            given = {a.name for a in node.attribute}
            for name, a in onnx.defs.get_schema(node.op_type, opsets[domain], domain).attributes.items():
                if name not in given and a.default_value.type:
                    node.attribute.append(a.default_value)


def _without_weights(model: ModelProto) -> tuple[ModelProto, list[onnx.TensorProto]]:
    """A copy for the inliner, which serializes what it is given: large weights stay out of it."""
    if model.ByteSize() < 1 << 26:
        return model, []
    light, weights = ModelProto(), list(model.graph.initializer)
    light.CopyFrom(ModelProto(**{f.name: v for f, v in model.ListFields() if f.name != "graph"}))
    light.graph.CopyFrom(GraphProto(**{f.name: v for f, v in model.graph.ListFields() if f.name != "initializer"}))
    for t in weights:
        light.graph.initializer.add(name=t.name, data_type=t.data_type, dims=t.dims)
    return light, weights


def _with_weights(model: ModelProto, weights: list[onnx.TensorProto]) -> ModelProto:
    by_name = {t.name: t for t in weights}
    for t in model.graph.initializer:
        if t.name in by_name:
            t.CopyFrom(by_name[t.name])
    return model


def _mixes_versions(model: ModelProto) -> bool:
    """Whether a function imports another opset of the default domain than the model does."""
    used = {e.version for e in model.opset_import if e.domain in ("", "ai.onnx")}
    return any(e.version not in used for f in model.functions for e in f.opset_import if e.domain in ("", "ai.onnx"))


def _require_no_recursion(model: ModelProto) -> None:
    calls = {
        (f.domain, f.name, f.overload): {(n.domain, n.op_type, n.overload) for n in _nodes(f)} for f in model.functions
    }
    settled: set[tuple[str, str, str]] = set()
    while len(settled) < len(calls):
        ready = [f for f, called in calls.items() if f not in settled and not (called & calls.keys()) - settled]
        if not ready:
            names = ", ".join(f"{d}::{n}" for d, n, _ in sorted(calls.keys() - settled))
            raise ConversionError(f"the model's functions call themselves: {names}")
        settled.update(ready)


def _nodes(holder: GraphProto | onnx.FunctionProto) -> Iterator[NodeProto]:
    """Every node, also in subgraphs."""
    waiting: list[GraphProto | onnx.FunctionProto] = [holder]
    while waiting:
        for node in waiting.pop().node:
            yield node
            for a in node.attribute:
                waiting += [a.g] if a.HasField("g") else []
                waiting += a.graphs


def _has_body_only(node: NodeProto, opsets: Mapping[str, int], registry: Registry) -> bool:
    """Whether graphrt has no such op, and ONNX defines it by other ops."""
    domain = "" if node.domain == "ai.onnx" else node.domain
    version = opsets.get(domain)
    if version is None:
        return False
    try:
        registry.find_op(node.op_type, domain, version)
    except GraphrtError:
        try:
            schema = onnx.defs.get_schema(node.op_type, version, domain)
        except onnx.defs.SchemaError:
            return False
        return bool(schema.has_function or schema.has_context_dependent_function)  # type: ignore[attr-defined]
    return False
