"""Clip and Where: each element comes from one of the inputs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op, unbroadcast
from graphrt.ops._math import const, quiet

_LARGEST = 3.4028234663852886e38  # of float32: the defaults that the ONNX spec writes out for Clip-6


def _from_min(input: Array, min: Array | None, max: Array | None) -> Array:
    """Where Clip returns ``min``."""
    if min is None:
        return np.zeros(input.shape, bool)
    return (input < min) if max is None else (input < min) & ~(min > max)


def _from_max(input: Array, min: Array | None, max: Array | None) -> Array:
    """Where Clip returns ``max``."""
    if max is None:
        return np.zeros(input.shape, bool)
    return (input > max) if min is None else (input > max) | (min > max)


@op("Clip", version=11, elementwise=True, outputs="output", ranges={"min": (-1.0, -0.5), "max": (0.5, 1.0)})
def clip(input: Array, min: Array | None = None, max: Array | None = None) -> Array:
    """Limits values to an interval.  input: number [...]; min, max: scalars of its dtype -> output: as input.

    Value: Min(max, Max(input, min)), so max where min > max. A bound that is absent does not limit: infinity passes.
    Derivative: 1 for the input within [min, max], the bounds included, else 1 for the bound that was taken.
    Source: ONNX operator spec.
    """
    with quiet():
        raised = input if min is None else np.maximum(input, min)
        return raised if max is None else np.minimum(raised, max)


@clip.vjp("input")
def _(ct: Array, input: Array, min: Array | None, max: Array | None) -> Array:
    with quiet():
        cut = _from_min(input, min, max) | _from_max(input, min, max)
    return unbroadcast(np.where(cut, const(0, ct), ct), input)


@clip.vjp("min")
def _(ct: Array, input: Array, min: Array, max: Array | None) -> Array:
    with quiet():
        return unbroadcast(np.where(_from_min(input, min, max), ct, const(0, ct)), min)


@clip.vjp("max")
def _(ct: Array, input: Array, min: Array | None, max: Array) -> Array:
    with quiet():
        return unbroadcast(np.where(_from_max(input, min, max), ct, const(0, ct)), max)


@clip.jvp("input")
def _(input_dot: Array, input: Array, min: Array | None, max: Array | None) -> Array:
    with quiet():
        cut = _from_min(input, min, max) | _from_max(input, min, max)
    return np.where(cut, const(0, input_dot), input_dot)


@clip.jvp("min")
def _(min_dot: Array, input: Array, min: Array, max: Array | None) -> Array:
    with quiet():
        return np.where(_from_min(input, min, max), min_dot, const(0, min_dot))


@clip.jvp("max")
def _(max_dot: Array, input: Array, min: Array | None, max: Array) -> Array:
    with quiet():
        return np.where(_from_max(input, min, max), max_dot, const(0, max_dot))


@clip.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = np.array([[-2.0, -0.3, 0.4], [0.9, 1.7, -1.2]])
    low, high = np.array(-1.0), np.array(0.8)
    for bounds in ((), (low,), (None, high), (low, high), (high, low)):
        yield (x, *bounds), {}
    yield (np.array(3.0), low, high), {}
    yield (np.array([-5, 0, 5]), np.array(-1), np.array(1)), {}
    yield Example((np.array([-1.0, 0.8]), low, high), {}, smooth=False)


@op("Clip", version=6, elementwise=True, outputs="output")
def clip_6(input: Array, *, min: float = -_LARGEST, max: float = _LARGEST) -> Array:
    """Limits values to an interval.  input: float [...] -> output: the same.

    Value: Min(max, Max(input, min)) with attributes as bounds, rounded to the dtype of the input.
    Derivative: 1 within [min, max], the bounds included, else 0.  Source: ONNX operator spec.
    """
    with quiet():
        return np.minimum(np.maximum(input, const(min, input)), const(max, input))


@clip_6.derivative("input")
def _(input: Array, *, min: float, max: float) -> Array:
    with quiet():
        return ~((input < const(min, input)) | (input > const(max, input))) * const(1, input)


@clip_6.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = np.array([[-2.0, -0.3, 0.4], [0.9, 1.7, -1.2]])
    yield (x,), {"min": -1.0, "max": 0.8}
    yield (x,), {"min": 0.0}
    yield Example((np.array([-1.0, 0.8]),), {"min": -1.0, "max": 0.8}, smooth=False)


@op("Where", version=9, elementwise=True, outputs="output", linear=(("x", "y"),), nondiff="condition")
def where(condition: Array, x: Array, y: Array) -> Array:
    """Elements of x where the condition holds, else of y.

    condition: bool [...]; x, y: any dtype [...], all broadcast together -> output: the dtype of x.
    Derivative: 1 for the input that the element came from.  Source: ONNX operator spec.
    """
    return np.where(condition, x, y)


@where.vjp("x")
def _(ct: Array, condition: Array, x_like: Array) -> Array:
    return unbroadcast(np.where(condition, ct, const(0, ct)), x_like)


@where.vjp("y")
def _(ct: Array, condition: Array, y_like: Array) -> Array:
    return unbroadcast(np.where(condition, const(0, ct), ct), y_like)


@where.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    condition = np.array([[True, False, True], [False, False, True]])
    x, y = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    yield (condition, x, y), {}
    yield (condition[0], x[:, :1], y[0, 0]), {}
    yield (np.array(True), x[0, 0], y), {}
    yield (condition, np.array(["a"], object), np.array(["b", "c", "d"], object)), {}
    yield (np.zeros((0, 3), bool), x[:0], y[:0]), {}


OPS = (clip, clip_6, where)
