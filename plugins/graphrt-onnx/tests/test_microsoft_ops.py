"""com.microsoft: every op through the kit, hand-made references, and onnxruntime where installed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from graphrt_onnx.ops import (
    microsoft_activations,
    microsoft_arrays,
    microsoft_attention,
    microsoft_normalization,
    microsoft_products,
    microsoft_quantized,
    microsoft_quantized_products,
)
from graphrt_onnx.ops._compose import call, composed

from graphrt.plugin import op
from graphrt.testing import OpCheckError, check_op, dual_fallbacks

MODULES = (
    microsoft_activations, microsoft_arrays, microsoft_attention, microsoft_normalization, microsoft_products,
    microsoft_quantized, microsoft_quantized_products,
)  # fmt: skip
OPS = {o.op_type: o for m in MODULES for o in m.OPS}


@pytest.mark.parametrize("op", OPS.values(), ids=lambda o: o.op_type)
def test_op(op):
    check_op(op)
    assert not dual_fallbacks(op)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# ---- composed ops --------------------------------------------------------------------------------------------


def made(slope):
    """y = x x + x, of two parts, one of which has the given derivative of x x."""

    @op("Part", domain="test", elementwise=True)
    def part(x):
        return x * x

    @part.derivative("x")
    def _(x):
        return slope * x

    @op("Whole", domain="test")
    def whole(x):
        """y = x x + x."""
        return call(part, x) + x

    whole.infer(lambda x: x)
    whole.examples(lambda rng: [((rng.normal(size=3),), {})])
    return composed(whole, "x")


def test_a_composed_op_has_the_rules_of_its_parts():
    check_op(made(2.0))


def test_a_wrong_part_is_caught_in_the_whole():
    with pytest.raises(OpCheckError, match="test::Whole"):
        check_op(made(2.001))


# ---- values --------------------------------------------------------------------------------------------------


def test_gelus():
    x = np.array([-1e4, -1.0, 0.0, 2.0, 1e4])
    exact = [0.0, *(v / 2 * (1 + math.erf(v / math.sqrt(2))) for v in (-1.0, 0.0, 2.0)), 1e4]
    np.testing.assert_allclose(OPS["BiasGelu"](x - 1, np.ones(5)), exact, atol=1e-12)
    np.testing.assert_allclose(OPS["FastGelu"](x), exact, atol=1e-3)
    np.testing.assert_allclose(
        OPS["QuickGelu"](x), [0, -1 / (1 + math.exp(1.702)), 0, 2 / (1 + math.exp(-3.404)), 1e4], atol=1e-12
    )


def test_batch_transposes_are_permutations():
    a, b = draw(3, 2, 4), draw(2, 4, 5)
    y = OPS["FusedMatMul"](a, b, transBatchA=1, alpha=0.5)
    np.testing.assert_allclose(y, 0.5 * np.einsum("mbk,bkn->bmn", a, b))
    a = draw(4, 2, 3)
    y = OPS["FusedMatMul"](a, b, transBatchA=1, transA=1)
    np.testing.assert_allclose(y, np.einsum("kbm,bkn->bmn", a, b))


def test_unknown_activations_are_named():
    with pytest.raises(ValueError, match="activation is one of Clip, Relu"):
        OPS["FusedGemm"](draw(2, 2), draw(2, 2), activation="Nothing")


def test_skip_layer_normalizations():
    x, skip, gamma = draw(2, 3, 4), draw(2, 3, 4, seed=1), draw(4, seed=2)
    y, mean, inverse, total = OPS["SkipLayerNormalization"](x, skip, gamma, None, np.ones(4))
    s = x + skip + 1
    np.testing.assert_allclose(total, s)
    np.testing.assert_allclose(y, (s - s.mean(-1, keepdims=True)) / s.std(-1, keepdims=True) * gamma)
    assert mean.shape == inverse.shape == (2, 3, 1)
    y, none, inverse, total = OPS["SkipSimplifiedLayerNormalization"](x, skip, gamma)
    np.testing.assert_allclose(y, total / np.sqrt((total**2).mean(-1, keepdims=True)) * gamma)
    assert none is None


def test_half_precision_is_normalized_in_single():
    x = np.full((1, 4), 300.0, np.float16)
    y, inverse = OPS["SimplifiedLayerNormalization"](x, np.ones(4, np.float16))
    assert (y.dtype, inverse.dtype) == (np.float16, np.float32)
    np.testing.assert_allclose(y, 1, rtol=1e-3)  # 300 squared is beyond float16


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_attention_by_heads():
    x, w, bias = draw(2, 3, 4), draw(4, 12, seed=1), draw(12, seed=2)
    y, present = OPS["Attention"](x, w, bias, np.array([2, 3], np.int32), num_heads=2)
    q, k, v = np.split(x @ w + bias, 3, axis=-1)
    for b, keys in ((0, 2), (1, 3)):
        for h in (0, 1):
            part = np.s_[b, :, 2 * h : 2 * h + 2]
            scores = q[part] @ k[part].T / math.sqrt(2)
            scores[:, keys:] -= 10000
            np.testing.assert_allclose(y[part], softmax(scores) @ v[part], rtol=1e-6)
            np.testing.assert_allclose(present[:, b, h], [k[part], v[part]])
    with pytest.raises(ValueError, match="not supported"):
        OPS["Attention"](x, w, bias, num_heads=2, do_rotary=1)
    with pytest.raises(ValueError, match="does not fit 2 examples"):
        OPS["Attention"](x, w, bias, np.zeros((5, 7), np.int32), num_heads=2)


def test_packed_layouts_are_the_same_attention():
    q, k, v = draw(2, 3, 8), draw(2, 3, 8, seed=1), draw(2, 3, 8, seed=2)
    y = OPS["MultiHeadAttention"](q, k, v, num_heads=2)[0]
    packed = np.stack([a.reshape(2, 3, 2, 4) for a in (q, k, v)], axis=3)
    np.testing.assert_allclose(OPS["MultiHeadAttention"](packed, num_heads=2)[0], y)
    np.testing.assert_allclose(OPS["MultiHeadAttention"](q, packed[:, :, :, 1:], num_heads=2)[0], y)
    by_heads = [a.reshape(2, 3, 2, 4).swapaxes(1, 2) for a in (k, v)]
    np.testing.assert_allclose(OPS["MultiHeadAttention"](q, *by_heads, num_heads=2)[0], y)


def test_a_prompt_in_one_piece_or_token_by_token():
    """GroupQueryAttention with its cache gives each token what it had in the whole prompt."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(1, 5, n)) for n in (8, 4, 4))
    cos, sin = np.cos(np.arange(5)[:, None] * [1.0]), np.sin(np.arange(5)[:, None] * [1.0])
    heads = {"num_heads": 4, "kv_num_heads": 2, "do_rotary": 1, "local_window_size": 3}

    def count(n):
        return np.array([n], np.int32), np.array(n + 1, np.int32)

    whole, keys, *_ = OPS["GroupQueryAttention"](q, k, v, None, None, *count(4), cos, sin, **heads)
    past = OPS["GroupQueryAttention"](q[:, :1], k[:, :1], v[:, :1], None, None, *count(0), cos, sin, **heads)
    np.testing.assert_allclose(past[0], whole[:, :1])
    for i in range(1, 5):
        step = np.s_[:, i : i + 1]
        past = OPS["GroupQueryAttention"](q[step], k[step], v[step], past[1], past[2], *count(i), cos, sin, **heads)
        np.testing.assert_allclose(past[0], whole[step])
    np.testing.assert_allclose(past[1], keys)


def test_packed_numbers():
    unpacked = microsoft_quantized_products.unpacked
    assert unpacked(np.array([0xA3], np.uint8), 4).tolist() == [3, 10]
    assert unpacked(np.array([0b11100100], np.uint8), 2).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="bits is 2, 4 or 8"):
        unpacked(np.array([1], np.uint8), 3)


def test_weights_of_four_bits():
    rng = np.random.default_rng(0)
    levels, scales, a = rng.integers(0, 16, (3, 32)), rng.uniform(0.5, 1, (3, 2)), rng.normal(size=(2, 32))
    packed = (levels[:, ::2] | (levels[:, 1::2] << 4)).astype(np.uint8).reshape(3, 2, 8)
    y = OPS["MatMulNBits"](a, packed, scales, K=32, N=3, block_size=16)
    weights = (levels - 8) * np.repeat(scales, 16, axis=1)
    np.testing.assert_allclose(y, a @ weights.T, rtol=1e-6)


def test_quantized_sum_saturates():
    def pair(scale, zero):
        return np.array(scale, np.float32), np.array(zero, np.uint8)

    a, b = np.array([0, 200, 255], np.uint8), np.array([0, 100, 255], np.uint8)
    c = OPS["QLinearAdd"](a, *pair(1, 0), b, *pair(0.5, 2), *pair(2, 10))
    assert c.tolist() == [10, 134, 201]  # (0 - 1)/2 = -0.5 rounds to even 0; (200 + 49)/2 = 124.5 to 124
    assert OPS["QLinearAdd"](a, *pair(9, 0), b, *pair(1, 0), *pair(1, 0)).tolist() == [0, 255, 255]


def test_murmur_hash_of_published_vectors():
    words = np.array(["", "abc", "Hello, world!", "The quick brown fox jumps over the lazy dog"], object)
    expected = [0, 0xB3DD93FA, 0xC0363E43, 0x2E4FF723]
    assert OPS["MurmurHash3"](words).tolist() == expected
    assert OPS["MurmurHash3"](words, positive=0).dtype == np.int32


def test_transforms_return():
    x = draw(2, 6)
    spectrum = OPS["Rfft"](x)
    reference = np.fft.rfft(x)
    np.testing.assert_allclose(spectrum, np.stack([reference.real, reference.imag], -1), atol=1e-12)
    np.testing.assert_allclose(OPS["Irfft"](spectrum, signal_ndim=1), x)


def test_crops():
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    rois = np.array([[0, 0, 1, 1], [0.2, 0.1, 1.3, 0.6], [1, 1, 0, 0]])
    y = OPS["CropAndResize"](x, rois, np.zeros(3, np.int32), np.array([2, 2], np.int32), extrapolation_value=9.0)
    np.testing.assert_allclose(y[:, 0], [[[0, 3], [12, 15]], [[2.7, 4.2], [9, 9]], [[15, 12], [3, 0]]])
    with pytest.raises(ValueError, match="'bilinear' or 'nearest'"):
        OPS["CropAndResize"](x, rois, np.zeros(3, np.int32), np.array([2, 2]), mode="cubic")


def test_distances_of_close_points_far_out():
    a, b = np.array([[1e4, 1e4]], np.float32), np.array([[1e4 + 1, 1e4]], np.float32)
    assert OPS["CDist"](a, b).tolist() == [[1.0]]
    with pytest.raises(ValueError, match="metric"):
        OPS["CDist"](a, b, metric="cosine")


# ---- against onnxruntime -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    ort = pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper

    def run(op_type, inputs, attributes, outputs=1, domain="com.microsoft"):
        names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
        feeds = {n: x for n, x in zip(names, inputs, strict=True) if n}
        infos = [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), list(x.shape))
            for n, x in feeds.items()
        ]
        made = [f"y{i}" for i in range(outputs)]
        node = helper.make_node(op_type, names, made, domain=domain, **attributes)
        graph = helper.make_graph([node], "g", infos, [onnx.ValueInfoProto(name=n) for n in made])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, feeds)

    return run


def f32(*shape, seed=0):
    return draw(*shape, seed=seed).astype(np.float32)


def count(*values):
    return np.array(values, np.int32)


CASES = [
    ("FusedMatMul", (f32(4, 2, 3), f32(2, 4, 5)), {"transA": 1, "transBatchA": 1, "alpha": 0.5}, 1),
    ("FusedGemm", (f32(2, 3), f32(3, 4), f32(4)), {"activation": "Tanh", "alpha": 0.5}, 1),
    ("FusedConv", (f32(1, 2, 4, 4), f32(3, 2, 3, 3), None, f32(1, 3, 2, 2)),
     {"activation": "LeakyRelu", "activation_params": [0.2]}, 1),
    ("Gelu", (f32(2, 3),), {}, 1),
    ("FastGelu", (f32(2, 3), f32(3)), {}, 1),
    ("QuickGelu", (f32(2, 3),), {"alpha": 0.75}, 1),
    ("BiasGelu", (f32(2, 3), f32(3)), {}, 1),
    ("Attention", (f32(2, 3, 4), f32(4, 24), f32(24), count(2, 3, 0, 1)), {"num_heads": 2}, 2),
    ("Attention", (f32(2, 3, 4), f32(4, 24), f32(24), None, f32(2, 2, 2, 2, 4)),
     {"num_heads": 2, "unidirectional": 1}, 2),
    ("MultiHeadAttention", (f32(2, 3, 8), f32(2, 4, 8), f32(2, 4, 8), f32(24), count(3, 4)),
     {"num_heads": 2}, 3),
    ("GroupQueryAttention",
     (f32(2, 3, 32), f32(2, 3, 16), f32(2, 3, 16), None, None, count(2, 2),
      np.array(3, np.int32)),
     {"num_heads": 4, "kv_num_heads": 2, "softcap": 2.0, "smooth_softmax": 1}, 3),
    ("RotaryEmbedding", (f32(2, 3, 8), np.array([[0, 2, 1], [4, 4, 3]]), f32(5, 2), f32(5, 2)), {"interleaved": 1}, 1),
    ("DynamicQuantizeMatMul", (f32(3, 8), np.arange(40, dtype=np.uint8).reshape(8, 5), f32(5), None, f32(5)), {}, 1),
    ("MatMulNBits", (f32(2, 20), np.arange(48, dtype=np.uint8).reshape(3, 2, 8), f32(3, 2),
                     np.arange(3, dtype=np.uint8)[:, None]),
     {"K": 20, "N": 3, "block_size": 16}, 1),
    ("MurmurHash3", (np.array([[1, -2], [3, 4]]),), {"seed": 3}, 1),
    ("Unique", (np.array([2, 1, 1, 3], np.float32),), {}, 3),
    ("CropAndResize", (f32(2, 2, 5, 6), np.abs(f32(3, 4)), count(0, 1, 1), count(3, 4)),
     {"extrapolation_value": 2.0}, 1),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_like_onnxruntime(run, case):
    op_type, inputs, attributes, outputs = case
    expected = run(op_type, inputs, attributes, outputs)
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
    found = OPS[op_type](*inputs, **plain)
    for y, z in zip(found if isinstance(found, tuple) else (found,), expected, strict=False):
        assert y.dtype == z.dtype
        np.testing.assert_allclose(y, z, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("op_type", ["SimplifiedLayerNormalization", "LayerNormalization"])
def test_default_domain_like_onnxruntime(run, op_type):
    inputs = (f32(2, 3, 8), f32(8))
    expected = run(op_type, inputs, {"epsilon": 1e-3}, 1, domain="")
    np.testing.assert_allclose(OPS[op_type](*inputs, epsilon=1e-3)[0], expected[0], rtol=1e-4, atol=1e-5)
