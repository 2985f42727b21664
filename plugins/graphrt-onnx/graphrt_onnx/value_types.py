"""ONNX's types of values to graphrt's and back."""

from __future__ import annotations

from typing import Any

from onnx import TensorProto, TypeProto

from graphrt.plugin import ConversionError, MapType, OptionalType, SequenceType, TensorType
from graphrt.types import DTYPES, UNKNOWN, Dim, ValueType

_OURS = {"FLOAT": "float32", "DOUBLE": "float64"}


def _names() -> dict[int, str]:
    named = ((number, _OURS.get(name, name.lower())) for name, number in TensorProto.DataType.items())
    return {number: name for number, name in named if name in DTYPES}


DTYPE_OF = _names()
"""ONNX's number of an element type to our name."""

ONNX_DTYPE = {name: number for number, name in DTYPE_OF.items()}
"""Our name of an element type to ONNX's number."""


def dtype_of(number: int) -> str:
    """Our name of ONNX's element type.

    Raises:
        ConversionError: there is no such type, or graphrt has none like it.
    """
    if number not in DTYPE_OF:
        known = {v: k for k, v in TensorProto.DataType.items()}
        raise ConversionError(f"the element type {known.get(number, number)} is not one that graphrt has")
    return DTYPE_OF[number]


def type_from_onnx(proto: TypeProto) -> ValueType:
    """The type of a value; sparse tensors become dense ones, opaque types unknown ones.

    Raises:
        ConversionError: an element type that graphrt does not have.
    """
    kind = proto.WhichOneof("value")
    if kind in ("tensor_type", "sparse_tensor_type"):
        tensor = getattr(proto, kind)
        dtype = dtype_of(tensor.elem_type) if tensor.elem_type else None
        shape = tuple(_dim(d) for d in tensor.shape.dim) if tensor.HasField("shape") else None
        return TensorType(dtype, shape)
    if kind == "sequence_type":
        return SequenceType(type_from_onnx(proto.sequence_type.elem_type))
    if kind == "optional_type":
        return OptionalType(type_from_onnx(proto.optional_type.elem_type))
    if kind == "map_type":
        return MapType(dtype_of(proto.map_type.key_type), type_from_onnx(proto.map_type.value_type))
    return UNKNOWN


def _dim(proto: Any) -> Dim:
    kind = proto.WhichOneof("value")
    if kind == "dim_param":
        return str(proto.dim_param) or None
    return int(proto.dim_value) if kind == "dim_value" and proto.dim_value >= 0 else None


def type_to_onnx(t: ValueType) -> TypeProto:
    """ONNX's form of a value type; what is unknown is left out."""
    proto = TypeProto()
    if isinstance(t, TensorType):
        tensor = proto.tensor_type
        if t.dtype is not None:
            tensor.elem_type = ONNX_DTYPE[t.dtype]
        if t.shape is not None:
            tensor.shape.SetInParent()
            for d in t.shape:
                dim = tensor.shape.dim.add()
                if isinstance(d, int):
                    dim.dim_value = d
                elif d is not None:
                    dim.dim_param = d
    elif isinstance(t, SequenceType):
        proto.sequence_type.elem_type.CopyFrom(type_to_onnx(t.element))
    elif isinstance(t, OptionalType):
        proto.optional_type.elem_type.CopyFrom(type_to_onnx(t.element))
    else:
        proto.map_type.key_type = ONNX_DTYPE[t.key]
        proto.map_type.value_type.CopyFrom(type_to_onnx(t.value))
    return proto


def is_complete(t: ValueType) -> bool:
    """Whether ONNX can declare a value with this type: element types and ranks are known."""
    if isinstance(t, TensorType):
        return t.dtype is not None and t.shape is not None
    if isinstance(t, MapType):
        return is_complete(t.value)
    element = t.element
    return element.dtype is not None if isinstance(element, TensorType) else is_complete(element)
