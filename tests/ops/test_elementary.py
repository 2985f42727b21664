"""erf and its relatives against the standard library; elementary functions at and beyond the ends of their domains."""

import math

import numpy as np
import pytest

from graphrt.dual import Dual
from graphrt.ops import _math, elementary, rounding

X = np.concatenate([np.linspace(-6, 6, 1201), [0.46875, -0.46875, 4.0, -4.0, 1e-300, 1e-10]])


def test_erf_is_as_accurate_as_float64():
    expected = np.array([math.erf(v) for v in X])
    np.testing.assert_allclose(elementary.erf(X), expected, rtol=2e-15)


def test_erfc_keeps_its_relative_accuracy_in_the_tail():
    x = np.linspace(-6, 26, 1601)
    np.testing.assert_allclose(_math.erfc(x), [math.erfc(v) for v in x], rtol=3e-15)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 5e-7), (np.float16, 2e-3)])
def test_erf_of_narrow_floats(dtype, rtol):
    x = np.linspace(-3, 3, 101).astype(dtype)
    got = elementary.erf(x)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, [math.erf(v) for v in x.astype(np.float64)], rtol=rtol)


def test_erf_of_special_values():
    got = elementary.erf(np.array([np.inf, -np.inf, np.nan, -0.0]))
    np.testing.assert_array_equal(got, [1, -1, np.nan, 0])
    assert np.signbit(got[3])
    assert elementary.erf(np.zeros((0, 3))).shape == (0, 3)
    assert elementary.erf(np.array(0.5)).shape == ()


def test_second_derivative_of_erf():
    x = np.array([-0.7, 0.0, 1.3])
    twice = _math.erf(Dual(Dual(x, np.ones(3)), np.ones(3))).tangent.tangent
    np.testing.assert_allclose(twice, -4 * x / math.sqrt(math.pi) * np.exp(-x * x), atol=1e-15)


def test_sigmoid_and_softplus_are_accurate_everywhere():
    x = np.linspace(-700, 30, 1001)
    np.testing.assert_allclose(_math.sigmoid(x), [math.exp(v) / (1 + math.exp(v)) for v in x], rtol=1e-14)
    np.testing.assert_allclose(_math.softplus(x), [math.log1p(math.exp(v)) for v in x], rtol=1e-14)
    np.testing.assert_array_equal(_math.sigmoid(np.array([-1e4, 1e4, -np.inf, np.inf])), [0, 1, 0, 1])
    np.testing.assert_array_equal(_math.softplus(np.array([-1e4, 1e4, -np.inf, np.inf])), [0, 1e4, 0, np.inf])


def test_outside_the_domain_ieee_speaks_silently():
    x = np.array([-2.0, 0.0, 2.0])
    np.testing.assert_array_equal(elementary.log(x)[:2], [np.nan, -np.inf])
    np.testing.assert_array_equal(elementary.sqrt(x)[:1], [np.nan])
    np.testing.assert_array_equal(elementary.asin(x), [np.nan, 0, np.nan])
    np.testing.assert_array_equal(elementary.acosh(x)[:2], [np.nan, np.nan])
    np.testing.assert_array_equal(elementary.atanh(np.array([-1.0, 1.0])), [-np.inf, np.inf])
    np.testing.assert_array_equal(elementary.exp(np.array([1e4, -1e4])), [np.inf, 0])


def test_round_takes_halves_to_even():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 0.9, 1.5, 2.3, 2.5])
    assert rounding.round_(x).tolist() == [-2, -2, 0, 0, 1, 2, 2, 2]
    assert rounding.sign(np.array([-3, 0, 7])).tolist() == [-1, 0, 1]
