"""Comparisons of strings and NaN, kinds of infinity, shifts beyond the width."""

import numpy as np
import pytest

from graphrt.ops import logic
from graphrt.types import TensorType


def test_strings_compare():
    a, b = np.array(["x", "y"], object), np.array(["x", "z"], object)
    got = logic.equal(a, b)
    assert got.dtype == bool
    assert got.tolist() == [True, False]


def test_nan_equals_nothing():
    x = np.array([np.nan, 1.0])
    assert logic.equal(x, x).tolist() == [False, True]
    assert logic.less_or_equal(x, x).tolist() == [False, True]


def test_the_result_is_bool_whatever_the_inputs_are():
    unknown = TensorType(None, ("n", 1))
    assert logic.less.infer_types([unknown, TensorType("int64", (3,))], {}) == (TensorType("bool", ("n", 3)),)


@pytest.mark.parametrize(
    ("negative", "positive", "expected"), [(1, 1, "0101"), (0, 1, "0001"), (1, 0, "0100"), (0, 0, "0000")]
)
def test_is_inf_detects_what_it_is_told_to(negative, positive, expected):
    x = np.array([np.nan, -np.inf, 1.0, np.inf])
    got = logic.is_inf(x, detect_negative=negative, detect_positive=positive)
    assert got.tolist() == [c == "1" for c in expected]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int32, np.int64])
def test_signed_shifts_beyond_the_width(dtype):
    bits = np.dtype(dtype).itemsize * 8
    x, y = np.array([-5, 5, -5, 5, -5], dtype), np.array([bits, bits, -1, -1, 1], dtype)
    assert logic.bit_shift(x, y, direction="RIGHT").tolist() == [-1, 0, -1, 0, -3]
    assert logic.bit_shift(x, y, direction="LEFT").tolist() == [0, 0, 0, 0, -10]


def test_unsigned_shifts():
    x, y = np.array([16, 4, 255], np.uint8), np.array([1, 9, 3], np.uint8)
    assert logic.bit_shift(x, y, direction="RIGHT").tolist() == [8, 0, 31]
    assert logic.bit_shift(x, y, direction="LEFT").tolist() == [32, 0, 248]
    with pytest.raises(ValueError, match="'LEFT' or 'RIGHT', not 'UP'"):
        logic.bit_shift(x, y, direction="UP")


def test_bits_and_truth():
    a, b = np.array([0b1100, -1]), np.array([0b1010, 7])
    assert logic.bitwise_and(a, b).tolist() == [0b1000, 7]
    assert logic.bitwise_or(a, b).tolist() == [0b1110, -1]
    assert logic.bitwise_xor(a, b).tolist() == [0b0110, -8]
    assert logic.bitwise_not(np.array([5], np.uint8)).tolist() == [250]
    p, q = np.array([True, True, False]), np.array([True, False, False])
    assert [f(p, q).tolist() for f in (logic.and_, logic.or_, logic.xor)] == [
        [True, False, False], [True, True, False], [False, True, False]]  # fmt: skip
