"""Constants, ranges, one-hot tensors and random tensors beyond what the conformance kit tries."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops.dropout import dropout, dropout_6, dropout_7, dropout_10
from graphrt.ops.generators import constant, constant_of_shape, eye_like, one_hot, one_hot_9, range_
from graphrt.ops.sampling import (
    bernoulli,
    multinomial,
    random_normal,
    random_normal_like,
    random_uniform,
    random_uniform_like,
)
from graphrt.types import TensorType


def ints(*values):
    return np.array(values, np.int64)


def generator(seed=0):
    return np.random.default_rng(seed)


# ---- constants ---------------------------------------------------------------------------------------


def test_constant_takes_exactly_one_attribute():
    assert constant(value_float=0.0).dtype == np.float32, "a falsy value is a value"
    assert constant(value_string=b"a").item() == "a"
    assert constant(value_strings=("a", "bc")).tolist() == ["a", "bc"]
    assert constant(value_ints=()).dtype == np.int64
    with pytest.raises(ValueError, match="exactly one of its attributes, 0"):
        constant()
    with pytest.raises(ValueError, match="exactly one of its attributes, 2"):
        constant(value_int=1, value_float=1.0)


def test_constant_of_shape():
    assert constant_of_shape(ints(2)).tolist() == [0, 0]
    assert constant_of_shape(ints(1, 2), value=np.array([True])).tolist() == [[True, True]]
    assert constant_of_shape(ints(2), value=np.array(["a"], object)).tolist() == ["a", "a"]
    with pytest.raises(ValueError, match="no negative dimension"):
        constant_of_shape(ints(-1))


def test_range_counts_exactly():
    big = 2**62
    assert range_(np.array(big), np.array(big + 5), np.array(2)).tolist() == [big, big + 2, big + 4]
    assert range_(np.array(5), np.array(1), np.array(-2)).tolist() == [5, 3]
    assert range_(np.array(0), np.array(5), np.array(-1)).tolist() == []
    assert range_(*(np.array(v, np.float16) for v in (0, 2050, 1))).size == 2050, "no step is lost to rounding"
    assert range_(np.array(0.0), np.array(1.0), np.array(0.1)).size == 10
    with pytest.raises(ValueError, match="delta should not be 0"):
        range_(np.array(0), np.array(1), np.array(0))
    types, values = [TensorType("int64", ())] * 3, [np.array(0), np.array(7), np.array(2)]
    assert range_.infer_types(types, {}, values)[0] == TensorType("int64", (4,))


def test_eye_like_and_its_errors():
    assert eye_like(np.zeros((2, 3), np.int32), k=1).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert eye_like(np.zeros((1, 1)), dtype=9).dtype == bool
    with pytest.raises(ValueError, match="takes a matrix"):
        eye_like(np.zeros(3))
    with pytest.raises(ValueError, match="dtype 99 is no element type's code"):
        eye_like(np.zeros((1, 1)), dtype=99)


def test_one_hot_by_version():
    at, depth, values = ints(1, -1, 3), np.array(3), np.array([0, 9])
    assert one_hot(at, depth, values).tolist() == [[0, 9, 0], [0, 0, 9], [0, 0, 0]]
    assert one_hot_9(at, depth, values).tolist() == [[0, 9, 0], [0, 0, 0], [0, 0, 0]]
    assert one_hot(np.array([1.0]), np.array([2.0]), np.array(["n", "y"], object)).tolist() == [["n", "y"]]
    with pytest.raises(ValueError, match="axis 2 is out of range"):
        one_hot(at, depth, values, axis=2)
    types = [TensorType("int64", ("n",)), TensorType("int64", ()), TensorType("float32", (2,))]
    assert one_hot.infer_types(types, {"axis": 0}, [None, depth, None])[0] == TensorType("float32", (3, "n"))


# ---- random tensors ----------------------------------------------------------------------------------


def test_a_seed_fixes_the_numbers_whatever_the_generator():
    a, b = (random_normal(shape=(3,), seed=5.0, rng=generator(s)) for s in (0, 1))
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, np.random.RandomState(5).standard_normal(3).astype(np.float32))
    assert not np.array_equal(*(random_normal(shape=(3,), rng=generator(s)) for s in (0, 1)))
    random_uniform(shape=(1,), seed=-3.0, rng=generator())


def test_moments():
    y = random_normal(shape=(200_000,), mean=3.0, scale=2.0, rng=generator())
    assert abs(y.mean() - 3) < 0.03
    assert abs(y.std() - 2) < 0.03
    u = random_uniform(shape=(200_000,), low=-1.0, high=3.0, rng=generator())
    assert abs(u.mean() - 1) < 0.02
    b = bernoulli(np.full(200_000, 0.3), rng=generator())
    assert abs(b.mean() - 0.3) < 0.01


def test_uniform_never_reaches_its_upper_bound_in_a_narrow_dtype():
    y = random_uniform(shape=(100_000,), dtype=10, rng=generator())
    assert y.dtype == np.float16
    assert y.max() < 1


def test_like_forms_make_floats():
    x = np.zeros((2, 3), np.float16)
    assert random_normal_like(x, rng=generator()).dtype == np.float16
    assert random_uniform_like(np.zeros(2, int), dtype=11, rng=generator()).dtype == np.float64
    with pytest.raises(ValueError, match="makes floats, not int64"):
        random_normal_like(np.zeros(2, np.int64), rng=generator())
    with pytest.raises(TypeInferenceError, match="makes floats, not int64"):
        random_normal_like.infer_types([TensorType("int64", (2,))], {})


def test_multinomial_frequencies_and_impossible_classes():
    p = np.array([[0.1, 0.0, 0.6, 0.3, 0.0], [0.0, 1.0, 0.0, 0.0, 0.0]])
    with np.errstate(divide="ignore"):
        logits = np.log(p) + np.array([[1000.0], [-1000.0]])
    drawn = multinomial(logits, sample_size=50_000, rng=generator())
    assert drawn.dtype == np.int32
    for row, expected in zip(drawn, p, strict=True):
        counts = np.bincount(row, minlength=5)
        np.testing.assert_allclose(counts / row.size, expected, atol=0.01)
        assert not counts[expected == 0].any()


# ---- Dropout -----------------------------------------------------------------------------------------


def test_dropout_with_a_seed_is_numpys_random_state():
    x = np.arange(1, 13, dtype=np.float32).reshape(3, 4)
    y, mask = dropout(x, np.array(0.75, np.float32), np.array(True), seed=3, rng=generator())
    expected = np.random.RandomState(3).uniform(0, 1, x.shape) >= 0.75
    np.testing.assert_array_equal(mask, expected)
    np.testing.assert_allclose(y, np.where(expected, 4 * x, 0))
    assert y.dtype == np.float32


def test_dropout_outside_training_is_the_identity():
    x = np.array([1.0, np.inf, np.nan])
    for y, mask in (
        dropout(x, rng=generator()),
        dropout(x, np.array(0.5), np.array(False), rng=generator()),
        dropout_10(x),
        dropout_7(x),
        dropout_6(x, is_test=1, rng=generator()),
    ):
        np.testing.assert_array_equal(y, x)
        assert mask.all()
    assert dropout_7(x)[1].dtype == np.float64
    assert dropout_10(x)[1].dtype == bool


def test_dropped_infinities_are_zeros():
    y, mask = dropout(np.full(100, np.inf), np.array(0.5), np.array(True), rng=generator())
    np.testing.assert_array_equal(y, np.where(mask, np.inf, 0))


def test_dropout_keeps_the_mean_and_its_gradient_uses_the_same_mask():
    x = np.ones(100_000)
    y, mask = dropout(x, np.array(0.2), np.array(True), rng=generator())
    assert abs(y.mean() - 1) < 0.01
    back = dropout.derived("vjp[data]").function(x, mask, np.array(0.2), np.array(True))
    np.testing.assert_array_equal(back, y)
    with pytest.raises(ValueError, match="needs the mask"):
        dropout.derived("vjp[data]").function(x, None, np.array(0.2), np.array(True))


def test_a_ratio_of_one_is_refused():
    with pytest.raises(ValueError, match=r"ratio 1.0 should be in \[0, 1\)"):
        dropout(np.ones(2), np.array(1.0), np.array(True), rng=generator())
    assert dropout_6(np.ones(1000), ratio=0.9, rng=generator())[1].dtype == np.float64
