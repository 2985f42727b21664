"""The cases of ``onnx.backend.test``, each as a model and pairs of inputs and expected outputs."""

from __future__ import annotations

import json
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "light")
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        name, kind: as the suite calls them; ``light`` are models with made-up weights.
        path: the model's file, for kinds that lie on disk.
        proto: the model, for those made in memory.
        pairs: inputs and expected outputs, for those made in memory.
    """

    name: str
    kind: str
    rtol: float
    atol: float
    path: Path | None = None
    proto: ModelProto | None = None
    pairs: Any = None

    def model(self) -> ModelProto:
        """The model as a message."""
        return self.proto if self.proto is not None else onnx.load(self.path, load_external_data=False)

    def data(self) -> list[tuple[list[Any], list[Any]]]:
        """Inputs and expected outputs."""
        if self.pairs is not None:
            return [(plain(inputs), plain(outputs)) for inputs, outputs in self.pairs]
        assert self.path is not None
        if self.kind == "light":
            return [self._light_data()]
        model = self.model()
        return [
            (_read(folder, "input", model.graph.input), _read(folder, "output", model.graph.output))
            for folder in sorted(self.path.parent.glob("test_data_set_*"))
        ]

    def feeds(self, inputs: list[Any]) -> dict[str, Any]:
        """Inputs by name: those of the model in order, without the ones that only list a weight."""
        graph = self.model().graph
        weights = {t.name for t in graph.initializer}
        names = [v.name for v in graph.input]
        free = [n for n in names if n not in weights]
        return dict(zip(free if len(free) == len(inputs) else names, inputs, strict=False))

    def _light_data(self) -> tuple[list[Any], list[Any]]:
        assert self.path is not None
        model = self.model()
        weights = {t.name for t in model.graph.initializer}
        free = [v for v in model.graph.input if v.name not in weights]
        expected = _read(self.path.parent, self.path.stem + "_output", model.graph.output)
        return [Runner.generate_dummy_data(v) for v in free], expected


def all_cases() -> list[Case]:
    """Every case of the suite, in order of kind and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [
            Case(t.name, "node", t.rtol, t.atol, proto=t.model, pairs=t.data_sets)
            for t in load_model_tests(kind="node")
        ]
        for kind in KINDS[1:4]:
            found += [
                Case(t.name, kind, t.rtol, t.atol, Path(t.model_dir, "model.onnx")) for t in load_model_tests(kind=kind)
            ]
        for t in load_model_tests(kind="real"):
            data = json.loads((DATA / "real" / t.name / "data.json").read_text())
            found.append(Case(t.name, "light", t.rtol, t.atol, DATA / "light" / Path(data["url"]).name))
    return sorted(found, key=lambda c: (KINDS.index(c.kind), c.name))


def subjects(cases: list[Case]) -> dict[str, str]:
    """Name of a case to the op it is about; an expanded one counts under the op that was expanded."""
    found: dict[str, str] = {}
    for case in cases:
        if case.kind != "node":
            found[case.name] = f"({case.kind})"
            continue
        ops = Counter(_qualified(n) for n in case.model().graph.node if n.op_type not in ("Constant", "Identity"))
        found[case.name] = next(iter(ops)) if len(ops) == 1 else ""
    for name, subject in found.items():
        base = name.split("_expanded")[0]
        if not subject:
            found[name] = found.get(base) or base.removeprefix("test_").split("_")[0]
    return found


def _qualified(node: NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else node.op_type


def plain(value: Any) -> Any:
    """Arrays, lists, dictionaries and None, whatever the suite wraps them in."""
    if isinstance(value, TensorProto):
        value = numpy_helper.to_array(value)
    if isinstance(value, onnx.SequenceProto):
        return [plain(v) for v in numpy_helper.to_list(value)]
    if isinstance(value, onnx.OptionalProto):
        return plain(numpy_helper.to_optional(value))
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if value is None or isinstance(value, dict):
        return value
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "US" else array


def _read(folder: Path, prefix: str, values: Any) -> list[Any]:
    found = []
    for i, value in enumerate(values):
        path = folder / f"{prefix}_{i}.pb"
        if not path.exists():
            break
        kind = value.type.WhichOneof("value")
        proto = {"sequence_type": onnx.SequenceProto, "optional_type": onnx.OptionalProto}.get(kind, TensorProto)()
        proto.ParseFromString(path.read_bytes())
        found.append(plain(proto))
    return found


def is_random(case: Case) -> bool:
    """Whether the model draws numbers that ONNX leaves open ("may not produce the same values even if a seed is
    specified"): then outputs agree in type, shape and the set of their values."""
    return any(n.op_type in ("Bernoulli", "RandomUniformLike") for n in case.model().graph.node)


def in_range(case: Case) -> Any:
    """Which numbers a cast from float to an integer of less than a byte says something about; None for other cases.

    "Casting from floating point to fixed point: undefined if OOR (out of range)": there the suite has what the version
    of ml_dtypes that is installed makes of them.
    """
    model = case.model()
    made = model.graph.output[0].type.tensor_type.elem_type
    kinds = {n.op_type for n in model.graph.node}
    name = TensorProto.DataType.Name(made).lower() if made else ""
    if not kinds <= {"Cast", "CastLike"} or name not in NARROW:
        return None
    (inputs, _), *_ = case.data()
    x, (low, high) = np.asarray(inputs[0]), NARROW[name]
    return (x.astype(np.float64) >= low) & (x.astype(np.float64) <= high)


NARROW = {"int2": (-2, 1), "uint2": (0, 3), "int4": (-8, 7), "uint4": (0, 15)}
"""Integer types of less than a byte, and their smallest and largest number."""


def compare(got: list[Any], expected: list[Any], case: Case) -> None:
    """Raises AssertionError unless the outputs are alike, by the suite's own tolerances."""
    np.testing.assert_equal(len(got), len(expected), "number of outputs")
    defined = in_range(case)
    if defined is not None:
        np.testing.assert_equal((got[0].dtype, got[0].shape), (expected[0].dtype, expected[0].shape))
        np.testing.assert_array_equal(got[0][defined], expected[0][defined])
        return
    if is_random(case):
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_equal((a.dtype, a.shape, np.setdiff1d(a, b).size), (b.dtype, b.shape, 0))
        return
    for a, b in zip(got, expected, strict=True):
        if isinstance(b, dict):
            np.testing.assert_equal(set(a), set(b))
            compare([np.asarray(a[k]) for k in b], [np.asarray(v) for v in b.values()], case)
        elif b is None or a is None:
            np.testing.assert_(a is None and b is None, f"one is absent: {a!r:.40} and {b!r:.40}")
        elif isinstance(b, list):
            np.testing.assert_(isinstance(a, (list, tuple)), f"a sequence, not {type(a).__name__}")
            compare(list(a), b, case)
        else:
            array = np.asarray(a)
            Runner.assert_similar_outputs(
                [b], [array.astype(object) if array.dtype.kind in "US" else array], case.rtol, case.atol
            )
