"""Element types, symbolic dimensions and the types of values.

The names of element types are NumPy's where NumPy has the type (``float32``, ``int64``, ``bool``), and
ONNX's in lower case for the rest (``bfloat16``, ``float8e4m3fn``, ``int4``). A dimension is an ``int``,
a symbol such as ``"batch"``, or ``None`` when nothing is known about it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from graphrt.errors import InputError
from graphrt.records import dataclass

Dim: TypeAlias = int | str | None
Shape: TypeAlias = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class DType:
    """One element type: its name, bits per element, kind, and the name of its type in ``ml_dtypes``.

    ``kind`` is ``"f"`` float, ``"c"`` complex, ``"i"`` signed, ``"u"`` unsigned, ``"b"`` bool, ``"s"`` string.
    """

    name: str
    bits: int
    kind: str
    ml_dtypes: str = ""


DTYPES: dict[str, DType] = {
    d.name: d
    for d in [
        DType("float16", 16, "f"),
        DType("float32", 32, "f"),
        DType("float64", 64, "f"),
        DType("complex64", 64, "c"),
        DType("complex128", 128, "c"),
        DType("int8", 8, "i"),
        DType("int16", 16, "i"),
        DType("int32", 32, "i"),
        DType("int64", 64, "i"),
        DType("uint8", 8, "u"),
        DType("uint16", 16, "u"),
        DType("uint32", 32, "u"),
        DType("uint64", 64, "u"),
        DType("bool", 8, "b"),
        DType("string", 0, "s"),
        DType("bfloat16", 16, "f", "bfloat16"),
        DType("float8e4m3fn", 8, "f", "float8_e4m3fn"),
        DType("float8e4m3fnuz", 8, "f", "float8_e4m3fnuz"),
        DType("float8e5m2", 8, "f", "float8_e5m2"),
        DType("float8e5m2fnuz", 8, "f", "float8_e5m2fnuz"),
        DType("float8e8m0", 8, "f", "float8_e8m0fnu"),
        DType("float4e2m1", 8, "f", "float4_e2m1fn"),
        DType("int4", 8, "i", "int4"),
        DType("uint4", 8, "u", "uint4"),
        DType("int2", 8, "i", "int2"),
        DType("uint2", 8, "u", "uint2"),
    ]
}
"""Every element type by name. ``bits`` is the size in memory and in a file: sub-byte types take one byte
each, as ``ml_dtypes`` holds them."""

_NAME_OF_ML_DTYPE = {d.ml_dtypes: d.name for d in DTYPES.values() if d.ml_dtypes}


@cache
def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of an element type's name; ``string`` is ``object`` (arrays of ``str``).

    Raises:
        InputError: no element type has this name, or it needs the package ``ml_dtypes``, which is missing.
    """
    entry = DTYPES.get(name)
    if entry is None:
        raise InputError(f"no element type is named {name!r}; there are: {', '.join(DTYPES)}")
    if entry.kind == "s":
        return np.dtype(object)
    if not entry.ml_dtypes:
        return np.dtype(name)
    try:
        found: type = getattr(importlib.import_module("ml_dtypes"), entry.ml_dtypes)
    except (ImportError, AttributeError) as e:
        raise InputError(
            f"element type {name!r} needs the package ml_dtypes (a recent version): pip install -U ml_dtypes"
        ) from e
    return np.dtype(found)


@cache
def dtype_name(dtype: np.dtype[Any] | type) -> str:
    """The element type's name of a NumPy dtype (or scalar type).

    >>> dtype_name(np.dtype("float32")), dtype_name(np.dtype(object))
    ('float32', 'string')

    Raises:
        InputError: the dtype is none of ours (``datetime64``, structured, …).
    """
    d = np.dtype(dtype)
    if d.kind in "OUST":
        return "string"
    name = _NAME_OF_ML_DTYPE.get(d.name, d.name)
    if name not in DTYPES:
        raise InputError(f"arrays of dtype {d} cannot be values of a graph; there are: {', '.join(DTYPES)}")
    return name


def is_differentiable(dtype: str | None) -> bool:
    """Whether values of this element type can carry a gradient; an unknown type (None) may."""
    return dtype is None or DTYPES[dtype].kind in "fc"


@dataclass(frozen=True, slots=True)
class TensorType:
    """The type of a tensor value: element type and shape, each possibly unknown.

    Args:
        dtype: an element type's name, or None.
        shape: a tuple of dimensions (int, symbol or None each), or None when even the rank is unknown.

    >>> print(TensorType("float32", ("batch", 3)))
    float32[batch, 3]
    """

    dtype: str | None = None
    shape: Shape | None = None

    def __post_init__(self) -> None:
        if self.dtype is not None and self.dtype not in DTYPES:
            raise InputError(f"no element type is named {self.dtype!r}; there are: {', '.join(DTYPES)}")
        if self.shape is not None:
            object.__setattr__(self, "shape", tuple(self.shape))
            for d in self.shape:
                if not (d is None or isinstance(d, str) or (isinstance(d, int) and d >= 0)):
                    raise InputError(f"a dimension is a whole number >= 0, a symbol or None, not {d!r}")

    @classmethod
    def of(cls, array: Any) -> TensorType:
        """The exact type of an array."""
        return cls(dtype_name(array.dtype), tuple(int(n) for n in array.shape))

    @property
    def rank(self) -> int | None:
        """Number of dimensions, or None when unknown."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_static(self) -> bool:
        """Whether element type and every dimension are known numbers."""
        return self.dtype is not None and self.shape is not None and all(isinstance(d, int) for d in self.shape)

    def __str__(self) -> str:
        dims = "..." if self.shape is None else ", ".join("?" if d is None else str(d) for d in self.shape)
        return f"{self.dtype or '?'}[{dims}]"


@dataclass(frozen=True, slots=True)
class SequenceType:
    """An ordered list of values of one type."""

    element: ValueType

    def __str__(self) -> str:
        return f"sequence({self.element})"


@dataclass(frozen=True, slots=True)
class OptionalType:
    """A value or nothing (Python's None)."""

    element: ValueType

    def __str__(self) -> str:
        return f"optional({self.element})"


@dataclass(frozen=True, slots=True)
class MapType:
    """A dictionary from integers or strings to values of one type."""

    key: str
    value: ValueType

    def __str__(self) -> str:
        return f"map({self.key}, {self.value})"


ValueType: TypeAlias = TensorType | SequenceType | OptionalType | MapType


def carries_gradient(t: ValueType) -> bool:
    """Whether a value of this type can have a cotangent: floats, unknown types, and what contains such."""
    while isinstance(t, (SequenceType, OptionalType)):
        t = t.element
    return not isinstance(t, TensorType) or is_differentiable(t.dtype)


UNKNOWN = TensorType()
"""The type of a value about which nothing is known."""


def broadcast_dims(a: Dim, b: Dim) -> Dim:
    """One dimension of two arrays broadcast against each other.

    Two different symbols, or a symbol against an unknown, give None: either could be 1.

    Raises:
        ValueError: two different numbers, neither of them 1.
    """
    if a == b:
        return a
    if a == 1:
        return b
    if b == 1:
        return a
    if isinstance(a, int) and isinstance(b, int):
        raise ValueError(f"dimensions {a} and {b} do not broadcast")
    for d in (a, b):
        if isinstance(d, int):
            return d
    return None


def broadcast_shapes(shapes: Iterable[Shape | None]) -> Shape | None:
    """The shape of arrays broadcast together (NumPy's rules), with symbols; None when any rank is unknown.

    >>> broadcast_shapes([("batch", 1), (3,)])
    ('batch', 3)

    Raises:
        ValueError: the shapes do not broadcast.
    """
    result: Shape = ()
    for shape in shapes:
        if shape is None:
            return None
        n = max(len(result), len(shape))
        a, b = (1,) * (n - len(result)) + result, (1,) * (n - len(shape)) + shape
        result = tuple(map(broadcast_dims, a, b))
    return result
