"""Pooling over all spatial positions, and the inverse of max pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._math import quiet
from graphrt.ops._windows import wide, window
from graphrt.ops.pooling import lp_weight
from graphrt.types import TensorType

Ints: TypeAlias = tuple[int, ...]


def _spatial(x: Array) -> Ints:
    if x.ndim < 2:
        raise ValueError(f"x of rank {x.ndim}: global pooling takes [batch, channels, *spatial]")
    return tuple(range(2, x.ndim))


def _global_type(x: TensorType) -> TensorType:
    return x if x.shape is None else TensorType(x.dtype, (*x.shape[:2], *(1,) * (len(x.shape) - 2)))


@op("GlobalAveragePool", version=1, linear="x")
def global_average_pool(x: Array) -> Array:
    """Mean over all spatial positions.

    x: float [N, C, *S] -> y: float [N, C, 1, ...]. dy/dx = 1 / number of positions. Source: ONNX operator spec.
    """
    with quiet():
        axes = _spatial(x)
        count = max(math.prod(x.shape[2:]), 1)
        return (np.sum(wide(x), axis=axes, keepdims=True) / count).astype(x.dtype, copy=False)


@global_average_pool.vjp("x")
def _(ct: Array, x_like: Array) -> Array:
    with quiet():
        return np.broadcast_to(ct / max(math.prod(x_like.shape[2:]), 1), x_like.shape)


global_average_pool.infer(lambda x: _global_type(x))


@global_average_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for shape in ((2, 3, 4, 5), (2, 3, 4), (1, 2, 3, 2, 2), (2, 3), (0, 3, 2, 2)):
        yield (rng.normal(size=shape),), {}


@op("GlobalMaxPool", version=1)
def global_max_pool(x: Array) -> Array:
    """Maximum over all spatial positions.

    x: float [N, C, *S] -> y: float [N, C, 1, ...]. dy/dx is 1 at the maximum; of several, at the first in
    row-major order. Source: ONNX operator spec.
    """
    return np.max(x, axis=_spatial(x), keepdims=True)


def _first_maximum(x: Array) -> Array:
    """bool, shape of x: True at the first maximum of each channel."""
    flat = x.reshape(*x.shape[:2], math.prod(x.shape[2:]))
    at = np.argmax(flat, axis=2)[..., None]
    return (np.arange(flat.shape[2]) == at).reshape(x.shape)


@global_max_pool.vjp("x")
def _(ct: Array, x: Array) -> Array:
    return np.where(_first_maximum(x), ct, ct.dtype.type(0))


@global_max_pool.jvp("x")
def _(x_dot: Array, x: Array) -> Array:
    return np.sum(np.where(_first_maximum(x), x_dot, x_dot.dtype.type(0)), axis=_spatial(x), keepdims=True)


global_max_pool.infer(lambda x: _global_type(x))


@global_max_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for shape in ((2, 3, 4, 5), (2, 3, 4), (1, 2, 3, 2, 2), (2, 3), (0, 3, 2, 2)):
        yield (rng.permutation(math.prod(shape)).reshape(shape) / 7,), {}
    yield Example((np.ones((1, 2, 3, 3)),), {}, smooth=False)


@op("GlobalLpPool", version=2)
def global_lp_pool(x: Array, *, p: int = 2) -> Array:
    """Lp norm over all spatial positions: (sum |x|^p)^(1/p).

    x: float [N, C, *S] -> y: float [N, C, 1, ...]. The largest magnitude is taken out before the power.
    dy/dx = sign(x) (|x|/y)^(p-1); 0 where the norm is 0. Source: ONNX operator spec.
    """
    with quiet():
        axes, size = _spatial(x), np.abs(wide(x))
        top = np.max(size, axis=axes, keepdims=True, initial=0)
        scaled = size / np.where(top > 0, top, top.dtype.type(1))
        total = np.sum(scaled**p, axis=axes, keepdims=True)
        return (top * np.where(top > 0, total, total.dtype.type(1)) ** (1 / p)).astype(x.dtype, copy=False)


@global_lp_pool.vjp("x")
def _(ct: Array, x: Array, y: Array, p: int) -> Array:
    with quiet():
        return ct * lp_weight(x, y, p)


@global_lp_pool.jvp("x")
def _(x_dot: Array, x: Array, y: Array, p: int) -> Array:
    with quiet():
        return np.sum(x_dot * lp_weight(x, y, p), axis=_spatial(x), keepdims=True)


global_lp_pool.infer(lambda x: _global_type(x))


@global_lp_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for p, shape in ((2, (2, 3, 4, 5)), (1, (2, 3, 4)), (3, (1, 2, 3, 2, 2)), (2, (0, 3, 2, 2))):
        yield (rng.uniform(0.3, 2, shape) * rng.choice([-1.0, 1.0], shape),), {"p": p}


# ---- MaxUnpool -------------------------------------------------------------------------------------------


def _unpooled_shape(x: tuple[Any, ...], kernel: Ints, pads: Ints | None, strides: Ints | None) -> tuple[Any, ...]:
    axes = window((10**9,) * (len(x) - 2), kernel, strides, None, pads)
    spatial = zip(x[2:], axes.kernel, axes.strides, axes.begin, axes.end, strict=True)
    return (*x[:2], *((n - 1) * s + k - b - e if isinstance(n, int) else None for n, k, s, b, e in spatial))


def _destinations(
    x: Array, i: Array, output_shape: Array | None, kernel: Ints, pads: Ints | None, strides: Ints | None
) -> tuple[Ints, Array, Array]:
    """The output's shape, the flat position there of each element of x, and which element stays where several go."""
    pooled_from = _unpooled_shape(x.shape, kernel, pads, strides)
    shape = pooled_from if output_shape is None else tuple(int(n) for n in output_shape)
    if len(shape) != x.ndim or i.shape != x.shape:
        raise ValueError(f"x {x.shape}, indices {i.shape} and output shape {shape} do not fit together")
    at = i.reshape(-1)
    if shape != pooled_from:
        at = np.ravel_multi_index(np.unravel_index(at, pooled_from), shape)
    last = np.zeros(math.prod(shape), np.int64)
    last[at] = np.arange(at.size)
    return shape, at, last[at] == np.arange(at.size)


@op("MaxUnpool", version=9, linear="x", nondiff=("i", "output_shape"))
def max_unpool(
    x: Array, i: Array, output_shape: Array = None, *, kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Puts pooled values back where `MaxPool` found them, zeros elsewhere.

    x: float [N, C, *S], i: int64 like x (positions in the flattened output that the window attributes imply),
    output_shape: int64 [rank], a larger shape at whose corner that output then lies -> y: float.
    Of several elements that go to one position the last stays, and only it has a derivative.
    Source: ONNX operator spec.
    """
    shape, at, stays = _destinations(x, i, output_shape, kernel_shape, pads, strides)
    y = np.zeros(math.prod(shape), x.dtype, like=x)
    y[at[stays]] = x.reshape(-1)[stays]
    return y.reshape(shape)


@max_unpool.vjp("x")
def _(
    ct: Array, x_like: Array, i: Array, output_shape: Array | None, kernel_shape: Ints, pads: Ints | None,
    strides: Ints | None,
) -> Array:  # fmt: skip
    _, at, stays = _destinations(x_like, i, output_shape, kernel_shape, pads, strides)
    return np.where(stays, ct.reshape(-1)[at], ct.dtype.type(0)).reshape(x_like.shape)


@max_unpool.infer
def _(
    x: TensorType, output_shape: TensorType | None, output_shape_value: Array | None, kernel_shape: Ints,
    pads: Ints | None, strides: Ints | None,
) -> Any:  # fmt: skip
    if output_shape_value is not None:
        return TensorType(x.dtype, tuple(int(n) for n in output_shape_value))
    if x.shape is None:
        return TensorType(x.dtype)
    if output_shape is not None:
        return TensorType(x.dtype, (None,) * len(x.shape))
    return TensorType(x.dtype, _unpooled_shape(x.shape, kernel_shape, pads, strides))


@max_unpool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, i = rng.normal(size=(1, 1, 2, 2)), np.array([[[[5, 7], [13, 15]]]])
    yield (x, i), {"kernel_shape": (2, 2), "strides": (2, 2)}
    yield (x, i, np.array([1, 1, 5, 6])), {"kernel_shape": (2, 2), "strides": (2, 2)}
    yield (x, np.array([[[[4, 4], [7, 8]]]])), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}
    yield (np.zeros((0, 2, 2)), np.zeros((0, 2, 2), np.int64)), {"kernel_shape": (2,), "strides": (2,)}


OPS = (global_average_pool, global_max_pool, global_lp_pool, max_unpool)
