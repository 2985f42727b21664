"""Smooth activations: Sigmoid, Tanh, Softplus, Softsign, Swish, Mish, Gelu."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import astype_of, const, normal_cdf, normal_pdf, quiet
from graphrt.ops._math import sigmoid as _sigmoid
from graphrt.ops._math import softplus as _softplus


@op("Sigmoid", version=6, elementwise=True)
def sigmoid(x: Array) -> Array:
    """Logistic function.  x: float [...] -> y: the same, in [0, 1].

    Value: 1 / (1 + exp(-x)).  Derivative: y (1 - y).  Source: ONNX operator spec.
    """
    return _sigmoid(x)


@sigmoid.derivative("x")
def _(y: Array) -> Array:
    return y * (1 - y)


@op("Tanh", version=6, elementwise=True, outputs="output")
def tanh(input: Array) -> Array:
    """Hyperbolic tangent.  input: float [...] -> output: the same, in [-1, 1].

    Derivative: 1 - output**2.  Source: ONNX operator spec.
    """
    return np.tanh(input)


@tanh.derivative("input")
def _(output: Array) -> Array:
    return (1 - output) * (1 + output)


@op("Softplus", version=1, elementwise=True)
def softplus(x: Array) -> Array:
    """Smooth maximum of 0 and x.  x: float [...] -> y: the same.

    Value: log(1 + exp(x)).  Derivative: sigmoid(x) = 1 - exp(-y).  Source: ONNX operator spec.
    """
    return _softplus(x)


@softplus.derivative("x")
def _(y: Array) -> Array:
    with quiet():
        return -np.expm1(-y)


@op("Softsign", version=1, elementwise=True, outputs="output")
def softsign(input: Array) -> Array:
    """A sigmoid with slow tails.  input: float [...] -> output: the same, in [-1, 1].

    Value: x / (1 + |x|).  Derivative: 1 / (1 + |x|)**2.  Source: ONNX operator spec.
    """
    with quiet():
        return input / (1 + np.abs(input))


@softsign.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.square(np.reciprocal(1 + np.abs(input)))


@op("Swish", version=24, elementwise=True)
def swish(x: Array, *, alpha: float = 1.0) -> Array:
    """x times its sigmoid (SiLU for alpha = 1).  x: float [...] -> y: the same.

    Value: x * sigmoid(alpha x).  Derivative: s (1 + alpha x (1 - s)) with s = sigmoid(alpha x).
    Source: ONNX operator spec.
    """
    with quiet():
        return x * _sigmoid(const(alpha, x) * x)


@swish.derivative("x")
def _(x: Array, *, alpha: float) -> Array:
    with quiet():
        s = _sigmoid(const(alpha, x) * x)
        return s + (s * x) * (const(alpha, x) * (1 - s))  # in this order no 0 meets an infinity


@swish.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for alpha in (1.702, -0.5, 0.0):
        yield (rng.uniform(-3, 3, (2, 3)),), {"alpha": alpha}


@op("Mish", version=18, elementwise=True)
def mish(x: Array) -> Array:
    """Mish.  x: float [...] -> y: the same.

    Value: x * tanh(softplus(x)).  Derivative: t + x (1 - t**2) sigmoid(x) with t = tanh(softplus(x)).
    Source: ONNX operator spec.
    """
    with quiet():
        return x * np.tanh(_softplus(x))


@mish.derivative("x")
def _(x: Array) -> Array:
    with quiet():
        t = np.tanh(_softplus(x))
        return t + x * ((1 - t) * (1 + t) * _sigmoid(x))


# ---- Gelu ----------------------------------------------------------------------------------------------

_SLOPE, _CUBIC = math.sqrt(2 / math.pi), 0.044715


@op("Gelu", version=20, elementwise=True)
def gelu(x: Array, *, approximate: str = "none") -> Array:
    """Gaussian error linear unit.  x: float [...] -> y: the same.

    Value: x * Phi(x), Phi the normal distribution function; with ``approximate="tanh"``
    x/2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3))).
    Derivative: Phi(x) + x phi(x), phi the normal density; of the approximation its own.
    Source: ONNX operator spec; Hendrycks and Gimpel, arXiv 1606.08415.
    """
    with quiet():
        if _is_tanh(approximate):
            return astype_of(x * (0.5 + 0.5 * _gelu_tanh(x)[1]), x)
        return x * normal_cdf(x)


@gelu.derivative("x")
def _(x: Array, *, approximate: str) -> Array:
    with quiet():
        if not _is_tanh(approximate):
            return normal_cdf(x) + x * normal_pdf(x)
        u, t = _gelu_tanh(x)
        inner = _SLOPE * (1 + 3 * _CUBIC * u * u)
        return astype_of(0.5 * (1 + t) + 0.5 * u * ((1 - t) * (1 + t)) * inner, x)


def _is_tanh(approximate: str) -> bool:
    if approximate not in ("none", "tanh"):
        raise ValueError(f"attribute approximate is 'none' or 'tanh', not {approximate!r}")
    return approximate == "tanh"


def _gelu_tanh(x: Array) -> tuple[Array, Array]:
    u = np.minimum(np.maximum(x, -10), 10)  # beyond, tanh is 1 in every float type, and cubes would overflow
    return u, np.tanh(_SLOPE * (u + _CUBIC * u * u * u))


@gelu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for approximate in ("none", "tanh"):
        yield (rng.uniform(-3, 3, (2, 3)),), {"approximate": approximate}
        yield (np.array(-0.7),), {"approximate": approximate}


OPS = (sigmoid, tanh, softplus, softsign, swish, mish, gelu)
