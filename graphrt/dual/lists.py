"""Values that are not a single array: sequences (lists of arrays) and empty optionals (None), with their derivatives.

A cotangent or tangent has the form of its value: a list of the same length for a list. None, in place of any array
or of the whole, stands for zeros.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.dual import Dual, tangent_of


def add(a: Any, b: Any) -> Any:
    """The sum of two tangents or cotangents of one value.

    >>> add([np.ones(2), None], [np.ones(2), np.ones(1)])
    [array([2., 2.]), array([1.])]
    """
    if a is None or b is None:
        return b if a is None else a
    if isinstance(a, list):
        return [add(x, y) for x, y in zip(a, b, strict=True)]
    return a + b


def zeros(x: Any) -> Any:
    """Zeros of the form of a value; ``""`` for strings, None for None."""
    if x is None or isinstance(x, list):
        return x if x is None else [zeros(e) for e in x]
    return np.full(x.shape, "", object) if x.dtype == object else np.zeros(x.shape, x.dtype)


def tangent_or_zeros(dot: Any, x: Any) -> Any:
    """A tangent (or cotangent) without None: zeros wherever ``x`` has an array and ``dot`` has nothing."""
    if isinstance(x, list):
        dots = [None] * len(x) if dot is None else dot
        return [tangent_or_zeros(d, e) for d, e in zip(dots, x, strict=True)]
    return dot if dot is not None or x is None else np.zeros(x.shape, x.dtype)


def dual(x: Any, dot: Any, level: int) -> Any:
    """A value with its tangent; the value itself where there is none."""
    if dot is None:
        return x
    if isinstance(x, list):
        return [dual(e, d, level) for e, d in zip(x, dot, strict=True)]
    return Dual(x, dot, level)


def tangent(x: Any, level: int) -> Any:
    """The tangent in every array of a value, zeros where it has none; None for None."""
    if x is None or isinstance(x, list):
        return x if x is None else [tangent(e, level) for e in x]
    return tangent_of(x, level)
