"""Pooling over regions of interest: RoiAlign and MaxRoiPool.

Every bin of every region is read tap by tap, all regions, bins and channels at once; regions with fewer taps
than the largest leave the rest out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import quiet
from graphrt.ops._windows import wide, zeros_for
from graphrt.types import TensorType

_MAX_TAPS = 4096  # per bin and axis: a region of that size is a mistake, and would take forever


# ---- RoiAlign ------------------------------------------------------------------------------------------------


class Span(NamedTuple):
    """One axis of all regions: where each starts, its extent, taps per bin; and d extent / d (end - start)."""

    start: Array
    extent: Array
    taps: Array
    stretch: Array


class Sample(NamedTuple):
    """One tap along one axis: its two neighbors, d position / d extent, and which regions have it."""

    neighbors: tuple[tuple[Array, Array, Array], ...]  # index, weight, slope, each [R, bins]
    fraction: Array  # [R, bins]
    exists: Array  # bool [R]


def _span(rois: Array, axis: int, scale: float, shift: float, sampling_ratio: int, bins: int) -> Span:
    start, end = (rois[:, axis + k] * rois.dtype.type(scale) - rois.dtype.type(shift) for k in (0, 2))
    extent = end - start
    stretch = np.ones(extent.shape, rois.dtype)
    if not shift:  # the older convention makes every region at least one pixel large
        stretch = (extent > 1).astype(rois.dtype)
        extent = np.maximum(extent, rois.dtype.type(1))
    if sampling_ratio > 0:
        return Span(start, extent, np.full(len(rois), sampling_ratio), stretch)
    taps = np.ceil(extent / bins)
    if np.any(taps > _MAX_TAPS):
        raise ValueError(f"a region spans {np.max(extent):g} pixels; give a sampling_ratio for regions so large")
    return Span(start, extent, np.where(taps > 0, taps, 0).astype(np.int64), stretch)


def _samples(span: Span, bins: int, n: int) -> list[Sample]:
    """All taps of one axis; where a region has no such tap, or it lies outside the image, the weights are 0."""
    dtype, result = span.extent.dtype, []
    for k in range(int(np.max(span.taps, initial=0))):
        fraction = (np.arange(bins) + (k + 0.5) / np.maximum(span.taps, 1)[:, None]) / bins
        fraction = fraction.astype(dtype)
        p = span.start[:, None] + fraction * span.extent[:, None]
        counts = (k < span.taps)[:, None] & (p >= -1) & (p <= n)
        inside = np.clip(np.where(np.isnan(p), dtype.type(0), p), 0, n - 1)
        low = np.minimum(np.floor(inside).astype(np.int64), n - 1)
        high = np.minimum(low + 1, n - 1)
        on = counts.astype(dtype)
        away = inside - low.astype(dtype)
        slope = on * ((p > 0) & (p < n - 1))
        result.append(Sample(((low, (1 - away) * on, -slope), (high, away * on, slope)), fraction, k < span.taps))
    return result


class Taps(NamedTuple):
    """The taps of both axes, how many a bin averages [R, 1, 1, 1], and each region's image."""

    rows: list[Sample]
    columns: list[Sample]
    count: Array
    image: Array
    spans: tuple[Span, Span]

    def corners(self) -> Iterator[tuple[Any, Array, Array, Array, Sample, Sample]]:
        """Yields (index into x, weight, its slope along rows, along columns [R, 1, H, W], row tap, column tap)."""
        for row in self.rows:
            for column in self.columns:
                for i, wi, si in row.neighbors:
                    for j, wj, sj in column.neighbors:
                        at = i[:, None, :, None], j[:, None, None, :]
                        wi_, si_, wj_, sj_ = (
                            wi[:, None, :, None],
                            si[:, None, :, None],
                            wj[:, None, None],
                            sj[:, None, None],
                        )
                        yield at, wi_ * wj_, si_ * wj_, wi_ * sj_, row, column


def _taps(
    x: Array,
    rois: Array,
    batch_indices: Array,
    half_pixel: bool,
    height: int,
    sampling_ratio: int,
    width: int,
    scale: float,
) -> Taps:
    if x.ndim != 4 or rois.ndim != 2 or rois.shape[1] != 4 or batch_indices.shape != rois.shape[:1]:
        raise ValueError(
            f"x {x.shape}, rois {rois.shape}, batch_indices {batch_indices.shape}: want [N, C, H, W], [R, 4], [R]"
        )
    if len(rois) and not (batch_indices.min() >= 0 and batch_indices.max() < x.shape[0]):
        raise ValueError(f"batch_indices must lie in 0..{x.shape[0] - 1}")
    rois, shift = wide(rois), 0.5 if half_pixel else 0.0
    down = _span(rois, 1, scale, shift, sampling_ratio, height)
    across = _span(rois, 0, scale, shift, sampling_ratio, width)
    count = np.maximum(down.taps * across.taps, 1).reshape(-1, 1, 1, 1)
    image = batch_indices.reshape(-1, 1, 1, 1)
    return Taps(_samples(down, height, x.shape[2]), _samples(across, width, x.shape[3]), count, image, (down, across))


def _channels(x: Array) -> Array:
    return np.arange(x.shape[1])[:, None, None]


def _align(x: Array, taps: Taps, shape: tuple[int, ...], mode: str) -> Array:
    wide_x, c = wide(x), _channels(x)
    total = zeros_for(shape, wide_x, taps.spans[0].extent)
    if mode == "avg":
        for at, weight, *_ in taps.corners():
            total = total + wide_x[taps.image, c, *at] * weight
        return (total / taps.count.astype(total.dtype)).astype(x.dtype, copy=False)
    if mode != "max":
        raise ValueError(f"mode {mode!r} is unknown; there are avg, max")
    first = True
    for at, weight, _, _, row, column in taps.corners():
        value = wide_x[taps.image, c, *at] * weight
        total = value if first else np.where(_exists(row, column), np.maximum(total, value), total)
        first = False
    return total.astype(x.dtype, copy=False)


def _exists(row: Sample, column: Sample) -> Array:
    """bool [R, 1, 1, 1]: regions that have this tap."""
    return (row.exists & column.exists).reshape(-1, 1, 1, 1)


def _factors(
    x: Array, taps: Taps, shape: tuple[int, ...], mode: str
) -> Iterator[tuple[Any, Array, Array, Array, Sample, Sample]]:
    """As `Taps.corners`, weights and slopes divided by the count, or kept only where this corner is the maximum."""
    if mode == "avg":
        inverse = 1 / taps.count.astype(taps.spans[0].extent.dtype)
        for at, weight, down, across, row, column in taps.corners():
            yield at, weight * inverse, down * inverse, across * inverse, row, column
        return
    wide_x, c = wide(x), _channels(x)
    top, free = _align(wide_x, taps, shape, mode), np.ones(shape, bool)
    for at, weight, down, across, row, column in taps.corners():
        won = (wide_x[taps.image, c, *at] * weight == top) & free & _exists(row, column)
        free &= ~won
        yield at, won * weight, won * down, won * across, row, column


def _align_vjp(ct: Array, x: Array, rois: Array, taps: Taps, scale: float, mode: str) -> tuple[Array, Array | None]:
    c, wide_x, ct = _channels(x), wide(x), wide(ct)
    x_ct = zeros_for(x.shape, ct, wide_x, taps.spans[0].extent)
    starts, extents = [0, 0], [0, 0]
    for at, weight, *slopes, row, column in _factors(x, taps, ct.shape, mode):
        np.add.at(x_ct, (taps.image, c, *at), ct * weight)
        along = ct * wide_x[taps.image, c, *at]
        for a, (slope, fraction) in enumerate(
            zip(slopes, (row.fraction[:, None, :, None], column.fraction[:, None, None]), strict=True)
        ):
            starts[a] = starts[a] + np.sum(along * slope, axis=(1, 2, 3))
            extents[a] = extents[a] + np.sum(along * slope * fraction, axis=(1, 2, 3))
    ends = [e * s.stretch for e, s in zip(extents, taps.spans, strict=True)]
    if taps.rows and taps.columns:
        (y1, x1), (y2, x2) = (starts[0] - ends[0], starts[1] - ends[1]), ends
        rois_ct = (np.stack([x1, y1, x2, y2], axis=1) * scale).astype(rois.dtype, copy=False)
    else:
        rois_ct = None
    return x_ct.astype(x.dtype, copy=False), rois_ct


def _align_rois_jvp(rois_dot: Array, x: Array, taps: Taps, shape: tuple[int, ...], scale: float, mode: str) -> Array:
    c, wide_x = _channels(x), wide(x)
    x1, y1, x2, y2 = (wide(rois_dot)[:, k] * scale for k in range(4))
    down_dot, across_dot = (
        (start, (end - start) * s.stretch) for start, end, s in ((y1, y2, taps.spans[0]), (x1, x2, taps.spans[1]))
    )
    total = zeros_for(shape, wide_x, down_dot[0])
    for at, _, down, across, row, column in _factors(x, taps, shape, mode):
        rows = down_dot[0][:, None] + row.fraction * down_dot[1][:, None]
        columns = across_dot[0][:, None] + column.fraction * across_dot[1][:, None]
        total = total + wide_x[taps.image, c, *at] * (down * rows[:, None, :, None] + across * columns[:, None, None])
    return total.astype(x.dtype, copy=False)


def _align_x_jvp(x_dot: Array, x: Array, taps: Taps, shape: tuple[int, ...], mode: str) -> Array:
    c, wide_dot = _channels(x), wide(x_dot)
    total = zeros_for(shape, wide_dot, wide(x))
    for at, weight, *_ in _factors(x, taps, shape, mode):
        total = total + wide_dot[taps.image, c, *at] * weight
    return total.astype(x.dtype, copy=False)


def _is_half_pixel(mode: str) -> bool:
    if mode not in ("half_pixel", "output_half_pixel"):
        raise ValueError(f"coordinate_transformation_mode is half_pixel or output_half_pixel, not {mode!r}")
    return mode == "half_pixel"


@op("RoiAlign", version=16, nondiff="batch_indices")
def roi_align(
    x: Array, rois: Array, batch_indices: Array, *, coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg", output_height: int = 1, output_width: int = 1, sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Array:  # fmt: skip
    """Pools regions of an image into bins, reading by bilinear interpolation.

    x: float [N, C, H, W], rois: float [R, 4] = (x1, y1, x2, y2), batch_indices: int64 [R] -> y: float [R, C, h, w].
    A bin averages sampling_ratio^2 evenly spaced points (0: as many as it has pixels, rounded up), points off the image
    by more than a pixel counting as 0. ``mode="max"`` takes the largest weighted corner of all points.
    ``half_pixel`` shifts the regions by -1/2; otherwise a region is at least one pixel large.
    Derivatives for x and rois follow the weights; ties of ``max`` go to the first. Source: ONNX operator spec; He 2017.
    """
    with quiet():
        taps = _taps(
            x, rois, batch_indices, _is_half_pixel(coordinate_transformation_mode), output_height, sampling_ratio,
            output_width, spatial_scale,
        )  # fmt: skip
        return _align(x, taps, (len(rois), x.shape[1], output_height, output_width), mode)


@roi_align.vjp("x", "rois")
def _(
    ct: Array, x: Array, rois: Array, batch_indices: Array, coordinate_transformation_mode: str, mode: str,
    output_height: int, output_width: int, sampling_ratio: int, spatial_scale: float,
) -> Any:  # fmt: skip
    with quiet():
        half = _is_half_pixel(coordinate_transformation_mode)
        taps = _taps(x, rois, batch_indices, half, output_height, sampling_ratio, output_width, spatial_scale)
        return _align_vjp(ct, x, rois, taps, spatial_scale, mode)


@roi_align.jvp("x")
def _(
    x_dot: Array, x: Array, rois: Array, batch_indices: Array, y_like: Array, coordinate_transformation_mode: str,
    mode: str, output_height: int, output_width: int, sampling_ratio: int, spatial_scale: float,
) -> Array:  # fmt: skip
    with quiet():
        half = _is_half_pixel(coordinate_transformation_mode)
        taps = _taps(x, rois, batch_indices, half, output_height, sampling_ratio, output_width, spatial_scale)
        return _align_x_jvp(x_dot, x, taps, y_like.shape, mode)


@roi_align.jvp("rois")
def _(
    rois_dot: Array, x: Array, rois: Array, batch_indices: Array, y_like: Array, coordinate_transformation_mode: str,
    mode: str, output_height: int, output_width: int, sampling_ratio: int, spatial_scale: float,
) -> Array:  # fmt: skip
    with quiet():
        half = _is_half_pixel(coordinate_transformation_mode)
        taps = _taps(x, rois, batch_indices, half, output_height, sampling_ratio, output_width, spatial_scale)
        return _align_rois_jvp(rois_dot, x, taps, y_like.shape, spatial_scale, mode)


def _region_type(x: TensorType, rois: TensorType, height: int, width: int) -> TensorType:
    if x.shape is not None and len(x.shape) != 4:
        raise ValueError(f"x of rank {len(x.shape)} is no [N, C, H, W]")
    return TensorType(x.dtype, (rois.shape[0] if rois.shape else None, x.shape[1] if x.shape else None, height, width))


roi_align.infer(lambda x, rois, output_height, output_width: _region_type(x, rois, output_height, output_width))


@roi_align.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, image = rng.normal(size=(2, 2, 5, 6)), np.array([0, 1, 1])
    rois = np.array([[0.3, 0.4, 3.2, 2.9], [-2.1, 1.3, 9.4, 8.2], [1.7, 1.6, 2.1, 2.2]])
    size = {"output_height": 2, "output_width": 3}
    for where in ("half_pixel", "output_half_pixel"):
        yield (x, rois, image), {"coordinate_transformation_mode": where, **size}
        yield (
            (x, rois, image),
            {"coordinate_transformation_mode": where, "sampling_ratio": 2, "spatial_scale": 0.6, **size},
        )
    yield (x**2 + 1, rois[:1], image[:1]), {"mode": "max", "sampling_ratio": 2, **size}
    yield (x, np.zeros((0, 4)), np.zeros(0, np.int64)), size


@op("RoiAlign", version=10, nondiff="batch_indices")
def roi_align_10(
    x: Array, rois: Array, batch_indices: Array, *, mode: str = "avg", output_height: int = 1, output_width: int = 1,
    sampling_ratio: int = 0, spatial_scale: float = 1.0,
) -> Array:  # fmt: skip
    """`RoiAlign` of opsets 10 to 15: coordinates as in output_half_pixel. Source: ONNX operator spec."""
    with quiet():
        taps = _taps(x, rois, batch_indices, False, output_height, sampling_ratio, output_width, spatial_scale)
        return _align(x, taps, (len(rois), x.shape[1], output_height, output_width), mode)


@roi_align_10.vjp("x", "rois")
def _(
    ct: Array, x: Array, rois: Array, batch_indices: Array, mode: str, output_height: int, output_width: int,
    sampling_ratio: int, spatial_scale: float,
) -> Any:  # fmt: skip
    with quiet():
        taps = _taps(x, rois, batch_indices, False, output_height, sampling_ratio, output_width, spatial_scale)
        return _align_vjp(ct, x, rois, taps, spatial_scale, mode)


@roi_align_10.jvp("x")
def _(
    x_dot: Array, x: Array, rois: Array, batch_indices: Array, y_like: Array, mode: str, output_height: int,
    output_width: int, sampling_ratio: int, spatial_scale: float,
) -> Array:  # fmt: skip
    with quiet():
        taps = _taps(x, rois, batch_indices, False, output_height, sampling_ratio, output_width, spatial_scale)
        return _align_x_jvp(x_dot, x, taps, y_like.shape, mode)


@roi_align_10.jvp("rois")
def _(
    rois_dot: Array, x: Array, rois: Array, batch_indices: Array, y_like: Array, mode: str, output_height: int,
    output_width: int, sampling_ratio: int, spatial_scale: float,
) -> Array:  # fmt: skip
    with quiet():
        taps = _taps(x, rois, batch_indices, False, output_height, sampling_ratio, output_width, spatial_scale)
        return _align_rois_jvp(rois_dot, x, taps, y_like.shape, spatial_scale, mode)


roi_align_10.infer(lambda x, rois, output_height, output_width: _region_type(x, rois, output_height, output_width))


@roi_align_10.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    rois = np.array([[0.3, 0.4, 3.2, 2.9], [1.7, 1.6, 2.1, 2.2]])
    size = {"output_height": 2, "output_width": 2, "spatial_scale": 0.9}
    yield (rng.normal(size=(2, 2, 5, 6)), rois, np.array([0, 1])), size


OPS = (roi_align, roi_align_10)
