"""Attention against loops over heads and queries; rotary embedding and linear attention against their recurrences."""

import math

import numpy as np
import pytest

from graphrt.ops.attention import attention
from graphrt.ops.linear_attention import linear_attention
from graphrt.ops.rotary import rotary_embedding
from graphrt.types import TensorType

RNG = np.random.default_rng(0)
Q, K, V = RNG.normal(size=(2, 4, 3, 5)), RNG.normal(size=(2, 2, 6, 5)), RNG.normal(size=(2, 2, 6, 4))


def slow_attention(q, k, v, allowed=lambda b, i, j: True, bias=lambda b, h, i, j: 0.0, cap=lambda s: s):
    """One query of one head at a time, in Python numbers."""
    group = q.shape[1] // k.shape[1]
    y = np.zeros((*q.shape[:3], v.shape[3]))
    for b, h, i in np.ndindex(*q.shape[:3]):
        keys = [j for j in range(k.shape[2]) if allowed(b, i, j)]
        scores = [cap(float(q[b, h, i] @ k[b, h // group, j]) / math.sqrt(q.shape[3])) + bias(b, h, i, j) for j in keys]
        weights = [math.exp(s - max(scores)) for s in scores]
        for w, j in zip(weights, keys, strict=True):
            y[b, h, i] += w / math.fsum(weights) * v[b, h // group, j]
    return y


def test_shared_key_heads_and_bias():
    mask = RNG.normal(size=(4, 3, 6))
    y, keys, values, scores = attention(Q, K, V, mask)
    np.testing.assert_allclose(y, slow_attention(Q, K, V, bias=lambda b, h, i, j: mask[h, i, j]))
    assert keys is K and values is V and scores.shape == (2, 4, 3, 6)


def test_softcap():
    y, *_ = attention(Q, K, V, softcap=0.5)
    np.testing.assert_allclose(y, slow_attention(Q, K, V, cap=lambda s: 0.5 * math.tanh(s / 0.5)))


def test_causal_counts_from_the_cache():
    plain, *_ = attention(Q, K, V, is_causal=1)
    np.testing.assert_allclose(plain, slow_attention(Q, K, V, lambda b, i, j: j <= i))
    past = K[:, :, :4], V[:, :, :4]
    cached, keys, _, _ = attention(Q, K[:, :, 4:], V[:, :, 4:], None, *past, is_causal=1)
    np.testing.assert_array_equal(keys, K)
    np.testing.assert_allclose(cached, slow_attention(Q, K, V, lambda b, i, j: j <= i + 4))
    valid = np.array([6, 4])
    padded, *_ = attention(Q, K, V, None, None, None, valid, is_causal=1)
    rule = lambda b, i, j: j < valid[b] and j <= i + valid[b] - 3  # noqa: E731
    np.testing.assert_allclose(padded, slow_attention(Q, K, V, rule))


def test_windows():
    y, *_ = attention(Q, K, V, left_window_size=1, right_window_size=2)
    np.testing.assert_allclose(y, slow_attention(Q, K, V, lambda b, i, j: i - 1 <= j <= i + 2))


def test_a_short_mask_hides_the_rest():
    mask = np.ones((3, 4), bool)
    y, *_ = attention(Q, K, V, mask)
    np.testing.assert_allclose(y, slow_attention(Q, K, V, lambda b, i, j: j < 4))
    y, *_ = attention(Q, K, V, np.zeros((3, 4)))
    np.testing.assert_allclose(y, slow_attention(Q, K, V, lambda b, i, j: j < 4))


def test_a_row_without_keys_is_zero_and_has_no_gradient():
    mask = np.ones((3, 6), bool)
    mask[1] = False
    y, *_, p = attention(Q, K, V, mask, qk_matmul_output_mode=3)
    np.testing.assert_array_equal(y[:, :, 1], 0)
    np.testing.assert_array_equal(p[:, :, 1], 0)
    derived = attention.derived("vjp[q,k,v,attn_mask,past_key,past_value]")
    given = {"ct": np.ones_like(y), "q": Q, "k": K, "v": V, "attn_mask": mask}
    q_ct, _, _, mask_ct, _, _ = derived.function(
        *(given.get(p.name) for p in derived.inputs), **{n: attention.attributes[n].default for n in derived.attributes}
    )
    np.testing.assert_array_equal(q_ct[:, :, 1], 0)
    assert np.isfinite(q_ct).all() and mask_ct is None


def test_large_scores_are_stable():
    y, *_ = attention(Q * 1e4, K * 1e4, V)
    assert np.isfinite(y).all()
    half = [a.astype(np.float16) for a in (Q * 60, K * 60, V)]
    y, *_ = attention(*half)  # raw scores exceed float16
    assert y.dtype == np.float16 and np.isfinite(y).all()


def test_packed_heads_equal_split_heads():
    packed = [np.swapaxes(a, 1, 2).reshape(2, a.shape[2], -1) for a in (Q, K, V)]
    y, keys, _, _ = attention(*packed, q_num_heads=4, kv_num_heads=2, is_causal=1)
    split, *_ = attention(Q, K, V, is_causal=1)
    np.testing.assert_array_equal(y, np.swapaxes(split, 1, 2).reshape(2, 3, -1))
    np.testing.assert_array_equal(keys, K)
    types = [TensorType("float32", s) for s in (("b", "s", 20), ("b", "t", 10), ("b", "t", 8))]
    y, keys, *_ = attention.infer_types(types, {"q_num_heads": 4, "kv_num_heads": 2}, n_outputs=4)
    assert y.shape == ("b", "s", 16) and keys.shape == ("b", 2, "t", 5)


def test_attention_says_what_does_not_fit():
    with pytest.raises(ValueError, match="4 query heads cannot share 3"):
        attention(Q, K[:, [0, 1, 0]], V[:, [0, 1, 0]])
    with pytest.raises(ValueError, match="come together"):
        attention(Q, K, V, None, K)
    with pytest.raises(ValueError, match="with num_heads"):
        attention(Q[0], K[0], V[0])


# ---- RotaryEmbedding ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotation_is_complex_multiplication(interleaved):
    x, angles = RNG.normal(size=(1, 2, 3, 6)), RNG.normal(size=(1, 3, 3))
    y = rotary_embedding(x, np.cos(angles), np.sin(angles), interleaved=interleaved)

    def as_complex(a):
        return a[..., 0::2] + 1j * a[..., 1::2] if interleaved else a[..., :3] + 1j * a[..., 3:]

    np.testing.assert_allclose(as_complex(y), as_complex(x) * np.exp(1j * angles)[:, None])


def test_features_beyond_the_rotary_ones_pass():
    x, cache = RNG.normal(size=(1, 2, 3, 6)), np.zeros((1, 3, 2))
    y = rotary_embedding(x, cache, cache, rotary_embedding_dim=4)
    np.testing.assert_array_equal(y[..., 4:], x[..., 4:])
    np.testing.assert_array_equal(y[..., :4], 0)


# ---- LinearAttention ---------------------------------------------------------------------------------------


def test_linear_attention_without_decay_is_a_causal_sum():
    q, k, v = (RNG.normal(size=(1, 5, 4)) for _ in range(3))
    y, state = linear_attention(q, k, v, update_rule="linear", q_num_heads=1, kv_num_heads=1, scale=1.0)
    scores = np.tril(q[0] @ k[0].T)
    np.testing.assert_allclose(y[0], scores @ v[0])
    np.testing.assert_allclose(state[0, 0], k[0].T @ v[0])


def test_the_delta_rule_recalls_the_last_value_of_a_key():
    k = np.eye(4)[[0, 1, 0, 1]][None]
    v = RNG.normal(size=(1, 4, 3))
    y, _ = linear_attention(
        k, k, v, None, None, np.ones((1, 4, 1)), update_rule="delta", q_num_heads=1, kv_num_heads=1, scale=1.0
    )
    np.testing.assert_allclose(y, v, atol=1e-12)


def test_linear_attention_goes_on_from_its_state():
    q, k, v = (RNG.normal(size=(2, 6, 4)) for _ in range(3))
    decay, beta = -RNG.random((2, 6, 2)), RNG.random((2, 6, 2))
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    whole, last = linear_attention(q, k, v, None, decay, beta, **heads)
    first, state = linear_attention(*(a[:, :4] for a in (q, k, v)), None, decay[:, :4], beta[:, :4], **heads)
    second, end = linear_attention(*(a[:, 4:] for a in (q, k, v)), state, decay[:, 4:], beta[:, 4:], **heads)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole)
    np.testing.assert_allclose(end, last)


def test_rules_take_the_gates_they_need():
    q = np.zeros((1, 2, 4))
    with pytest.raises(ValueError, match="'gated' needs decay"):
        linear_attention(q, q, q, update_rule="gated", q_num_heads=1, kv_num_heads=1)
    with pytest.raises(ValueError, match="'linear' takes no beta"):
        linear_attention(q, q, q, None, None, q[..., :1], update_rule="linear", q_num_heads=1, kv_num_heads=1)
    with pytest.raises(ValueError, match="'square' is unknown"):
        linear_attention(q, q, q, update_rule="square", q_num_heads=1, kv_num_heads=1)
