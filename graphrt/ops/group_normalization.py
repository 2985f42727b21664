"""GroupNormalization and its special case of one channel per group, InstanceNormalization."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import quiet
from graphrt.ops._standardize import standardize, standardize_tangent, stash_dtype
from graphrt.ops._windows import wide
from graphrt.types import TensorType


def _rows(x: Array, groups: int) -> Array:
    """x [N, C, *S] -> [N, groups, elements of a group]."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups * math.prod(x.shape[2:]))


def _check(x: Any, groups: int) -> None:
    if len(x.shape) < 2:
        raise ValueError(f"x of rank {len(x.shape)}: normalization takes [batch, channels, *spatial]")
    if groups < 1 or (isinstance(x.shape[1], int) and x.shape[1] % groups):
        raise ValueError(f"{groups} groups do not divide {x.shape[1]} channels")


def _channel(p: Array, x: Array) -> Array:
    """A parameter [C], or [groups] repeated for each channel, in a shape that broadcasts against x."""
    c, n = x.shape[1], p.shape[0]
    if p.ndim != 1 or (c % n if n else c):
        raise ValueError(f"a parameter of shape {p.shape} does not fit {c} channels")
    if n != c:
        p = np.broadcast_to(p[:, None], (n, c // n)).reshape(c)
    return p.reshape(c, *(1,) * (x.ndim - 2))


def _sum_like(ct: Array, p: Array) -> Array:
    total = np.sum(ct, axis=(0, *range(2, ct.ndim)))
    total = total if p.shape == total.shape else np.sum(total.reshape(p.shape[0], -1), axis=1)
    return total.astype(p.dtype, copy=False)


def _value(x: Array, scale: Array, b: Array, groups: int, epsilon: float, stash_type: int) -> Array:
    _check(x, groups)
    rows = wide(_rows(x, groups).astype(stash_dtype(x.dtype, stash_type), copy=False))
    xhat = standardize(rows, (2,), epsilon).xhat.reshape(x.shape).astype(x.dtype, copy=False)
    return xhat * _channel(scale, x) + _channel(b, x)


def _vjp(ct: Array, x: Array, scale: Array, groups: int, epsilon: float, stash_type: int) -> tuple[Array, Array]:
    rows = wide(_rows(x, groups).astype(stash_dtype(x.dtype, stash_type), copy=False))
    xhat, _, _, inv = standardize(rows, (2,), epsilon)
    v = _rows(wide(ct) * _channel(scale, x), groups)
    x_ct = standardize_tangent(v, xhat, inv, (2,)).reshape(x.shape)
    return x_ct.astype(x.dtype, copy=False), _sum_like(wide(ct) * xhat.reshape(x.shape), scale)


def _jvp(
    x_dot: Array | None, scale_dot: Array | None, x: Array, scale: Array, groups: int, epsilon: float, stash_type: int
) -> Array:
    rows = wide(_rows(x, groups).astype(stash_dtype(x.dtype, stash_type), copy=False))
    xhat, _, _, inv = standardize(rows, (2,), epsilon)
    y_dot = np.zeros(x.shape, xhat.dtype)
    if x_dot is not None:
        y_dot = y_dot + standardize_tangent(_rows(wide(x_dot), groups), xhat, inv, (2,)).reshape(x.shape) * _channel(
            scale, x
        )
    if scale_dot is not None:
        y_dot = y_dot + xhat.reshape(x.shape) * _channel(scale_dot, x)
    return y_dot.astype(x.dtype, copy=False)


def _bias_jvp(b_dot: Array, y_like: Array) -> Array:
    return np.broadcast_to(_channel(b_dot, y_like), y_like.shape)


def _type(x: TensorType, scale: TensorType, groups: int | None) -> TensorType:
    if x.shape is not None and groups is not None:
        _check(x, groups)
    return x


@op("GroupNormalization", version=21)
def group_normalization(
    x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5, num_groups: int, stash_type: int = 1
) -> Array:
    """Normalizes each example's channels group by group, then scales and shifts each channel.

    x: float [N, C, *S], scale, bias: float [C] -> y: float like x. Mean and variance are taken over the C/num_groups
    channels of a group and all positions, in ``stash_type`` (or x's own dtype where that is wider).
    Derivatives as for `LayerNormalization`. Source: ONNX operator spec; Wu and He 2018.
    """
    with quiet():
        return _value(x, scale, bias, num_groups, epsilon, stash_type)


@group_normalization.vjp("x", "scale")
def _(ct: Array, x: Array, scale: Array, epsilon: float, num_groups: int, stash_type: int) -> Any:
    with quiet():
        return _vjp(ct, x, scale, num_groups, epsilon, stash_type)


@group_normalization.vjp("bias")
def _(ct: Array, bias_like: Array) -> Array:
    with quiet():
        return _sum_like(wide(ct), bias_like)


@group_normalization.jvp("x", "scale")
def _(
    x_dot: Array | None, scale_dot: Array | None, x: Array, scale: Array, epsilon: float, num_groups: int,
    stash_type: int,
) -> Any:  # fmt: skip
    with quiet():
        return _jvp(x_dot, scale_dot, x, scale, num_groups, epsilon, stash_type)


@group_normalization.jvp("bias")
def _(bias_dot: Array, y_like: Array) -> Array:
    with quiet():
        return _bias_jvp(bias_dot, y_like)


group_normalization.infer(lambda x, scale, num_groups: _type(x, scale, num_groups))


@group_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for groups, shape in ((2, (2, 4, 3, 2)), (1, (2, 3, 4)), (3, (1, 3, 2, 2, 2)), (2, (3, 6)), (2, (0, 4, 3))):
        c = shape[1]
        args = rng.normal(size=shape), rng.normal(size=c), rng.normal(size=c)
        yield args, {"num_groups": groups, "epsilon": 1e-2, "stash_type": 1 if groups > 1 else 11}


@op("GroupNormalization", version=18)
def group_normalization_18(x: Array, scale: Array, bias: Array, *, epsilon: float = 1e-5, num_groups: int) -> Array:
    """`GroupNormalization` of opsets 18 to 20: scale and bias are float [num_groups]. Source: ONNX operator spec."""
    with quiet():
        return _value(x, scale, bias, num_groups, epsilon, 1)


@group_normalization_18.vjp("x", "scale")
def _(ct: Array, x: Array, scale: Array, epsilon: float, num_groups: int) -> Any:
    with quiet():
        return _vjp(ct, x, scale, num_groups, epsilon, 1)


@group_normalization_18.vjp("bias")
def _(ct: Array, bias_like: Array) -> Array:
    with quiet():
        return _sum_like(wide(ct), bias_like)


@group_normalization_18.jvp("x", "scale")
def _(x_dot: Array | None, scale_dot: Array | None, x: Array, scale: Array, epsilon: float, num_groups: int) -> Any:
    with quiet():
        return _jvp(x_dot, scale_dot, x, scale, num_groups, epsilon, 1)


@group_normalization_18.jvp("bias")
def _(bias_dot: Array, y_like: Array) -> Array:
    with quiet():
        return _bias_jvp(bias_dot, y_like)


group_normalization_18.infer(lambda x, scale, num_groups: _type(x, scale, num_groups))


@group_normalization_18.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 4, 3, 2)), rng.normal(size=2), rng.normal(size=2)), {"num_groups": 2}
    yield (rng.normal(size=(2, 6, 3)), rng.normal(size=3), rng.normal(size=3)), {"num_groups": 3, "epsilon": 0.1}


@op("InstanceNormalization", version=1, outputs=("output",))
def instance_normalization(input: Array, scale: Array, b: Array, *, epsilon: float = 1e-5) -> Array:
    """Normalizes every channel of every example over its positions, then scales and shifts each channel.

    input: float [N, C, *S], scale, b: float [C] -> output: float like input. 16-bit floats are computed in float32.
    Derivatives as for `LayerNormalization`. Source: ONNX operator spec; Ulyanov et al. 2016.
    """
    with quiet():
        _check(input, 1)
        return _value(input, scale, b, max(input.shape[1], 1), epsilon, 1)


@instance_normalization.vjp("input", "scale")
def _(ct: Array, input: Array, scale: Array, epsilon: float) -> Any:
    with quiet():
        return _vjp(ct, input, scale, max(input.shape[1], 1), epsilon, 1)


@instance_normalization.vjp("b")
def _(ct: Array, b_like: Array) -> Array:
    with quiet():
        return _sum_like(wide(ct), b_like)


@instance_normalization.jvp("input", "scale")
def _(input_dot: Array | None, scale_dot: Array | None, input: Array, scale: Array, epsilon: float) -> Any:
    with quiet():
        return _jvp(input_dot, scale_dot, input, scale, max(input.shape[1], 1), epsilon, 1)


@instance_normalization.jvp("b")
def _(b_dot: Array, output_like: Array) -> Array:
    with quiet():
        return _bias_jvp(b_dot, output_like)


instance_normalization.infer(lambda input, scale: _type(input, scale, None))


@instance_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 4, 2)), rng.normal(size=3), rng.normal(size=3)), {}
    yield (rng.normal(size=(2, 3, 5)), rng.normal(size=3), rng.normal(size=3)), {"epsilon": 0.1}
    yield (rng.normal(size=(0, 3, 5)), rng.normal(size=3), rng.normal(size=3)), {}


OPS = (group_normalization, group_normalization_18, instance_normalization)
