"""Separable interpolation: the tables behind Resize and Upsample.

Each resized axis has a table: for every output position, which input positions it reads and with what weights.
Applying a table is linear in x; its adjoint is the derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from graphrt.op import Array
from graphrt.ops._windows import wide
from graphrt.types import Dim, TensorType

Ints: TypeAlias = tuple[int, ...]

_DENSE_LIMIT = 1 << 22  # largest interpolation matrix to build; beyond, cotangents are scattered


class Table(NamedTuple):
    """How one axis is read: ``index`` and ``weight`` [out, taps] (no weights: one tap of weight 1)."""

    axis: int
    size: int
    index: Array
    weight: Array | None
    outside: Array | None  # bool [out]: positions that take the extrapolation value


class How(NamedTuple):
    """The attributes that say how positions and weights are found."""

    mode: str
    coordinates: str
    nearest_mode: str = "round_prefer_floor"
    cubic_coeff_a: float = -0.75
    exclude_outside: int = 0
    antialias: int = 0


# ---- sizes and coordinates -----------------------------------------------------------------------------------


def present(v: Array | None) -> Array | None:
    """An optional input, absent also when it is empty."""
    return None if v is None or v.size == 0 else v


def _targets(
    shape: Sequence[int], scales: Array | None, sizes: Array | None, axes: Ints | None, policy: str
) -> tuple[dict[int, int], dict[int, float]]:
    """Axis to output size, and axis to scale."""
    over = tuple(range(len(shape))) if axes is None else tuple(a % len(shape) for a in axes)
    given = scales if scales is not None else sizes
    if given is None or (scales is not None and sizes is not None):
        raise ValueError("give exactly one of scales and sizes")
    if len(given) != len(over):
        raise ValueError(f"{len(given)} scales or sizes for {len(over)} axes")
    if scales is not None:
        if not np.all(scales > 0):
            raise ValueError(f"scales {scales.tolist()} must be positive")
        # the product in the scales' own dtype: 10 * float32(0.7) is meant to be 7
        out = {a: int(np.floor(scales.dtype.type(shape[a]) * s)) for a, s in zip(over, scales, strict=True)}
        return out, {a: float(s) for a, s in zip(over, scales, strict=True)}
    sizes = given
    ratios = {a: int(n) / max(shape[a], 1) for a, n in zip(over, sizes, strict=True)}
    if policy == "stretch":
        return {a: int(n) for a, n in zip(over, sizes, strict=True)}, ratios
    if policy not in ("not_larger", "not_smaller"):
        raise ValueError(f"keep_aspect_ratio_policy is stretch, not_larger or not_smaller, not {policy!r}")
    scale = (min if policy == "not_larger" else max)(ratios.values(), default=1.0)
    return {a: int(scale * shape[a] + 0.5) for a in over}, dict.fromkeys(over, scale)


def _positions(n: int, out: int, scale: float, coordinates: str, roi: tuple[float, float]) -> Array:
    """Where each output position lies on the input axis, float64 [out]."""
    at = np.arange(out, dtype=np.float64)
    if coordinates == "half_pixel" or (coordinates == "pytorch_half_pixel" and out > 1):
        return (at + 0.5) / scale - 0.5
    if coordinates == "pytorch_half_pixel":
        return np.zeros(out)
    if coordinates == "half_pixel_symmetric":
        return n / 2 * (1 - out / (scale * n)) + (at + 0.5) / scale - 0.5
    if coordinates == "align_corners":
        length = scale * n  # not rounded to a whole number of positions: so the ONNX test suite has it
        length = round(length) if abs(length - round(length)) < 1e-5 * length else length
        return at * ((n - 1) / (length - 1)) if length > 1 and out > 1 else np.zeros(out)
    if coordinates == "asymmetric":
        return at / scale
    if coordinates == "tf_half_pixel_for_nn":
        return (at + 0.5) / scale
    if coordinates == "tf_crop_and_resize":
        start, end = roi
        if out > 1:
            return start * (n - 1) + at * ((end - start) * (n - 1) / (out - 1))
        return np.full(out, 0.5 * (start + end) * (n - 1))
    raise ValueError(f"coordinate_transformation_mode {coordinates!r} is unknown")


def _nearest(x: Array, mode: str, scale: float) -> Array:
    # A scale such as float32(1/3) puts positions a hair beside k or k + 1/2; the position meant decides.
    meant = np.rint(2 * x) / 2
    x = np.where(np.abs(x - meant) < 1e-6 * np.maximum(np.abs(x), 1), meant, x)
    if mode == "ceil_when_smaller":
        mode = "ceil" if scale < 1 else "floor"
    if mode == "round_prefer_floor":
        return np.ceil(x - 0.5)
    if mode == "round_prefer_ceil":
        return np.floor(x + 0.5)
    if mode not in ("floor", "ceil"):
        raise ValueError(f"nearest_mode {mode!r} is unknown")
    return np.floor(x) if mode == "floor" else np.ceil(x)


def _kernel(t: Array, mode: str, a: float) -> Array:
    """The weight of a sample at distance t: the tent, or Keys' cubic."""
    t = np.abs(t)
    if mode == "linear":
        return np.maximum(1 - t, 0)
    near = ((a + 2) * t - (a + 3)) * t * t + 1
    far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0))


def _table(axis: int, n: int, out: int, scale: float, how: How, roi: tuple[float, float]) -> Table:
    if n == 0 and out > 0:
        raise ValueError(f"axis {axis} is empty and cannot be resized to {out}")
    x = _positions(n, out, scale, how.coordinates, roi)
    outside = (x < 0) | (x > n - 1) if how.coordinates == "tf_crop_and_resize" else None
    last = max(n - 1, 0)
    if how.mode == "nearest":
        index = np.clip(_nearest(x, how.nearest_mode, scale), 0, last).astype(np.int64)[:, None]
        return Table(axis, n, index, None, outside)
    if how.mode not in ("linear", "cubic"):
        raise ValueError(f"mode {how.mode!r} is unknown; there are nearest, linear, cubic")
    squeeze = min(scale, 1.0) if how.antialias else 1.0
    reach = int(np.ceil((1 if how.mode == "linear" else 2) / squeeze))
    index = np.floor(x).astype(np.int64)[:, None] + np.arange(1 - reach, 1 + reach)
    weight = _kernel((index - x[:, None]) * squeeze, how.mode, how.cubic_coeff_a)
    if how.antialias:
        weight = weight / np.sum(weight, axis=1, keepdims=True)
    if how.exclude_outside:
        weight = np.where((index < 0) | (index > last), 0, weight)
        total = np.sum(weight, axis=1, keepdims=True)
        weight = weight / np.where(total == 0, 1, total)
    return Table(axis, n, np.clip(index, 0, last), weight, outside)


def resize_tables(
    shape: Ints, roi: Array | None, scales: Array | None, sizes: Array | None, axes: Ints | None, policy: str, how: How
) -> list[Table]:
    """The tables of the axes that change; arguments as those of the Resize op.

    Raises:
        ValueError: sizes, scales or roi do not fit the shape, or a mode is unknown.
    """
    out, scale = _targets(shape, present(scales), present(sizes), axes, policy)
    crop = how.coordinates == "tf_crop_and_resize"
    roi = present(roi)
    if crop and (roi is None or roi.size != 2 * len(out)):
        raise ValueError(f"tf_crop_and_resize needs a roi of {2 * len(out)} numbers")
    tables = []
    for i, a in enumerate(out):
        span = (float(roi[i]), float(roi[len(out) + i])) if crop and roi is not None else (0.0, 1.0)
        if out[a] != shape[a] or scale[a] != 1 or span != (0.0, 1.0):
            tables.append(_table(a, shape[a], out[a], scale[a], how, span))
    return tables


# ---- the linear maps -----------------------------------------------------------------------------------------


def _along(v: Array, axis: int, ndim: int) -> Array:
    return v.reshape(-1, *(1,) * (ndim - axis - 1))


def _apply(x: Array, tables: list[Table], fill: float) -> Array:
    for t in tables:
        if t.weight is None:
            x = np.take(x, t.index[:, 0], axis=t.axis)
            continue
        weight = t.weight.astype(x.dtype)
        parts = (
            np.take(x, t.index[:, k], axis=t.axis) * _along(weight[:, k], t.axis, x.ndim)
            for k in range(weight.shape[1])
        )
        x = sum(parts, next(parts))
    outside = _outside(tables, x.ndim)
    return x if outside is None else np.where(outside, x.dtype.type(fill), x)


def _apply_adjoint(ct: Array, tables: list[Table]) -> Array:
    outside = _outside(tables, ct.ndim)
    ct = ct if outside is None else np.where(outside, ct.dtype.type(0), ct)
    for t in reversed(tables):
        out, taps = t.index.shape
        weight = np.ones((out, 1), ct.dtype) if t.weight is None else t.weight.astype(ct.dtype)
        moved = np.moveaxis(ct, t.axis, -1)
        if out * t.size <= _DENSE_LIMIT:
            matrix = np.zeros((out, t.size), ct.dtype)
            np.add.at(matrix, (np.arange(out)[:, None], t.index), weight)
            moved = np.matmul(moved, matrix)
        else:
            spread = np.zeros((t.size, *moved.shape[:-1]), ct.dtype, like=ct)
            rows = np.moveaxis(moved, -1, 0)
            for k in range(taps):
                np.add.at(spread, t.index[:, k], rows * _along(weight[:, k], 0, rows.ndim))
            moved = np.moveaxis(spread, 0, -1)
        ct = np.moveaxis(moved, -1, t.axis)
    return ct


def _outside(tables: list[Table], ndim: int) -> Array | None:
    masks = [_along(t.outside, t.axis, ndim) for t in tables if t.outside is not None and t.outside.any()]
    return None if not masks else sum(masks[1:], masks[0]) > 0


def apply_tables(x: Array, tables: list[Table], fill: float) -> Array:
    """Resizes x, rounding what becomes of integers; ``fill`` is the extrapolation value."""
    if all(t.weight is None for t in tables):
        return _apply(x, tables, fill)
    if x.dtype.kind in "iub":
        y, limits = np.rint(_apply(x.astype(np.float64), tables, fill)), np.iinfo(x.dtype)
        return np.clip(y, limits.min, limits.max).astype(x.dtype)
    return _apply(wide(x), tables, fill).astype(x.dtype, copy=False)


def apply_tables_adjoint(ct: Array, tables: list[Table]) -> Array:
    """The adjoint of `apply_tables`, as a map of x."""
    return _apply_adjoint(wide(ct), tables).astype(ct.dtype, copy=False)


def resized_type(
    x: TensorType, scales: Array | None, sizes: Array | None, axes: Ints | None = None, policy: str = "stretch"
) -> TensorType:
    """The output's type, as far as scales or sizes are known constants."""
    if x.shape is None:
        return TensorType(x.dtype)
    rank = len(x.shape)
    over = tuple(range(rank)) if axes is None else tuple(a % rank for a in axes)
    dims: list[Dim] = list(x.shape)
    given = scales if scales is not None else sizes
    for i, a in enumerate(over):
        if given is None:
            dims[a] = None
        elif scales is not None:
            _set_scaled(dims, a, scales[i])
        else:
            dims[a] = int(given[i]) if policy == "stretch" else None
    if sizes is not None and policy != "stretch" and all(isinstance(x.shape[a], int) for a in over):
        out, _ = _targets([n if isinstance(n, int) else 1 for n in x.shape], None, sizes, axes, policy)
        dims = [out.get(i, d) for i, d in enumerate(dims)]
    return TensorType(x.dtype, tuple(dims))


def _set_scaled(dims: list[Dim], axis: int, scale: Any) -> None:
    n = dims[axis]
    if isinstance(n, int):
        dims[axis] = int(np.floor(scale.dtype.type(n) * scale))
    elif scale != 1:
        dims[axis] = None
