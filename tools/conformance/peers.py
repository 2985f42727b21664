"""Other runtimes on the same cases."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from conformance.cases import Case, compare
from graphrt.types import dtype_name, numpy_dtype

os.environ.setdefault("ALLOW_RELEASED_ONNX_OPSET_ONLY", "0")  # else ONNX Runtime refuses the newest opset unseen


def _run_reference(case: Case) -> None:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(case.model())
    for inputs, expected in case.data():
        compare(evaluator.run(None, case.feeds(inputs)), expected, case)


def _run_onnxruntime(case: Case) -> None:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    session = ort.InferenceSession(case.model().SerializeToString(), settings, providers=["CPUExecutionProvider"])
    for inputs, expected in case.data():
        feeds = case.feeds(inputs)
        if any(_is_special(v) for v in (*feeds.values(), *expected)):
            values = session.run_with_ort_values(None, {k: _to_ort(v) for k, v in feeds.items()})
            compare([_from_ort(v) for v in values], expected, case)
        else:
            compare(session.run(None, feeds), expected, case)


def _is_special(value: Any) -> bool:
    """Whether an array's type is none of NumPy's own."""
    return isinstance(value, np.ndarray) and value.dtype.type.__module__ != "numpy"


def _to_ort(value: Any) -> Any:
    import onnxruntime as ort
    from graphrt_onnx.value_types import ONNX_DTYPE

    if not _is_special(value):
        return ort.OrtValue.ortvalue_from_numpy(value)
    bits = np.array(value, order="C").view(np.uint16 if value.dtype.itemsize == 2 else np.uint8)  # 0-d stays 0-d
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(bits, ONNX_DTYPE[dtype_name(value.dtype)])


def _from_ort(value: Any) -> Any:
    """The array of a result; types that NumPy lacks are read from memory."""
    name = value.data_type().removeprefix("tensor(").removesuffix(")")
    if name not in ("bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"):
        return value.numpy()
    dtype, shape = numpy_dtype(name), tuple(value.shape())
    data = ctypes.string_at(value.data_ptr(), int(np.prod(shape)) * dtype.itemsize)
    return np.frombuffer(data, dtype).reshape(shape)


PEERS: dict[str, Callable[[Case], None]] = {"ReferenceEvaluator": _run_reference, "ONNX Runtime": _run_onnxruntime}
"""Name to the function that raises unless the case passes."""
