"""Quantization beyond what the conformance kit tries: rounding, saturation, granularity, versions, exact sums."""

import itertools

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.op import like
from graphrt.ops.quantization import (
    dequantize_linear,
    dequantize_linear_10,
    dequantize_linear_13,
    dynamic_quantize_linear,
    quantize_linear,
    quantize_linear_10,
    quantize_linear_13,
    quantize_linear_21,
)
from graphrt.ops.quantized_products import conv_integer, qlinear_conv, qlinear_matmul
from graphrt.types import TensorType, numpy_dtype

INT8, UINT4, INT4, FLOAT16, FLOAT32 = 3, 21, 22, 10, 1


def f32(*values):
    return np.array(values, np.float32)


# ---- QuantizeLinear ------------------------------------------------------------------------------------------


def test_halves_round_to_even_before_the_zero_point_is_added():
    y = quantize_linear(f32(-2.5, -1.5, -0.5, 0.5, 1.5, 2.5), np.float32(1).reshape(()), np.array(1, np.int8))
    assert y.tolist() == [-1, -1, 1, 1, 3, 3]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("uint8", 0, 255), ("int8", -128, 127), ("uint16", 0, 65535), ("int16", -32768, 32767), ("uint4", 0, 15),
     ("int4", -8, 7), ("uint2", 0, 3), ("int2", -2, 1)],
)  # fmt: skip
def test_values_saturate(dtype, low, high):
    zero_point = np.ones((), np.int8).astype(numpy_dtype(dtype))
    y = quantize_linear(f32(-1e30, -np.inf, np.inf, 3e38, np.nan), np.array(0.5, np.float32), zero_point)
    assert y.dtype == numpy_dtype(dtype)
    assert y.astype(int).tolist() == [low, low, high, high, 1]


def test_a_zero_point_is_added_exactly_also_in_half_precision():
    y = quantize_linear(np.array([2049, 4097], np.float16), np.array(1, np.float16), np.array(3, np.int16))
    assert y.tolist() == [2051, 4099]  # 2049 rounds to 2048 in float16, 4097 to 4096


def test_a_scale_of_zero_saturates_quietly():
    assert quantize_linear(f32(-1, 0, 1), np.array(0, np.float32)).tolist() == [0, 0, 255]


def test_output_type():
    x, scale = f32(1, 2), np.array(1, np.float32)
    assert quantize_linear(x, scale).dtype == np.uint8
    assert quantize_linear(x, scale, output_dtype=INT4).dtype == numpy_dtype("int4")
    with pytest.raises(ValueError, match="output_dtype is int4, but the zero point is uint8"):
        quantize_linear(x, scale, np.array(0, np.uint8), output_dtype=INT4)
    types = [TensorType("float32", ("n", 3)), TensorType("float32", ()), None]
    assert quantize_linear.infer_types(types, {"output_dtype": UINT4}) == (TensorType("uint4", ("n", 3)),)
    types[2] = TensorType("int8", ())
    assert quantize_linear.infer_types(types, {}) == (TensorType("int8", ("n", 3)),)
    with pytest.raises(TypeInferenceError, match="they should be equal"):
        quantize_linear.infer_types(types, {"output_dtype": UINT4})


def test_precision_is_that_of_the_scale_unless_asked_otherwise():
    x, scale = f32(2051), np.array(1, np.float16)  # 2051 is 2052 in float16
    zero_point = np.array(0, np.int16)
    assert quantize_linear(x, scale, zero_point).tolist() == [2052]
    assert quantize_linear(x, scale, zero_point, precision=FLOAT32).tolist() == [2051]


def test_float8_saturates_or_not():
    x, one = f32(1e6, 17), np.array(1, np.float32)
    zero = np.zeros((), numpy_dtype("float8e4m3fn"))
    assert quantize_linear(x, one, zero).astype(float).tolist() == [448, 16]
    assert np.isnan(quantize_linear(x, one, zero, saturate=0).astype(float)[0])
    zero = np.zeros((), numpy_dtype("float4e2m1"))
    assert quantize_linear(f32(1e6, -1.2), one, zero).astype(float).tolist() == [6, -1]


def test_granularity():
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    per_row = f32(1, 2, 4)
    expected = np.rint(x / per_row[:, None])
    np.testing.assert_array_equal(quantize_linear_13(x, per_row, axis=0), expected)
    np.testing.assert_array_equal(quantize_linear_13(x, per_row, axis=-2), expected)
    blocks = f32(1, 2, 4, 8, 16, 32).reshape(3, 2)  # columns 0-2 and 3
    whole = blocks[:, [0, 0, 0, 1]]
    np.testing.assert_array_equal(quantize_linear(x, blocks, axis=1, block_size=3), np.rint(x / whole))
    with pytest.raises(ValueError, match=r"slices of axis 1 of data \(3, 4\) has shape \(4,\)"):
        quantize_linear_13(x, per_row)
    with pytest.raises(ValueError, match=r"blocks of 2 along axis 0 of data \(3, 4\) has shape \(2, 4\)"):
        quantize_linear_21(x, blocks, axis=0, block_size=2)
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        quantize_linear_13(x, per_row, axis=2)
    with pytest.raises(ValueError, match="before opset 13 it has one element"):
        quantize_linear_10(x, per_row)


# ---- DequantizeLinear ----------------------------------------------------------------------------------------


def test_quantize_then_dequantize_is_within_half_a_step():
    x = np.random.default_rng(0).uniform(-1, 1, 1000).astype(np.float32)
    scale, zero_point = np.array(2 / 255, np.float32), np.array(128, np.uint8)
    back = dequantize_linear(quantize_linear(x, scale, zero_point), scale, zero_point)
    inside = x < 127 * scale
    assert np.abs(back - x)[inside].max() <= scale / 2 * (1 + 1e-5)


def test_differences_do_not_wrap():
    y = dequantize_linear_10(np.array([0, 255], np.uint8), np.array(2, np.float32), np.array(128, np.uint8))
    assert y.tolist() == [-256, 254]
    y = dequantize_linear(np.array([-32768], np.int16), np.array(1, np.float32), np.array(32767, np.int16))
    assert y.tolist() == [-65535]


def test_half_precision_rounds_once_and_does_not_overflow_on_the_way():
    y = dequantize_linear(np.array([1_000_000], np.int32), np.array(1e-3, np.float16))
    assert y.dtype == np.float16
    assert y[0] == np.float16(1000.5)  # 1e-3 is 0.0010004 in float16


def test_output_dtype_and_power_of_two_scales():
    x, scale = np.array([3], np.int8), np.array(4).astype(numpy_dtype("float8e8m0"))
    y = dequantize_linear(x, scale, output_dtype=FLOAT16)
    assert (y.dtype, y.tolist()) == (np.float16, [12])
    with pytest.raises(ValueError, match="needs the attribute output_dtype"):
        dequantize_linear(x, scale)


def test_gradient_of_the_scale_sums_over_what_shares_it():
    rng = np.random.default_rng(0)
    x, ct = rng.integers(-9, 9, (2, 5)).astype(np.int8), rng.normal(size=(2, 5))
    rule = dequantize_linear.derived("vjp[x_scale]").function
    whole = rule(ct, x, like(np.ones(())), np.array(3, np.int8), axis=1, block_size=0)
    assert whole == pytest.approx(np.sum(ct * (x - 3.0)))
    slopes = ct * x
    columns = rule(ct, x, like(np.ones(5)), None, axis=1, block_size=0)
    np.testing.assert_allclose(columns, slopes.sum(0))
    blocks = rule(ct, x, like(np.ones((2, 3))), None, axis=1, block_size=2)
    np.testing.assert_allclose(blocks, np.add.reduceat(slopes, [0, 2, 4], axis=1))


def test_quantized_tensors_carry_no_gradient():
    assert not quantize_linear.is_differentiable("x")
    assert quantize_linear.nondiff == {"x", "y_scale", "y_zero_point"}
    assert dequantize_linear_13.nondiff == {"x", "x_zero_point"}


# ---- DynamicQuantizeLinear -----------------------------------------------------------------------------------


def test_dynamic_range_includes_zero():
    y, scale, zero_point = dynamic_quantize_linear(f32(1, 2.1, 1.3, 2.5, 3.34, 4))
    assert y.tolist() == [64, 134, 83, 159, 213, 255]
    assert scale == pytest.approx(4 / 255)
    assert zero_point == 0
    y, scale, zero_point = dynamic_quantize_linear(f32(-1, -2.1, -1.3, -2.5, -3.34, -4))
    assert y.tolist() == [191, 121, 172, 96, 42, 0]
    assert zero_point == 255


@pytest.mark.parametrize("x", [f32(0, 0), f32(), f32(1e-45, 0), f32(np.nan, 1)])
def test_dynamic_quantization_of_degenerate_data_is_quiet(x):
    y, scale, zero_point = dynamic_quantize_linear(x)
    assert (y.dtype, scale.dtype, zero_point.dtype) == (np.uint8, np.float32, np.uint8)
    assert y.shape == x.shape


# ---- products ------------------------------------------------------------------------------------------------


def conv_by_hand(x, w, stride):
    """Convolution in Python integers, no padding, one group."""
    (n, c, h), (m, _, k) = x.shape, w.shape
    out = (h - k) // stride + 1
    y = np.zeros((n, m, out), object)
    for i, j, o in itertools.product(range(n), range(m), range(out)):
        y[i, j, o] = sum(int(x[i, ch, o * stride + t]) * int(w[j, ch, t]) for ch in range(c) for t in range(k))
    return y


def test_integer_convolution_is_exact_where_float32_is_not():
    x = np.full((1, 700, 5), 255, np.uint8)
    x[0, 0, 0] = 254
    w = np.full((2, 700, 3), 255, np.uint8)
    w[1, 0] = 1
    y = conv_integer(x, w, strides=(2,))
    assert y.dtype == np.int32
    assert y.tolist() == conv_by_hand(x, w, 2).tolist()
    assert int(y.max()) > 2**24


def test_padding_counts_as_the_zero_point():
    x = np.full((1, 1, 3), 7, np.uint8)
    w = np.array([[[1, 2, 3]]], np.int8)
    assert conv_integer(x, w, np.array(7, np.uint8), pads=(1, 1)).tolist() == [[[0, 0, 0]]]
    assert conv_integer(x, w, pads=(1, 1)).tolist() == [[[35, 42, 21]]]


def test_zero_points_per_output_channel():
    x, w = np.full((1, 1, 2), 2, np.uint8), np.full((2, 1, 2), 5, np.int8)
    assert conv_integer(x, w, None, np.array([5, 3], np.int8)).tolist() == [[[0], [8]]]


def test_quantized_convolution():
    one = np.array(1, np.float32)
    x, w = np.array([[[10, 20, 30]]], np.uint8), np.array([[[1, 1]], [[2, -1]]], np.int8)
    zero, zero8, offset = np.array(0, np.uint8), np.array(0, np.int8), np.array(5, np.uint8)
    y = qlinear_conv(x, one, zero, w, f32(0.5, 4), zero8, 2 * one, offset, np.array([2, -1], np.int32))
    # (30 + 2) / 4 + 5, (50 + 2) / 4 + 5; (0 - 1) * 2 + 5, (10 - 1) * 2 + 5
    assert y.tolist() == [[[13, 18], [3, 23]]]
    assert y.dtype == np.uint8
    types = [TensorType("uint8", ("n", 1, 3)), TensorType("float32", ()), TensorType("uint8", ())]
    weight = [TensorType("int8", (2, 1, 2)), TensorType("float32", (2,)), TensorType("int8", ())]
    found = qlinear_conv.infer_types([*types, *weight, TensorType("float32", ()), TensorType("int8", ()), None], {})
    assert found == (TensorType("int8", ("n", 2, 2)),)


def test_quantized_matrix_product_by_rows_and_columns():
    a, b = np.array([[1, 2], [3, 4]], np.uint8), np.array([[1, 0], [0, 1]], np.int8)
    one, zero = f32(1), np.array([0], np.int8)
    y = qlinear_matmul(a, f32(1, 2), np.array([1, 0], np.uint8), b, f32(1, 10), np.array([0, 0], np.int8), one, zero)
    assert y.tolist() == [[0, 10], [6, 80]]
    y = qlinear_matmul(a, one, np.array([0], np.uint8), 100 * b, one, zero, f32(200), np.array([100], np.int8))
    assert y.tolist() == [[100, 101], [102, 102]]  # 0.5 and 1.5 go to even
