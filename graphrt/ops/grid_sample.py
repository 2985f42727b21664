"""GridSample and AffineGrid: the two halves of a spatial transformer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._interpolation import Corner, corners, gather, scatter, zeros_outside
from graphrt.ops._math import quiet
from graphrt.ops._windows import wide, zeros_for
from graphrt.types import TensorType

_MODES = {"bilinear": "linear", "bicubic": "cubic", "linear": "linear", "cubic": "cubic", "nearest": "nearest"}


# ---- positions -----------------------------------------------------------------------------------------------


def _denormalize(grid: Array, sizes: tuple[int, ...], align_corners: int) -> tuple[Array, Array]:
    """Grid [N, *O, r] to pixel positions [N, P, r] in the order of the axes, and their slope [r]."""
    flat = grid.reshape(grid.shape[0], math.prod(grid.shape[1:-1]), grid.shape[-1])[..., ::-1]
    n = np.array(sizes, grid.dtype)
    slope = ((n - 1) if align_corners else n) / 2
    return (flat + 1) * slope - (0 if align_corners else 0.5), slope


def _reflect(p: Array, n: int, align_corners: int) -> tuple[Array, Array]:
    """Reflects positions at the borders till they are inside; and the sign of the slope."""
    low, span = (0.0, n - 1.0) if align_corners else (-0.5, float(n))
    if span <= 0:
        return p * 0, np.zeros(p.shape, p.dtype)
    away = np.abs(p - low)
    turns = np.floor(away / span)
    rest, odd = away - turns * span, turns % 2 == 1
    sign = np.where(odd, -1, 1) * np.where(p < low, -1, 1)
    return np.where(odd, span - rest, rest) + low, sign.astype(p.dtype)


def _bring_inside(p: Array, n: int, padding: str, align_corners: int) -> tuple[Array, Array | None]:
    """Positions beyond the border of one axis as the padding mode has it, and what that does to the slope."""
    low, high = (0.0, n - 1.0) if align_corners else (-0.5, n - 0.5)
    beyond = (p < low) | (p > high)
    if padding == "zeros" or not np.any(beyond):
        return p, None
    if padding == "border":
        return np.where(beyond, np.clip(p, 0, n - 1), p), np.where(beyond, 0, 1).astype(p.dtype)
    reflected, sign = _reflect(p, n, align_corners)
    return np.where(beyond, reflected, p), np.where(beyond, sign, p.dtype.type(1))


def _resolver(padding: str, align_corners: int) -> Any:
    """What becomes of a corner that lies outside."""
    if padding == "zeros":
        return zeros_outside
    if padding == "border":
        return lambda index, n: (np.clip(index, 0, n - 1), None)
    if padding != "reflection":
        raise ValueError(f"padding_mode {padding!r} is unknown; there are zeros, border, reflection")
    if align_corners:

        def mirror(index: Array, n: int) -> tuple[Array, None]:
            m = np.abs(index) % max(2 * (n - 1), 1)
            return np.minimum(m, 2 * (n - 1) - m), None

    else:

        def mirror(index: Array, n: int) -> tuple[Array, None]:
            m = index % (2 * n)
            return np.minimum(m, 2 * n - 1 - m), None

    return mirror


def _sample_points(
    x_shape: tuple[int, ...], grid: Array, align_corners: int, mode: str, padding_mode: str
) -> tuple[list[Corner], Array]:
    """The corners of all positions, and d position / d grid, broadcasts to [N, P, r]."""
    sizes = tuple(x_shape[2:])
    _check(x_shape, grid.shape)
    if mode not in _MODES:
        raise ValueError(f"mode {mode!r} is unknown; there are {', '.join(_MODES)}")
    if 0 in sizes and grid.size:
        raise ValueError(f"x {x_shape} has no pixels to sample")
    positions, slope = _denormalize(wide(grid), sizes, align_corners)
    if _MODES[mode] == "nearest":
        positions = np.rint(positions)
    # cubic holds the border tap by tap, so that it stays smooth there
    held = "zeros" if padding_mode == "border" and _MODES[mode] == "cubic" else padding_mode
    axes = [_bring_inside(positions[..., a], n, held, align_corners) for a, n in enumerate(sizes)]
    if any(s is not None for _, s in axes):
        positions = np.stack([p for p, _ in axes], axis=-1)
        slope = np.stack(
            [np.full(p.shape, slope[a]) if s is None else s * slope[a] for a, (p, s) in enumerate(axes)], axis=-1
        )
    return list(corners(positions, sizes, _MODES[mode], _resolver(padding_mode, align_corners))), slope


def _check(x: tuple[Any, ...], grid: tuple[Any, ...]) -> None:
    if len(x) != len(grid) or len(x) < 3:
        raise ValueError(
            f"x of rank {len(x)} and grid of rank {len(grid)}: both are [N, ., *spatial] or [N, *out, axes]"
        )
    if isinstance(grid[-1], int) and grid[-1] != len(x) - 2:
        raise ValueError(f"grid {grid} holds {grid[-1]} coordinates for {len(x) - 2} spatial axes")
    if isinstance(x[0], int) and isinstance(grid[0], int) and x[0] != grid[0]:
        raise ValueError(f"x has batch {x[0]}, grid has {grid[0]}")


def _pixels(x: Array) -> Array:
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:]))


def _interpolate(x: Array, points: list[Corner], grid_like: Array) -> Array:
    pixels = _pixels(x.astype(np.float64) if x.dtype.kind in "iub" else wide(x))
    parts = (gather(pixels, c.index) * c.weight[:, None].astype(pixels.dtype) for c in points)
    y = sum(parts, next(parts))
    return y.reshape(*x.shape[:2], *grid_like.shape[1:-1]).astype(x.dtype, copy=False)


# ---- GridSample ----------------------------------------------------------------------------------------------


@op("GridSample", version=16)
def grid_sample(
    x: Array, grid: Array, *, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
) -> Array:
    """Samples an image at the positions of a grid.

    x: [N, C, *S], grid: float [N, *O, r], r coordinates in [-1, 1], innermost axis first -> y: [N, C, *O], x's dtype.
    -1 and 1 are the centers (``align_corners``) or outer edges of the corner pixels. ``mode``: nearest (halves to
    even), linear or cubic (Keys, a = -0.75); older names bilinear and bicubic. Beyond the border: zeros, the border's
    value, or reflection. y is linear in x; dy/dgrid is the slope of the weights (0 for nearest; at a pixel center
    that to its right; 0 where the border holds). NaN positions count as outside.
    Source: ONNX operator spec; Jaderberg et al. 2015.
    """
    with quiet():
        points, _ = _sample_points(x.shape, grid, align_corners, mode, padding_mode)
        return _interpolate(x, points, grid)


@grid_sample.vjp("x")
def _(ct: Array, x_like: Array, grid: Array, align_corners: int, mode: str, padding_mode: str) -> Array:
    with quiet():
        points, _ = _sample_points(x_like.shape, grid, align_corners, mode, padding_mode)
        ct_points = _pixels(wide(ct))
        total = zeros_for((*x_like.shape[:2], math.prod(x_like.shape[2:])), ct_points, points[0].weights[0])
        for c in points:
            scatter(total, c.index, ct_points * c.weight[:, None])
        return total.reshape(x_like.shape).astype(ct.dtype, copy=False)


@grid_sample.vjp("grid")
def _(ct: Array, x: Array, grid: Array, align_corners: int, mode: str, padding_mode: str) -> Array:
    with quiet():
        points, slope = _sample_points(x.shape, grid, align_corners, mode, padding_mode)
        ct_points, pixels = _pixels(wide(ct)), _pixels(wide(x))
        along = [np.sum(ct_points * gather(pixels, c.index), axis=1) for c in points]
        axes = []
        for a in range(grid.shape[-1]):
            parts = (s * c.slope(a) for s, c in zip(along, points, strict=True))
            axes.append(sum(parts, next(parts)))
        grid_ct = np.stack(axes, axis=-1) * slope
        return grid_ct[..., ::-1].reshape(grid.shape).astype(grid.dtype, copy=False)


@grid_sample.jvp("x")
def _(x_dot: Array, grid: Array, align_corners: int, mode: str, padding_mode: str) -> Array:
    with quiet():
        points, _ = _sample_points(x_dot.shape, grid, align_corners, mode, padding_mode)
        return _interpolate(x_dot, points, grid)


@grid_sample.jvp("grid")
def _(grid_dot: Array, x: Array, grid: Array, align_corners: int, mode: str, padding_mode: str) -> Array:
    with quiet():
        points, slope = _sample_points(x.shape, grid, align_corners, mode, padding_mode)
        pixels = _pixels(wide(x))
        p_dot = (
            wide(grid_dot).reshape(slope.shape if slope.ndim > 1 else (*points[0].index.shape, slope.shape[0]))[
                ..., ::-1
            ]
            * slope
        )
        parts = (
            gather(pixels, c.index) * sum(c.slope(a) * p_dot[..., a] for a in range(grid.shape[-1]))[:, None]
            for c in points
        )
        y_dot = sum(parts, next(parts))
        return y_dot.reshape(*x.shape[:2], *grid.shape[1:-1]).astype(x.dtype, copy=False)


@grid_sample.infer
def _(x: TensorType, grid: TensorType) -> Any:
    if x.shape is None or grid.shape is None:
        rank = x.shape or grid.shape
        return TensorType(x.dtype, None if rank is None else (None,) * len(rank))
    _check(x.shape, grid.shape)
    return TensorType(x.dtype, (*x.shape[:2], *grid.shape[1:-1]))


@grid_sample.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, grid = rng.normal(size=(2, 3, 4, 5)), rng.uniform(-1.8, 1.8, (2, 3, 2, 2))
    for mode in ("linear", "cubic", "nearest"):
        for padding in ("zeros", "border", "reflection"):
            for align in (0, 1):
                yield (x, grid), {"mode": mode, "padding_mode": padding, "align_corners": align}
    volume = rng.normal(size=(1, 2, 3, 4, 3)), rng.uniform(-1.2, 1.2, (1, 2, 2, 3, 3))
    yield volume, {"padding_mode": "reflection"}
    yield (rng.normal(size=(1, 2, 6)), rng.uniform(-1, 1, (1, 4, 1))), {"mode": "cubic"}
    yield (x, grid), {"mode": "bilinear"}
    yield (x, grid), {"mode": "bicubic", "align_corners": 1}
    yield (np.zeros((0, 1, 2, 2)), np.zeros((0, 3, 3, 2))), {}
    yield Example((np.ones((1, 1, 2, 2)), np.array([[[[np.nan, 9.0], [0.0, 0.0]]]])), {}, smooth=False)


# ---- AffineGrid ----------------------------------------------------------------------------------------------


def _base_grid(size: Array, align_corners: int, dtype: Any) -> Array:
    """Homogeneous coordinates of every output pixel, innermost axis first: [pixels, axes + 1]."""
    axes = []
    for n in (int(k) for k in size[2:]):
        if align_corners:
            axes.append(np.linspace(-1, 1, n, dtype=dtype) if n > 1 else np.zeros(n, dtype))
        else:
            axes.append((np.arange(n, dtype=dtype) * 2 + 1) / max(n, 1) - 1)
    mesh = np.meshgrid(*axes, indexing="ij")
    return np.stack([m.reshape(-1) for m in (*reversed(mesh), np.ones(mesh[0].shape, dtype))], axis=-1)


def _check_theta(theta: tuple[Any, ...], size: Array) -> None:
    r = len(size) - 2
    if len(theta) != 3 or r not in (2, 3) or theta[1:] != (r, r + 1):
        raise ValueError(
            f"theta {theta} is [N, {r}, {r + 1}] for an image of size {size.tolist()} with 2 or 3 spatial axes"
        )


@op("AffineGrid", version=20, outputs=("grid",), linear="theta", nondiff="size")
def affine_grid(theta: Array, size: Array, *, align_corners: int = 0) -> Array:
    """The grid of positions that an affine map sends each output pixel to, for `GridSample`.

    theta: float [N, r, r+1], size: int64 [r+2] = (N, C, *S), r 2 or 3 -> grid: float [N, *S, r].
    grid[n, p] = theta[n] (p, 1), p the pixel's coordinates in [-1, 1], innermost axis first; -1 and 1 are the centers
    (``align_corners``; a single pixel lies at 0) or outer edges of the corner pixels. Source: ONNX operator spec.
    """
    with quiet():
        _check_theta(theta.shape, size)
        base = _base_grid(size, align_corners, wide(theta).dtype)
        grid = np.matmul(base, np.swapaxes(wide(theta), 1, 2))
        return grid.reshape(theta.shape[0], *(int(n) for n in size[2:]), theta.shape[1]).astype(theta.dtype, copy=False)


@affine_grid.vjp("theta")
def _(ct: Array, theta_like: Array, size: Array, align_corners: int) -> Array:
    with quiet():
        base = _base_grid(size, align_corners, wide(ct).dtype)
        rows = wide(ct).reshape(ct.shape[0], base.shape[0], ct.shape[-1])
        return np.matmul(np.swapaxes(rows, 1, 2), base).astype(ct.dtype, copy=False)


@affine_grid.infer
def _(theta: TensorType, size_value: Array | None) -> Any:
    if size_value is None:
        return TensorType(theta.dtype)
    r = len(size_value) - 2
    return TensorType(theta.dtype, (None if theta.shape is None else theta.shape[0], *map(int, size_value[2:]), r))


@affine_grid.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for align in (0, 1):
        yield (rng.normal(size=(2, 2, 3)), np.array([2, 3, 4, 5])), {"align_corners": align}
        yield (rng.normal(size=(1, 3, 4)), np.array([1, 3, 2, 3, 2])), {"align_corners": align}
    yield (rng.normal(size=(0, 2, 3)), np.array([0, 1, 2, 2])), {}


OPS = (grid_sample, affine_grid)
