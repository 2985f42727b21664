"""Ops that give an array another shape: the shape is known when the plan is made."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

from graphrt.definitions import Kernel, KernelSite, kernel
from graphrt.op import Array
from graphrt.types import TensorType

Function = Callable[..., Any]


def _reshaping(op_type: str) -> Kernel:
    """The same elements in the shape of the output."""

    def make(site: KernelSite) -> Function | None:
        t = site.outputs[0]
        if not isinstance(t, TensorType) or not t.is_static:
            return None
        shape = t.shape
        return lambda data, *rest: data.reshape(shape)

    return Kernel(f"{op_type.lower()}_to_known_shape", op_type, make)


@kernel("Transpose")
def transpose_of_known_rank(site: KernelSite) -> Function | None:
    """A view with the axes in their new order."""
    data = site.inputs["data"]
    if not isinstance(data, TensorType) or data.shape is None:
        return None
    rank, perm = len(data.shape), site.attributes["perm"]
    order = tuple(range(rank))[::-1] if perm is None else tuple(i % rank for i in perm)
    return lambda data: data.transpose(order)


@kernel("Split")
def split_at_known_places(site: KernelSite) -> Function | None:
    """Views of parts whose sizes are those of the outputs."""
    data, types = site.inputs["input"], site.outputs
    if not all(isinstance(t, TensorType) and t.is_static for t in (data, *types)):
        return None
    axis = site.attributes["axis"] % len(data.shape)
    ends = [0, *accumulate(t.shape[axis] for t in types)]  # type: ignore[union-attr, index]
    parts = [(slice(None),) * axis + (slice(a, b),) for a, b in pairwise(ends)]

    def split(data: Array, *rest: Array) -> tuple[Array, ...]:
        return tuple([data[part] for part in parts])

    return split


KERNELS = (
    *map(_reshaping, ("Reshape", "Flatten", "Squeeze", "Unsqueeze")), transpose_of_known_rank, split_at_known_places,
)  # fmt: skip
