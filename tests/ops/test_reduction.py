"""Reductions, running sums and products, TopK and normalizations, beyond what the conformance kit tries."""

import math

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.op import like
from graphrt.ops import axis_normalization, ranking, reduction, reduction_norms
from graphrt.ops.axis_normalization import lp_normalization, mean_variance_normalization
from graphrt.ops.cumulative import cum_prod, cum_sum
from graphrt.ops.ranking import arg_max, arg_min, top_k, top_k_1
from graphrt.ops.reduction import (
    reduce_max,
    reduce_mean,
    reduce_mean_1,
    reduce_min,
    reduce_prod,
    reduce_sum,
    reduce_sum_1,
)
from graphrt.ops.reduction_norms import (
    reduce_l1,
    reduce_l2,
    reduce_log_sum,
    reduce_log_sum_exp,
    reduce_sum_square,
)
from graphrt.types import TensorType

BY_INPUT = [o for o in (*reduction.OPS, *reduction_norms.OPS) if o.version > 1]
BY_ATTRIBUTE = {o.op_type: o for o in (*reduction.OPS, *reduction_norms.OPS) if o.version == 1}
LAST = np.array([-1])


@pytest.mark.parametrize(
    ("op", "identity"),
    [
        (reduce_sum, 0),
        (reduce_prod, 1),
        (reduce_max, -math.inf),
        (reduce_min, math.inf),
        (reduce_l1, 0),
        (reduce_l2, 0),
        (reduce_sum_square, 0),
        (reduce_log_sum, -math.inf),
        (reduce_log_sum_exp, -math.inf),
        (reduce_mean, math.nan),
    ],
)
def test_empty_sets_give_the_identity(op, identity):
    y = op(np.zeros((2, 0), np.float32), LAST)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, np.full((2, 1), identity))


def test_empty_extremes_of_integers_and_booleans():
    assert reduce_max(np.zeros(0, np.int8)) == -128
    assert reduce_min(np.zeros(0, np.uint8)) == 255
    assert not reduce_max(np.zeros(0, bool)).any()
    assert reduce_min(np.zeros(0, bool)).all()


@pytest.mark.parametrize("op", BY_INPUT, ids=lambda o: o.op_type)
def test_both_forms_agree(op):
    x = np.random.default_rng(0).uniform(1, 2, (2, 3, 4))
    old = BY_ATTRIBUTE[op.op_type]
    np.testing.assert_array_equal(op(x, np.array([0, -1]), keepdims=0), old(x, axes=(0, -1), keepdims=0))
    np.testing.assert_array_equal(op(x), old(x))


@pytest.mark.parametrize("op", BY_INPUT, ids=lambda o: o.op_type)
def test_reducing_no_axes_still_transforms(op):
    x = np.array([[1.0, 2.0], [4.0, 8.0]])
    pointwise = {"ReduceLogSum": np.log(x), "ReduceSumSquare": x * x}.get(op.op_type, x)
    np.testing.assert_allclose(op(x, noop_with_empty_axes=1), pointwise)
    np.testing.assert_allclose(op(x, np.zeros(0, np.int64), noop_with_empty_axes=1, keepdims=0), pointwise)


@pytest.mark.parametrize("op", BY_INPUT, ids=lambda o: o.op_type)
def test_wrong_axes_are_named(op):
    with pytest.raises(ValueError, match="axis 2 is out of range for a tensor of 2 dimensions"):
        op(np.ones((2, 3)), np.array([2]))
    with pytest.raises(ValueError, match="name one axis twice"):
        op(np.ones((2, 3)), np.array([1, -1]))


def test_half_precision_adds_up_in_single():
    ones = np.ones(4096, np.float16)
    assert reduce_sum(ones) == 4096
    assert reduce_mean(ones) == 1
    assert reduce_l2(np.full(4, 300, np.float16)) == 600
    assert cum_sum(ones, np.array(0))[-1] == 4096


def test_mean_of_integers_is_cut_toward_zero():
    y = reduce_mean(np.array([[7, 0], [-7, 0]], np.int32), LAST)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, [[3], [-3]])


def test_ties_share_the_gradient_evenly():
    x = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    y = np.max(x, 1, keepdims=True)
    shares = np.array([[0, 1 / 2, 1 / 2], [1 / 3, 1 / 3, 1 / 3]])
    np.testing.assert_allclose(reduce_max.derived("vjp[data]").function(np.ones((2, 1)), x, y, LAST), shares)
    x_dot = np.array([[5.0, 2.0, 4.0], [1.0, 2.0, 6.0]])
    np.testing.assert_allclose(reduce_max.derived("jvp[data]").function(x_dot, x, y, LAST), [[3.0], [3.0]])


def test_product_gradient_is_exact_at_zeros():
    vjp = reduce_prod.derived("vjp[data]").function
    x = np.array([[2.0, 3.0, 4.0], [0.0, 3.0, 4.0], [0.0, 0.0, 4.0]])
    np.testing.assert_array_equal(vjp(np.ones((3, 1)), x, LAST), [[12, 8, 6], [12, 0, 0], [0, 0, 0]])
    both = vjp(np.ones(()), np.array([[1.0, 2.0], [3.0, 4.0]]), None)
    np.testing.assert_array_equal(both, [[24, 12], [8, 6]])


def test_l2_of_extremes_and_its_gradient_at_zero():
    assert reduce_l2(np.array([3e200, 4e200])) == pytest.approx(5e200, rel=1e-15)
    assert reduce_l2(np.array([3e-200, 4e-200])) == pytest.approx(5e-200, rel=1e-15)
    assert reduce_l2(np.array([np.inf, 1.0])) == np.inf
    gradient = reduce_l2.derived("vjp[data]").function(np.ones((1,)), np.zeros(3), np.zeros(1), None)
    np.testing.assert_array_equal(gradient, np.zeros(3))


def test_log_sum_exp_of_extremes():
    assert reduce_log_sum_exp(np.array([1e4, 1e4])) == pytest.approx(1e4 + math.log(2))
    assert reduce_log_sum_exp(np.array([-1e4, -1e4])) == pytest.approx(-1e4 + math.log(2))
    assert reduce_log_sum_exp(np.array([-np.inf, 3.0])) == 3
    assert reduce_log_sum_exp(np.array([np.inf, 3.0])) == np.inf
    x = np.array([[-np.inf, 0.0, 0.0], [-np.inf, -np.inf, -np.inf]])
    vjp = reduce_log_sum_exp.derived("vjp[data]").function
    np.testing.assert_allclose(vjp(np.ones((2, 1)), x, reduce_log_sum_exp(x, LAST), LAST), [[0, 0.5, 0.5], [0, 0, 0]])


def test_log_of_a_negative_sum_is_nan_without_a_warning():
    assert np.isnan(reduce_log_sum(np.array([-1.0])))


def test_types_with_unknown_axes():
    data, axes = TensorType("float32", ("n", 1, 3)), TensorType("int64", (2,))
    assert reduce_sum.infer_types([data, axes], {})[0].shape == (None, 1, None)
    assert reduce_sum.infer_types([data, axes], {"keepdims": 0})[0].shape == (None,)
    assert reduce_sum.infer_types([data, axes], {"keepdims": 0}, [None, np.array([0, 2])])[0].shape == (1,)
    assert reduce_mean_1.infer_types([data], {"axes": (1,), "keepdims": 0})[0].shape == ("n", 3)
    assert reduce_sum_1.infer_types([TensorType("float32")], {"keepdims": 0})[0].shape == ()
    with pytest.raises(TypeInferenceError, match="axis 3 is out of range"):
        reduce_mean_1.infer_types([data], {"axes": (3,)})


# ---- running sums and products -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exclusive", "reverse", "sums", "products"),
    [
        (0, 0, [1, 3, 6], [1, 2, 6]),
        (1, 0, [0, 1, 3], [1, 1, 2]),
        (0, 1, [6, 5, 3], [6, 6, 3]),
        (1, 1, [5, 3, 0], [6, 3, 1]),
    ],
)
def test_running_sums_and_products(exclusive, reverse, sums, products):
    x, how = np.array([1, 2, 3]), {"exclusive": exclusive, "reverse": reverse}
    np.testing.assert_array_equal(cum_sum(x, np.array(0), **how), sums)
    np.testing.assert_array_equal(cum_prod(x, np.array([0]), **how), products)


def test_running_product_gradient_is_exact_at_zeros():
    x = np.array([2.0, 0.0, 3.0, 0.0, 5.0])
    jacobian = [[np.prod(np.delete(x[: j + 1], i)) if i <= j else 0.0 for i in range(5)] for j in range(5)]
    vjp = cum_prod.derived("vjp[x]").function
    for j, row in enumerate(jacobian):
        np.testing.assert_array_equal(vjp(np.eye(5)[j], x, np.array(0), exclusive=0, reverse=0), row)


def test_running_sum_wants_one_axis():
    with pytest.raises(ValueError, match="axis 1 is out of range"):
        cum_sum(np.ones(3), np.array(1))
    with pytest.raises(ValueError, match="axis is one number, not 2"):
        cum_sum(np.ones((3, 3)), np.array([0, 1]))


# ---- ranking -----------------------------------------------------------------------------------------


def test_positions_at_ties():
    x = np.array([1, 5, 5, 1])
    assert arg_max(x) == 1
    assert arg_max(x, select_last_index=1) == 2
    assert arg_min(x) == 0
    assert arg_min(x, select_last_index=1) == 3
    assert arg_max(x, keepdims=0).dtype == np.int64


def test_position_in_an_empty_axis_is_refused():
    with pytest.raises(ValueError, match="empty"):
        arg_max(np.zeros((2, 0)), axis=1)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_top_k_prefers_the_lower_index(dtype):
    x = np.array([1, 3, 0, 3, 1, 3], dtype)
    values, indices = top_k(x, np.array([4]))
    np.testing.assert_array_equal(indices, [1, 3, 5, 0])
    assert values.dtype == dtype
    np.testing.assert_array_equal(top_k(x, np.array([3]), largest=0)[1], [2, 0, 4])
    np.testing.assert_array_equal(top_k_1(x, k=1)[1], [1])


def test_top_k_with_extreme_integers_and_infinities():
    low = np.iinfo(np.int64).min
    np.testing.assert_array_equal(top_k(np.array([low, 0, low]), np.array([2]))[1], [1, 0])
    np.testing.assert_array_equal(top_k(np.array([-np.inf, np.inf, 0.0]), np.array([3]))[1], [1, 2, 0])


def test_top_k_gradient_goes_to_the_chosen_places():
    x = np.array([[1.0, 9.0, 5.0], [8.0, 2.0, 4.0]])
    _, indices = top_k(x, np.array([2]))
    gradient = top_k.derived("vjp[x]").function(np.array([[1.0, 2.0], [3.0, 4.0]]), like(x), indices, axis=-1)
    np.testing.assert_array_equal(gradient, [[0, 1, 2], [3, 0, 4]])


def test_top_k_refuses_a_k_that_does_not_fit():
    with pytest.raises(ValueError, match="k is 4, but axis -1 has 3 elements"):
        top_k(np.ones((2, 3)), np.array([4]))
    with pytest.raises(TypeInferenceError, match="k is 4, but axis 0 has 2 elements"):
        top_k_1.infer_types([TensorType("float32", (2, 3))], {"k": 4, "axis": 0})
    assert top_k.infer_types([TensorType("float32", ("n", 3)), TensorType("int64", (1,))], {})[0].shape == ("n", None)


# ---- normalizations ----------------------------------------------------------------------------------


def test_normalization_of_a_zero_vector_is_zero_with_gradient_zero():
    vjp = lp_normalization.derived("vjp[input]").function
    for p in (1, 2):
        np.testing.assert_array_equal(lp_normalization(np.zeros(3), p=p), np.zeros(3))
        np.testing.assert_array_equal(vjp(np.ones(3), np.zeros(3), axis=-1, p=p), np.zeros(3))
    np.testing.assert_allclose(lp_normalization(np.array([3.0, -4.0])), [0.6, -0.8])
    np.testing.assert_allclose(lp_normalization(np.array([3e200, -4e200])), [0.6, -0.8])
    with pytest.raises(ValueError, match="p is 1 or 2, not 3"):
        lp_normalization(np.ones(2), p=3)


def test_standardization_of_constants_and_of_large_offsets():
    np.testing.assert_array_equal(mean_variance_normalization(np.full((2, 1, 2, 2), 7.0)), np.zeros((2, 1, 2, 2)))
    shifted = mean_variance_normalization(np.array([1.0, 2.0, 3.0]) + 1e8, axes=(0,))
    np.testing.assert_allclose(shifted, np.array([-1, 0, 1]) * math.sqrt(1.5), atol=1e-7)


def test_every_op_of_these_families_is_listed():
    listed = {o.op_type for m in (reduction, reduction_norms, ranking, axis_normalization) for o in m.OPS}
    assert len([t for t in listed if t.startswith("Reduce")]) == 10
    assert {"ArgMax", "ArgMin", "TopK", "LpNormalization", "MeanVarianceNormalization"} <= listed
