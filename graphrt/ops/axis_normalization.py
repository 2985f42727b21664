"""Normalization by a norm, or by mean and standard deviation, over chosen axes."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import axis_index, narrow, normalize_axes, widen
from graphrt.ops.reduction_norms import divide_or_zero, l2_norm
from graphrt.types import TensorType

# ---- by a norm ---------------------------------------------------------------------------------------


@op("LpNormalization", version=1)
def lp_normalization(input: Array, *, axis: int = -1, p: int = 2) -> Array:
    """Vectors along an axis divided by their L1 or L2 norm.

    input: float [...] -> y: like input. Value: x / norm, 0 where the norm is 0. Derivative: (v - y <s, v>) / norm
    with s = dnorm/dx, which is y for L2 and sign(x) for L1; 0 where the norm is 0.
    Source: ONNX operator specification.
    """
    x = widen(input)
    return narrow(divide_or_zero(x, _norm(x, axis, p)), input.dtype)


@lp_normalization.vjp("input")
def _(ct: Array, input: Array, axis: int, p: int) -> Array:
    x, c = widen(input), widen(ct)
    norm = _norm(x, axis, p)
    y = divide_or_zero(x, norm)
    slope = y if p == 2 else np.sign(x)
    return narrow(divide_or_zero(c - slope * np.sum(c * y, axis=axis, keepdims=True), norm), input.dtype)


@lp_normalization.jvp("input")
def _(input_dot: Array, input: Array, axis: int, p: int) -> Array:
    x, dot = widen(input), widen(input_dot)
    norm = _norm(x, axis, p)
    y = divide_or_zero(x, norm)
    slope = y if p == 2 else np.sign(x)
    return narrow(divide_or_zero(dot - y * np.sum(slope * dot, axis=axis, keepdims=True), norm), input.dtype)


def _norm(x: Array, axis: int, p: int) -> Array:
    if p not in (1, 2):
        raise ValueError(f"p is 1 or 2, not {p}")
    at = axis_index(axis, x.ndim)
    with np.errstate(over="ignore"):
        return l2_norm(x, (at,)) if p == 2 else np.sum(np.abs(x), axis=at, keepdims=True)


@lp_normalization.infer
def _(input: TensorType, axis: int) -> TensorType:
    if input.shape is not None:
        axis_index(axis, len(input.shape))
    return input


@lp_normalization.examples
def _(rng: np.random.Generator) -> Any:
    x = rng.uniform(0.5, 2, size=(2, 3, 4)) * rng.choice([-1.0, 1.0], size=(2, 3, 4))
    for p in (1, 2):
        yield Example((x,), {"p": p})
        yield Example((x,), {"p": p, "axis": 1})
        yield Example((x.T[::-1],), {"p": p, "axis": -3})
        yield Example((np.zeros((2, 0)),), {"p": p})
        yield Example((np.array([[0.0, 0.0], [3.0, 4.0]]),), {"p": p}, smooth=False)


# ---- by mean and standard deviation ------------------------------------------------------------------

_TINY = 1e-9


@op("MeanVarianceNormalization", version=9)
def mean_variance_normalization(x: Array, *, axes: tuple[int, ...] = (0, 2, 3)) -> Array:
    """Values brought to mean 0 and standard deviation 1 over axes.

    x: float [...] -> y: like x. Value: d / (s + 1e-9) with d = x - mean(x), s = sqrt(mean(d²)), both over the axes.
    Derivative: (v - mean(v) - z mean(z v)) / (s + 1e-9) with z = d / s, whose last term is 0 where s is 0.
    The rule is its own transpose. Source: ONNX operator specification.
    """
    if not x.size:
        return x
    d, s, _ = _standardized(x, axes)
    return narrow(d / (s + _TINY), x.dtype)


@mean_variance_normalization.vjp("x")
def _(ct: Array, x: Array, axes: tuple[int, ...]) -> Array:
    return _mvn_derivative(ct, x, axes)


@mean_variance_normalization.jvp("x")
def _(x_dot: Array, x: Array, axes: tuple[int, ...]) -> Array:
    return _mvn_derivative(x_dot, x, axes)


def _mvn_derivative(v: Array, x: Array, axes: tuple[int, ...]) -> Array:
    if not x.size:
        return v
    d, s, over = _standardized(x, axes)
    z, wide = divide_or_zero(d, s), widen(v)
    centered = wide - np.mean(wide, axis=over, keepdims=True)
    # dy = dd / (s + tiny) - d ds / (s + tiny)², and ds = mean(z v)
    bend = d / (s + _TINY) * np.mean(z * wide, axis=over, keepdims=True)
    return narrow((centered - bend) / (s + _TINY), x.dtype)


def _standardized(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array, tuple[int, ...]]:
    over, wide = normalize_axes(axes, x.ndim), widen(x)
    d = wide - np.mean(wide, axis=over, keepdims=True)
    return d, l2_norm(d, over) / float(np.sqrt(np.prod([x.shape[a] for a in over]))), over


@mean_variance_normalization.infer
def _(x: TensorType, axes: tuple[int, ...]) -> TensorType:
    if x.shape is not None:
        normalize_axes(axes, len(x.shape))
    return x


@mean_variance_normalization.examples
def _(rng: np.random.Generator) -> Any:
    x = rng.normal(size=(2, 3, 2, 2))
    yield Example((x,), {})
    yield Example((x,), {"axes": (-1, 1)})
    yield Example((x[0],), {"axes": (0, 1)})
    yield Example((np.zeros((0, 3, 2, 2)),), {})
    yield Example((np.ones((2, 1, 2, 2)),), {}, smooth=False)


OPS = (lp_normalization, mean_variance_normalization)
