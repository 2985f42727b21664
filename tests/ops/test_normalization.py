"""Normalization against the formulas, its modes, versions and extremes."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops.batch_normalization import batch_normalization, batch_normalization_6, batch_normalization_7
from graphrt.ops.group_normalization import group_normalization, group_normalization_18, instance_normalization
from graphrt.ops.normalization import layer_normalization, lrn, rms_normalization
from graphrt.types import TensorType

RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 6, 3, 5)) * 3 + 2
SCALE, B, MEAN = (RNG.normal(size=6) for _ in range(3))
VAR = RNG.uniform(0.5, 2, 6)


def rule(op, suffix, **given):
    """Calls a derived op with values and attributes by name."""
    derived = op.derived(suffix)
    attributes = {n: given.get(n, op.attributes[n].default) for n in derived.attributes}
    attributes |= {n: given[n] for n in derived.context}
    values = [given.get(p.name, given.get(p.name.removesuffix("_like"))) for p in derived.inputs]
    return derived.function(*values, **attributes)


def standard(x, axes, epsilon):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def channel(p):
    return p[:, None, None]


# ---- BatchNormalization ------------------------------------------------------------------------------------


def test_inference_uses_the_given_statistics():
    y, *rest = batch_normalization(X, SCALE, B, MEAN, VAR, epsilon=0.1)
    expected = (X - channel(MEAN)) / np.sqrt(channel(VAR) + 0.1) * channel(SCALE) + channel(B)
    np.testing.assert_allclose(y, expected)
    assert rest == [None, None]


def test_training_uses_and_updates_them():
    y, mean, var = batch_normalization(X, SCALE, B, MEAN, VAR, epsilon=0.1, momentum=0.8, training_mode=1)
    np.testing.assert_allclose(y, standard(X, (0, 2, 3), 0.1) * channel(SCALE) + channel(B))
    np.testing.assert_allclose(mean, 0.8 * MEAN + 0.2 * X.mean((0, 2, 3)))
    np.testing.assert_allclose(var, 0.8 * VAR + 0.2 * X.var((0, 2, 3)))


def test_older_versions_say_training_in_their_own_ways():
    now = batch_normalization(X, SCALE, B, MEAN, VAR, training_mode=1)
    seven = batch_normalization_7(X, SCALE, B, MEAN, VAR, n_outputs=5)
    six = batch_normalization_6(X, SCALE, B, MEAN, VAR)
    for got in (seven, six):
        for a, b in zip(got[:3], now, strict=True):
            np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(got[3], X.mean((0, 2, 3)))
        np.testing.assert_allclose(got[4], X.var((0, 2, 3)))
    infer = batch_normalization(X, SCALE, B, MEAN, VAR)[0]
    np.testing.assert_array_equal(batch_normalization_7(X, SCALE, B, MEAN, VAR, n_outputs=1)[0], infer)
    np.testing.assert_array_equal(batch_normalization_6(X, SCALE, B, MEAN, VAR, is_test=1)[0], infer)


def test_spatial_0_normalizes_every_position_by_itself():
    parameters = [RNG.normal(size=X.shape[1:]) for _ in range(3)]
    y = batch_normalization_7(X, *parameters, np.ones(X.shape[1:]), spatial=0, n_outputs=3)[0]
    np.testing.assert_allclose(y, standard(X, (0,), 1e-5) * parameters[0] + parameters[1])


def test_training_gradient_of_a_constant_batch_is_finite():
    x = np.full((3, 2, 4), 5.0, np.float32)
    p = np.ones(2, np.float32)
    x_ct, scale_ct, *_ = rule(
        batch_normalization, "vjp[x,scale,b,input_mean,input_var]", ct=np.ones_like(x), x=x, scale=p, b=p,
        input_mean=p, input_var=p, training_mode=1,
    )  # fmt: skip
    np.testing.assert_array_equal(x_ct, 0)
    np.testing.assert_array_equal(scale_ct, 0)


def test_a_single_channel_may_lack_its_axis():
    x = RNG.normal(size=7)
    y, *_ = batch_normalization(x, *np.ones((4, 1)), training_mode=1)
    np.testing.assert_allclose(y, standard(x, (0,), 1e-5) + 1)


def test_mixed_precision_parameters_keep_their_dtypes():
    x, p = X.astype(np.float16), VAR.astype(np.float32)
    y, mean, var = batch_normalization(x, p, p, p, p, training_mode=1)
    assert (y.dtype, mean.dtype, var.dtype) == (np.float16, np.float32, np.float32)
    cts = rule(
        batch_normalization, "vjp[x,scale,b,input_mean,input_var]", ct=y, ct_running_mean=mean, x=x, scale=p, b=p,
        input_mean=p, input_var=p, training_mode=1,
    )  # fmt: skip
    assert [None if c is None else c.dtype for c in cts] == [np.float16, *[np.float32] * 3, None]


def test_statistics_of_half_precision_do_not_overflow():
    x = np.full((8, 1, 64), 300, np.float16)
    x[::2] = -300
    one = np.ones(1, np.float16)
    y, _, var = batch_normalization(x, one, one * 0, one, one, training_mode=1, momentum=0.99)
    np.testing.assert_allclose(np.abs(y), 1, rtol=1e-3)
    assert np.isfinite(var).all()


def test_batch_normalization_checks_its_parameters():
    with pytest.raises(ValueError, match=r"a parameter of shape \(5,\) does not fit the 6 channels"):
        batch_normalization(X, SCALE[:5], B, MEAN, VAR)
    with pytest.raises(TypeInferenceError, match="6 channels, scale has 5"):
        types = [TensorType("float32", s) for s in (X.shape, (5,), (5,), (5,), (5,))]
        batch_normalization.infer_types(types, {})


# ---- the others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [-1, 1, 2, -4])
def test_layer_normalization(axis):
    axes = tuple(range(axis % 4, 4))
    shape = X.shape[axis % 4 :]
    scale, b = RNG.normal(size=shape), RNG.normal(size=shape)
    y, mean, inv = layer_normalization(X, scale, b, axis=axis, epsilon=0.2)
    np.testing.assert_allclose(y, standard(X, axes, 0.2) * scale + b)
    np.testing.assert_allclose(mean, X.mean(axes, keepdims=True))
    np.testing.assert_allclose(inv, 1 / np.sqrt(X.var(axes, keepdims=True) + 0.2))
    y = rms_normalization(X, scale, axis=axis, epsilon=0.2)
    np.testing.assert_allclose(y, X / np.sqrt(np.mean(X * X, axes, keepdims=True) + 0.2) * scale)


def test_a_large_mean_costs_no_digits():
    x = np.array([[1e4, 1e4 + 1, 1e4 + 2, 1e4 + 3]], np.float32)
    y, *_ = layer_normalization(x, np.ones(4, np.float32))
    np.testing.assert_allclose(y, standard(np.arange(4.0)[None], (1,), 1e-5), rtol=1e-4)


def test_stash_type_says_the_statistics_dtype():
    x, one = X.astype(np.float16), np.ones(5, np.float16)
    y, mean, inv = layer_normalization(x, one)
    assert (y.dtype, mean.dtype, inv.dtype) == (np.float16, np.float32, np.float32)
    y, mean, _ = layer_normalization(x, one, stash_type=10)
    assert (y.dtype, mean.dtype) == (np.float16, np.float16)
    assert [out.dtype for out in layer_normalization(X, np.ones(5))] == [np.float64, np.float32, np.float32]
    types = layer_normalization.infer_types(
        [TensorType("float16", ("n", 5)), TensorType("float16", (5,))], {}, n_outputs=3
    )
    assert types[1] == types[2] == TensorType("float32", ("n", 1))
    with pytest.raises(ValueError, match="stash_type 7"):
        layer_normalization(x, one, stash_type=7)


def test_rms_normalization_takes_the_dtype_of_its_scale():
    assert rms_normalization(X.astype(np.float16), np.ones(5, np.float32)).dtype == np.float32


def test_group_normalization_lies_between_instance_and_layer():
    y = group_normalization(X, SCALE, B, num_groups=3)
    rows = standard(X.reshape(4, 3, -1), (2,), 1e-5).reshape(X.shape)
    np.testing.assert_allclose(y, rows * channel(SCALE) + channel(B))
    np.testing.assert_allclose(group_normalization(X, SCALE, B, num_groups=6), instance_normalization(X, SCALE, B))
    layer = standard(X, (1, 2, 3), 1e-5) * channel(SCALE) + channel(B)
    np.testing.assert_allclose(group_normalization(X, SCALE, B, num_groups=1), layer)
    old = group_normalization_18(X, SCALE[:3], B[:3], num_groups=3)
    per_channel = group_normalization(X, np.repeat(SCALE[:3], 2), np.repeat(B[:3], 2), num_groups=3)
    np.testing.assert_array_equal(old, per_channel)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9])
def test_lrn_sums_neighboring_channels(size):
    y = lrn(X, size=size, alpha=0.5, beta=0.6, bias=1.3)
    for c in range(6):
        near = X[:, max(0, c - (size - 1) // 2) : c + -(-(size - 1) // 2) + 1]
        q = 1.3 + 0.5 / size * np.sum(near * near, axis=1)
        np.testing.assert_allclose(y[:, c], X[:, c] / q**0.6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: layer_normalization(X, np.ones(5), axis=4), "axis 4 is out of range"),
        (lambda: group_normalization(X, SCALE, B, num_groups=4), "4 groups do not divide 6"),
        (lambda: group_normalization(X, SCALE[:4], B, num_groups=2), r"shape \(4,\) does not fit 6"),
        (lambda: instance_normalization(X[0, 0, 0], SCALE, B), "rank 1"),
    ],
)
def test_errors_say_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
