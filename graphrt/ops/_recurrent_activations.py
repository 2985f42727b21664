"""The activations of recurrent layers: values and slopes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.ops._math import sigmoid, softplus
from graphrt.records import dataclass

Array = Any


def _scaled_tanh_slope(x: Array, y: Array, a: float, b: float) -> Array:
    t = np.tanh(b * x)
    return a * b * (1 - t * t)


_Function = Callable[[Array, float, float], Array]
_Slope = Callable[[Array, Array, float, float], Array]
_TABLE: dict[str, tuple[_Function, _Slope, float | None, float | None]] = {
    "relu": (lambda x, a, b: np.maximum(x, 0), lambda x, y, a, b: x > 0, None, None),
    "tanh": (lambda x, a, b: np.tanh(x), lambda x, y, a, b: 1 - y * y, None, None),
    "sigmoid": (lambda x, a, b: sigmoid(x), lambda x, y, a, b: y * (1 - y), None, None),
    "affine": (lambda x, a, b: a * x + b, lambda x, y, a, b: np.full_like(x, a), 1.0, 0.0),
    "leakyrelu": (lambda x, a, b: np.where(x >= 0, x, a * x), lambda x, y, a, b: _two(x > 0, 1, a, x), 0.01, None),
    "thresholdedrelu": (lambda x, a, b: np.where(x >= a, x, 0), lambda x, y, a, b: x >= a, 1.0, None),
    "scaledtanh": (lambda x, a, b: a * np.tanh(b * x), _scaled_tanh_slope, 1.0, 1.0),
    "hardsigmoid": (
        lambda x, a, b: np.minimum(np.maximum(a * x + b, 0), 1),
        lambda x, y, a, b: _two((y > 0) & (y < 1), a, 0, x),
        0.2,
        0.5,
    ),
    "elu": (
        lambda x, a, b: np.where(x >= 0, x, a * np.expm1(np.minimum(x, 0))),
        lambda x, y, a, b: np.where(x > 0, np.ones_like(y), y + a),
        1.0,
        None,
    ),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), lambda x, y, a, b: 1 / np.square(1 + np.abs(x)), None, None),
    "softplus": (lambda x, a, b: softplus(x), lambda x, y, a, b: sigmoid(x), None, None),
}
"""Name to value f(x), slope f'(x) by x and y = f(x), and the defaults of alpha and beta (None: has none)."""


def _two(condition: Array, a: float, b: float, x: Array) -> Array:
    return np.where(condition, np.array(a, x.dtype), np.array(b, x.dtype))


@dataclass(frozen=True)
class Activation:
    """An activation with its constants; its argument is first clipped to [-clip, clip] (0: it is not)."""

    name: str
    alpha: float
    beta: float
    clip: float = 0.0

    def __call__(self, z: Array) -> Array:
        return _TABLE[self.name][0](self._clipped(z), self.alpha, self.beta)

    def slope(self, z: Array, y: Array) -> Array:
        """dy/dz; zero where the argument is clipped, the inner slope where it just touches the bound."""
        slope = _TABLE[self.name][1](self._clipped(z), y, self.alpha, self.beta)
        return slope * (np.abs(z) <= self.clip) if self.clip else slope

    def _clipped(self, z: Array) -> Array:
        return np.minimum(np.maximum(z, -self.clip), self.clip) if self.clip else z


def activations(
    names: Sequence[str], alphas: Sequence[float] | None, betas: Sequence[float] | None, clip: float | None
) -> list[Activation]:
    """Activations with their constants.

    Each takes the next alpha (beta) from the list where it has one; past the end of the list, its default.
    """
    next_alpha, next_beta = iter(alphas or ()), iter(betas or ())
    made = []
    for name in names:
        entry = _TABLE.get(name.lower())
        if entry is None:
            raise ValueError(f"no activation is named {name!r}; there are: {', '.join(_TABLE)}")
        alpha = 0.0 if entry[2] is None else next(next_alpha, entry[2])
        beta = 0.0 if entry[3] is None else next(next_beta, entry[3])
        made.append(Activation(name.lower(), float(alpha), float(beta), float(clip or 0)))
    return made
