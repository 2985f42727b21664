"""What the families of ai.onnx.ml share: the domain, the float type of their results, score transforms.

The domain's float results are float32 whatever the input (the schema says so); float64 inputs are computed in
float64 and rounded once at the end.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np

from graphrt.plugin import Array, TensorType, elementary, op

DOMAIN = "ai.onnx.ml"

ml = partial(op, domain=DOMAIN)
"""The decorator of every op of the domain."""

quiet = partial(np.errstate, all="ignore")
"""``with quiet():`` lets infinities and NaN follow IEEE 754 without a warning."""


def working(x: Array) -> Array:
    """The array in the dtype to compute in: float64 stays, everything else becomes float32."""
    return x if x.dtype in (np.float32, np.float64) else x.astype(np.float32)


def working_dtype(x_like: Array) -> np.dtype[Any]:
    """The dtype of `working` of an array."""
    return np.dtype(np.float64 if x_like.dtype == np.float64 else np.float32)


def result(x: Array) -> Array:
    """The array in the domain's result type, float32."""
    with quiet():  # beyond the range of float32 is infinity
        return x.astype(np.float32, copy=False)


def back(ct: Array, x_like: Array) -> Array:
    """A cotangent in the dtype of what it belongs to."""
    with quiet():
        return ct.astype(x_like.dtype, copy=False)


def constants(values: Any, dtype: Any) -> Array:
    """A list attribute as an array."""
    return np.asarray(values, dtype)


def given(*attributes: Any) -> Any:
    """The first attribute that is present and not empty; None when there is none."""
    return next((a for a in attributes if a is not None and len(a)), None)


def rows_of(x: Array) -> Array:
    """[N, F]; a vector is one row."""
    if x.ndim not in (1, 2):
        raise ValueError(f"x is [N, F], or one row [F]; it has shape {x.shape}")
    return x.reshape(1, -1) if x.ndim == 1 else x


def rows_type(x: TensorType, dtype: str, columns: int | None) -> TensorType:
    """The type [N, columns] for an input [N, F] or [F]."""
    if x.shape is None:
        return TensorType(dtype, (None, columns))
    if len(x.shape) not in (1, 2):
        raise ValueError(f"x is [N, F], or one row [F], not {x}")
    return TensorType(dtype, (x.shape[0] if len(x.shape) == 2 else 1, columns))


def string_array(values: Any) -> Array:
    """Strings as a string tensor."""
    out = np.empty(len(values), object)
    out[:] = list(values)
    return out


def labels_of(index: Array, ints: Any, strings: Any) -> Array:
    """Class labels at the indices: strings or int64, the index itself where there are no labels."""
    if given(strings) is not None:
        return string_array(strings)[index]
    if given(ints) is not None:
        return constants(ints, np.int64)[index]
    return index.astype(np.int64, copy=False)


# ---- transforms of scores ------------------------------------------------------------------------------------

TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@elementary(lambda x, y: y * (1 - y))
def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow."""
    with quiet():
        return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))


_A = 0.147  # S. Winitzki, "A handy approximation for the error function and its inverse" (2008)


def _erfinv_parts(x: Array) -> tuple[Array, Array, Array]:
    log = np.log((1 - x) * (1 + x))
    v = 2 / (math.pi * _A) + log / 2
    root = np.sqrt(v * v - log / _A)
    return v, root, np.sqrt(-log / _A / (root + v))


def _probit_slope(p: Array, y: Array) -> Array:
    x = 2 * p - 1
    with quiet():
        v, root, size = _erfinv_parts(x)
        along_log = ((v - 1 / _A) / root - 1) / 2
        slope = np.sign(x) / (2 * size) * along_log * (-2 * x / ((1 - x) * (1 + x)))
        return 2 * math.sqrt(2) * np.where(np.abs(x) < 1e-6, math.sqrt(math.pi) / 2, slope)


@elementary(_probit_slope)
def probit(p: Array) -> Array:
    """The inverse of the normal distribution function, by Winitzki's approximation; NaN outside (0, 1)."""
    x = 2 * p - 1
    with quiet():
        size = _erfinv_parts(x)[2]
        return (math.sqrt(2) * np.where(x < 0, -size, size)).astype(p.dtype)


def softmax(x: Array) -> Array:
    """Softmax over the last axis."""
    e = np.exp(x - np.max(x, axis=-1, keepdims=True, initial=-np.inf))
    return e / np.sum(e, axis=-1, keepdims=True)


def softmax_zero(x: Array) -> Array:
    """Softmax over the last axis in which scores of zero (below 1e-7) stay about zero."""
    top = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    e = np.where(np.abs(x) > 1e-7, np.exp(x - top), x * np.exp(-top))
    total = np.sum(e, axis=-1, keepdims=True)
    return e / np.where(total == 0, total.dtype.type(1), total)


def transform(x: Array, kind: str) -> Array:
    """Scores [N, E] through a post transform."""
    if kind not in TRANSFORMS:
        raise ValueError(f"post_transform is one of {', '.join(TRANSFORMS)}, not {kind!r}")
    if kind == "LOGISTIC":
        return logistic(x)
    if kind == "PROBIT":
        return probit(x)
    with quiet():
        return softmax(x) if kind == "SOFTMAX" else softmax_zero(x) if kind == "SOFTMAX_ZERO" else x


def transform_slope(dot: Array, x: Array, kind: str) -> Array:
    """The derivative of `transform` applied to a tangent or a cotangent: its Jacobian is symmetric."""
    if kind == "NONE":
        return dot
    y = transform(x, kind)
    if kind == "LOGISTIC":
        return dot * y * (1 - y)
    if kind == "PROBIT":
        return dot * _probit_slope(x, y)
    if kind == "SOFTMAX_ZERO":
        y = np.where(np.abs(x) > 1e-7, y, y.dtype.type(0))
    return y * (dot - np.sum(y * dot, axis=-1, keepdims=True))
