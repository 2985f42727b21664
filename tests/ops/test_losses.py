"""Losses: values by the formula, extremes, ignored samples, conventions at kinks."""

import math

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops.losses import negative_log_likelihood_loss, softmax_cross_entropy_loss
from graphrt.ops.pointwise_losses import OPS as POINTWISE
from graphrt.ops.pointwise_losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    hinge,
    huber,
    mean_absolute_error,
    mean_squared_error,
)
from graphrt.types import TensorType


def _gradient(op, x, t, **attributes):
    rule = op.derived("vjp[input]").function
    return rule(np.ones((), x.dtype), x, t, **{**op.defaults(), **attributes})


def _softmax_gradient(x, labels, weights=None, ct_log_prob=None, **attributes):
    rule = softmax_cross_entropy_loss.derived("vjp[scores]").function
    given = {**softmax_cross_entropy_loss.defaults(), **attributes}
    return rule(np.ones((), x.dtype), ct_log_prob, x, labels, weights, **given)


def _softmax_loss(*inputs, **attributes):
    loss, log_prob = softmax_cross_entropy_loss(*inputs, **attributes)
    assert log_prob is None, "the second output is computed only if asked for"
    return loss


# ---- labels ------------------------------------------------------------------------------------------


def test_softmax_cross_entropy_by_the_formula():
    scores, labels, weights = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]), np.array([2, 0]), np.array([2.0, 1.0, 0.5])
    each = [math.log(sum(math.exp(s) for s in row)) - row[c] for row, c in zip(scores.tolist(), [2, 0], strict=True)]
    loss = _softmax_loss
    np.testing.assert_allclose(loss(scores, labels, reduction="none"), each)
    assert loss(scores, labels) == pytest.approx(sum(each) / 2)
    assert loss(scores, labels, weights) == pytest.approx((0.5 * each[0] + 2 * each[1]) / 2.5)
    assert loss(scores, labels, weights, reduction="sum") == pytest.approx(0.5 * each[0] + 2 * each[1])
    assert loss(scores, labels, ignore_index=0) == pytest.approx(each[0])
    _, log_prob = softmax_cross_entropy_loss(scores, labels, n_outputs=2)
    np.testing.assert_allclose(np.exp(log_prob).sum(1), 1)


def test_gradient_is_softmax_minus_onehot():
    x = np.array([[0.0, 0.0], [math.log(3), 0.0]])
    expected = (np.array([[0.5, 0.5], [0.75, 0.25]]) - np.array([[1, 0], [0, 1]])) / 2
    np.testing.assert_allclose(_softmax_gradient(x, np.array([0, 1])), expected, atol=1e-15)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_extreme_scores_keep_loss_and_gradient_finite(dtype):
    x = np.array([[1e4, -1e4, 0.0]], dtype)
    loss = _softmax_loss(x, np.array([1]))
    assert loss.dtype == dtype
    assert loss == pytest.approx(2e4, rel=1e-3)
    gradient = _softmax_gradient(x, np.array([1]))
    assert gradient.dtype == dtype
    np.testing.assert_array_equal(gradient, [[1, -1, 0]])


def test_gradient_through_the_second_output_only():
    rule = softmax_cross_entropy_loss.derived("vjp[scores]").function
    x, ct = np.zeros((1, 2)), np.array([[1.0, 0.0]])
    given = softmax_cross_entropy_loss.defaults()
    np.testing.assert_allclose(rule(None, ct, x, np.array([0]), None, **given), [[0.5, -0.5]])


def test_ignored_samples_count_for_nothing_whatever_they_hold():
    x = np.array([[0.0, 0.0], [-np.inf, 5.0]])
    labels = np.array([0, -100])
    assert _softmax_loss(x, labels, ignore_index=-100) == pytest.approx(math.log(2))
    assert negative_log_likelihood_loss(x - 1, labels, ignore_index=-100) == 1
    np.testing.assert_array_equal(_softmax_gradient(x, labels, ignore_index=-100)[1], [0, 0])


def test_the_mean_of_no_samples_is_no_number_and_its_gradient_is_zero():
    x, labels = np.ones((2, 3), np.float32), np.array([9, 9])
    assert np.isnan(_softmax_loss(x, labels, ignore_index=9))
    assert np.isnan(negative_log_likelihood_loss(x, labels, ignore_index=9))
    assert np.isnan(_softmax_loss(x[:0], labels[:0]))
    np.testing.assert_array_equal(_softmax_gradient(x, labels, ignore_index=9), np.zeros((2, 3)))


@pytest.mark.parametrize("loss", [softmax_cross_entropy_loss, negative_log_likelihood_loss], ids=lambda o: o.op_type)
def test_wrong_labels_and_weights_are_named(loss):
    x = np.zeros((2, 3))
    with pytest.raises(ValueError, match="label 3 is not one of the classes 0 to 2"):
        loss(x, np.array([0, 3]))
    with pytest.raises(ValueError, match="label -1 is not one of the classes"):
        loss(x, np.array([0, -1]))
    with pytest.raises(ValueError, match="do not fit scores"):
        loss(x, np.array([[0], [1]]))
    with pytest.raises(ValueError, match="3 classes need 3 weights"):
        loss(x, np.array([0, 1]), np.ones(2))
    with pytest.raises(ValueError, match="'mean', 'sum' or 'none'"):
        loss(x, np.array([0, 1]), reduction="average")


def test_types_of_label_losses():
    scores, labels = TensorType("float32", ("n", 10, 4)), TensorType("int64", ("n", 4))
    infer = softmax_cross_entropy_loss.infer_types
    assert infer([scores, labels], {}, n_outputs=2) == (TensorType("float32", ()), scores)
    assert infer([scores, labels], {"reduction": "none"})[0] == TensorType("float32", ("n", 4))
    with pytest.raises(TypeInferenceError, match="do not fit"):
        infer([scores, TensorType("int64", ("n", 5))], {})


# ---- element by element ------------------------------------------------------------------------------


@pytest.mark.parametrize("op", POINTWISE, ids=lambda o: o.op_type)
def test_shapes_must_be_equal(op):
    with pytest.raises(ValueError, match="differ in shape; reshape"):
        op(np.full((4, 1), 0.5), np.ones(4))
    with pytest.raises(TypeInferenceError, match="reshape one to the other"):
        op.infer_types([TensorType("float32", (4, 1)), TensorType("float32", (4,))], {})
    with pytest.raises(ValueError, match="'mean', 'sum' or 'none'"):
        op(np.full(4, 0.5), np.ones(4), reduction="max")


@pytest.mark.parametrize("op", POINTWISE, ids=lambda o: o.op_type)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtype_is_the_inputs_and_the_empty_mean_is_zero(op, dtype):
    x, t = np.full(3, 0.5, dtype), np.ones(3, np.int64)
    assert op(x, t).dtype == dtype
    assert _gradient(op, x, t).dtype == dtype
    assert op(x[:0], t[:0]) == 0


def test_half_precision_losses_add_up_in_single():
    x = np.full(70000, 1.5, np.float16)
    assert mean_squared_error(x, np.zeros(70000, np.float16)) == 2.25


def test_certain_and_wrong_probabilities_get_a_finite_loss_and_gradient():
    for dtype in (np.float16, np.float32, np.float64):
        p, t = np.array([0.0, 1.0, 0.0, 1.0], dtype), np.array([1, 0, 0, 1], dtype)
        loss = binary_cross_entropy(p, t, reduction="none")
        slope = _gradient(binary_cross_entropy, p, t, reduction="sum")
        assert np.isfinite(loss).all()
        assert np.isfinite(slope).all()
        assert slope[0] < -100
        assert slope[1] > 100
    assert binary_cross_entropy(np.array([0.25]), np.array([1.0])) == pytest.approx(math.log(4))


def test_extreme_logits():
    x, t = np.array([1e4, -1e4, 1e4, -1e4]), np.array([1.0, 0.0, 0.0, 1.0])
    np.testing.assert_array_equal(binary_cross_entropy_with_logits(x, t, reduction="none"), [0, 0, 1e4, 1e4])
    gradient = _gradient(binary_cross_entropy_with_logits, x, t, reduction="sum")
    np.testing.assert_array_equal(gradient, [0, 0, 1, -1])
    assert binary_cross_entropy_with_logits(np.zeros(1), np.array([True])) == pytest.approx(math.log(2))


def test_regression_losses_by_the_formula():
    x, t = np.array([1.0, 5.0, -2.0]), np.array([1.5, 1.0, -2.0])
    assert mean_squared_error(x, t) == pytest.approx((0.25 + 16) / 3)
    assert mean_absolute_error(x, t, reduction="sum") == 4.5
    np.testing.assert_allclose(huber(x, t, delta=2.0, reduction="none"), [0.125, 2 * (4 - 1), 0])
    np.testing.assert_allclose(_gradient(huber, x, t, delta=2.0, reduction="sum"), [-0.5, 2, 0])
    np.testing.assert_allclose(_gradient(mean_absolute_error, x, t, reduction="sum"), [-1, 1, 0])
    with pytest.raises(ValueError, match="delta is positive"):
        huber(x, t, delta=0.0)


def test_hinge_at_its_kink_and_its_labels():
    x, t = np.array([1.0, 0.5, -3.0, 2.0]), np.array([1, 1, 1, -1])
    np.testing.assert_allclose(hinge(x, t, reduction="none"), [0, 0.5, 4, 3])
    np.testing.assert_array_equal(_gradient(hinge, x, t, reduction="sum"), [0, -1, -1, 1])
    with pytest.raises(ValueError, match="labels of the hinge loss are -1 or"):
        hinge(x, np.array([0, 1, 1, 0]))
