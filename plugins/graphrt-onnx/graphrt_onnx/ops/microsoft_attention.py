"""Attention ops of com.microsoft: BERT's Attention, MultiHeadAttention, GroupQueryAttention, RotaryEmbedding.

Caches are returned as new arrays; a buffer shared between past and present is not written in place.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.ops.arrange import transpose
from graphrt.ops.indexing import gather_nd
from graphrt.ops.joining import concat
from graphrt.ops.linalg import matmul
from graphrt.ops.rotary import rotary_embedding as onnx_rotary
from graphrt.ops.selection import where
from graphrt.ops.shape import reshape
from graphrt.ops.squeezing import squeeze, unsqueeze
from graphrt.plugin import Array, Dim, Example, TensorType
from graphrt_onnx.ops._attention import (
    appended,
    causal_mask,
    filtered,
    join_heads,
    masked,
    padding_mask,
    parts,
    scores_of,
    softmax_with_sink,
    split_heads,
    weighted,
)
from graphrt_onnx.ops._compose import call, composed
from graphrt_onnx.ops._microsoft import ints, microsoft


def _dims(x: TensorType | None, rank: int) -> Sequence[Dim]:
    return (None,) * rank if x is None or x.shape is None or len(x.shape) != rank else x.shape


def _plus(a: Dim, b: Dim) -> Dim:
    return a + b if isinstance(a, int) and isinstance(b, int) else b if a == 0 else None


def _over(a: Dim, b: int) -> Dim:
    return a // b if isinstance(a, int) and b else None


# ---- RotaryEmbedding -----------------------------------------------------------------------------------------


def _rotated(x: Any, positions: Array, cos: Any, sin: Any, interleaved: int, num_heads: int, turning: int) -> Any:
    """x [B, H, S, D] or [B, S, H*D] with its pairs of features turned by the angles of its positions [B, S]."""
    if x.ndim == 3:
        size = x.shape[2] // num_heads if num_heads else 2 * cos.shape[1]
        heads = split_heads(x, x.shape[2] // max(size, 1))
        turned = _rotated(heads, positions, cos, sin, interleaved, 0, turning)
        return join_heads(turned)
    turning = turning or 2 * cos.shape[1]
    return call(onnx_rotary, x, cos, sin, positions, interleaved=interleaved, rotary_embedding_dim=turning)


@microsoft("RotaryEmbedding", outputs="output", nondiff="position_ids")
def rotary_embedding(
    input: Array, position_ids: Array, cos_cache: Array, sin_cache: Array, *, interleaved: int = 0,
    is_packed_batching: int = 0, num_heads: int = 0, rotary_embedding_dim: int = 0, scale: float = 1.0,
) -> Array:  # fmt: skip
    """Rotates feature pairs (a, b) of each head to (cos a - sin b, sin a + cos b) by its position's angles.

    input: float [B, S, H*D] or [B, H, S, D]; position_ids: int64 [B, S], or [1]: the first position; cos_cache,
    sin_cache: float [positions, R/2] -> output: like input. Pairs are (i, i + R/2), or (2i, 2i+1) if ``interleaved``;
    heads have R features, or more with rotary_embedding_dim = R and num_heads. Packed batches are not supported.
    Source: onnxruntime's contributed operators; Su et al. 2021.
    """
    if is_packed_batching:
        raise ValueError("packed batches (is_packed_batching) are not supported")
    batch, length = input.shape[0], input.shape[2] if input.ndim == 4 else input.shape[1]
    if position_ids.ndim == 1:
        position_ids = np.broadcast_to(position_ids[0] + np.arange(length), (batch, length))
    return _rotated(input, position_ids, cos_cache, sin_cache, interleaved, num_heads, rotary_embedding_dim)


rotary_embedding.infer(lambda input: input)


@rotary_embedding.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    cos, sin = rng.normal(size=(5, 2)), rng.normal(size=(5, 2))
    places = np.array([[0, 2, 1], [4, 4, 3]])
    yield (rng.normal(size=(2, 3, 8)), places, cos, sin), {}
    yield (rng.normal(size=(2, 2, 3, 4)), np.array([1]), cos, sin), {"interleaved": 1}
    yield (rng.normal(size=(2, 3, 12)), places, cos, sin), {"num_heads": 2, "rotary_embedding_dim": 4}


# ---- Attention -----------------------------------------------------------------------------------------------


def attend(
    q: Any, k: Any, v: Any, mask: Array | None, bias: Any, past: int | None, scale: float | None, filter_value: float
) -> tuple[Any, Any]:
    """Output [B, S, H*Dv] and masked scores [B, H, S, T] of heads q, k, v [B, H, ., D].

    ``past``: how many keys come before the first query's own, where no later key may be seen; None: all may.
    """
    (b, _, s, _), t = q.shape, k.shape[2]
    scores = filtered(scores_of(q, k, scale), padding_mask(mask, b, s, t), filter_value)
    scores = scores if bias is None else scores + bias
    p = softmax_with_sink(masked(scores, None if past is None else causal_mask(s, t, past)), None)
    return join_heads(weighted(p, v)), scores


@microsoft("Attention", outputs=("output", "present"), nondiff=("mask_index", "past_sequence_length"))
def attention(
    input: Array, weights: Array, bias: Array = None, mask_index: Array = None, past: Array = None,
    attention_bias: Array = None, past_sequence_length: Array = None, *, do_rotary: int = 0,
    mask_filter_value: float = -10000.0, num_heads: int, past_present_share_buffer: int = 0,
    qkv_hidden_sizes: tuple[int, ...] | None = None, rotary_embedding_dim: int = 0, scale: float | None = None,
    unidirectional: int = 0,
) -> tuple[Array, Array]:  # fmt: skip
    """Self-attention with the projection to queries, keys and values: softmax(q k^T scale + mask) v.

    input: float [B, S, C]; weights: float [C, Q + K + V]; bias: float [Q + K + V]; mask_index: int32 [B], [2B],
    [3B+2], [B, T], [B, S, T] or [B, 1, M, M]; past: float [2, B, H, P, D]; attention_bias: float, broadcasts to
    [B, H, S, T] -> output: float [B, S, V]; present: float [2, B, H, T = P+S, D]. Q = K = V = a third unless
    qkv_hidden_sizes says so; scale 1/sqrt(D); masked scores get mask_filter_value added; ``unidirectional``: no key
    after the query. Rotary embedding and shared buffers are not supported. Source: onnxruntime's contributed operators.
    """
    if do_rotary or past_present_share_buffer or past_sequence_length is not None:
        raise ValueError("do_rotary and past_present_share_buffer are not supported")
    sizes = tuple(qkv_hidden_sizes or (weights.shape[1] // 3,) * 3)
    projected = call(matmul, input, weights)
    projected = projected if bias is None else projected + bias
    q, k, v = (split_heads(x, num_heads) for x in parts(projected, sizes))
    if past is not None:
        past_k, past_v = (call(squeeze, x, ints(0)) for x in parts(past, (1, 1), axis=0))
        k, v = appended(past_k, k), appended(past_v, v)
    before = k.shape[2] - q.shape[2] if unidirectional else None
    y, _ = attend(q, k, v, mask_index, attention_bias, before, scale, mask_filter_value)
    present = None
    if k.shape == v.shape:
        present = call(concat, call(unsqueeze, k, ints(0)), call(unsqueeze, v, ints(0)), axis=0)
    return y, present


@attention.infer
def _(
    input: TensorType, weights: TensorType, past: TensorType | None, num_heads: int,
    qkv_hidden_sizes: tuple[int, ...] | None,
) -> Any:  # fmt: skip
    b, s, _ = _dims(input, 3)
    hidden = qkv_hidden_sizes[2] if qkv_hidden_sizes else _over(_dims(weights, 2)[1], 3)
    if qkv_hidden_sizes and qkv_hidden_sizes[1] != qkv_hidden_sizes[2]:
        return TensorType(input.dtype, (b, s, hidden)), TensorType(input.dtype)
    before: Dim = 0 if past is None else _dims(past, 5)[3]
    present = (2, b, num_heads, _plus(before, s), _over(hidden, num_heads))
    return TensorType(input.dtype, (b, s, hidden)), TensorType(input.dtype, present)


@attention.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, w, bias = rng.normal(size=(2, 3, 4)), rng.normal(size=(4, 12)), rng.normal(size=12)
    lengths, ends = np.array([2, 3], np.int32), np.array([2, 3, 0, 1], np.int32)
    yield (x, w, bias, lengths), {"num_heads": 2}
    yield (x, w, None, ends), {"num_heads": 2, "scale": 0.3, "mask_filter_value": -50.0}
    yield (x, w, bias, np.array([[1, 1, 0, 1]] * 2, np.int32), rng.normal(size=(2, 2, 2, 1, 2))), {"num_heads": 2}
    yield (x, w, bias, None, None, rng.normal(size=(1, 2, 3, 3))), {"num_heads": 2, "unidirectional": 1}
    yield (x, rng.normal(size=(4, 14)), None), {"num_heads": 2, "qkv_hidden_sizes": (4, 4, 6)}


# ---- MultiHeadAttention --------------------------------------------------------------------------------------


def _query_key_value(query: Any, key: Any, value: Any, bias: Any, heads: int) -> tuple[Any, Any, Any]:
    """Heads [B, H, ., D] from any of the layouts: apart, key and value packed, all packed, key and value by heads."""
    if query.ndim == 5:  # [B, S, H, 3, D]
        query, key, value = _unpacked(query, 3)
    elif key is not None and key.ndim == 5:
        key, value = _unpacked(key, 2)
    if key is None or value is None:
        raise ValueError("key and value are absent only where query (or key) holds them packed")
    found = []
    sizes = (
        query.shape[-1],
        key.shape[-1] * (heads if key.ndim == 4 else 1),
        value.shape[-1] * (heads if value.ndim == 4 else 1),
    )
    biases = (None,) * 3 if bias is None else parts(bias, sizes)
    for x, b in zip((query, key, value), biases, strict=True):
        if x.ndim == 4:
            found.append(x)
        else:
            found.append(split_heads(x if b is None else x + b, heads))
    return found[0], found[1], found[2]


def _unpacked(x: Any, count: int) -> tuple[Any, ...]:
    b, s, h, _, d = x.shape
    return tuple(call(reshape, p, ints(b, s, h * d)) for p in parts(x, (1,) * count, axis=3))


@microsoft(
    "MultiHeadAttention", outputs=("output", "present_key", "present_value", "qk"),
    nondiff=("key_padding_mask", "past_sequence_length", "cache_indirection"),
)  # fmt: skip
def multi_head_attention(
    query: Array, key: Array = None, value: Array = None, bias: Array = None, key_padding_mask: Array = None,
    attention_bias: Array = None, past_key: Array = None, past_value: Array = None,
    past_sequence_length: Array = None, cache_indirection: Array = None, *, mask_filter_value: float = -10000.0,
    num_heads: int, scale: float | None = None, unidirectional: int = 0,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Attention of projected queries, keys and values: softmax(q k^T scale + mask) v.

    query: float [B, S, H*D], or packed [B, S, H, 3, D]; key: float [B, L, H*D], packed [B, L, H, 2, D], or by heads
    [B, H, L, D]; value: float [B, L, H*Dv] or [B, H, L, Dv]; bias: float [H*D + H*D + H*Dv]; key_padding_mask: int32
    [B], [3B+2], [B, L], [B, T] or [B, S, T]; attention_bias: float, broadcasts to [B, H, S, T]; past_key, past_value:
    float [B, H, P, .] -> output: float [B, S, H*Dv]; present_key, present_value: [B, H, T = P+L, .]; qk: the
    scores [B, H, S, T] with bias and padding mask. Masked scores get mask_filter_value added. Beam caches are not
    supported. Source: onnxruntime's contributed operators; Vaswani et al. 2017.
    """
    if past_sequence_length is not None or cache_indirection is not None:
        raise ValueError("past_sequence_length and cache_indirection (shared buffers) are not supported")
    q, k, v = _query_key_value(query, key, value, bias, num_heads)
    before = (0 if past_key is None else past_key.shape[2]) if unidirectional else None
    k, v = appended(past_key, k), appended(past_value, v)
    y, scores = attend(q, k, v, key_padding_mask, attention_bias, before, scale, mask_filter_value)
    return y, k, v, scores


@multi_head_attention.infer
def _(
    query: TensorType, key: TensorType | None, value: TensorType | None, past_key: TensorType | None, num_heads: int
) -> Any:
    if query.shape is None or (key is not None and key.shape is None) or (value is not None and value.shape is None):
        return (TensorType(query.dtype),) * 4
    b, s = query.shape[:2]
    if key is None or key.shape is None:
        length, d = s, query.shape[-1]
        dv = d
    else:
        by_heads = len(key.shape) == 4
        length = key.shape[2] if by_heads else key.shape[1]
        d = key.shape[-1] if len(key.shape) > 3 else _over(key.shape[-1], num_heads)
        dv = d
        if value is not None and value.shape is not None:
            dv = value.shape[-1] if len(value.shape) == 4 else _over(value.shape[-1], num_heads)
    total = length if past_key is None else _plus(_dims(past_key, 4)[2], length)
    hidden = dv * num_heads if isinstance(dv, int) else None
    dtype = query.dtype
    return (
        TensorType(dtype, (b, s, hidden)), TensorType(dtype, (b, num_heads, total, d)),
        TensorType(dtype, (b, num_heads, total, dv)), TensorType(dtype, (b, num_heads, s, total)),
    )  # fmt: skip


@multi_head_attention.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    q, k, v = draw(2, 3, 4), draw(2, 4, 4), draw(2, 4, 6)
    yield (q, k, v, draw(14), np.array([3, 4], np.int32)), {"num_heads": 2}
    yield (q, k, v, None, None, draw(2, 1, 3, 4)), {"num_heads": 2, "scale": 0.5}
    yield (draw(2, 3, 2, 3, 2),), {"num_heads": 2, "unidirectional": 1}
    yield (q, draw(2, 4, 2, 2, 2)), {"num_heads": 2}
    mask = np.array([[1, 1, 1, 0, 1]] * 2, np.int32)
    yield (q, draw(2, 3, 4), draw(2, 3, 4), None, mask, None, draw(2, 2, 2, 2), draw(2, 2, 2, 2)), {"num_heads": 2}
    yield (q, draw(2, 2, 4, 2), draw(2, 2, 4, 2)), {"num_heads": 2}


# ---- GroupQueryAttention -------------------------------------------------------------------------------------


def _cached(past: Any, new: Any, before: Array, total: int) -> Any:
    """[B, Hkv, T, D]: each example's cache up to its length, its new rows, then what the cache held, or zeros."""
    b, h, s, d = new.shape
    room = 0 if past is None else past.shape[2]
    rows = [new, np.zeros((b, h, 1, d), new.dtype)]
    every = call(concat, *([] if past is None else [past]), *rows, axis=2)
    t, start = np.arange(total), before[:, None]
    kept = np.where(t < room, t, room + s)
    index = np.where(t < start, kept, np.where(t < start + s, room + t - start, kept))
    picked = call(gather_nd, call(transpose, every, perm=(0, 2, 1, 3)), index[..., None], batch_dims=1)
    return call(transpose, picked, perm=(0, 2, 1, 3))


@microsoft(
    "GroupQueryAttention", outputs=("output", "present_key", "present_value", "output_qk"),
    nondiff=("seqlens_k", "total_sequence_length", "position_ids", "k_scale", "v_scale"),
)  # fmt: skip
def group_query_attention(
    query: Array, key: Array | None, value: Array | None, past_key: Array | None, past_value: Array | None,
    seqlens_k: Array, total_sequence_length: Array, cos_cache: Array = None, sin_cache: Array = None,
    position_ids: Array = None, attention_bias: Array = None, head_sink: Array = None, k_scale: Array = None,
    v_scale: Array = None, q_norm_weight: Array = None, k_norm_weight: Array = None, *, causal: int = 1,
    do_rotary: int = 0, k_quant_type: str = "NONE", kv_cache_bit_width: int = 0, kv_num_heads: int,
    local_window_size: int = -1, num_heads: int, qk_norm_epsilon: float = 1e-6, qk_output: int = 0,
    rotary_interleaved: int = 0, scale: float | None = None, sliding_window_cache: int = 0,
    smooth_softmax: int = -1, softcap: float = 0.0, v_quant_type: str = "NONE",
) -> tuple[Array, Array, Array, Array | None]:  # fmt: skip
    """Attention whose query heads share key heads in groups, with a cache and rotary positions.

    query: float [B, S, H*D], or packed with key and value [B, S, (H + 2 Hkv) D]; key, value: float [B, S, Hkv*D];
    past_key, past_value: float [B, Hkv, P, D]; seqlens_k: int32 [B], tokens so far less 1; total_sequence_length:
    int32 [], the most of them; cos_cache, sin_cache: float [positions, R/2]; attention_bias: float, broadcasts to
    [B, H, S, T]; head_sink: float [H], one more term in each head's softmax (0 with smooth_softmax = 1) -> output:
    float [B, S, H*D]; present_key, present_value: [B, Hkv, max(P, T), D]; output_qk: the scores, 0 where
    masked (qk_output 1), or the probabilities (2) [B, H, S, T]. Query i of example b lies at seqlens_k[b] + 1 - S + i
    (at i in the first prompt) and sees the keys up to itself, ``local_window_size`` of them if that is positive.
    Quantized and sliding caches and norms within are not supported.
    Source: onnxruntime's contributed operators; Ainslie et al. 2023.
    """
    if sliding_window_cache or kv_cache_bit_width or k_quant_type != "NONE" or q_norm_weight is not None:
        raise ValueError("sliding or quantized caches, and q_norm_weight, are not supported")
    if key is None:
        size = query.shape[2] // (num_heads + 2 * kv_num_heads)
        query, key, value = parts(query, (num_heads * size, kv_num_heads * size, kv_num_heads * size))
    q, k, v = split_heads(query, num_heads), split_heads(key, kv_num_heads), split_heads(value, kv_num_heads)
    (b, _, s, _), total = q.shape, int(total_sequence_length.reshape(()))
    lengths = seqlens_k.reshape(-1).astype(np.int64) + 1
    before = np.zeros(b, np.int64) if s == total else lengths - s
    places = before[:, None] + np.arange(s)
    if do_rotary:
        at = places if position_ids is None else position_ids
        q, k = (_rotated(x, np.maximum(at, 0), cos_cache, sin_cache, rotary_interleaved, 0, 0) for x in (q, k))
    size = max(total, 0 if past_key is None else past_key.shape[2])
    keys, values = _cached(past_key, k, before, size), _cached(past_value, v, before, size)
    shown_k, shown_v = (x if size == total else parts(x, (total, size - total), axis=2)[0] for x in (keys, values))
    scores = scores_of(q, shown_k, scale, softcap)
    scores = scores if attention_bias is None else scores + attention_bias
    seen = _visible(places, lengths, total, causal, local_window_size)
    sink = np.zeros(num_heads, scores.dtype) if head_sink is None and smooth_softmax == 1 else head_sink
    p = softmax_with_sink(masked(scores, seen), sink)
    shown = call(where, seen, scores, np.zeros((), scores.dtype)) if qk_output == 1 else p if qk_output else None
    return join_heads(weighted(p, shown_v)), keys, values, shown


def _visible(places: Array, lengths: Array, total: int, causal: int, window: int) -> Array:
    """bool [B, 1, S, T]."""
    t = np.arange(total)
    seen = np.broadcast_to(t < lengths[:, None, None], (*places.shape, total))
    if causal:
        seen = t <= places[:, :, None]
    if window > 0:
        seen = seen & (t > places[:, :, None] - window)
    return seen[:, None]


@group_query_attention.infer
def _(
    query: TensorType, key: TensorType | None, past_key: TensorType | None, total_sequence_length_value: Array | None,
    kv_num_heads: int, num_heads: int, qk_output: int,
) -> Any:  # fmt: skip
    b, s, c = _dims(query, 3)
    size = _over(c, num_heads if key is not None else num_heads + 2 * kv_num_heads)
    hidden = size * num_heads if isinstance(size, int) else None
    total = None if total_sequence_length_value is None else int(total_sequence_length_value.reshape(()))
    room: Dim = 0 if past_key is None else _dims(past_key, 4)[2]
    length = max(total, room) if total is not None and isinstance(room, int) else None
    cache = TensorType(query.dtype, (b, kv_num_heads, length, size))
    scores = TensorType(query.dtype, (b, num_heads, s, total) if qk_output else None)
    return TensorType(query.dtype, (b, s, hidden)), cache, cache, scores


@group_query_attention.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    def count(*values: int) -> Array:
        return np.array(values, np.int32)

    heads: dict[str, Any] = {"num_heads": 4, "kv_num_heads": 2}
    cos, sin, three = draw(8, 1), draw(8, 1), np.array(3, np.int32)
    q, k, v = draw(2, 3, 8), draw(2, 3, 4), draw(2, 3, 4)
    yield (q, k, v, None, None, count(2, 2), three, cos, sin), {**heads, "do_rotary": 1, "qk_output": 2}
    yield (draw(2, 3, 16), None, None, None, None, count(2, 2), three), {**heads, "softcap": 2.0, "scale": 0.4}
    past = (draw(2, 2, 4, 2), draw(2, 2, 4, 2))
    one = (draw(2, 1, 8), draw(2, 1, 4), draw(2, 1, 4))
    yield (*one, *past, count(4, 2), np.array(5, np.int32)), {**heads, "local_window_size": 2}
    yield (
        (*one, *past, count(4, 2), np.array(5, np.int32), cos, sin),
        {**heads, "do_rotary": 1, "rotary_interleaved": 1},
    )
    sink = (None, None, None, draw(2, 1, 3, 3), draw(4))
    yield Example((q, k, v, None, None, count(2, 2), three, *sink), {**heads, "qk_output": 1})
    yield (q, k, v, None, None, count(2, 2), three), {**heads, "smooth_softmax": 1, "causal": 0}


composed(rotary_embedding, "input", "cos_cache", "sin_cache")
composed(attention, "input", "weights", "bias", "past", "attention_bias")
composed(multi_head_attention, "query", "key", "value", "bias", "attention_bias", "past_key", "past_value")
composed(
    group_query_attention, "query", "key", "value", "past_key", "past_value", "cos_cache", "sin_cache",
    "attention_bias", "head_sink",
)  # fmt: skip

OPS = (rotary_embedding, attention, multi_head_attention, group_query_attention)
