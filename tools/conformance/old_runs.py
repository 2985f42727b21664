"""Runs a one-node model in graphrt, in ONNX Runtime and in ONNX's reference, and compares what comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from graphrt_onnx import from_onnx
from onnx import ModelProto
from onnx.reference import ReferenceEvaluator

from conformance.cases import plain
from conformance.peers import _from_ort, _is_special, _to_ort
from graphrt.runtime.session import Session
from graphrt.types import dtype_name

TOLERANCES = {
    "float64": (1e-6, 1e-7), "float32": (2e-5, 2e-6), "float16": (4e-3, 4e-3), "bfloat16": (4e-2, 4e-2),
    "complex64": (2e-5, 2e-6), "complex128": (1e-6, 1e-7),
}  # fmt: skip
"""Element type to relative (to the largest value) and absolute tolerance; others agree exactly. Attributes are float32,
so that results in float64 agree to that only."""

RANDOM = frozenset(
    ["RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"]
)
"""Ops whose values ONNX leaves open."""


@dataclass(frozen=True)
class Outcome:
    """What a runtime made of a model: outputs, or why there are none (``missing``: it lacks the kernel)."""

    outputs: list[Any] | None = None
    error: str = ""
    missing: bool = False


def _outcome(run: Callable[[], list[Any]]) -> Outcome:
    try:
        return Outcome(run())
    except Exception as e:
        text = f"{type(e).__name__}: {' '.join(str(e).split())}"
        missing = any(t in text for t in ("NotImplemented", "NOT_IMPLEMENTED", "No Op registered", "not supported"))
        return Outcome(None, text[:500], missing)


def ours(model: ModelProto, feeds: dict[str, Any]) -> Outcome:
    """graphrt's outputs."""
    return _outcome(lambda: list(Session(from_onnx(model)).run(feeds).values()))


def onnx_runtime(model: ModelProto, feeds: dict[str, Any]) -> Outcome:
    """ONNX Runtime's outputs, without graph optimizations."""

    def run() -> list[Any]:
        settings = ort.SessionOptions()
        settings.intra_op_num_threads, settings.log_severity_level = 1, 4
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        if any("int4" in o.type or "float4" in o.type for o in session.get_outputs()):
            raise NotImplementedError("NOT_IMPLEMENTED: outputs of this type cannot be read from ONNX Runtime")
        if any(map(_is_special, feeds.values())) or _gives_special(session):
            values = session.run_with_ort_values(None, {k: _to_ort(v) for k, v in feeds.items()})
            return [_from_ort(v) for v in values]
        outputs = session.run(None, feeds)
        if any(type(v).__name__ == "SparseTensor" for v in outputs):
            raise NotImplementedError("NOT_IMPLEMENTED: a sparse output")
        return [plain(v) for v in outputs]

    return _outcome(run)


def _gives_special(session: Any) -> bool:
    return any("bfloat16" in o.type or "float8" in o.type for o in session.get_outputs())


def reference(model: ModelProto, feeds: dict[str, Any]) -> Outcome:
    """The outputs of ONNX's own evaluator."""

    def run() -> list[Any]:
        with np.errstate(all="ignore"):
            return [plain(v) for v in ReferenceEvaluator(model).run(None, feeds)]

    return _outcome(run)


def is_valid(model: ModelProto) -> str:
    """Empty when ONNX's checker and shape inference accept a model's node, else what they say."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = {e.domain: e.version for e in model.opset_import}
    try:
        if not any(a.HasField("g") for a in model.graph.node[0].attribute):  # alone, it lacks what subgraphs capture
            onnx.checker.check_node(model.graph.node[0], context)
        onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as e:
        return f"{type(e).__name__}: {' '.join(str(e).split())[:300]}"
    return ""


def difference(got: Any, expected: Any, is_random: bool = False) -> str:
    """Empty when two outputs are alike, else what differs: kind, element type, shape or values."""
    if isinstance(expected, (list, dict)) or isinstance(got, (list, tuple, dict)):
        return _nested_difference(got, expected, is_random)
    if got is None or expected is None:
        return "" if got is expected else f"one is absent: {got!r:.60}, not {expected!r:.60}"
    a, b = np.asarray(got), np.asarray(expected)
    a, b = (x.astype(object) if x.dtype.kind in "USO" else x for x in (a, b))
    if a.dtype != b.dtype:
        return f"element type {a.dtype}, not {b.dtype}"
    if a.shape != b.shape:
        return f"shape {list(a.shape)}, not {list(b.shape)}"
    return "" if is_random or not a.size else _value_difference(a, b)


def _nested_difference(got: Any, expected: Any, is_random: bool) -> str:
    if type(got) is tuple:
        got = list(got)
    if type(got) is not type(expected) or len(got) != len(expected):
        return f"{type(got).__name__}, not {type(expected).__name__}, or of another length"
    if isinstance(got, dict):
        if set(got) != set(expected):
            return f"keys {sorted(got)}, not {sorted(expected)}"
        pairs = [(np.float32(got[k]), np.float32(expected[k])) for k in got]
    else:
        pairs = list(zip(got, expected, strict=True))
    return next((d for a, b in pairs if (d := difference(a, b, is_random))), "")


def _value_difference(a: Any, b: Any) -> str:
    rtol, atol = TOLERANCES.get(dtype_name(a.dtype), (0.0, 0.0)) if a.dtype.kind != "O" else (0.0, 0.0)
    if not rtol:
        off = np.asarray((a != b) & ~((a != a) & (b != b)))
    else:
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        x, y = a.astype(wide), b.astype(wide)
        with np.errstate(all="ignore"):
            scale = np.max(np.abs(y), where=np.isfinite(y), initial=0)
            off = np.abs(x - y) > atol + rtol * scale
            off |= np.isfinite(x) != np.isfinite(y)
            off = np.where(np.isnan(x) & np.isnan(y) | (x == y), False, off | np.isinf(x) & (x != y))
    if not off.any():
        return ""
    at = tuple(int(i[0]) for i in np.nonzero(off)) if off.ndim else ()
    return f"{int(off.sum())} of {a.size} values, at {list(at)}: {a[at]!r} not {b[at]!r}"
