"""Sums and means over axes, rows as a product with ones; sums of the squares of whole arrays."""

from __future__ import annotations

import math

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.ops._reduced import normalize_axes
from graphrt.runtime.kernels._blocks import for_blas
from graphrt.types import TensorType


def _reduction(site: KernelSite, mean: bool) -> Into | None:
    if not site.is_float("data") or 0 in site.shape("data"):
        return None
    shape, a = site.shape("data"), site.attributes
    rank, keepdims, attribute = len(shape), bool(a["keepdims"]), a.get("axes")
    unless_given = a.get("noop_with_empty_axes", 0)
    ones = np.ones(shape[-1] if shape else 1, site.inputs["data"].dtype)

    def fill(data: Array, *rest: Array) -> None:
        *axes, y = rest
        over = normalize_axes(axes[0] if axes and axes[0] is not None else attribute, rank, unless_given)
        if over == (rank - 1,) and rank > 1:
            np.matmul(for_blas(data), ones, y.reshape(shape[:-1]))
        else:
            np.add.reduce(data, axis=over, out=y, keepdims=keepdims)
        if mean:
            np.multiply(y, 1 / math.prod(shape[i] for i in over), y)

    return site.into(fill)


@kernel("ReduceSum")
def reduce_sum(site: KernelSite) -> Into | None:
    """The sum over the axes."""
    return _reduction(site, mean=False)


@kernel("ReduceMean")
def reduce_mean(site: KernelSite) -> Into | None:
    """The sum over the axes, times the reciprocal of their size."""
    return _reduction(site, mean=True)


@kernel("SumOfSquares", domain="graphrt")
def sum_of_squares(site: KernelSite) -> Into | None:
    """The product of each array with itself; these are added in float64."""
    types = site.inputs["data"]
    if any(not isinstance(t, TensorType) or t.dtype not in ("float32", "float64") for t in types):
        return None

    def fill(*arrays: Array) -> None:
        *data, y = arrays
        y.fill(sum(map(square, data)))

    return site.into(fill)


def square(x: Array) -> float:
    """The sum of the squares of an array's elements."""
    flat = x.reshape(-1)
    return float(np.dot(flat, flat))


KERNELS = (reduce_sum, reduce_mean, sum_of_squares)
