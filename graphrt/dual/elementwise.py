"""Elementwise functions with partial derivatives: NumPy's own ufuncs in a table, anybody's by `elementary`.

A partial is a function of the inputs and the output, ``p(x1, ..., xn, y)``, itself written in NumPy: at higher
levels it runs on dual arrays.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphrt.dual.array import UFUNCS, Dual, is_inexact, level_of, make, top_level, value_at
from graphrt.errors import NotDifferentiableError

Partial: TypeAlias = Callable[..., Any] | None
_LN2, _LN10 = float(np.log(2.0)), float(np.log(10.0))


def lift(function: Callable[..., Any], partials: Sequence[Partial], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """An elementwise function of arrays of which some are dual."""
    level = top_level(args)
    xs = [value_at(a, level) for a in args]
    y = function(*xs, **kwargs)
    y = y if hasattr(y, "dtype") else np.asarray(y)
    if not is_inexact(y.dtype):
        return y
    total: Any = None
    with np.errstate(all="ignore"):  # at a pole the value has spoken; the tangent follows IEEE silently
        for i, a in enumerate(args):
            if level_of(a) != level:
                continue
            partial = partials[i] if i < len(partials) else None
            if partial is None:
                raise NotDifferentiableError(f"{function.__name__} has no derivative for its argument number {i + 1}")
            term = a.tangent * partial(*xs, y)
            total = term if total is None else total + term
    return make(y, total, level)


def elementary(*partials: Partial) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: makes an elementwise function of arrays known to dual arrays.

    Args:
        *partials: one per positional argument, called with all arguments and the output; None (or none given)
            for an argument that carries no derivative.

    >>> import math
    >>> erf = elementary(lambda x, y: 2 / np.sqrt(np.pi) * np.exp(-x * x))(np.vectorize(math.erf))
    >>> erf(Dual(0.0, 1.0))
    Dual(0, tangent=1.12838)
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = getattr(function, "__name__", type(function).__name__)

        def call(*args: Any, **kwargs: Any) -> Any:
            if not any(isinstance(a, Dual) for a in args):
                return function(*args, **kwargs)
            return lift(call, partials, args, kwargs)

        functools.update_wrapper(call, function)
        call.__name__ = name
        return call

    return decorate


def _one(*_: Any) -> float:
    return 1


def _zero(*_: Any) -> float:
    return 0


def _power_base(x: Any, p: Any, y: Any) -> Any:
    return np.where(p == 0, 0, p * np.power(x, np.where(p == 0, 1, p - 1)))


def _power_exponent(x: Any, p: Any, y: Any) -> Any:
    return y * np.log(np.where(x == 0, 1, x))  # 0**p is flat in p > 0


def _zero_at_zero(numerator: Any, y: Any) -> Any:
    return numerator / np.where(y == 0, 1, y)


PARTIALS: dict[np.ufunc, tuple[Partial, ...]] = {
    np.add: (_one, _one),
    np.subtract: (_one, lambda a, b, y: -1),
    np.multiply: (lambda a, b, y: b, lambda a, b, y: a),
    np.divide: (lambda a, b, y: 1 / b, lambda a, b, y: -y / b),
    np.negative: (lambda x, y: -1,),
    np.positive: (_one,),
    np.fabs: (lambda x, y: np.sign(x),),
    np.square: (lambda x, y: 2 * x,),
    np.reciprocal: (lambda x, y: -y * y,),
    np.sqrt: (lambda x, y: 0.5 / y,),
    np.cbrt: (lambda x, y: 1 / (3 * y * y),),
    np.power: (_power_base, _power_exponent),
    np.float_power: (_power_base, _power_exponent),
    np.exp: (lambda x, y: y,),
    np.exp2: (lambda x, y: _LN2 * y,),
    np.expm1: (lambda x, y: np.exp(x),),
    np.log: (lambda x, y: 1 / x,),
    np.log2: (lambda x, y: 1 / (_LN2 * x),),
    np.log10: (lambda x, y: 1 / (_LN10 * x),),
    np.log1p: (lambda x, y: 1 / (1 + x),),
    np.logaddexp: (lambda a, b, y: np.exp(a - y), lambda a, b, y: np.exp(b - y)),
    np.logaddexp2: (lambda a, b, y: np.exp2(a - y), lambda a, b, y: np.exp2(b - y)),
    np.sin: (lambda x, y: np.cos(x),),
    np.cos: (lambda x, y: -np.sin(x),),
    np.tan: (lambda x, y: 1 + y * y,),
    np.arcsin: (lambda x, y: 1 / np.sqrt((1 - x) * (1 + x)),),
    np.arccos: (lambda x, y: -1 / np.sqrt((1 - x) * (1 + x)),),
    np.arctan: (lambda x, y: 1 / (1 + x * x),),
    np.arctan2: (lambda a, b, y: b / (a * a + b * b), lambda a, b, y: -a / (a * a + b * b)),
    np.hypot: (lambda a, b, y: _zero_at_zero(a, y), lambda a, b, y: _zero_at_zero(b, y)),
    np.sinh: (lambda x, y: np.cosh(x),),
    np.cosh: (lambda x, y: np.sinh(x),),
    np.tanh: (lambda x, y: 1 - y * y,),
    np.arcsinh: (lambda x, y: 1 / np.hypot(x, 1),),
    np.arccosh: (lambda x, y: 1 / np.sqrt((x - 1) * (x + 1)),),
    np.arctanh: (lambda x, y: 1 / ((1 - x) * (1 + x)),),
    np.maximum: (lambda a, b, y: a >= b, lambda a, b, y: ~(a >= b)),  # equals: the first takes it
    np.minimum: (lambda a, b, y: a <= b, lambda a, b, y: ~(a <= b)),
    np.fmax: (lambda a, b, y: (a >= b) | np.isnan(b), lambda a, b, y: ~((a >= b) | np.isnan(b))),
    np.fmin: (lambda a, b, y: (a <= b) | np.isnan(b), lambda a, b, y: ~((a <= b) | np.isnan(b))),
    np.fmod: (_one, lambda a, b, y: -np.trunc(a / b)),
    np.remainder: (_one, lambda a, b, y: -np.floor(a / b)),
    np.copysign: (lambda a, b, y: np.where(np.signbit(a) == np.signbit(b), 1, -1), _zero),
    np.heaviside: (_zero, lambda a, b, y: a == 0),
    np.ldexp: (lambda x, n, y: np.ldexp(np.ones((), x.dtype), n), None),
    np.deg2rad: (lambda x, y: float(np.pi / 180),),
    np.radians: (lambda x, y: float(np.pi / 180),),
    np.rad2deg: (lambda x, y: float(180 / np.pi),),
    np.degrees: (lambda x, y: float(180 / np.pi),),
}
"""Ufunc to partial derivatives, as functions of inputs and output."""


def _call(ufunc: np.ufunc, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    return lift(ufunc, PARTIALS[ufunc], args, kwargs)


UFUNCS.update({(ufunc, "__call__"): _call for ufunc in PARTIALS})
