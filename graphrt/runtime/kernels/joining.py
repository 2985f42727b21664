"""Concat and Gather, straight into the memory of the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.ops._axes import wrapped
from graphrt.types import TensorType


def _are_static(types: Sequence[object]) -> bool:
    return all(isinstance(t, TensorType) and t.is_static for t in types)


@kernel("Concat")
def concat_in_place(site: KernelSite) -> Into | None:
    """Each input copied to its part of the result."""
    types = site.inputs["inputs"]
    if not _are_static(types) or len({t.dtype for t in types}) > 1:
        return None
    axis = site.attributes["axis"]
    return site.into(lambda *arrays: np.concatenate(arrays[:-1], axis, arrays[-1]))


@kernel("Gather")
def gather_in_place(site: KernelSite) -> Into | None:
    """The slices copied to the result, after a look at the indices that takes less than NumPy's at each of them."""
    data, indices = site.inputs["data"], site.inputs["indices"]
    if not _are_static((data, indices)) or 0 in data.shape or 0 in indices.shape or data.dtype == "string":
        return None
    axis = site.attributes["axis"] % len(data.shape)
    size = data.shape[axis]

    def fill(data: Array, indices: Array, y: Array) -> None:
        if np.minimum.reduce(indices, None) < 0 or np.maximum.reduce(indices, None) >= size:
            indices = wrapped(indices, size, axis)  # raises a ValueError where that does not help
        data.take(indices, axis, y, "clip")

    return site.into(fill)


KERNELS = (concat_in_place, gather_in_place)
