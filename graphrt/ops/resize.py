"""Resize and Upsample: separable interpolation.

Each resized axis has a small table: for every output position, which input positions it reads and with what
weights. Applying a table is linear in x; its adjoint is the derivative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from graphrt.op import op
from graphrt.ops._windows import wide
from graphrt.types import Dim, TensorType

Array: TypeAlias = Any
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


def _present(v: Array | None) -> Array | None:
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
    assert sizes is not None
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
        return at * ((n - 1) / (out - 1)) if out > 1 else np.zeros(out)
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


def _tables(
    shape: Ints, roi: Array | None, scales: Array | None, sizes: Array | None, axes: Ints | None, policy: str, how: How
) -> list[Table]:
    out, scale = _targets(shape, _present(scales), _present(sizes), axes, policy)
    crop = how.coordinates == "tf_crop_and_resize"
    roi = _present(roi)
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
        parts = (np.take(x, t.index[:, k], axis=t.axis) * _along(weight[:, k], t.axis, x.ndim) for k in range(weight.shape[1]))
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


def _value(x: Array, tables: list[Table], fill: float) -> Array:
    if all(t.weight is None for t in tables):
        return _apply(x, tables, fill)
    if x.dtype.kind in "iub":
        y, limits = np.rint(_apply(x.astype(np.float64), tables, fill)), np.iinfo(x.dtype)
        return np.clip(y, limits.min, limits.max).astype(x.dtype)
    return _apply(wide(x), tables, fill).astype(x.dtype, copy=False)


def _vjp(ct: Array, tables: list[Table]) -> Array:
    return _apply_adjoint(wide(ct), tables).astype(ct.dtype, copy=False)


def _resized_type(
    x: TensorType, scales: Array | None, sizes: Array | None, axes: Ints | None = None, policy: str = "stretch"
) -> TensorType:
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


# ---- Resize --------------------------------------------------------------------------------------------------


@op("Resize", version=11, nondiff=("roi", "scales", "sizes"))
def resize(
    x: Array, roi: Array = None, scales: Array = None, sizes: Array = None, *, antialias: int = 0,
    axes: tuple[int, ...] | None = None, coordinate_transformation_mode: str = "half_pixel", cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0, extrapolation_value: float = 0.0, keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest", nearest_mode: str = "round_prefer_floor",
) -> Array:  # fmt: skip
    """Resizes axes by nearest, linear or cubic interpolation.

    x: [d1, ...]; roi: float [2 k], scales: float [k] or sizes: int64 [k], for the k ``axes`` (all by default)
    -> y: of x's dtype, axis sizes floor(d * scale) or as given. Each axis maps output positions back to input
    positions (``coordinate_transformation_mode``) and mixes what it finds there: the tent, Keys' cubic, stretched
    by 1/scale when shrinking with ``antialias``; positions off the edge repeat it, or are left out.
    roi serves tf_crop_and_resize only. dy/dx is the adjoint interpolation. Source: ONNX operator spec.
    """
    how = How(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, exclude_outside, antialias)
    return _value(x, _tables(x.shape, roi, scales, sizes, axes, keep_aspect_ratio_policy, how), extrapolation_value)


@resize.vjp("x")
def _(  # type: ignore[no-untyped-def]
    ct, x_like, roi, scales, sizes, antialias, axes, coordinate_transformation_mode, cubic_coeff_a, exclude_outside,
    keep_aspect_ratio_policy, mode, nearest_mode,
):  # fmt: skip
    how = How(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, exclude_outside, antialias)
    return _vjp(ct, _tables(x_like.shape, roi, scales, sizes, axes, keep_aspect_ratio_policy, how))


@resize.jvp("x")
def _(  # type: ignore[no-untyped-def]
    x_dot, roi, scales, sizes, antialias, axes, coordinate_transformation_mode, cubic_coeff_a, exclude_outside,
    keep_aspect_ratio_policy, mode, nearest_mode,
):  # fmt: skip
    how = How(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, exclude_outside, antialias)
    return _value(x_dot, _tables(x_dot.shape, roi, scales, sizes, axes, keep_aspect_ratio_policy, how), 0.0)


@resize.infer
def _(x, scales_value, sizes_value, axes, keep_aspect_ratio_policy):  # type: ignore[no-untyped-def]
    return _resized_type(x, _present(scales_value), _present(sizes_value), axes, keep_aspect_ratio_policy)


@resize.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(1, 2, 4, 5))
    up, down = np.array([1, 1, 2, 1.7], np.float32), np.array([1, 1, 0.6, 0.45], np.float32)
    none = None, None
    for mode in ("nearest", "linear", "cubic"):
        for where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric"):
            yield (x, None, down if where.startswith("p") else up), {"mode": mode, "coordinate_transformation_mode": where}
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
        yield (x, None, down), {"nearest_mode": rounding}
    yield (x, None, up), {"coordinate_transformation_mode": "tf_half_pixel_for_nn"}
    yield (x, None, down), {"mode": "linear", "antialias": 1}
    yield (x, None, down), {"mode": "cubic", "antialias": 1, "exclude_outside": 1, "cubic_coeff_a": -0.5}
    crop = {"coordinate_transformation_mode": "tf_crop_and_resize", "axes": (2, -1), "extrapolation_value": 10.0}
    for mode in ("nearest", "linear"):
        yield (x, np.array([0.2, 0.4, 0.8, 1.3]), None, np.array([3, 6])), {"mode": mode, **crop}
    for policy in ("not_larger", "not_smaller"):
        yield (x, *none, np.array([7, 6])), {"mode": "linear", "axes": (3, 2), "keep_aspect_ratio_policy": policy}
    yield (x, np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([1, 2, 1, 9])), {"mode": "linear"}
    yield (np.zeros((0, 2, 3)), None, np.array([1, 1, 2], np.float32)), {"mode": "linear"}


# ---- older forms ---------------------------------------------------------------------------------------------

_LEGACY = {
    "nearest": How("nearest", "asymmetric", "ceil_when_smaller"),
    "linear": How("linear", "asymmetric"),
    "bilinear": How("linear", "asymmetric"),
}


def _legacy_tables(shape: Ints, scales: Any, mode: str) -> list[Table]:
    if mode not in _LEGACY:
        raise ValueError(f"mode {mode!r} is unknown; there are {', '.join(_LEGACY)}")
    return _tables(shape, None, np.asarray(scales, np.float32), None, None, "stretch", _LEGACY[mode])


@op("Resize", version=10, linear="x", nondiff="scales")
def resize_10(x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """`Resize` of opset 10: positions are x_resized / scale.

    x: [d1, ...], scales: float [rank] -> y: of x's dtype, [floor(d1 * scale1), ...]; mode nearest (rounding down,
    up where an axis shrinks) or linear. Source: ONNX operator spec; rounding as in ONNX Runtime.
    """
    return _value(x, _legacy_tables(x.shape, scales, mode), 0.0)


@resize_10.vjp("x")
def _(ct, x_like, scales, mode):  # type: ignore[no-untyped-def]
    return _vjp(ct, _legacy_tables(x_like.shape, scales, mode))


resize_10.infer(lambda x, scales_value: _resized_type(x, scales_value, None))


@op("Upsample", version=9, linear="x", nondiff="scales")
def upsample(x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """Nearest or linear upsampling; as `Resize` of opset 10.

    x: [d1, ...], scales: float [rank], each >= 1 -> y: of x's dtype, [floor(d1 * scale1), ...].
    Source: ONNX operator spec.
    """
    return _value(x, _legacy_tables(x.shape, scales, mode), 0.0)


@upsample.vjp("x")
def _(ct, x_like, scales, mode):  # type: ignore[no-untyped-def]
    return _vjp(ct, _legacy_tables(x_like.shape, scales, mode))


upsample.infer(lambda x, scales_value: _resized_type(x, scales_value, None))


@resize_10.examples
@upsample.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for mode in ("nearest", "linear"):
        yield (rng.normal(size=(1, 2, 3, 4)), np.array([1, 1, 2, 2.5], np.float32)), {"mode": mode}
        yield (rng.normal(size=(2, 5)), np.array([1, 1.5], np.float32)), {"mode": mode}


@op("Upsample", version=7, linear="x")
def upsample_7(x: Array, *, mode: str = "nearest", scales: tuple[float, ...]) -> Array:
    """`Upsample` of opset 7, scales an attribute. Source: ONNX operator spec."""
    return _value(x, _legacy_tables(x.shape, scales, mode), 0.0)


@upsample_7.vjp("x")
def _(ct, x_like, mode, scales):  # type: ignore[no-untyped-def]
    return _vjp(ct, _legacy_tables(x_like.shape, scales, mode))


upsample_7.infer(lambda x, scales: _resized_type(x, np.asarray(scales, np.float32), None))


@upsample_7.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(1, 2, 3, 4)),), {"mode": "linear", "scales": (1.0, 1.0, 2.0, 2.5)}
    yield (rng.normal(size=(1, 2, 3)),), {"scales": (1.0, 1.0, 2.0)}


@op("Upsample", version=1, linear="x")
def upsample_1(x: Array, *, height_scale: float, mode: str = "nearest", width_scale: float) -> Array:
    """`Upsample` of opset 1 to 6: x: [N, C, H, W]; mode nearest or bilinear. Source: ONNX operator spec."""
    return _value(x, _legacy_tables(x.shape, (1, 1, height_scale, width_scale), mode), 0.0)


@upsample_1.vjp("x")
def _(ct, x_like, height_scale, mode, width_scale):  # type: ignore[no-untyped-def]
    return _vjp(ct, _legacy_tables(x_like.shape, (1, 1, height_scale, width_scale), mode))


upsample_1.infer(
    lambda x, height_scale, width_scale: _resized_type(x, np.array([1, 1, height_scale, width_scale], np.float32), None)
)


@upsample_1.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for mode in ("nearest", "bilinear"):
        yield (rng.normal(size=(1, 2, 3, 4)),), {"mode": mode, "height_scale": 2.0, "width_scale": 1.5}


OPS = (resize, resize_10, upsample, upsample_7, upsample_1)
