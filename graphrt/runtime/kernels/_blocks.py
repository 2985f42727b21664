"""Work on large arrays in pieces that stay in the second-level cache, where all passes but the first find them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.op import Array

Function = Callable[..., Any]
BLOCK = 7 << 14
"""Bytes of one array's piece: half a dozen fit in the second-level cache, and malloc has one at hand."""


def elementwise(compute: Function, shape: tuple[int, ...], dtype: Any, scratch: int = 0) -> Function:
    """A function of arrays of one shape, made of one that fills a piece of the result.

    Args:
        compute: takes a piece of each array, then the piece ``y`` of the result and ``scratch`` more arrays like it,
            all writable and its own; fills y.
        shape: of the arrays and the result.
        dtype: of the result and the scratch arrays.
        scratch: how many of these.
    """
    dtype, size = np.dtype(dtype), math.prod(shape)
    length = BLOCK // dtype.itemsize
    if size <= length:

        def whole(*arrays: Array) -> Array:
            y = np.empty(shape, dtype)
            compute(*arrays, y, *(np.empty(shape, dtype) for _ in range(scratch)))
            return y

        return whole

    def in_pieces(*arrays: Array) -> Array:
        y = np.empty(shape, dtype)
        flat = [x.reshape(-1) for x in arrays]
        flat.append(y.reshape(-1))
        temporary = [np.empty(length, dtype) for _ in range(scratch)]
        for i in range(0, size, length):
            parts = [x[i : i + length] for x in flat]
            if scratch and size - i < length:
                temporary = [t[: size - i] for t in temporary]
            compute(*parts, *temporary)
        return y

    return in_pieces


def rows_of(shape: tuple[int, ...], axis: int) -> tuple[int, int]:
    """(rows, columns) of an array seen as a matrix: the axes before ``axis`` in its rows, the others in its columns."""
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def row_blocks(rows: int, columns: int, itemsize: int) -> list[slice]:
    """Slices of rows that are one block each."""
    step = max(1, BLOCK // max(columns * itemsize, 1))
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)]


def for_blas(x: Array) -> Array:
    """The array, or a copy, as BLAS takes it: the elements of each row (or of each column) next to each other."""
    rows, columns = x.strides[-2:]
    n = x.itemsize
    if (columns == n and rows >= n * x.shape[-1]) or (rows == n and columns >= n * x.shape[-2]):
        return x
    return np.ascontiguousarray(x)


def summed_to(shape: tuple[int, ...], target: tuple[int, ...], dtype: Any) -> Function | None:
    """The sum of an array of ``shape`` over the axes along which one of shape ``target`` was broadcast to it.

    Served are no such axes (the array is returned as it is), all of them, and leading ones only; else None.
    """
    if shape == target:
        return lambda x: x
    if 0 in shape:
        return None
    if math.prod(target) == 1:
        return lambda x: np.add.reduce(x, axis=None).reshape(target)
    kept = target
    while kept[0] == 1:
        kept = kept[1:]
    if shape[len(shape) - len(kept) :] != kept:
        return None
    rows, columns = rows_of(shape, len(shape) - len(kept))
    ones = np.ones(rows, dtype)  # a product with ones sums the rows at the speed of memory
    return lambda x: np.matmul(ones, for_blas(x.reshape(rows, columns))).reshape(target)
