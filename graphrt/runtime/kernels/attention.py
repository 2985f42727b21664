"""Attention head by head, in blocks of query rows whose scores stay in the cache and are never all there at once.

Served are calls without a cache of past keys, without softcap, windows and padding lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._blocks import BLOCK, for_blas
from graphrt.types import TensorType, numpy_dtype

Function = Callable[..., Any]
_TINY, _HUGE = 1e-15, 1e30
"""Bounds of a sum of exponentials that needed no maximum subtracted, see `graphrt.runtime.kernels.softmax`."""


@dataclass(frozen=True)
class Heads:
    """The sizes of a call: batch, query heads, key heads, query length, key length; and how it is cut."""

    batch: int
    heads: int
    key_heads: int
    length: int
    keys: int
    scale: float
    causal: bool
    dtype: Any

    def split(self, x: Array, heads: int) -> Array:
        """[B, L, H D] as [B, H, L, D], a view; 4-d arrays pass."""
        if x.ndim == 4:
            return x
        return np.swapaxes(x.reshape(*x.shape[:2], heads, x.shape[2] // heads), 1, 2)

    def blocks(self) -> Iterator[tuple[slice, int]]:
        """Query rows, and how many keys the last of them sees."""
        step = max(8, 2 * BLOCK // (self.keys * self.dtype.itemsize))
        for i in range(0, self.length, step):
            end = min(i + step, self.length)
            yield slice(i, end), min(end, self.keys) if self.causal else self.keys

    def mask(self, mask: Array) -> Array:
        """The mask for every head, [B, H, S, T]; no memory of its own."""
        return None if mask is None else np.broadcast_to(mask, (self.batch, self.heads, self.length, self.keys))

    def allowed(self, rows: slice, keys: int) -> Array:
        """bool [rows, keys]: what the causal rule leaves; None where it leaves everything."""
        if not self.causal or rows.start >= keys - 1:
            return None
        return np.arange(keys) <= np.arange(rows.start, rows.stop)[:, None]

    def exponentials(self, q: Array, k: Array, mask: Array, allowed: Array, shown: Array) -> tuple[Array, Array]:
        """Numerators [rows, keys] and denominators [rows, 1] of softmax; q comes scaled, shown takes the raw scores."""
        scores = np.matmul(q, k.T)
        if shown is not None:
            shown[...] = scores
        if mask is not None and mask.dtype != bool:
            np.add(scores, mask, scores)
        e = np.exp(scores)
        for ruled in (allowed, mask if mask is not None and mask.dtype == bool else None):
            if ruled is not None:
                np.multiply(e, ruled, e)
        sums = np.matmul(e, np.ones(e.shape[1], e.dtype))
        if not (np.minimum.reduce(sums) > _TINY and np.maximum.reduce(sums) < _HUGE):
            e, sums = _careful(scores, mask, allowed)
        return e, sums[:, None]


def _careful(scores: Array, mask: Array, allowed: Array) -> tuple[Array, Array]:
    """The same with the maximum subtracted; a row that sees no key has numerators 0 and denominator 1."""
    for ruled in (allowed, mask if mask is not None and mask.dtype == bool else None):
        if ruled is not None:
            scores = np.where(ruled, scores, scores.dtype.type(-np.inf))
    top = np.maximum.reduce(scores, axis=1, keepdims=True)
    e = np.exp(scores - np.where(np.isfinite(top), top, top.dtype.type(0)))
    sums = np.add.reduce(e, axis=1)
    return e, np.where(sums == 0, sums.dtype.type(1), sums)


def _heads(site: KernelSite) -> Heads | None:
    a, given = site.attributes, site.inputs
    unserved = ("past_key", "past_value", "nonpad_kv_seqlen")
    if not site.is_float("q", "k", "v") or any(given.get(n) is not None for n in unserved):
        return None
    plain = a["softcap"] <= 0 and a["left_window_size"] < 0 and a["right_window_size"] < 0
    if not plain or a["qk_matmul_output_mode"] != 0 or a["softmax_precision"] not in (None, 0, 1):
        return None
    q, k, v = (site.shape(n) for n in ("q", "k", "v"))
    dtype = numpy_dtype(given["q"].dtype)
    if len(q) == len(k) == len(v) == 3:
        heads, key_heads = a["q_num_heads"], a["kv_num_heads"]
        if not heads or not key_heads or q[2] % heads or k[2] % key_heads or v[2] % key_heads:
            return None
        length, keys, size = q[1], k[1], q[2] // heads
    elif len(q) == len(k) == len(v) == 4:
        heads, key_heads, length, keys, size = q[1], k[1], q[2], k[2], q[3]
    else:
        return None
    if 0 in q or 0 in k or 0 in v or heads % key_heads or not (q[0] == k[0] == v[0]):
        return None
    scale = a["scale"] if a["scale"] is not None else size**-0.5
    made = Heads(q[0], heads, key_heads, length, keys, scale, bool(a["is_causal"]), dtype)
    return made if _is_whole_mask(given.get("attn_mask"), made) else None


def _is_whole_mask(mask: Any, of: Heads) -> bool:
    if mask is None:
        return True
    if not isinstance(mask, TensorType) or not mask.is_static or mask.dtype not in ("bool", of.dtype.name):
        return False
    return mask.shape is not None and mask.shape[-1:] == (of.keys,)


def _asked(site: KernelSite, i: int) -> bool:
    """Whether output i is wanted, as far as the node says."""
    return not site.node.outputs or (len(site.node.outputs) > i and bool(site.node.outputs[i]))


def _at(x: Array, b: int, h: int, rows: slice, keys: int) -> Array:
    return None if x is None else x[b, h, rows, :keys]


@kernel("Attention")
def attention_by_rows(site: KernelSite) -> Function | None:
    """Scores, softmax and the mean of the values for one block of query rows after the other."""
    of = _heads(site)
    if of is None:
        return None
    shown = _asked(site, 3)

    def run(
        q: Array, k: Array, v: Array, attn_mask: Array = None, past_key: None = None, past_value: None = None,
        nonpad_kv_seqlen: None = None,
    ) -> tuple[Array, Array, Array, Array]:  # fmt: skip
        qs, ks, vs = of.split(q, of.heads), of.split(k, of.key_heads), of.split(v, of.key_heads)
        y = np.empty((*q.shape[:-1], of.heads * vs.shape[3] if q.ndim == 3 else vs.shape[3]), of.dtype)
        ys, mask = of.split(y, of.heads), of.mask(attn_mask)
        raw = np.empty((of.batch, of.heads, of.length, of.keys), of.dtype) if shown else None
        group = of.heads // of.key_heads
        for b in range(of.batch):
            for h in range(of.heads):
                scaled, key, value = qs[b, h] * of.scale, for_blas(ks[b, h // group]), for_blas(vs[b, h // group])
                for rows, keys in of.blocks():
                    keys = of.keys if shown else keys
                    target = _at(raw, b, h, rows, keys)
                    e, sums = of.exponentials(
                        scaled[rows], key[:keys], _at(mask, b, h, rows, keys), of.allowed(rows, keys), target
                    )
                    np.divide(np.matmul(e, value[:keys]), sums, ys[b, h, rows])
        return y, ks, vs, raw

    return run


@kernel("Attention.vjp[q,k,v,attn_mask,past_key,past_value]")
def attention_cotangents_by_rows(site: KernelSite) -> Function | None:
    """The probabilities again, and back through them, for one block of query rows after the other."""
    of = _heads(site)
    mask_type = site.inputs.get("attn_mask")
    if of is None or site.inputs.get("ct") is None:
        return None
    if mask_type is not None and mask_type.dtype != "bool" and _asked(site, 3):
        return None

    def run(
        ct: Array, ct_present_key: Array, ct_present_value: Array, ct_qk_matmul_output: Array, q: Array, k: Array,
        v: Array, attn_mask: Array = None, past_key: None = None, past_value: None = None,
        nonpad_kv_seqlen: None = None,
    ) -> tuple[Array, ...]:  # fmt: skip
        qs, ks, vs = of.split(q, of.heads), of.split(k, of.key_heads), of.split(v, of.key_heads)
        q_ct = np.empty(q.shape, of.dtype)
        k_ct, v_ct = np.zeros(k.shape, of.dtype), np.zeros(v.shape, of.dtype)
        parts = of.split(q_ct, of.heads), of.split(k_ct, of.key_heads), of.split(v_ct, of.key_heads)
        cts, mask = of.split(ct, of.heads), of.mask(attn_mask)
        group = of.heads // of.key_heads
        for b in range(of.batch):
            for h in range(of.heads):
                scaled, key, value = qs[b, h] * of.scale, for_blas(ks[b, h // group]), for_blas(vs[b, h // group])
                along, to_q = for_blas(cts[b, h]), parts[0][b, h]
                to_k, to_v = parts[1][b, h // group], parts[2][b, h // group]
                for rows, keys in of.blocks():
                    keys = of.keys if ct_qk_matmul_output is not None else keys
                    p, sums = of.exponentials(
                        scaled[rows], key[:keys], _at(mask, b, h, rows, keys), of.allowed(rows, keys), None
                    )
                    np.divide(p, sums, p)
                    to_v[:keys] += np.matmul(p.T, along[rows])
                    s = np.matmul(along[rows], value[:keys].T)
                    np.subtract(s, np.vecdot(s, p)[:, None], s)
                    np.multiply(s, p, s)
                    if ct_qk_matmul_output is not None:
                        np.add(s, ct_qk_matmul_output[b, h, rows], s)
                    np.multiply(np.matmul(s, key[:keys]), of.scale, to_q[rows])
                    to_k[:keys] += np.matmul(s.T, scaled[rows])
        if ct_present_key is not None:
            parts[1][...] += ct_present_key
        if ct_present_value is not None:
            parts[2][...] += ct_present_value
        return q_ct, k_ct, v_ct, None, None, None

    return run


KERNELS = (attention_by_rows, attention_cotangents_by_rows)
