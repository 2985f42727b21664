"""Arithmetic beyond the table of all ops: integers, powers, remainders, opset 6."""

import math

import numpy as np
import pytest

from graphrt.ops import arithmetic, legacy


def vjp(op, wrt, ct, inputs, **attributes):
    """Calls a VJP rule of an op with named inputs and its own output."""
    rule = op.derived(f"vjp[{wrt}]")
    values = {**inputs, op.outputs[0]: op(*inputs.values(), **attributes), "ct": ct}
    args = [values[p.name.removesuffix("_like")] for p in rule.inputs]
    settings = {**op.defaults(), **attributes}
    return rule(*args, **{k: settings[k] for k in rule.attributes})


def test_integer_division_rounds_toward_zero():
    pairs = [(a, b) for a in range(-9, 10) for b in (-4, -3, -1, 1, 2, 5)]
    a, b = (np.array(column, np.int32) for column in zip(*pairs, strict=True))
    got = arithmetic.div(a, b)
    assert got.tolist() == [math.trunc(x / y) for x, y in pairs]
    assert got.dtype == np.int32


def test_integer_division_at_the_edges_of_the_type_is_silent():
    assert arithmetic.div(np.array([5, -5, 0]), np.array([0, 0, 0])).tolist() == [0, 0, 0]
    low = np.array([-128], np.int8)
    assert arithmetic.div(low, np.array([-1], np.int8)).dtype == np.int8
    assert arithmetic.div(np.array([250], np.uint8), np.array([3], np.uint8)).tolist() == [83]


def test_float_division_follows_ieee():
    got = arithmetic.div(np.array([1.0, -1.0, 0.0]), np.array([0.0, 0.0, 0.0]))
    assert got[:2].tolist() == [np.inf, -np.inf]
    assert np.isnan(got[2])


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [
        (np.array([1, 2, 3], np.int32), np.array([4.0, 5.0, 0.5]), [1, 32, 1]),
        (np.array([1.5, 2.0], np.float32), np.array([2, 3]), [2.25, 8.0]),
        (np.array([1.5, 2.0], np.float16), np.array([2.0, 3.0]), [2.25, 8.0]),
        (np.array([2, -3, 1, -1, -1, 0]), np.array([-1, -2, -5, -5, -4, -1]), [0, 0, 1, -1, 1, 0]),
        (np.array([3, 200], np.uint8), np.array([2, 2]), [9, 200 * 200 % 256]),
    ],
)
def test_pow_keeps_the_dtype_of_the_base(base, exponent, expected):
    got = arithmetic.pow_(base, exponent)
    assert got.dtype == base.dtype
    assert got.tolist() == expected


def test_pow_slopes_at_base_zero_and_below():
    x, y = np.array([0.0, 0.0, 0.0, -2.0, -2.0]), np.array([0.0, 1.0, 2.0, 3.0, 0.0])
    inputs, ct = {"x": x, "y": y}, np.ones(5)
    assert vjp(arithmetic.pow_, "x", ct, inputs).tolist() == [0, 1, 0, 12, 0]
    assert vjp(arithmetic.pow_, "y", ct, inputs).tolist() == [0, 0, 0, 0, 0]
    pole = {"x": np.array([0.0]), "y": np.array([-1.0])}
    assert vjp(arithmetic.pow_, "y", np.ones(1), pole).tolist() == [0]


def test_pow_cotangents_have_the_dtypes_of_their_inputs():
    inputs = {"x": np.array([2.0, 3.0], np.float32), "y": np.array(1.5, np.float64)}
    assert vjp(arithmetic.pow_, "x", np.ones(2, np.float32), inputs).dtype == np.float32
    assert vjp(arithmetic.pow_, "y", np.ones(2, np.float32), inputs).dtype == np.float64


def test_mod_signs():
    a, b = np.array([-4.25, 7.0, 5.0, 4.25]), np.array([2.0, -3.0, 8.0, -2.0])
    assert arithmetic.mod(a, b).tolist() == [1.75, -2.0, 5.0, -1.75]
    assert arithmetic.mod(a, b, fmod=1).tolist() == [math.fmod(p, q) for p, q in zip(a, b, strict=True)]
    assert arithmetic.mod(np.array([-4, 7]), np.array([3, -3])).tolist() == [2, -2]
    assert arithmetic.mod(np.array([-4, 7]), np.array([3, -3]), fmod=1).tolist() == [-1, 1]


def test_mod_special_cases_of_opset_28():
    inf, nan = np.inf, np.nan
    a, b = np.array([0.0, inf, 1.0, 1.0, 1.0, nan]), np.array([-2.0, 2.0, 0.0, inf, -inf, 1.0])
    got = arithmetic.mod(a, b)
    np.testing.assert_array_equal(got, [-0.0, nan, nan, 1.0, -inf, nan])
    assert np.signbit(got[0])
    np.testing.assert_array_equal(arithmetic.mod(a, b, fmod=1), [0.0, nan, nan, 1.0, 1.0, nan])
    with pytest.raises(ValueError, match="fmod is 0 or 1, not 2"):
        arithmetic.mod(a, b, fmod=2)


def test_abs_is_flat_at_its_kink():
    assert vjp(arithmetic.abs_, "x", np.ones(3), {"x": np.array([-2.0, 0.0, 3.0])}).tolist() == [-1, 0, 1]


def test_overflow_is_silent():
    big = np.array([3e38], np.float32)
    assert arithmetic.add(big, big)[0] == np.inf
    assert arithmetic.mul(big, big)[0] == np.inf
    assert np.isnan(arithmetic.sub(big * 0 + np.float32(np.inf), np.array([np.inf], np.float32)))[0]


# ---- opset 6 -------------------------------------------------------------------------------------------

A = np.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("shape", "attributes", "index"),
    [
        ((), {}, np.s_[None, None, None]),
        ((1, 1), {}, np.s_[None]),
        ((4,), {}, np.s_[None, None, :]),
        ((3, 4), {}, np.s_[None, :, :]),
        ((3,), {"axis": 1}, np.s_[None, :, None]),
        ((2,), {"axis": 0}, np.s_[:, None, None]),
        ((2, 3), {"axis": 0}, np.s_[:, :, None]),
        ((3,), {"axis": -2}, np.s_[None, :, None]),
    ],
)
def test_opset_6_broadcasts_by_axis(shape, attributes, index):
    b = 1.5 + np.arange(math.prod(shape)).reshape(shape)
    b_full = b[index] + np.zeros_like(A)
    attributes = {**attributes, "broadcast": 1}
    np.testing.assert_array_equal(legacy.add_6(A, b, **attributes), A + b_full)
    np.testing.assert_array_equal(legacy.sub_6(A, b, **attributes), A - b_full)
    np.testing.assert_array_equal(legacy.mul_6(A, b, **attributes), A * b_full)
    np.testing.assert_array_equal(legacy.div_6(A, b, **attributes), A / b_full)
    np.testing.assert_allclose(legacy.pow_1(A, b, **attributes), A**b_full)
    greater = next(o for o in legacy.comparisons if o.op_type == "Greater")
    np.testing.assert_array_equal(greater(A, b, **attributes), b_full < A)
    # each element of b is used 24 / b.size times, with slope -1 in Sub
    got = vjp(legacy.sub_6, "b", np.ones_like(A), {"a": A, "b": b}, **attributes)
    np.testing.assert_array_equal(got, np.full(shape, -24.0 / b.size))


def test_opset_6_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="broadcast=1"):
        legacy.add_6(A, np.ones(4))
    with pytest.raises(ValueError, match="from axis 0 on"):
        legacy.add_6(A, np.ones(4), broadcast=1, axis=0)
    with pytest.raises(ValueError, match="the last ones"):
        legacy.add_6(A, np.ones(3), broadcast=1)
    with pytest.raises(ValueError, match="from axis 7 on"):
        legacy.add_6(A, np.ones(4), broadcast=1, axis=7)
