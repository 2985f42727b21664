"""Ties, NaN and versions of Max, Min, Sum, Mean; bounds of Clip; Where."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops import extrema, selection
from graphrt.types import TensorType

X, Y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])


@pytest.mark.parametrize(
    ("op", "first", "second"),
    [(extrema.max_, [1, 0, 1, 1], [0, 1, 0, 0]), (extrema.min_, [1, 1, 0, 1], [0, 0, 1, 0])],
)
def test_of_equals_the_first_takes_the_gradient(op, first, second):
    a, b = op.derived("vjp[data_0]")(np.ones(4), (X, Y), op(X, Y))
    assert (a.tolist(), b.tolist()) == (first, second)


def test_nan_wins_and_takes_the_gradient():
    x, y = np.array([np.nan, 1.0]), np.array([1.0, np.nan])
    top = extrema.max_(x, y)
    assert np.isnan(top).all()
    a, b = extrema.max_.derived("vjp[data_0]")(np.ones(2), (x, y), top)
    np.testing.assert_array_equal(a + b, [1, 1])


def test_an_infinite_cotangent_does_not_leak_to_the_losers():
    a, b = extrema.max_.derived("vjp[data_0]")(np.full(4, np.inf), (X, Y), extrema.max_(X, Y))
    assert a[1] == 0
    assert b[0] == 0


@pytest.mark.parametrize("op", [extrema.max_6, extrema.min_6, extrema.sum_6, extrema.mean_6])
def test_opset_6_wants_one_shape(op):
    with pytest.raises(ValueError, match="before opset 8"):
        op(np.zeros((2, 2)), np.zeros(2))
    with pytest.raises(TypeInferenceError, match="before opset 8"):
        op.infer_types([TensorType("float32", (2, 2)), TensorType("float32", (2,))], {})
    with pytest.raises(TypeInferenceError, match="3 and 2"):
        op.infer_types([TensorType("float32", (3,)), TensorType("float32", (2,))], {})


def test_mean_and_sum():
    three = (X, Y, np.array(1.0))
    np.testing.assert_allclose(extrema.sum_(*three), X + Y + 1)
    np.testing.assert_allclose(extrema.mean(*three), (X + Y + 1) / 3)
    cts = extrema.mean.derived("vjp[data_0]")(np.ones(4), three)
    np.testing.assert_allclose([c.sum() for c in cts], [4 / 3] * 3)


# ---- Clip and Where ------------------------------------------------------------------------------------

LOW, HIGH = np.array(-1.0), np.array(1.0)


def clip_vjps(x, low, high):
    ct = np.ones_like(x)
    rules = (selection.clip.derived(f"vjp[{n}]") for n in ("input", "min", "max"))
    return [rule(ct, x, low, high).tolist() for rule in rules]


def test_clip_gives_the_gradient_to_what_it_returns_and_the_bounds_to_the_input():
    x = np.array([-2.0, -1.0, 0.0, 1.0, 3.0, 4.0])
    assert selection.clip(x, LOW, HIGH).tolist() == [-1, -1, 0, 1, 1, 1]
    assert clip_vjps(x, LOW, HIGH) == [[0, 1, 1, 1, 0, 0], 1.0, 2.0]


def test_clip_with_crossed_bounds_returns_max():
    x = np.array([-2.0, 0.0, 3.0])
    assert selection.clip(x, HIGH, LOW).tolist() == [-1, -1, -1]
    assert clip_vjps(x, HIGH, LOW) == [[0, 0, 0], 0.0, 3.0]


def test_clip_without_bounds():
    x = np.array([-np.inf, 2.0, np.inf])
    assert selection.clip(x).tolist() == x.tolist()
    assert selection.clip(x, None, HIGH).tolist() == [-np.inf, 1, 1]
    assert selection.clip(np.array([-5, 0, 5], np.int8), np.array(-1, np.int8)).tolist() == [-1, 0, 5]


def test_clip_6_has_attributes_that_fit_narrow_floats():
    x = np.array([-6e4, 0.5, 6e4], np.float16)
    np.testing.assert_array_equal(selection.clip_6(x), x)
    got = selection.clip_6(x, min=0.0, max=1.0)
    assert got.dtype == np.float16
    assert got.tolist() == [0, 0.5, 1]


def test_where_sends_the_cotangent_to_the_element_that_was_taken():
    condition, ct = np.array([[True], [False]]), np.array([[np.inf, 2.0], [3.0, 4.0]])
    x_ct = selection.where.derived("vjp[x]")(ct, condition, np.zeros(2))
    y_ct = selection.where.derived("vjp[y]")(ct, condition, np.zeros((2, 1)))
    assert x_ct.tolist() == [np.inf, 2]
    assert y_ct.tolist() == [[0], [7]]
