"""Tensors: ONNX's several encodings to arrays and back, bit for bit."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from onnx import SparseTensorProto, TensorProto, numpy_helper

from graphrt.plugin import ConversionError
from graphrt.types import dtype_name, numpy_dtype
from graphrt_onnx.external import ExternalData
from graphrt_onnx.value_types import ONNX_DTYPE, dtype_of

Array: TypeAlias = "np.ndarray[Any, Any]"

PACKED = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}
"""Bits per element in an ONNX file of the types that share bytes there."""

_FIELD = {
    "float32": "float_data", "complex64": "float_data", "float64": "double_data", "complex128": "double_data",
    "int64": "int64_data", "uint64": "uint64_data", "uint32": "uint64_data", "string": "string_data",
}  # fmt: skip

MAX_DENSE = 1 << 31
"""The most bytes that a sparse tensor may take as a dense one."""


def array_of(tensor: TensorProto, external: ExternalData) -> Array:
    """The array that a tensor holds, in graphrt's dtypes; read-only where it shares the message's bytes.

    Raises:
        ConversionError: the data does not fit type and shape, or lies out of reach.
    """
    if tensor.HasField("segment"):
        raise ConversionError("tensors in segments are not read: no exporter writes them")
    dtype = dtype_of(tensor.data_type)
    shape = tuple(tensor.dims)
    if any(d < 0 for d in shape) or len(shape) > 64:
        raise ConversionError(f"{list(shape)} is not a shape")
    count = math.prod(shape)
    if dtype == "string":
        return _strings(tensor, shape, count)
    width = PACKED.get(dtype, 8 * numpy_dtype(dtype).itemsize)
    nbytes = (count * width + 7) // 8
    if tensor.data_location == TensorProto.EXTERNAL:
        return _from_bytes(external.read(tensor, nbytes), dtype, shape, count)
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        if len(raw) != nbytes:
            raise ConversionError(f"{dtype}{list(shape)} takes {nbytes} bytes, the tensor has {len(raw)}")
        return _from_bytes(np.frombuffer(raw, np.uint8), dtype, shape, count)
    return _from_fields(tensor, dtype, shape, count, nbytes)


def _from_fields(tensor: TensorProto, dtype: str, shape: tuple[int, ...], count: int, nbytes: int) -> Array:
    have = len(getattr(tensor, _FIELD.get(dtype, "int32_data")))
    expected = nbytes if dtype in PACKED else 2 * count if dtype.startswith("complex") else count
    if have != expected:
        raise ConversionError(f"{dtype}{list(shape)} has {expected} numbers, the tensor has {have}")
    found: Array = numpy_helper.to_array(tensor)
    return found.astype(numpy_dtype(dtype), copy=False)


def _from_bytes(data: Array, dtype: str, shape: tuple[int, ...], count: int) -> Array:
    if dtype in PACKED:
        return _unpacked(data, PACKED[dtype], count).view(numpy_dtype(dtype)).reshape(shape)
    wanted = numpy_dtype(dtype)
    if wanted.itemsize > 1 and data.ctypes.data % wanted.alignment:
        data = data.copy()
    found = np.asarray(data).view(wanted.newbyteorder("<") if wanted.kind in "iufc" else wanted)
    return found.astype(wanted, copy=False).reshape(shape)


def _unpacked(data: Array, bits: int, count: int) -> Array:
    """One byte per element, the lowest bits of each byte first; ml_dtypes reads the low bits of each."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return ((np.asarray(data)[:, None] >> shifts) & np.uint8((1 << bits) - 1)).reshape(-1)[:count]


def _strings(tensor: TensorProto, shape: tuple[int, ...], count: int) -> Array:
    if len(tensor.string_data) != count:
        raise ConversionError(f"string{list(shape)} has {count} strings, the tensor has {len(tensor.string_data)}")
    found = np.empty(count, object)
    for i, s in enumerate(tensor.string_data):
        try:
            found[i] = s.decode()
        except UnicodeDecodeError as e:
            raise ConversionError(f"string {i} of a tensor is not UTF-8: {s!r:.60}") from e
    return found.reshape(shape)


def dense_array(sparse: SparseTensorProto, external: ExternalData) -> Array:
    """A sparse tensor as a dense array.

    Raises:
        ConversionError: the indices do not fit, or the dense form would be larger than `MAX_DENSE` bytes.
    """
    values, indices = array_of(sparse.values, external), array_of(sparse.indices, external)
    shape = tuple(sparse.dims)
    size = math.prod(shape)
    if any(d < 0 for d in shape) or size * max(values.itemsize, 1) > MAX_DENSE:
        raise ConversionError(f"a sparse tensor of shape {list(shape)} is too large to be made dense")
    if (
        values.ndim != 1
        or indices.dtype != np.int64
        or indices.shape not in ((len(values),), (len(values), len(shape)))
    ):
        raise ConversionError(
            f"sparse tensor: indices {indices.shape} do not fit {values.shape} values of {list(shape)}"
        )
    bounds = np.array(shape if indices.ndim == 2 else size)
    if indices.size and (np.any(indices < 0) or np.any(indices >= bounds)):
        raise ConversionError(f"sparse tensor: an index lies outside {list(shape)}")
    dense: Array = np.full(size, "", object) if values.dtype == object else np.zeros(size, values.dtype)
    dense[np.ravel_multi_index(tuple(indices.T), shape) if indices.ndim == 2 else indices] = values
    return dense.reshape(shape)


def tensor_of(array: Array, name: str = "") -> TensorProto:
    """ONNX's form of an array: raw little-endian bytes, sub-byte types packed."""
    array = np.asarray(array)
    dtype = dtype_name(array.dtype)
    tensor = TensorProto(name=name, data_type=ONNX_DTYPE[dtype], dims=array.shape)
    if dtype == "string":
        tensor.string_data.extend(s if isinstance(s, bytes) else str(s).encode() for s in array.ravel())
    else:
        tensor.raw_data = file_bytes(array)
    return tensor


def file_bytes(array: Array) -> bytes:
    """The bytes of an array as ONNX stores them."""
    dtype = dtype_name(array.dtype)
    if dtype not in PACKED:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False) if array.dtype.kind in "iufc" else array
        return little.tobytes()
    bits = PACKED[dtype]
    per_byte = 8 // bits
    low = np.ascontiguousarray(array).view(np.uint8).ravel() & np.uint8((1 << bits) - 1)
    low = np.pad(low, (0, -len(low) % per_byte)).reshape(-1, per_byte)
    packed: Array = np.bitwise_or.reduce(low << np.arange(0, 8, bits, dtype=np.uint8), axis=1, dtype=np.uint8)
    return packed.tobytes()
