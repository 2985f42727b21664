"""The functions that formulas call, of single numbers: those of the C library, and some that are made of them.

None of the latter raises an exception, whatever number it is given. They are plain enough for a compiler to take them
as they stand.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from math import erfc, exp, log1p

import numpy as np

ELEMENTARY: dict[str, tuple[Callable[..., float], np.ufunc]] = {
    "acos": (math.acos, np.arccos), "acosh": (math.acosh, np.arccosh), "asin": (math.asin, np.arcsin),
    "asinh": (math.asinh, np.arcsinh), "atan": (math.atan, np.arctan), "atanh": (math.atanh, np.arctanh),
    "cos": (math.cos, np.cos), "cosh": (math.cosh, np.cosh), "exp": (math.exp, np.exp),
    "expm1_negative": (math.expm1, np.expm1), "hypot": (math.hypot, np.hypot), "log": (math.log, np.log),
    "power": (math.pow, np.power), "sin": (math.sin, np.sin), "sinh": (math.sinh, np.sinh),
    "sqrt": (math.sqrt, np.sqrt), "tan": (math.tan, np.tan), "tanh": (math.tanh, np.tanh),
}  # fmt: skip
"""Name to the function of the C library, and to NumPy's for the arguments at which Python raises an exception."""

SQRT_HALF, DENSITY, ERF_SLOPE = math.sqrt(0.5), 1 / math.sqrt(2 * math.pi), 2 / math.sqrt(math.pi)
TANH_SLOPE, CUBIC = math.sqrt(2 / math.pi), 0.044715


def maximum(a: float, b: float) -> float:
    """The larger one; NaN wins."""
    return a if a > b or a != a else b


def minimum(a: float, b: float) -> float:
    """The smaller one; NaN wins."""
    return a if a < b or a != a else b


def choose(condition: bool, a: float, b: float) -> float:
    """a where the condition holds, else b."""
    return a if condition else b


def sign(x: float) -> float:
    """-1, 0 or 1; NaN stays."""
    return 1.0 if x > 0 else -1.0 if x < 0 else x + 0.0


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x))."""
    e = exp(-abs(x))
    return (e if x < 0 else 1.0) / (1.0 + e)


def softplus(x: float) -> float:
    """log(1 + exp(x))."""
    return maximum(x, 0.0) + log1p(exp(-abs(x)))


def swish(x: float, alpha: float) -> float:
    """x times the logistic function of alpha x."""
    return x * sigmoid(alpha * x)


def swish_slope(x: float, alpha: float) -> float:
    """In this order no 0 meets an infinity."""
    s = sigmoid(alpha * x)
    return s + (s * x) * (alpha * (1.0 - s))


def hard_sigmoid(x: float, alpha: float, beta: float) -> float:
    """alpha x + beta between 0 and 1."""
    return maximum(minimum(alpha * x + beta, 1.0), 0.0)


def hard_sigmoid_slope(y: float, alpha: float) -> float:
    """By the value y."""
    return alpha if 0.0 < y < 1.0 else 0.0


def hard_swish(x: float) -> float:
    """x times x / 6 + 1 / 2 between 0 and 1."""
    return x * hard_sigmoid(x, 1.0 / 6.0, 0.5)


def hard_swish_slope(x: float) -> float:
    """0 up to -3, 1 from 3 on, x / 3 + 1 / 2 between."""
    return 1.0 if x >= 3.0 else 0.0 if x <= -3.0 else x / 3.0 + 0.5


def erf_slope(x: float) -> float:
    """2 / sqrt(pi) exp(-x**2)."""
    return ERF_SLOPE * exp(-x * x)


def normal_cdf(x: float) -> float:
    """Distribution function of the standard normal distribution."""
    return 0.5 * erfc(-x * SQRT_HALF)


def gelu(x: float) -> float:
    """x times the normal distribution function of x."""
    return x * normal_cdf(x)


def gelu_slope(x: float) -> float:
    """Distribution function plus x times density."""
    return normal_cdf(x) + x * (DENSITY * exp(-0.5 * x * x))


def gelu_tanh(x: float) -> float:
    """The approximation of `gelu` by tanh: x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x**3)))."""
    return x * (0.5 + 0.5 * math.tanh(TANH_SLOPE * (x + CUBIC * x * x * x)))


def gelu_tanh_slope(x: float) -> float:
    """The derivative of `gelu_tanh`."""
    t = math.tanh(TANH_SLOPE * (x + CUBIC * x * x * x))
    return 0.5 * (1.0 + t) + 0.5 * x * ((1.0 - t) * (1.0 + t)) * (TANH_SLOPE * (1.0 + 3.0 * CUBIC * x * x))


_COMPOSED = (
    maximum, minimum, choose, sign, sigmoid, softplus, swish, swish_slope, hard_sigmoid, hard_sigmoid_slope, hard_swish,
    hard_swish_slope, erf_slope, normal_cdf, gelu, gelu_slope, gelu_tanh, gelu_tanh_slope,
)  # fmt: skip

COMPOSED: dict[str, Callable[..., float]] = {"erf": math.erf} | {f.__name__: f for f in _COMPOSED}
"""The others by name, each after those that it calls."""
