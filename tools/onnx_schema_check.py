"""Compares the registered ops with ONNX's operator schemas, and counts the derivatives that exist.

    python tools/onnx_schema_check.py [--opset N] [--only OP ...]

Every schema of the default domain that is in force at opset 6 or later, up to N (default: the newest), is looked up
in the registry, and every registered version must be a schema's. Whatever the schema allows, the op must accept:
inputs, outputs, attributes and their defaults. Then every input that the newest schemas call differentiable (and those
of a list of ops that they leave untagged) must have a VJP and a JVP. Prints a table of disagreements and exits with 1
if there is any. Needs the package ``onnx``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Iterator
from typing import Any, TypeAlias

import numpy as np
from onnx import helper
from onnx.defs import OpSchema, get_all_schemas_with_history, onnx_opset_version

from graphrt.errors import GraphrtError
from graphrt.manager import get_registry
from graphrt.op import Op

OLDEST = 6

UNTAGGED = {
    "AffineGrid": ("theta",),
    "Attention": ("Q", "K", "V", "attn_mask", "past_key", "past_value"),
    "DFT": ("input",),
    "DeformConv": ("X", "W", "offset", "B", "mask"),
    "LayerNormalization": ("X", "Scale", "B"),
    "RMSNormalization": ("X", "scale"),
    "ReverseSequence": ("input",),
    "RoiAlign": ("X", "rois"),
    "RotaryEmbedding": ("X", "cos_cache", "sin_cache"),
    "STFT": ("signal", "window"),
}
"""Inputs that are differentiable in fact, though the schemas do not say so."""

SAME_THING = {
    ("BatchNormalization", "mean"): "input_mean",
    ("BatchNormalization", "var"): "input_var",
    ("GridSample", "mode", "bilinear"): "linear",
}
"""Inputs (op, old name) and defaults (op, attribute, old default) that a later schema renamed without a change."""

KINDS = {
    "FLOAT": "float", "INT": "int", "STRING": "string", "TENSOR": "tensor", "SPARSE_TENSOR": "tensor",
    "GRAPH": "graph", "TYPE_PROTO": "type", "FLOATS": "floats", "INTS": "ints", "STRINGS": "strings",
}  # fmt: skip

Row: TypeAlias = tuple[str, str, str]
"""Which op, what about it, what is wrong."""

Option = OpSchema.FormalParameterOption
Category = OpSchema.DifferentiationCategory


# ---- schemas against ops -----------------------------------------------------------------------------------------


def schemas(newest: int) -> Iterator[tuple[int, OpSchema]]:
    """(opset, schema) of each schema in force at that opset: at its own, or at the oldest that counts."""
    by_name: dict[str, list[OpSchema]] = {}
    for schema in get_all_schemas_with_history():
        if schema.domain == "" and schema.since_version <= newest:
            by_name.setdefault(schema.name, []).append(schema)
    for _, versions in sorted(by_name.items()):
        versions.sort(key=lambda s: s.since_version)
        for schema, following in zip(versions, [*versions[1:], None], strict=True):
            if following is None or following.since_version > OLDEST:
                yield max(schema.since_version, OLDEST), schema


def problems(schema: OpSchema, op: Op) -> Iterator[str]:
    """What the schema allows and the op does not accept."""
    yield from _input_problems(schema, op)
    yield from _output_problems(schema, op)
    for name, attribute in sorted(schema.attributes.items()):
        yield from _attribute_problems(schema.name, name, attribute, op)
    for own in op.attributes.values():
        if own.required and own.name not in schema.attributes:
            yield f"the op asks for an attribute {own.name!r} that the schema does not have"


def _input_problems(schema: OpSchema, op: Op) -> Iterator[str]:
    if not schema.inputs and not op.inputs:
        return
    for i, given in enumerate(schema.inputs):
        param = op.inputs[min(i, len(op.inputs) - 1)] if op.inputs else None
        if param is None or (i >= len(op.inputs) and not param.variadic):
            yield f"input {given.name!r} is not accepted"
            continue
        if given.option == Option.Variadic and not param.variadic:
            yield f"input {given.name!r} is variadic, {param.name!r} is not"
        if given.option == Option.Optional and not (param.optional or param.variadic):
            yield f"input {given.name!r} is optional, {param.name!r} is not"
        named = i < len(op.inputs) and not param.variadic
        if named and _names(schema, given.name).isdisjoint(_names(schema, param.name)):
            yield f"input {given.name!r} is called {param.name!r}"
    for param in op.inputs[len(schema.inputs) :]:
        if not (param.optional or param.variadic):
            yield f"the op asks for an input {param.name!r} that the schema does not have"


def _output_problems(schema: OpSchema, op: Op) -> Iterator[str]:
    if op.variadic_output:
        return
    if any(o.option == Option.Variadic for o in schema.outputs):
        yield f"outputs are variadic, {', '.join(op.outputs)} are not"
    elif len(schema.outputs) > len(op.outputs):
        yield f"{len(schema.outputs)} outputs, the op has {len(op.outputs)}"


def _attribute_problems(op_type: str, name: str, attribute: Any, op: Op) -> Iterator[str]:
    own = op.attributes.get(name)
    if own is None:
        yield f"attribute {name!r} is not accepted"
        return
    kind = KINDS[attribute.type.name]
    if own.kind not in (kind, "any"):
        yield f"attribute {name!r} is {kind}, the op takes {own.kind}"
    if own.required and not attribute.required:
        yield f"attribute {name!r} may be absent, the op asks for it"
    if not own.required and attribute.default_value.name:
        default = helper.get_attribute_value(attribute.default_value)
        default = default.decode() if isinstance(default, bytes) else default
        if not _same(SAME_THING.get((op_type, name, str(default)), default), own.default):
            yield f"attribute {name!r} is {default!r} by default, {own.default!r} in the op"


def _same(default: Any, own: Any) -> bool:
    if isinstance(default, list):
        return own is not None and len(default) == len(own) and all(map(_same, default, own))
    if isinstance(default, bytes):
        return default.decode() == str(own)
    if isinstance(default, float):
        return isinstance(own, (int, float)) and np.float32(default) == np.float32(own)
    return bool(default == own)


def _names(schema: OpSchema, name: str) -> set[str]:
    """The ways to write an input's name."""
    return {n.lower().replace("_", "") for n in (name, SAME_THING.get((schema.name, name), name))}


# ---- derivatives ---------------------------------------------------------------------------------------------------


def differentiable(newest: int) -> Iterator[tuple[OpSchema, int, str]]:
    """(newest schema, input number, "tagged" or "untagged") of every input that should have derivatives."""
    latest = {s.name: s for _, s in schemas(newest)}
    for schema in latest.values():
        if schema.deprecated:
            continue
        for i, given in enumerate(schema.inputs):
            if given.differentiation_category == Category.Differentiable:
                yield schema, i, "tagged"
            elif given.name in UNTAGGED.get(schema.name, ()):
                yield schema, i, "untagged"


def gap(op: Op, index: int) -> str | None:
    """What derivative rule an input lacks, if any."""
    if op.body_vjp_rule is not None and op.body_jvp_rule is not None:
        return None
    if index >= len(op.inputs) and not op.inputs[-1].variadic:
        return f"the op has no input number {index}"
    name = op.inputs[min(index, len(op.inputs) - 1)].name
    if not op.is_differentiable(name):
        return f"no VJP for {name!r}" + (" (declared nondiff)" if name in op.nondiff else "")
    try:
        op.derived(f"vjp[{','.join(op.vjp_group(name))}]")
        op.derived(f"jvp[{name}]")
    except GraphrtError as e:
        return str(e)
    return None


# ---- the program ---------------------------------------------------------------------------------------------------


def count_schemas(newest: int, only: Container[str] | None, rows: list[Row]) -> Iterator[str]:
    """Adds a row for each disagreement; yields the line that counts them."""
    good = total = deprecated = 0
    versions = {(s.name, s.since_version) for s in get_all_schemas_with_history() if s.domain == ""}
    for op in get_registry().ops():
        if op.domain == "" and (op.op_type, op.version) not in versions and not (only and op.op_type not in only):
            rows.append((f"{op.op_type}-{op.version}", "", "the op is registered, but there is no such schema"))
    for opset, schema in schemas(newest):
        if only and schema.name not in only:
            continue
        if schema.deprecated:
            deprecated += 1
            continue
        where = f"{schema.name}-{schema.since_version}"
        try:
            op = get_registry().find_op(schema.name, "", opset)
            found = [(where, f"version {op.version}", p) for p in problems(schema, op)]
        except GraphrtError as e:
            found = [(where, "", str(e))]
        rows += found
        good, total = good + (not found), total + 1
    yield f"schemas accepted: {good}/{total} (and {deprecated} deprecated, not checked)"


def count_derivatives(newest: int, only: Container[str] | None, rows: list[Row]) -> Iterator[str]:
    """Adds a row for each missing rule; yields the lines that count them."""
    counts = {"tagged": [0, 0], "untagged": [0, 0]}
    for schema, i, kind in differentiable(newest):
        if only and schema.name not in only:
            continue
        try:
            lacks = gap(get_registry().find_op(schema.name, "", newest), i)
        except GraphrtError as e:
            lacks = str(e)
        counts[kind][0] += not lacks
        counts[kind][1] += 1
        if lacks:
            rows.append((schema.name, "derivative", f"{schema.inputs[i].name}: {lacks}"))
    for kind, (good, total) in counts.items():
        yield f"differentiable inputs, {kind}: {good}/{total} with VJP and JVP"


def main() -> int:
    """Checks, prints, and returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--opset", type=int, default=onnx_opset_version(), metavar="N", help="newest opset to check")
    parser.add_argument("--only", nargs="*", metavar="OP", help="check these ops only")
    options = parser.parse_args()
    rows: list[Row] = []
    counts = [
        *count_schemas(options.opset, options.only, rows),
        *count_derivatives(options.opset, options.only, rows),
    ]
    width = max((len(r[0]) for r in rows), default=0)
    for where, what, text in rows:
        print(f"{where:<{width}}  {what:<10}  {text}")
    print("\n".join(counts))
    return 1 if rows else 0


if __name__ == "__main__":
    sys.exit(main())
