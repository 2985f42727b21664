"""Products of 8-bit numbers: ConvInteger, QLinearConv and QLinearMatMul.

Sums of products are exact: BLAS adds them up in a float type wide enough to hold each of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._quantized import as_int32, centered, requantized
from graphrt.ops.convolution import conv
from graphrt.ops.linalg import product_shape
from graphrt.types import TensorType, numpy_dtype

Ints: TypeAlias = tuple[int, ...]

# ---- convolution -----------------------------------------------------------------------------------------------


def _per_channel(value: Array, rank: int, channels_first: bool) -> Array:
    """One element, or one per output channel, so that it broadcasts against weights or against the output."""
    if value.size == 1:
        return np.reshape(value, ())
    after = (1,) * (rank - 1 if channels_first else rank - 2)
    return np.reshape(value, (-1, *after))


def _accumulate(x: Array, w: Array, x_zero_point: Array | None, w_zero_point: Array | None, **window: Any) -> Array:
    """int32: the convolution of x and w less their zero points; padding counts as the zero point."""
    terms = math.prod(w.shape[1:])
    w_offset = None if w_zero_point is None else _per_channel(w_zero_point, w.ndim, channels_first=True)
    x_offset = None if x_zero_point is None else np.reshape(x_zero_point, ())
    return as_int32(conv(centered(x, x_offset, terms), centered(w, w_offset, terms), **window))


@op("ConvInteger", version=10, nondiff=True)
def conv_integer(
    x: Array, w: Array, x_zero_point: Array = None, w_zero_point: Array = None, *, auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None, group: int = 1, kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Convolution of 8-bit integers after subtracting their zero points, in int32.

    x: int8 or uint8 [N, C, *S], w: int8 or uint8 [M, C/group, *K], x_zero_point: like x, one element,
    w_zero_point: like w, one element or [M] -> y: int32 [N, M, *O]. Windows as in Conv; padding is x_zero_point.
    Not differentiable. Source: ONNX operator spec.
    """
    return _accumulate(
        x, w, x_zero_point, w_zero_point, auto_pad=auto_pad, dilations=dilations, group=group,
        kernel_shape=kernel_shape, pads=pads, strides=strides,
    )  # fmt: skip


@conv_integer.infer
def _(
    x: TensorType, w: TensorType, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> TensorType:  # fmt: skip
    return TensorType("int32", _conv_shape(x, w, auto_pad, dilations, group, kernel_shape, pads, strides))


def _conv_shape(x: TensorType, w: TensorType, *window: Any) -> Any:
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    like_floats = [TensorType("float32", t.shape) for t in (x, w)]
    (y,) = conv.infer_types(like_floats, dict(zip(names, window, strict=True)))
    return y.shape if isinstance(y, TensorType) else None


@conv_integer.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, w = _bytes(rng, np.uint8, 2, 4, 5, 4), _bytes(rng, np.int8, 6, 2, 3, 2)
    yield (x, w), {"group": 2}
    yield (x, w, np.uint8(7).reshape(1), np.int8(-3).reshape(())), {
        "group": 2, "pads": (1, 0, 1, 2), "strides": (2, 1), "dilations": (1, 2), "kernel_shape": (3, 2),
    }  # fmt: skip
    yield (x, w, None, np.arange(6, dtype=np.int8)), {"group": 2, "auto_pad": "SAME_UPPER"}
    yield (_bytes(rng, np.int8, 0, 2, 5), _bytes(rng, np.int8, 3, 2, 2)), {"auto_pad": "VALID"}


def _bytes(rng: np.random.Generator, dtype: Any, *shape: int) -> Array:
    return rng.integers(0, 256, shape).astype(dtype)


@op("QLinearConv", version=10, nondiff=True)
def qlinear_conv(
    x: Array, x_scale: Array, x_zero_point: Array, w: Array, w_scale: Array, w_zero_point: Array, y_scale: Array,
    y_zero_point: Array, b: Array = None, *, auto_pad: str = "NOTSET", dilations: tuple[int, ...] | None = None,
    group: int = 1, kernel_shape: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Convolution of quantized tensors, quantized again.

    x: int8 or uint8 [N, C, *S], w: int8 or uint8 [M, C/group, *K], b: int32 [M]; scales float32 and zero points
    like their tensors: one element, those of w also [M] -> y: the type of y_zero_point [N, M, *O].
    Value: saturate(round((ConvInteger(x, w) + b) x_scale w_scale / y_scale) + y_zero_point), halves to even.
    Not differentiable. Source: ONNX operator spec.
    """
    total = _accumulate(
        x, w, x_zero_point, w_zero_point, auto_pad=auto_pad, dilations=dilations, group=group,
        kernel_shape=kernel_shape, pads=pads, strides=strides,
    )  # fmt: skip
    if b is not None:
        total = total + np.reshape(b, (-1, *(1,) * (x.ndim - 2)))
    multiplier = np.reshape(x_scale, ()) * _per_channel(w_scale, x.ndim, channels_first=False) / np.reshape(y_scale, ())
    return requantized(total, multiplier, np.reshape(y_zero_point, ()))


@qlinear_conv.infer
def _(
    x: TensorType, w: TensorType, y_zero_point: TensorType, auto_pad: str, dilations: Ints | None, group: int,
    kernel_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> TensorType:  # fmt: skip
    shape = _conv_shape(x, w, auto_pad, dilations, group, kernel_shape, pads, strides)
    return TensorType(y_zero_point.dtype, shape)


@qlinear_conv.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, w = _bytes(rng, np.uint8, 2, 4, 5, 4), _bytes(rng, np.int8, 6, 2, 3, 2)
    x_scale, y_scale, w_scale = (np.array(s, np.float32) for s in (0.02, 0.5, 0.1))
    x_zero, w_zero, y_zero = np.array(7, np.uint8), np.array(-3, np.int8), np.array([9], np.uint8)
    window = {"group": 2, "pads": (1, 0, 1, 2), "strides": (2, 1), "dilations": (1, 2), "kernel_shape": (3, 2)}
    yield (x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero), window
    per_channel = rng.uniform(0.1, 1, 6).astype(np.float32), rng.integers(-9, 9, 6).astype(np.int8)
    b, window = rng.integers(-900, 900, 6).astype(np.int32), {"group": 2, "auto_pad": "SAME_LOWER"}
    yield (x, x_scale, x_zero, w, *per_channel, y_scale, np.array(0, np.int8), b), window


# ---- matrix product ----------------------------------------------------------------------------------------------


def _by_row(value: Array) -> Array:
    """One element, one per row [m], or already [..., m, 1]."""
    if value.size == 1:
        return np.reshape(value, ())
    return value[:, None] if value.ndim == 1 else value


@op("QLinearMatMul", version=10, nondiff=True)
def qlinear_matmul(
    a: Array, a_scale: Array, a_zero_point: Array, b: Array, b_scale: Array, b_zero_point: Array, y_scale: Array,
    y_zero_point: Array,
) -> Array:  # fmt: skip
    """Matrix product of quantized tensors, quantized again; leading axes broadcast as in MatMul.

    a: [..., m, k], b: [..., k, n] of 8-bit integers or floats; scales (float) and zero points: one element, for a
    also [m] or [..., m, 1], for b [n] or [..., 1, n], for y what broadcasts -> y: the type of y_zero_point [..., m, n].
    Value: saturate(round(sum (a - a_zero_point)(b - b_zero_point) a_scale b_scale / y_scale) + y_zero_point), halves
    to even; products of integers add up exactly modulo 2**32. Not differentiable. Source: ONNX operator spec.
    """
    a_offset, b_offset = _by_row(a_zero_point), b_zero_point if b_zero_point.size > 1 else np.reshape(b_zero_point, ())
    terms = a.shape[-1]
    total = np.matmul(centered(a, a_offset, terms), centered(b, b_offset, terms))
    if a.dtype.kind in "iu" and b.dtype.kind in "iu":
        total = as_int32(total)
    a_factor, b_factor, y_factor = (s.astype(np.float32) for s in (_by_row(a_scale), b_scale, y_scale))
    factors = (f if f.size > 1 else np.reshape(f, ()) for f in (a_factor, b_factor, y_factor))
    a_factor, b_factor, y_factor = factors
    zero_point = y_zero_point if y_zero_point.size > 1 else np.reshape(y_zero_point, ())
    return requantized(total, a_factor * b_factor / y_factor, zero_point)


@qlinear_matmul.infer
def _(a: TensorType, b: TensorType, y_zero_point: TensorType) -> TensorType:
    return TensorType(y_zero_point.dtype, product_shape(a.shape, b.shape))


@qlinear_matmul.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = _bytes(rng, np.uint8, 2, 3), _bytes(rng, np.int8, 3, 4)
    scale = [np.array([s], np.float32) for s in (0.02, 0.3, 0.5)]
    zero_a, zero_b, zero_y = np.array([9], np.uint8), np.array([-4], np.int8), np.array([3], np.int8)
    yield (a, scale[0], zero_a, b, scale[1], zero_b, scale[2], zero_y), {}
    rows = rng.uniform(0.1, 1, 2).astype(np.float32), np.array([1, 2], np.uint8)
    columns = rng.uniform(0.1, 1, 4).astype(np.float32), np.arange(4, dtype=np.int8)
    yield (a, *rows, b, *columns, scale[2], zero_y), {}
    yield (np.stack([a, a]), scale[0], zero_a, b, scale[1], zero_b, scale[2], zero_y), {}
    float8 = numpy_dtype("float8e4m3fn")
    x, zero = rng.normal(size=(2, 3)).astype(float8), np.zeros((), float8)
    yield (x, np.array(0.5, np.float16), zero, x.T, np.array(2, np.float16), zero, np.array(0.5, np.float16), zero), {}


OPS = (conv_integer, qlinear_conv, qlinear_matmul)
