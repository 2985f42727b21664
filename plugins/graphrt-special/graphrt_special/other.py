"""Integrals, sinc, Lambert's W, and logarithmic forms that are finite at 0. Source: DLMF 4.13, 6.2, 25.12."""

from __future__ import annotations

import numpy as np
from scipy import special as sc

from graphrt.plugin import Array, elementary
from graphrt_special._define import keeps_dtype, special


def _spence_slope(x: Array) -> Array:
    at_one = x == 1
    return np.where(at_one, -1.0, np.log(x) / np.where(at_one, 1, 1 - x))


_expi = elementary(lambda x, y: np.exp(x) / x)(keeps_dtype(sc.expi))
_spence = elementary(lambda x, y: _spence_slope(x))(keeps_dtype(sc.spence))
_lambertw = elementary(lambda x, y: np.exp(-y) / (1 + y))(keeps_dtype(lambda x: np.real(sc.lambertw(x))))


@special("Expi", ranges={"x": (0.2, 5.0)})
def expi(x: Array) -> Array:
    """The exponential integral Ei(x).  x: float [...], not 0 -> y: float [...].  dy/dx = e^x / x."""
    return _expi(x)


@expi.derivative("x")
def _(x):
    return np.exp(x) / x


@special("Sinc", kinks=(0.0,))
def sinc(x: Array) -> Array:
    """sin(pi x) / (pi x), 1 at 0.  x: float [...] -> y: float [...].  dy/dx = (cos(pi x) - y) / x; 0 at 0."""
    return np.sinc(x)


@sinc.derivative("x")
def _(x, y):
    zero = x == 0
    return np.where(zero, 0, (np.cos(np.pi * x) - y) / np.where(zero, 1, x)).astype(x.dtype)


@special("Spence", ranges={"x": (0.1, 5.0)}, kinks=(1.0,))
def spence(x: Array) -> Array:
    """The dilogarithm Li2(1 - x).  x: float [...] > 0 -> y: float [...].  dy/dx = log(x)/(1 - x); -1 at 1."""
    return _spence(x)


@spence.derivative("x")
def _(x):
    return _spence_slope(x).astype(x.dtype)


@special("LambertW", ranges={"x": (-0.3, 10.0)})
def lambert_w(x: Array) -> Array:
    """The principal branch of W e^W = x.  x: float [...] > -1/e -> y: float [...].  dy/dx = e^-y / (1 + y)."""
    return _lambertw(x)


@lambert_w.derivative("x")
def _(y):
    return np.exp(-y) / (1 + y)


def _log_where_needed(x: Array, y: Array) -> Array:
    return np.log(np.where(x == 0, 1, y))


@special("XLogY", ranges={"x": (0.1, 3.0), "y": (0.1, 3.0)}, outputs="z")
def xlogy(x: Array, y: Array) -> Array:
    """x log(y), 0 where x = 0.  x, y: float [...], broadcast together -> z: float [...].

    dz/dx = log(y), dz/dy = x/y; where x = 0 both count as 0.
    """
    return x * _log_where_needed(x, y)


@xlogy.derivative("x")
def _(x, y):
    return _log_where_needed(x, y)


@xlogy.derivative("y")
def _(x, y):
    return x / np.where(x == 0, 1, y)


@special("Entropy", ranges={"x": (0.05, 3.0)})
def entropy(x: Array) -> Array:
    """-x log(x), 0 at 0.  x: float [...] >= 0 -> y: float [...].  dy/dx = -log(x) - 1 (0 counts at x = 0)."""
    return -x * _log_where_needed(x, x)


@entropy.derivative("x")
def _(x):
    return np.where(x == 0, 0, -_log_where_needed(x, x) - 1).astype(x.dtype)


OPS = (expi, sinc, spence, lambert_w, xlogy, entropy)
