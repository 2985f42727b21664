"""Error functions and the normal distribution. Source: DLMF ch. 7; inverse rules by the inverse function theorem."""

from __future__ import annotations

import numpy as np
from scipy import special as sc

from graphrt.plugin import Array, elementary
from graphrt_special._define import keeps_dtype, special

_TWO_OVER_ROOT_PI = 2 / np.sqrt(np.pi).item()
_ROOT_TWO_PI = np.sqrt(2 * np.pi).item()

_erfc = elementary(lambda x, y: -_TWO_OVER_ROOT_PI * np.exp(-x * x))(keeps_dtype(sc.erfc))
_erfcx = elementary(lambda x, y: 2 * x * y - _TWO_OVER_ROOT_PI)(keeps_dtype(sc.erfcx))
_erfinv = elementary(lambda x, y: np.exp(y * y) / _TWO_OVER_ROOT_PI)(keeps_dtype(sc.erfinv))
_erfcinv = elementary(lambda x, y: -np.exp(y * y) / _TWO_OVER_ROOT_PI)(keeps_dtype(sc.erfcinv))
_ndtr = elementary(lambda x, y: np.exp(-x * x / 2) / _ROOT_TWO_PI)(keeps_dtype(sc.ndtr))
_log_ndtr = elementary(lambda x, y: np.exp(-x * x / 2 - y) / _ROOT_TWO_PI)(keeps_dtype(sc.log_ndtr))
_ndtri = elementary(lambda x, y: _ROOT_TWO_PI * np.exp(y * y / 2))(keeps_dtype(sc.ndtri))


@special("Erfc")
def erfc(x: Array) -> Array:
    """1 - erf(x).  x: float [...] -> y: float [...].  dy/dx = -2/sqrt(pi) e^(-x^2)."""
    return _erfc(x)


@erfc.derivative("x")
def _(x):
    return -_TWO_OVER_ROOT_PI * np.exp(-x * x)


@special("Erfcx", ranges={"x": (-2.0, 20.0)})
def erfcx(x: Array) -> Array:
    """e^(x^2) erfc(x), without overflow for x > 0.  x: float [...] -> y: float [...].  dy/dx = 2 x y - 2/sqrt(pi)."""
    return _erfcx(x)


@erfcx.derivative("x")
def _(x, y):
    return 2 * x * y - _TWO_OVER_ROOT_PI


@special("ErfInv", ranges={"x": (-0.95, 0.95)})
def erfinv(x: Array) -> Array:
    """The inverse of erf.  x: float [...] in (-1, 1) -> y: float [...].  dy/dx = sqrt(pi)/2 e^(y^2)."""
    return _erfinv(x)


@erfinv.derivative("x")
def _(y):
    return np.exp(y * y) / _TWO_OVER_ROOT_PI


@special("ErfcInv", ranges={"x": (0.05, 1.95)})
def erfcinv(x: Array) -> Array:
    """The inverse of erfc.  x: float [...] in (0, 2) -> y: float [...].  dy/dx = -sqrt(pi)/2 e^(y^2)."""
    return _erfcinv(x)


@erfcinv.derivative("x")
def _(y):
    return -np.exp(y * y) / _TWO_OVER_ROOT_PI


@special("NormalCdf")
def normal_cdf(x: Array) -> Array:
    """The standard normal distribution function.  x: float [...] -> y: float [...].  dy/dx = e^(-x^2/2)/sqrt(2 pi)."""
    return _ndtr(x)


@normal_cdf.derivative("x")
def _(x):
    return np.exp(-x * x / 2) / _ROOT_TWO_PI


@special("LogNormalCdf", ranges={"x": (-20.0, 5.0)})
def log_normal_cdf(x: Array) -> Array:
    """The logarithm of NormalCdf, exact far into the left tail.  x: float [...] -> y: float [...].

    dy/dx = e^(-x^2/2 - y) / sqrt(2 pi).
    """
    return _log_ndtr(x)


@log_normal_cdf.derivative("x")
def _(x, y):
    return np.exp(-x * x / 2 - y) / _ROOT_TWO_PI


@special("Probit", ranges={"x": (0.03, 0.97)})
def probit(x: Array) -> Array:
    """The inverse of NormalCdf.  x: float [...] in (0, 1) -> y: float [...].  dy/dx = sqrt(2 pi) e^(y^2/2)."""
    return _ndtri(x)


@probit.derivative("x")
def _(y):
    return _ROOT_TWO_PI * np.exp(y * y / 2)


OPS = (erfc, erfcx, erfinv, erfcinv, normal_cdf, log_normal_cdf, probit)
