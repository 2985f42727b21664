"""Attention and its cotangents: some query rows of one head at a time, while their scores are in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.runtime.kernels.attention import Heads, _heads
from graphrt_numba.sharing import PRIORITY, bounds_of, is_worth

SPEED = 0.02
"""Nanoseconds that a multiplication of the products takes, about."""
SOFTMAX = 30
"""The multiplications that one score is worth beside."""
SMALLEST = 1 << 12
"""Scores, at least: below, the calls themselves take most of the time."""
FEWEST = 4
"""Query rows, at least: with fewer, most of the time goes to reading the keys."""
SCORES = 1 << 16
"""Scores of a block, about: they stay in the second-level cache."""
SHORTEST, LONGEST = 32, 128
"""Query rows of a block, at least (as far as there are so many), and at most."""
PARTS = 8
"""How many parts there are for each thread, so that they end at about the same time."""
NONE, NO_RULE, NO_HEADS = np.empty(0, np.float32), np.empty(0, np.uint8), np.empty((0, 0, 0, 0), np.float32)
STEPS = np.zeros(3, np.int64)


def _served(site: KernelSite) -> Heads | None:
    """The sizes of a call that the loops serve: float32, and enough to do."""
    of = _heads(site, 0) if is_worth(site, site.inputs["q"]) else None
    if of is None or of.length < FEWEST or of.scale <= 0:
        return None
    return of if of.batch * of.heads * of.group * of.length * of.keys >= SMALLEST else None


def _step(of: Heads) -> int:
    """Query rows of a block."""
    return min(of.length, max(SHORTEST, min(LONGEST, SCORES // of.keys)))


def _parts(count: int, of: Heads, products: int) -> tuple[int, Array]:
    """How many threads help with so many blocks or heads, where a score takes part in so many products; their parts."""
    scores = of.batch * of.heads * of.group * of.length * of.keys
    threads = len(bounds_of(count, scores * (products * (of.size + of.values) // 2 + SOFTMAX) * SPEED)) - 1
    parts = min(count, threads * PARTS) if threads > 1 else 1
    return threads - 1, np.array([count * i // parts for i in range(parts + 1)])


def _of_four(x: Array | None, heads: int) -> Array:
    """[B, L, heads D] or [B, heads, L, D] as [B, heads, L, D], a view; empty for None."""
    if x is None:
        return NO_HEADS
    return x if x.ndim == 4 else np.swapaxes(x.reshape(*x.shape[:2], heads, -1), 1, 2)


def _mask(mask: Array | None, of: Heads) -> tuple[Array, Array, Array]:
    """What is added to the scores, and which of them stay, flat; the steps of either."""
    if mask is None:
        return NONE, NO_RULE, STEPS
    lying = np.ascontiguousarray(mask)
    whole = np.broadcast_to(lying, (of.batch, of.heads * of.group, of.length, of.keys))
    steps = np.array(whole.strides[:3]) // lying.itemsize
    flat = lying.ravel()
    return (NONE, flat.view(np.uint8), steps) if mask.dtype == bool else (flat, NO_RULE, steps)


def _call(loop: Any, arrays: tuple[int, int], of: Heads, hands: int, bounds: Array) -> Callable[..., None]:
    """The loop, with what does not change from call to call.

    ``arrays`` are how many arrays of four axes it takes before the mask, and how many after it.
    """
    from graphrt_numba import product_loops
    from graphrt_numba.team import TEAM

    before, after = arrays
    mask = "float32*", "uint8*", "int64*"
    kinds = (
        "int64*", "int64", "int64*", "int64", "float32", "boolean", "int64",
        *["float32[4]"] * before, *mask, *["float32[4]"] * after, "float32**",
    )  # fmt: skip
    return TEAM.calls(loop, kinds, hands, bounds, product_loops.product(), of.scale, of.causal, _step(of))


@kernel("Attention", name="numba_attention", priority=PRIORITY)
def attention(site: KernelSite) -> Into | None:
    """Scores, softmax and the mean of the values, for one block of query rows after the other."""
    of = _served(site)
    if of is None or site.outputs[0] is None:
        return None
    from graphrt_numba import attention_loops as loops

    step, heads, key_heads = _step(of), of.heads * of.group, of.heads
    hands, bounds = _parts(of.batch * heads * -(-of.length // step), of, 2)
    run = _call(loops.attention, (3, 2), of, hands, bounds)

    def fill(
        q: Array, k: Array, v: Array, attn_mask: Array, past_key: None, past_value: None, nonpad_kv_seqlen: None,
        y: Array, present_key: Array, present_value: Array, raw: Array, memory: Array,
    ) -> None:  # fmt: skip
        keys, values = _of_four(k, key_heads), _of_four(v, key_heads)
        for present, x in ((present_key, keys), (present_value, values)):
            if present is not None:
                present[...] = x
        mask = _mask(attn_mask, of)
        run(_of_four(q, heads), keys, values, *mask, _of_four(raw, heads), _of_four(y, heads), memory)

    return site.into(fill, scratch=[((len(bounds) - 1, step * (2 * loops.whole.py_func(of.keys) + 1)), "float32")])


@kernel("Attention.vjp[q,k,v,attn_mask,past_key,past_value]", name="numba_attention_cotangents", priority=PRIORITY)
def attention_cotangents(site: KernelSite) -> Into | None:
    """The probabilities again, and back through them, for one block of query rows after the other."""
    of = _served(site)
    if of is None or site.inputs.get("ct") is None or site.outputs[3] is not None:
        return None
    from graphrt_numba import attention_loops as loops

    step, heads, key_heads = _step(of), of.heads * of.group, of.heads
    hands, bounds = _parts(of.batch * key_heads, of, 5)
    run = _call(loops.attention_cotangents, (5, 3), of, hands, bounds)

    def fill(
        ct: Array, ct_present_key: Array, ct_present_value: Array, ct_raw: Array, q: Array, k: Array, v: Array,
        attn_mask: Array, past_key: None, past_value: None, nonpad_kv_seqlen: None, q_ct: Array, k_ct: Array,
        v_ct: Array, mask_ct: None, past_key_ct: None, past_value_ct: None, memory: Array,
    ) -> None:  # fmt: skip
        to_k, to_v = _of_four(k_ct, key_heads), _of_four(v_ct, key_heads)
        for to, given in ((to_k, ct_present_key), (to_v, ct_present_value)):
            if to.size:
                to[...] = 0 if given is None else given
        raw = NO_HEADS if ct_raw is None else np.ascontiguousarray(ct_raw)
        of_ct, queries, to_q = (_of_four(x, heads) for x in (ct, q, q_ct))
        keys, values = _of_four(k, key_heads), _of_four(v, key_heads)
        run(of_ct, raw, queries, keys, values, *_mask(attn_mask, of), to_q, to_k, to_v, memory)

    return site.into(fill, scratch=[((len(bounds) - 1, step * (2 * loops.whole.py_func(of.keys) + 1)), "float32")])


KERNELS = (attention, attention_cotangents)
