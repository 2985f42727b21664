"""Bessel functions of orders 0 and 1. Source: DLMF 10.6 and 10.29.

The derivatives of order 1 divide by x; at 0 the rules give the limits (J1'(0) = I1'(0) = 1/2).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special as sc

from graphrt.plugin import Array, elementary
from graphrt_special._define import keeps_dtype, special


def _over(y: Array, x: Array, limit: float) -> Array:
    """y / x, and its limit where x is 0."""
    zero = x == 0
    return np.where(zero, limit, y / np.where(zero, 1, x))


def _pair(f0: Callable[..., Array], f1: Callable[..., Array], sign: float, limit: float):
    """Dual-aware f0 and f1 with f0' = sign f1 and f1' = f0 - f1/x."""

    def second(x: Array, y: Array) -> Array:
        return zero(x) - _over(y, x, limit)

    one = elementary(second)(keeps_dtype(f1))
    zero = elementary(lambda x, y: sign * one(x))(keeps_dtype(f0))
    return zero, one


_j0, _j1 = _pair(sc.j0, sc.j1, -1, 0.5)
_y0, _y1 = _pair(sc.y0, sc.y1, -1, -np.inf)
_i0, _i1 = _pair(sc.i0, sc.i1, 1, 0.5)


def _scaled_slope(x: Array, y: Array) -> Array:
    return _i0e(x) - _over(y, x, 0.5) - np.sign(x) * y


_i1e = elementary(_scaled_slope)(keeps_dtype(sc.i1e))
_i0e = elementary(lambda x, y: _i1e(x) - np.sign(x) * y)(keeps_dtype(sc.i0e))


@special("J0")
def j0(x: Array) -> Array:
    """Bessel function of the first kind, order 0.  x: float [...] -> y: float [...].  dy/dx = -J1(x)."""
    return _j0(x)


@j0.derivative("x")
def _(x):
    return -_j1(x)


@special("J1", kinks=(0.0,))
def j1(x: Array) -> Array:
    """Bessel function of the first kind, order 1.  x: float [...] -> y: float [...].  dy/dx = J0(x) - J1(x)/x."""
    return _j1(x)


@j1.derivative("x")
def _(x, y):
    return _j0(x) - _over(y, x, 0.5)


@special("Y0", ranges={"x": (0.3, 20.0)})
def y0(x: Array) -> Array:
    """Bessel function of the second kind, order 0.  x: float [...] > 0 -> y: float [...].  dy/dx = -Y1(x)."""
    return _y0(x)


@y0.derivative("x")
def _(x):
    return -_y1(x)


@special("Y1", ranges={"x": (0.3, 20.0)})
def y1(x: Array) -> Array:
    """Bessel function of the second kind, order 1.  x: float [...] > 0 -> y: float [...].  dy/dx = Y0(x) - y/x."""
    return _y1(x)


@y1.derivative("x")
def _(x, y):
    return _y0(x) - y / x


@special("I0", ranges={"x": (-5.0, 5.0)})
def i0(x: Array) -> Array:
    """Modified Bessel function of the first kind, order 0.  x: float [...] -> y: float [...].  dy/dx = I1(x)."""
    return _i0(x)


@i0.derivative("x")
def _(x):
    return _i1(x)


@special("I1", ranges={"x": (-5.0, 5.0)}, kinks=(0.0,))
def i1(x: Array) -> Array:
    """Modified Bessel function of the first kind, order 1.  x: float [...] -> y: float [...].  dy/dx = I0(x) - y/x."""
    return _i1(x)


@i1.derivative("x")
def _(x, y):
    return _i0(x) - _over(y, x, 0.5)


@special("I0e", kinks=(0.0,))
def i0e(x: Array) -> Array:
    """e^-|x| I0(x), without overflow.  x: float [...] -> y: float [...].  dy/dx = I1e(x) - sign(x) y; 0 at 0."""
    return _i0e(x)


@i0e.derivative("x")
def _(x, y):
    return _i1e(x) - np.sign(x) * y


@special("I1e", kinks=(0.0,))
def i1e(x: Array) -> Array:
    """e^-|x| I1(x), without overflow.  x: float [...] -> y: float [...].

    dy/dx = I0e(x) - y/x - sign(x) y; 1/2 at 0.
    """
    return _i1e(x)


@i1e.derivative("x")
def _(x, y):
    return _scaled_slope(x, y)


OPS = (j0, j1, y0, y1, i0, i1, i0e, i1e)
