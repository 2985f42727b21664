"""Work on large arrays in pieces that stay in the second-level cache, where all passes but the first find them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import Into, KernelSite
from graphrt.op import Array
from graphrt.runtime.threads import share, threads_for

Function = Callable[..., Any]
BLOCK = 7 << 14
"""Bytes of one array's piece: half a dozen fit in the second-level cache, and malloc has one at hand."""
SPEED = 0.3
"""Nanoseconds that a byte of the result takes, about, in all passes."""
SHARED = 1 << 19
"""Bytes of one array's piece where several threads work at a time: they fit in the third-level cache."""


def elementwise(
    site: KernelSite,
    compute: Function,
    shape: tuple[int, ...],
    dtype: Any,
    scratch: int = 0,
    over: tuple[int, ...] = (),
) -> Into | None:
    """A kernel for arrays of one shape, made of a function that fills a piece of the result.

    Args:
        site: where it is to serve; a node with one output.
        compute: takes a piece of each array, then the piece ``y`` of the result and ``scratch`` more arrays like it,
            all writable and its own; fills y. Inputs that are absent are left out.
        shape: of the arrays and the result.
        dtype: of the result and the scratch arrays.
        scratch: how many of these.
        over: the inputs whose memory the result may take: ``compute`` writes y only when it is done with them.
    """
    dtype, size = np.dtype(dtype), math.prod(shape)
    parts = parts_of(size, dtype.itemsize)
    if len(parts) == 1 and len(parts[0]) == 1:

        def whole(*arrays: Array) -> None:
            compute(*[x for x in arrays if x is not None])

        return site.into(whole, over={0: over}, scratch=[(shape, str(dtype))] * scratch)

    def in_pieces(*arrays: Array) -> None:
        flat = [x.reshape(-1) for x in arrays if x is not None]
        large = flat[: len(flat) - len(parts) * scratch]

        def work(i: int, pieces: list[slice]) -> None:
            small = flat[len(large) + i * scratch : len(large) + (i + 1) * scratch]
            for piece in pieces:
                n = piece.stop - piece.start
                compute(*[x[piece] for x in large], *[x[:n] for x in small])

        share(work, parts)

    length = parts[0][0].stop
    return site.into(in_pieces, over={0: over}, scratch=[((length,), str(dtype))] * (scratch * len(parts)))


def parts_of(count: int, nbytes: int) -> list[list[slice]]:
    """Slices of so many items of so many bytes: a list for each thread, one alone where the items are few.

    The slices are cache-sized blocks; those of several threads are larger, because for each pass over one a thread
    waits for the interpreter's lock.
    """
    total = count * nbytes
    threads = threads_for(total * SPEED) if total >= 2 * SHARED else 1
    blocks = threads * -(-total // (threads * (SHARED if threads > 1 else BLOCK)))
    step = max(1, -(-count // max(blocks, 1)))
    slices = [slice(i, min(i + step, count)) for i in range(0, count, step)] or [slice(0, 0)]
    each = -(-len(slices) // threads)
    return [slices[i : i + each] for i in range(0, len(slices), each)]


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
    """``fill(x, y)``: y, of shape ``target``, is the sum of x over the axes along which such an array is broadcast.

    Served are leading axes and all of them; else None.
    """
    if 0 in shape or shape == target:
        return None
    if math.prod(target) == 1:
        return lambda x, y: np.add.reduce(x, axis=None, out=y.reshape(()))
    kept = target
    while kept[0] == 1:
        kept = kept[1:]
    if shape[len(shape) - len(kept) :] != kept:
        return None
    rows, columns = rows_of(shape, len(shape) - len(kept))
    ones = np.ones(rows, dtype)  # a product with ones sums the rows at the speed of memory
    return lambda x, y: np.matmul(ones, for_blas(x.reshape(rows, columns)), y.reshape(columns))
