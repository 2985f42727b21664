"""Optimizers that divide each element's step by the size of its past gradients."""

from __future__ import annotations

import numpy as np

from graphrt.definitions import optimizer
from graphrt.op import Array
from graphrt.optim._precision import keep_wide, widen


@optimizer("RMSprop", state=("v", "m", "g_mean"), when={"m": "momentum", "g_mean": "centered"})
def RMSprop(
    w: Array,
    g: Array,
    learning_rate: Array,
    step: Array,
    v: Array,
    m: Array = None,
    g_mean: Array = None,
    *,
    alpha: float = 0.99,
    epsilon: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, ...]:
    """RMSprop.

        g' = g + weight_decay w
        v' = alpha v + (1 - alpha) g'^2
        a' = alpha a + (1 - alpha) g'                      (centered; a is g_mean)
        d  = g' / (sqrt(v' - a'^2) + epsilon)              (a' = 0 unless centered)
        m' = momentum m + d                                (with momentum; else m' = d and m is not kept)
        w' = w - learning_rate m'

    epsilon is added outside the root. v' - a'^2, a variance, is kept from falling below 0 by rounding.
    w, g, v, m, g_mean: float [...] -> w', v', m', g_mean': as w.
    Source: Hinton's lecture 6e, 2012; centered: Graves, 2013; PyTorch's RMSprop, its defaults.
    """
    w, g, learning_rate = widen(w, g, learning_rate)
    if weight_decay:
        g = g + weight_decay * w
    v = alpha * v + (1 - alpha) * (g * g)
    spread = v
    if centered:
        g_mean = alpha * g_mean + (1 - alpha) * g
        spread = np.maximum(v - g_mean * g_mean, 0)
    d = g / (np.sqrt(spread) + epsilon)
    if momentum:
        m = d = momentum * m + d
    return w - learning_rate * d, v, m, g_mean


@optimizer("Adagrad", state=("v",))
def Adagrad(
    w: Array,
    g: Array,
    learning_rate: Array,
    step: Array,
    v: Array,
    *,
    learning_rate_decay: float = 0.0,
    epsilon: float = 1e-10,
    initial_accumulator: float = 0.0,
    weight_decay: float = 0.0,
) -> tuple[Array, Array]:
    """Adagrad.

        g' = g + weight_decay w
        v' = v + g'^2                                       (v = initial_accumulator before the first step)
        w' = w - learning_rate / (1 + (step - 1) learning_rate_decay)  g' / (sqrt(v') + epsilon)

    epsilon is added outside the root. w, g, v: float [...] -> w', v': as w.
    Source: Duchi, Hazan and Singer, 2011; PyTorch's Adagrad, its defaults.
    """
    w, g, learning_rate = widen(w, g, learning_rate)
    if weight_decay:
        g = g + weight_decay * w
    if initial_accumulator and step == 1:
        v = v + initial_accumulator
    v = v + g * g
    rate = learning_rate / (1 + (int(step) - 1) * learning_rate_decay)
    return w - rate * (g / (np.sqrt(v) + epsilon)), v


keep_wide(RMSprop, Adagrad)
