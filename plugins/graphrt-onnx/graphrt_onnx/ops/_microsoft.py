"""What the families of com.microsoft share: the domain, activations by name, a few shapes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from graphrt.ops.activations import gelu, sigmoid, softplus, softsign, tanh
from graphrt.ops.arrange import transpose
from graphrt.ops.identity import identity
from graphrt.ops.rectifiers import celu, elu, hard_sigmoid, leaky_relu, relu, selu, thresholded_relu
from graphrt.ops.selection import clip
from graphrt.plugin import Array, Dim, Op, TensorType, op
from graphrt_onnx.ops._compose import call

DOMAIN = "com.microsoft"

microsoft = partial(op, domain=DOMAIN)
"""The decorator of every op of the domain."""

_ACTIVATIONS: dict[str, tuple[Op, tuple[str, ...]]] = {
    "": (identity, ()), "Relu": (relu, ()), "Tanh": (tanh, ()), "Sigmoid": (sigmoid, ()), "Softplus": (softplus, ()),
    "Softsign": (softsign, ()), "Gelu": (gelu, ()), "LeakyRelu": (leaky_relu, ("alpha",)), "Elu": (elu, ("alpha",)),
    "Celu": (celu, ("alpha",)), "ThresholdedRelu": (thresholded_relu, ("alpha",)), "Selu": (selu, ("alpha", "gamma")),
    "HardSigmoid": (hard_sigmoid, ("alpha", "beta")),
}  # fmt: skip


def activate(x: Any, name: str | None, **parameters: float | None) -> Any:
    """An activation by its name; parameters that are None take the activation's own defaults.

    Raises:
        ValueError: no activation has this name.
    """
    if name == "Clip":
        low, high = (parameters.get(k) for k in ("alpha", "beta"))
        bounds = [None if b is None else np.asarray(b, x.dtype) for b in (low, high)]
        return call(clip, x, *bounds)
    if (name or "") not in _ACTIVATIONS:
        raise ValueError(f"activation is one of Clip, {', '.join(filter(None, _ACTIVATIONS))}, not {name!r}")
    found, takes = _ACTIVATIONS[name or ""]
    given: dict[str, Any] = {k: v for k in takes if (v := parameters.get(k)) is not None}
    return call(found, x, **given) if name else x


def channels_first(x: Any) -> Any:
    """[N, *S, C] -> [N, C, *S]."""
    return call(transpose, x, perm=(0, x.ndim - 1, *range(1, x.ndim - 1)))


def channels_last(x: Any) -> Any:
    """[N, C, *S] -> [N, *S, C]."""
    return call(transpose, x, perm=(0, *range(2, x.ndim), 1))


def ints(*values: int) -> Array:
    """An int64 vector."""
    return np.array(values, np.int64)


def shape_like(x: TensorType, last: Dim) -> TensorType:
    """The type of x with another last dimension."""
    return TensorType(x.dtype, None if x.shape is None else (*x.shape[:-1], last))


def permuted(shape: Sequence[Dim] | None, perm: Sequence[int]) -> tuple[Dim, ...] | None:
    """A shape with its dimensions in another order."""
    return None if shape is None else tuple(shape[i] for i in perm)
