"""Optimizers that step along the gradient, or along its running average."""

from __future__ import annotations

from graphrt.definitions import optimizer
from graphrt.op import Array
from graphrt.optim._precision import keep_wide, widen


@optimizer("GradientDescent")
def GradientDescent(w: Array, g: Array, learning_rate: Array, step: Array, *, weight_decay: float = 0.0) -> Array:
    """Plain gradient descent; keeps no state.

        g' = g + weight_decay w
        w' = w - learning_rate g'

    w, g: float [...]; learning_rate: [] of w's dtype; step: int64 [] -> w': as w.
    Source: PyTorch's SGD without momentum.
    """
    w, g, learning_rate = widen(w, g, learning_rate)
    if weight_decay:
        g = g + weight_decay * w
    return w - learning_rate * g


@optimizer("SGD", state=("m",), when={"m": "momentum"}, learning_rate=1e-3)
def SGD(
    w: Array,
    g: Array,
    learning_rate: Array,
    step: Array,
    m: Array = None,
    *,
    momentum: float = 0.0,
    dampening: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> tuple[Array, Array]:
    """Gradient descent with momentum.

        g' = g + weight_decay w
        m' = g'                                      at the first step
        m' = momentum m + (1 - dampening) g'         later
        d  = g' + momentum m'   (nesterov)   or   m'
        w' = w - learning_rate d

    Without momentum d = g' and there is no state. w, g, m: float [...] -> w', m': as w.
    Source: PyTorch's SGD, its defaults; Nesterov as in Sutskever et al., 2013.
    """
    w, g, learning_rate = widen(w, g, learning_rate)
    if weight_decay:
        g = g + weight_decay * w
    if not momentum:
        return w - learning_rate * g, None
    m = momentum * m + (1 - dampening) * g if step > 1 else g + 0
    d = g + momentum * m if nesterov else m
    return w - learning_rate * d, m


keep_wide(SGD)
