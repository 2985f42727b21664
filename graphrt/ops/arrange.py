"""Ops that put elements or whole blocks in another order: Transpose, Tile, DepthToSpace, ReverseSequence, ..."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.op import op
from graphrt.ops._axes import (
    as_ints,
    length_of,
    normalize_axes,
    normalize_axis,
    product,
    unknown_shape,
)
from graphrt.types import Dim, TensorType

Array = Any


# ---- Transpose ---------------------------------------------------------------------------------------


def _permutation(perm: Sequence[int] | None, rank: int) -> tuple[int, ...]:
    if perm is None:
        return tuple(range(rank - 1, -1, -1))
    if len(perm) != rank:
        raise ValueError(f"perm {tuple(perm)} does not order the axes of a tensor of rank {rank}")
    return normalize_axes(perm, rank)


@op("Transpose", version=1, linear="data")
def transpose(data: Array, *, perm: tuple[int, ...] | None = None) -> Array:
    """Permutes the axes.

    data: any dtype, rank r -> y: axis i of y is axis perm[i] of data; without ``perm`` the axes are reversed.
    Gradient: ct with the permutation undone. Source: ONNX operator spec, Transpose.
    """
    return np.transpose(data, _permutation(perm, data.ndim))


@transpose.vjp("data")
def _(ct, perm):
    order = _permutation(perm, ct.ndim)
    return np.transpose(ct, sorted(range(ct.ndim), key=order.__getitem__))


@transpose.infer
def _(data, perm):
    if data.shape is None:
        return TensorType(data.dtype, None if perm is None else unknown_shape(len(perm)))
    return TensorType(data.dtype, tuple(data.shape[i] for i in _permutation(perm, len(data.shape))))


@transpose.examples
def _(rng):
    x = rng.normal(size=(2, 3, 4))
    for attributes in ({}, {"perm": (1, 2, 0)}, {"perm": (0, 2, 1)}):
        yield (x,), attributes
    yield (rng.normal(size=()),), {}
    yield (np.zeros((0, 2)),), {"perm": (1, 0)}


# ---- Tile --------------------------------------------------------------------------------------------


@op("Tile", version=6, linear="input", nondiff="repeats")
def tile(input: Array, repeats: Array) -> Array:
    """Repeats the whole tensor along each axis.

    input: any dtype, rank r; repeats: int64 [r], >= 0 -> y: shape[i] * repeats[i].
    Gradient: ct summed over the repetitions. Source: ONNX operator spec, Tile (since 6 with repeats for all axes).
    """
    return np.tile(input, _repeats(repeats, input.ndim))


def _repeats(repeats: Array, rank: int) -> tuple[int, ...]:
    counts = as_ints(repeats)
    if len(counts) != rank:
        raise ValueError(f"{len(counts)} repeats for a tensor of rank {rank}; one per axis is needed")
    if any(n < 0 for n in counts):
        raise ValueError(f"repeats {counts} should be 0 or more")
    return counts


@tile.vjp("input")
def _(ct, input_like, repeats):
    pairs = [n for pair in zip(_repeats(repeats, input_like.ndim), input_like.shape, strict=True) for n in pair]
    return np.sum(ct.reshape(pairs), axis=tuple(range(0, len(pairs), 2)), dtype=ct.dtype)


@tile.infer
def _(input, repeats, repeats_value):
    if input.shape is None:
        return TensorType(input.dtype, unknown_shape(length_of(repeats)))
    if repeats_value is None:
        return TensorType(input.dtype, unknown_shape(len(input.shape)))
    counts = _repeats(repeats_value, len(input.shape))
    return TensorType(input.dtype, tuple(product(pair) for pair in zip(input.shape, counts, strict=True)))


@tile.examples
def _(rng):
    yield (rng.normal(size=(2, 3)), np.array([2, 1])), {}
    yield (rng.normal(size=(2, 1, 2)), np.array([3, 2, 2])), {}
    yield (rng.normal(size=(2,)), np.array([0])), {}
    yield (rng.normal(size=()), np.array([], np.int64)), {}
    yield (np.zeros((0, 2)), np.array([2, 3])), {}


# ---- Trilu -------------------------------------------------------------------------------------------


@op("Trilu", version=14, linear="input", nondiff="k")
def trilu(input: Array, k: Array = None, *, upper: int = 1) -> Array:
    """Keeps the upper (or lower) triangle of each matrix, zeros elsewhere.

    input: any dtype [..., n, m]; k: int64 [], the diagonal where the triangle ends (0: the main one, > 0 above it)
    -> y: the same shape. Gradient: ct's triangle. Source: ONNX operator spec, Trilu.
    """
    if input.ndim < 2:
        raise ValueError(f"takes matrices, rank 2 or more, not a tensor of rank {input.ndim}")
    diagonal = 0 if k is None else as_ints(k)[0]
    return np.triu(input, diagonal) if upper else np.tril(input, diagonal)


@trilu.vjp("input")
def _(ct, k, upper):
    return trilu(ct, k, upper=upper)


@trilu.infer
def _(input):
    if input.shape is not None and len(input.shape) < 2:
        raise ValueError(f"takes matrices, rank 2 or more, not {input}")
    return input


@trilu.examples
def _(rng):
    yield (rng.normal(size=(3, 4)),), {}
    yield (rng.normal(size=(2, 4, 3)), np.array(1)), {"upper": 0}
    yield (rng.normal(size=(3, 3)), np.array(-1)), {}
    yield (rng.normal(size=(3, 3)), np.array(7)), {}
    yield (rng.normal(size=(3, 3)), np.array([-7])), {"upper": 0}
    yield (np.zeros((0, 3)),), {}


# ---- DepthToSpace, SpaceToDepth ----------------------------------------------------------------------


def _check_mode(mode: str) -> None:
    if mode not in ("DCR", "CRD"):
        raise ValueError(f"mode {mode!r} should be 'DCR' or 'CRD'")


def _block_dims(shape: Sequence[Dim], blocksize: int, to_space: bool) -> tuple[Dim, ...]:
    """The result's shape; checks that channels (or height and width) divide into blocks."""
    if len(shape) != 4 or blocksize < 1:
        raise ValueError(f"takes a tensor [N, C, H, W] and a blocksize >= 1, not {tuple(shape)} and {blocksize}")
    n, c, h, w = shape
    area = blocksize * blocksize
    for name, dim, unit in [("channels", c, area)] if to_space else [("height", h, blocksize), ("width", w, blocksize)]:
        if isinstance(dim, int) and dim % unit:
            raise ValueError(f"{dim} {name} do not divide by {unit} (blocksize {blocksize})")
    if to_space:
        return n, _divided(c, area), product((h, blocksize)), product((w, blocksize))
    return n, product((c, area)), _divided(h, blocksize), _divided(w, blocksize)


def _divided(dim: Dim, by: int) -> Dim:
    return dim // by if isinstance(dim, int) else dim if by == 1 else None


def _to_space(x: Array, blocksize: int, mode: str) -> Array:
    _check_mode(mode)
    n, c, _, _ = out = _block_dims(x.shape, blocksize, True)
    (height, width), b = x.shape[2:], blocksize
    if mode == "DCR":
        return x.reshape((n, b, b, c, height, width)).transpose((0, 3, 4, 1, 5, 2)).reshape(out)
    return x.reshape((n, c, b, b, height, width)).transpose((0, 1, 4, 2, 5, 3)).reshape(out)


def _to_depth(x: Array, blocksize: int, mode: str) -> Array:
    _check_mode(mode)
    n, _, height, width = out = _block_dims(x.shape, blocksize, False)
    blocks = x.reshape((n, x.shape[1], height, blocksize, width, blocksize))
    return blocks.transpose((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)).reshape(out)


@op("DepthToSpace", version=1, linear="input")
def depth_to_space(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Lays channels out as blocks of pixels (pixel shuffle).

    input: any dtype [N, C, H, W], C divisible by blocksize^2 -> y: [N, C/b^2, H b, W b]. A channel is numbered
    (block row, block column, depth) in mode DCR, (depth, block row, block column) in CRD.
    Gradient: SpaceToDepth of ct in the same mode. Source: ONNX operator spec, DepthToSpace (mode since 11).
    """
    return _to_space(input, blocksize, mode)


@op("SpaceToDepth", version=1, linear="input")
def space_to_depth(input: Array, *, blocksize: int, mode: str = "DCR") -> Array:
    """Moves blocks of pixels into channels: the inverse of `DepthToSpace` in the same mode.

    input: any dtype [N, C, H, W], H and W divisible by blocksize -> y: [N, C b^2, H/b, W/b].
    Gradient: DepthToSpace of ct. Source: ONNX operator spec, SpaceToDepth (mode since 28; DCR before).
    """
    return _to_depth(input, blocksize, mode)


@depth_to_space.vjp("input")
def _(ct, blocksize, mode):
    return _to_depth(ct, blocksize, mode)


@space_to_depth.vjp("input")
def _(ct, blocksize, mode):
    return _to_space(ct, blocksize, mode)


@depth_to_space.infer
def _(input, blocksize):
    dims = unknown_shape(4) if input.shape is None else _block_dims(input.shape, blocksize, True)
    return TensorType(input.dtype, dims)


@space_to_depth.infer
def _(input, blocksize):
    dims = unknown_shape(4) if input.shape is None else _block_dims(input.shape, blocksize, False)
    return TensorType(input.dtype, dims)


@depth_to_space.examples
def _(rng):
    for mode in ("DCR", "CRD"):
        yield (rng.normal(size=(2, 8, 2, 3)),), {"blocksize": 2, "mode": mode}
    yield (rng.normal(size=(1, 3, 2, 2)),), {"blocksize": 1}
    yield (np.zeros((0, 4, 2, 2)),), {"blocksize": 2}


@space_to_depth.examples
def _(rng):
    for mode in ("DCR", "CRD"):
        yield (rng.normal(size=(2, 2, 4, 6)),), {"blocksize": 2, "mode": mode}
    yield (rng.normal(size=(1, 3, 2, 2)),), {"blocksize": 1}
    yield (np.zeros((0, 1, 2, 2)),), {"blocksize": 2}


# ---- ReverseSequence ---------------------------------------------------------------------------------


@op("ReverseSequence", version=10, linear="input", nondiff="sequence_lens")
def reverse_sequence(input: Array, sequence_lens: Array, *, batch_axis: int = 1, time_axis: int = 0) -> Array:
    """Reverses the first sequence_lens[b] steps of each batch entry b; the rest stays.

    input: any dtype, rank >= 2, time and batch on axes 0 and 1 in either order; sequence_lens: int64 [batch], in
    [0, steps] -> y: the same shape. Its own inverse: gradient is the op applied to ct.
    Source: ONNX operator spec, ReverseSequence.
    """
    _check_time_axes(batch_axis, time_axis)
    steps, batch = input.shape[time_axis], input.shape[batch_axis]
    if sequence_lens.shape != (batch,):
        raise ValueError(f"sequence_lens has shape {sequence_lens.shape}, expected ({batch},)")
    if sequence_lens.size and (sequence_lens.min() < 0 or sequence_lens.max() > steps):
        raise ValueError(f"sequence_lens should be in [0, {steps}], not {sequence_lens.tolist()}")
    time = np.arange(steps)[:, None]
    source = np.where(time < sequence_lens, sequence_lens - 1 - time, time)
    if time_axis == 0:
        return input[source, np.arange(batch)]
    return input[np.arange(batch)[:, None], source.T]


def _check_time_axes(batch_axis: int, time_axis: int) -> None:
    if {batch_axis, time_axis} != {0, 1}:
        raise ValueError(f"batch_axis {batch_axis} and time_axis {time_axis} should be 0 and 1 in either order")


@reverse_sequence.vjp("input")
def _(ct, sequence_lens, batch_axis, time_axis):
    return reverse_sequence(ct, sequence_lens, batch_axis=batch_axis, time_axis=time_axis)


@reverse_sequence.infer
def _(input, batch_axis, time_axis):
    _check_time_axes(batch_axis, time_axis)
    if input.shape is not None:
        normalize_axis(1, len(input.shape))
    return input


@reverse_sequence.examples
def _(rng):
    yield (rng.normal(size=(4, 3)), np.array([4, 2, 0])), {}
    yield (rng.normal(size=(3, 4, 2)), np.array([1, 3, 4])), {"batch_axis": 0, "time_axis": 1}
    yield (np.zeros((3, 0, 2)), np.zeros(0, np.int64)), {}


OPS = (transpose, tile, trilu, depth_to_space, space_to_depth, reverse_sequence)
