"""What to build one-node models of: an op's own examples, in every element type, and random changes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import defs

from conformance.old_models import Subject, Trial
from graphrt.ir import Graph
from graphrt.manager import get_registry
from graphrt.op import Op
from graphrt.testing.points import examples
from graphrt.types import dtype_name, numpy_dtype

_PREFERRED = ("float32", "float64", "float16", "int64", "int32")
_CHANGED = ("bool", "float16", "float32", "float64", "bfloat16", "string",
            "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")  # fmt: skip
_Option = defs.OpSchema.FormalParameterOption


def trials(subject: Subject, seed: int, rounds: int) -> Iterator[Trial]:
    """All that is tried of one schema at one opset.

    Args:
        subject: which.
        seed: of everything random.
        rounds: how often each example is changed at random.
    """
    rng = np.random.default_rng([seed, subject.opset, *subject.schema.name.encode()])
    bases = [t for t in (_legal(subject, t) for t in _bases(subject, seed)) if t is not None]
    for base in bases:
        yield typed(subject, base, {})
    for dtypes in _other_types(subject, bases):
        for base in bases if rounds > 1 else bases[: 2 + rounds]:
            yield typed(subject, base, dtypes)
    pool = attribute_pool(subject.op)
    for _ in range(rounds):
        for base in bases:
            changed = _changed(subject, base, pool, rng)
            if changed is not None:
                yield typed(subject, changed, _draw_types(subject, changed, rng))


def _bases(subject: Subject, seed: int) -> Iterator[Trial]:
    op = subject.op
    for i, e in enumerate(op.draw_examples(np.random.default_rng(seed))):
        attributes = dict(e.attributes)
        n_outputs = attributes.pop("n_outputs", None) or _output_count(subject)
        outer = {k: np.asarray(v) for k, v in attributes.pop("outer", {}).items()}
        attributes.pop("opset", None)
        inputs = [_array(x) for x in e.inputs]
        yield Trial(inputs, attributes, n_outputs, f"example {i}", outer, smooth=e.smooth)
        least = subject.schema.min_output
        fewest = Trial(inputs, attributes, least, f"example {i}, fewest outputs", outer, smooth=e.smooth)
        if 0 < least < n_outputs and not _has_graphs(fewest):
            yield fewest
    for point in examples(op, seed) if op.elementwise else ():
        if point.label.startswith("generated"):
            yield Trial([_array(x) for x in point.node_inputs], {}, 1, point.label)


def _output_count(subject: Subject) -> int:
    return sum(o.option != _Option.Variadic for o in subject.schema.outputs) or 1


def _has_graphs(trial: Trial) -> bool:
    return any(isinstance(v, Graph) for v in trial.attributes.values())


def _array(x: Any) -> Any:
    if isinstance(x, (list, tuple)):
        return [_array(v) for v in x]
    return x if x is None or isinstance(x, (dict, np.ndarray)) else np.asarray(x)


def _legal(subject: Subject, trial: Trial) -> Trial | None:
    """The trial without what this version of the schema does not have; None where it needs that."""
    schema, defaults = subject.schema, subject.op.defaults()
    for name, value in trial.attributes.items():
        if name not in schema.attributes and not (name in defaults and _same(defaults[name], value)):
            return None
    attributes = {k: v for k, v in trial.attributes.items() if k in schema.attributes}
    inputs = list(trial.inputs)
    while inputs and inputs[-1] is None:
        inputs.pop()
    if not schema.min_input <= len(inputs) <= schema.max_input:
        return None
    if not schema.min_output <= trial.n_outputs <= schema.max_output:
        return None
    if "hidden_size" in schema.attributes and len(inputs) > 2:
        attributes.setdefault("hidden_size", inputs[2].shape[-1])  # ONNX Runtime demands it
    constants = frozenset(i for i in trial.constants if i < len(inputs) and inputs[i] is not None)
    return replace(trial, inputs=inputs, attributes=attributes, constants=constants)


def _same(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else bool(a == b)


# ---- element types ---------------------------------------------------------------------------------------


def typed(subject: Subject, trial: Trial, dtypes: dict[str, str]) -> Trial:
    """The trial with its inputs in element types that the schema allows.

    Args:
        subject: the schema.
        trial: as the example has it.
        dtypes: the schema's name of a type ("T") to an element type; others take float32, or stay.
    """
    chosen = dict(dtypes)
    inputs = []
    for i, x in enumerate(trial.inputs):
        name, have = subject.formal(i).type_str, _dtype(x)
        if have is None or not subject.formal(i).is_homogeneous:
            inputs.append(x)
            continue
        wanted = chosen.setdefault(name, _default_type(subject.allowed(name), have))
        inputs.append(_cast(x, wanted))
    label = trial.label + ("" if not dtypes else " " + ", ".join(f"{k}: {v}" for k, v in dtypes.items()))
    return replace(trial, inputs=inputs, label=label)


def _dtype(x: Any) -> str | None:
    if isinstance(x, list):
        return None if not x or isinstance(x[0], dict) else _dtype(x[0])
    return dtype_name(x.dtype) if isinstance(x, np.ndarray) else None  # none for maps


def _default_type(allowed: list[str], have: str) -> str:
    if have == "float64":
        return next((d for d in _PREFERRED if d in allowed), allowed[0] if allowed else have)
    return have if have in allowed or not allowed else next((d for d in _PREFERRED[::-1] if d in allowed), allowed[0])


def _cast(x: Any, wanted: str) -> Any:
    if isinstance(x, list):
        return [_cast(v, wanted) for v in x]
    have = dtype_name(x.dtype)
    if have == wanted:
        return x
    dtype = numpy_dtype(wanted)
    if wanted == "string":
        return np.array([str(v) for v in x.ravel()], object).reshape(x.shape)
    if have == "string":
        return np.array([len(v) for v in x.ravel()]).reshape(x.shape).astype(dtype)
    if wanted == "bool":
        return np.asarray(x > 0)
    if dtype.kind in "iu" and x.dtype.kind == "f":
        whole = np.nan_to_num(x, posinf=99, neginf=-99)
        x = np.rint(whole if np.array_equal(whole, np.rint(whole)) else 3 * whole)
    if dtype.kind in "iu":
        low, high = max(np.iinfo(dtype).min, -(2**31)), min(np.iinfo(dtype).max, 2**31)
        x = np.clip(np.asarray(x, np.float64), low, high)
    return np.asarray(x).astype(dtype)


def _types_in(subject: Subject, trial: Trial) -> dict[str, list[str]]:
    """The schema's names of types whose inputs may change, to the element types they may take."""
    found: dict[str, list[str]] = {}
    for i, x in enumerate(trial.inputs):
        name, have = subject.formal(i).type_str, _dtype(x)
        if have is None or not subject.formal(i).is_homogeneous or _has_graphs(trial):
            continue
        allowed = [d for d in subject.allowed(name) if d in _CHANGED]
        if have in ("string", "bool"):
            allowed = [d for d in allowed if d == have]
        elif have != "float64":
            allowed = [d for d in allowed if numpy_dtype(d).kind in "iu"]
        found[name] = [d for d in found.get(name, allowed) if d in allowed]
    return found


def _other_types(subject: Subject, bases: list[Trial]) -> Iterator[dict[str, str]]:
    """Every element type once for every type of the schema."""
    found: dict[str, list[str]] = {}
    for base in bases:
        for name, dtypes in _types_in(subject, base).items():
            found.setdefault(name, dtypes)
    for name, dtypes in found.items():
        yield from ({name: d} for d in dtypes)


def _draw_types(subject: Subject, trial: Trial, rng: np.random.Generator) -> dict[str, str]:
    if rng.random() < 0.5:
        return {}
    return {name: str(rng.choice(dtypes)) for name, dtypes in _types_in(subject, trial).items() if dtypes}


# ---- random changes --------------------------------------------------------------------------------------


def attribute_pool(op: Op) -> dict[str, list[Any]]:
    """The values that each attribute takes in the examples of all versions of an op."""
    pool: dict[str, list[Any]] = {}
    for version in get_registry().versions(op.op_type, op.domain):
        for example in version.draw_examples(np.random.default_rng(0)):
            for name, value in {**version.defaults(), **example.attributes}.items():
                seen = pool.setdefault(name, [])
                if isinstance(value, (int, float, str, tuple)) and value not in seen:
                    seen.append(value)
    return pool


def _changed(subject: Subject, base: Trial, pool: dict[str, list[Any]], rng: np.random.Generator) -> Trial | None:
    """The example with one to three random changes."""
    if _has_graphs(base):
        return None
    trial = replace(base, inputs=list(base.inputs), attributes=dict(base.attributes), label=base.label + " changed")
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.choice(["attribute", "attribute", "size", "size", "absent", "constant", "outputs"])
        if kind == "attribute":
            _change_attribute(subject, trial, pool, rng)
        elif kind == "size":
            _change_size(trial, rng)
        elif kind == "absent":
            _drop_input(subject, trial, rng)
        elif kind == "constant":
            _make_constants(trial)
        elif subject.schema.min_output < _output_count(subject):
            trial.n_outputs = int(rng.integers(max(subject.schema.min_output, 1), _output_count(subject) + 1))
    return _legal(subject, trial)


def _change_attribute(subject: Subject, trial: Trial, pool: dict[str, list[Any]], rng: np.random.Generator) -> None:
    names = sorted(subject.schema.attributes)
    if not names:
        return
    name = str(rng.choice(names))
    spec = subject.schema.attributes[name]
    if name in trial.attributes and not spec.required and rng.random() < 0.3:
        del trial.attributes[name]
        return
    choices = list(pool.get(name, ()))
    is_flag = spec.type.name == "INT" and spec.default_value.name and spec.default_value.i in (0, 1)
    if is_flag and not name.endswith(("axis", "type")):
        choices += [0, 1]
    if spec.type.name == "INT" and "axis" in name:
        rank = max((np.ndim(x) for x in trial.inputs if isinstance(x, np.ndarray)), default=1)
        choices += range(-rank, rank)
    if spec.type.name == "FLOAT":
        choices = [*choices, round(float(rng.uniform(0.05, 0.95)), 3)]
    if choices:
        trial.attributes[name] = choices[int(rng.integers(len(choices)))]


def _change_size(trial: Trial, rng: np.random.Generator) -> None:
    """Another size in place of one, wherever it occurs in the shapes of floating inputs."""
    arrays = [(i, x) for i, x in enumerate(trial.inputs) if isinstance(x, np.ndarray) and x.dtype == np.float64]
    sizes = sorted({n for _, x in arrays for n in x.shape if n > 1})
    if not sizes:
        return
    old = int(rng.choice(sizes))
    new = int(rng.choice([1, max(old - 1, 1), old + 1, old + 2, 2 * old]))
    for i, x in arrays:
        shape = tuple(new if n == old else n for n in x.shape)
        trial.inputs[i] = np.resize(x, shape) + (0.01 * np.arange(np.prod(shape)).reshape(shape) % 0.07)


def _drop_input(subject: Subject, trial: Trial, rng: np.random.Generator) -> None:
    optional = [
        i for i, x in enumerate(trial.inputs)
        if x is not None and i < len(subject.schema.inputs) and subject.schema.inputs[i].option == _Option.Optional
    ]  # fmt: skip
    if optional:
        trial.inputs[int(rng.choice(optional))] = None


def _make_constants(trial: Trial) -> None:
    """Initializers in place of the inputs that hold indices, shapes, axes and the like."""
    trial.constants = frozenset(
        i for i, x in enumerate(trial.inputs) if isinstance(x, np.ndarray) and x.dtype.kind in "iu" and i > 0
    )
