"""Random tensors: RandomNormal, RandomUniform, their Like forms, Bernoulli, Multinomial.

With the attribute ``seed`` the numbers come from ``numpy.random.RandomState(int(seed))``, so every run of such a
node draws the same ones, as the ONNX reference does; without it from the interpreter's generator. All numbers are
drawn in float64 and then converted, so that they do not depend on the dtype.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._element_types import dtype_of_code, name_of_code
from graphrt.types import TensorType, is_differentiable

Array = Any
Source = np.random.Generator | np.random.RandomState


def source(seed: float | None, rng: np.random.Generator) -> Source:
    """Where the random numbers of a node come from."""
    return rng if seed is None else np.random.RandomState(int(seed) % 2**32)


def _normal(shape: Any, mean: float, scale: float, dtype: np.dtype[Any], numbers: Source) -> Array:
    return np.asarray(numbers.standard_normal(shape) * scale + mean).astype(dtype)


def _uniform(shape: Any, low: float, high: float, dtype: np.dtype[Any], numbers: Source) -> Array:
    y = np.asarray(numbers.random(shape) * (high - low) + low).astype(dtype)
    if low < high:  # rounding to a narrow dtype may reach the bound that is excluded
        top = np.array(high, dtype)
        y = np.where(y >= top, np.nextafter(top, np.array(low, dtype)), y) if dtype.kind == "f" else y
    return y


def _float_dtype(x: Array, dtype: int | None) -> np.dtype[Any]:
    found = x.dtype if dtype is None else dtype_of_code(dtype)
    if found.kind in "iubOSUT":
        raise ValueError(f"makes floats, not {found}; set the attribute dtype to a float type")
    return found


# ---- RandomNormal, RandomUniform ---------------------------------------------------------------------


@op("RandomNormal", version=1)
def random_normal(
    *, shape: tuple[int, ...], dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Normal random numbers.  -> y: float [shape] of the dtype with code ``dtype``, mean + scale N(0, 1).

    ``seed``: see the module's text. Source: ONNX operator spec, RandomNormal.
    """
    return _normal(shape, mean, scale, dtype_of_code(dtype), source(seed, rng))


@op("RandomUniform", version=1)
def random_uniform(
    *, shape: tuple[int, ...], dtype: int = 1, low: float = 0.0, high: float = 1.0, seed: float | None = None,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Uniform random numbers.  -> y: float [shape] of the dtype with code ``dtype``, in [low, high).

    ``seed``: see the module's text. Source: ONNX operator spec, RandomUniform.
    """
    return _uniform(shape, low, high, dtype_of_code(dtype), source(seed, rng))


@random_normal.infer
@random_uniform.infer
def _(shape, dtype):
    return TensorType(name_of_code(dtype), tuple(shape))


@random_normal.examples
def _(rng):
    yield (), {"shape": (2, 3), "dtype": 11}
    yield (), {"shape": (4,), "mean": 5.0, "scale": 0.1, "seed": 3.0}
    yield (), {"shape": ()}
    yield (), {"shape": (0, 2)}


@random_uniform.examples
def _(rng):
    yield (), {"shape": (2, 3), "dtype": 10}
    yield (), {"shape": (4,), "low": -2.0, "high": 2.0, "seed": 3.0}
    yield (), {"shape": ()}
    yield (), {"shape": (0, 2)}


# ---- RandomNormalLike, RandomUniformLike -------------------------------------------------------------


@op("RandomNormalLike", version=1, nondiff=True)
def random_normal_like(
    input: Array, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float | None = None,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Normal random numbers in the shape of a tensor.

    input: any dtype [...] -> y: float, its shape, its dtype or that of code ``dtype``: mean + scale N(0, 1).
    No gradient. ``seed``: see the module's text. Source: ONNX operator spec, RandomNormalLike.
    """
    return _normal(input.shape, mean, scale, _float_dtype(input, dtype), source(seed, rng))


@op("RandomUniformLike", version=1, nondiff=True)
def random_uniform_like(
    input: Array, *, dtype: int | None = None, low: float = 0.0, high: float = 1.0, seed: float | None = None,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Uniform random numbers in the shape of a tensor.

    input: any dtype [...] -> y: float, its shape, its dtype or that of code ``dtype``, in [low, high).
    No gradient. ``seed``: see the module's text. Source: ONNX operator spec, RandomUniformLike.
    """
    return _uniform(input.shape, low, high, _float_dtype(input, dtype), source(seed, rng))


@random_normal_like.infer
@random_uniform_like.infer
def _(input, dtype):
    found = input.dtype if dtype is None else name_of_code(dtype)
    if not is_differentiable(found):
        raise ValueError(f"makes floats, not {found}; set the attribute dtype to a float type")
    return TensorType(found, input.shape)


@random_normal_like.examples
@random_uniform_like.examples
def _(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.zeros((3,), np.int64),), {"dtype": 1, "seed": 1.0}
    yield (rng.normal(size=()),), {}
    yield (np.zeros((0, 2)),), {}


# ---- Bernoulli ---------------------------------------------------------------------------------------


@op("Bernoulli", version=15, nondiff=True)
def bernoulli(input: Array, *, dtype: int | None = None, seed: float | None = None, rng: np.random.Generator) -> Array:
    """Tosses one coin per element.

    input: float [...], the probability of 1, in [0, 1] -> y: 0 or 1, input's dtype or that of code ``dtype``.
    No gradient. ``seed``: see the module's text. Source: ONNX operator spec, Bernoulli.
    """
    tossed = np.asarray(source(seed, rng).random(input.shape) < input)
    return tossed.astype(input.dtype if dtype is None else dtype_of_code(dtype))


@bernoulli.infer
def _(input, dtype):
    return TensorType(input.dtype if dtype is None else name_of_code(dtype), input.shape)


@bernoulli.examples
def _(rng):
    yield (rng.uniform(size=(3, 4)),), {}
    yield (np.array([0.0, 1.0, 0.5]),), {"dtype": 9, "seed": 2.0}
    yield (np.array(0.3),), {"dtype": 7}
    yield (np.zeros((0, 2)),), {}


# ---- Multinomial -------------------------------------------------------------------------------------


@op("Multinomial", version=7, nondiff=True)
def multinomial(
    input: Array, *, dtype: int = 6, sample_size: int = 1, seed: float | None = None, rng: np.random.Generator
) -> Array:
    """Draws classes, with replacement, from one distribution per row.

    input: float [batch, classes], log-probabilities up to a constant per row -> y: [batch, sample_size], class
    numbers, int32 or the dtype of code ``dtype``. By inverting the cumulative distribution with a binary search.
    No gradient. ``seed``: see the module's text. Source: ONNX operator spec, Multinomial.
    """
    if input.ndim != 2 or input.shape[1] == 0:
        raise ValueError(f"takes log-probabilities [batch, classes] with at least one class, not {input.shape}")
    logits = input.astype(np.float64)
    with np.errstate(invalid="ignore"):
        heights = np.cumsum(np.exp(logits - logits.max(axis=1, keepdims=True)), axis=1)
    totals = heights[:, -1:]
    uniform = source(seed, rng).random((input.shape[0], sample_size))
    drawn = _places(heights, np.minimum(uniform * totals, np.nextafter(totals, 0)))
    return drawn.astype(dtype_of_code(dtype))


def _places(heights: Array, x: Array) -> Array:
    """In each row of ``heights`` (ascending) the first column that is above x, for each x of that row."""
    low, high = np.zeros(x.shape, np.intp), np.full(x.shape, heights.shape[1] - 1)
    for _ in range((heights.shape[1] - 1).bit_length()):
        middle = (low + high) // 2
        beyond = (np.take_along_axis(heights, middle, axis=1) <= x) & (low < high)
        low, high = np.where(beyond, middle + 1, low), np.where(beyond, high, middle)
    return low


@multinomial.infer
def _(input, dtype, sample_size):
    if input.shape is not None and len(input.shape) != 2:
        raise ValueError(f"takes log-probabilities [batch, classes], not {input}")
    return TensorType(name_of_code(dtype), (input.shape[0] if input.shape else None, sample_size))


@multinomial.examples
def _(rng):
    yield (rng.normal(size=(3, 5)),), {"sample_size": 4}
    yield (np.log(np.array([[0.2, 0.8]])),), {"dtype": 7, "seed": 1.0}
    yield (np.zeros((2, 1)),), {"sample_size": 0}
    yield (np.zeros((0, 3)),), {}


OPS = (random_normal, random_uniform, random_normal_like, random_uniform_like, bernoulli, multinomial)
