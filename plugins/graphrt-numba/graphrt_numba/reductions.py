"""Sums: of squares (the norm of a gradient), over rows (the gradients of biases), along axes; and arrays of ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, Kernel, KernelSite, TensorType, kernel
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, constant, is_worth, launching

Shape = tuple[int, ...]

SPEED, LINE = 0.1, 16
"""Nanoseconds that one number takes, about; and how many of them are on a line of the cache."""
MOST_AXES = 8
"""Of an array that is summed up along some: all choices of them are tried."""


@kernel("SumOfSquares", name="numba_sum_of_squares", domain="graphrt", priority=PRIORITY)
def sum_of_squares(site: KernelSite) -> Into | None:
    """Each thread sums up a part of a large array."""
    types = site.inputs["data"]
    if not all(isinstance(t, TensorType) and t.dtype == "float32" and t.is_static for t in types):
        return None
    if not any(is_worth(site, t) for t in types):
        return None
    from graphrt_numba import reduction_loops as loops
    from graphrt_numba.team import alone

    bounds = [bounds_of(size, size * SPEED) for t in types for size in [math.prod(t.shape)]]
    squares = [by_rows(loops.sum_of_squares, ("float32*", "float32**"), b) for b in bounds]
    counts = constant([len(b) - 1 for b in bounds])
    total = alone(loops.total, ("int64*", "float32***", "float32*"), counts)

    def fill(*arrays: Array) -> None:
        *data, result, sums = arrays
        for run, x, own in zip(squares, data, sums, strict=True):
            run(x.ravel(), own)
        total(sums, result.reshape(1))

    return launching(site, fill, scratch=[((len(types), int(counts.max()), LINE), "float32")])


def _sum_over_rows(op_type: str, name: str) -> Kernel:
    """The cotangent of what was the same in each row: the sum over the rows."""

    def make(site: KernelSite) -> Into | None:
        ct, like = site.inputs["ct"], site.inputs.get(f"{name}_like")
        if "broadcast" in site.attributes or not is_worth(site, ct) or not isinstance(like, TensorType) or ct == like:
            return None
        if not site.is_float("ct", f"{name}_like") or site.attributes.get("beta", 1) != 1:
            return None
        shape, kept = site.shape("ct"), site.shape(f"{name}_like")
        columns = math.prod(kept)
        while kept[:1] == (1,):
            kept = kept[1:]
        rows = math.prod(shape) // max(columns, 1)
        if shape[len(shape) - len(kept) :] != kept or not rows * columns:
            return None
        run = over_rows(rows, columns)
        return launching(site, lambda *arrays: run(arrays[0].ravel(), arrays[-1].ravel()))

    return Kernel(f"numba_{op_type}_cotangent_{name}", f"{op_type}.vjp[{name}]", make, priority=PRIORITY)


def over_rows(rows: int, columns: int) -> Callable[..., None]:
    """What writes the sum over the rows of a matrix, given flat, into another array."""
    from graphrt_numba import reduction_loops as loops

    if columns == 1:
        sum_up = by_rows(loops.sum_of_rows, ["int64", "int64", "float32", "float32*", "float32*"], bounds_of(1, 0))
        return partial(sum_up, rows, 1, 1.0)
    bounds = np.minimum(bounds_of(-(-columns // LINE), rows * columns * SPEED) * LINE, columns)
    run = by_rows(loops.sum_over_rows, ["int64", "int64", "float32*", "float32*"], bounds)
    return partial(run, rows, columns)


# ---- along axes --------------------------------------------------------------------------------------------


def _along(shape: Shape, reduced: Shape) -> tuple[int, int, int] | None:
    """Which axes side by side are summed up, as three: the product of the lengths before, that of theirs, that after.

    None if they are not side by side, or if the shapes do not tell.

    >>> _along((2, 3, 4, 5), (2, 5)), _along((2, 3, 3), (2, 1, 3)), _along((4, 1, 3), (4,))
    ((2, 12, 5), (2, 3, 3), (4, 3, 1))
    >>> _along((2, 3, 3), (2, 3)), _along((2, 3, 3), (3,)), _along((2, 5, 3), (5,)), _along((2, 3), (2, 3))
    (None, None, None, (6, 1, 1))
    """
    rank, found = len(shape), set()
    if rank > MOST_AXES:
        return None
    for chosen in product((False, True), repeat=rank):
        for one in ((1,), ()):  # what is left of an axis
            made = tuple(m for n, gone in zip(shape, chosen, strict=True) for m in (one if gone else (n,)))
            if made == reduced:
                found.add(_side_by_side([(n, gone) for n, gone in zip(shape, chosen, strict=True) if n != 1]))
    return found.pop() if len(found) == 1 else None


def _side_by_side(axes: Sequence[tuple[int, bool]]) -> tuple[int, int, int] | None:
    """The three products for axes longer than one, each with whether it is summed up; None if these lie apart."""
    at = [i for i, (_, gone) in enumerate(axes) if gone] or [len(axes)]
    first, last = at[0], at[-1] + 1
    if not all(gone for _, gone in axes[first:last]):
        return None
    before, those, after = (math.prod(n for n, _ in part) for part in (axes[:first], axes[first:last], axes[last:]))
    return before, those, after


def _reduction(op_type: str, suffix: str) -> Kernel:
    """A sum or mean along axes, or its cotangent."""

    def make(site: KernelSite) -> Into | None:
        given, made = site.inputs["ct" if suffix else "data"], site.outputs[0]
        if not isinstance(made, TensorType) or not made.is_static or not is_worth(site, given):
            return None
        whole, reduced = (made, given) if suffix else (given, made)
        found = _along(whole.shape, reduced.shape)
        if found is None or 0 in found:
            return None
        from graphrt_numba import reduction_loops as loops

        outer, count, inner = found
        loop = loops.spread_along if suffix else loops.sum_along if inner > 1 else loops.sum_of_rows
        run = by_rows(
            loop, ["int64", "int64", "float32", "float32*", "float32*"], bounds_of(outer, math.prod(found) * SPEED)
        )
        numbers = count, inner, count if op_type == "ReduceMean" else 1
        return launching(site, lambda *arrays: run(*numbers, arrays[0].ravel(), arrays[-1].ravel()))

    return Kernel(f"numba_{op_type}{suffix}", f"{op_type}{suffix}", make, priority=PRIORITY)


@kernel("OnesLike", name="numba_ones", domain="graphrt", priority=PRIORITY)
def ones(site: KernelSite) -> Into | None:
    """Writes the ones, into memory it is given."""
    if not is_worth(site, site.inputs["x"]):
        return None
    from graphrt_numba import reduction_loops as loops

    size = math.prod(site.shape("x"))
    run = by_rows(loops.fill, ("float32", "float32*"), bounds_of(size, size * SPEED))
    return launching(site, lambda x, y: run(1.0, y.ravel()))


KERNELS = (
    sum_of_squares, ones, _sum_over_rows("Add", "a"), _sum_over_rows("Add", "b"), _sum_over_rows("Sub", "a"),
    _sum_over_rows("Gemm", "c"), _sum_over_rows("LayerNormalization", "b"),
    *(_reduction(op, suffix) for op in ("ReduceSum", "ReduceMean") for suffix in ("", ".vjp[data]")),
)  # fmt: skip
