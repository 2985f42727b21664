"""Normalization of each example by itself: Layer-, RMS-, Group-, InstanceNormalization, and LRN."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from graphrt.op import Array, op, unbroadcast
from graphrt.ops._math import quiet
from graphrt.ops._standardize import mean_over, standardize, standardize_tangent, stash_dtype, stash_name
from graphrt.ops._windows import Window, wide, zeros_for
from graphrt.types import TensorType, numpy_dtype

Ints: TypeAlias = tuple[int, ...]


def _trailing_axes(rank: int, axis: int) -> Ints:
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} is out of range for x of rank {rank}")
    return tuple(range(axis % rank, rank))


# ---- LayerNormalization ------------------------------------------------------------------------------------


@op("LayerNormalization", version=17, outputs=("y", "mean", "inv_std_dev"))
def layer_normalization(
    x: Array, scale: Array, b: Array = None, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Array, Array, Array]:
    """Normalizes over the axes from ``axis`` on to zero mean and unit variance, then scales and shifts.

    x: float [*A, *D], scale, b: float, broadcast to x -> y: float like x; mean, inv_std_dev: float [*A, 1, ...].
    y = (x - mean) inv_std_dev scale + b with inv_std_dev = 1 / sqrt(var + epsilon). Statistics are returned in
    ``stash_type`` (1 float32, 11 float64, 16 bfloat16); computed in it too, or in x's own dtype where that is wider.
    dy/dx: inv * (v - <v> - xhat <v xhat>) with v = ct scale. Source: ONNX operator spec; Ba et al. 2016.
    """
    with quiet():
        axes, stash = _trailing_axes(x.ndim, axis), numpy_dtype(stash_name(stash_type))
        stats = standardize(wide(x.astype(stash_dtype(x.dtype, stash_type), copy=False)), axes, epsilon)
        y = stats.xhat.astype(x.dtype, copy=False) * scale
        y = y if b is None else y + b
        return y, stats.mean.astype(stash, copy=False), stats.inv.astype(stash, copy=False)


@layer_normalization.vjp("x", "scale")
def _(
    ct: Array | None, ct_mean: Array | None, ct_inv_std_dev: Array | None, x: Array, scale: Array, axis: int,
    epsilon: float, stash_type: int,
) -> Any:  # fmt: skip
    with quiet():
        axes = _trailing_axes(x.ndim, axis)
        xhat, _, _, inv = standardize(wide(x.astype(stash_dtype(x.dtype, stash_type), copy=False)), axes, epsilon)
        ct = np.zeros(x.shape, x.dtype) if ct is None else ct
        x_ct = standardize_tangent(wide(ct * scale), xhat, inv, axes)
        count = max(math.prod(x.shape[a] for a in axes), 1)
        if ct_mean is not None:
            x_ct = x_ct + ct_mean / count
        if ct_inv_std_dev is not None:
            x_ct = x_ct - ct_inv_std_dev * inv * inv * xhat / count
        scale_ct = unbroadcast(wide(ct) * xhat, scale)
        return x_ct.astype(x.dtype, copy=False), scale_ct.astype(scale.dtype, copy=False)


@layer_normalization.vjp("b")
def _(ct: Array | None, b_like: Array) -> Any:
    with quiet():
        return None if ct is None else unbroadcast(wide(ct), b_like).astype(ct.dtype, copy=False)


@layer_normalization.jvp("x", "scale")
def _(
    x_dot: Array | None, scale_dot: Array | None, x: Array, scale: Array, axis: int, epsilon: float, stash_type: int,
) -> Any:  # fmt: skip
    with quiet():
        axes, stash = _trailing_axes(x.ndim, axis), numpy_dtype(stash_name(stash_type))
        xhat, _, _, inv = standardize(wide(x.astype(stash_dtype(x.dtype, stash_type), copy=False)), axes, epsilon)
        v = np.zeros(x.shape, xhat.dtype) if x_dot is None else x_dot.astype(xhat.dtype, copy=False)
        y_dot = standardize_tangent(v, xhat, inv, axes) * scale
        y_dot = y_dot if scale_dot is None else y_dot + xhat * scale_dot
        inv_dot = -inv * inv * mean_over(v * xhat, axes)
        return y_dot.astype(x.dtype, copy=False), mean_over(v, axes).astype(stash), inv_dot.astype(stash)


@layer_normalization.jvp("b")
def _(b_dot: Array, y_like: Array) -> Any:
    with quiet():
        return np.broadcast_to(b_dot, y_like.shape), None, None


@layer_normalization.infer
def _(x: TensorType, axis: int, stash_type: int, n_outputs: int) -> Any:
    dtype, shape = stash_name(stash_type), None
    if x.shape is not None:
        reduced = _trailing_axes(len(x.shape), axis)
        shape = tuple(1 if i in reduced else d for i, d in enumerate(x.shape))
    return (x, TensorType(dtype, shape), TensorType(dtype, shape))[: max(n_outputs, 1)]


@layer_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    double = {"stash_type": 11}  # statistics in float32 are too coarse for differences
    yield (draw(2, 3, 5), draw(5), draw(5)), double
    yield (draw(2, 3, 4), draw(3, 4)), {"axis": 1, "epsilon": 0.1, **double}
    yield (draw(2, 3, 4), draw(1, 4), draw(3, 1)), {"axis": -2, **double}
    yield (draw(3, 4), draw(3, 4), draw(4)), {"axis": 0, **double}
    yield (draw(0, 4), draw(4), draw(4)), double


# ---- RMSNormalization --------------------------------------------------------------------------------------


def _root_mean_square(x: Array, axes: Ints, epsilon: float, stash_type: int) -> tuple[Array, Array]:
    x = wide(x.astype(stash_dtype(x.dtype, stash_type), copy=False))
    inv = 1 / np.sqrt(mean_over(x * x, axes) + epsilon)
    return x * inv, inv


@op("RMSNormalization", version=23)
def rms_normalization(x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1) -> Array:
    """Divides by the root mean square over the axes from ``axis`` on, then scales.

    x: float [*A, *D], scale: float, broadcast to x -> y: of scale's dtype, like x.
    y = x / sqrt(mean(x^2) + epsilon) * scale, the first factor computed in ``stash_type`` (or x's own dtype where
    that is wider). dy/dx: inv * (v - xhat <v xhat>) with v = ct scale. Source: ONNX operator spec; Zhang 2019.
    """
    with quiet():
        xhat, _ = _root_mean_square(x, _trailing_axes(x.ndim, axis), epsilon, stash_type)
        return xhat.astype(x.dtype, copy=False).astype(scale.dtype, copy=False) * scale


@rms_normalization.vjp("x", "scale")
def _(ct: Array, x: Array, scale: Array, axis: int, epsilon: float, stash_type: int) -> Any:
    with quiet():
        axes = _trailing_axes(x.ndim, axis)
        xhat, inv = _root_mean_square(x, axes, epsilon, stash_type)
        v = wide(ct * scale)
        x_ct = inv * (v - xhat * mean_over(v * xhat, axes))
        scale_ct = unbroadcast(wide(ct) * xhat, scale)
        return x_ct.astype(x.dtype, copy=False), scale_ct.astype(scale.dtype, copy=False)


@rms_normalization.jvp("x", "scale")
def _(
    x_dot: Array | None, scale_dot: Array | None, x: Array, scale: Array, axis: int, epsilon: float, stash_type: int,
) -> Any:  # fmt: skip
    with quiet():
        axes = _trailing_axes(x.ndim, axis)
        xhat, inv = _root_mean_square(x, axes, epsilon, stash_type)
        y_dot = np.zeros(x.shape, xhat.dtype)
        if x_dot is not None:
            y_dot = y_dot + inv * (x_dot - xhat * mean_over(x_dot * xhat, axes)) * scale
        if scale_dot is not None:
            y_dot = y_dot + xhat * scale_dot
        return y_dot.astype(scale.dtype, copy=False)


@rms_normalization.infer
def _(x: TensorType, scale: TensorType, axis: int) -> Any:
    if x.shape is not None:
        _trailing_axes(len(x.shape), axis)
    return TensorType(scale.dtype, x.shape)


@rms_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 5)), rng.normal(size=5)), {}
    yield (rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 1))), {"axis": 1, "epsilon": 0.1}
    yield (rng.normal(size=(3, 4)), rng.normal(size=(3, 4))), {"axis": -2, "stash_type": 11}
    yield (rng.normal(size=(0, 4)), rng.normal(size=4)), {}


# ---- LRN ---------------------------------------------------------------------------------------------------


def _neighbors(x: Array, size: int) -> Window:
    if x.ndim < 2:
        raise ValueError(f"x of rank {x.ndim}: LRN takes [batch, channels, *spatial]")
    c, before = x.shape[1], (size - 1) // 2
    return Window((c,), (c,), (size,), (1,), (1,), (before,), (size - 1 - before,))


def _sum_neighbors(x: Array, size: int, adjoint: bool = False) -> Array:
    total = zeros_for(x.shape, x)
    for _, (at_out,), (at_in,) in _neighbors(x, size).taps():
        to, source = (at_in, at_out) if adjoint else (at_out, at_in)
        total[:, to] += x[:, source]
    return total


def _lrn_base(x: Array, size: int, alpha: float, bias: float) -> Array:
    return bias + alpha / size * _sum_neighbors(x * x, size)


@op("LRN", version=1)
def lrn(x: Array, *, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0, size: int) -> Array:
    """Local response normalization: divides by a power of the energy in ``size`` neighboring channels.

    x: float [N, C, *S] -> y: float like x. y = x q^-beta with q = bias + alpha/size * (sum of x^2 over channels
    c - floor((size-1)/2) to c + ceil((size-1)/2)).
    dy/dx: ct q^-beta - 2 alpha beta/size * x * (adjoint sum of ct x q^(-beta-1)).
    Source: ONNX operator spec; Krizhevsky et al. 2012.
    """
    with quiet():
        wide_x = wide(x)
        return (wide_x * _lrn_base(wide_x, size, alpha, bias) ** -beta).astype(x.dtype, copy=False)


@lrn.vjp("x")
def _(ct: Array, x: Array, alpha: float, beta: float, bias: float, size: int) -> Array:
    with quiet():
        dtype, ct, x = ct.dtype, wide(ct), wide(x)
        q = _lrn_base(x, size, alpha, bias)
        power = q**-beta
        spread = _sum_neighbors(ct * x * power / q, size, adjoint=True)
        return (ct * power - (2 * alpha * beta / size) * x * spread).astype(dtype, copy=False)


@lrn.jvp("x")
def _(x_dot: Array, x: Array, alpha: float, beta: float, bias: float, size: int) -> Array:
    with quiet():
        dtype, x_dot, x = x_dot.dtype, wide(x_dot), wide(x)
        q = _lrn_base(x, size, alpha, bias)
        power = q**-beta
        q_dot = (2 * alpha * beta / size) * _sum_neighbors(x * x_dot, size)
        return (x_dot * power - x * power / q * q_dot).astype(dtype, copy=False)


lrn.infer(lambda x: x)


@lrn.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 5, 3, 2)),), {"size": 3}
    yield (rng.normal(size=(2, 5, 3)),), {"size": 4, "alpha": 0.7, "beta": 0.4, "bias": 1.5}
    yield (rng.normal(size=(1, 2, 3)),), {"size": 7, "alpha": 0.7}
    yield (rng.normal(size=(0, 2, 3)),), {"size": 2}


OPS = (layer_normalization, rms_normalization, lrn)
