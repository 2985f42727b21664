"""What quantized ops share: where scales apply, rounding into a narrow type, exact integer products."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.ops._axes import normalize_axis
from graphrt.ops._math import quiet
from graphrt.ops.casts import convert
from graphrt.types import DTYPES, TensorType, dtype_name

_LIMITS = {"int2": (-2, 1), "uint2": (0, 3), "int4": (-8, 7), "uint4": (0, 15)}


# ---- granularity: one scale, one per slice of an axis, one per block of an axis -----------------------------


def spread(scale: Array, shape: tuple[int, ...], axis: int, block_size: int) -> Array:
    """A scale (or zero point) so that it broadcasts against the data.

    Args:
        scale: any dtype; one element, or [shape[axis]], or as the data with ceil(shape[axis] / block_size) on axis.
        shape: the data's.
        axis, block_size: which axis has slices or blocks; block_size 0 for slices.

    Raises:
        ValueError: the scale's shape does not fit the data's.
    """
    if scale.size == 1:
        return np.reshape(scale, ())
    at = _slice_axis(scale.shape, shape, axis, block_size)
    if not block_size:
        return np.reshape(scale, tuple(-1 if i == at else 1 for i in range(len(shape))))
    return np.repeat(scale, block_size, axis=at)[(slice(None),) * at + (slice(shape[at]),)]


def gather_spread(ct: Array, scale_like: Array, axis: int, block_size: int) -> Array:
    """The adjoint of `spread`, followed by broadcasting: a cotangent of the data's shape to the scale's shape."""
    if scale_like.size == 1:
        return np.reshape(np.sum(ct, dtype=ct.dtype), scale_like.shape)
    at = _slice_axis(scale_like.shape, ct.shape, axis, block_size)
    if not block_size:
        return np.sum(ct, axis=tuple(i for i in range(ct.ndim) if i != at), dtype=ct.dtype)
    blocks = scale_like.shape[at]
    missing = np.zeros((*ct.shape[:at], blocks * block_size - ct.shape[at], *ct.shape[at + 1 :]), ct.dtype)
    whole = np.concatenate([ct, missing], axis=at)
    split = np.reshape(whole, (*ct.shape[:at], blocks, block_size, *ct.shape[at + 1 :]))
    return np.sum(split, axis=at + 1, dtype=ct.dtype)


def _slice_axis(scale: tuple[int, ...], shape: tuple[int, ...], axis: int, block_size: int) -> int:
    at = 0 if len(shape) == 1 else normalize_axis(axis, len(shape))  # with one axis there is nothing to choose
    if block_size < 0:
        raise ValueError(f"block_size {block_size} should be positive, or 0 for none")
    expected: tuple[int, ...] = (shape[at],)
    if block_size:
        expected = (*shape[:at], -(-shape[at] // block_size), *shape[at + 1 :])
    if scale != expected:
        kind = f"blocks of {block_size} along" if block_size else "slices of"
        raise ValueError(
            f"a scale for {kind} axis {at} of data {shape} has shape {expected} or one element, not {scale}"
        )
    return at


# ---- rounding into a narrow type ------------------------------------------------------------------------------


def limits(dtype: str) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    if dtype in _LIMITS:
        return _LIMITS[dtype]
    found = np.iinfo(dtype)
    return int(found.min), int(found.max)


def quantized(ratio: Array, zero_point: Array | None, to: str, saturate: int = 1) -> Array:
    """``saturate(round(ratio) + zero_point)`` in the type named ``to``: rounded half to even; NaN as 0.

    Into a float type nothing but the cast rounds.

    Args:
        ratio: float [...]: data divided by its scale.
        zero_point: broadcasts against it, or None for 0.
        to: an element type's name.
        saturate: of 8-bit floats, as for Cast.
    """
    # float32 is exact where it matters: sums beyond 2**24 are far outside of every 16-bit range.
    wide = ratio.astype(np.float32) if ratio.dtype.itemsize < 4 else ratio
    offset = None if zero_point is None else zero_point.astype(wide.dtype)
    with quiet():
        if DTYPES[to].kind == "f":
            return convert(wide if offset is None else wide + offset, to, saturate)
        rounded = np.rint(wide)
        low, high = limits(to)
        shifted = np.where(np.isnan(rounded), wide.dtype.type(0), rounded)
        shifted = shifted if offset is None else shifted + offset
        return convert(np.clip(shifted, low, high), to)


def requantized(total: Array, multiplier: Array, zero_point: Array) -> Array:
    """An accumulator scaled down into the type of ``zero_point``: int32 (or float32) [...], float -> [...].

    In float32 throughout, as inference engines do it: what is near a half then rounds the same way.
    """
    with quiet():
        ratio = total.astype(np.float32) * multiplier.astype(np.float32)
    return quantized(ratio, zero_point, dtype_name(zero_point.dtype))


# ---- exact integers -------------------------------------------------------------------------------------------


def centered(x: Array, zero_point: Array | None, terms: int) -> Array:
    """``x - zero_point`` as floats in which a sum of ``terms`` products of two such numbers is exact.

    BLAS multiplies floats and integers it does not; differences of 8-bit integers have at most 9 bits.

    Args:
        x: int8 or uint8 [...].
        zero_point: broadcasts against it, or None.
        terms: how many products are added up.
    """
    dtype = np.float32 if terms * 255 * 255 < 2**24 else np.float64
    wide = x.astype(dtype)
    return wide if zero_point is None else wide - zero_point.astype(dtype)


def as_int32(total: Array) -> Array:
    """A sum of products as int32, modulo 2**32."""
    return total.astype(np.int64).astype(np.int32)


def output_name(zero_point: Any, output_dtype: int, name_of_code: Any) -> str:
    """The element type that QuantizeLinear makes; ``zero_point`` is an array, a `TensorType` or None.

    Raises:
        ValueError: zero point and ``output_dtype`` disagree.
    """
    asked = name_of_code(output_dtype) if output_dtype else None
    if zero_point is None:
        return asked or "uint8"
    given = zero_point.dtype if isinstance(zero_point, TensorType) else dtype_name(zero_point.dtype)
    if asked and given and asked != given:
        raise ValueError(f"output_dtype is {asked}, but the zero point is {given}; they should be equal")
    return given or asked or "uint8"
