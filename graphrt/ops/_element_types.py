"""The integer codes by which attributes such as ``dtype`` and ``to`` name an element type."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.types import numpy_dtype

NAME_OF_CODE: dict[int, str] = dict(enumerate(
    ["float32", "uint8", "int8", "uint16", "int16", "int32", "int64", "string", "bool", "float16", "float64",
     "uint32", "uint64", "complex64", "complex128", "bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2",
     "float8e5m2fnuz", "uint4", "int4", "float4e2m1", "float8e8m0", "uint2", "int2"], start=1))  # fmt: skip
"""ONNX's TensorProto.DataType."""


def name_of_code(code: int) -> str:
    """The element type's name.

    Raises:
        ValueError: no element type has this code.
    """
    if code not in NAME_OF_CODE:
        raise ValueError(f"dtype {code} is no element type's code; codes go from 1 (float32) to {len(NAME_OF_CODE)}")
    return NAME_OF_CODE[code]


def dtype_of_code(code: int) -> np.dtype[Any]:
    """The NumPy dtype of an element type's code."""
    return numpy_dtype(name_of_code(code))
