"""Activations: values by their formulas, slopes at kinks, extremes, versions."""

import math

import numpy as np
import pytest

from graphrt.ops import activations, piecewise, rectifiers, softmax


def slope(op, x, *others, **attributes):
    """The local derivative for the first input."""
    name = op.inputs[0].name
    rule = op.derived(f"vjp[{name}]")
    settings = {**op.defaults(), **attributes}
    values = dict(zip((p.name for p in op.inputs), (x, *others), strict=True))
    values.update({op.outputs[0]: op(x, *others, **attributes), "ct": np.ones_like(x)})
    args = [values[p.name.removesuffix("_like")] for p in rule.inputs]
    return rule(*args, **{k: settings[k] for k in rule.attributes}).tolist()


X = [-4.0, -2.0, -0.6, 0.0, 0.3, 1.0, 3.5]


def sigma(v):
    return 1 / (1 + math.exp(-v))


FORMULAS = [
    (activations.sigmoid, {}, sigma),
    (activations.softplus, {}, lambda v: math.log(1 + math.exp(v))),
    (activations.softsign, {}, lambda v: v / (1 + abs(v))),
    (activations.swish, {"alpha": 1.702}, lambda v: v * sigma(1.702 * v)),
    (activations.mish, {}, lambda v: v * math.tanh(math.log(1 + math.exp(v)))),
    (activations.gelu, {}, lambda v: v / 2 * (1 + math.erf(v / math.sqrt(2)))),
    (activations.gelu, {"approximate": "tanh"},
     lambda v: v / 2 * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))),
    (rectifiers.relu, {}, lambda v: max(0, v)),
    (rectifiers.leaky_relu, {"alpha": 0.3}, lambda v: v if v >= 0 else 0.3 * v),
    (rectifiers.elu, {"alpha": 0.7}, lambda v: v if v >= 0 else 0.7 * (math.exp(v) - 1)),
    (rectifiers.selu, {}, lambda v: 1.0507010221481323 * (v if v > 0 else 1.6732631921768188 * (math.exp(v) - 1))),
    (rectifiers.celu, {"alpha": 0.4}, lambda v: max(0, v) + min(0, 0.4 * (math.exp(v / 0.4) - 1))),
    (rectifiers.hard_sigmoid, {}, lambda v: max(0, min(1, 0.2 * v + 0.5))),
    (rectifiers.hard_swish, {}, lambda v: v * max(0, min(1, v / 6 + 0.5))),
    (rectifiers.thresholded_relu, {"alpha": 0.5}, lambda v: v if v > 0.5 else 0),
    (rectifiers.shrink, {"lambd": 1.5, "bias": 0.5}, lambda v: v + 0.5 if v < -1.5 else v - 0.5 if v > 1.5 else 0),
]  # fmt: skip


@pytest.mark.parametrize(("op", "attributes", "formula"), FORMULAS)
def test_values(op, attributes, formula):
    np.testing.assert_allclose(op(np.array(X), **attributes), [formula(v) for v in X], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("op", "attributes", "formula"), FORMULAS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_extremes_are_finite_and_keep_the_dtype(op, attributes, formula, dtype):
    x = np.array([-6e4, -1e4, -1000, -300, -90, 90, 300, 1000, 1e4, 6e4], dtype)
    y, dy = op(x, **attributes), np.array(slope(op, x, **attributes))
    assert y.dtype == dtype
    assert np.isfinite(y).all()
    assert np.isfinite(dy).all()


@pytest.mark.parametrize(
    ("op", "attributes", "kink", "expected"),
    [
        (rectifiers.relu, {}, 0, 0),
        (rectifiers.leaky_relu, {"alpha": 0.3}, 0, 0.3),
        (rectifiers.elu, {"alpha": 0.7}, 0, 0.7),
        (rectifiers.thresholded_relu, {"alpha": 0.5}, 0.5, 0),
        (rectifiers.shrink, {}, 0.5, 0),
        (rectifiers.hard_sigmoid, {}, 2.5, 0),
        (rectifiers.hard_sigmoid, {}, -2.5, 0),
        (rectifiers.hard_swish, {}, 3, 1),
        (rectifiers.hard_swish, {}, -3, 0),
        (piecewise.step, {"value_at_zero": 0.5}, 0, 0),
        (piecewise.piecewise_linear, {"knots": (-1.0, 0.0, 1.0), "values": (0.0, 3.0, 4.0)}, 0, 3),
    ],
)
def test_slopes_at_kinks(op, attributes, kink, expected):
    assert slope(op, np.array([float(kink)]), **attributes) == [expected]


def test_tails():
    assert slope(activations.tanh, np.array([1000.0])) == [0]
    assert slope(activations.softplus, np.array([1e4, -1e4])) == [1, 0]
    np.testing.assert_allclose(activations.gelu(np.array([-10.0])), [-5 * math.erfc(10 / math.sqrt(2))], rtol=1e-13)
    with pytest.raises(ValueError, match="'none' or 'tanh', not 'fast'"):
        activations.gelu(np.zeros(1), approximate="fast")


def test_prelu_slopes():
    x, a = np.array([[-2.0, 0.0, 3.0]]), np.array([0.25])
    assert slope(rectifiers.prelu, x, a) == [[0.25, 0.25, 1]]
    assert rectifiers.prelu.derived("vjp[slope]")(np.ones((1, 3)), x, a).tolist() == [-2]


def test_prelu_of_opset_6_has_one_slope_per_channel():
    x = -np.ones((2, 3, 3))
    got = rectifiers.prelu_6(x, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(got[0], [[-1] * 3, [-2] * 3, [-3] * 3])
    np.testing.assert_array_equal(rectifiers.prelu_6(x, np.array([4.0])), np.full((2, 3, 3), -4.0))


# ---- Softmax -------------------------------------------------------------------------------------------


def softmax_of(row):
    total = sum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def test_softmax_over_one_axis_and_over_all_from_one_on():
    x = np.arange(12.0).reshape(2, 3, 2) / 7
    np.testing.assert_allclose(softmax.softmax(x)[1, 2], softmax_of(x[1, 2]))
    np.testing.assert_allclose(softmax.softmax(x, axis=1)[1, :, 0], softmax_of(x[1, :, 0]))
    np.testing.assert_allclose(softmax.softmax_1(x)[1].ravel(), softmax_of(x[1].ravel()))
    np.testing.assert_allclose(softmax.softmax_1(x, axis=-1)[1, 2], softmax_of(x[1, 2]))
    np.testing.assert_allclose(softmax.softmax_1(x, axis=0).ravel(), softmax_of(x.ravel()))
    np.testing.assert_allclose(np.exp(softmax.log_softmax_1(x)), softmax.softmax_1(x))


def test_softmax_does_not_overflow():
    x = np.array([[1e4, 1e4 - 1, -1e4], [-1e4, -1e4, -np.inf]], np.float32)
    np.testing.assert_allclose(softmax.softmax(x)[0], [*softmax_of([1, 0]), 0], rtol=1e-6)
    np.testing.assert_allclose(softmax.softmax(x)[1], [0.5, 0.5, 0])
    np.testing.assert_allclose(softmax.log_softmax(x)[0, :2], np.log(softmax_of([1, 0])), rtol=1e-3)
    assert np.isnan(softmax.softmax(np.full(3, -np.inf))).all()


def test_hardmax_takes_the_first_maximum():
    x = np.array([[3.0, 0.0, 3.0], [1.0, 2.0, 2.0]])
    assert softmax.hardmax(x).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert softmax.hardmax(x, axis=0).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert softmax.hardmax_1(x, axis=0).tolist() == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("op", softmax.OPS)
def test_an_axis_out_of_range_is_named(op):
    with pytest.raises(ValueError, match="axis 2 is out of range for a tensor of rank 2"):
        op(np.zeros((2, 2)), axis=2)


# ---- domain graphrt ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_step(value):
    assert piecewise.step(np.array([-2.0, 0.0, 3.0]), value_at_zero=value).tolist() == [0, value, 1]


def test_step_takes_three_values_at_zero():
    with pytest.raises(ValueError, match=r"value_at_zero is 0, 0\.5 or 1, not 0\.3"):
        piecewise.step(np.zeros(1), value_at_zero=0.3)


def test_generalized_relu_is_relu_absolute_value_and_identity():
    z = np.array([-2.0, 0.0, 3.0])
    for a, expected in ((0.0, np.maximum(z, 0)), (-1.0, np.abs(z)), (1.0, z)):
        np.testing.assert_array_equal(piecewise.generalized_relu(z, np.array(a)), expected)
    assert slope(piecewise.generalized_relu, z, np.array([0.0] * 3)) == [0, 0, 1]
    slopes = np.array([[0.0], [-1.0]])
    assert piecewise.generalized_relu(z, slopes).tolist() == [[0, 0, 3], [2, 0, 3]]


def test_piecewise_linear_against_interp():
    line = {"knots": (-1.0, 0.0, 0.5, 2.0), "values": (0.3, -0.2, 1.0, 0.9)}
    x = np.linspace(-1, 2, 31)
    expected = np.interp(x, line["knots"], line["values"])
    np.testing.assert_allclose(piecewise.piecewise_linear(x, **line), expected, atol=1e-15)
    beyond = piecewise.piecewise_linear(np.array([-3.0, 5.0], np.float32), **line)
    assert beyond.dtype == np.float32
    np.testing.assert_allclose(beyond, [1.3, 0.7], rtol=1e-6)
    learned = piecewise.learned_piecewise_linear(x, np.array(line["knots"]), np.array(line["values"]))
    np.testing.assert_allclose(learned, expected, atol=1e-15)


def test_knots_must_make_a_line():
    with pytest.raises(ValueError, match="increase strictly"):
        piecewise.piecewise_linear(np.zeros(1), knots=(0.0, 0.0), values=(1.0, 2.0))
    with pytest.raises(ValueError, match="with n >= 2"):
        piecewise.piecewise_linear(np.zeros(1), knots=(0.0,), values=(1.0,))


def test_maxout():
    x = np.array([[1.0, 5.0, 5.0, 2.0, 2.0, 0.0]])
    assert piecewise.maxout(x, pieces=3).tolist() == [[5, 2]]
    got = piecewise.maxout.derived("vjp[x]")(np.array([[7.0, 9.0]]), x, pieces=3, axis=1)
    assert got.tolist() == [[0, 7, 0, 9, 0, 0]]
    with pytest.raises(ValueError, match="axis 1 of length 6 does not divide into groups of pieces=4"):
        piecewise.maxout(x, pieces=4)
