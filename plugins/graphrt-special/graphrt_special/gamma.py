"""The gamma function and its kin. Source of all formulas: NIST Digital Library of Mathematical Functions, ch. 5, 8."""

from __future__ import annotations

import numpy as np
from scipy import special as sc

from graphrt.plugin import Array, elementary
from graphrt_special._define import keeps_dtype, special


def _polygamma(n: int):
    """psi^(n), dual-aware to any order: its derivative is psi^(n+1)."""

    @elementary(lambda x, y: _polygamma(n + 1)(x))
    def psi(x: Array) -> Array:
        return (sc.psi(x) if n == 0 else sc.polygamma(n, x)).astype(x.dtype, copy=False)

    return psi


_psi, _psi1, _psi2 = _polygamma(0), _polygamma(1), _polygamma(2)
_gamma = elementary(lambda x, y: y * _psi(x))(keeps_dtype(sc.gamma))
_lgamma = elementary(lambda x, y: _psi(x))(keeps_dtype(sc.gammaln))


@special("Gamma", ranges={"x": (0.2, 5.0)})
def gamma(x: Array) -> Array:
    """Gamma function.  x: float [...] -> y: float [...].  dy/dx = y psi(x).  (DLMF 5.2, 5.4)"""
    return _gamma(x)


@gamma.derivative("x")
def _(x, y):
    return y * _psi(x)


@special("LGamma", ranges={"x": (0.2, 20.0)})
def lgamma(x: Array) -> Array:
    """log |Gamma(x)|.  x: float [...] -> y: float [...].  dy/dx = psi(x).  (DLMF 5.2)"""
    return _lgamma(x)


@lgamma.derivative("x")
def _(x):
    return _psi(x)


@special("Digamma", ranges={"x": (0.2, 20.0)})
def digamma(x: Array) -> Array:
    """psi(x) = Gamma'(x)/Gamma(x).  x: float [...] -> y: float [...].  dy/dx = psi'(x).  (DLMF 5.2, 5.15)"""
    return _psi(x)


@digamma.derivative("x")
def _(x):
    return _psi1(x)


@special("Trigamma", ranges={"x": (0.3, 20.0)})
def trigamma(x: Array) -> Array:
    """psi'(x).  x: float [...] -> y: float [...].  dy/dx = psi''(x).  (DLMF 5.15)"""
    return _psi1(x)


@trigamma.derivative("x")
def _(x):
    return _psi2(x)


@special("Beta", ranges={"a": (0.3, 5.0), "b": (0.3, 5.0)})
def beta(a: Array, b: Array) -> Array:
    """B(a, b) = Gamma(a) Gamma(b) / Gamma(a + b).  a, b: float [...], broadcast together -> y: float [...].

    dB/da = B (psi(a) - psi(a + b)), and likewise for b.  (DLMF 5.12)
    """
    if np.all(a > 0) and np.all(b > 0):  # logarithms do not overflow
        return np.exp(lbeta(a, b))
    return _gamma(a) * _gamma(b) / _gamma(a + b)


@beta.derivative("a")
def _(a, b, y):
    return y * (_psi(a) - _psi(a + b))


@beta.derivative("b")
def _(a, b, y):
    return y * (_psi(b) - _psi(a + b))


@special("LBeta", ranges={"a": (0.3, 9.0), "b": (0.3, 9.0)})
def lbeta(a: Array, b: Array) -> Array:
    """log |B(a, b)|.  a, b: float [...], broadcast together -> y: float [...].  dy/da = psi(a) - psi(a + b)."""
    return _lgamma(a) + _lgamma(b) - _lgamma(a + b)


@lbeta.derivative("a")
def _(a, b):
    return _psi(a) - _psi(a + b)


@lbeta.derivative("b")
def _(a, b):
    return _psi(b) - _psi(a + b)


def _gamma_density(a: Array, x: Array) -> Array:
    """x^(a-1) e^-x / Gamma(a): d P(a, x)/dx."""
    return np.exp((a - 1) * np.log(x) - x - _lgamma(a))


_gamma_p = elementary(None, lambda a, x, y: _gamma_density(a, x))(keeps_dtype(sc.gammainc))
_gamma_q = elementary(None, lambda a, x, y: -_gamma_density(a, x))(keeps_dtype(sc.gammaincc))


@special("GammaP", nondiff="a", ranges={"a": (0.5, 5.0), "x": (0.2, 8.0)})
def gamma_p(a: Array, x: Array) -> Array:
    """Regularized lower incomplete gamma function P(a, x).  a, x: float [...] > 0 -> y: float [...].

    dP/dx = x^(a-1) e^-x / Gamma(a); the order ``a`` is not differentiated.  (DLMF 8.2, 8.8)
    """
    return _gamma_p(a, x)


@gamma_p.derivative("x")
def _(a, x):
    return _gamma_density(a, x)


@special("GammaQ", nondiff="a", ranges={"a": (0.5, 5.0), "x": (0.2, 8.0)})
def gamma_q(a: Array, x: Array) -> Array:
    """Regularized upper incomplete gamma function Q = 1 - P.  As `GammaP`, with dQ/dx = -dP/dx."""
    return _gamma_q(a, x)


@gamma_q.derivative("x")
def _(a, x):
    return -_gamma_density(a, x)


OPS = (gamma, lgamma, digamma, trigamma, beta, lbeta, gamma_p, gamma_q)
