"""Ufuncs that are not a table of partials: value-only ones, products, reductions, ``ufunc.at`` and ``outer``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.dual.array import UFUNCS, Dual, level_of, make, top_level, value_at, values_at
from graphrt.dual.elementwise import PARTIALS, lift
from graphrt.errors import NotDifferentiableError

Args = Sequence[Any]
Kwargs = dict[str, Any]

VALUE_ONLY = (
    np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_xor, np.logical_not,
    np.sign, np.signbit, np.floor, np.ceil, np.trunc, np.rint, np.floor_divide, np.spacing,
    np.isnan, np.isinf, np.isfinite,
)  # fmt: skip
"""Piecewise constant: they act on the value and return plain arrays."""

MULTILINEAR = tuple(
    getattr(np, name) for name in ("matmul", "vecdot", "matvec", "vecmat") if hasattr(np, name)
)  # fmt: skip


def value_only(function: Any, args: Args, kwargs: Kwargs, instance: Any = None) -> Any:
    """A function that is piecewise constant: called with the values."""
    level = top_level((args, kwargs))
    return function(*values_at(args, level), **values_at(kwargs, level))


def multilinear(function: Any, args: Args, kwargs: Kwargs, instance: Any = None) -> Any:
    """A product: the tangent is the sum of the products with one factor replaced by its tangent."""
    level = top_level(args)
    xs = values_at(tuple(args), level)
    total: Any = None
    for i, a in enumerate(args):
        if level_of(a) == level:
            term = function(*xs[:i], a.tangent, *xs[i + 1 :], **kwargs)
            total = term if total is None else total + term
    return make(function(*xs, **kwargs), total, level)


def linear(function: Any, args: Args, kwargs: Kwargs, instance: Any = None) -> Any:
    """A function linear in its only dual argument; it may return a list or tuple of arrays."""
    level = top_level((args, kwargs))
    at = [(args, i) for i, a in enumerate(args) if level_of(a) == level]
    named = [k for k, a in kwargs.items() if level_of(a) == level]
    if len(at) + len(named) != 1:
        raise NotDifferentiableError(f"{function.__name__} of several dual arguments has no derivative here")
    values = function(*values_at(tuple(args), level), **values_at(kwargs, level))
    tangents = function(
        *(a.tangent if level_of(a) == level else a for a in args),
        **{k: a.tangent if level_of(a) == level else a for k, a in kwargs.items()},
    )
    return zip_duals(values, tangents, level)


def zip_duals(values: Any, tangents: Any, level: int) -> Any:
    """Pairs arrays, or lists or tuples of arrays, into duals."""
    if isinstance(values, (list, tuple)):
        pairs = (zip_duals(v, t, level) for v, t in zip(values, tangents, strict=True))
        return list(pairs) if isinstance(values, list) else tuple(pairs)
    return make(values, tangents, level)


# ---- single ufuncs --------------------------------------------------------------------------------


def _absolute(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    (x,) = args
    if x.dtype.kind == "c":
        return np.hypot(np.real(x), np.imag(x))
    return lift(ufunc, (lambda x, y: np.sign(x),), args, kwargs)


def _divmod(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    return np.floor_divide(*args, **kwargs), np.remainder(*args, **kwargs)


def _modf(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    whole = np.trunc(args[0])
    return args[0] - whole, whole


def _frexp(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    _, exponent = np.frexp(value_at(args[0], level_of(args[0])))
    return np.ldexp(args[0], -exponent), exponent


def _outer(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    a, b = args
    return ufunc(np.reshape(a, np.shape(a) + (1,) * np.ndim(b)), b, **kwargs)


# ---- reductions -----------------------------------------------------------------------------------


def _add_reduce(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    x, rest = args[0], dict(zip(("axis", "dtype"), args[1:], strict=False))
    return np.sum(x, **{"axis": 0, **rest, **kwargs})


def _multiply_reduce(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    return np.prod(args[0], **{"axis": 0, **dict(zip(("axis", "dtype"), args[1:], strict=False)), **kwargs})


def _maximum_reduce(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    reduce = np.max if ufunc is np.maximum else np.min
    return reduce(args[0], **{"axis": 0, **dict(zip(("axis",), args[1:], strict=False)), **kwargs})


def _logaddexp_reduce(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    x, axis = args[0], kwargs.pop("axis", args[1] if len(args) > 1 else 0)
    keep = kwargs.pop("keepdims", False)
    if kwargs:
        raise NotDifferentiableError(f"np.logaddexp.reduce of dual arrays does not take {', '.join(kwargs)}")
    level = x.level
    y = np.logaddexp.reduce(x.value, axis=axis, keepdims=True)
    with np.errstate(all="ignore"):
        weights = np.exp(x.value - np.where(np.isinf(y), 0, y))
    result = make(y, np.sum(weights * x.tangent, axis=axis, keepdims=True), level)
    return result if keep else np.squeeze(result, axis=axis)


def _accumulate(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> Any:
    x: Dual = args[0]
    axis: int = kwargs["axis"] if "axis" in kwargs else args[1] if len(args) > 1 else 0
    if ufunc is not np.maximum and ufunc is not np.minimum:
        return (np.cumsum if ufunc is np.add else np.cumprod)(x, axis=axis)
    y = ufunc.accumulate(x.value, axis=axis)
    steps = np.reshape(np.arange(x.shape[axis]), [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])
    earlier = np.take(y, np.maximum(np.arange(x.shape[axis]) - 1, 0), axis=axis)
    newer = x.value > earlier if ufunc is np.maximum else x.value < earlier
    source = np.maximum.accumulate(np.where(newer, steps, 0), axis=axis)
    return np.take_along_axis(x, source, axis=axis)


def _at(ufunc: np.ufunc, args: Args, kwargs: Kwargs) -> None:
    buffer, index, x = args
    if not isinstance(buffer, Dual) or level_of(x) > buffer.level:
        raise NotDifferentiableError(
            f"np.{ufunc.__name__}.at cannot add a dual array into a plain one; allocate it with np.zeros(..., like=x)"
        )
    ufunc.at(buffer.value, index, value_at(x, buffer.level))
    if level_of(x) == buffer.level:
        ufunc.at(buffer.tangent, index, x.tangent)


UFUNCS.update({(u, "__call__"): value_only for u in VALUE_ONLY})
UFUNCS.update({(u, "reduce"): value_only for u in VALUE_ONLY})
UFUNCS.update({(u, "__call__"): multilinear for u in MULTILINEAR})
UFUNCS.update({(u, "outer"): _outer for u in (*PARTIALS, *VALUE_ONLY)})
UFUNCS.update({
    (np.absolute, "__call__"): _absolute,
    (np.conjugate, "__call__"): linear,
    (np.divmod, "__call__"): _divmod,
    (np.modf, "__call__"): _modf,
    (np.frexp, "__call__"): _frexp,
    (np.add, "reduce"): _add_reduce,
    (np.add, "reduceat"): lambda u, args, kwargs: linear(u.reduceat, args, kwargs),
    (np.multiply, "reduce"): _multiply_reduce,
    (np.maximum, "reduce"): _maximum_reduce,
    (np.minimum, "reduce"): _maximum_reduce,
    (np.logaddexp, "reduce"): _logaddexp_reduce,
    (np.add, "accumulate"): _accumulate,
    (np.multiply, "accumulate"): _accumulate,
    (np.maximum, "accumulate"): _accumulate,
    (np.minimum, "accumulate"): _accumulate,
    (np.add, "at"): _at,
    (np.subtract, "at"): _at,
})  # fmt: skip
