"""Adam and AdamW: steps scaled by running averages of the gradient and of its square."""

from __future__ import annotations

import numpy as np

from graphrt.definitions import optimizer
from graphrt.op import Array
from graphrt.optim._precision import keep_wide, widen


@optimizer("Adam", state=("m", "v", "v_max"), when={"v_max": "amsgrad"}, learning_rate=1e-3)
def Adam(
    w: Array,
    g: Array,
    learning_rate: Array,
    step: Array,
    m: Array,
    v: Array,
    v_max: Array = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
) -> tuple[Array, ...]:
    """Adam.

        g' = g + weight_decay w
        m' = beta1 m + (1 - beta1) g'
        v' = beta2 v + (1 - beta2) g'^2
        w' = w - learning_rate / (1 - beta1^step)  m' / (sqrt(s) / sqrt(1 - beta2^step) + epsilon)

    s = v', or with amsgrad the largest v' so far. epsilon is added outside the root, after the bias correction.
    w, g, m, v, v_max: float [...] -> w', m', v', v_max': as w.
    Source: Kingma and Ba, 2015; amsgrad: Reddi et al., 2018; PyTorch's Adam, its defaults.
    """
    w, g, learning_rate = widen(w, g, learning_rate)
    if weight_decay:
        g = g + weight_decay * w
    w, *state = _moved(w, g, learning_rate, int(step), m, v, v_max, beta1, beta2, epsilon)
    return w, *state


@optimizer("AdamW", state=("m", "v", "v_max"), when={"v_max": "amsgrad"}, learning_rate=1e-3)
def AdamW(
    w: Array,
    g: Array,
    learning_rate: Array,
    step: Array,
    m: Array,
    v: Array,
    v_max: Array = None,
    *,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
    amsgrad: bool = False,
) -> tuple[Array, ...]:
    """Adam with decoupled weight decay: w shrinks by itself, and the decay does not enter the averages.

        w0 = w - learning_rate weight_decay w
        w' = Adam's step from w0, with g' = g

    w, g, m, v, v_max: float [...] -> w', m', v', v_max': as w.
    Source: Loshchilov and Hutter, 2019; PyTorch's AdamW, its defaults.
    """
    w, g, learning_rate = widen(w, g, learning_rate)
    if weight_decay:
        w = w - learning_rate * weight_decay * w
    w, *state = _moved(w, g, learning_rate, int(step), m, v, v_max, beta1, beta2, epsilon)
    return w, *state


keep_wide(Adam, AdamW)


def _moved(
    w: Array,
    g: Array,
    learning_rate: Array,
    step: int,
    m: Array,
    v: Array,
    v_max: Array | None,
    beta1: float,
    beta2: float,
    epsilon: float,
) -> tuple[Array, ...]:
    """The equations, with arrays made here reused: on large parameters memory traffic is what takes the time."""
    m = beta1 * m
    m += (1 - beta1) * g
    square = g * g
    square *= 1 - beta2
    v = beta2 * v
    v += square
    largest = v if v_max is None else np.maximum(v_max, v)
    d = np.sqrt(largest)
    d /= (1 - beta2**step) ** 0.5
    d += epsilon
    d = m / d
    d *= learning_rate / (1 - beta1**step)
    return w - d, m, v, None if v_max is None else largest
