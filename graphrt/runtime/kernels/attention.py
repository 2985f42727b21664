"""Attention a few heads at a time, so that their scores stay in the cache and are never all there at once.

Heads with many scores are done in blocks of query rows. Served are calls without a cache of past keys, without softcap,
windows and padding lengths.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.kernels._blocks import BLOCK, for_blas
from graphrt.runtime.threads import divide, share, thread_count
from graphrt.types import TensorType, numpy_dtype

Tile = tuple[slice, slice]
"""Some examples, and some heads of their keys."""
Shapes = list[tuple[tuple[int, ...], str]]

SCORES, SCORES_BACK = 5 * BLOCK, 2 * BLOCK
"""Bytes of the scores of a tile, at most; so much that what is worked on stays in the second-level cache."""
_TINY, _HUGE = 1e-15, 1e30
"""Bounds of a sum of exponentials that needed no maximum subtracted, see `graphrt.runtime.kernels.softmax`."""
_SHARED = 1 << 18
"""Scores from which on they are worth a thread."""
_SPEED = 5
"""Nanoseconds that one of them takes, about, in all."""


@dataclass(frozen=True)
class Heads:
    """The sizes of a call: batch B, heads of keys K, query heads of each G, query length S, key length T, widths.

    Arrays are seen as [B, K, G, S or T, width], where G is 1 for keys and values. The scores of a tile are at most so
    many numbers.
    """

    batch: int
    heads: int
    group: int
    length: int
    keys: int
    size: int
    values: int
    scale: float
    causal: bool
    dtype: Any
    most: int

    @property
    def pairs(self) -> int:
        """How many pairs of an example and a head of its keys a tile has."""
        scores, total = self.group * self.length * self.keys, self.batch * self.heads
        threads = thread_count() if total * scores >= 2 * _SHARED else 1
        return max(1, min(self.most // scores, -(-total // threads)))

    @property
    def step(self) -> int:
        """How many query rows a block has."""
        return min(self.length, max(8, self.most // (self.group * self.keys)))

    def parts(self) -> list[list[Tile]]:
        """All tiles, a list for each thread."""
        examples, heads = max(1, self.pairs // self.heads), min(self.pairs, self.heads)
        tiles = list(product(_slices(self.batch, examples), _slices(self.heads, heads)))
        numbers = self.batch * self.heads * self.group * self.length * self.keys
        return divide(tiles, nanoseconds=numbers * _SPEED) if numbers >= 2 * _SHARED else [tiles]

    def scratch(self, parts: int, *sizes: int) -> Shapes:
        """For each part flat arrays, of so many numbers for each query head of a tile."""
        shapes: Shapes = [((self.pairs * self.group * n,), self.dtype.name) for n in sizes]
        return shapes * parts

    def split(self, x: Array, group: int = 1) -> Array:
        """[B, L, K G D] or [B, K G, L, D] as [B, K, G, L, D], a view."""
        if x is None:
            return None
        if x.ndim == 3:
            x = np.swapaxes(x.reshape(*x.shape[:2], self.heads * group, -1), 1, 2)
        return x.reshape(self.batch, self.heads, group, *x.shape[2:])

    def blocks(self, all_keys: bool) -> Iterator[tuple[slice, int]]:
        """Query rows, and how many keys the last of them sees, or all."""
        for rows in _slices(self.length, self.step):
            yield rows, min(rows.stop, self.keys) if self.causal and not all_keys else self.keys

    def mask(self, mask: Array) -> Array:
        """The mask for every head, [B, K, G, S, T]; no memory of its own."""
        if mask is None:
            return None
        heads = self.heads * self.group
        whole = np.broadcast_to(mask, (self.batch, heads, self.length, self.keys))
        return whole.reshape(self.batch, self.heads, self.group, self.length, self.keys)

    def allowed(self, rows: slice, keys: int) -> Array:
        """bool [rows, keys]: what the causal rule leaves; None where it leaves everything."""
        if not self.causal or rows.start >= keys - 1:
            return None
        return np.arange(keys) <= np.arange(rows.start, rows.stop)[:, None]

    def exponentials(self, q: Array, turned: Array, mask: Array, allowed: Array, shown: Array, e: Array) -> Array:
        """Fills e [., rows, keys] with the numerators of softmax; gives the denominators [., rows, 1].

        ``turned`` are the keys [., width, keys]; they or q come scaled. ``shown``, if there is one, takes the raw
        scores.
        """
        rules = [rule for rule in (allowed, mask) if rule is not None and rule.dtype == bool]
        added = mask if mask is not None and mask.dtype != bool else None
        np.matmul(q, turned, e)
        if shown is not None:
            shown[...] = e
        if added is not None:
            np.add(e, added, e)
        np.exp(e, e)
        for rule in rules:
            np.multiply(e, rule, e)
        sums = np.matmul(e, np.ones(e.shape[-1], e.dtype))
        if not (np.minimum.reduce(sums, axis=None) > _TINY and np.maximum.reduce(sums, axis=None) < _HUGE):
            np.matmul(q, turned, e)
            sums = _careful(e, added, rules)
        return sums[..., None]


def _slices(count: int, step: int) -> list[slice]:
    return [slice(i, min(i + step, count)) for i in range(0, count, step)]


def _turned(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


def _careful(e: Array, added: Array, rules: list[Array]) -> Array:
    """Exponentials in place with the maximum subtracted; a row that sees no key has numerators 0 and denominator 1."""
    if added is not None:
        np.add(e, added, e)
    for rule in rules:
        np.copyto(e, -np.inf, where=~rule)
    top = np.maximum.reduce(e, axis=-1, keepdims=True)
    np.subtract(e, np.where(np.isfinite(top), top, top.dtype.type(0)), e)
    np.exp(e, e)
    sums = np.add.reduce(e, axis=-1)
    return np.where(sums == 0, sums.dtype.type(1), sums)


def _heads(site: KernelSite, nbytes: int) -> Heads | None:
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
        length, keys, size, values = q[1], k[1], q[2] // heads, v[2] // key_heads
    elif len(q) == len(k) == len(v) == 4:
        heads, key_heads, length, keys, size, values = q[1], k[1], q[2], k[2], q[3], v[3]
    else:
        return None
    if 0 in q or 0 in k or 0 in v or heads % key_heads or not (q[0] == k[0] == v[0]):
        return None
    scale = a["scale"] if a["scale"] is not None else size**-0.5
    group = heads // key_heads
    most = nbytes // dtype.itemsize
    made = Heads(q[0], key_heads, group, length, keys, size, values, scale, bool(a["is_causal"]), dtype, most)
    return made if _is_whole_mask(given.get("attn_mask"), made) else None


def _is_whole_mask(mask: Any, of: Heads) -> bool:
    if mask is None:
        return True
    if not isinstance(mask, TensorType) or not mask.is_static or mask.dtype not in ("bool", of.dtype.name):
        return False
    return mask.shape is not None and mask.shape[-1:] == (of.keys,)


def _in_parts(work: Callable[..., None], parts: list[list[Tile]], scratch: tuple[Array, ...]) -> None:
    """Calls ``work(tile, *its part's scratch)`` for all tiles, those of different parts at the same time."""
    count = len(scratch) // len(parts)

    def do(i: int, tiles: list[Tile]) -> None:
        for tile in tiles:
            work(tile, *scratch[i * count : (i + 1) * count])

    if len(parts) == 1:
        do(0, parts[0])
    else:
        share(do, parts)


def _at(x: Array, tile: Tile, rows: slice, keys: int) -> Array:
    return None if x is None else x[tile][..., rows, :keys]


def _shaped(memory: Array, *shape: int) -> Array:
    """The beginning of a flat piece of memory as an array."""
    size = 1
    for n in shape:
        size *= n
    return memory[:size].reshape(shape)


@kernel("Attention")
def attention_by_tiles(site: KernelSite) -> Into | None:
    """Scores, softmax and the mean of the values for one tile after the other."""
    of = _heads(site, SCORES)
    if of is None or site.outputs[0] is None:
        return None
    parts = of.parts()

    def fill(
        q: Array, k: Array, v: Array, attn_mask: Array, past_key: None, past_value: None, nonpad_kv_seqlen: None,
        y: Array, present_key: Array, present_value: Array, raw: Array, *scratch: Array,
    ) -> None:  # fmt: skip
        qs, ks, vs = of.split(q, of.group), of.split(k), of.split(v)
        ys, raws, mask = of.split(y, of.group), of.split(raw, of.group), of.mask(attn_mask)
        for present, x in ((present_key, ks), (present_value, vs)):
            if present is not None:
                present[...] = x[:, :, 0]

        def work(tile: Tile, of_k: Array, of_e: Array) -> None:
            query, value, target = for_blas(qs[tile]), for_blas(vs[tile]), ys[tile]
            key = _turned(ks[tile])  # the BLAS is faster with its rows next to each other
            turned = np.multiply(key, of.scale, _shaped(of_k, *key.shape))
            for rows, keys in of.blocks(raw is not None):
                queries, to = query[..., rows, :], target[..., rows, :]
                e = _shaped(of_e, *queries.shape[:-1], keys)
                shown, masked = _at(raws, tile, rows, keys), _at(mask, tile, rows, keys)
                sums = of.exponentials(queries, turned[..., :keys], masked, of.allowed(rows, keys), shown, e)
                np.matmul(e, value[..., :keys, :], to)
                np.divide(to, sums, to)

        _in_parts(work, parts, scratch)

    memory = [((of.pairs * of.size * of.keys,), of.dtype.name), *of.scratch(1, of.step * of.keys)]
    return site.into(fill, scratch=memory * len(parts))


@kernel("Attention.vjp[q,k,v,attn_mask,past_key,past_value]")
def attention_cotangents_by_tiles(site: KernelSite) -> Into | None:
    """The probabilities again, and back through them, for one tile after the other."""
    of = _heads(site, SCORES_BACK)
    if of is None or site.inputs.get("ct") is None or site.outputs[3] is not None:
        return None
    parts = of.parts()

    def fill(
        ct: Array, ct_present_key: Array, ct_present_value: Array, ct_raw: Array, q: Array, k: Array, v: Array,
        attn_mask: Array, past_key: None, past_value: None, nonpad_kv_seqlen: None, q_ct: Array, k_ct: Array,
        v_ct: Array, mask_ct: None, past_key_ct: None, past_value_ct: None, *scratch: Array,
    ) -> None:  # fmt: skip
        qs, ks, vs, cts = of.split(q, of.group), of.split(k), of.split(v), of.split(ct, of.group)
        raws, mask = of.split(ct_raw, of.group), of.mask(attn_mask)
        to_qs = of.split(q_ct, of.group)
        to_ks, to_vs = _begun(of.split(k_ct), ct_present_key), _begun(of.split(v_ct), ct_present_value)

        def work(tile: Tile, of_q: Array, of_p: Array, of_s: Array, memory: Array) -> None:
            key, value, along = for_blas(ks[tile]), for_blas(vs[tile]), for_blas(cts[tile])
            scaled = _shaped(of_q, *qs[tile].shape)
            np.multiply(qs[tile], of.scale, scaled)
            for rows, keys in of.blocks(ct_raw is not None):
                queries, given = scaled[..., rows, :], along[..., rows, :]
                p, s = (_shaped(m, *queries.shape[:-1], keys) for m in (of_p, of_s))
                masked = _at(mask, tile, rows, keys)
                turned = _turned(key[..., :keys, :])
                sums = of.exponentials(queries, turned, masked, of.allowed(rows, keys), None, p)
                np.divide(p, sums, p)
                _add_product(_turned(p), given, to_vs, tile, memory)
                np.matmul(given, _turned(value[..., :keys, :]), s)
                np.subtract(s, np.vecdot(s, p)[..., None], s)
                np.multiply(s, p, s)
                if raws is not None:
                    np.add(s, raws[tile][..., rows, :], s)
                if to_qs is not None:
                    to_q = to_qs[tile][..., rows, :]
                    np.matmul(s, key[..., :keys, :], to_q)
                    np.multiply(to_q, of.scale, to_q)
                _add_product(_turned(s), queries, to_ks, tile, memory)

        _in_parts(work, parts, scratch)

    block, widest = of.step * of.keys, of.keys * max(of.size, of.values)
    return site.into(fill, scratch=of.scratch(len(parts), of.size * of.length, block, block, widest))


def _begun(cts: Array, given: Array) -> Array:
    """A cotangent that products are to be added to; None where it is not wanted."""
    if cts is not None:
        cts[:, :, 0] = 0 if given is None else given
    return cts


def _add_product(a: Array, b: Array, total: Array, tile: Tile, memory: Array) -> None:
    """Adds a b, summed over the query heads, to the first rows of a tile of the total, if there is one."""
    if total is None:
        return
    made = _shaped(memory, *a.shape[:-1], b.shape[-1])
    np.matmul(a, b, made)
    part = total[tile][..., : a.shape[-2], :]
    if a.shape[2] == 1:
        np.add(part, made, part)
    else:
        part += np.add.reduce(made, axis=2, keepdims=True)


KERNELS = (attention_by_tiles, attention_cotangents_by_tiles)
