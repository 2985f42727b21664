"""Ops that pass a tensor on, or only look at its shape: Identity, Shape, Size, and ZerosLike and Like."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.dual import lists
from graphrt.op import like, op
from graphrt.types import TensorType

Array = Any


# ---- Identity and its silent relatives ---------------------------------------------------------------


@op("Identity", version=1, linear="input")
def identity(input: Array) -> Array:
    """The input itself.

    input: any value, tensors of every dtype, sequences and optionals too -> y: the same. dy/dinput = 1.
    Source: ONNX operator spec, Identity.
    """
    return input


@identity.vjp("input")
def _(ct):
    return ct


@identity.infer
def _(input):
    return input


@identity.examples
def _(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.float64(rng.normal()) + np.zeros(()),), {}
    yield (np.zeros((0, 2)),), {}


@op("ZerosLike", domain="graphrt", nondiff=True)
def zeros_like(x: Array) -> Array:
    """Zeros.  x: any dtype [...] -> y: the same dtype and shape, all 0 (False; ""). Constant: no gradient.

    A sequence gives the list of its arrays' zeros, an empty optional (None) gives None.
    """
    return lists.zeros(x)


@op("OnesLike", domain="graphrt", nondiff=True)
def ones_like(x: Array) -> Array:
    """Ones.  x: any dtype [...] -> y: the same dtype and shape, all 1: a gradient's seed. Constant: no gradient."""
    return np.ones(x.shape, x.dtype)


@op("Like", domain="graphrt", nondiff=True)
def like_op(x: Array) -> Array:
    """Shape and dtype without the memory.  x: any dtype [...] -> y: the same dtype and shape, read-only.

    All elements of y are one zero (strides 0). Rules that need only a shape take this instead of x. A sequence
    gives the list of its arrays' likes.
    """
    return like(x)


@zeros_like.infer
@ones_like.infer
@like_op.infer
def _(x):
    return x


@zeros_like.examples
@like_op.examples
def _(rng):
    yield ([rng.normal(size=(2, 3)), np.ones(1, np.int64)],), {}
    yield from _examples(rng)


@ones_like.examples
def _examples(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.ones((), np.float32),), {}
    yield (np.ones((0, 2), np.int64),), {}


# ---- Shape, Size -------------------------------------------------------------------------------------


@op("Shape", version=1, nondiff=True)
def shape_of(data: Array, *, start: int = 0, end: int | None = None) -> Array:
    """The tensor's shape, or the part of it from axis ``start`` up to ``end``.

    data: any dtype, rank r -> y: int64 [k], k = r without attributes; both count from the end when negative
    and are clamped to [0, r]. No gradient. Source: ONNX operator spec, Shape (start and end since 15).
    """
    return np.array(data.shape[start:end], np.int64)


@shape_of.infer
def _(data, start, end):
    return TensorType("int64", (None if data.shape is None else len(data.shape[start:end]),))


@op("Size", version=1, nondiff=True)
def size_of(data: Array) -> Array:
    """The number of elements.  data: any dtype [...] -> y: int64 []. No gradient. Source: ONNX spec."""
    return np.array(data.size, np.int64)


@size_of.infer
def _(data):
    return TensorType("int64", ())


@shape_of.examples
def _(rng):
    for start, end in ((0, None), (1, None), (-1, None), (0, -1), (1, 2), (5, None), (2, 1)):
        yield (rng.normal(size=(2, 3, 4)),), {"start": start} if end is None else {"start": start, "end": end}
    yield (np.ones(()),), {}


@size_of.examples
def _(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.ones(()),), {}
    yield (np.zeros((0, 2)),), {}


OPS = (identity, zeros_like, ones_like, like_op, shape_of, size_of)
