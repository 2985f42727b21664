"""8-bit elementwise ops and pools of com.microsoft: dequantize, compute in float32, round into the output's scale.

None of them is differentiable.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.ops._math import sigmoid
from graphrt.ops._quantized import quantized
from graphrt.ops.pooling import average_pool
from graphrt.ops.quantization import dequantize_linear as onnx_dequantize
from graphrt.ops.quantization import quantize_linear as onnx_quantize
from graphrt.ops.softmax import softmax, softmax_1
from graphrt.plugin import Array, TensorType, broadcast_shapes
from graphrt.types import dtype_name
from graphrt_onnx.ops._compose import renamed
from graphrt_onnx.ops._microsoft import DOMAIN, microsoft

quantize_linear = renamed(onnx_quantize, "QuantizeLinear", DOMAIN)
dequantize_linear = renamed(onnx_dequantize, "DequantizeLinear", DOMAIN)


def real(x: Array, scale: Array, zero_point: Array | None) -> Array:
    """(x - zero_point) scale, in float32."""
    wide = x.astype(np.float32)
    return (wide if zero_point is None else wide - zero_point.astype(np.float32)) * scale.astype(np.float32)


def narrow(y: Array, scale: Array, zero_point: Array | None, like: Array) -> Array:
    """round(y / scale) + zero_point, saturated, in the type of ``like``."""
    return quantized(y / scale.astype(np.float32), zero_point, dtype_name(like.dtype))


# ---- elementwise ---------------------------------------------------------------------------------------------


@microsoft("QLinearAdd", outputs="c", nondiff=True)
def qlinear_add(
    a: Array, a_scale: Array, a_zero_point: Array | None, b: Array, b_scale: Array, b_zero_point: Array | None,
    c_scale: Array, c_zero_point: Array = None,
) -> Array:  # fmt: skip
    """The sum of two 8-bit tensors.

    a, b: int8 or uint8, broadcast together; scales: float32 []; zero points: like a [] (absent: 0) -> c: like a.
    c = round((a' + b') / c_scale) + c_zero_point with a' = (a - a_zero_point) a_scale. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    return narrow(real(a, a_scale, a_zero_point) + real(b, b_scale, b_zero_point), c_scale, c_zero_point, a)


@microsoft("QLinearMul", outputs="c", nondiff=True)
def qlinear_mul(
    a: Array, a_scale: Array, a_zero_point: Array | None, b: Array, b_scale: Array, b_zero_point: Array | None,
    c_scale: Array, c_zero_point: Array = None,
) -> Array:  # fmt: skip
    """The product of two 8-bit tensors.

    a, b: int8 or uint8, broadcast together; scales: float32 []; zero points: like a [] (absent: 0) -> c: like a.
    c = round(a' b' / c_scale) + c_zero_point with a' = (a - a_zero_point) a_scale. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    one = np.ones((), np.float32)
    product = real(a, one, a_zero_point) * real(b, one, b_zero_point)  # whole numbers, exact
    factor = a_scale.astype(np.float32) * b_scale.astype(np.float32) / c_scale.astype(np.float32)
    return quantized(product * factor, c_zero_point, dtype_name(a.dtype))


@qlinear_add.infer
@qlinear_mul.infer
def _(a: TensorType, b: TensorType) -> TensorType:
    return TensorType(a.dtype, broadcast_shapes((a.shape, b.shape)))


@microsoft("QLinearLeakyRelu", nondiff=True)
def qlinear_leaky_relu(
    x: Array, x_scale: Array, x_zero_point: Array | None, y_scale: Array, y_zero_point: Array = None, *,
    alpha: float = 0.01,
) -> Array:  # fmt: skip
    """LeakyRelu of an 8-bit tensor.

    x: int8 or uint8 [...]; scales: float32 []; zero points: like x [] (absent: 0) -> y: like x. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    v = real(x, x_scale, x_zero_point)
    return narrow(np.where(v < 0, np.float32(alpha) * v, v), y_scale, y_zero_point, x)


@microsoft("QLinearSigmoid", nondiff=True)
def qlinear_sigmoid(
    x: Array, x_scale: Array, x_zero_point: Array | None, y_scale: Array, y_zero_point: Array = None
) -> Array:
    """1 / (1 + exp(-x)) of an 8-bit tensor.

    x: int8 or uint8 [...]; scales: float32 []; zero points: like x [] (absent: 0) -> y: like x. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    return narrow(sigmoid(real(x, x_scale, x_zero_point)), y_scale, y_zero_point, x)


@microsoft("QLinearSoftmax", nondiff=True)
def qlinear_softmax(
    x: Array, x_scale: Array, x_zero_point: Array | None, y_scale: Array, y_zero_point: Array, *, axis: int = -1,
    opset: int,
) -> Array:  # fmt: skip
    """Softmax of an 8-bit tensor; ``opset`` says which version's meaning ``axis`` has.

    x: int8 or uint8 [...]; scales: float32 []; zero points: like x [] (absent: 0) -> y: like x. Below opset 13 all
    dimensions from ``axis`` on are one. Not differentiable. Source: onnxruntime's contributed operators.
    """
    v = real(x, x_scale, x_zero_point)
    return narrow(softmax(v, axis=axis) if opset >= 13 else softmax_1(v, axis=axis), y_scale, y_zero_point, x)


@microsoft("QLinearWhere", outputs="z", nondiff=True)
def qlinear_where(
    condition: Array, x: Array, x_scale: Array, x_zero_point: Array, y: Array, y_scale: Array, y_zero_point: Array,
    z_scale: Array, z_zero_point: Array,
) -> Array:  # fmt: skip
    """x where the condition holds, else y; both brought to the scale of z.

    condition: bool; x, y: int8 or uint8, all broadcast together; scales: float32 []; zero points: like x [] -> z:
    like x. Not differentiable. Source: onnxruntime's contributed operators.
    """
    chosen = np.where(condition, real(x, x_scale, x_zero_point), real(y, y_scale, y_zero_point))
    return narrow(chosen, z_scale, z_zero_point, x)


@qlinear_where.infer
def _(condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    return TensorType(x.dtype, broadcast_shapes((condition.shape, x.shape, y.shape)))


qlinear_leaky_relu.infer(lambda x: x)
qlinear_sigmoid.infer(lambda x: x)
qlinear_softmax.infer(lambda x: x)


@microsoft("QLinearConcat", nondiff=True)
def qlinear_concat(y_scale: Array, y_zero_point: Array, *inputs: Array, axis: int) -> Array:
    """8-bit tensors one after another along an axis, all brought to one scale.

    y_scale: float32 []; y_zero_point: int8 or uint8 []; inputs: tensor, scale, zero point; tensor, scale, ... -> y:
    like the tensors. Not differentiable. Source: onnxruntime's contributed operators.
    """
    if not inputs or len(inputs) % 3:
        raise ValueError(f"inputs come in threes (tensor, scale, zero point); there are {len(inputs)}")
    values = [real(*inputs[i : i + 3]) for i in range(0, len(inputs), 3)]
    return narrow(np.concatenate(values, axis=axis), y_scale, y_zero_point, inputs[0])


@qlinear_concat.infer
def _(inputs: tuple[TensorType, ...], axis: int) -> TensorType:
    shapes = [t.shape for t in inputs[::3]]
    known = [s for s in shapes if s is not None]
    if len(known) < len(shapes):
        return TensorType(inputs[0].dtype)
    at = axis % len(known[0])
    sizes = [s[at] for s in known]
    total = sum(n for n in sizes if isinstance(n, int)) if all(isinstance(n, int) for n in sizes) else None
    return TensorType(inputs[0].dtype, tuple(total if i == at else n for i, n in enumerate(known[0])))


# ---- pools and means -----------------------------------------------------------------------------------------


def _first(x: Array) -> Array:
    return np.moveaxis(x, -1, 1)


@microsoft("QLinearAveragePool", nondiff=True)
def qlinear_average_pool(
    x: Array, x_scale: Array, x_zero_point: Array | None, y_scale: Array, y_zero_point: Array = None, *,
    auto_pad: str = "NOTSET", ceil_mode: int = 0, channels_last: int = 0, count_include_pad: int = 0,
    kernel_shape: tuple[int, ...], pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """AveragePool of an 8-bit tensor.

    x: int8 or uint8 [N, C, *S] (or [N, *S, C] with ``channels_last``); scales: float32 []; zero points: like x [] ->
    y: like x, pooled. Windows as in AveragePool. Not differentiable. Source: onnxruntime's contributed operators.
    """
    v = real(x, x_scale, x_zero_point)
    y = average_pool(
        _first(v) if channels_last else v, auto_pad=auto_pad, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        kernel_shape=kernel_shape, pads=pads, strides=strides,
    )  # fmt: skip
    return narrow(np.moveaxis(y, 1, -1) if channels_last else y, y_scale, y_zero_point, x)


@qlinear_average_pool.infer
def _(
    x: TensorType, auto_pad: str, ceil_mode: int, channels_last: int, kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None, strides: tuple[int, ...] | None,
) -> TensorType:  # fmt: skip
    shape = x.shape
    if shape is not None and channels_last:
        shape = (shape[0], shape[-1], *shape[1:-1])
    window = {"auto_pad": auto_pad, "ceil_mode": ceil_mode, "kernel_shape": kernel_shape, "pads": pads}
    (y,) = average_pool.infer_types([TensorType("float32", shape)], {**window, "strides": strides})
    made = y.shape if isinstance(y, TensorType) else None
    if made is not None and channels_last:
        made = (made[0], *made[2:], made[1])
    return TensorType(x.dtype, made)


@microsoft("QLinearGlobalAveragePool", nondiff=True)
def qlinear_global_average_pool(
    x: Array, x_scale: Array, x_zero_point: Array, y_scale: Array, y_zero_point: Array, *, channels_last: int = 0
) -> Array:
    """The mean over all positions of an 8-bit tensor.

    x: int8 or uint8 [N, C, *S] (or [N, *S, C] with ``channels_last``); scales: float32 []; zero points: like x [] ->
    y: like x, ones for S. Not differentiable. Source: onnxruntime's contributed operators.
    """
    axes = tuple(range(1, x.ndim - 1)) if channels_last else tuple(range(2, x.ndim))
    return narrow(np.mean(real(x, x_scale, x_zero_point), axis=axes, keepdims=True), y_scale, y_zero_point, x)


@qlinear_global_average_pool.infer
def _(x: TensorType, channels_last: int) -> TensorType:
    if x.shape is None:
        return TensorType(x.dtype)
    kept = (0, len(x.shape) - 1) if channels_last else (0, 1)
    return TensorType(x.dtype, tuple(n if i in kept else 1 for i, n in enumerate(x.shape)))


@microsoft("QLinearReduceMean", outputs="reduced", nondiff=True)
def qlinear_reduce_mean(
    data: Array, data_scale: Array, data_zero_point: Array | None, reduced_scale: Array,
    reduced_zero_point: Array = None, *, axes: tuple[int, ...], keepdims: int,
) -> Array:  # fmt: skip
    """The mean of an 8-bit tensor over some axes.

    data: int8 or uint8 [...]; scales: float32 []; zero points: like data [] (absent: 0) -> reduced: like data.
    Not differentiable. Source: onnxruntime's contributed operators.
    """
    mean = np.mean(real(data, data_scale, data_zero_point), axis=tuple(axes) or None, keepdims=bool(keepdims))
    return narrow(mean, reduced_scale, reduced_zero_point, data)


@qlinear_reduce_mean.infer
def _(data: TensorType, axes: tuple[int, ...], keepdims: int) -> TensorType:
    if data.shape is None:
        return TensorType(data.dtype)
    gone = {a % len(data.shape) for a in axes} or set(range(len(data.shape)))
    kept = [1 if i in gone else n for i, n in enumerate(data.shape) if keepdims or i not in gone]
    return TensorType(data.dtype, tuple(kept))


# ---- examples ------------------------------------------------------------------------------------------------


def bytes_of(rng: np.random.Generator, *shape: int, dtype: Any = np.uint8) -> Array:
    """Random 8-bit numbers."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


def scale_and_zero(scale: float, zero: int, dtype: Any = np.uint8) -> tuple[Array, Array]:
    """The two parameters of a quantized tensor."""
    return np.array(scale, np.float32), np.array(zero, dtype)


@qlinear_add.examples
@qlinear_mul.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = bytes_of(rng, 2, 3), bytes_of(rng, 3)
    yield (a, *scale_and_zero(0.1, 120), b, *scale_and_zero(0.2, 10), *scale_and_zero(0.5, 100)), {}
    s, t = bytes_of(rng, 0, 3, dtype=np.int8), bytes_of(rng, 1, dtype=np.int8)
    yield (s, np.array(0.1, np.float32), None, t, *scale_and_zero(0.2, -5, np.int8), np.array(0.3, np.float32)), {}


@qlinear_leaky_relu.examples
@qlinear_sigmoid.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (bytes_of(rng, 2, 3), *scale_and_zero(0.1, 120), *scale_and_zero(0.05, 30)), {}
    yield (bytes_of(rng, 2, 3, dtype=np.int8), np.array(0.1, np.float32), None, np.array(0.02, np.float32)), {}


@qlinear_softmax.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for opset, axis in ((13, -1), (12, 1)):
        x = bytes_of(rng, 2, 3, 4)
        yield (x, *scale_and_zero(0.05, 120), *scale_and_zero(1 / 256, 0)), {"opset": opset, "axis": axis}


@qlinear_where.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, y = bytes_of(rng, 2, 3), bytes_of(rng, 3)
    pick = rng.uniform(size=(2, 1)) < 0.5
    yield (pick, x, *scale_and_zero(0.1, 120), y, *scale_and_zero(0.2, 10), *scale_and_zero(0.15, 100)), {}


@qlinear_concat.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, y = bytes_of(rng, 2, 3), bytes_of(rng, 2, 1)
    yield (*scale_and_zero(0.15, 100), x, *scale_and_zero(0.1, 120), y, *scale_and_zero(0.2, 10)), {"axis": -1}


@qlinear_average_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    pair = (*scale_and_zero(0.1, 120), *scale_and_zero(0.05, 100))
    yield (bytes_of(rng, 1, 2, 4, 4), *pair), {"kernel_shape": (2, 2), "pads": (1, 0, 0, 1), "count_include_pad": 1}
    yield (
        (bytes_of(rng, 1, 4, 4, 2), *pair),
        {"kernel_shape": (3, 3), "strides": (2, 2), "channels_last": 1, "ceil_mode": 1},
    )


@qlinear_global_average_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    pair = (*scale_and_zero(0.1, 120), *scale_and_zero(0.05, 100))
    yield (bytes_of(rng, 1, 2, 4, 4), *pair), {}
    yield (bytes_of(rng, 1, 4, 4, 2), *pair), {"channels_last": 1}


@qlinear_reduce_mean.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    pair = (*scale_and_zero(0.1, 120), *scale_and_zero(0.05, 100))
    yield (bytes_of(rng, 2, 3, 4), *pair), {"axes": (1, -1), "keepdims": 1}
    yield (bytes_of(rng, 2, 3, 4), *pair), {"axes": (0,), "keepdims": 0}


OPS = (
    quantize_linear,
    dequantize_linear,
    qlinear_add,
    qlinear_mul,
    qlinear_leaky_relu,
    qlinear_sigmoid,
    qlinear_softmax,
    qlinear_where,
    qlinear_concat,
    qlinear_average_pool,
    qlinear_global_average_pool,
    qlinear_reduce_mean,
)
