"""Standardization, the step that the normalization ops share: xhat = (x - mean) / sqrt(variance + epsilon).

Its Jacobian is symmetric, so that one function serves both derivative directions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from graphrt.op import Array
from graphrt.types import numpy_dtype

Ints: TypeAlias = tuple[int, ...]

_STASH = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}


class Standardized(NamedTuple):
    """What `standardize` yields; ``mean``, ``var`` and ``inv`` = 1/sqrt(var + epsilon) keep the reduced axes as 1."""

    xhat: Array
    mean: Array
    var: Array
    inv: Array


def mean_over(x: Array, axes: Ints) -> Array:
    """Mean with kept axes; 0 over nothing."""
    count = max(math.prod(x.shape[a] for a in axes), 1)
    return np.sum(x, axis=axes, keepdims=True) / count


def standardize(x: Array, axes: Ints, epsilon: float) -> Standardized:
    """Zero mean and unit variance over ``axes``; two passes, so that a large mean costs no digits."""
    mean = mean_over(x, axes)
    centered = x - mean
    var = mean_over(centered * centered, axes)
    inv = 1 / np.sqrt(var + epsilon)
    return Standardized(centered * inv, mean, var, inv)


def standardize_tangent(v: Array, xhat: Array, inv: Array, axes: Ints) -> Array:
    """The Jacobian of xhat (or its transpose, which equals it) times v: inv (v - <v> - xhat <v xhat>)."""
    return inv * (v - mean_over(v, axes) - xhat * mean_over(v * xhat, axes))


def stash_name(stash_type: int) -> str:
    """The name of the float type that ``stash_type``, an ONNX element type number, stands for."""
    if stash_type not in _STASH:
        raise ValueError(f"stash_type {stash_type} is no float type; there are {_STASH}")
    return _STASH[stash_type]


def stash_dtype(dtype: Any, stash_type: int) -> Any:
    """The dtype to compute statistics in: ``stash_type``'s, or x's if that is wider."""
    stash = numpy_dtype(stash_name(stash_type))
    if dtype != stash and dtype.itemsize == stash.itemsize == 2:
        return np.dtype(np.float32)  # neither of float16 and bfloat16 holds the other
    return np.promote_types(dtype, stash)
