"""Types of sequences and their members."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphrt.ops._axes import normalize_axis
from graphrt.types import UNKNOWN, Dim, SequenceType, TensorType, ValueType


def common_type(types: Sequence[ValueType | None]) -> ValueType:
    """What is known of a value that has one of these types."""
    known = [t for t in types if isinstance(t, TensorType)]
    if not known or len(known) != len(types):
        return UNKNOWN
    dtypes = {t.dtype for t in known}
    if len(dtypes - {None}) > 1:
        raise ValueError(f"tensors of one sequence have one dtype, not {', '.join(sorted(map(str, dtypes)))}")
    shapes = {t.shape for t in known}
    shape: Any = None
    if None not in shapes and len({len(s) for s in shapes if s is not None}) == 1:
        shape = tuple(ds[0] if len(set(ds)) == 1 else None for ds in zip(*shapes, strict=True))
    return TensorType(next(iter(dtypes)) if len(dtypes) == 1 else None, shape)


def element_type(sequence: ValueType | None, what: str = "input_sequence") -> ValueType:
    """The type of a sequence's members."""
    if isinstance(sequence, SequenceType):
        return sequence.element
    if sequence not in (None, UNKNOWN):
        raise ValueError(f"{what} is {sequence}; it should be a sequence")
    return UNKNOWN


def with_axis(t: TensorType, axis: int, dim: Dim) -> TensorType:
    """The type with another size along one axis."""
    if t.shape is None:
        return t
    at = normalize_axis(axis, len(t.shape))
    return TensorType(t.dtype, (*t.shape[:at], dim, *t.shape[at + 1 :]))
