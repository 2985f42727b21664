"""Functions of one float32 number, for loops that LLVM turns into vector instructions.

Each is a polynomial without a branch, good to two or three units in the last place, and gives the same bits wherever
it is called: products are fused with sums where `fma` says so, and nowhere else. Infinities and NaN follow IEEE 754;
what is smaller than the smallest normal number may become 0.
"""

from __future__ import annotations

import math
from math import sqrt  # noqa: F401  # for formulas
from typing import Any

import numpy as np

from graphrt_numba.compiler import bits, fma, from_bits, inline

Number = Any
F = np.float32


def _constants(*values: float) -> tuple[Any, ...]:
    return tuple(F(v) for v in values)


ZERO, HALF, ONE, TWO = _constants(0, 0.5, 1, 2)
INFINITY, NAN = F(np.inf), F(np.nan)

# ---- exponential and logarithm -----------------------------------------------------------------------------

LOG2_E, LN2_HIGH, LN2_LOW = _constants(1 / math.log(2), 0.693359375, math.log(2) - 0.693359375)
"""ln 2 in two parts: multiples of the first are exact."""
ROUND = F(1.5 * 2**23)
"""Adding it rounds to a whole number, which then is in the lowest bits."""
SMALLEST, LARGEST = _constants(-87.33654, 88.72283)
"""Arguments of exp beyond which the result is not a normal number."""
E0, E1, E2, E3, E4, E5 = _constants(
    1.98756911e-4, 1.39819994e-3, 8.33345205e-3, 4.16657961e-2, 1.66666671e-1, 5.00000000e-1
)
"""exp(r) = 1 + r + r**2 (E5 + r (E4 + r (...))) for abs(r) <= ln(2) / 2."""


@inline
def _exp_parts(x: Number) -> Number:
    """exp(x) = (1 + p) 2**n, with n in the lowest bits of k: (p, k)."""
    k = fma(x, LOG2_E, ROUND)
    n = k - ROUND
    r = fma(n, -LN2_HIGH, x)
    r = fma(n, -LN2_LOW, r)
    p = fma(fma(fma(fma(fma(E0, r, E1), r, E2), r, E3), r, E4), r, E5)
    return fma(p, r * r, r), k


@inline
def exp(x: Number) -> Number:
    """e to the power of x."""
    p, k = _exp_parts(x)
    y = from_bits(bits(p + ONE) + (bits(k) << 23))
    y = INFINITY if x > LARGEST else y
    return ZERO if x < SMALLEST else y


@inline
def expm1_negative(x: Number) -> Number:
    """exp(x) - 1 for x <= 0, accurate next to 0."""
    p, k = _exp_parts(max(x, SMALLEST))
    scale = from_bits((bits(k) + 127) << 23)
    y = fma(scale, p, scale - ONE)
    return y if x == x else x


NORMAL, SQRT_HALF_BITS, MANTISSA = F(2.0**-126), 0x3F3504F3, 0x007FFFFF
L0, L1, L2, L3, L4, L5, L6, L7, L8 = _constants(
    7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
    -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
)  # fmt: skip
"""log(1 + f) = f - f**2 / 2 + f**3 (L8 + f (L7 + f (...))) for 1 + f between sqrt(1/2) and sqrt(2)."""
SCALE, SCALE_LOG2 = F(2.0**25), F(25)


@inline
def log(x: Number) -> Number:
    """The natural logarithm."""
    is_small = x < NORMAL
    i = bits(x * SCALE if is_small else x) - SQRT_HALF_BITS
    e = F(i >> 23) - (SCALE_LOG2 if is_small else ZERO)
    f = from_bits((i & MANTISSA) + SQRT_HALF_BITS) - ONE
    p = fma(fma(fma(fma(L0, f, L1), f, L2), f, L3), f, L4)
    p = fma(fma(fma(fma(p, f, L5), f, L6), f, L7), f, L8)
    q = f * f
    y = fma(e, LN2_LOW, p * f * q)
    y = fma(q, -HALF, y) + f
    y = fma(e, LN2_HIGH, y)
    y = y if x < INFINITY else x
    y = -INFINITY if x == ZERO else y
    return NAN if x < ZERO else y


@inline
def log1p_of_small(x: Number) -> Number:
    """log(1 + x) for x in [0, 1], accurate next to 0."""
    u = x + ONE
    return log(u) + (x - (u - ONE)) / u


# ---- the logistic function and its relatives ---------------------------------------------------------------


@inline
def sigmoid(x: Number) -> Number:
    """1 / (1 + exp(-x))."""
    return ONE / (ONE + exp(-x))


@inline
def tanh(x: Number) -> Number:
    """The hyperbolic tangent."""
    t = expm1_negative(-TWO * abs(x))
    return math.copysign(t / (TWO + t), x)


@inline
def softplus(x: Number) -> Number:
    """log(1 + exp(x))."""
    return maximum(x, ZERO) + log1p_of_small(exp(-abs(x)))


@inline
def swish(x: Number, alpha: Number) -> Number:
    """x times the logistic function of alpha x."""
    return x / (ONE + exp(-alpha * x))


@inline
def swish_slope(x: Number, alpha: Number) -> Number:
    """In this order no 0 meets an infinity."""
    s = sigmoid(alpha * x)
    return s + (s * x) * (alpha * (ONE - s))


# ---- the normal distribution function and its relatives ----------------------------------------------------

# Fitted by linear programming in float64 (largest error of the results: 4e-8 for x Phi(x), 8e-8 relative for erf), made
# to run off to the right infinity beyond the interval of the fit.
P0, P1, P2, P3, P4, P5, P6 = _constants(
    -2.32067291e-07, -8.56029142e-06, -0.000127245127, -0.000885245608, 0.000261596633, 0.145334141, -1.59576909
)
"""Phi(x) = 1 / (1 + exp(x R(-x**2 / 2))), R with these coefficients, highest power first."""
T0, T1, T2, T3, T4, T5, T6 = _constants(
    1.41652495e-07, -5.66890062e-06, 8.76915177e-05, -0.000620118928, -0.000191153986, 0.102768712, 1.12837926
)
"""erf(x) = tanh(x T(x**2))."""
DENSITY, ERF_SLOPE = _constants(1 / math.sqrt(2 * math.pi), 2 / math.sqrt(math.pi))
STEEP, CUBIC = _constants(-2 * math.sqrt(2 / math.pi), -2 * math.sqrt(2 / math.pi) * 0.044715)
THREE_CUBIC = F(6 * math.sqrt(2 / math.pi) * 0.044715)


@inline
def erf(x: Number) -> Number:
    """The error function."""
    z = x * x
    t = fma(fma(fma(fma(fma(fma(T0, z, T1), z, T2), z, T3), z, T4), z, T5), z, T6)
    return tanh(x * t)


@inline
def erf_slope(x: Number) -> Number:
    """2 / sqrt(pi) exp(-x**2)."""
    return ERF_SLOPE * exp(-x * x)


@inline
def _one_over_phi(x: Number, m: Number) -> Number:
    """One over the normal distribution function of x, where m = -x**2 / 2."""
    r = fma(fma(fma(fma(fma(fma(P0, m, P1), m, P2), m, P3), m, P4), m, P5), m, P6)
    return ONE + exp(r * x)


@inline
def gelu(x: Number) -> Number:
    """x times the normal distribution function of x."""
    return x / _one_over_phi(x, -HALF * x * x)


@inline
def gelu_slope(x: Number) -> Number:
    """Distribution function plus x times density."""
    m = -HALF * x * x
    return ONE / _one_over_phi(x, m) + DENSITY * exp(m) * x


@inline
def gelu_tanh(x: Number) -> Number:
    """The approximation of `gelu` by tanh: x / (1 + exp(-2 sqrt(2/pi) (x + 0.044715 x**3)))."""
    return x / (ONE + exp(fma(x * x, CUBIC, STEEP) * x))


@inline
def gelu_tanh_slope(x: Number) -> Number:
    """s + x s (1 - s) times the slope of the argument of the logistic function s."""
    s = ONE / (ONE + exp(fma(x * x, CUBIC, STEEP) * x))
    return fma((ONE - s) * s * x, fma(x * x, THREE_CUBIC, -STEEP), s)


# ---- pieces ------------------------------------------------------------------------------------------------


@inline
def maximum(a: Number, b: Number) -> Number:
    """The larger one; NaN wins."""
    return a if a > b or a != a else b


@inline
def minimum(a: Number, b: Number) -> Number:
    """The smaller one; NaN wins."""
    return a if a < b or a != a else b


@inline
def sign(x: Number) -> Number:
    """-1, 0 or 1; NaN stays."""
    y = ONE if x > ZERO else ZERO
    y = -ONE if x < ZERO else y
    return y if x == x else x


@inline
def choose(condition: bool, a: Number, b: Number) -> Number:
    """a where the condition holds, else b."""
    return a if condition else b


THREE, SIX = _constants(3, 6)


@inline
def hard_sigmoid(x: Number, alpha: Number, beta: Number) -> Number:
    """alpha x + beta between 0 and 1."""
    return maximum(minimum(alpha * x + beta, ONE), ZERO)


@inline
def hard_sigmoid_slope(y: Number, alpha: Number) -> Number:
    """By the value y."""
    return choose((y > ZERO) & (y < ONE), alpha, ZERO)


@inline
def hard_swish(x: Number) -> Number:
    """x times x / 6 + 1 / 2 between 0 and 1."""
    return x * hard_sigmoid(x, ONE / SIX, HALF)


@inline
def hard_swish_slope(x: Number) -> Number:
    """0 up to -3, 1 from 3 on, x / 3 + 1 / 2 between."""
    return choose(x >= THREE, ONE, choose(x <= -THREE, ZERO, x / THREE + HALF))
