"""The loops of `graphrt_numba.optimizers`; new weights and state may lie where the old ones do."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np

from graphrt_numba.compiler import inline, loop
from graphrt_numba.vectors import address

Array = Any
Number = Any
ONE, ZERO = np.float32(1), np.float32(0)


@inline
def _begin(old: Array, new: Array) -> None:
    """What is new begins as what is old, if it lies elsewhere."""
    if address(old, 0) != address(new, 0):
        for i in range(old.size):
            new[i] = old[i]


@loop
def sgd(first: int, last: int, rate: Array, decay: Number, g: Array, w: Array, w_new: Array) -> None:
    """w = w - rate (g + decay w)."""
    _begin(w[first:last], w_new[first:last])
    w, g, rate_now = w_new[first:last], g[first:last], rate[0]
    for i in range(last - first):
        w[i] -= rate_now * (g[i] + decay * w[i])


@loop
def momentum_sgd(
    first: int, last: int, rate: Array, step: Array, decay: Number, momentum: Number, fresh: Number, nesterov: bool,
    g: Array, w: Array, m: Array, w_new: Array, m_new: Array,
) -> None:  # fmt: skip
    """m = momentum m + fresh g' and w = w - rate m, where g' = g + decay w; the first m is g'.

    With ``nesterov`` w = w - rate (momentum m + g').
    """
    _begin(w[first:last], w_new[first:last])
    _begin(m[first:last], m_new[first:last])
    w, m, g, rate_now = w_new[first:last], m_new[first:last], g[first:last], rate[0]
    kept, added = (ZERO, ONE) if step[0] <= 1 else (momentum, fresh)
    ahead, now = (momentum, ONE) if nesterov else (ONE, ZERO)
    for i in range(last - first):
        slope = g[i] + decay * w[i]
        speed = kept * m[i] + added * slope
        m[i] = speed
        w[i] -= rate_now * (ahead * speed + now * slope)


@loop
def adam(
    first: int, last: int, rate: Array, step: Array, decay: float, decoupled: bool, epsilon: float, beta1: float,
    beta2: float, g: Array, w: Array, m: Array, v: Array, w_new: Array, m_new: Array, v_new: Array,
) -> None:  # fmt: skip
    """w = keep w - a m / (sqrt(v) + e): m = beta1 m + (1 - beta1) g', v = beta2 v + (1 - beta2) g'^2, g' = g + decay w.

    With r = sqrt(1 - beta2^step), a = rate r / (1 - beta1^step) and e = epsilon r. Where the decay is ``decoupled``,
    g' = g and keep = 1 - rate decay; otherwise keep = 1. All of these are rounded to float32 once.
    """
    _begin(w[first:last], w_new[first:last])
    _begin(m[first:last], m_new[first:last])
    _begin(v[first:last], v_new[first:last])
    w, m, v, g = w_new[first:last], m_new[first:last], v_new[first:last], g[first:last]
    count, speed = float(step[0]), float(rate[0])
    root = (1 - beta2**count) ** 0.5
    scale, small = np.float32(speed * root / (1 - beta1**count)), np.float32(epsilon * root)
    keep, coupled = (np.float32(1 - speed * decay), ZERO) if decoupled else (ONE, np.float32(decay))
    old1, fresh1, old2, fresh2 = np.float32(beta1), np.float32(1 - beta1), np.float32(beta2), np.float32(1 - beta2)
    for i in range(last - first):
        slope = g[i] + coupled * w[i]
        mean = old1 * m[i] + fresh1 * slope
        square = old2 * v[i] + fresh2 * (slope * slope)
        m[i] = mean
        v[i] = square
        w[i] = keep * w[i] - scale * (mean / (sqrt(square) + small))
