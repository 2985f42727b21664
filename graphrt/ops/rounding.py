"""Piecewise constant functions: sign and rounding. Their derivative is 0, also at the jumps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._math import quiet

_INTEGERS = tuple(float(n) for n in range(-5, 6))
_HALVES = tuple(n + 0.5 for n in range(-5, 5))


@op("Sign", version=9, elementwise=True, outputs="output", kinks=(0.0,))
def sign(input: Array) -> Array:
    """Sign.  input: number [...] -> output: the same.

    Value: -1, 0 or 1; NaN of NaN.  Derivative: 0.  Source: ONNX operator spec.
    """
    with quiet():
        return np.sign(input)


@sign.derivative("input")
def _(input_like: Array) -> Array:
    return np.zeros_like(input_like)


@op("Floor", version=6, elementwise=True, kinks=_INTEGERS)
def floor(x: Array) -> Array:
    """The largest whole number <= x.  x: float [...] -> y: the same.

    Derivative: 0.  Source: ONNX operator spec.
    """
    with quiet():
        return np.floor(x)


@floor.derivative("x")
def _(x_like: Array) -> Array:
    return np.zeros_like(x_like)


@op("Ceil", version=6, elementwise=True, kinks=_INTEGERS)
def ceil(x: Array) -> Array:
    """The smallest whole number >= x.  x: float [...] -> y: the same.

    Derivative: 0.  Source: ONNX operator spec.
    """
    with quiet():
        return np.ceil(x)


@ceil.derivative("x")
def _(x_like: Array) -> Array:
    return np.zeros_like(x_like)


@op("Round", version=11, elementwise=True, kinks=_HALVES)
def round_(x: Array) -> Array:
    """The nearest whole number, halves to the even one.  x: float [...] -> y: the same.

    Derivative: 0.  Source: ONNX operator spec.
    """
    with quiet():
        return np.rint(x)


@round_.derivative("x")
def _(x_like: Array) -> Array:
    return np.zeros_like(x_like)


@round_.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield Example((np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]),), {}, smooth=False)


OPS = (sign, floor, ceil, round_)
