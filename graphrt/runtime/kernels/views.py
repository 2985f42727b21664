"""Ops that give an array another shape: the shape is known when the plan is made."""

from __future__ import annotations

from itertools import accumulate, pairwise

from graphrt.definitions import Kernel, KernelSite, View, kernel
from graphrt.op import Array
from graphrt.runtime.rearrangements import permutation
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


def _transposing(op_type: str, name: str) -> Kernel:
    """A view with the axes in their new order, or of a cotangent in their old one."""

    def make(site: KernelSite) -> View | None:
        x = site.inputs.get(name)
        if not isinstance(x, TensorType) or x.shape is None:
            return None
        order = permutation(site.attributes["perm"], len(x.shape), is_undone=name == "ct")
        return View(lambda x, *rest: x.transpose(order))

    return Kernel(f"transpose{'_cotangent' if name == 'ct' else ''}_of_known_rank", op_type, make)


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
    _transposing("Transpose", "data"), _transposing("Transpose.vjp[data]", "ct"), split_at_known_places,
)  # fmt: skip
