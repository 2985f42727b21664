"""Scaled dot-product attention with its masks, caches and shared key heads.

The heads of a query group share one key head, so they are laid side by side as rows of one product:
q [B, Hkv, G*S, D] times k [B, Hkv, D, T]; the sums over a group in the derivatives then come for free.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from graphrt.op import Array, op, unbroadcast
from graphrt.ops._math import quiet
from graphrt.ops._standardize import stash_dtype
from graphrt.ops._windows import wide
from graphrt.types import Dim, Shape, TensorType


class Settings(NamedTuple):
    """The attributes that shape the computation."""

    q_num_heads: int | None
    kv_num_heads: int | None
    scale: float | None
    softcap: float
    is_causal: int
    windows: tuple[int, int]
    softmax_precision: int | None


class Forward(NamedTuple):
    """Everything between inputs and output: rows are [B, Hkv, G*S, .], scores [B, H, S, T]."""

    q: Array
    k: Array
    v: Array
    raw: Array
    capped: Array
    masked: Array
    p: Array
    past: int
    root: Any  # square root of the scale


# ---- heads -----------------------------------------------------------------------------------------------


def _split_heads(x: Array, heads: int | None, name: str) -> Array:
    """[B, S, H*D] -> [B, H, S, D]; 4-d arrays pass."""
    if x.ndim == 4:
        return x
    if x.ndim != 3 or not heads or x.shape[2] % heads:
        raise ValueError(
            f"{name} {x.shape} is [batch, heads, length, size], or [batch, length, heads*size] with num_heads"
        )
    return np.swapaxes(x.reshape(*x.shape[:2], heads, x.shape[2] // heads), 1, 2)


def _join_heads(x: Array, rank: int) -> Array:
    """The inverse of `_split_heads` for an array of that rank."""
    return x if rank == 4 else np.swapaxes(x, 1, 2).reshape(x.shape[0], x.shape[2], x.shape[1] * x.shape[3])


def _rows(x: Array, kv_heads: int) -> Array:
    """[B, H, S, D] -> [B, Hkv, G*S, D]."""
    b, h, s, d = x.shape
    if not kv_heads or h % kv_heads:
        raise ValueError(f"{h} query heads cannot share {kv_heads} key heads evenly")
    return x.reshape(b, kv_heads, h // kv_heads * s, d)


def _heads(rows: Array, heads: int, length: int) -> Array:
    """The inverse of `_rows`."""
    return rows.reshape(rows.shape[0], heads, length, rows.shape[3])


def _transposed(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


# ---- masks -----------------------------------------------------------------------------------------------


def _allowed(b: int, s: int, t: int, past: int, nonpad: Array | None, settings: Settings) -> Array | None:
    """bool, broadcasts to [B, H, S, T]: which keys the causal rule, the window and the padding leave; None: all."""
    offset = past if nonpad is None or past else nonpad.reshape(b, 1, 1, 1) - s
    ahead = np.arange(t) - (np.arange(s)[:, None] + offset)  # how far a key lies after the query
    left, right = settings.windows
    rules = []
    if settings.is_causal:
        rules.append(ahead <= 0)
    if left >= 0:
        rules.append(ahead >= -left)
    if right >= 0:
        rules.append(ahead <= right)
    if nonpad is not None:
        rules.append(np.arange(t) < nonpad.reshape(b, 1, 1, 1))
    if not rules:
        return None
    allowed = rules[0]
    for rule in rules[1:]:
        allowed = allowed & rule
    return allowed


def _pad_mask(mask: Array, t: int) -> Array:
    missing = t - mask.shape[-1]
    if missing <= 0:
        return mask
    fill = np.full((*mask.shape[:-1], missing), False if mask.dtype == bool else -np.inf, mask.dtype)
    return np.concatenate([mask, fill], axis=-1)


def _apply_masks(scores: Array, mask: Array | None, allowed: Array | None) -> Array:
    never = scores.dtype.type(-np.inf)
    if mask is not None:
        mask = _pad_mask(mask, scores.shape[-1])
        scores = np.where(mask, scores, never) if mask.dtype == bool else scores + wide(mask).astype(scores.dtype)
    return scores if allowed is None else np.where(allowed, scores, never)


def _softmax(x: Array) -> Array:
    """Softmax over the last axis; a row of -inf gives zeros."""
    top = np.max(x, axis=-1, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, top.dtype.type(0))
    e = np.exp(x - top)
    total = np.sum(e, axis=-1, keepdims=True)
    return e / np.where(total == 0, total.dtype.type(1), total)


# ---- forward -----------------------------------------------------------------------------------------------


def _forward(
    q: Array, k: Array, v: Array, mask: Array | None, past_key: Array | None, past_value: Array | None,
    nonpad: Array | None, settings: Settings,
) -> tuple[Forward, Array, Array]:  # fmt: skip
    """The intermediate values, and the keys and values with the past before them [B, Hkv, T, D]."""
    if (past_key is None) != (past_value is None):
        raise ValueError("past_key and past_value come together or not at all")
    q = _split_heads(q, settings.q_num_heads, "q")
    k, v = (_split_heads(a, settings.kv_num_heads, n) for a, n in ((k, "k"), (v, "v")))
    past = 0 if past_key is None else past_key.shape[2]
    if past_key is not None:
        k, v = np.concatenate([past_key, k], axis=2), np.concatenate([past_value, v], axis=2)
    present = k, v
    b, h, s, d = q.shape
    scale = settings.scale if settings.scale is not None else 1 / np.sqrt(max(d, 1))
    rows, keys, values = wide(_rows(q, k.shape[1])), wide(k), wide(v)
    root = rows.dtype.type(np.sqrt(scale))
    raw = _heads(np.matmul(rows * root, _transposed(keys * root)), h, s)
    capped = raw if settings.softcap <= 0 else settings.softcap * np.tanh(raw / settings.softcap)
    masked = _apply_masks(capped, mask, _allowed(b, s, k.shape[2], past, nonpad, settings))
    precision = (
        masked.dtype if not settings.softmax_precision else stash_dtype(masked.dtype, settings.softmax_precision)
    )
    p = _softmax(masked.astype(precision, copy=False)).astype(masked.dtype, copy=False)
    return Forward(rows, keys, values, raw, capped, masked, p, past, root), *present


def _cap_slope(f: Forward, softcap: float) -> Any:
    return 1 if softcap <= 0 else 1 - (f.capped / softcap) ** 2


@op(
    "Attention",
    version=23,
    outputs=("y", "present_key", "present_value", "qk_matmul_output"),
    nondiff="nonpad_kv_seqlen",
)
def attention(
    q: Array, k: Array, v: Array, attn_mask: Array = None, past_key: Array = None, past_value: Array = None,
    nonpad_kv_seqlen: Array = None, *, is_causal: int = 0, kv_num_heads: int | None = None, left_window_size: int = -1,
    q_num_heads: int | None = None, qk_matmul_output_mode: int = 0, right_window_size: int = -1,
    scale: float | None = None, softcap: float = 0.0, softmax_precision: int | None = None,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """Scaled dot-product attention: softmax(q k^T scale + mask) v, per head.

    q: float [B, H, S, D], k: float [B, Hkv, L, D], v: float [B, Hkv, L, Dv] (H a multiple of Hkv; or all three
    [B, length, heads*size] with num_heads given), attn_mask: bool (True takes part) or float (added), broadcasts to
    [B, H, S, T], its last axis may be shorter; past_key, past_value: float [B, Hkv, P, .]; nonpad_kv_seqlen: int64
    [B], valid keys per example -> y: like q with Dv; present_key, present_value: [B, Hkv, T = P+L, .];
    qk_matmul_output: [B, H, S, T], the scores raw (mode 0), after softcap (1), after masks (2) or softmax (3).
    scale defaults to 1/sqrt(D); softcap c caps scores as c tanh(s/c). Query i lies at key position i + P
    (or i + valid keys - S): is_causal and the window sizes count from there. A row without any key gives zeros.
    16-bit floats are computed in float32. Source: ONNX operator spec, versions 23 to 25; Vaswani et al. 2017.
    """
    with quiet():
        settings = Settings(
            q_num_heads,
            kv_num_heads,
            scale,
            softcap,
            is_causal,
            (left_window_size, right_window_size),
            softmax_precision,
        )
        f, keys, values = _forward(q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen, settings)
        h, s = f.raw.shape[1:3]
        y = _heads(np.matmul(_rows(f.p, keys.shape[1]), f.v), h, s)
        shown = (f.raw, f.capped, f.masked, f.p)[qk_matmul_output_mode]
        return _join_heads(y, q.ndim).astype(q.dtype, copy=False), keys, values, shown.astype(q.dtype, copy=False)


@attention.vjp("q", "k", "v", "attn_mask", "past_key", "past_value")
def _(
    ct: Array | None, ct_present_key: Array | None, ct_present_value: Array | None, ct_qk_matmul_output: Array | None,
    q: Array, k: Array, v: Array, attn_mask: Array | None, past_key: Array | None, past_value: Array | None,
    nonpad_kv_seqlen: Array | None, is_causal: int, kv_num_heads: int | None, left_window_size: int,
    q_num_heads: int | None, qk_matmul_output_mode: int, right_window_size: int, scale: float | None, softcap: float,
    softmax_precision: int | None,
) -> Any:  # fmt: skip
    with quiet():
        settings = Settings(
            q_num_heads,
            kv_num_heads,
            scale,
            softcap,
            is_causal,
            (left_window_size, right_window_size),
            softmax_precision,
        )
        f, keys, _ = _forward(q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen, settings)
        (h, s), kv = f.raw.shape[1:3], keys.shape[1]

        def reached(mode: int, so_far: Array) -> Array:
            return (
                so_far if ct_qk_matmul_output is None or mode != qk_matmul_output_mode else so_far + ct_qk_matmul_output
            )

        ct_rows = np.zeros((*f.q.shape[:3], f.v.shape[3]), f.q.dtype) if ct is None else None
        ct_rows = _rows(_split_heads(wide(ct), h, "ct"), kv) if ct_rows is None else ct_rows
        v_ct = np.matmul(_transposed(_rows(f.p, kv)), ct_rows)
        p_ct = reached(3, _heads(np.matmul(ct_rows, _transposed(f.v)), h, s))
        masked_ct = reached(2, f.p * (p_ct - np.sum(p_ct * f.p, axis=-1, keepdims=True)))
        # a key ruled out by a mask carries no score of its own, whatever its cotangent
        masked_ct = np.where(np.isneginf(f.masked), masked_ct.dtype.type(0), masked_ct)
        mask_ct = None
        if attn_mask is not None and attn_mask.dtype != bool:
            mask_ct = unbroadcast(masked_ct[..., : attn_mask.shape[-1]], attn_mask).astype(attn_mask.dtype, copy=False)
        raw_ct = _rows(reached(0, reached(1, masked_ct) * _cap_slope(f, softcap)), kv)
        q_ct = _heads(np.matmul(raw_ct, f.k * f.root) * f.root, h, s)
        k_ct = np.matmul(_transposed(raw_ct), f.q * f.root) * f.root
        k_ct = k_ct if ct_present_key is None else k_ct + ct_present_key
        v_ct = v_ct if ct_present_value is None else v_ct + ct_present_value
        parts = (
            (_join_heads(q_ct, q.ndim), q), (_join_heads(k_ct[:, :, f.past :], k.ndim), k),
            (_join_heads(v_ct[:, :, f.past :], v.ndim), v), (k_ct[:, :, : f.past], past_key),
            (v_ct[:, :, : f.past], past_value),
        )  # fmt: skip
        cast = [None if x is None else c.astype(x.dtype, copy=False) for c, x in parts]
        return (*cast[:3], mask_ct, *cast[3:])


@attention.jvp("q", "k", "v", "attn_mask", "past_key", "past_value")
def _(
    q_dot: Array | None, k_dot: Array | None, v_dot: Array | None, attn_mask_dot: Array | None,
    past_key_dot: Array | None, past_value_dot: Array | None, q: Array, k: Array, v: Array, attn_mask: Array | None,
    past_key: Array | None, past_value: Array | None, nonpad_kv_seqlen: Array | None, is_causal: int,
    kv_num_heads: int | None, left_window_size: int, q_num_heads: int | None, qk_matmul_output_mode: int,
    right_window_size: int, scale: float | None, softcap: float, softmax_precision: int | None,
) -> Any:  # fmt: skip
    with quiet():
        settings = Settings(
            q_num_heads,
            kv_num_heads,
            scale,
            softcap,
            is_causal,
            (left_window_size, right_window_size),
            softmax_precision,
        )
        f, keys, values = _forward(q, k, v, attn_mask, past_key, past_value, nonpad_kv_seqlen, settings)
        (h, s), kv = f.raw.shape[1:3], keys.shape[1]
        keys_dot = _present_tangent(k_dot, past_key_dot, k, past_key, kv_num_heads, keys)
        values_dot = _present_tangent(v_dot, past_value_dot, v, past_value, kv_num_heads, values)
        raw_dot = np.matmul(f.q * f.root, _transposed(wide(keys_dot) * f.root))
        if q_dot is not None:
            q_rows = _rows(_split_heads(wide(q_dot), q_num_heads, "q"), kv)
            raw_dot = raw_dot + np.matmul(q_rows * f.root, _transposed(f.k * f.root))
        raw_dot = _heads(raw_dot, h, s)
        capped_dot = raw_dot * _cap_slope(f, softcap)
        masked_dot = capped_dot
        if attn_mask_dot is not None:
            missing = f.masked.shape[-1] - attn_mask_dot.shape[-1]
            tail = np.zeros((*attn_mask_dot.shape[:-1], max(missing, 0)), masked_dot.dtype)
            masked_dot = masked_dot + np.concatenate([wide(attn_mask_dot), tail], axis=-1)
        masked_dot = np.where(np.isneginf(f.masked), masked_dot.dtype.type(0), masked_dot)
        p_dot = f.p * (masked_dot - np.sum(masked_dot * f.p, axis=-1, keepdims=True))
        y_dot = np.matmul(_rows(p_dot, kv), f.v) + np.matmul(_rows(f.p, kv), wide(values_dot))
        shown = (raw_dot, capped_dot, masked_dot, p_dot)[qk_matmul_output_mode].astype(q.dtype, copy=False)
        return _join_heads(_heads(y_dot, h, s), q.ndim).astype(q.dtype, copy=False), keys_dot, values_dot, shown


def _present_tangent(
    dot: Array | None, past_dot: Array | None, x: Array, past: Array | None, heads: int | None, present: Array
) -> Array:
    new = np.zeros(x.shape, x.dtype) if dot is None else dot
    new = _split_heads(new, heads, "k or v")
    if past is None:
        return new
    return np.concatenate([np.zeros(past.shape, past.dtype) if past_dot is None else past_dot, new], axis=2)


def _head_dims(shape: Shape, heads: int | None) -> tuple[Dim, Dim, Dim, Dim]:
    """Batch, heads, length, size of a 3-d or 4-d input."""
    if len(shape) == 4:
        return shape[0], shape[1], shape[2], shape[3]
    if len(shape) != 3 or not heads:
        raise ValueError(f"q, k, v are 4-d, or 3-d with q_num_heads and kv_num_heads; got rank {len(shape)}")
    return shape[0], heads, shape[1], shape[2] // heads if isinstance(shape[2], int) else None


@attention.infer
def _(
    q: TensorType, k: TensorType, v: TensorType, past_key: TensorType | None, q_num_heads: int | None,
    kv_num_heads: int | None, n_outputs: int,
) -> Any:  # fmt: skip
    if q.shape is None or k.shape is None or v.shape is None:
        return (TensorType(q.dtype), TensorType(k.dtype), TensorType(v.dtype), TensorType(q.dtype))[: max(n_outputs, 1)]
    b, h, s, _ = _head_dims(q.shape, q_num_heads)
    _, kv, length, d = _head_dims(k.shape, kv_num_heads)
    _, _, _, dv = _head_dims(v.shape, kv_num_heads)
    total: Dim = length
    if past_key is not None:
        p = None if past_key.shape is None else past_key.shape[2]
        total = p + length if isinstance(p, int) and isinstance(length, int) else None
    hidden = h * dv if isinstance(h, int) and isinstance(dv, int) else None
    y = (b, h, s, dv) if len(q.shape) == 4 else (b, s, hidden)
    return (
        TensorType(q.dtype, y), TensorType(k.dtype, (b, kv, total, d)), TensorType(v.dtype, (b, kv, total, dv)),
        TensorType(q.dtype, (b, h, s, total)),
    )[: max(n_outputs, 1)]  # fmt: skip


@attention.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    q, k, v = draw(2, 4, 3, 5), draw(2, 2, 6, 5), draw(2, 2, 6, 4)
    past = draw(2, 2, 2, 5), draw(2, 2, 2, 4)
    boolean = rng.random((2, 1, 3, 6)) < 0.7
    boolean[..., 0] = True
    yield (q, k, v), {}
    yield (q, k, v, draw(3, 6)), {"scale": 0.7, "softcap": 2.0}
    yield (q, k, v, boolean), {"softmax_precision": 1}
    yield (q, k, v, draw(4, 1, 6), *past), {"is_causal": 1}
    yield (draw(2, 3, 20), draw(2, 6, 10), draw(2, 6, 8)), {"q_num_heads": 4, "kv_num_heads": 2}
    yield (q, k, v, None, None, None, np.array([6, 4])), {"is_causal": 1, "left_window_size": 2}
    yield (q, k, v), {"left_window_size": 1, "right_window_size": 1}
    for mode in (1, 3):
        yield (q, k, v, draw(3, 6)), {"qk_matmul_output_mode": mode, "softcap": 3.0}
    yield (q, k, v, draw(2, 4, 3, 6)), {"qk_matmul_output_mode": 2}
    yield (draw(0, 2, 3, 4), draw(0, 2, 5, 4), draw(0, 2, 5, 4)), {}


OPS = (attention,)
