"""Making dual arrays with ``like=`` and writing into them."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.dual.array import FUNCTIONS, Dual, is_inexact, level_of, make, top_level, values_at
from graphrt.dual.functions import Args, Kwargs, implements, joint_tangent
from graphrt.errors import NotDifferentiableError


def _constant(value: Any, level: int) -> Any:
    return make(value, np.zeros_like(value), level) if is_inexact(value.dtype) else value


def _make_like(function: Any, args: Args, kwargs: Kwargs, instance: Dual) -> Any:
    """``np.zeros(shape, dtype, like=dual)`` and its kin: a constant dual, ready to be filled."""
    level = max(instance.level, top_level((args, kwargs)))
    inner = instance.value if instance.level == level else instance
    inner = inner if isinstance(inner, Dual) else None  # like=None makes a plain array
    if function in (np.array, np.asarray, np.ascontiguousarray, np.asfortranarray, np.asanyarray):
        return _array(args[0], level, inner, function, args[1:], kwargs)
    if top_level((args, kwargs)):
        raise NotDifferentiableError(f"np.{function.__name__}(like=) with dual arguments: fill the array afterwards")
    return _constant(function(*args, **kwargs, like=inner), level)


def _array(x: Any, level: int, inner: Any, function: Any, rest: Args, kwargs: Kwargs) -> Any:
    if isinstance(x, (list, tuple)) and top_level(x):
        return np.stack([_array(e, level, inner, np.array, rest, kwargs) for e in x])
    if level_of(x) < level:
        return _constant(function(x, *rest, **kwargs, like=inner), level)
    value = function(x.value, *rest, **kwargs, like=inner)
    if not is_inexact(value.dtype):
        return value
    return make(value, function(x.tangent, *rest, **kwargs, like=inner), level)


_MAKERS: tuple[Any, ...] = (
    np.arange, np.array, np.asanyarray, np.asarray, np.ascontiguousarray, np.asfortranarray, np.empty, np.eye,
    np.full, np.identity, np.ones, np.tri, np.zeros,
)  # fmt: skip
FUNCTIONS.update(dict.fromkeys(_MAKERS, _make_like))


def _like_of(function: Any, args: Args, kwargs: Kwargs, instance: Dual) -> Any:
    level = instance.level
    return _constant(function(*values_at(tuple(args), level), **values_at(kwargs, level)), level)


FUNCTIONS.update({np.zeros_like: _like_of, np.ones_like: _like_of, np.empty_like: _like_of})


@implements(np.full_like)
def _full_like(a: Any, fill_value: Any, dtype: Any = None, **kwargs: Any) -> Any:
    out = np.zeros_like(a, dtype, **kwargs)
    out[...] = fill_value
    return out


# ---- writing into arrays --------------------------------------------------------------------------


def _require_dual(name: str, target: Any, source: Any) -> None:
    if level_of(source) > level_of(target):
        raise NotDifferentiableError(
            f"np.{name} cannot write a dual array into a plain one; allocate it like= the dual"
        )


@implements(np.put_along_axis)
def _put_along_axis(arr: Any, indices: Any, values: Any, axis: Any, **kwargs: Any) -> None:
    _require_dual("put_along_axis", arr, values)
    np.put_along_axis(arr.value, indices, values_at(values, arr.level), axis, **kwargs)
    np.put_along_axis(arr.tangent, indices, joint_tangent(values, arr.level), axis, **kwargs)


@implements(np.fill_diagonal)
def _fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    _require_dual("fill_diagonal", a, val)
    np.fill_diagonal(a.value, values_at(val, a.level), wrap)
    np.fill_diagonal(a.tangent, joint_tangent(val, a.level), wrap)


@implements(np.copyto)
def _copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    _require_dual("copyto", dst, src)
    dst[...] = src if where is True else np.where(where, src, dst)
