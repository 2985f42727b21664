"""RotaryEmbedding: turns pairs of features by angles that grow with position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op, unbroadcast
from graphrt.ops._math import quiet


def _to_heads(x: Array, num_heads: int) -> Array:
    """[B, H, S, D] or [B, S, H*D] -> [B, S, H, D]."""
    if x.ndim == 4:
        return np.swapaxes(x, 1, 2)
    if x.ndim != 3 or num_heads < 1 or x.shape[2] % num_heads:
        raise ValueError(f"x {x.shape} is [batch, heads, length, size], or [batch, length, heads*size] with num_heads")
    return x.reshape(*x.shape[:2], num_heads, x.shape[2] // num_heads)


def _from_heads(x: Array, x_like: Array) -> Array:
    return np.swapaxes(x, 1, 2) if x_like.ndim == 4 else x.reshape(x_like.shape)


def _turning(size: int, rotary_embedding_dim: int) -> int:
    return rotary_embedding_dim if rotary_embedding_dim > 0 else size


def _pairs(x: Array, interleaved: int, turning: int) -> tuple[Array, Array]:
    """The two halves of the first ``turning`` features: evens and odds, or first and second half."""
    x = x[..., :turning]
    return (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., : turning // 2], x[..., turning // 2 :])


def _unpairs(a: Array, b: Array, rest: Array, interleaved: int) -> Array:
    if interleaved:
        both = np.stack([a, b], axis=-1).reshape(*a.shape[:-1], 2 * a.shape[-1])
    else:
        both = np.concatenate([a, b], axis=-1)
    return np.concatenate([both, rest], axis=-1) if rest.shape[-1] else both


def _lookup(cache: Array, position_ids: Array | None) -> Array:
    """[max position, R/2] at the positions, or [B, S, R/2] as it is -> [B, S, 1, R/2]."""
    if position_ids is None:
        if cache.ndim != 3:
            raise ValueError(f"without position_ids the caches are [batch, length, pairs], not {cache.shape}")
        return cache[:, :, None]
    return cache[position_ids][:, :, None]


def _rotate(x: Array, cos: Array, sin: Array, interleaved: int, turning: int) -> Array:
    a, b = _pairs(x, interleaved, turning)
    if cos.shape[-1] != a.shape[-1]:
        raise ValueError(f"the caches turn {cos.shape[-1]} pairs, x has {a.shape[-1]} pairs to turn")
    return _unpairs(cos * a - sin * b, sin * a + cos * b, x[..., turning:], interleaved)


def _cache_adjoint(ct: Array, cache_like: Array, position_ids: Array | None) -> Array:
    """Sums [B, S, H, R/2] over heads and back to the rows of the cache."""
    ct = np.sum(ct, axis=2)
    if position_ids is None:
        return unbroadcast(ct, cache_like).astype(cache_like.dtype, copy=False)
    total = np.zeros(cache_like.shape, ct.dtype, like=ct)
    np.add.at(total, np.broadcast_to(position_ids, ct.shape[:2]), ct)
    return total.astype(cache_like.dtype, copy=False)


@op("RotaryEmbedding", version=23, linear="x", nondiff="position_ids")
def rotary_embedding(
    x: Array, cos_cache: Array, sin_cache: Array, position_ids: Array = None, *,
    interleaved: int = 0, num_heads: int = 0, rotary_embedding_dim: int = 0,
) -> Array:  # fmt: skip
    """Rotates feature pairs (a, b) of each head to (cos a - sin b, sin a + cos b) by its position's angles.

    x: float [B, H, S, D] or [B, S, H*D] with num_heads; cos_cache, sin_cache: float [positions, R/2] with
    position_ids: int64 [B, S], or [B, S, R/2] without -> y: float like x. Pairs are (i, i + R/2), or (2i, 2i+1) if
    ``interleaved``; only the first R = rotary_embedding_dim features turn (0: all), the others pass.
    dy/dx is the opposite rotation. Source: ONNX operator spec; Su et al. 2021.
    """
    with quiet():
        heads = _to_heads(x, num_heads)
        cos, sin = _lookup(cos_cache, position_ids), _lookup(sin_cache, position_ids)
        y = _rotate(heads, cos, sin, interleaved, _turning(heads.shape[-1], rotary_embedding_dim))
        return _from_heads(y, x).astype(x.dtype, copy=False)


@rotary_embedding.jvp("cos_cache", "sin_cache")
def _(
    cos_cache_dot: Array | None, sin_cache_dot: Array | None, x: Array, cos_cache_like: Array, sin_cache_like: Array,
    position_ids: Array | None, interleaved: int, num_heads: int, rotary_embedding_dim: int,
) -> Any:  # fmt: skip
    with quiet():
        heads = _to_heads(x, num_heads)
        turning = _turning(heads.shape[-1], rotary_embedding_dim)
        cos, sin = (
            _lookup(np.zeros(p.shape, p.dtype) if d is None else d, position_ids)
            for d, p in ((cos_cache_dot, cos_cache_like), (sin_cache_dot, sin_cache_like))
        )
        a, b = _pairs(heads, interleaved, turning)
        still = np.zeros((*heads.shape[:-1], heads.shape[-1] - turning), x.dtype)
        return _from_heads(_unpairs(cos * a - sin * b, sin * a + cos * b, still, interleaved), x)


@rotary_embedding.vjp("x")
def _(
    ct: Array, cos_cache: Array, sin_cache: Array, position_ids: Array | None, interleaved: int, num_heads: int,
    rotary_embedding_dim: int,
) -> Array:  # fmt: skip
    with quiet():
        heads = _to_heads(ct, num_heads)
        cos, sin = _lookup(cos_cache, position_ids), _lookup(sin_cache, position_ids)
        x_ct = _rotate(heads, cos, -sin, interleaved, _turning(heads.shape[-1], rotary_embedding_dim))
        return _from_heads(x_ct, ct).astype(ct.dtype, copy=False)


@rotary_embedding.vjp("cos_cache", "sin_cache")
def _(
    ct: Array, x: Array, cos_cache_like: Array, sin_cache_like: Array, position_ids: Array | None, interleaved: int,
    num_heads: int, rotary_embedding_dim: int,
) -> Any:  # fmt: skip
    with quiet():
        heads, ct = _to_heads(x, num_heads), _to_heads(ct, num_heads)
        turning = _turning(heads.shape[-1], rotary_embedding_dim)
        (a, b), (ct_a, ct_b) = _pairs(heads, interleaved, turning), _pairs(ct, interleaved, turning)
        return (
            _cache_adjoint(ct_a * a + ct_b * b, cos_cache_like, position_ids),
            _cache_adjoint(ct_b * a - ct_a * b, sin_cache_like, position_ids),
        )


rotary_embedding.infer(lambda x: x)


@rotary_embedding.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    ids = np.array([[0, 2, 1], [4, 4, 3]])
    yield (draw(2, 2, 3, 6), draw(5, 3), draw(5, 3), ids), {}
    yield (draw(2, 3, 12), draw(5, 3), draw(5, 3), ids), {"num_heads": 2, "interleaved": 1}
    yield (draw(2, 2, 3, 6), draw(2, 3, 2), draw(2, 3, 2)), {"rotary_embedding_dim": 4}
    yield (draw(2, 3, 12), draw(2, 3, 2), draw(2, 3, 2)), {"num_heads": 2, "rotary_embedding_dim": 4, "interleaved": 1}
    yield (draw(0, 2, 3, 4), draw(0, 3, 2), draw(0, 3, 2)), {}


OPS = (rotary_embedding,)
