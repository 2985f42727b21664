"""LayerNormalization and RMSNormalization over trailing axes, a block of rows at a time.

Row means are products with a vector of 1/n, row products are `np.vecdot`: both run at the speed of the cache, where
reductions along short rows do not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._blocks import parts_of, rows_of, summed_to
from graphrt.runtime.threads import share
from graphrt.types import numpy_dtype

_STASH = {1: "float32", 11: "float64"}


class Layout(NamedTuple):
    """The input as a matrix whose rows are normalized, and the pieces in which that is done."""

    shape: tuple[int, ...]
    stats: tuple[int, ...]
    rows: int
    columns: int
    dtype: Any
    parts: list[list[slice]]
    average: Array

    @property
    def block(self) -> tuple[int, int]:
        """The shape of a piece; the last may have less rows."""
        return self.parts[0][0].stop, self.columns


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
    parts = parts_of(rows, columns * made.itemsize)
    return Layout(shape, stats, rows, columns, made, parts, np.full(columns, 1 / columns, made))


def _in_parts(layout: Layout, work: Callable[[int, slice], None]) -> None:
    """Calls ``work(part, block)`` for every block, those of different parts at the same time."""

    def do(i: int, blocks: list[slice]) -> None:
        for block in blocks:
            work(i, block)

    if len(layout.parts) == 1:
        do(0, layout.parts[0])
    else:
        share(do, layout.parts)


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
def layer_normalization(site: KernelSite) -> Into | None:
    """Statistics, scale and shift of one block of rows after the other."""
    has_b = site.inputs.get("b") is not None
    layout = _layout(site, *(("scale", "b") if has_b else ("scale",)))
    if layout is None:
        return None
    if site.outputs[0] is None:
        return None
    epsilon = site.attributes["epsilon"]
    rows, columns, dtype = layout.rows, layout.columns, layout.dtype

    def fill(x: Array, scale: Array, b: Array, *outputs: Array) -> None:
        (y, mean, inv), (means, invs) = outputs[:3], outputs[3:]
        xs, ys, factor = x.reshape(rows, columns), y.reshape(rows, columns), scale.reshape(columns)

        def work(i: int, block: slice) -> None:
            part = ys[block]
            _standardize(xs[block], layout, epsilon, means[block], invs[block], part)
            np.multiply(part, factor, part)
            if has_b:
                np.add(part, b.reshape(columns), part)

        _in_parts(layout, work)
        for statistic, found in ((mean, means), (inv, invs)):
            if statistic is not None:
                np.copyto(statistic.reshape(rows), found)

    return site.into(fill, scratch=[((rows,), str(dtype))] * 2)


@kernel("LayerNormalization.vjp[x,scale]")
def layer_normalization_cotangents(site: KernelSite) -> Into | None:
    """inv (v - <v> - xhat <v xhat>) with v = ct scale, and the sum of ct xhat; one block of rows after the other."""
    layout = _layout(site, "scale")
    if layout is None or not site.is_float("x", "ct") or site.outputs[0] is None:
        return None
    epsilon, (rows, columns), dtype = site.attributes["epsilon"], layout[2:4], layout.dtype

    def fill(
        ct: Array, ct_mean: Array, ct_inv_std_dev: Array, x: Array, scale: Array, x_ct: Array, scale_ct: Array,
        *free: Array,
    ) -> None:  # fmt: skip
        matrices = ct.reshape(rows, columns), x.reshape(rows, columns), x_ct.reshape(rows, columns)
        factor, total = scale.reshape(columns), np.zeros((len(layout.parts), columns), dtype)
        weights = factor / columns

        def work(i: int, block: slice) -> None:
            spare, product = free[2 * i : 2 * i + 2]
            mean, inv, ones = (np.ones(len(spare), dtype) for _ in range(3))
            ct_, x_, v = (m[block] for m in matrices)
            n = len(v)
            xhat, t, scaled = spare[:n], product[:n], inv[:n]
            _standardize(x_, layout, epsilon, mean[:n], scaled, xhat)
            np.multiply(ct_, xhat, t)
            total[i] += np.matmul(ones[:n], t)
            along = np.matmul(t, weights)
            if ct_inv_std_dev is not None:
                along += ct_inv_std_dev.reshape(rows)[block] * scaled / columns
            np.multiply(xhat, along[:, None], xhat)
            shift = np.matmul(ct_, weights)
            np.multiply(ct_, factor, v)
            np.subtract(v, xhat, v)
            np.subtract(v, shift[:, None], v)
            np.multiply(v, scaled[:, None], v)
            if ct_mean is not None:
                np.add(v, ct_mean.reshape(rows)[block][:, None] / columns, v)

        _in_parts(layout, work)
        if scale_ct is not None:
            np.add.reduce(total, 0, None, scale_ct.reshape(columns))

    return site.into(fill, over={0: (0, 3)}, scratch=_two_blocks(layout))


def _two_blocks(layout: Layout) -> list[tuple[tuple[int, ...], str]]:
    """Scratch memory: two blocks for each part."""
    return [(layout.block, str(layout.dtype))] * (2 * len(layout.parts))


@kernel("LayerNormalization.vjp[b]")
def layer_normalization_bias_cotangent(site: KernelSite) -> Into | None:
    """The sum over the rows."""
    if not site.is_float("ct", "b_like"):
        return None
    total = summed_to(site.shape("ct"), site.shape("b_like"), site.inputs["ct"].dtype)
    return None if total is None else site.into(lambda ct, b_like, y: total(ct, y))


# ---- RMSNormalization --------------------------------------------------------------------------------------


@kernel("RMSNormalization")
def rms_normalization(site: KernelSite) -> Into | None:
    """Root mean squares and scale of one block of rows after the other."""
    layout = _layout(site, "scale")
    if layout is None:
        return None
    epsilon, (rows, columns), dtype = site.attributes["epsilon"], layout[2:4], layout.dtype

    def fill(x: Array, scale: Array, y: Array) -> None:
        xs, ys, factor = x.reshape(rows, columns), y.reshape(rows, columns), scale.reshape(columns)

        def work(i: int, block: slice) -> None:
            x_, y_ = xs[block], ys[block]
            inv = np.empty(len(x_), dtype)
            _inverse(np.vecdot(x_, x_), columns, epsilon, inv)
            np.multiply(x_, inv[:, None], y_)
            np.multiply(y_, factor, y_)

        _in_parts(layout, work)

    return site.into(fill, over={0: (0,)})


@kernel("RMSNormalization.vjp[x,scale]")
def rms_normalization_cotangents(site: KernelSite) -> Into | None:
    """inv (v - xhat <v xhat>) with v = ct scale, and the sum of ct xhat; one block of rows after the other."""
    layout = _layout(site, "scale")
    if layout is None or not site.is_float("x", "ct") or site.outputs[0] is None:
        return None
    epsilon, (rows, columns), dtype = site.attributes["epsilon"], layout[2:4], layout.dtype

    def fill(ct: Array, x: Array, scale: Array, x_ct: Array, scale_ct: Array, *free: Array) -> None:
        matrices = ct.reshape(rows, columns), x.reshape(rows, columns), x_ct.reshape(rows, columns)
        factor, total = scale.reshape(columns), np.zeros((len(layout.parts), columns), dtype)
        weights = factor / columns

        def work(i: int, block: slice) -> None:
            spare, product = free[2 * i : 2 * i + 2]
            inv, ones = (np.ones(len(spare), dtype) for _ in range(2))
            ct_, x_, v = (m[block] for m in matrices)
            n = len(v)
            xhat, t, scaled = spare[:n], product[:n], inv[:n]
            _inverse(np.vecdot(x_, x_), columns, epsilon, scaled)
            np.multiply(x_, scaled[:, None], xhat)
            np.multiply(ct_, xhat, t)
            total[i] += np.matmul(ones[:n], t)
            np.multiply(xhat, np.matmul(t, weights)[:, None], xhat)
            np.multiply(ct_, factor, v)
            np.subtract(v, xhat, v)
            np.multiply(v, scaled[:, None], v)

        _in_parts(layout, work)
        if scale_ct is not None:
            np.add.reduce(total, 0, None, scale_ct.reshape(columns))

    return site.into(fill, over={0: (0, 1)}, scratch=_two_blocks(layout))


KERNELS = (
    layer_normalization, layer_normalization_cotangents, layer_normalization_bias_cotangent,
    rms_normalization, rms_normalization_cotangents,
)  # fmt: skip
