"""The loops of `graphrt_numba.attention`: scores of some query rows of one head at a time.

Queries and what lies like them are [B, K G, S, .], keys and values [B, K, T, .]; they lie anyhow, but what is written
has its last axis side by side. A mask is flat: ``mask_steps`` say how far examples, heads and query rows are apart, its
keys lie side by side. Where something is absent, its array is empty.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import helper, inline, local, loop, summing
from graphrt_numba.functions import exp
from graphrt_numba.product_loops import multiply
from graphrt_numba.softmax_loops import HUGE, SMALL, largest
from graphrt_numba.team import share
from graphrt_numba.vectors import address, numbers_at

Array = Any
Number = Any
LANES = 16
"""Numbers of a row that go together: rows of scores are so long, or twice, three times, ... as long."""
ZERO, ONE, NEVER = np.float32(0), np.float32(1), np.float32(-np.inf)


# ---- rows of scores ----------------------------------------------------------------------------------------


@inline
def begin(x: Array, at: int) -> Array:
    """The float32 numbers from an element on, as a flat array whose indices are not checked."""
    return numbers_at(address(x, at))


@summing
def exponentials(row: Array, out: Array, count: int, scale: Number, top: Number) -> Number:
    """out = exp(scale row - top); their sum."""
    total = ZERO
    for j in range(count):
        e = exp(scale * row[j] - top)
        out[j] = e
        total += e
    return total


@summing
def inner_product(a: Array, b: Array, count: int) -> Number:
    """The sum of a b."""
    total = ZERO
    for j in range(count):
        total += a[j] * b[j]
    return total


@inline
def whole(count: int) -> int:
    """So many numbers in whole `LANES`."""
    return -(-count // LANES) * LANES


@inline
def numerators(
    rows: int, keys: int, first: int, is_causal: bool, scale: Number, added: Array, allowed: Array, of_mask: int,
    mask_row: int, x: Array, e: Array, factors: Array, lanes: Array,
) -> None:  # fmt: skip
    """e = the numerators of softmax of scale x, [rows, whole(keys)], which changes x; factors are one over the sums.

    The first of the rows is query ``first``. The maximum is subtracted where the sum says that it is needed. A row that
    sees no key has numerators 0 and the factor 1.
    """
    wide = whole(keys)
    for i in range(rows):
        seen, at, factor = min(first + i + 1, keys) if is_causal else keys, of_mask + i * mask_row, scale
        row, out, count = begin(x, i * wide), begin(e, i * wide), whole(seen)
        if added.size:
            mask, factor = begin(added, at), ONE
            for j in range(seen):
                row[j] = row[j] * scale + mask[j]
        if allowed.size:
            rule = allowed[at : at + seen]
            for j in range(seen):
                row[j] = row[j] if rule[j] else NEVER
        for j in range(seen, count):
            row[j] = NEVER
        total = exponentials(row, out, count, factor, ZERO)
        if not (SMALL < total < HUGE):
            top = largest(x[i * wide : i * wide + seen], lanes) * factor
            total = exponentials(row, out, count, factor, ZERO if top == NEVER else top)
        factors[i] = ONE if total == ZERO else ONE / total
        for j in range(count, wide):
            out[j] = ZERO


# ---- matrices of a head ------------------------------------------------------------------------------------


@inline
def start(x: Array, example: int, head: int, row: int) -> int:
    """The element of an array of four axes where a row begins."""
    at: int = (example * x.strides[0] + head * x.strides[1] + row * x.strides[2]) // 4
    return at


@inline
def steps(x: Array) -> tuple[int, int]:
    """How many elements the rows, and the columns, of the last two axes are apart."""
    return x.strides[2] // 4, x.strides[3] // 4


@inline
def line(x: Array, example: int, head: int, row: int) -> Array:
    """A row whose elements lie side by side, as a flat array."""
    return begin(x, start(x, example, head, row))


@inline
def times_transposed(
    product: int, rows: int, columns: int, a: Array, a_at: int, b: Array, b_at: int, c: Array
) -> None:  # fmt: skip
    """c [rows, whole(columns)] = a b^T, from rows of arrays of four axes."""
    (a_row, a_column), (b_row, b_column) = steps(a), steps(b)
    multiply(
        product, rows, columns, a.shape[3], a, a_at, a_row, a_column, b, b_at, b_column, b_row, c, 0, whole(columns), 0
    )  # fmt: skip


@inline
def times(product: int, rows: int, depth: int, a: Array, b: Array, b_at: int, c: Array, c_at: int) -> None:
    """Rows of c = a b, for a flat matrix a [rows, whole(depth)]."""
    b_row, b_column = steps(b)
    multiply(product, rows, b.shape[3], depth, a, 0, whole(depth), 1, b, b_at, b_row, b_column, c, c_at, steps(c)[0], 0)


@inline
def add_transposed_times(
    product: int, rows: int, depth: int, a: Array, b: Array, b_at: int, c: Array, c_at: int
) -> None:  # fmt: skip
    """Rows of c += a^T b, for a flat matrix a [depth, whole(rows)]."""
    b_row, b_column = steps(b)
    multiply(product, rows, b.shape[3], depth, a, 0, 1, whole(rows), b, b_at, b_row, b_column, c, c_at, steps(c)[0], 1)


# ---- forward -----------------------------------------------------------------------------------------------


@loop
def attention(
    team: Array, hands: int, bounds: Array, product: int, scale: Number, is_causal: bool, step: int,
    q: Array, k: Array, v: Array, added: Array, allowed: Array, mask_steps: Array, raw: Array, y: Array, memory: Array,
) -> None:  # fmt: skip
    """y = softmax(scale q k^T + mask) v; ``raw`` takes scale q k^T.

    What is shared out are blocks of ``step`` query rows, of all heads of all examples; ``bounds`` are those of parts of
    them. Each part has a row of the memory, twice [step, whole(T)], and [step].
    """
    share(
        team, hands, bounds.size - 1, _attention,
        (bounds, product, scale, is_causal, step, q, k, v, added, allowed, mask_steps, raw, y, memory),
    )  # fmt: skip


@helper
def _attention(
    part: int, bounds: Array, product: int, scale: Number, is_causal: bool, step: int,
    q: Array, k: Array, v: Array, added: Array, allowed: Array, mask_steps: Array, raw: Array, y: Array, memory: Array,
) -> None:  # fmt: skip
    heads, length, all_keys, values = q.shape[1], q.shape[2], k.shape[2], v.shape[3]
    group, blocks = heads // k.shape[1], -(-length // step)
    most, lanes = step * whole(all_keys), local(memory, 1)
    x, e, factors = memory[part], memory[part, most:], memory[part, 2 * most :]
    for block in range(bounds[part], bounds[part + 1]):
        b, h, first = block // blocks // heads, block // blocks % heads, block % blocks * step
        rows, of_mask = min(step, length - first), b * mask_steps[0] + h * mask_steps[1] + first * mask_steps[2]
        keys = min(first + rows, all_keys) if is_causal and not raw.size else all_keys
        times_transposed(product, rows, keys, q, start(q, b, h, first), k, start(k, b, h // group, 0), x)
        for i in range(rows if raw.size else 0):
            to = line(raw, b, h, first + i)
            for j in range(keys):
                to[j] = x[i * whole(keys) + j] * scale
        numerators(rows, keys, first, is_causal, scale, added, allowed, of_mask, mask_steps[2], x, e, factors, lanes)
        times(product, rows, keys, e, v, start(v, b, h // group, 0), y, start(y, b, h, first))
        for i in range(rows):
            to, factor = line(y, b, h, first + i), factors[i]
            for j in range(values):
                to[j] *= factor


# ---- backward ----------------------------------------------------------------------------------------------


@loop
def attention_cotangents(
    team: Array, hands: int, bounds: Array, product: int, scale: Number, is_causal: bool, step: int,
    ct: Array, raw_ct: Array, q: Array, k: Array, v: Array, added: Array, allowed: Array, mask_steps: Array,
    q_ct: Array, k_ct: Array, v_ct: Array, memory: Array,
) -> None:  # fmt: skip
    """With probabilities p and s = p (ct v^T - <ct v^T, p>) + raw_ct: q_ct = scale s k, and adds scale s^T q to k_ct
    and p^T ct to v_ct.

    What is shared out are key heads of all examples, with all query heads that belong to them: the sums of different
    parts are apart. Each part has a row of the memory: twice [step, whole(T)], and [step].
    """
    share(
        team, hands, bounds.size - 1, _attention_cotangents,
        (
            bounds, product, scale, is_causal, step, ct, raw_ct, q, k, v, added, allowed, mask_steps, q_ct, k_ct, v_ct,
            memory,
        ),
    )  # fmt: skip


@helper
def _attention_cotangents(
    part: int, bounds: Array, product: int, scale: Number, is_causal: bool, step: int,
    ct: Array, raw_ct: Array, q: Array, k: Array, v: Array, added: Array, allowed: Array, mask_steps: Array,
    q_ct: Array, k_ct: Array, v_ct: Array, memory: Array,
) -> None:  # fmt: skip
    key_heads, length, all_keys = k.shape[1], q.shape[2], k.shape[2]
    group, most = q.shape[1] // key_heads, step * whole(all_keys)
    p, s, factors, lanes = memory[part], memory[part, most:], memory[part, 2 * most :], local(memory, 1)
    for pair in range(bounds[part], bounds[part + 1]):
        b, key_head = pair // key_heads, pair % key_heads
        of_k, of_v = start(k, b, key_head, 0), start(v, b, key_head, 0)
        for h in range(key_head * group, (key_head + 1) * group):
            for first in range(0, length, step):
                rows, of_q, of_ct = min(step, length - first), start(q, b, h, first), start(ct, b, h, first)
                keys = min(first + rows, all_keys) if is_causal and not raw_ct.size else all_keys
                of_mask = b * mask_steps[0] + h * mask_steps[1] + first * mask_steps[2]
                times_transposed(product, rows, keys, q, of_q, k, of_k, s)
                numerators(
                    rows, keys, first, is_causal, scale, added, allowed, of_mask, mask_steps[2], s, p, factors,
                    lanes,
                )  # fmt: skip
                times_transposed(product, rows, keys, ct, of_ct, v, of_v, s)
                wide = whole(keys)
                for i in range(rows):
                    of_p, of_s, factor = begin(p, i * wide), begin(s, i * wide), factors[i]
                    along = inner_product(of_p, of_s, keys) * factor
                    for j in range(keys):
                        share_of = of_p[j] * factor
                        of_p[j] = share_of
                        of_s[j] = (of_s[j] - along) * (share_of * scale)
                    if raw_ct.size:
                        given = line(raw_ct, b, h, first + i)
                        for j in range(keys):
                            of_s[j] += given[j] * scale
                if q_ct.size:
                    times(product, rows, keys, s, k, of_k, q_ct, start(q_ct, b, h, first))
                if k_ct.size:
                    add_transposed_times(product, keys, rows, s, q, of_q, k_ct, start(k_ct, b, key_head, 0))
                if v_ct.size:
                    add_transposed_times(product, keys, rows, p, ct, of_ct, v_ct, start(v_ct, b, key_head, 0))
