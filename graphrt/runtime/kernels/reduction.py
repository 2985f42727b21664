"""Sums and means over axes; rows are summed as a product with ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array
from graphrt.ops._reduced import normalize_axes
from graphrt.runtime.kernels._blocks import for_blas

Function = Callable[..., Any]


def _reduction(site: KernelSite, mean: bool) -> Function | None:
    if not site.is_float("data") or 0 in site.shape("data"):
        return None
    shape, a = site.shape("data"), site.attributes
    rank, keepdims, attribute = len(shape), bool(a["keepdims"]), a.get("axes")
    unless_given = a.get("noop_with_empty_axes", 0)
    ones = np.ones(shape[-1] if shape else 1, site.inputs["data"].dtype)

    def run(data: Array, axes: Array = None) -> Array:
        y: Array
        over = normalize_axes(attribute if axes is None else axes, rank, unless_given)
        if over == (rank - 1,) and rank > 1:
            y = np.matmul(for_blas(data), ones)
            y = y[..., None] if keepdims else y
        else:
            y = np.sum(data, axis=over, keepdims=keepdims)
        if mean:
            y = y * (1 / math.prod(shape[i] for i in over))
        return y

    return run


@kernel("ReduceSum")
def reduce_sum(site: KernelSite) -> Function | None:
    """The sum over the axes."""
    return _reduction(site, mean=False)


@kernel("ReduceMean")
def reduce_mean(site: KernelSite) -> Function | None:
    """The sum over the axes, times the reciprocal of their size."""
    return _reduction(site, mean=True)


KERNELS = (reduce_sum, reduce_mean)
