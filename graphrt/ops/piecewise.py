"""Activations in pieces that ONNX lacks: Step, GeneralizedRelu, PiecewiseLinear, LearnedPiecewiseLinear, Maxout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._axes import normalize_axis
from graphrt.ops._math import const, quiet
from graphrt.types import TensorType

# ---- Step and GeneralizedRelu --------------------------------------------------------------------------


@op("Step", domain="graphrt", elementwise=True, kinks=(0.0,))
def step(x: Array, *, value_at_zero: float = 0.0) -> Array:
    """Heaviside's step function.  x: float [...] -> y: the same.

    Value: 0 for x < 0, ``value_at_zero`` (0, 0.5 or 1) at 0, 1 for x > 0.  Derivative: 0, also at the jump.
    """
    if value_at_zero not in (0, 0.5, 1):
        raise ValueError(f"attribute value_at_zero is 0, 0.5 or 1, not {value_at_zero}")
    return np.heaviside(x, const(value_at_zero, x))


@step.derivative("x")
def _(x_like: Array) -> Array:
    return np.zeros_like(x_like)


@step.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for value in (0.0, 0.5, 1.0):
        yield Example((np.array([-1.0, 0.0, 2.0]),), {"value_at_zero": value}, smooth=False)


@op("GeneralizedRelu", domain="graphrt", elementwise=True, kinks=(0.0,))
def generalized_relu(z: Array, a: Array) -> Array:
    """Rectifier with any slope below 0.  z: float [...], a: float [...], broadcast together -> y: their dtype.

    Value: max(0, z) + a * min(0, z). Slope a = 0 is ReLU, a = -1 absolute value rectification, a small fixed a the
    leaky ReLU, a trained a the parametric ReLU.
    Derivative: for z 1 where z > 0, else a, so a at the kink z = 0; for a min(0, z).
    Source: Goodfellow, Bengio and Courville, Deep Learning, section 6.3.
    """
    with quiet():
        return np.where(z < 0, a * z, z)


@generalized_relu.derivative("z")
def _(z: Array, a: Array) -> Array:
    with quiet():
        return np.where(z > 0, const(1, z), a)


@generalized_relu.derivative("a")
def _(z: Array) -> Array:
    with quiet():
        return np.minimum(z, 0)


# ---- lines between knots -------------------------------------------------------------------------------


def _segments(x: Array, knots: Array) -> Array:
    """The segment that each element lies in; a knot belongs to the segment on its left."""
    with quiet():
        return np.clip(np.searchsorted(knots, x, side="left") - 1, 0, knots.shape[0] - 2)


def _interpolate(x: Array, knots: Array, values: Array) -> Array:
    i = _segments(x, knots)
    with quiet():
        slopes = np.diff(values) / np.diff(knots)
        return values[i] + slopes[i] * (x - knots[i])


def _slopes_at(x: Array, knots: Array, values: Array) -> Array:
    with quiet():
        return (np.diff(values) / np.diff(knots))[_segments(x, knots)]


def _as_line(numbers: Sequence[float], x: Array) -> Array:
    return np.array(numbers, x.dtype)


def _require_knots(knots: Array, values: Array) -> None:
    if knots.ndim != 1 or knots.shape != values.shape or knots.shape[0] < 2:
        raise ValueError(
            f"knots and values have shapes {knots.shape} and {values.shape}; both should be (n,) with n >= 2"
        )
    if not np.all(knots[1:] > knots[:-1]):
        raise ValueError("the knots must increase strictly")


@op("PiecewiseLinear", domain="graphrt", elementwise=True)
def piecewise_linear(
    x: Array, *, knots: tuple[float, ...] = (0.0, 1.0), values: tuple[float, ...] = (0.0, 1.0)
) -> Array:
    """Linear interpolation between knots, its end segments extended.  x: float [...] -> y: the same.

    Value: ``values[i]`` at ``knots[i]``; knots are two or more and increase strictly.
    Derivative: the slope of the segment; at an inner knot the slope on its left.
    """
    line = _as_line(knots, x), _as_line(values, x)
    _require_knots(*line)
    return _interpolate(x, *line)


@piecewise_linear.derivative("x")
def _(x: Array, *, knots: tuple[float, ...], values: tuple[float, ...]) -> Array:
    return _slopes_at(x, _as_line(knots, x), _as_line(values, x))


@piecewise_linear.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    line = {"knots": (-1.0, 0.0, 0.5, 2.0), "values": (0.3, -0.2, 1.0, 0.9)}
    yield (np.array([[-3.0, -0.7, 0.2], [0.8, 1.9, 4.0]]),), line
    yield (np.array(0.1),), line
    yield Example((np.array([-1.0, 0.0, 0.5, 2.0]),), line, smooth=False)


@op("LearnedPiecewiseLinear", domain="graphrt")
def learned_piecewise_linear(x: Array, knots: Array, values: Array) -> Array:
    """PiecewiseLinear whose knots and values are inputs, so that both can be trained.

    x: float [...]; knots, values: float [n], n >= 2, the knots strictly increasing -> y: as x.
    Derivative, for x between knots t and u with values v and w, slope s and share p = (x - t) / (u - t):
    s for x; 1 - p for v and p for w; -s (1 - p) for t and -s p for u.  At an inner knot all as on its left.
    """
    _require_knots(knots, values)
    return _interpolate(x, knots, values)


@learned_piecewise_linear.vjp("x")
def _(ct: Array, x: Array, knots: Array, values: Array) -> Array:
    with quiet():
        return ct * _slopes_at(x, knots, values)


@learned_piecewise_linear.jvp("x")
def _(x_dot: Array, x: Array, knots: Array, values: Array) -> Array:
    with quiet():
        return x_dot * _slopes_at(x, knots, values)


def _shares(x: Array, knots: Array) -> tuple[Array, Array]:
    """The segment of each element, and how far in it the element lies: 0 at the left end, 1 at the right."""
    i = _segments(x, knots)
    return i, (x - knots[i]) / np.diff(knots)[i]


def _to_ends(ct: Array, x: Array, knots: Array) -> Array:
    """Adds each cotangent to the two ends of its segment, in the shares (1 - p, p)."""
    i, p = _shares(np.reshape(x, (-1,)), knots)
    ct = np.reshape(ct, (-1,))
    right = ct * p
    total = np.zeros_like(right, shape=knots.shape)
    np.add.at(total, i, ct - right)
    np.add.at(total, i + 1, right)
    return total


def _from_ends(dots: Array, x: Array, knots: Array) -> Array:
    """The adjoint of `_to_ends`."""
    i, p = _shares(x, knots)
    return (1 - p) * dots[i] + p * dots[i + 1]


@learned_piecewise_linear.vjp("knots", "values")
def _(ct: Array, x: Array, knots: Array, values: Array) -> tuple[Array, Array]:
    with quiet():
        return _to_ends(-ct * _slopes_at(x, knots, values), x, knots), _to_ends(ct, x, knots)


@learned_piecewise_linear.jvp("knots")
def _(knots_dot: Array, x: Array, knots: Array, values: Array) -> Array:
    with quiet():
        return -_slopes_at(x, knots, values) * _from_ends(knots_dot, x, knots)


@learned_piecewise_linear.jvp("values")
def _(values_dot: Array, x: Array, knots: Array) -> Array:
    with quiet():
        return _from_ends(values_dot, x, knots)


@learned_piecewise_linear.infer
def _(x: TensorType, knots: TensorType, values: TensorType) -> TensorType:
    for name, t in (("knots", knots), ("values", values)):
        if t.rank not in (None, 1):
            raise ValueError(f"{name} are a vector, not {t}")
    return x


@learned_piecewise_linear.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    knots, values = np.array([-1.0, 0.0, 0.5, 2.0]), np.array([0.3, -0.2, 1.0, 0.9])
    yield (np.array([[-3.0, -0.7, 0.2], [0.8, 1.9, 4.0]]), knots, values), {}
    yield (np.array(0.1), knots[1:3], values[1:3]), {}
    yield (np.zeros((0, 2)), knots, values), {}


# ---- Maxout --------------------------------------------------------------------------------------------


def _grouped(x: Array, pieces: int, axis: int) -> tuple[Array, int]:
    """x with its axis split into [units, pieces], and the axis of the pieces."""
    axis = normalize_axis(axis, x.ndim)
    if pieces < 1 or x.shape[axis] % pieces:
        raise ValueError(f"axis {axis} of length {x.shape[axis]} does not divide into groups of pieces={pieces}")
    units = x.shape[axis] // pieces
    return np.reshape(x, (*x.shape[:axis], units, pieces, *x.shape[axis + 1 :])), axis + 1


def _first_maximum(x: Array, pieces: int, axis: int) -> Array:
    """Where the first maximum of each group is, one-hot over the pieces."""
    groups, at = _grouped(x, pieces, axis)
    first = np.expand_dims(np.argmax(groups, axis=at), at)
    return np.reshape(np.arange(pieces), (-1,) + (1,) * (groups.ndim - at - 1)) == first


@op("Maxout", domain="graphrt")
def maxout(x: Array, *, pieces: int, axis: int = 1) -> Array:
    """Maximum over groups of neighbors along an axis.

    x: float [..., units * pieces, ...] -> y: float [..., units, ...], the split axis being ``axis``.
    Value: y[j] = max(x[j * pieces], ..., x[j * pieces + pieces - 1]).
    Derivative: 1 for the maximum; of equals the first piece takes it all.
    Source: Goodfellow et al., arXiv 1302.4389.
    """
    groups, at = _grouped(x, pieces, axis)
    with quiet():
        return np.max(groups, axis=at)


@maxout.vjp("x")
def _(ct: Array, x: Array, *, pieces: int, axis: int) -> Array:
    at = normalize_axis(axis, x.ndim) + 1
    spread = np.where(_first_maximum(x, pieces, axis), np.expand_dims(ct, at), const(0, ct))
    return np.reshape(spread, x.shape)


@maxout.jvp("x")
def _(x_dot: Array, x: Array, *, pieces: int, axis: int) -> Array:
    dots, at = _grouped(x_dot, pieces, axis)
    return np.sum(np.where(_first_maximum(x, pieces, axis), dots, const(0, x_dot)), axis=at)


@maxout.infer
def _(x: TensorType, *, pieces: int, axis: int) -> TensorType:
    if x.shape is None:
        return TensorType(x.dtype)
    at = normalize_axis(axis, len(x.shape))
    n = x.shape[at]
    if isinstance(n, int) and (pieces < 1 or n % pieces):
        raise ValueError(f"axis {axis} of length {n} does not divide into groups of pieces={pieces}")
    units = n // pieces if isinstance(n, int) else n if pieces == 1 else None
    return TensorType(x.dtype, (*x.shape[:at], units, *x.shape[at + 1 :]))


@maxout.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.permutation(24) / 5.0
    yield (x.reshape(2, 6, 2),), {"pieces": 3}
    yield (x.reshape(4, 6),), {"pieces": 2, "axis": -1}
    yield (x,), {"pieces": 4, "axis": 0}
    yield (np.zeros((0, 4)),), {"pieces": 2}
    yield Example((np.ones((2, 4)),), {"pieces": 2}, smooth=False)


OPS = (step, generalized_relu, piecewise_linear, learned_piecewise_linear, maxout)
