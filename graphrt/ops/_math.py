"""Functions that NumPy lacks, and the small helpers that the elementwise families share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from graphrt.dual import elementary
from graphrt.op import Array

quiet = partial(np.errstate, all="ignore")
"""``with quiet():`` lets infinities and NaN follow IEEE 754 without a warning."""


def const(value: float, x: Array) -> Any:
    """A number as a scalar of the dtype of ``x``, so that no type (bfloat16 too) is promoted by it."""
    return x.dtype.type(value)


def astype_of(y: Array, x_like: Array) -> Array:
    """``y`` in the dtype of ``x_like``; no copy where it has it already."""
    return y if y.dtype == x_like.dtype else y.astype(x_like.dtype)


def choose(condition: Array, a: float, b: float, x: Array) -> Array:
    """``a`` where the condition holds, else ``b``, in the dtype of ``x``."""
    return np.where(condition, const(a, x), const(b, x))


@elementary(lambda x, y: y * (1 - y))
def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow; small values keep their relative accuracy."""
    with quiet():
        return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


@elementary(lambda x, y: -np.expm1(-y))
def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    with quiet():
        return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


@elementary(lambda x, y: const(2 / math.sqrt(math.pi), x) * np.exp(-x * x))
def erf(x: Array) -> Array:
    """The error function 2/sqrt(pi) * integral from 0 to x of exp(-t*t) dt, to the accuracy of the dtype."""
    return _erf_or_erfc(x, complement=False)


@elementary(lambda x, y: const(-2 / math.sqrt(math.pi), x) * np.exp(-x * x))
def erfc(x: Array) -> Array:
    """1 - erf(x), with full relative accuracy in the far tail."""
    return _erf_or_erfc(x, complement=True)


def normal_pdf(x: Array) -> Array:
    """Density of the standard normal distribution."""
    with quiet():
        return const(1 / math.sqrt(2 * math.pi), x) * np.exp(const(-0.5, x) * x * x)


def normal_cdf(x: Array) -> Array:
    """Distribution function of the standard normal distribution."""
    return const(0.5, x) * erfc(x * const(-math.sqrt(0.5), x))


# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969): quotients of
# polynomials, highest power first, for |x| <= 0.46875 (erf), up to 4 (erfc) and beyond (erfc).
_NEAR = (
    (1.85777706184603153e-1, 3.16112374387056560, 1.13864154151050156e2, 3.77485237685302021e2, 3.20937758913846947e3),
    (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3),
)
_MIDDLE = (
    (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594, 6.61191906371416295e1, 2.98635138197400131e2,
     8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3),
    (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
     3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3),
)  # fmt: skip
_FAR = (
    (1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
     1.60837851487422766e-2, 6.58749161529837803e-4),
    (1.0, 2.56852019228982242, 1.87295284992346725, 5.27905102951428412e-1, 6.05183413124413191e-2,
     2.33520497626869185e-3),
)  # fmt: skip


def _erf_or_erfc(x: Array, complement: bool) -> Array:
    z = np.asarray(x, x.dtype if x.dtype in (np.float32, np.float64) else np.float32).ravel()
    y = np.empty_like(z)
    is_near = np.abs(z) <= 0.46875
    near, rest = np.flatnonzero(is_near), np.flatnonzero(~is_near)  # on large arrays faster than masks
    inner, outer = z[near], z[rest]
    e = inner * _quotient(_NEAR, inner * inner)
    c = _erfc_of_large(np.abs(outer))
    y[near] = 1 - e if complement else e
    y[rest] = np.where(outer < 0, 2 - c, c) if complement else np.copysign(1 - c, outer)
    return y.reshape(x.shape).astype(x.dtype, copy=False)


def _erfc_of_large(t: Array) -> Array:
    """erfc(t) for t > 0.46875."""
    t = np.minimum(t, 30)  # erfc(30) is 0 in every dtype, and infinity would meet itself below
    far, middle = np.flatnonzero(t > 4), np.flatnonzero(~(t > 4))
    q = 1 / np.square(t[far])
    factor = np.empty_like(t)
    factor[far] = (1 / math.sqrt(math.pi) - q * _quotient(_FAR, q)) / t[far]
    factor[middle] = _quotient(_MIDDLE, t[middle])
    coarse = np.trunc(t * 16) / 16  # its square is exact, which keeps exp(-t*t) accurate
    with quiet():
        return np.exp(-coarse * coarse) * np.exp((coarse - t) * (coarse + t)) * factor


def _quotient(polynomials: tuple[Sequence[float], Sequence[float]], x: Array) -> Array:
    above, below = (_horner(p, x) for p in polynomials)
    return above / below


def _horner(coefficients: Sequence[float], x: Array) -> Array:
    total: Any = coefficients[0]
    for c in coefficients[1:]:
        total = total * x + c
    return total
