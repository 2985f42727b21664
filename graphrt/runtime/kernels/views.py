"""Ops that give an array another shape: the shape is known when the plan is made."""

from __future__ import annotations

from itertools import accumulate, pairwise

from graphrt.definitions import Kernel, KernelSite, View, kernel
from graphrt.op import Array
from graphrt.types import TensorType


def _reshaping(op_type: str) -> Kernel:
    """The same elements in the shape of the output."""

    def make(site: KernelSite) -> View | None:
        t = site.outputs[0]
        if not isinstance(t, TensorType) or not t.is_static or site.inputs.get("ct", t) is None:
            return None
        shape = t.shape
        return View(lambda data, *rest: data.reshape(shape), reshapes=True)

    name, _, suffix = op_type.lower().partition(".")
    return Kernel(f"{name}{'_cotangent' if suffix else ''}_to_known_shape", op_type, make)


@kernel("Transpose")
def transpose_of_known_rank(site: KernelSite) -> View | None:
    """A view with the axes in their new order."""
    data = site.inputs["data"]
    if not isinstance(data, TensorType) or data.shape is None:
        return None
    rank, perm = len(data.shape), site.attributes["perm"]
    order = tuple(range(rank))[::-1] if perm is None else tuple(i % rank for i in perm)
    return View(lambda data: data.transpose(order))


@kernel("Transpose.vjp[data]")
def transpose_cotangent_of_known_rank(site: KernelSite) -> View | None:
    """A view with the axes in their old order."""
    ct = site.inputs.get("ct")
    if not isinstance(ct, TensorType) or ct.shape is None:
        return None
    rank, perm = len(ct.shape), site.attributes["perm"]
    order = tuple(range(rank))[::-1] if perm is None else tuple(i % rank for i in perm)
    back = tuple(order.index(axis) for axis in range(rank))
    return View(lambda ct, *rest: ct.transpose(back))


@kernel("Split")
def split_at_known_places(site: KernelSite) -> View | None:
    """Views of parts whose sizes are those of the outputs."""
    data, types = site.inputs["input"], site.outputs
    if not all(isinstance(t, TensorType) and t.is_static for t in (data, *types)):
        return None
    axis = site.attributes["axis"] % len(data.shape)
    ends = [0, *accumulate(t.shape[axis] for t in types)]  # type: ignore[union-attr, index]
    parts = [(slice(None),) * axis + (slice(a, b),) for a, b in pairwise(ends)]

    def split(data: Array, *rest: Array) -> tuple[Array, ...]:
        return tuple([data[part] for part in parts])

    return View(split)


KERNELS = (
    *map(_reshaping, ("Reshape", "Flatten", "Squeeze", "Unsqueeze")),
    *map(_reshaping, ("Reshape.vjp[data]", "Flatten.vjp[input]", "Squeeze.vjp[data]", "Unsqueeze.vjp[data]")),
    transpose_of_known_rank, transpose_cotangent_of_known_rank, split_at_known_places,
)  # fmt: skip
