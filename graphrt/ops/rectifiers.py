"""Activations in pieces: Relu and its relatives. At a kink they take the slope on the left, unless they say else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op, unbroadcast
from graphrt.ops._math import astype_of, choose, const, quiet
from graphrt.types import TensorType


@op("Relu", version=6, elementwise=True, kinks=(0.0,))
def relu(x: Array) -> Array:
    """Rectified linear unit.  x: number [...] -> y: the same.

    Value: max(0, x).  Derivative: 1 for x > 0, else 0; at the kink x = 0 it is 0.  Source: ONNX operator spec.
    """
    with quiet():
        return np.maximum(x, 0)


@relu.derivative("x")
def _(y: Array) -> Array:
    with quiet():
        return (y > 0).astype(y.dtype)


@op("LeakyRelu", version=6, elementwise=True, kinks=(0.0,))
def leaky_relu(x: Array, *, alpha: float = 0.01) -> Array:
    """Rectifier with a small slope below 0.  x: float [...] -> y: the same.

    Value: alpha * x for x < 0, else x.  Derivative: alpha or 1; at the kink x = 0 it is alpha.
    Source: ONNX operator spec.
    """
    with quiet():
        return np.where(x < 0, const(alpha, x) * x, x)


@leaky_relu.derivative("x")
def _(x: Array, *, alpha: float) -> Array:
    with quiet():
        return choose(x > 0, 1, alpha, x)


@op("PRelu", version=7, elementwise=True, kinks=(0.0,))
def prelu(x: Array, slope: Array) -> Array:
    """Rectifier whose slope below 0 is an input.  x: number [...], slope: broadcasts to x -> y: as x.

    Value: slope * x for x < 0, else x.  Derivative: for x slope or 1, at the kink x = 0 slope; for slope min(x, 0).
    Source: ONNX operator spec.
    """
    with quiet():
        return np.where(x < 0, slope * x, x)


@prelu.derivative("x")
def _(x: Array, slope: Array) -> Array:
    with quiet():
        return np.where(x > 0, const(1, x), slope)


@prelu.derivative("slope")
def _(x: Array) -> Array:
    with quiet():
        return np.minimum(x, 0)


@prelu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = np.array([[[-2.0, 0.5], [1.5, -0.3]], [[0.7, -1.0], [-0.9, 2.0]]])
    yield (x, np.array([[0.2], [-0.4]])), {}
    yield (x, np.array(0.25)), {}
    yield (x[:0], np.array([0.25])), {}


@op("PRelu", version=6)
def prelu_6(x: Array, slope: Array) -> Array:
    """As PRelu of opset 7, with one slope per channel.  x: float [n, channels, ...], slope: [channels] or one element.

    Source: ONNX operator spec.
    """
    return prelu(x, np.reshape(slope, _channel_shape(x.ndim, slope)))


@prelu_6.vjp("x")
def _(ct: Array, x: Array, slope: Array) -> Array:
    with quiet():
        return ct * np.where(x > 0, const(1, x), np.reshape(slope, _channel_shape(x.ndim, slope)))


@prelu_6.jvp("x")
def _(x_dot: Array, x: Array, slope: Array) -> Array:
    with quiet():
        return x_dot * np.where(x > 0, const(1, x), np.reshape(slope, _channel_shape(x.ndim, slope)))


@prelu_6.jvp("slope")
def _(slope_dot: Array, x: Array) -> Array:
    with quiet():
        return np.reshape(slope_dot, _channel_shape(x.ndim, slope_dot)) * np.minimum(x, 0)


@prelu_6.vjp("slope")
def _(ct: Array, x: Array, slope_like: Array) -> Array:
    with quiet():
        per_channel = np.reshape(slope_like, _channel_shape(x.ndim, slope_like))
        return np.reshape(unbroadcast(ct * np.minimum(x, 0), per_channel), slope_like.shape)


def _channel_shape(rank: int, slope: Array) -> tuple[int, ...]:
    return () if slope.size == 1 else (slope.size, *(1 for _ in range(2, rank)))


@prelu_6.infer
def _(x: TensorType) -> TensorType:
    return x


@prelu_6.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = np.array([[[-2.0, 0.5], [1.5, -0.3]], [[0.7, -1.0], [-0.9, 2.0]]])
    yield (x, np.array([0.2, -0.4])), {}
    yield (x, np.array([0.25])), {}
    yield (x[:, :, 0], np.array([0.2, -0.4])), {}


@op("ThresholdedRelu", version=10, elementwise=True, kinks=(1.0,))
def thresholded_relu(x: Array, *, alpha: float = 1.0) -> Array:
    """x where it exceeds a threshold.  x: float [...] -> y: the same.

    Value: x for x > alpha, else 0.  Derivative: 1 or 0; at the jump x = alpha it is 0.
    Source: ONNX operator spec.
    """
    with quiet():
        return np.where(x > const(alpha, x), x, const(0, x))


@thresholded_relu.derivative("x")
def _(x: Array, *, alpha: float) -> Array:
    with quiet():
        return (x > const(alpha, x)).astype(x.dtype)


@op("Shrink", version=9, elementwise=True, outputs="output", kinks=(-0.5, 0.5))
def shrink(input: Array, *, bias: float = 0.0, lambd: float = 0.5) -> Array:
    """Pulls values toward 0 and drops small ones.  input: number [...] -> output: the same.

    Value: x + bias for x < -lambd, x - bias for x > lambd, else 0.  Derivative: 1 outside [-lambd, lambd], else 0;
    0 at the jumps.  Source: ONNX operator spec.
    """
    with quiet():
        low, high = input < -lambd, input > lambd
        return astype_of(np.where(low, input + bias, np.where(high, input - bias, 0 * input)), input)


@shrink.derivative("input")
def _(input: Array, *, lambd: float) -> Array:
    with quiet():
        return ((input < -lambd) | (input > lambd)).astype(input.dtype)


@shrink.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[-2.0, -1.2, 0.4], [0.9, 1.7, -0.1]]),), {"bias": 0.3, "lambd": 1.5}
    yield (np.array([-2, -1, 0, 1, 2]),), {"bias": 1.0, "lambd": 1.0}


# ---- exponential on the left ---------------------------------------------------------------------------


@op("Elu", version=6, elementwise=True)
def elu(x: Array, *, alpha: float = 1.0) -> Array:
    """Exponential linear unit.  x: float [...] -> y: the same.

    Value: alpha * (exp(x) - 1) for x < 0, else x.  Derivative: alpha * exp(x) for x <= 0, else 1: alpha at x = 0.
    Source: ONNX operator spec.
    """
    with quiet():
        return np.where(x < 0, const(alpha, x) * np.expm1(np.minimum(x, 0)), x)


@elu.derivative("x")
def _(x: Array, *, alpha: float) -> Array:
    with quiet():
        return np.where(x > 0, const(1, x), const(alpha, x) * np.exp(np.minimum(x, 0)))


@elu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[-2.0, 0.5], [1.5, -0.3]]),), {"alpha": 0.7}
    yield Example((np.zeros(2),), {"alpha": 0.7}, smooth=False)


@op("Selu", version=6, elementwise=True, kinks=(0.0,))
def selu(x: Array, *, alpha: float = 1.67326319217681884765625, gamma: float = 1.05070102214813232421875) -> Array:
    """Scaled exponential linear unit.  x: float [...] -> y: the same.

    Value: gamma * alpha * (exp(x) - 1) for x <= 0, gamma * x for x > 0.
    Derivative: gamma * alpha * exp(x) for x <= 0, else gamma: gamma * alpha at the kink x = 0.
    Source: ONNX operator spec; Klambauer et al., arXiv 1706.02515.
    """
    with quiet():
        scaled = const(gamma * alpha, x) * np.expm1(np.minimum(x, 0))
        return np.where(x > 0, const(gamma, x) * x, scaled)


@selu.derivative("x")
def _(x: Array, *, alpha: float, gamma: float) -> Array:
    with quiet():
        return np.where(x > 0, const(gamma, x), const(gamma * alpha, x) * np.exp(np.minimum(x, 0)))


@op("Celu", version=12, elementwise=True)
def celu(x: Array, *, alpha: float = 1.0) -> Array:
    """Continuously differentiable exponential linear unit.  x: float [...] -> y: the same.

    Value: max(0, x) + min(0, alpha * (exp(x / alpha) - 1)).  Derivative: exp(min(x, 0) / alpha).
    Source: ONNX operator spec; Barron, arXiv 1704.07483.
    """
    with quiet():
        return np.where(x > 0, x, const(alpha, x) * np.expm1(np.minimum(x, 0) / const(alpha, x)))


@celu.derivative("x")
def _(x: Array, *, alpha: float) -> Array:
    with quiet():
        return np.exp(np.minimum(x, 0) / const(alpha, x))


@celu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[-2.0, 0.5], [1.5, -0.3]]),), {"alpha": 0.4}


# ---- clipped lines -------------------------------------------------------------------------------------


@op("HardSigmoid", version=6, elementwise=True, kinks=(-2.5, 2.5))
def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Array:
    """A line cut off at 0 and 1.  x: float [...] -> y: the same, in [0, 1].

    Value: max(0, min(1, alpha * x + beta)).  Derivative: alpha strictly between 0 and 1, else 0, at both kinks too.
    Source: ONNX operator spec.
    """
    with quiet():
        return np.maximum(np.minimum(const(alpha, x) * x + const(beta, x), 1), 0)


@hard_sigmoid.derivative("x")
def _(y: Array, *, alpha: float) -> Array:
    with quiet():
        return choose((y > 0) & (y < 1), alpha, 0, y)


@op("HardSwish", version=14, elementwise=True, kinks=(-3.0, 3.0))
def hard_swish(x: Array) -> Array:
    """x times HardSigmoid with slope 1/6.  x: float [...] -> y: the same.

    Value: x * max(0, min(1, x/6 + 1/2)).  Derivative: 0 for x <= -3, 1 for x >= 3, x/3 + 1/2 between.
    Source: ONNX operator spec.
    """
    with quiet():
        return x * np.maximum(np.minimum(x / 6 + const(0.5, x), 1), 0)


@hard_swish.derivative("x")
def _(x: Array) -> Array:
    with quiet():
        return np.where(x >= 3, const(1, x), np.where(x <= -3, const(0, x), x / 3 + const(0.5, x)))


OPS = (
    relu, leaky_relu, prelu, prelu_6, thresholded_relu, shrink, elu, selu, celu, hard_sigmoid, hard_swish,
)  # fmt: skip
