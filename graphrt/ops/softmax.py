"""Softmax, LogSoftmax and Hardmax, along one axis (from opset 13) or over all trailing axes (before)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, Op, op
from graphrt.ops._axes import normalize_axis
from graphrt.ops._math import quiet
from graphrt.types import TensorType

# ---- along one axis ------------------------------------------------------------------------------------


def _softmax(x: Array, axis: int) -> Array:
    normalize_axis(axis, x.ndim)
    if not x.size:
        return x
    with quiet():
        e = np.exp(x - np.max(x, axis=axis, keepdims=True))
        return e / np.sum(e, axis=axis, keepdims=True)


def _log_softmax(x: Array, axis: int) -> Array:
    normalize_axis(axis, x.ndim)
    if not x.size:
        return x
    with quiet():
        shifted = x - np.max(x, axis=axis, keepdims=True)
        return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def _hardmax(x: Array, axis: int) -> Array:
    axis = normalize_axis(axis, x.ndim)
    if not x.size:
        return np.zeros(x.shape, x.dtype)
    first = np.expand_dims(np.argmax(x, axis=axis), axis)
    places = np.reshape(np.arange(x.shape[axis]), (-1,) + (1,) * (x.ndim - axis - 1))
    return (places == first).astype(x.dtype)


def _softmax_tangent(x_dot: Array, y: Array, axis: int) -> Array:
    """The Jacobian of softmax times a vector; being symmetric, it serves cotangents as well."""
    with quiet():
        return y * (x_dot - np.sum(x_dot * y, axis=axis, keepdims=True))


def _log_softmax_cotangent(ct: Array, y: Array, axis: int) -> Array:
    with quiet():
        return ct - np.exp(y) * np.sum(ct, axis=axis, keepdims=True)


def _log_softmax_tangent(x_dot: Array, y: Array, axis: int) -> Array:
    with quiet():
        return x_dot - np.sum(np.exp(y) * x_dot, axis=axis, keepdims=True)


# ---- over all axes from one on -------------------------------------------------------------------------


def _rows(x: Array, axis: int) -> Array:
    """As a matrix: the axes before ``axis`` in its rows, the others in its columns."""
    axis = normalize_axis(axis, x.ndim)
    return np.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))


# ---- the ops -------------------------------------------------------------------------------------------


def _declare_types(softmax_op: Op) -> Op:
    @softmax_op.infer
    def _(input: TensorType, *, axis: int) -> TensorType:
        if input.rank is not None:
            normalize_axis(axis, input.rank)
        return input

    @softmax_op.examples
    def _(rng: np.random.Generator) -> Iterator[Any]:
        x = rng.normal(size=(2, 3, 4))
        smooth = softmax_op.op_type != "Hardmax"
        for axis in (0, 1, 2, -1, -2):
            yield (x,), {"axis": axis}
        yield (x[0, 0],), {"axis": 0}
        yield (x[:0],), {"axis": 1}
        yield (x[:, :0],), {"axis": 1}
        yield Example((np.zeros((2, 3)),), {"axis": 1}, smooth=smooth)

    return softmax_op


@_declare_types
@op("Softmax", version=13, outputs="output")
def softmax(input: Array, *, axis: int = -1) -> Array:
    """Exponentials divided by their sum along an axis.  input: float [...] -> output: the same.

    Value: exp(x - m) / sum(exp(x - m)) with m = max(x): no overflow.  All -inf along the axis gives NaN.
    Derivative (y the output): y * (ct - sum(ct * y)).  Source: ONNX operator spec.
    """
    return _softmax(input, axis)


@softmax.vjp("input")
def _(ct: Array, output: Array, *, axis: int) -> Array:
    return _softmax_tangent(ct, output, axis)


@softmax.jvp("input")
def _(input_dot: Array, output: Array, *, axis: int) -> Array:
    return _softmax_tangent(input_dot, output, axis)


@_declare_types
@op("Softmax", version=1, outputs="output")
def softmax_1(input: Array, *, axis: int = 1) -> Array:
    """Exponentials divided by their sum over all axes from ``axis`` on.  input: float [...] -> output: the same.

    Value and derivative: Softmax of opset 13 along the rows of a matrix [product before axis, product from axis on].
    Source: ONNX operator spec.
    """
    return np.reshape(_softmax(_rows(input, axis), 1), input.shape)


@softmax_1.vjp("input")
def _(ct: Array, output: Array, *, axis: int) -> Array:
    return np.reshape(_softmax_tangent(_rows(ct, axis), _rows(output, axis), 1), output.shape)


@softmax_1.jvp("input")
def _(input_dot: Array, output: Array, *, axis: int) -> Array:
    return np.reshape(_softmax_tangent(_rows(input_dot, axis), _rows(output, axis), 1), output.shape)


@_declare_types
@op("LogSoftmax", version=13, outputs="output")
def log_softmax(input: Array, *, axis: int = -1) -> Array:
    """Logarithm of Softmax along an axis.  input: float [...] -> output: the same.

    Value: x - m - log(sum(exp(x - m))) with m = max(x).  All -inf along the axis gives NaN.
    Derivative (y the output): ct - exp(y) * sum(ct).  Source: ONNX operator spec.
    """
    return _log_softmax(input, axis)


@log_softmax.vjp("input")
def _(ct: Array, output: Array, *, axis: int) -> Array:
    return _log_softmax_cotangent(ct, output, axis)


@log_softmax.jvp("input")
def _(input_dot: Array, output: Array, *, axis: int) -> Array:
    return _log_softmax_tangent(input_dot, output, axis)


@_declare_types
@op("LogSoftmax", version=1, outputs="output")
def log_softmax_1(input: Array, *, axis: int = 1) -> Array:
    """Logarithm of Softmax over all axes from ``axis`` on.  input: float [...] -> output: the same.

    Value and derivative: LogSoftmax of opset 13 along the rows of a matrix, as in Softmax of opset 1.
    Source: ONNX operator spec.
    """
    return np.reshape(_log_softmax(_rows(input, axis), 1), input.shape)


@log_softmax_1.vjp("input")
def _(ct: Array, output: Array, *, axis: int) -> Array:
    return np.reshape(_log_softmax_cotangent(_rows(ct, axis), _rows(output, axis), 1), output.shape)


@log_softmax_1.jvp("input")
def _(input_dot: Array, output: Array, *, axis: int) -> Array:
    return np.reshape(_log_softmax_tangent(_rows(input_dot, axis), _rows(output, axis), 1), output.shape)


def _declare_flat(hardmax_op: Op) -> Op:
    @hardmax_op.vjp("input")
    def _(input_like: Array) -> Array:
        return np.zeros(input_like.shape, input_like.dtype)

    @hardmax_op.jvp("input")
    def _(input_dot: Array, input_like: Array) -> Array:
        return np.zeros(input_like.shape, input_like.dtype)

    return _declare_types(hardmax_op)


@_declare_flat
@op("Hardmax", version=13, outputs="output")
def hardmax(input: Array, *, axis: int = -1) -> Array:
    """1 at the first maximum along an axis, 0 elsewhere.  input: float [...] -> output: the same.

    Derivative: 0.  Source: ONNX operator spec.
    """
    return _hardmax(input, axis)


@_declare_flat
@op("Hardmax", version=1, outputs="output")
def hardmax_1(input: Array, *, axis: int = 1) -> Array:
    """1 at the first maximum over all axes from ``axis`` on, 0 elsewhere.  input: float [...] -> output: the same.

    Derivative: 0.  Source: ONNX operator spec.
    """
    return np.reshape(_hardmax(_rows(input, axis), 1), input.shape)


OPS = (softmax, softmax_1, log_softmax, log_softmax_1, hardmax, hardmax_1)
