"""Concat and Split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._axes import as_ints, known_ints, normalize_axis, same_dim, total
from graphrt.types import Dim, TensorType

Array = Any


def _part(axis: int, start: int, stop: int) -> tuple[slice, ...]:
    """The index of positions start to stop along an axis (counted from the front)."""
    return (slice(None),) * axis + (slice(start, stop),)


def _cut(x: Array, sizes: Sequence[int], axis: int) -> tuple[Array, ...]:
    """Consecutive parts of the given sizes along an axis, as views."""
    axis = normalize_axis(axis, x.ndim)
    parts, at = [], 0
    for n in sizes:
        parts.append(x[_part(axis, at, at + n)])
        at += n
    return tuple(parts)


# ---- Concat ------------------------------------------------------------------------------------------


@op("Concat", version=4, linear="inputs")
def concat(*inputs: Array, axis: int) -> Array:
    """Joins tensors along an axis.

    inputs: one dtype, shapes equal except along ``axis`` -> y: sizes along ``axis`` added up.
    Gradient: each input gets its part of ct. Source: ONNX operator spec, Concat (negative axis since 11).
    """
    return np.concatenate(inputs, axis=axis)


@concat.vjp("inputs")
def _(ct, inputs_like, axis):
    return _cut(ct, [x.shape[axis] for x in inputs_like], axis)


@concat.infer
def _(inputs, axis):
    dtype = next((t.dtype for t in inputs if t.dtype is not None), None)
    known = [t.shape for t in inputs if t.shape is not None]
    if not known:
        return TensorType(dtype)
    if any(len(s) != len(known[0]) for s in known):
        raise ValueError(f"inputs have different ranks: {', '.join(map(str, inputs))}")
    at = normalize_axis(axis, len(known[0]))
    dims: list[Dim] = list(known[0])
    for s in known[1:]:
        for i, d in enumerate(s):
            dims[i] = dims[i] if i == at else same_dim(dims[i], d, f"sizes along axis {i}")
    dims[at] = total(s[at] for s in known) if len(known) == len(inputs) else None
    return TensorType(dtype, tuple(dims))


@concat.examples
def _(rng):
    yield (rng.normal(size=(2, 3)), rng.normal(size=(1, 3))), {"axis": 0}
    yield (rng.normal(size=(2, 1)), rng.normal(size=(2, 0)), rng.normal(size=(2, 3))), {"axis": -1}
    yield (rng.normal(size=(2, 1, 2)),), {"axis": 1}


# ---- Split -------------------------------------------------------------------------------------------


def _equal_sizes(dim: int, count: int, uneven: bool) -> tuple[int, ...]:
    """``count`` parts as equal as Split makes them: with ``uneven``, all but the last of size ceil(dim / count)."""
    if count < 1:
        raise ValueError(f"cannot split into {count} parts")
    size = -(-dim // count)
    last = dim - size * (count - 1)
    if last < 0 or (last != size and not uneven):
        raise ValueError(f"an axis of size {dim} does not divide into {count} parts; give the sizes in 'split'")
    return (size,) * (count - 1) + (last,)


def _sizes(dim: int, sizes: Sequence[int] | None, count: int, uneven: bool) -> tuple[int, ...]:
    if sizes is None:
        return _equal_sizes(dim, count, uneven)
    if sum(sizes) != dim or any(n < 0 for n in sizes):
        raise ValueError(f"split sizes {tuple(sizes)} should be 0 or more and add up to {dim}, the size of the axis")
    if len(sizes) != count:
        raise ValueError(f"{len(sizes)} split sizes for {count} outputs")
    return tuple(sizes)


def _split_types(
    t: TensorType, sizes: Sequence[int] | None, axis: int, count: int, uneven: bool, hidden: bool = False
) -> tuple[TensorType, ...]:
    """Output types; ``hidden`` means that there are sizes, but they are not known yet."""
    if t.shape is None:
        return (TensorType(t.dtype),) * count
    at = normalize_axis(axis, len(t.shape))
    dim = t.shape[at]
    parts: Sequence[Dim] = (None,) * count
    if count == 1 and sizes is None:
        parts = (dim,)
    elif isinstance(dim, int) and not hidden:
        parts = _sizes(dim, sizes, count, uneven)
    elif sizes is not None:
        parts = sizes
    return tuple(TensorType(t.dtype, (*t.shape[:at], n, *t.shape[at + 1 :])) for n in parts)


@op("Split", version=18, outputs="*outputs", linear="input", nondiff="split")
def split(
    input: Array, split: Array = None, *, axis: int = 0, num_outputs: int | None = None, n_outputs: int
) -> tuple[Array, ...]:
    """Cuts a tensor into consecutive parts along an axis.

    input: any dtype [...]; split: int64 [k], the sizes of the parts -> outputs: k tensors (views of input).
    Without ``split``, ``num_outputs`` parts (or as many as the node has outputs) of size ceil(n / k), the last
    one smaller where that does not divide. Gradient: the parts' cotangents joined, zeros for unused parts.
    Source: ONNX operator spec, Split.
    """
    sizes, count = None if split is None else as_ints(split), _count(num_outputs, n_outputs)
    return _cut(input, _sizes(input.shape[axis], sizes, count, True), axis)


def _count(num_outputs: int | None, n_outputs: int) -> int:
    if num_outputs is not None and num_outputs != n_outputs:
        raise ValueError(f"num_outputs is {num_outputs}, but the node has {n_outputs} outputs")
    return n_outputs


@split.infer
def _(input, split, split_value, axis, num_outputs, n_outputs):
    hidden = split is not None and split_value is None
    return _split_types(input, known_ints(split_value), axis, _count(num_outputs, n_outputs), True, hidden)


@op("Split", version=13, outputs="*outputs", linear="input", nondiff="split")
def split_13(input: Array, split: Array = None, *, axis: int = 0, n_outputs: int) -> tuple[Array, ...]:
    """Cuts a tensor into consecutive parts; `Split` before opset 18: without ``split`` the parts must be equal."""
    sizes = None if split is None else as_ints(split)
    return _cut(input, _sizes(input.shape[axis], sizes, n_outputs, False), axis)


@split_13.infer
def _(input, split, split_value, axis, n_outputs):
    hidden = split is not None and split_value is None
    return _split_types(input, known_ints(split_value), axis, n_outputs, False, hidden)


@op("Split", version=2, outputs="*outputs", linear="input")
def split_2(input: Array, *, split: tuple[int, ...] | None = None, axis: int = 0, n_outputs: int) -> tuple[Array, ...]:
    """Cuts a tensor into consecutive parts; `Split` before opset 13, when ``split`` was an attribute."""
    return _cut(input, _sizes(input.shape[axis], split, n_outputs, False), axis)


@split_2.infer
def _(input, split, axis, n_outputs):
    return _split_types(input, split, axis, n_outputs, False)


def _join(cts: Sequence[Array | None], x_like: Array, sizes: Sequence[int], axis: int) -> Array:
    """The adjoint of `_cut`; None stands for the zero cotangent of a part that is not used."""
    shape, at = x_like.shape, normalize_axis(axis, x_like.ndim)
    parts = zip(cts, sizes, strict=True)
    filled = [np.zeros((*shape[:at], n, *shape[at + 1 :]), x_like.dtype) if ct is None else ct for ct, n in parts]
    return np.concatenate(filled, axis=at)


@split.vjp("input")
def _(input_like, split, cts, axis):
    sizes = None if split is None else as_ints(split)
    return _join(cts, input_like, _sizes(input_like.shape[axis], sizes, len(cts), True), axis)


@split_13.vjp("input")
def _(input_like, split, cts, axis):
    sizes = None if split is None else as_ints(split)
    return _join(cts, input_like, _sizes(input_like.shape[axis], sizes, len(cts), False), axis)


@split_2.vjp("input")
def _(input_like, cts, split, axis):
    return _join(cts, input_like, _sizes(input_like.shape[axis], split, len(cts), False), axis)


@split.examples
def _(rng):
    x = rng.normal(size=(2, 7))
    yield (x, np.array([3, 0, 4])), {"axis": 1, "n_outputs": 3}
    yield (x, np.array([6, 1])), {"axis": -1, "n_outputs": 2}
    yield (x,), {"axis": 1, "num_outputs": 4, "n_outputs": 4}
    yield (x,), {"n_outputs": 2}
    yield (np.zeros((0, 2)),), {"num_outputs": 2, "n_outputs": 2}


@split_13.examples
def _(rng):
    yield (rng.normal(size=(2, 6)), np.array([2, 4])), {"axis": 1, "n_outputs": 2}
    yield (rng.normal(size=(2, 6)),), {"axis": -1, "n_outputs": 3}


@split_2.examples
def _(rng):
    yield (rng.normal(size=(2, 6)),), {"axis": 1, "split": (2, 4), "n_outputs": 2}
    yield (rng.normal(size=(2, 6)),), {"axis": -1, "n_outputs": 3}


OPS = (concat, split, split_13, split_2)
