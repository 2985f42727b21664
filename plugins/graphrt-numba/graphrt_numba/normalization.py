"""Layer, RMS and batch normalization: statistics of a row while it is in the cache."""

from __future__ import annotations

import math

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt_numba.reductions import over_rows
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, constant, is_worth, launching

SPEED = 0.3
"""Nanoseconds that one number takes, about; its cotangent takes twice as long."""

# ---- LayerNormalization and RMSNormalization ---------------------------------------------------------------


def _rows(site: KernelSite, *vectors: str) -> tuple[int, int] | None:
    """Rows and columns of x as a matrix whose rows are normalized; None where the loops do not serve."""
    if not is_worth(site, site.inputs["x"]) or not site.is_float("x", *vectors) or site.attributes["stash_type"] != 1:
        return None
    shape = site.shape("x")
    axis = site.attributes["axis"] % len(shape)
    if any(site.shape(v) != shape[axis:] for v in vectors):
        return None
    return math.prod(shape[:axis]), math.prod(shape[axis:])


def _normalization(site: KernelSite, is_centered: bool) -> Into | None:
    vectors = ("scale", "b") if site.inputs.get("b") is not None else ("scale",)
    found = _rows(site, *vectors)
    if found is None or site.outputs[0] is None:
        return None
    from graphrt_numba import normalization_loops as loops

    (rows, columns), epsilon = found, site.attributes["epsilon"]
    arguments = ["int64", "boolean", "float32", *["float32*"] * 6]
    run = by_rows(loops.layer, arguments, bounds_of(rows, rows * columns * SPEED))
    zeros = constant([0] * columns, np.float32)

    def fill(x: Array, scale: Array, *rest: Array) -> None:
        b, (y, *statistics), free = rest[0] if is_centered else None, rest[is_centered:-2], rest[-2:]
        mean, inv = (f if s is None else s.ravel() for s, f in zip((*statistics, None, None), free, strict=False))
        shift = zeros if b is None else b.ravel()
        run(columns, is_centered, epsilon, x.ravel(), scale.ravel(), shift, y.ravel(), mean, inv)

    return launching(site, fill, scratch=[((rows,), "float32")] * 2)


@kernel("LayerNormalization", name="numba_layer_normalization", priority=PRIORITY)
def layer_normalization(site: KernelSite) -> Into | None:
    """Mean, variance and result of one row after the other."""
    return _normalization(site, is_centered=True)


@kernel("RMSNormalization", name="numba_rms_normalization", priority=PRIORITY)
def rms_normalization(site: KernelSite) -> Into | None:
    """Mean square and result of one row after the other."""
    return _normalization(site, is_centered=False)


def _cotangents(site: KernelSite, is_centered: bool) -> Into | None:
    found = _rows(site, "scale")
    if found is None or not site.is_float("x", "ct") or site.outputs[0] is None:
        return None
    from graphrt_numba import normalization_loops as loops

    (rows, columns), epsilon = found, site.attributes["epsilon"]
    bounds = bounds_of(rows, rows * columns * 2 * SPEED)
    arguments = ["int64", "boolean", "float32", *["float32*"] * 6, "float32**"]
    run = by_rows(loops.layer_cotangents, arguments, bounds)
    add = over_rows(len(bounds) - 1, columns)
    x_at, none = 3 if is_centered else 1, np.empty(0, np.float32)

    def fill(*arrays: Array) -> None:
        cts, (*given, scale_ct, sums) = arrays[:x_at] if is_centered else (arrays[0], None, None), arrays[x_at:]
        flat = [none if x is None else x.ravel() for x in (*cts, *given)]
        run(columns, is_centered, epsilon, *flat, sums)
        if scale_ct is not None:
            add(sums.ravel(), scale_ct.ravel())

    return launching(site, fill, over={0: (0, x_at)}, scratch=[((len(bounds) - 1, columns), "float32")])


@kernel("LayerNormalization.vjp[x,scale]", name="numba_layer_normalization_cotangents", priority=PRIORITY)
def layer_normalization_cotangents(site: KernelSite) -> Into | None:
    """inv (v - <v> - xhat <v xhat>) with v = ct scale, and the sum of ct xhat; one row after the other."""
    return _cotangents(site, is_centered=True)


@kernel("RMSNormalization.vjp[x,scale]", name="numba_rms_normalization_cotangents", priority=PRIORITY)
def rms_normalization_cotangents(site: KernelSite) -> Into | None:
    """inv (v - xhat <v xhat>) with v = ct scale, and the sum of ct xhat; one row after the other."""
    return _cotangents(site, is_centered=False)


KERNELS = (
    layer_normalization, layer_normalization_cotangents, rms_normalization, rms_normalization_cotangents,
)  # fmt: skip
