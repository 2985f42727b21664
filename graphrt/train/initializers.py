"""Initial weights: ``he_normal(rng, shape, dtype)``.

Fan-in and fan-out follow the layouts of the ops: a matrix is ``[in, out]`` (as in ``x @ w``); arrays of rank 3 and
more are convolution kernels ``[out, in / groups, ...]``; a vector's both fans are its length. For a matrix that is
used transposed, make its transpose. Every function draws in float64 and rounds once.
"""

from __future__ import annotations

import math

import numpy as np

from graphrt.definitions import Initializer, initializer
from graphrt.errors import InputError
from graphrt.op import Array
from graphrt.types import numpy_dtype

Shape = tuple[int, ...]
Rng = np.random.Generator


def fans(shape: Shape) -> tuple[int, int]:
    """Fan-in and fan-out: how many numbers one output reads, and how many outputs one input reaches.

    >>> fans((784, 128)), fans((16, 3, 5, 5))
    ((784, 128), (75, 400))
    """
    if len(shape) < 2:
        n = math.prod(shape)
        return n, n
    if len(shape) == 2:
        return shape[0], shape[1]
    field = math.prod(shape[2:])
    return shape[1] * field, shape[0] * field


@initializer("zeros")
def zeros(rng: Rng, shape: Shape, dtype: str) -> Array:
    """All 0."""
    return np.zeros(shape, numpy_dtype(dtype))


@initializer("ones")
def ones(rng: Rng, shape: Shape, dtype: str) -> Array:
    """All 1."""
    return np.ones(shape, numpy_dtype(dtype))


@initializer("uniform")
def uniform(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Uniform on [-0.05, 0.05)."""
    return _uniform(rng, shape, dtype, 0.05)


@initializer("normal")
def normal(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Normal with mean 0 and standard deviation 0.05."""
    return _normal(rng, shape, dtype, 0.05)


@initializer("glorot_uniform")
def glorot_uniform(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Uniform, variance 2 / (fan-in + fan-out). Source: Glorot and Bengio, 2010."""
    return _uniform(rng, shape, dtype, math.sqrt(6 / max(1, sum(fans(shape)))))


@initializer("glorot_normal")
def glorot_normal(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Normal, variance 2 / (fan-in + fan-out). Source: Glorot and Bengio, 2010."""
    return _normal(rng, shape, dtype, math.sqrt(2 / max(1, sum(fans(shape)))))


@initializer("he_uniform")
def he_uniform(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Uniform, variance 2 / fan-in; for ReLU. Source: He et al., 2015."""
    return _uniform(rng, shape, dtype, math.sqrt(6 / max(1, fans(shape)[0])))


@initializer("he_normal")
def he_normal(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Normal, variance 2 / fan-in; for ReLU. Source: He et al., 2015."""
    return _normal(rng, shape, dtype, math.sqrt(2 / max(1, fans(shape)[0])))


@initializer("lecun_uniform")
def lecun_uniform(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Uniform, variance 1 / fan-in. Source: LeCun et al., 1998."""
    return _uniform(rng, shape, dtype, math.sqrt(3 / max(1, fans(shape)[0])))


@initializer("lecun_normal")
def lecun_normal(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Normal, variance 1 / fan-in; for SELU. Source: LeCun et al., 1998."""
    return _normal(rng, shape, dtype, math.sqrt(1 / max(1, fans(shape)[0])))


@initializer("orthogonal")
def orthogonal(rng: Rng, shape: Shape, dtype: str) -> Array:
    """Orthonormal rows or columns, whichever are fewer, of the array as a matrix ``[first axis, the rest]``.

    Source: Saxe et al., 2014; the QR decomposition of a normal matrix, with the signs of R's diagonal moved to Q.

    Raises:
        InputError: the rank is less than 2.
    """
    if len(shape) < 2:
        raise InputError(f"orthogonal weights have rank 2 or more, not the shape {list(shape)}")
    rows, columns = shape[0], math.prod(shape[1:])
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q = q * np.where(np.diagonal(r) < 0, -1.0, 1.0)
    return (q if rows >= columns else q.T).reshape(shape).astype(numpy_dtype(dtype), order="C")


def _uniform(rng: Rng, shape: Shape, dtype: str, limit: float) -> Array:
    return rng.uniform(-limit, limit, shape).astype(numpy_dtype(dtype))


def _normal(rng: Rng, shape: Shape, dtype: str, scale: float) -> Array:
    return (scale * rng.standard_normal(shape)).astype(numpy_dtype(dtype))


INITIALIZERS: tuple[Initializer, ...] = (
    zeros,
    ones,
    uniform,
    normal,
    glorot_uniform,
    glorot_normal,
    he_uniform,
    he_normal,
    lecun_uniform,
    lecun_normal,
    orthogonal,
)
"""Every built-in initializer."""
