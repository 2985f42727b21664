"""Gated activations: SwiGLU."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import const, quiet, sigmoid
from graphrt.ops.activations import swish


@op("SwiGLU", version=28, elementwise=True)
def swiglu(a: Array, b: Array, *, alpha: float = 1.0) -> Array:
    """A Swish gate times a linear input.  a, b: float [...] -> y: the same.

    Value: swish(a) b, swish(a) = a sigmoid(alpha a).  Derivatives: swish'(a) b, and swish(a) for b.
    ONNX asks for equal shapes; others broadcast.  Source: ONNX operator spec.
    """
    with quiet():
        return swish(a, alpha=alpha) * b


@swiglu.derivative("a")
def _(a: Array, b: Array, alpha: float) -> Array:
    with quiet():
        s = sigmoid(const(alpha, a) * a)
        return (s + (s * a) * (const(alpha, a) * (1 - s))) * b


@swiglu.derivative("b")
def _(a: Array, alpha: float) -> Array:
    return swish(a, alpha=alpha)


@swiglu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for alpha in (1.702, -0.5, 0.0):
        yield (rng.uniform(-3, 3, (2, 3)), rng.uniform(-3, 3, (2, 3))), {"alpha": alpha}


OPS = (swiglu,)
