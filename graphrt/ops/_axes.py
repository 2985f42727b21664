"""Axes, dimensions and positions: what the ops that move elements around have in common."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphrt.types import Dim, Shape, TensorType

Array = Any


# ---- axes and small integer tensors ------------------------------------------------------------------


def as_ints(x: Array) -> tuple[int, ...]:
    """The elements of a small integer tensor (0-d or 1-d), or of a tuple, as Python ints."""
    if isinstance(x, tuple):
        return x
    values = x.tolist()
    return tuple(values) if isinstance(values, list) else (values,)


def known_ints(value: Array | None) -> tuple[int, ...] | None:
    """`as_ints` of a constant; None of an unknown one."""
    return None if value is None else as_ints(value)


def normalize_axis(axis: int, rank: int) -> int:
    """An axis counted from the front.

    Raises:
        ValueError: it is not in ``[-rank, rank - 1]``.
    """
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is out of range for a tensor of rank {rank}")
    return axis + rank if axis < 0 else axis


def normalize_axes(axes: Iterable[int], rank: int) -> tuple[int, ...]:
    """`normalize_axis` of each, in the order given.

    Raises:
        ValueError: one is out of range, or named twice.
    """
    found = tuple(normalize_axis(a, rank) for a in axes)
    if len(set(found)) != len(found):
        raise ValueError(f"axes {tuple(axes)} name the same axis twice in a tensor of rank {rank}")
    return found


# ---- symbolic dimensions -----------------------------------------------------------------------------


def unknown_shape(rank: int | None) -> Shape | None:
    """A shape of which only the rank is known, or not even that."""
    return None if rank is None else (None,) * rank


def length_of(t: TensorType | None) -> int | None:
    """How many elements a 1-d tensor (of axes, a shape, ...) has, if its type says so."""
    if t is None or t.shape is None or len(t.shape) > 1:
        return None
    n = t.shape[0] if t.shape else 1
    return n if isinstance(n, int) else None


def product(dims: Iterable[Dim]) -> Dim:
    """The product of dimensions: a symbol survives only times 1, anything times 0 is 0."""
    found = tuple(dims)
    number = math.prod(d for d in found if isinstance(d, int))
    others = [d for d in found if not isinstance(d, int)]
    if number == 0 or not others:
        return number
    return others[0] if len(others) == 1 and number == 1 else None


def total(dims: Iterable[Dim]) -> Dim:
    """The sum of dimensions: a symbol survives only plus 0."""
    found = tuple(dims)
    number = sum(d for d in found if isinstance(d, int))
    others = [d for d in found if not isinstance(d, int)]
    if not others:
        return number
    return others[0] if len(others) == 1 and number == 0 else None


def same_dim(a: Dim, b: Dim, what: str) -> Dim:
    """The better known of two dimensions that must be equal: a number, else a symbol.

    Raises:
        ValueError: two different numbers.
    """
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise ValueError(f"{what}: {a} and {b} should be equal")
    if isinstance(a, int) or b is None:
        return a
    return b if isinstance(b, int) or a is None else a


# ---- buffers -----------------------------------------------------------------------------------------


def _carrier(*arrays: Array) -> Array | None:
    """The array whose kind a buffer for all of them must have: the dual of the highest level, if any is dual."""
    duals = [a for a in arrays if not isinstance(a, (np.ndarray, np.generic))]
    return max(duals, key=lambda a: a.level) if duals else None


def zeros(shape: Sequence[int], *like: Array) -> Array:
    """Zeros of the first array's dtype that can be filled with values of any of the arrays.

    They are dual if one of the arrays is.
    """
    return np.zeros(shape, like[0].dtype, like=_carrier(*like))


def writable(x: Array, *others: Array) -> Array:
    """A contiguous copy of ``x`` that can take values of ``x`` and ``others`` in place."""
    if _carrier(x, *others) is None:
        return np.array(x, order="C")
    y = zeros(x.shape, x, *others)
    y[...] = x
    return y


# ---- positions ---------------------------------------------------------------------------------------


def wrapped(indices: Array, size: int, axis: int) -> Array:
    """Indices into an axis as numbers from 0, negative ones counted from the end.

    Raises:
        ValueError: one is not in ``[-size, size - 1]``.
    """
    if not indices.size:
        return np.zeros(indices.shape, np.intp)
    low, high = indices.min(), indices.max()
    if low < -size or high >= size:
        bad = high if high >= size else low
        raise ValueError(f"index {bad} is out of range for axis {axis} of size {size}")
    return (np.where(indices < 0, indices + size, indices) if low < 0 else indices).astype(np.intp, copy=False)


def element_positions(indices: Array, shape: Sequence[int], axis: int) -> Array:
    """For GatherElements and ScatterElements: where in the flat data each entry of ``indices`` points."""
    rank = len(shape)
    if indices.ndim != rank:
        raise ValueError(f"indices have rank {indices.ndim}, data has rank {rank}; they should be equal")
    axis = normalize_axis(axis, rank)
    where = wrapped(indices, shape[axis], axis) * math.prod(shape[axis + 1 :])
    for d in range(rank):
        if d == axis:
            continue
        if indices.shape[d] > shape[d]:
            raise ValueError(f"indices have {indices.shape[d]} entries along axis {d}, data has only {shape[d]}")
        steps = np.arange(indices.shape[d]) * math.prod(shape[d + 1 :])
        where = where + steps.reshape((-1,) + (1,) * (rank - d - 1))
    return where


def row_positions(indices: Array, shape: Sequence[int], batch_dims: int = 0) -> Array:
    """For GatherND and ScatterND: the row that each index tuple names, data seen as a matrix.

    Args:
        indices: int [batch..., ..., k]; the last axis holds index tuples.
        shape: the data's; its axes ``batch_dims`` to ``batch_dims + k`` are indexed.
        batch_dims: how many leading axes of data and indices run together.

    Returns:
        int [batch..., ...]: row numbers in ``data.reshape(prod(shape[:batch_dims + k]), -1)``.
    """
    if not 0 <= batch_dims < min(indices.ndim, len(shape) + 1):
        raise ValueError(f"batch_dims={batch_dims} does not fit indices and data of ranks {indices.ndim}, {len(shape)}")
    if indices.shape[:batch_dims] != tuple(shape[:batch_dims]):
        raise ValueError(f"batch dimensions of indices {indices.shape} and of data {tuple(shape)} should be equal")
    k = indices.shape[-1]
    if k > len(shape) - batch_dims:
        raise ValueError(f"index tuples of length {k} do not fit data of rank {len(shape)}, batch_dims={batch_dims}")
    rows = np.zeros(indices.shape[:-1], np.intp)
    for i in range(k):
        axis = batch_dims + i
        rows = rows * shape[axis] + wrapped(indices[..., i], shape[axis], axis)
    for b in range(batch_dims):
        steps = np.arange(shape[b]) * math.prod(shape[b + 1 : batch_dims + k])
        rows = rows + steps.reshape((-1,) + (1,) * (rows.ndim - b - 1))
    return rows


def scatter_add(positions: Array, values: Array, size: int) -> Array:
    """Sums ``values`` into a new flat array at ``positions`` (of the same shape; repeated ones add up).

    One-dimensional ``np.add.at`` beats sorting and row-wise addition at every size that was measured.
    """
    sums = zeros((size,), values)
    np.add.at(sums, positions.reshape(-1), values.reshape(-1))
    return sums


def take_positions(index: Array, shape: Sequence[int], axis: int) -> Array:
    """Where in the flat data the elements of ``np.take(data, index, axis)`` come from, for a 1-d ``index`` >= 0."""
    before, size, after = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    rows = np.arange(before)[:, None, None] * size + index[:, None]
    return rows * after + np.arange(after)


def take_adjoint(ct: Array, index: Array, shape: Sequence[int], axis: int) -> Array:
    """The adjoint of ``np.take(data, index, axis)`` for data of this shape and a 1-d ``index`` >= 0."""
    return scatter_add(take_positions(index, shape, axis), ct, math.prod(shape)).reshape(tuple(shape))
