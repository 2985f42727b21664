"""Resize and Upsample, in their several schema versions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import quiet
from graphrt.ops._resizing import How, Table, apply_tables, apply_tables_adjoint, present, resize_tables, resized_type
from graphrt.ops._windows import Ints
from graphrt.types import TensorType


@op("Resize", version=11, nondiff=("roi", "scales", "sizes"))
def resize(
    x: Array, roi: Array = None, scales: Array = None, sizes: Array = None, *, antialias: int = 0,
    axes: tuple[int, ...] | None = None, coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75, exclude_outside: int = 0, extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch", mode: str = "nearest", nearest_mode: str = "round_prefer_floor",
) -> Array:  # fmt: skip
    """Resizes axes by nearest, linear or cubic interpolation.

    x: [d1, ...]; roi: float [2 k], scales: float [k] or sizes: int64 [k], for the k ``axes`` (all by default)
    -> y: of x's dtype, axis sizes floor(d * scale) or as given. Each axis maps output positions back to input
    positions (``coordinate_transformation_mode``) and mixes what it finds there: the tent, Keys' cubic, stretched
    by 1/scale when shrinking with ``antialias``; positions off the edge repeat it, or are left out.
    roi serves tf_crop_and_resize only. dy/dx is the adjoint interpolation. Source: ONNX operator spec.
    """
    with quiet():
        how = How(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, exclude_outside, antialias)
        return apply_tables(
            x, resize_tables(x.shape, roi, scales, sizes, axes, keep_aspect_ratio_policy, how), extrapolation_value
        )


@resize.vjp("x")
def _(
    ct: Array, x_like: Array, roi: Array | None, scales: Array | None, sizes: Array | None, antialias: int,
    axes: Ints | None, coordinate_transformation_mode: str, cubic_coeff_a: float, exclude_outside: int,
    keep_aspect_ratio_policy: str, mode: str, nearest_mode: str,
) -> Array:  # fmt: skip
    with quiet():
        how = How(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, exclude_outside, antialias)
        return apply_tables_adjoint(
            ct, resize_tables(x_like.shape, roi, scales, sizes, axes, keep_aspect_ratio_policy, how)
        )


@resize.jvp("x")
def _(
    x_dot: Array, roi: Array | None, scales: Array | None, sizes: Array | None, antialias: int, axes: Ints | None,
    coordinate_transformation_mode: str, cubic_coeff_a: float, exclude_outside: int, keep_aspect_ratio_policy: str,
    mode: str, nearest_mode: str,
) -> Array:  # fmt: skip
    with quiet():
        how = How(mode, coordinate_transformation_mode, nearest_mode, cubic_coeff_a, exclude_outside, antialias)
        return apply_tables(
            x_dot, resize_tables(x_dot.shape, roi, scales, sizes, axes, keep_aspect_ratio_policy, how), 0.0
        )


@resize.infer
def _(
    x: TensorType, scales_value: Array | None, sizes_value: Array | None, axes: Ints | None,
    keep_aspect_ratio_policy: str,
) -> Any:  # fmt: skip
    return resized_type(x, present(scales_value), present(sizes_value), axes, keep_aspect_ratio_policy)


@resize.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(1, 2, 4, 5))
    up, down = np.array([1, 1, 2, 1.7], np.float32), np.array([1, 1, 0.6, 0.45], np.float32)
    none = None, None
    for mode in ("nearest", "linear", "cubic"):
        for where in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric", "align_corners", "asymmetric"):
            yield (
                (x, None, down if where.startswith("p") else up),
                {"mode": mode, "coordinate_transformation_mode": where},
            )
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


# ---- older forms ------------------------------------------------------------

_LEGACY = {
    "nearest": How("nearest", "asymmetric", "ceil_when_smaller"),
    "linear": How("linear", "asymmetric"),
    "bilinear": How("linear", "asymmetric"),
}


def legacy_tables(shape: Ints, scales: Any, mode: str) -> list[Table]:
    """The tables of `Resize` before opset 11, and of `Upsample`.

    Raises:
        ValueError: the mode is unknown, or the scales do not fit the shape.
    """
    if mode not in _LEGACY:
        raise ValueError(f"mode {mode!r} is unknown; there are {', '.join(_LEGACY)}")
    return resize_tables(shape, None, np.asarray(scales, np.float32), None, None, "stretch", _LEGACY[mode])


@op("Resize", version=10, linear="x", nondiff="scales")
def resize_10(x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """`Resize` of opset 10: positions are x_resized / scale.

    x: [d1, ...], scales: float [rank] -> y: of x's dtype, [floor(d1 * scale1), ...]; mode nearest (rounding down,
    up where an axis shrinks) or linear. Source: ONNX operator spec; rounding as in ONNX Runtime.
    """
    with quiet():
        return apply_tables(x, legacy_tables(x.shape, scales, mode), 0.0)


@resize_10.vjp("x")
def _(ct: Array, x_like: Array, scales: Array, mode: str) -> Array:
    with quiet():
        return apply_tables_adjoint(ct, legacy_tables(x_like.shape, scales, mode))


resize_10.infer(lambda x, scales_value: resized_type(x, scales_value, None))


@op("Upsample", version=9, linear="x", nondiff="scales")
def upsample(x: Array, scales: Array, *, mode: str = "nearest") -> Array:
    """Nearest or linear upsampling; as `Resize` of opset 10.

    x: [d1, ...], scales: float [rank], each >= 1 -> y: of x's dtype, [floor(d1 * scale1), ...].
    Source: ONNX operator spec.
    """
    with quiet():
        return apply_tables(x, legacy_tables(x.shape, scales, mode), 0.0)


@upsample.vjp("x")
def _(ct: Array, x_like: Array, scales: Array, mode: str) -> Array:
    with quiet():
        return apply_tables_adjoint(ct, legacy_tables(x_like.shape, scales, mode))


upsample.infer(lambda x, scales_value: resized_type(x, scales_value, None))


@resize_10.examples
@upsample.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for mode in ("nearest", "linear"):
        yield (rng.normal(size=(1, 2, 3, 4)), np.array([1, 1, 2, 2.5], np.float32)), {"mode": mode}
        yield (rng.normal(size=(2, 5)), np.array([1, 1.5], np.float32)), {"mode": mode}


@op("Upsample", version=7, linear="x")
def upsample_7(x: Array, *, mode: str = "nearest", scales: tuple[float, ...]) -> Array:
    """`Upsample` of opset 7, scales an attribute. Source: ONNX operator spec."""
    with quiet():
        return apply_tables(x, legacy_tables(x.shape, scales, mode), 0.0)


@upsample_7.vjp("x")
def _(ct: Array, x_like: Array, mode: str, scales: tuple[float, ...]) -> Array:
    with quiet():
        return apply_tables_adjoint(ct, legacy_tables(x_like.shape, scales, mode))


upsample_7.infer(lambda x, scales: resized_type(x, np.asarray(scales, np.float32), None))


@upsample_7.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(1, 2, 3, 4)),), {"mode": "linear", "scales": (1.0, 1.0, 2.0, 2.5)}
    yield (rng.normal(size=(1, 2, 3)),), {"scales": (1.0, 1.0, 2.0)}


@op("Upsample", version=1, linear="x")
def upsample_1(x: Array, *, height_scale: float, mode: str = "nearest", width_scale: float) -> Array:
    """`Upsample` of opset 1 to 6: x: [N, C, H, W]; mode nearest or bilinear. Source: ONNX operator spec."""
    with quiet():
        return apply_tables(x, legacy_tables(x.shape, (1, 1, height_scale, width_scale), mode), 0.0)


@upsample_1.vjp("x")
def _(ct: Array, x_like: Array, height_scale: float, mode: str, width_scale: float) -> Array:
    with quiet():
        return apply_tables_adjoint(ct, legacy_tables(x_like.shape, (1, 1, height_scale, width_scale), mode))


upsample_1.infer(
    lambda x, height_scale, width_scale: resized_type(x, np.array([1, 1, height_scale, width_scale], np.float32), None)
)


@upsample_1.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for mode in ("nearest", "bilinear"):
        yield (rng.normal(size=(1, 2, 3, 4)),), {"mode": mode, "height_scale": 2.0, "width_scale": 1.5}


OPS = (resize, resize_10, upsample, upsample_7, upsample_1)
