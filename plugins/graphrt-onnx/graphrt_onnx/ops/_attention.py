"""Parts of the attention ops of com.microsoft: heads, masks, scores; all on arrays or traced values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.ops.activations import tanh
from graphrt.ops.arrange import transpose
from graphrt.ops.joining import concat, split
from graphrt.ops.linalg import matmul
from graphrt.ops.selection import where
from graphrt.ops.shape import expand, reshape
from graphrt.ops.slicing import slice_
from graphrt.ops.softmax import softmax
from graphrt.plugin import Array
from graphrt_onnx.ops._compose import call
from graphrt_onnx.ops._microsoft import ints


def split_heads(x: Any, heads: int) -> Any:
    """[B, S, H*D] -> [B, H, S, D].

    Raises:
        ValueError: the last dimension does not divide into the heads.
    """
    b, s, c = x.shape
    if heads < 1 or c % heads:
        raise ValueError(f"{c} features do not divide into {heads} heads")
    return call(transpose, call(reshape, x, ints(b, s, heads, c // heads)), perm=(0, 2, 1, 3))


def join_heads(x: Any) -> Any:
    """[B, H, S, D] -> [B, S, H*D]."""
    b, h, s, d = x.shape
    return call(reshape, call(transpose, x, perm=(0, 2, 1, 3)), ints(b, s, h * d))


def parts(x: Any, sizes: tuple[int, ...], axis: int = -1) -> tuple[Any, ...]:
    """A tensor cut into pieces of these sizes."""
    return tuple(call(split, x, ints(*sizes), axis=axis, n_outputs=len(sizes)))


def appended(past: Any, new: Any) -> Any:
    """Past and new keys (or values), one after the other."""
    return new if past is None else call(concat, past, new, axis=2)


def padding_mask(mask: Array | None, b: int, s: int, t: int) -> Array | None:
    """Which keys may be seen, from any of the forms a mask comes in: bool, broadcasts to [B, 1, S, T].

    Args:
        mask: int32 [B]: how many keys count; [2B]: ends, then starts; [3B+2]: lengths come first; [B, T], [B, S, T] or
            [B, 1, M, M]: 1 where a key may be seen. Keys beyond a narrower mask's end may be seen.
        b, s, t: batch, queries, keys.

    Raises:
        ValueError: none of these shapes.
    """
    if mask is None:
        return None
    places = np.arange(t)
    if mask.ndim == 1:
        if mask.size == 2 * b:
            ends, starts = mask[:b, None], mask[b:, None]
            return ((places < ends) & (places >= starts))[:, None, None, :]
        if mask.size in (b, 3 * b + 2):
            return (places < mask[:b, None])[:, None, None, :]
    seen = mask != 0
    if mask.ndim == 2 and mask.shape[0] in (1, b) and mask.shape[1] <= t:
        missing = np.ones((mask.shape[0], t - mask.shape[1]), bool)
        return np.concatenate([missing, seen], axis=1)[:, None, None, :]
    if mask.ndim == 3 and mask.shape == (b, s, t):
        return seen[:, None]
    if mask.ndim == 4 and mask.shape[2] >= t and mask.shape[3] >= t:
        return seen[:, :, t - s : t, :t]
    raise ValueError(f"a mask of shape {mask.shape} does not fit {b} examples, {s} queries and {t} keys")


def causal_mask(s: int, t: int, past: int) -> Array:
    """bool [S, T]: query i sees the past and the keys up to i."""
    return np.arange(t) <= np.arange(s)[:, None] + past


def scores_of(q: Any, k: Any, scale: float | None, softcap: float = 0.0) -> Any:
    """q k^T scale, capped: q [B, H, S, D], k [B, Hkv, T, D] -> [B, H, S, T]; heads in groups share a key head."""
    b, h, s, d = q.shape
    scale = scale if scale else 1 / math.sqrt(max(d, 1))
    rows = call(matmul, _grouped(q, k.shape[1]), _columns(k)) * scale
    scores = call(reshape, rows, ints(b, h, s, k.shape[2]))
    return scores if not softcap else call(tanh, scores / np.asarray(softcap, scores.dtype)) * softcap


def weighted(p: Any, v: Any) -> Any:
    """p v: p [B, H, S, T], v [B, Hkv, T, Dv] -> [B, H, S, Dv]."""
    b, h, s, _ = p.shape
    return call(reshape, call(matmul, _grouped(p, v.shape[1]), v), ints(b, h, s, v.shape[3]))


def _grouped(x: Any, kv_heads: int) -> Any:
    b, h, s, d = x.shape
    if h % max(kv_heads, 1):
        raise ValueError(f"{h} query heads cannot share {kv_heads} key heads evenly")
    return call(reshape, x, ints(b, kv_heads, h // kv_heads * s, d))


def _columns(k: Any) -> Any:
    return call(transpose, k, perm=(0, 1, 3, 2))


def masked(scores: Any, allowed: Array | None) -> Any:
    """The least number of the dtype where a key may not be seen."""
    if allowed is None:
        return scores
    return call(where, allowed, scores, np.asarray(np.finfo(scores.dtype).min, scores.dtype))


def filtered(scores: Any, allowed: Array | None, value: float) -> Any:
    """``value`` added where a key may not be seen."""
    if allowed is None:
        return scores
    return scores + np.where(allowed, scores.dtype.type(0), scores.dtype.type(value))


def softmax_with_sink(scores: Any, sink: Any) -> Any:
    """Softmax whose denominator has one more term, exp(sink): sink [H], or None for plain softmax."""
    if sink is None:
        return call(softmax, scores, axis=-1)
    b, h, s, t = scores.shape
    column = call(expand, call(reshape, sink, ints(1, h, 1, 1)), ints(b, h, s, 1))
    p = call(softmax, call(concat, scores, column, axis=-1), axis=-1)
    return call(slice_, p, ints(0), ints(t), ints(3))
