"""Running sums and products along an axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import accumulator, axis_index, narrow
from graphrt.types import TensorType

# ---- running sum -------------------------------------------------------------------------------------


@op("CumSum", version=11, linear="x", nondiff="axis")
def cum_sum(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """Running sum along an axis.

    x: number [...], axis: int [] or [1] -> y: like x; y_j is the sum of x_i for i <= j (i < j with exclusive;
    from the other end with reverse). 16-bit floats are added up in float32. Derivative: the running sum of the
    cotangent from the other end. Source: ONNX operator specification.
    """
    return _cum_sum(x, axis, exclusive, reverse)


@cum_sum.vjp("x")
def _(ct: Array, axis: Array, exclusive: int, reverse: int) -> Array:
    return _cum_sum(ct, axis, exclusive, not reverse)


def _cum_sum(x: Array, axis: Array, exclusive: int, reverse: Any) -> Array:
    at = _axis(axis, x.ndim)
    z = np.flip(x, at) if reverse else x
    with np.errstate(over="ignore", invalid="ignore"):
        y = narrow(np.cumsum(z, axis=at, dtype=accumulator(x.dtype)), x.dtype)
    if exclusive:
        y = _shift(y, at, 0)
    return np.flip(y, at) if reverse else y


# ---- running product ---------------------------------------------------------------------------------


@op("CumProd", version=26, nondiff="axis")
def cum_prod(x: Array, axis: Array, *, exclusive: int = 0, reverse: int = 0) -> Array:
    """Running product along an axis.

    x: number [...], axis: int [] or [1] -> y: like x; y_j is the product of x_i for i <= j (i < j with exclusive;
    from the other end with reverse). Derivative: dy_j/dx_i is the product of the other factors of y_j, found by
    linear recurrences without a division, and so exact where elements are 0. Source: ONNX operator specification.
    """
    at = _axis(axis, x.ndim)
    z = np.flip(x, at) if reverse else x
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        y = narrow(np.cumprod(z, axis=at, dtype=accumulator(x.dtype)), x.dtype)
    if exclusive:
        y = _shift(y, at, 1)
    return np.flip(y, at) if reverse else y


@cum_prod.vjp("x")
def _(ct: Array, x: Array, axis: Array, exclusive: int, reverse: int) -> Array:
    # dL/dx_i = before_i * s_i: before_i is the product of x_k for k < i, and s_i = ct_i + x_{i+1} s_{i+1}.
    z, c = _last(x, axis, reverse), _last(ct, axis, reverse)
    if exclusive:
        c = np.concatenate([c[..., 1:], np.zeros_like(c[..., :1])], axis=-1)
    ones = np.ones_like(z[..., :1])
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        before = np.cumprod(np.concatenate([ones, z[..., :-1]], axis=-1), axis=-1)
        factors = np.concatenate([z[..., 1:], ones], axis=-1)
        after = np.flip(linear_recurrence(np.flip(factors, -1), np.flip(c, -1)), -1)
        return _back(before * after, axis, reverse)


@cum_prod.jvp("x")
def _(x_dot: Array, x: Array, axis: Array, exclusive: int, reverse: int) -> Array:
    # y_dot_j = x_j y_dot_{j-1} + x_dot_j y_{j-1}
    z, d = _last(x, axis, reverse), _last(x_dot, axis, reverse)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        before = np.cumprod(np.concatenate([np.ones_like(z[..., :1]), z[..., :-1]], axis=-1), axis=-1)
        y_dot = linear_recurrence(z, d * before)
    if exclusive:
        y_dot = np.concatenate([np.zeros_like(y_dot[..., :1]), y_dot[..., :-1]], axis=-1)
    return _back(y_dot, axis, reverse)


def linear_recurrence(a: Array, b: Array) -> Array:
    """h_j = b_j + a_j h_{j-1} along the last axis, with h before the first 0: [..., n], [..., n] -> [..., n].

    Each doubling step composes the affine map that ends at j with the one that ends ``step`` before it.
    """
    step, n = 1, a.shape[-1]
    while step < n:
        b = np.concatenate([b[..., :step], b[..., step:] + a[..., step:] * b[..., :-step]], axis=-1)
        a = np.concatenate([np.zeros_like(a[..., :step]), a[..., step:] * a[..., :-step]], axis=-1)
        step *= 2
    return b


# ---- shared ------------------------------------------------------------------------------------------


def _axis(axis: Array, ndim: int) -> int:
    if np.size(axis) != 1:
        raise ValueError(f"axis is one number, not {np.size(axis)}")
    return axis_index(int(np.reshape(axis, ())), ndim)


def _shift(y: Array, axis: int, first: int) -> Array:
    """Moves every element one place on; the first place takes ``first``."""
    n = y.shape[axis]
    head, rest = (slice(None),) * axis + (slice(0, min(n, 1)),), (slice(None),) * axis + (slice(0, max(n - 1, 0)),)
    return np.concatenate([np.zeros_like(y[head]) + np.asarray(first, y.dtype), y[rest]], axis=axis)


def _last(x: Array, axis: Array, reverse: int) -> Array:
    moved = np.moveaxis(x, _axis(axis, x.ndim), -1)
    return np.flip(moved, -1) if reverse else moved


def _back(x: Array, axis: Array, reverse: int) -> Array:
    return np.moveaxis(np.flip(x, -1) if reverse else x, -1, _axis(axis, x.ndim))


@cum_prod.infer
@cum_sum.infer
def _(x: TensorType, axis_value: Array | None) -> TensorType:
    if x.shape is not None and axis_value is not None:
        _axis(axis_value, len(x.shape))
    return x


@cum_prod.examples
@cum_sum.examples
def _(rng: np.random.Generator) -> Any:
    for exclusive in (0, 1):
        for reverse in (0, 1):
            attributes = {"exclusive": exclusive, "reverse": reverse}
            yield Example((rng.normal(size=(3, 5)), np.array(1)), attributes)
            yield Example((rng.normal(size=(3, 2, 2)), np.array([-3])), attributes)
            yield Example((np.array([2.0, 0.0, 3.0, 0.0, 5.0]), np.array(0)), attributes)
            yield Example((np.zeros((2, 0)), np.array(1)), attributes)
    yield Example((rng.normal(size=(1,)), np.array(0, np.int32)), {})


OPS = (cum_sum, cum_prod)
