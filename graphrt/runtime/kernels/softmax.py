"""Softmax and LogSoftmax along the last axis, and their cotangents: blocks of rows, few passes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._blocks import parts_of, rows_of
from graphrt.runtime.threads import share
from graphrt.types import numpy_dtype

RowsFunction = Callable[..., None]

_TINY, _HUGE = 1e-15, 1e30
"""Between these a sum of exponentials is exact to rounding with no maximum subtracted: neither did one that matters
vanish, nor did one overflow."""


def _along_rows(
    site: KernelSite, compute: RowsFunction, *names: str, over: tuple[int, ...] = (), scratch: bool = False
) -> Into | None:
    """Applies a function to blocks of the rows of arrays of one shape, where the op's axis is the last one.

    Args:
        site: of a node with one output and the inputs ``names``.
        compute: ``(*inputs, y, ones)``: fills a block of y; ones is a vector with an element for each column.
        names: of the inputs.
        over: those that y may lie over.
        scratch: whether ``compute`` also takes memory like the block.
    """
    if not site.is_float(*names):
        return None
    shape, axis = site.shape(names[0]), site.attributes["axis"]
    if not shape or axis not in (-1, len(shape) - 1) or any(site.shape(n) != shape for n in names) or 0 in shape:
        return None
    dtype = numpy_dtype(site.inputs[names[0]].dtype)
    rows, columns = rows_of(shape, len(shape) - 1)
    parts = parts_of(rows, columns * dtype.itemsize)
    ones = np.ones(columns, dtype)

    def fill(*arrays: Array) -> None:
        matrices = [x.reshape(rows, columns) for x in arrays[: len(names) + 1]]
        memory = arrays[len(names) + 1 :]

        def work(i: int, blocks: list[slice]) -> None:
            for block in blocks:
                own = [m[: block.stop - block.start] for m in memory[i : i + 1]]
                compute(*[m[block] for m in matrices], ones, *own)

        if len(parts) == 1:
            work(0, parts[0])
        else:
            share(work, parts)

    piece = parts[0][0].stop, columns
    return site.into(fill, over={0: over}, scratch=[(piece, dtype.name)] * (len(parts) if scratch else 0))


def _sums(e: Array, ones: Array) -> Array:
    """The sum of each row, as a product with ones: three times as fast as np.sum on short rows."""
    return np.matmul(e, ones)[:, None]


def _is_safe(sums: Array) -> bool:
    return bool(np.minimum.reduce(sums, axis=None) > _TINY and np.maximum.reduce(sums, axis=None) < _HUGE)


def _softmax(x: Array, y: Array, ones: Array) -> None:
    np.exp(x, y)
    sums = _sums(y, ones)
    if not _is_safe(sums):
        np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True), y)
        np.exp(y, y)
        sums = _sums(y, ones)
    np.multiply(y, np.reciprocal(sums, sums), y)


def _softmax_cotangent(ct: Array, output: Array, y: Array, ones: Array) -> None:
    np.subtract(ct, np.vecdot(ct, output)[:, None], y)
    np.multiply(y, output, y)


def _log_softmax(x: Array, y: Array, ones: Array, e: Array) -> None:
    # Always with the maximum: near 0, where the log of a large probability lies, only so no digits are lost.
    np.subtract(x, np.maximum.reduce(x, axis=1, keepdims=True), y)
    sums = _sums(np.exp(y, e), ones)
    np.subtract(y, np.log(sums, sums), y)


def _log_softmax_cotangent(ct: Array, output: Array, y: Array, ones: Array) -> None:
    np.exp(output, y)
    np.multiply(y, _sums(ct, ones), y)
    np.subtract(ct, y, y)


@kernel("Softmax")
def softmax_of_rows(site: KernelSite) -> Into | None:
    """exp(x) over its sum, blocks of rows; the maximum is looked for only where the sum says that it is needed."""
    return _along_rows(site, _softmax, "input")


@kernel("Softmax.vjp[input]")
def softmax_cotangent_of_rows(site: KernelSite) -> Into | None:
    """y (ct - <ct, y>)."""
    return _along_rows(site, _softmax_cotangent, "ct", "output", over=(0,))


@kernel("LogSoftmax")
def log_softmax_of_rows(site: KernelSite) -> Into | None:
    """x - max - log(sum(exp(x - max))), blocks of rows."""
    return _along_rows(site, _log_softmax, "input", over=(0,), scratch=True)


@kernel("LogSoftmax.vjp[input]")
def log_softmax_cotangent_of_rows(site: KernelSite) -> Into | None:
    """ct - exp(y) sum(ct)."""
    return _along_rows(site, _log_softmax_cotangent, "ct", "output", over=(1,))


KERNELS = (softmax_of_rows, softmax_cotangent_of_rows, log_softmax_of_rows, log_softmax_cotangent_of_rows)
