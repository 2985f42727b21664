"""The loops of `graphrt_numba.optimizers`; they overwrite the weights and the state."""

from __future__ import annotations

from math import sqrt
from typing import Any

from graphrt_numba.compiler import loop

Array = Any
Number = Any


@loop
def sgd(first: int, last: int, rate: Number, decay: Number, w: Array, g: Array) -> None:
    """w = w - rate (g + decay w)."""
    w, g = w[first:last], g[first:last]
    for i in range(last - first):
        w[i] -= rate * (g[i] + decay * w[i])


@loop
def momentum_sgd(
    first: int, last: int, rate: Number, decay: Number, momentum: Number, fresh: Number, ahead: Number, now: Number,
    w: Array, m: Array, g: Array,
) -> None:  # fmt: skip
    """m = momentum m + fresh g' and w = w - rate (ahead m + now g'), where g' = g + decay w."""
    w, m, g = w[first:last], m[first:last], g[first:last]
    for i in range(last - first):
        slope = g[i] + decay * w[i]
        speed = momentum * m[i] + fresh * slope
        m[i] = speed
        w[i] -= rate * (ahead * speed + now * slope)


@loop
def adam(
    first: int, last: int, rate: Number, keep: Number, decay: Number, small: Number,
    beta1: Number, fresh1: Number, beta2: Number, fresh2: Number, w: Array, m: Array, v: Array, g: Array,
) -> None:  # fmt: skip
    """w = keep w - rate m / (sqrt(v) + small): m = beta1 m + fresh1 g', v = beta2 v + fresh2 g'^2, g' = g + decay w."""
    w, m, v, g = w[first:last], m[first:last], v[first:last], g[first:last]
    for i in range(last - first):
        slope = g[i] + decay * w[i]
        mean = beta1 * m[i] + fresh1 * slope
        square = beta2 * v[i] + fresh2 * (slope * slope)
        m[i] = mean
        v[i] = square
        w[i] = keep * w[i] - rate * (mean / (sqrt(square) + small))
