"""Linear attention: a matrix state per head, updated token by token, and the short causal convolution before it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import quiet
from graphrt.ops._windows import wide
from graphrt.types import Dim, TensorType

_RULES = {"linear": (False, False), "gated": (True, False), "delta": (False, True), "gated_delta": (True, True)}


# ---- LinearAttention -----------------------------------------------------------------------------------------


class Heads(NamedTuple):
    """Inputs by token and head: q [T, B, Hkv, G, Dk], k [T, B, Hkv, Dk], v [T, B, Hkv, Dv], gates [T, B, Hkv, .]."""

    q: Array
    k: Array
    v: Array
    decay: Array | None
    beta: Array | None


def _split(x: Array, heads: int, name: str) -> Array:
    """[B, T, heads * D] -> [T, B, heads, D]."""
    if x.ndim != 3 or x.shape[2] % heads:
        raise ValueError(f"{name} {x.shape} is [batch, length, {heads} heads * size]")
    return np.swapaxes(wide(x), 0, 1).reshape(x.shape[1], x.shape[0], heads, x.shape[2] // heads)


def _join(x: Array, x_like: Array) -> Array:
    """The inverse of `_split`, also for [T, B, Hkv, G, D]."""
    return np.swapaxes(x.reshape(x_like.shape[1], x_like.shape[0], x_like.shape[2]), 0, 1).astype(
        x_like.dtype, copy=False
    )


def _by_head(
    q: Array, k: Array, v: Array, decay: Array | None, beta: Array | None, q_heads: int, kv_heads: int
) -> Heads:
    if kv_heads < 1 or q_heads < 1 or q_heads % kv_heads:
        raise ValueError(f"q_num_heads {q_heads} must be a multiple of kv_num_heads {kv_heads}")
    t, b = q.shape[1], q.shape[0]
    queries = _split(q, q_heads, "query")
    return Heads(
        queries.reshape(t, b, kv_heads, q_heads // kv_heads, queries.shape[3]),
        _split(k, kv_heads, "key"),
        _split(v, kv_heads, "value"),
        None if decay is None else _split(decay, kv_heads, "decay"),
        None if beta is None else _split(beta, 1 if beta.shape[-1] == 1 else kv_heads, "beta"),
    )


def _check(decay: Any, beta: Any, update_rule: str) -> None:
    if update_rule not in _RULES:
        raise ValueError(f"update_rule {update_rule!r} is unknown; there are {', '.join(_RULES)}")
    for name, given, wanted in zip(("decay", "beta"), (decay, beta), _RULES[update_rule], strict=True):
        if (given is not None) != wanted:
            raise ValueError(f"update_rule {update_rule!r} {'needs' if wanted else 'takes no'} {name}")


def _first_state(h: Heads, past: Array | None) -> Array:
    shape = (*h.k.shape[1:3], h.k.shape[3], h.v.shape[3])
    if past is None:
        return np.zeros(shape, h.k.dtype)
    if past.shape != shape:
        raise ValueError(f"past_state has shape {past.shape}, expected {shape}")
    return wide(past)


def _scale(scale: float, size: int) -> float:
    return scale if scale else float(1 / np.sqrt(max(size, 1)))


def _outer(k: Array, v: Array) -> Array:
    return k[..., :, None] * v[..., None, :]


def _read(state: Array, k: Array) -> Array:
    """state^T k: [B, H, Dk, Dv], [B, H, Dk] -> [B, H, Dv]."""
    return np.sum(state * k[..., None], axis=-2)


def _write(state: Array, v: Array) -> Array:
    """state v: [B, H, Dk, Dv], [B, H, Dv] -> [B, H, Dk]."""
    return np.sum(state * v[..., None, :], axis=-1)


class Step(NamedTuple):
    """One token: state before, decay factor, state after decay, what is written and how strongly, state after."""

    before: Array
    factor: Array | None
    decayed: Array
    news: Array
    rate: Any
    after: Array


def _steps(h: Heads, state: Array, delta: bool) -> Iterator[Step]:
    for t in range(h.k.shape[0]):
        before, factor = state, None if h.decay is None else np.exp(h.decay[t])[..., None]
        decayed = before if factor is None else before * factor
        news = h.v[t] - _read(decayed, h.k[t]) if delta else h.v[t]
        rate = 1 if h.beta is None else h.beta[t]
        state = decayed + _outer(h.k[t], rate * news)
        yield Step(before, factor, decayed, news, rate, state)


@op("LinearAttention", version=27, outputs=("output", "present_state"))
def linear_attention(
    query: Array, key: Array, value: Array, past_state: Array = None, decay: Array = None, beta: Array = None, *,
    chunk_size: int = 64, kv_num_heads: int, q_num_heads: int, scale: float = 0.0, update_rule: str = "gated_delta",
) -> tuple[Array, Array]:  # fmt: skip
    """Attention through a running state S instead of a softmax over all keys.

    query: float [B, T, H*Dk], key: float [B, T, Hkv*Dk], value: float [B, T, Hkv*Dv], past_state: float
    [B, Hkv, Dk, Dv], decay g: float [B, T, Hkv*Dk or Hkv], beta: float [B, T, Hkv or 1]
    -> output: float [B, T, H*Dv], present_state: float [B, Hkv, Dk, Dv].
    Per token: S = exp(g) S (gated rules); S += beta k (v - S^T k)^T (delta rules) or k v^T; output = scale S^T q,
    scale 0 meaning 1/sqrt(Dk). Derivatives run back through the tokens. 16-bit floats are computed in float32;
    chunk_size is a hint without effect. Source: ONNX operator spec; Yang et al. 2024.
    """
    with quiet():
        _check(decay, beta, update_rule)
        h = _by_head(query, key, value, decay, beta, q_num_heads, kv_num_heads)
        state = _first_state(h, past_state)
        scale, outputs = _scale(scale, h.k.shape[3]), []
        for t, step in enumerate(_steps(h, state, _RULES[update_rule][1])):
            state = step.after
            outputs.append(scale * np.matmul(h.q[t], state))
        output = np.stack(outputs) if outputs else np.zeros((0, *h.q.shape[1:4], h.v.shape[3]), h.q.dtype)
        flat = output.reshape(query.shape[1], query.shape[0], q_num_heads * h.v.shape[3])
        state_dtype = query.dtype if past_state is None else past_state.dtype
        return np.swapaxes(flat, 0, 1).astype(query.dtype, copy=False), state.astype(state_dtype, copy=False)


@linear_attention.vjp("query", "key", "value", "past_state", "decay", "beta")
def _(
    ct: Array | None, ct_present_state: Array | None, query: Array, key: Array, value: Array, past_state: Array | None,
    decay: Array | None, beta: Array | None, kv_num_heads: int, q_num_heads: int, scale: float, update_rule: str,
) -> Any:  # fmt: skip
    with quiet():
        h = _by_head(query, key, value, decay, beta, q_num_heads, kv_num_heads)
        delta, scale = _RULES[update_rule][1], _scale(scale, h.k.shape[3])
        first = _first_state(h, past_state)
        steps = list(_steps(h, first, delta))
        state_ct = np.zeros(first.shape, first.dtype) if ct_present_state is None else wide(ct_present_state)
        if ct is not None:
            out_ct = _split(ct, q_num_heads, "ct")
            out_ct = out_ct.reshape(*h.q.shape[:4], h.v.shape[3])
        cts: dict[str, list[Array]] = {n: [] for n in ("query", "key", "value", "decay", "beta")}
        for t, step in reversed(list(enumerate(steps))):
            k, news, rate = h.k[t], step.news, step.rate
            q_ct = np.zeros(h.q[t].shape, h.q.dtype)
            if ct is not None:
                q_ct = scale * np.matmul(out_ct[t], np.swapaxes(step.after, -1, -2))
                state_ct = state_ct + scale * np.matmul(np.swapaxes(h.q[t], -1, -2), out_ct[t])
            read = _read(state_ct, k)  # the cotangent of what was written
            k_ct = _write(state_ct, rate * news)
            if h.beta is not None:
                beta_ct = np.sum(read * news, axis=-1, keepdims=True)
                cts["beta"].append(beta_ct if h.beta.shape[2] == k.shape[1] else np.sum(beta_ct, axis=1, keepdims=True))
            v_ct = rate * read
            if delta:
                k_ct = k_ct - _write(step.decayed, v_ct)
                state_ct = state_ct - _outer(k, v_ct)
            if step.factor is not None and h.decay is not None:
                along = np.sum(state_ct * step.decayed, axis=-1)
                scalar = h.decay.shape[3] != along.shape[-1]
                cts["decay"].append(np.sum(along, axis=-1, keepdims=True) if scalar else along)
                state_ct = state_ct * step.factor
            for name, part in (("query", q_ct), ("key", k_ct), ("value", v_ct)):
                cts[name].append(part)
        inputs = {"query": query, "key": key, "value": value, "decay": decay, "beta": beta}
        back = {n: _stacked(cts[n][::-1], x) for n, x in inputs.items()}
        past_ct = None if past_state is None else state_ct.astype(past_state.dtype, copy=False)
        return back["query"], back["key"], back["value"], past_ct, back["decay"], back["beta"]


def _stacked(parts: list[Array], x: Array | None) -> Array | None:
    if x is None:
        return None
    return _join(np.stack(parts), x) if parts else np.zeros(x.shape, x.dtype)


@linear_attention.jvp("query", "key", "value", "past_state", "decay", "beta")
def _(
    query_dot: Array | None, key_dot: Array | None, value_dot: Array | None, past_state_dot: Array | None,
    decay_dot: Array | None, beta_dot: Array | None, query: Array, key: Array, value: Array, past_state: Array | None,
    decay: Array | None, beta: Array | None, kv_num_heads: int, q_num_heads: int, scale: float, update_rule: str,
) -> Any:  # fmt: skip
    with quiet():
        h = _by_head(query, key, value, decay, beta, q_num_heads, kv_num_heads)
        dots: Any = [
            np.zeros(x.shape, x.dtype) if d is None and x is not None else d
            for d, x in ((query_dot, query), (key_dot, key), (value_dot, value), (decay_dot, decay), (beta_dot, beta))
        ]
        d = _by_head(dots[0], dots[1], dots[2], dots[3], dots[4], q_num_heads, kv_num_heads)
        delta, scale = _RULES[update_rule][1], _scale(scale, h.k.shape[3])
        first = _first_state(h, past_state)
        state_dot = np.zeros(first.shape, first.dtype) if past_state_dot is None else wide(past_state_dot)
        outputs = []
        for t, step in enumerate(_steps(h, first, delta)):
            if step.factor is not None and d.decay is not None:
                state_dot = state_dot * step.factor + step.decayed * d.decay[t][..., None]
            news_dot = d.v[t]
            if delta:
                news_dot = news_dot - _read(state_dot, h.k[t]) - _read(step.decayed, d.k[t])
            written_dot = step.rate * news_dot if d.beta is None else step.rate * news_dot + d.beta[t] * step.news
            state_dot = state_dot + _outer(d.k[t], step.rate * step.news) + _outer(h.k[t], written_dot)
            outputs.append(scale * (np.matmul(d.q[t], step.after) + np.matmul(h.q[t], state_dot)))
        output = np.stack(outputs) if outputs else np.zeros((0, *h.q.shape[1:4], h.v.shape[3]), h.q.dtype)
        flat = output.reshape(query.shape[1], query.shape[0], q_num_heads * h.v.shape[3])
        state_dtype = query.dtype if past_state is None else past_state.dtype
        return np.swapaxes(flat, 0, 1).astype(query.dtype, copy=False), state_dot.astype(state_dtype, copy=False)


@linear_attention.infer
def _(
    query: TensorType, key: TensorType, value: TensorType, past_state: TensorType | None, kv_num_heads: int,
    q_num_heads: int,
) -> Any:  # fmt: skip
    def per_head(x: TensorType, heads: int) -> Dim:
        last = x.shape[2] if x.shape else None
        return last // heads if isinstance(last, int) else None

    dk, dv = per_head(query, q_num_heads), per_head(value, kv_num_heads)
    b, t = query.shape[:2] if query.shape else (None, None)
    state = query if past_state is None else past_state
    output = TensorType(query.dtype, (b, t, q_num_heads * dv if isinstance(dv, int) else None))
    return output, TensorType(state.dtype, (b, kv_num_heads, dk, dv))


@linear_attention.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape) / 2

    q, k, v = draw(2, 3, 12), draw(2, 3, 6), draw(2, 3, 4)
    heads = {"q_num_heads": 4, "kv_num_heads": 2}
    yield (q, k, v, draw(2, 2, 3, 2), draw(2, 3, 6), draw(2, 3, 2)), heads
    yield (q, k, v, None, draw(2, 3, 2), draw(2, 3, 1)), {"scale": 0.7, **heads}
    yield (q, k, v), {"update_rule": "linear", **heads}
    yield (q, k, v, draw(2, 2, 3, 2), draw(2, 3, 2)), {"update_rule": "gated", **heads}
    yield (q, k, v, None, None, draw(2, 3, 2)), {"update_rule": "delta", "chunk_size": 2, **heads}
    yield (q[:, :0], k[:, :0], v[:, :0], draw(2, 2, 3, 2)), {"update_rule": "linear", **heads}


OPS = (linear_attention,)
