"""Choosing elements: where, clip, maxima, sorting. Ties: the first takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.dual.array import Dual, level_of, make, top_level, values_at
from graphrt.dual.functions import implements, joint_tangent


@implements(np.where)
def _where(condition: Any, *branches: Any) -> Any:
    condition = values_at(condition, level_of(condition)) if isinstance(condition, Dual) else condition
    if not branches:
        return np.where(condition)
    level = top_level(branches)
    if not level:
        return np.where(condition, *branches)
    value = np.where(condition, *values_at(branches, level))
    return make(value, np.where(condition, *(joint_tangent(b, level) for b in branches)), level)


@implements(np.clip)
def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Any:
    low, high = a_min if min is None else min, a_max if max is None else max
    raised = a if low is None else np.maximum(a, low)
    return +raised if high is None else np.minimum(raised, high)


def flatten_axes(x: Any, axis: Any) -> tuple[Any, tuple[int, ...]]:
    """``x`` with the reduced axes moved last and merged, and which axes those were."""
    axes = tuple(range(x.ndim)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    axes = tuple(sorted(int(a) % max(x.ndim, 1) for a in axes))
    kept = tuple(i for i in range(x.ndim) if i not in axes)
    count = int(np.prod([x.shape[i] for i in axes], dtype=int))
    return np.reshape(np.transpose(x, kept + axes), (*(x.shape[i] for i in kept), count)), axes


def restore_axes(y: Any, ndim: int, axes: tuple[int, ...], keepdims: bool) -> Any:
    """A reduction's result with the reduced axes put back as axes of length 1, where they are to be kept."""
    return np.expand_dims(y, axes) if keepdims and axes else y


def _extreme(argument: Any, bound: Any) -> Callable[..., Any]:
    def reduce(
        a: Any, axis: Any = None, out: None = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        initial = None if initial is np._NoValue else initial
        if where is not True and where is not np._NoValue:
            a = np.where(where, a, initial)
        flat, axes = flatten_axes(a, axis)
        if flat.shape[-1] == 0 and initial is not None:
            chosen: Any = np.full_like(np.zeros_like(flat.sum(axis=-1)), initial)
        else:
            index = argument(flat.value, axis=-1)
            chosen = np.take_along_axis(flat, np.expand_dims(index, -1), axis=-1)[..., 0]
            chosen = chosen if initial is None else bound(chosen, initial)
        return restore_axes(chosen, a.ndim, axes, bool(keepdims) and keepdims is not np._NoValue)

    return reduce


implements(np.max, np.amax)(_extreme(np.argmax, np.maximum))
implements(np.min, np.amin)(_extreme(np.argmin, np.minimum))


@implements(np.sort)
def _sort(a: Any, axis: Any = -1, **kwargs: Any) -> Any:
    a, axis = (np.ravel(a), 0) if axis is None else (a, axis)
    return np.take_along_axis(a, np.argsort(a.value, axis=axis, **kwargs), axis=axis)


@implements(np.partition)
def _partition(a: Any, kth: Any, axis: int = -1) -> Any:
    return np.take_along_axis(a, np.argpartition(a.value, kth, axis=axis), axis=axis)


@implements(np.median)
def _median(a: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    flat, axes = flatten_axes(a, axis)
    n = flat.shape[-1]
    middle = np.mean(np.sort(flat, axis=-1)[..., (n - 1) // 2 : n // 2 + 1], axis=-1)
    return restore_axes(middle, a.ndim, axes, keepdims)


@implements(np.unique)
def _unique(ar: Any, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False,
            axis: int | None = None, **kwargs: Any) -> Any:  # fmt: skip
    unique: Any = np.unique
    found = unique(ar.value, True, return_inverse, return_counts, axis, **kwargs)
    chosen = np.ravel(ar)[found[1]] if axis is None else np.take(ar, found[1], axis=axis)
    result = (chosen, *found[1 if return_index else 2 :])
    return result if len(result) > 1 else chosen


@implements(np.nan_to_num)
def _nan_to_num(x: Any, copy: bool = True, nan: Any = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    value = np.nan_to_num(x.value, nan=nan, posinf=posinf, neginf=neginf)
    return make(value, np.where(np.isfinite(x.value), x.tangent, 0), x.level)
