"""Convolutions against loops over every output element, and against each other's adjoints."""

import itertools

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops.causal_conv import causal_conv_with_state
from graphrt.ops.conv_transpose import conv_transpose
from graphrt.ops.convolution import conv
from graphrt.ops.deform_conv import deform_conv
from graphrt.types import TensorType


def rule(op, suffix, **given):
    """Calls a derived op with values and attributes by name."""
    derived = op.derived(suffix)
    attributes = {n: given.get(n, op.attributes[n].default) for n in derived.attributes}
    values = [given.get(p.name, given.get(p.name.removesuffix("_like"))) for p in derived.inputs]
    return derived.function(*values, **attributes)


def slow_conv(x, w, strides, dilations, begin, out, group):
    """Every output element by itself, from the definition."""
    y = np.zeros((x.shape[0], w.shape[0], *out))
    per_in, per_out = w.shape[1], w.shape[0] // group
    for n, m in np.ndindex(*y.shape[:2]):
        for o in np.ndindex(*out):
            for c in range(per_in):
                for t in np.ndindex(*w.shape[2:]):
                    at = [i * s - b + k * d for i, s, b, k, d in zip(o, strides, begin, t, dilations, strict=True)]
                    if all(0 <= a < size for a, size in zip(at, x.shape[2:], strict=True)):
                        y[(n, m, *o)] += w[(m, c, *t)] * x[(n, m // per_out * per_in + c, *at)]
    return y


@pytest.mark.parametrize("group", [1, 2, 4])
@pytest.mark.parametrize(("strides", "dilations"), [((1, 1), (1, 1)), ((2, 3), (1, 2)), ((3, 1), (2, 1))])
def test_conv_2d(group, strides, dilations):
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(2, 4, 7, 6)), rng.normal(size=(4, 4 // group, 3, 2)), rng.normal(size=4)
    pads = (1, 0, 2, 1)
    y = conv(x, w, b, group=group, strides=strides, dilations=dilations, pads=pads)
    expected = slow_conv(x, w, strides, dilations, pads[:2], y.shape[2:], group) + b[:, None, None]
    np.testing.assert_allclose(y, expected, rtol=1e-12, atol=1e-12)
    span = [(k - 1) * d + 1 for k, d in zip((3, 2), dilations, strict=True)]
    sizes = [(n + p - k) // s + 1 for n, p, k, s in zip((7, 6), (3, 1), span, strides, strict=True)]
    assert y.shape == (2, 4, *sizes)


@pytest.mark.parametrize("rank", [1, 3])
def test_conv_in_other_ranks(rank):
    rng = np.random.default_rng(1)
    x, w = rng.normal(size=(1, 2, *(5, 4, 3)[:rank])), rng.normal(size=(3, 2, *(2,) * rank))
    y = conv(x, w, strides=(2,) * rank)
    np.testing.assert_allclose(y, slow_conv(x, w, (2,) * rank, (1,) * rank, (0,) * rank, y.shape[2:], 1), atol=1e-12)


@pytest.mark.parametrize(
    ("auto_pad", "begin"), [("SAME_UPPER", 0), ("SAME_LOWER", 1), ("VALID", 0)], ids=["upper", "lower", "valid"]
)
def test_auto_pad_puts_the_odd_one_where_it_says(auto_pad, begin):
    x, w = np.arange(1.0, 6).reshape(1, 1, 5), np.array([1.0, 10]).reshape(1, 1, 2)
    y = conv(x, w, auto_pad=auto_pad)
    padded = np.pad(x[0, 0], (begin, 1 - begin) if auto_pad != "VALID" else (0, 0))
    np.testing.assert_array_equal(y[0, 0], padded[:-1] + 10 * padded[1:])


def test_half_precision_sums_in_single():
    x = np.ones((1, 4096, 1, 1), np.float16)
    w = np.full((1, 4096, 1, 1), 1.0, np.float16)
    y = conv(x, w)  # summed in float16, 2048 + 1 would stay 2048
    assert y.dtype == np.float16 and y[0, 0, 0, 0] == 4096


def test_infinities_and_overflow_pass_without_a_warning():
    x, w = np.array([[[np.inf, 1, 6e4]]], np.float16), np.array([[[1, -1]], [[3, 3]]], np.float16)
    np.testing.assert_array_equal(conv(x, w), [[[np.inf, -60000], [np.inf, np.inf]]])
    assert np.isnan(conv(x, np.zeros((1, 1, 2), np.float16))[0, 0, 0])


def test_conv_transpose_is_the_adjoint_of_conv():
    rng = np.random.default_rng(2)
    attributes = {"strides": (2, 1), "pads": (1, 0, 0, 1), "dilations": (1, 2), "group": 2}
    x, w = rng.normal(size=(2, 4, 6, 7)), rng.normal(size=(6, 2, 3, 2))
    y = conv(x, w, **attributes)
    v = rng.normal(size=y.shape)
    back = conv_transpose(v, w, **attributes)
    assert back.shape == x.shape
    np.testing.assert_allclose(np.vdot(y, v), np.vdot(x, back), rtol=1e-12)


def test_conv_transpose_sizes():
    x, w = np.ones((1, 1, 3, 3)), np.ones((1, 2, 3, 3))
    assert conv_transpose(x, w, strides=(3, 2)).shape == (1, 2, 9, 7)
    assert conv_transpose(x, w, strides=(3, 2), output_padding=(1, 1)).shape == (1, 2, 10, 8)
    assert conv_transpose(x, w, strides=(3, 2), output_shape=(10, 8)).shape == (1, 2, 10, 8)
    assert conv_transpose(x, w, strides=(3, 2), auto_pad="SAME_LOWER").shape == (1, 2, 9, 6)
    y = conv_transpose(np.array([[[1.0, 2]]]), np.array([[[1.0, 10, 100]]]), strides=(2,), pads=(1, 0))
    np.testing.assert_array_equal(y, [[[10, 102, 20, 200]]])


@pytest.mark.parametrize("op", [conv, conv_transpose])
def test_the_weights_rule_needs_no_weights(op):
    assert "w" not in {p.name for p in op.derived("vjp[w]").inputs}
    assert "x" not in {p.name for p in op.derived("vjp[x]").inputs}
    assert {p.name for p in op.derived("vjp[b]").inputs} == {"ct"}


def test_one_by_one_conv_gradients_are_matrix_products():
    rng = np.random.default_rng(3)
    x, w, ct = rng.normal(size=(2, 3, 4)), rng.normal(size=(5, 3, 1)), rng.normal(size=(2, 5, 4))
    np.testing.assert_allclose(rule(conv, "vjp[x]", ct=ct, x=x, w=w), np.einsum("nmo,mc->nco", ct, w[..., 0]))
    np.testing.assert_allclose(rule(conv, "vjp[w]", ct=ct, x=x, w=w)[..., 0], np.einsum("nmo,nco->mc", ct, x))


def test_deform_conv_with_whole_offsets_moves_the_taps():
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=(1, 2, 5, 5)), rng.normal(size=(3, 2, 2, 2))
    still = np.zeros((1, 8, 4, 4))
    np.testing.assert_allclose(deform_conv(x, w, still), conv(x, w), atol=1e-12)
    right = still.copy()
    right[:, 1::2] = 1  # one column further, off the image at the end
    np.testing.assert_allclose(deform_conv(x, w, right)[..., :3], conv(x, w)[..., 1:], atol=1e-12)
    mask = np.full((1, 4, 4, 4), 0.5)
    np.testing.assert_allclose(deform_conv(x, w, still, None, mask), conv(x, w) / 2, atol=1e-12)


def test_causal_conv_carries_its_state():
    rng = np.random.default_rng(5)
    x, w, b = rng.normal(size=(2, 3, 8)), rng.normal(size=(3, 1, 4)), rng.normal(size=3)
    whole, last = causal_conv_with_state(x, w, b, activation="silu")
    first, state = causal_conv_with_state(x[:, :, :2], w, b, activation="silu")
    second, end = causal_conv_with_state(x[:, :, 2:], w, b, state, activation="silu")
    np.testing.assert_allclose(np.concatenate([first, second], axis=2), whole)
    np.testing.assert_array_equal(end, last)


@pytest.mark.parametrize(
    ("arguments", "attributes", "message"),
    [
        (((1, 3, 5, 5), (4, 2, 3, 3)), {}, "x has 3 channels"),
        (((1, 2, 5, 5), (3, 1, 3, 3)), {"group": 2}, "2 groups do not divide"),
        (((1, 2, 2, 5), (3, 2, 3, 3)), {}, "spanning 3 positions does not fit into 2"),
        (((1, 2, 5, 5), (3, 2, 3, 3)), {"pads": (1, 1)}, "pads has 2 entries"),
        (((1, 2, 5, 5), (3, 2, 3, 3)), {"strides": (0, 1)}, "must be positive"),
        (((1, 2, 5, 5), (3, 2, 3, 3)), {"auto_pad": "FULL"}, "auto_pad is one of"),
        (((1, 2, 5, 5), (3, 2, 3, 3)), {"kernel_shape": (2, 3)}, "kernel_shape"),
        (((1, 2, 5), (3, 2, 3, 3)), {}, "rank 3"),
    ],
)
def test_conv_says_what_does_not_fit(arguments, attributes, message):
    with pytest.raises(ValueError, match=message):
        conv(*map(np.zeros, arguments), **attributes)
    with pytest.raises(TypeInferenceError, match=message):
        conv.infer_types([TensorType("float32", s) for s in arguments], attributes)


def test_conv_keeps_symbols_where_sizes_stay():
    x, w = TensorType("float32", ("batch", 3, "h", "w")), TensorType("float32", (8, 3, 3, 3))
    (y,) = conv.infer_types([x, w], {"pads": (1, 1, 1, 1)})
    assert y.shape == ("batch", 8, "h", "w")
    (y,) = conv.infer_types([x, w], {"pads": (1, 1, 1, 1), "strides": (2, 1)})
    assert y.shape == ("batch", 8, None, "w")
    (y,) = conv.infer_types([x, TensorType("float32")], {"auto_pad": "SAME_UPPER"})
    assert y.shape == ("batch", None, "h", "w")


def test_every_batch_size_gives_the_same_numbers():
    rng = np.random.default_rng(6)
    x, w = rng.normal(size=(5, 2, 6, 6)), rng.normal(size=(3, 2, 3, 3))
    whole = conv(x, w)
    for i, j in itertools.pairwise((0, 1, 3, 5)):
        np.testing.assert_allclose(conv(x[i:j], w), whole[i:j], rtol=1e-12)
