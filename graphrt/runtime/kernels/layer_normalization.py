"""LayerNormalization and RMSNormalization over trailing axes, a block of rows at a time.

Row means are products with a vector of 1/n, row products are `np.vecdot`: both run at the speed of the cache, where
reductions along short rows do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._blocks import row_blocks, rows_of, summed_to
from graphrt.types import numpy_dtype

Function = Callable[..., Any]
_STASH = {1: "float32", 11: "float64"}


class Layout(NamedTuple):
    """The input as a matrix whose rows are normalized, and the pieces in which that is done."""

    shape: tuple[int, ...]
    stats: tuple[int, ...]
    rows: int
    columns: int
    dtype: Any
    blocks: list[slice]
    average: Array


def _layout(site: KernelSite, *vectors: str) -> Layout | None:
    """None where a statistic has another dtype than x, or a vector is not one per column."""
    if not site.is_float("x", *vectors) or 0 in site.shape("x"):
        return None
    shape, dtype = site.shape("x"), site.inputs["x"].dtype
    axis = site.attributes["axis"] % len(shape) if shape else 0
    stash = _STASH.get(site.attributes["stash_type"])
    if not shape or (stash != dtype and (stash, dtype) != ("float32", "float64")):
        return None
    if any(site.shape(v) != shape[axis:] for v in vectors):
        return None
    rows, columns = rows_of(shape, axis)
    stats = (*shape[:axis], *(1 for _ in shape[axis:]))
    made = numpy_dtype(dtype)
    return Layout(
        shape, stats, rows, columns, made, row_blocks(rows, columns, made.itemsize), np.full(columns, 1 / columns, made)
    )


def _inverse(square_sums: Array, columns: int, epsilon: float, inv: Array) -> None:
    np.multiply(square_sums, 1 / columns, inv)
    np.add(inv, epsilon, inv)
    np.sqrt(inv, inv)
    np.reciprocal(inv, inv)


# ---- LayerNormalization ------------------------------------------------------------------------------------


def _standardize(x: Array, layout: Layout, epsilon: float, mean: Array, inv: Array, y: Array) -> None:
    """Fills the statistics [n] of rows x [n, columns], and y with what is standardized."""
    np.matmul(x, layout.average, mean)
    np.subtract(x, mean[:, None], y)
    _inverse(np.vecdot(y, y), layout.columns, epsilon, inv)
    np.multiply(y, inv[:, None], y)


@kernel("LayerNormalization")
def layer_normalization(site: KernelSite) -> Function | None:
    """Statistics, scale and shift of one block of rows after the other."""
    has_b = site.inputs.get("b") is not None
    layout = _layout(site, *(("scale", "b") if has_b else ("scale",)))
    if layout is None:
        return None
    epsilon, stash = site.attributes["epsilon"], numpy_dtype(_STASH[site.attributes["stash_type"]])
    rows, columns, dtype = layout.rows, layout.columns, layout.dtype

    def run(x: Array, scale: Array, b: Array = None) -> tuple[Array, Array, Array]:
        y, mean, inv = np.empty(layout.shape, dtype), np.empty(layout.stats, dtype), np.empty(layout.stats, dtype)
        xs, ys, means, invs = x.reshape(rows, columns), y.reshape(rows, columns), mean.reshape(rows), inv.reshape(rows)
        factor = scale.reshape(columns)
        shift: Array = b.reshape(columns) if has_b else None
        for block in layout.blocks:
            part = ys[block]
            _standardize(xs[block], layout, epsilon, means[block], invs[block], part)
            np.multiply(part, factor, part)
            if has_b:
                np.add(part, shift, part)
        return y, mean.astype(stash, copy=False), inv.astype(stash, copy=False)

    return run


@kernel("LayerNormalization.vjp[x,scale]")
def layer_normalization_cotangents(site: KernelSite) -> Function | None:
    """inv (v - <v> - xhat <v xhat>) with v = ct scale, and the sum of ct xhat; one block of rows after the other."""
    layout = _layout(site, "scale")
    if layout is None or not site.is_float("x", "ct"):
        return None
    epsilon, (rows, columns), dtype = site.attributes["epsilon"], layout[2:4], layout.dtype

    def run(ct: Array, ct_mean: Array, ct_inv_std_dev: Array, x: Array, scale: Array) -> tuple[Array, Array]:
        x_ct, scale_ct = np.empty(layout.shape, dtype), np.zeros(columns, dtype)
        matrices = ct.reshape(rows, columns), x.reshape(rows, columns), x_ct.reshape(rows, columns)
        factor = scale.reshape(columns)
        weights, n = factor / columns, layout.blocks[0].stop
        spare, product, mean, inv, ones = (np.empty(s, dtype) for s in ((n, columns), (n, columns), n, n, n))
        ones.fill(1)
        for block in layout.blocks:
            ct_, x_, v = (m[block] for m in matrices)
            n = len(v)
            xhat, t, scaled = spare[:n], product[:n], inv[:n]
            _standardize(x_, layout, epsilon, mean[:n], scaled, xhat)
            np.multiply(ct_, xhat, t)
            scale_ct += np.matmul(ones[:n], t)
            along = np.matmul(t, weights)
            if ct_inv_std_dev is not None:
                along += ct_inv_std_dev.reshape(rows)[block] * scaled / columns
            np.multiply(xhat, along[:, None], xhat)
            np.multiply(ct_, factor, v)
            np.subtract(v, xhat, v)
            np.subtract(v, np.matmul(ct_, weights)[:, None], v)
            np.multiply(v, scaled[:, None], v)
            if ct_mean is not None:
                np.add(v, ct_mean.reshape(rows)[block][:, None] / columns, v)
        return x_ct, scale_ct.reshape(scale.shape)

    return run


@kernel("LayerNormalization.vjp[b]")
def layer_normalization_bias_cotangent(site: KernelSite) -> Function | None:
    """The sum over the rows."""
    if not site.is_float("ct", "b_like"):
        return None
    total = summed_to(site.shape("ct"), site.shape("b_like"), site.inputs["ct"].dtype)
    return None if total is None else lambda ct, b_like: total(ct)


# ---- RMSNormalization --------------------------------------------------------------------------------------


@kernel("RMSNormalization")
def rms_normalization(site: KernelSite) -> Function | None:
    """Root mean squares and scale of one block of rows after the other."""
    layout = _layout(site, "scale")
    if layout is None:
        return None
    epsilon, (rows, columns), dtype = site.attributes["epsilon"], layout[2:4], layout.dtype

    def run(x: Array, scale: Array) -> Array:
        y = np.empty(layout.shape, dtype)
        xs, ys, factor = x.reshape(rows, columns), y.reshape(rows, columns), scale.reshape(columns)
        inv = np.empty(layout.blocks[0].stop, dtype)
        for block in layout.blocks:
            x_, y_ = xs[block], ys[block]
            n = len(x_)
            _inverse(np.vecdot(x_, x_), columns, epsilon, inv[:n])
            np.multiply(x_, inv[:n, None], y_)
            np.multiply(y_, factor, y_)
        return y

    return run


@kernel("RMSNormalization.vjp[x,scale]")
def rms_normalization_cotangents(site: KernelSite) -> Function | None:
    """inv (v - xhat <v xhat>) with v = ct scale, and the sum of ct xhat; one block of rows after the other."""
    layout = _layout(site, "scale")
    if layout is None or not site.is_float("x", "ct"):
        return None
    epsilon, (rows, columns), dtype = site.attributes["epsilon"], layout[2:4], layout.dtype

    def run(ct: Array, x: Array, scale: Array) -> tuple[Array, Array]:
        x_ct, scale_ct = np.empty(layout.shape, dtype), np.zeros(columns, dtype)
        matrices = ct.reshape(rows, columns), x.reshape(rows, columns), x_ct.reshape(rows, columns)
        factor = scale.reshape(columns)
        weights, n = factor / columns, layout.blocks[0].stop
        spare, product, inv, ones = (np.empty(s, dtype) for s in ((n, columns), (n, columns), n, n))
        ones.fill(1)
        for block in layout.blocks:
            ct_, x_, v = (m[block] for m in matrices)
            n = len(v)
            xhat, t, scaled = spare[:n], product[:n], inv[:n]
            _inverse(np.vecdot(x_, x_), columns, epsilon, scaled)
            np.multiply(x_, scaled[:, None], xhat)
            np.multiply(ct_, xhat, t)
            scale_ct += np.matmul(ones[:n], t)
            np.multiply(xhat, np.matmul(t, weights)[:, None], xhat)
            np.multiply(ct_, factor, v)
            np.subtract(v, xhat, v)
            np.multiply(v, scaled[:, None], v)
        return x_ct, scale_ct.reshape(scale.shape)

    return run


KERNELS = (
    layer_normalization, layer_normalization_cotangents, layer_normalization_bias_cotangent,
    rms_normalization, rms_normalization_cotangents,
)  # fmt: skip
