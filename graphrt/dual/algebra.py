"""Sums, products, statistics and linear algebra by composition."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.dual.array import FUNCTIONS, level_of, make, top_level, values_at
from graphrt.dual.functions import Args, Kwargs, implements, joint_tangent
from graphrt.dual.selection import flatten_axes, restore_axes
from graphrt.dual.ufuncs import linear
from graphrt.errors import NotDifferentiableError


def _sum(function: Any, args: Args, kwargs: Kwargs, instance: Any) -> Any:
    kwargs = dict(kwargs)
    initial = kwargs.pop("initial", np._NoValue)
    total = linear(function, args, kwargs)
    return total if initial is np._NoValue else total + initial


FUNCTIONS[np.sum] = _sum


@implements(np.nansum)
def _nansum(a: Any, axis: Any = None, **kwargs: Any) -> Any:
    return np.sum(np.where(np.isnan(a), 0, a), axis=axis, **kwargs)


@implements(np.average)
def _average(a: Any, axis: Any = None, weights: Any = None) -> Any:
    return np.mean(a, axis) if weights is None else np.sum(a * weights, axis) / np.sum(weights + a * 0, axis)


@implements(np.var)
def _var(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, ddof: float = 0, keepdims: bool = False, *,
    correction: Any = np._NoValue,
) -> Any:  # fmt: skip
    a = a if dtype is None else a.astype(dtype)
    axis = tuple(range(a.ndim)) if axis is None else axis
    centered = a - np.mean(a, axis=axis, keepdims=True)
    if a.dtype.kind == "c":
        centered = np.absolute(centered)
    count = int(np.prod([a.shape[i] for i in (axis if isinstance(axis, tuple) else (axis,))], dtype=int))
    lost = ddof if correction is np._NoValue else correction
    return np.sum(centered * centered, axis=axis, keepdims=bool(keepdims)) / (count - lost)


@implements(np.std)
def _std(a: Any, *args: Any, **kwargs: Any) -> Any:
    variance = np.var(a, *args, **kwargs)
    flat = variance == 0  # a constant sample: the convention is a zero slope
    return np.where(flat, 0, np.sqrt(np.where(flat, 1, variance))) if np.any(flat) else np.sqrt(variance)


def _others_product(x: Any) -> Any:
    """The product along the last axis without the element itself; exact where elements are zero."""
    one = np.ones_like(x[..., :1])
    before = np.cumprod(np.concatenate([one, x[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([one, x[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    return before * after


@implements(np.prod)
def _prod(
    a: Any, axis: Any = None, dtype: Any = None, out: None = None, keepdims: Any = False, initial: Any = 1,
    where: Any = True,
) -> Any:  # fmt: skip
    a = a if dtype is None else a.astype(dtype)
    a = a if where is True or where is np._NoValue else np.where(where, a, 1)
    flat, axes = flatten_axes(a, axis)
    slope = np.sum(_others_product(flat.value) * flat.tangent, axis=-1) if flat.shape[-1] else np.sum(flat.tangent, -1)
    result = make(np.prod(flat.value, axis=-1), slope, flat.level)
    result = restore_axes(result, a.ndim, axes, bool(keepdims) and keepdims is not np._NoValue)
    return result if initial is np._NoValue or initial == 1 else result * initial


@implements(np.cumprod, *([np.cumulative_prod] if hasattr(np, "cumulative_prod") else []))
def _cumprod(a: Any, axis: int | None = None, dtype: Any = None) -> Any:
    """By the recurrence p' = p' x + p x', one step per element of the axis: exact at zeros."""
    a = np.moveaxis(a if dtype is None else a.astype(dtype), axis, 0) if axis is not None else np.ravel(a)
    value = np.cumprod(a.value, axis=0)
    tangent = np.copy(a.tangent)
    for i in range(1, a.shape[0]):
        tangent[i] = tangent[i - 1] * a.value[i] + value[i - 1] * a.tangent[i]
    result: Any = make(value, tangent, a.level)
    return np.moveaxis(result, 0, 0 if axis is None else axis)


@implements(np.logspace, np.geomspace, np.interp, np.histogram)
def _unsupported(*args: Any, **kwargs: Any) -> Any:
    raise NotDifferentiableError("np.logspace, np.geomspace, np.interp and np.histogram are not known to dual arrays")


@implements(np.linspace)
def _linspace(start: Any, stop: Any, num: int = 50, endpoint: bool = True) -> Any:
    dtype = np.result_type(start, stop, 0.0)
    grid = np.linspace(0.0, 1.0, num, endpoint, dtype=dtype)
    steps = np.reshape(grid, (-1,) + (1,) * max(np.ndim(start), np.ndim(stop)))
    return start * (1 - steps) + stop * steps


@implements(np.angle)
def _angle(z: Any, deg: bool = False) -> Any:
    turned = np.arctan2(np.imag(z), np.real(z))
    return np.degrees(turned) if deg else turned


@implements(np.pad)
def _pad(array: Any, pad_width: Any, mode: Any = "constant", **kwargs: Any) -> Any:
    if not isinstance(mode, str) or mode in ("maximum", "minimum", "median", "empty", "linear_ramp"):
        raise NotDifferentiableError(f"np.pad(mode={mode!r}) has no derivative for dual arrays")
    if top_level(kwargs):
        raise NotDifferentiableError("np.pad with dual constant_values has no derivative; fill the border afterwards")
    pad: Any = np.pad
    value = pad(array.value, pad_width, mode, **kwargs)
    rest = {k: v for k, v in kwargs.items() if k != "constant_values"}
    return make(value, pad(array.tangent, pad_width, mode, **rest), array.level)


# ---- linear algebra -------------------------------------------------------------------------------


@implements(np.linalg.inv)
def _inv(a: Any) -> Any:
    y = np.linalg.inv(a.value)
    return make(y, -(y @ a.tangent @ y), a.level)


@implements(np.linalg.solve)
def _solve(a: Any, b: Any) -> Any:
    level = top_level((a, b))
    av, bv = values_at((a, b), level)
    y = np.linalg.solve(av, bv)
    right = joint_tangent(b, level)
    if level_of(a) == level:
        right = right - (a.tangent @ y)
    return make(y, np.linalg.solve(av, right), level)


def _trace_of_solve(a: Any) -> Any:
    return np.trace(np.linalg.solve(a.value, a.tangent), axis1=-2, axis2=-1)


@implements(np.linalg.det)
def _det(a: Any) -> Any:
    y = np.linalg.det(a.value)
    return make(y, y * _trace_of_solve(a), a.level)


@implements(np.linalg.slogdet)
def _slogdet(a: Any) -> Any:
    sign, log = np.linalg.slogdet(a.value)
    return sign, make(log, _trace_of_solve(a), a.level)


@implements(np.linalg.norm, np.linalg.vector_norm)
def _norm(x: Any, ord: Any = None, axis: Any = None, keepdims: bool = False) -> Any:
    if ord is None or (ord == 2 and (isinstance(axis, int) or x.ndim == 1)):
        return np.sqrt(np.sum(np.square(np.absolute(x)), axis=axis, keepdims=keepdims))
    if ord in (1, np.inf) and (isinstance(axis, int) or x.ndim == 1):
        return (np.sum if ord == 1 else np.max)(np.absolute(x), axis=axis, keepdims=keepdims)
    raise NotDifferentiableError(f"np.linalg.norm(ord={ord!r}, axis={axis!r}) has no derivative for dual arrays")
