"""QuantizeLinear, DequantizeLinear and DynamicQuantizeLinear.

Convention for gradients: a quantized tensor carries none, whatever its type, because rounding is a staircase;
what DequantizeLinear makes of it is differentiated in the scale. To train through rounding, write the
straight-through estimator into the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, Op, op
from graphrt.ops._element_types import NAME_OF_CODE, dtype_of_code, name_of_code
from graphrt.ops._math import quiet
from graphrt.ops._quantized import gather_spread, output_name, quantized, spread
from graphrt.types import DTYPES, TensorType, dtype_name, numpy_dtype

_CODES = {name: code for code, name in NAME_OF_CODE.items()}

# ---- QuantizeLinear ----------------------------------------------------------------------------------------


def _quantize(
    x: Array, y_scale: Array, y_zero_point: Array | None, axis: int = 1, saturate: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0,
) -> Array:  # fmt: skip
    to = output_name(y_zero_point, output_dtype, name_of_code)
    dtype = _division_dtype(y_scale.dtype, precision)
    scale = spread(y_scale, x.shape, axis, block_size)
    zero_point = None if y_zero_point is None else spread(y_zero_point, x.shape, axis, block_size)
    with quiet():
        return quantized(x.astype(dtype) / scale.astype(dtype), zero_point, to, saturate)


def _division_dtype(scale: np.dtype[Any], precision: int) -> Any:
    if precision:
        return dtype_of_code(precision)
    if scale.kind in "iu":
        return np.dtype(np.float64)
    return np.dtype(np.float32) if dtype_name(scale) == "float8e8m0" else scale


@op("QuantizeLinear", version=23, nondiff=True)
def quantize_linear(
    x: Array, y_scale: Array, y_zero_point: Array = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: int = 0, precision: int = 0, saturate: int = 1,
) -> Array:  # fmt: skip
    """Real numbers to a narrow type: y = saturate(round(x / y_scale) + y_zero_point), rounding halves to even.

    x: float or int32 [...]; y_scale: one element, or [x.shape[axis]], or one per ``block_size`` along the axis;
    y_zero_point: like the scale, the type of y (absent: 0) -> y: the shape of x; type of the zero point, else of
    code ``output_dtype``, else uint8. The division is done in the type of code ``precision``, else in the scale's
    (float32 for a power-of-two scale). Into 8- and 4-bit floats only the cast rounds, with ``saturate`` as in Cast.
    Not differentiable (see the top of this file). Source: ONNX operator spec.
    """
    return _quantize(x, y_scale, y_zero_point, axis, saturate, block_size, output_dtype, precision)


@op("QuantizeLinear", version=21, nondiff=True)
def quantize_linear_21(
    x: Array, y_scale: Array, y_zero_point: Array = None, *, axis: int = 1, block_size: int = 0,
    output_dtype: int = 0, saturate: int = 1,
) -> Array:  # fmt: skip
    """As QuantizeLinear of opset 23, dividing in the type of the scale. Source: ONNX operator spec."""
    return _quantize(x, y_scale, y_zero_point, axis, saturate, block_size, output_dtype)


@op("QuantizeLinear", version=19, nondiff=True)
def quantize_linear_19(
    x: Array, y_scale: Array, y_zero_point: Array = None, *, axis: int = 1, saturate: int = 1
) -> Array:
    """As QuantizeLinear of opset 23, with one scale or one per slice of an axis. Source: ONNX operator spec."""
    return _quantize(x, y_scale, y_zero_point, axis, saturate)


@op("QuantizeLinear", version=13, nondiff=True)
def quantize_linear_13(x: Array, y_scale: Array, y_zero_point: Array = None, *, axis: int = 1) -> Array:
    """As QuantizeLinear of opset 19, to 8-bit integers. Source: ONNX operator spec."""
    return _quantize(x, y_scale, y_zero_point, axis)


@op("QuantizeLinear", version=10, nondiff=True)
def quantize_linear_10(x: Array, y_scale: Array, y_zero_point: Array = None) -> Array:
    """As QuantizeLinear of opset 13, with one scale for the whole tensor. Source: ONNX operator spec."""
    return _quantize(x, _one_element(y_scale, "y_scale"), y_zero_point)


def _one_element(scale: Array, name: str) -> Array:
    if scale.size != 1:
        raise ValueError(f"{name} has shape {scale.shape}; before opset 13 it has one element")
    return scale


@quantize_linear.infer
@quantize_linear_21.infer
def _(x: TensorType, y_zero_point: TensorType | None, output_dtype: int) -> TensorType:
    if y_zero_point is not None and y_zero_point.dtype is None and not output_dtype:
        return TensorType(None, x.shape)
    return TensorType(output_name(y_zero_point, output_dtype, name_of_code), x.shape)


@quantize_linear_19.infer
@quantize_linear_13.infer
@quantize_linear_10.infer
def _(x: TensorType, y_zero_point: TensorType | None) -> TensorType:
    return TensorType("uint8" if y_zero_point is None else y_zero_point.dtype, x.shape)


@quantize_linear_10.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.uniform(-3, 3, (2, 3))
    yield (x, np.array(0.02), np.array(128, np.uint8)), {}
    yield (x, np.array([0.5])), {}
    yield (np.array([-7, 3, 900], np.int32), np.array(2.0, np.float32), np.array(-3, np.int8)), {}
    yield (np.array(1.3), np.array(0.1), np.array(0, np.int8)), {}
    yield (np.zeros((0, 2)), np.array(0.1)), {}


@quantize_linear_13.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.uniform(-3, 3, (2, 3)), np.array([0.1, 1.0, 0.02]), np.array([1, 2, 3], np.int8)), {}
    yield (rng.uniform(0, 3, (2, 3)), np.array([0.1, 1.0])), {"axis": -2}
    yield (rng.uniform(0, 3, (2,)), np.array([0.1, 1.0])), {}


@quantize_linear_19.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.uniform(-3, 3, (2, 3)), np.array([0.1, 1.0, 0.02]), np.array([1, 2, 3], np.int8)), {"saturate": 0}
    for name in ("float8e4m3fn", "float8e5m2fnuz"):
        values, zero_point = np.array([1.0, -3.3, 1e6], np.float32), np.zeros((), numpy_dtype(name))
        yield (values, np.array(2.0, np.float32), zero_point), {}
        yield (values, np.array(2.0, np.float32), zero_point), {"saturate": 0}


@quantize_linear_21.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.uniform(-3, 3, (2, 5))
    yield (x, np.array(0.3)), {"output_dtype": _CODES["int4"]}
    yield (x, np.array([0.1, 1.0]), np.array([-3, 4], np.int16)), {"axis": 0}
    yield (x, rng.uniform(0.1, 1, (2, 3))), {"axis": 1, "block_size": 2, "output_dtype": _CODES["int8"]}
    yield (x, rng.uniform(0.1, 1, (1, 5)), np.arange(5, dtype=np.uint16)[None]), {"axis": -2, "block_size": 2}


@quantize_linear.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.uniform(-3, 3, (2, 5)).astype(np.float32)
    yield (x, np.array(0.3, np.float32)), {"output_dtype": _CODES["float4e2m1"]}
    yield (x, np.array(0.3, np.float16), np.array(3, np.int8)), {"precision": _CODES["float32"]}
    yield (x, np.array([[1], [2]]).astype(numpy_dtype("float8e8m0"))), {"block_size": 5, "saturate": 0}
    yield (x, np.array(0.3, np.float32)), {"output_dtype": _CODES["uint2"], "axis": 0}


# ---- DequantizeLinear --------------------------------------------------------------------------------------


def _wide(dtype: Any) -> Any:
    """The dtype to multiply in: float32 for 16-bit floats, which could not hold a wide integer."""
    return np.dtype(np.float32) if np.dtype(dtype).itemsize < 4 else dtype


def _distance(x: Array, zero_point: Array | None, dtype: Any, axis: int, block_size: int) -> Array:
    """x - zero_point as floats."""
    if zero_point is None:
        return x.astype(dtype)
    offset = spread(zero_point, x.shape, axis, block_size)
    if DTYPES[dtype_name(x.dtype)].kind == "f":
        return x.astype(dtype) - offset.astype(dtype)
    exact = np.int32 if x.dtype.itemsize < 4 else np.int64
    return (x.astype(exact) - offset.astype(exact)).astype(dtype)


def _dequantize(
    x: Array, x_scale: Array, x_zero_point: Array | None, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Array:
    out = dtype_of_code(output_dtype) if output_dtype else x_scale.dtype
    if dtype_name(out) == "float8e8m0":
        raise ValueError("a power-of-two scale (float8e8m0) needs the attribute output_dtype")
    wide = _wide(out)
    with quiet():
        scale = spread(x_scale.astype(wide), x.shape, axis, block_size)
        return (_distance(x, x_zero_point, wide, axis, block_size) * scale).astype(out, copy=False)


def _scale_vjp(
    ct: Array, x: Array, x_scale_like: Array, x_zero_point: Array | None, axis: int = 1, block_size: int = 0
) -> Array:
    wide = _wide(ct.dtype)
    with quiet():
        slopes = ct.astype(wide) * _distance(x, x_zero_point, wide, axis, block_size)
        return gather_spread(slopes, x_scale_like, axis, block_size).astype(x_scale_like.dtype)


_QUANTIZED = ("x", "x_zero_point")


@op("DequantizeLinear", version=23, nondiff=_QUANTIZED, linear="x_scale")
def dequantize_linear(
    x: Array, x_scale: Array, x_zero_point: Array = None, *, axis: int = 1, block_size: int = 0, output_dtype: int = 0
) -> Array:
    """Back from a narrow type: y = (x - x_zero_point) x_scale.

    x: integer or narrow float [...]; x_scale: one element, or [x.shape[axis]], or one per ``block_size`` along the
    axis; x_zero_point: like the scale, the type of x (absent: 0) -> y: the shape of x; type of code
    ``output_dtype``, else of the scale. Products of 16-bit floats are rounded once, from float32.
    Derivative for x_scale: ct (x - x_zero_point), summed over the elements that share a scale; x and
    x_zero_point carry none (see the top of this file). Source: ONNX operator spec.
    """
    return _dequantize(x, x_scale, x_zero_point, axis, block_size, output_dtype)


@dequantize_linear.vjp("x_scale")
def _(ct: Array, x: Array, x_scale_like: Array, x_zero_point: Array, axis: int, block_size: int) -> Array:
    return _scale_vjp(ct, x, x_scale_like, x_zero_point, axis, block_size)


@op("DequantizeLinear", version=21, nondiff=_QUANTIZED, linear="x_scale")
def dequantize_linear_21(
    x: Array, x_scale: Array, x_zero_point: Array = None, *, axis: int = 1, block_size: int = 0
) -> Array:
    """As DequantizeLinear of opset 23, giving the type of the scale. Source: ONNX operator spec."""
    return _dequantize(x, x_scale, x_zero_point, axis, block_size)


@dequantize_linear_21.vjp("x_scale")
def _(ct: Array, x: Array, x_scale_like: Array, x_zero_point: Array, axis: int, block_size: int) -> Array:
    return _scale_vjp(ct, x, x_scale_like, x_zero_point, axis, block_size)


@op("DequantizeLinear", version=13, nondiff=_QUANTIZED, linear="x_scale")
def dequantize_linear_13(x: Array, x_scale: Array, x_zero_point: Array = None, *, axis: int = 1) -> Array:
    """As DequantizeLinear of opset 21, with one scale or one per slice of an axis. Source: ONNX operator spec."""
    return _dequantize(x, x_scale, x_zero_point, axis)


@dequantize_linear_13.vjp("x_scale")
def _(ct: Array, x: Array, x_scale_like: Array, x_zero_point: Array, axis: int) -> Array:
    return _scale_vjp(ct, x, x_scale_like, x_zero_point, axis)


@op("DequantizeLinear", version=10, nondiff=_QUANTIZED, linear="x_scale")
def dequantize_linear_10(x: Array, x_scale: Array, x_zero_point: Array = None) -> Array:
    """As DequantizeLinear of opset 13, with one scale for the whole tensor. Source: ONNX operator spec."""
    return _dequantize(x, _one_element(x_scale, "x_scale"), x_zero_point)


@dequantize_linear_10.vjp("x_scale")
def _(ct: Array, x: Array, x_scale_like: Array, x_zero_point: Array) -> Array:
    return _scale_vjp(ct, x, x_scale_like, x_zero_point)


@dequantize_linear.infer
def _(x: TensorType, x_scale: TensorType, output_dtype: int) -> TensorType:
    return TensorType(name_of_code(output_dtype) if output_dtype else x_scale.dtype, x.shape)


def _infer_by_scale(x: TensorType, x_scale: TensorType) -> TensorType:
    return TensorType(x_scale.dtype, x.shape)


def _dequantize_examples(versions: int) -> Any:
    """Examples for the semantics of that opset version."""

    def examples(rng: np.random.Generator) -> Iterator[Any]:
        x = rng.integers(0, 256, (3, 5)).astype(np.uint8)
        yield (x, np.array(0.02), np.array(128, np.uint8)), {}
        yield (np.arange(-3, 3, dtype=np.int32), np.array([0.5])), {}
        yield (np.array(7, np.int8), np.array(0.5)), {}
        yield (np.zeros((0, 2), np.uint8), np.array(0.1)), {}
        if versions >= 13:
            yield (x, rng.normal(size=5), np.arange(5, dtype=np.uint8)), {}
            yield (x, rng.normal(size=3)), {"axis": -2}
            yield (np.array([1.0, -3.5, 448]).astype(numpy_dtype("float8e4m3fn")), np.array(0.5)), {}
        if versions >= 21:
            yield (x, rng.normal(size=(3, 3)), np.ones((3, 3), np.uint8)), {"block_size": 2}
            yield (x, rng.normal(size=(2, 5))), {"block_size": 2, "axis": 0}
            yield (np.arange(-8, 8).astype(numpy_dtype("int4")), np.array(0.5)), {}
        if versions >= 23:
            yield (x, rng.normal(size=3)), {"axis": 0, "output_dtype": _CODES["float64"]}
            yield Example((x, np.array(0.3, np.float32)), {"output_dtype": _CODES["float16"]}, smooth=False)
            yield (x, np.array(2).astype(numpy_dtype("float8e8m0"))), {"output_dtype": _CODES["float32"]}

    return examples


for _each in (dequantize_linear_21, dequantize_linear_13, dequantize_linear_10):
    _each.infer(_infer_by_scale)
for _each in (dequantize_linear, dequantize_linear_21, dequantize_linear_13, dequantize_linear_10):
    _each.examples(_dequantize_examples(_each.version))


# ---- DynamicQuantizeLinear -----------------------------------------------------------------------------------


@op("DynamicQuantizeLinear", version=11, outputs=("y", "y_scale", "y_zero_point"), nondiff=True)
def dynamic_quantize_linear(x: Array) -> tuple[Array, Array, Array]:
    """Quantizes to uint8 with the scale and zero point that fit the data's range, 0 included.

    x: float [...] -> y: uint8 [...], y_scale: the dtype of x [], y_zero_point: uint8 [].
    Value: y_scale = (max(x, 0) - min(x, 0)) / 255, 1 / 255 where x is all zeros; y_zero_point = round(-min(x, 0) /
    y_scale); y as QuantizeLinear. Not differentiable (see the top of this file). Source: ONNX operator spec.
    """
    dtype = _wide(x.dtype)
    with quiet():
        high, low = (f(x, initial=0).astype(dtype) for f in (np.max, np.min))
        extent = np.where(high == low, dtype.type(1), high - low)
        scale = (extent / dtype.type(255)).astype(x.dtype)
        # A range too small for the dtype would divide by 0.
        divisor = np.where(scale == 0, np.finfo(dtype).tiny, scale.astype(dtype)).astype(dtype)
        zero_point = quantized(-low / divisor, None, "uint8")
        return quantized(x.astype(dtype) / divisor, zero_point, "uint8"), np.asarray(scale), np.asarray(zero_point)


@dynamic_quantize_linear.infer
def _(x: TensorType) -> tuple[TensorType, TensorType, TensorType]:
    return TensorType("uint8", x.shape), TensorType(x.dtype, ()), TensorType("uint8", ())


@dynamic_quantize_linear.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for x in (rng.normal(size=(2, 3)), np.array([1.0, 2.1, 3.7]), np.array(-2.0), np.zeros(3), np.zeros((0, 2))):
        yield (x,), {}


OPS: tuple[Op, ...] = (
    quantize_linear, quantize_linear_21, quantize_linear_19, quantize_linear_13, quantize_linear_10,
    dequantize_linear, dequantize_linear_21, dequantize_linear_13, dequantize_linear_10, dynamic_quantize_linear,
)  # fmt: skip
