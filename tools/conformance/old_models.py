"""Every version of every operator schema, the opsets where it is in force, and ONNX models of one node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from graphrt_onnx import to_onnx
from graphrt_onnx.tensors import tensor_of
from graphrt_onnx.value_types import type_to_onnx
from onnx import AttributeProto, ModelProto, NodeProto, TypeProto, ValueInfoProto, defs, helper

from graphrt.ir import Graph, Node
from graphrt.manager import get_registry
from graphrt.op import Op
from graphrt.types import MapType, SequenceType, TensorType, ValueType

OLDEST = {"": 6, "ai.onnx.ml": 1}
"""Domain to the first opset that counts."""

RELEASES = {"": 1, "ai.onnx.ml": 2}
"""Domain to its column in ONNX's table of releases: name, IR version, opset of each domain."""

NEWEST_IR = 13
"""The newest IR version that ONNX Runtime reads; what changed since is not in the models."""

NEWEST_SHARED = {"": 27, "ai.onnx.ml": 5}
"""Domain to the newest opset that ONNX Runtime knows too."""

_ALIASES = {"float": "float32", "double": "float64"}
_A = AttributeProto


@dataclass(frozen=True)
class Subject:
    """One schema at one opset, and the op that graphrt has for it."""

    schema: defs.OpSchema
    opset: int
    op: Op

    @property
    def name(self) -> str:
        """``"Squeeze-11"``: the schema, by its first opset."""
        return f"{self.schema.domain and self.schema.domain + '::'}{self.schema.name}-{self.schema.since_version}"

    @property
    def key(self) -> str:
        """``"Squeeze-11@12"``: the schema at one opset."""
        return f"{self.name}@{self.opset}"

    def allowed(self, type_name: str) -> list[str]:
        """The element types that a type of the schema ("T", "tensor(int64)") stands for; none for maps."""
        strings = {c.type_param_str: c.allowed_type_strs for c in self.schema.type_constraints}
        found = (_element(s) for s in strings.get(type_name, [type_name]))
        return [e for e in dict.fromkeys(found) if e]

    def formal(self, index: int) -> Any:
        """The schema's input at a place; the last one takes the rest."""
        return self.schema.inputs[min(index, len(self.schema.inputs) - 1)]


@dataclass
class Trial:
    """One node to build: a list of inputs (None: absent), attributes, the number of outputs.

    Attributes:
        outer: arrays that subgraphs capture, by name.
        constants: places of the inputs that become initializers.
        label: where it comes from.
        smooth: whether differences mean something there.
    """

    inputs: list[Any]
    attributes: dict[str, Any]
    n_outputs: int
    label: str
    outer: dict[str, Any] = field(default_factory=dict)
    constants: frozenset[int] = frozenset()
    smooth: bool = True

    def describe(self, subject: Subject) -> str:
        """The node in one line, with its attributes and inputs."""
        inputs = ", ".join(
            f"{subject.formal(i).name}={_show(x)}" + ("!" if i in self.constants else "")
            for i, x in enumerate(self.inputs)
        )
        attributes = ", ".join(f"{k}={_show(v)}" for k, v in self.attributes.items())
        return f"{subject.key} <{attributes}> ({inputs}) -> {self.n_outputs} [{self.label}]"


def all_subjects() -> list[Subject]:
    """Each schema that is not deprecated, at the first and the last opset where it is in force (and the last that ONNX
    Runtime knows)."""
    by_name: dict[tuple[str, str], list[defs.OpSchema]] = {}
    for schema in defs.get_all_schemas_with_history():
        if schema.domain in OLDEST:
            by_name.setdefault((schema.domain, schema.name), []).append(schema)
    found = []
    for (domain, _), versions in sorted(by_name.items()):
        versions.sort(key=lambda s: s.since_version)
        newest = max(int(r[RELEASES[domain] + 1]) for r in helper.VERSION_TABLE)
        for schema, following in zip(versions, [*versions[1:], None], strict=True):
            last = following.since_version - 1 if following else newest
            first = max(schema.since_version, OLDEST[domain])
            if not schema.deprecated and first <= last:
                shared = min(max(first, NEWEST_SHARED[domain]), last)
                found += [_subject(schema, opset) for opset in sorted({first, shared, last})]
    return found


def _subject(schema: defs.OpSchema, opset: int) -> Subject:
    return Subject(schema, opset, get_registry().find_op(schema.name, schema.domain, opset))


def _element(type_text: str) -> str:
    """The element type in "seq(tensor(float))"; empty for a map."""
    if "map(" in type_text:
        return ""
    inner = type_text.split("(")[-1].rstrip(")")
    return _ALIASES.get(inner, inner)


def _show(x: Any) -> str:
    if isinstance(x, np.ndarray):
        values = " ".join(np.array2string(x, threshold=24, edgeitems=8, max_line_width=10**6, precision=5).split())
        return f"{x.dtype}{list(x.shape)} {values}"
    if isinstance(x, Graph):
        return "{graph}"
    return f"[{', '.join(map(_show, x))}]" if isinstance(x, list) else repr(x)


# ---- models ----------------------------------------------------------------------------------------------


def model_of(subject: Subject, trial: Trial) -> tuple[ModelProto, dict[str, Any]]:
    """The model of one node and what to feed it."""
    values = {f"x{i}": x for i, x in enumerate(trial.inputs) if x is not None}
    constants = trial.constants | {i for i, x in enumerate(trial.inputs) if has_four_bits(x)}
    weights = {f"x{i}": trial.inputs[i] for i in constants}
    feeds = {**{k: v for k, v in values.items() if k not in weights}, **trial.outer}
    node = NodeProto(op_type=subject.schema.name, domain=subject.schema.domain, name="node")
    node.input.extend("" if x is None else f"x{i}" for i, x in enumerate(trial.inputs))
    node.output.extend(f"y{i}" for i in range(trial.n_outputs))
    node.attribute.extend(_attribute(subject, k, v) for k, v in trial.attributes.items() if v is not None)
    model = ModelProto(producer_name="old opsets")
    model.ir_version, opsets = _release(subject)
    for domain, version in opsets.items():
        model.opset_import.add(domain=domain, version=version)
    model.graph.name = "one_node"
    model.graph.node.append(node)
    listed = {**feeds, **weights} if model.ir_version < 4 else feeds
    model.graph.input.extend(_declared(k, v) for k, v in listed.items())
    model.graph.initializer.extend(tensor_of(v, k) for k, v in weights.items())
    model.graph.output.extend(ValueInfoProto(name=o) for o in node.output)
    return _with_output_types(model, subject, trial), feeds


def _release(subject: Subject) -> tuple[int, dict[str, int]]:
    """IR version and opsets of the first release that had the subject's opset."""
    column = RELEASES[subject.schema.domain] + 1
    release = next(r for r in helper.VERSION_TABLE if len(r) > column and int(r[column]) >= subject.opset)
    opsets = {"": int(release[2])} | {subject.schema.domain: subject.opset}
    return min(int(release[1]), NEWEST_IR), opsets


def _declared(name: str, value: Any) -> ValueInfoProto:
    return ValueInfoProto(name=name, type=type_to_onnx(type_of(value)))


def has_four_bits(value: Any) -> bool:
    """Whether an array's elements take half a byte each: ONNX Runtime takes these as initializers only."""
    return isinstance(value, np.ndarray) and value.dtype.name in ("int4", "uint4", "float4_e2m1fn")


def type_of(value: Any) -> ValueType:
    """The type of an array, list or dictionary."""
    if isinstance(value, list):
        if value and isinstance(value[0], dict):
            return SequenceType(type_of(value[0]))
        return SequenceType(TensorType(TensorType.of(value[0]).dtype if value else "float32"))
    if isinstance(value, dict):
        key, entry = next(iter(value.items()))
        return MapType("string" if isinstance(key, str) else "int64", TensorType.of(np.asarray(entry)))
    return TensorType.of(value)


def _attribute(subject: Subject, name: str, value: Any) -> AttributeProto:
    kind = subject.schema.attributes[name].type
    if isinstance(value, Graph):
        holder = Graph("", {"": subject.opset}, (), (), (Node(subject.schema.name, (), ("y",), {name: value}),))
        return to_onnx(holder, check=False).graph.node[0].attribute[0]
    if kind.name == "TYPE_PROTO":
        return helper.make_attribute(name, type_to_onnx(value), attr_type=_A.TYPE_PROTO)
    if kind.name == "TENSOR":
        return helper.make_attribute(name, tensor_of(np.asarray(value)), attr_type=_A.TENSOR)
    if kind.name == "SPARSE_TENSOR":
        at = np.flatnonzero(value)
        values, places = tensor_of(value.ravel()[at], "values"), tensor_of(at, "places")
        sparse = helper.make_sparse_tensor(values, places, list(value.shape))
        return helper.make_attribute(name, sparse, attr_type=_A.SPARSE_TENSOR)
    if kind.name in ("INT", "FLOAT"):
        value = (int if kind.name == "INT" else float)(value)
    if kind.name in ("INTS", "FLOATS"):
        value = list(map(int if kind.name == "INTS" else float, value))
    if kind.name == "STRINGS":
        value = [v if isinstance(v, bytes) else v.encode() for v in value]
    return helper.make_attribute(name, value, attr_type=getattr(_A, kind.name))


def _with_output_types(model: ModelProto, subject: Subject, trial: Trial) -> ModelProto:
    """The model with element types of its outputs: as ONNX infers them, else as the schema has them."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
        found = {o.name: o.type for o in inferred.graph.output if o.type.WhichOneof("value")}
    except Exception:
        found = {}
    for i, output in enumerate(model.graph.output):
        t = found.get(output.name) or _schema_type(subject, trial, i)
        if t is not None:
            output.type.CopyFrom(t)
            if output.type.HasField("tensor_type"):
                output.type.tensor_type.ClearField("shape")
    return model


def _schema_type(subject: Subject, trial: Trial, index: int) -> TypeProto | None:
    outputs = subject.schema.outputs
    name = outputs[min(index, len(outputs) - 1)].type_str
    for i, x in enumerate(trial.inputs):
        if subject.formal(i).type_str == name and isinstance(x, np.ndarray):
            return type_to_onnx(TensorType(TensorType.of(x).dtype))
    allowed = subject.allowed(name)
    if len(allowed) == 1 and name.startswith("tensor"):
        return type_to_onnx(TensorType(allowed[0]))
    return None
