"""Between tensors and sequences: ConcatFromSequence and SplitToSequence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphrt.dual import lists
from graphrt.op import Array, op
from graphrt.ops._axes import normalize_axis
from graphrt.ops._sequences import element_type, with_axis
from graphrt.types import SequenceType, TensorType


@op("ConcatFromSequence", version=11, outputs="concat_result")
def concat_from_sequence(input_sequence: list[Array], *, axis: int, new_axis: int = 0) -> Array:
    """Joins the tensors of a sequence along an axis, or with ``new_axis`` stacks them along a new one.

    input_sequence: one or more tensors, shapes equal except (without ``new_axis``) along ``axis`` -> concat_result.
    Gradient: each tensor gets its part of ct. Source: ONNX operator spec.
    """
    if not input_sequence:
        raise ValueError("the sequence is empty, so its shape is not known; join at least one tensor")
    return (np.stack if new_axis else np.concatenate)(input_sequence, axis=axis)


@concat_from_sequence.vjp("input_sequence")
def _(ct, input_sequence_like, axis, new_axis):
    if new_axis:
        return list(np.moveaxis(ct, axis, 0))
    return np.split(ct, np.cumsum([x.shape[axis] for x in input_sequence_like])[:-1], axis=axis)


@concat_from_sequence.jvp("input_sequence")
def _(input_sequence_dot, input_sequence_like, axis, new_axis):
    dots = lists.tangent_or_zeros(input_sequence_dot, input_sequence_like)
    return concat_from_sequence(dots, axis=axis, new_axis=new_axis)


@concat_from_sequence.infer
def _(input_sequence, axis, new_axis):
    element = element_type(input_sequence)
    if not isinstance(element, TensorType) or element.shape is None:
        return TensorType(getattr(element, "dtype", None))
    if not new_axis:
        return with_axis(element, axis, None)
    at = normalize_axis(axis, len(element.shape) + 1)
    return TensorType(element.dtype, (*element.shape[:at], None, *element.shape[at:]))


@concat_from_sequence.examples
def _(rng):
    yield ([rng.normal(size=(2, n)) for n in (1, 0, 3)],), {"axis": 1}
    yield ([rng.normal(size=(n, 2)) for n in (1, 2)],), {"axis": -2, "new_axis": 0}
    for axis in (0, 1, -1, -3):
        yield ([rng.normal(size=(2, 3)) for _ in range(2)],), {"axis": axis, "new_axis": 1}
    yield ([rng.normal(size=()) for _ in range(3)],), {"axis": 0, "new_axis": 1}
    yield ([np.arange(3)],), {"axis": 0}


@op("SplitToSequence", version=11, outputs="output_sequence", nondiff="split")
def split_to_sequence(input: Array, split: Array = None, *, axis: int = 0, keepdims: int = 1) -> list[Array]:
    """Cuts a tensor along an axis into a sequence.

    input: any dtype [...]; split: int [], the size of each part (of all but the last, where it does not divide), or
    int [k], the size of each. Without it the parts are of size 1, and ``keepdims=0`` drops the axis from them.
    -> output_sequence: the parts, in order. Gradient: joins the entries of ct. Source: ONNX operator spec.
    """
    at = normalize_axis(axis, input.ndim)
    if split is None and not keepdims:
        return list(np.moveaxis(input, at, 0))
    return _cut(input, _sizes(split, input.shape[at]), at)


def _cut(x: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    ends = np.cumsum(sizes, dtype=np.int64)
    return [x[(slice(None),) * axis + (slice(e - n, e),)] for n, e in zip(sizes, ends.tolist(), strict=True)]


def _sizes(split: Array | None, dim: int) -> list[int]:
    if split is None or split.ndim == 0:
        size = 1 if split is None else int(split)
        if size < 1:
            raise ValueError(f"split is {size}; parts have a size of 1 or more")
        return [min(size, dim - i) for i in range(0, dim, size)]
    sizes = [int(n) for n in split]
    if sum(sizes) != dim or min(sizes, default=0) < 0:
        raise ValueError(f"split sizes {sizes} should be 0 or more and add up to {dim}, the size of the axis")
    return sizes


@split_to_sequence.vjp("input")
def _(ct, input_like, split, axis, keepdims):
    parts = split_to_sequence(input_like, split, axis=axis, keepdims=keepdims)
    if not parts:
        return np.zeros(input_like.shape, input_like.dtype)
    join = np.stack if split is None and not keepdims else np.concatenate
    return join(lists.tangent_or_zeros(ct, parts), axis=axis)


@split_to_sequence.jvp("input")
def _(input_dot, split, axis, keepdims):
    return split_to_sequence(input_dot, split, axis=axis, keepdims=keepdims)


@split_to_sequence.infer
def _(input, split, split_value, axis, keepdims):
    if input.shape is None:
        return SequenceType(TensorType(input.dtype))
    at = normalize_axis(axis, len(input.shape))
    if split is None and not keepdims:
        return SequenceType(TensorType(input.dtype, (*input.shape[:at], *input.shape[at + 1 :])))
    dim = input.shape[at]
    sizes: list[int | None] = [1] if split is None else [None]
    if split_value is not None and isinstance(dim, int):
        sizes = [*_sizes(split_value, dim)]
    return SequenceType(with_axis(input, at, sizes[0] if len(set(sizes)) == 1 else None))


@split_to_sequence.examples
def _(rng):
    x = rng.normal(size=(4, 5))
    yield (x,), {}
    for keepdims in (0, 1):
        yield (x,), {"axis": -1, "keepdims": keepdims}
        yield (x, np.array(2)), {"axis": 1, "keepdims": keepdims}
    yield (x, np.array([1, 0, 4], np.int32)), {"axis": 1}
    yield (np.arange(4), np.array([2, 2])), {}
    yield (rng.normal(size=(0, 2)),), {}


OPS = (concat_from_sequence, split_to_sequence)
