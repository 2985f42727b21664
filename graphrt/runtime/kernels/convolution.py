"""Convolution along one or two axes and its gradients: the algorithm that suits the shapes, chosen when planned.

One-element kernels are matrix products; a kernel per channel is products along lines, or in wide images shifted rows
times numbers; kernels of 3 x 3 with many channels go by Winograd's products (`_correlation_tiles`); few channels and
many images line by line; those with steps or few outputs by patches, all others by columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.ops._windows import Window, window
from graphrt.runtime.kernels import _correlation_bands as bands
from graphrt.runtime.kernels import _correlation_columns as columns
from graphrt.runtime.kernels import _correlation_depthwise as depthwise
from graphrt.runtime.kernels import _correlation_lines as lines
from graphrt.runtime.kernels import _correlation_patches as patches
from graphrt.runtime.kernels import _correlation_points as points
from graphrt.runtime.kernels import _correlation_tiles as tiles
from graphrt.runtime.kernels._correlation import Correlation, Routine
from graphrt.types import TensorType

MANY, PLACES = 16, 128
"""From how many channels and filters in a group, and from how many outputs of each on, Winograd's products pay."""
SHORT = 1 << 13
"""Up to how many numbers a row is summed up by a product: for longer ones that is less accurate, and takes threads."""


def _correlation(site: KernelSite, x: str, w: str) -> Correlation | None:
    """The site's convolution, a line of it for a one-dimensional one; None where there is nothing to be gained."""
    if not site.is_float(x, w):
        return None
    x_shape, w_shape, a = site.shape(x), site.shape(w), site.attributes
    if len(x_shape) not in (3, 4) or len(w_shape) != len(x_shape) or 0 in x_shape or 0 in w_shape:
        return None
    if (
        x_shape[1] != w_shape[1] * a["group"]
        or w_shape[0] % a["group"]
        or tuple(a["kernel_shape"] or w_shape[2:]) != w_shape[2:]
    ):
        return None
    win = planar(window(x_shape[2:], w_shape[2:], a["strides"], a["dilations"], a["pads"], a["auto_pad"]))
    if min(*win.begin, *win.end) < 0:
        return None
    return Correlation(x_shape[0], x_shape[1], w_shape[0], a["group"], win, np.dtype(site.inputs[x].dtype))


def planar(win: Window) -> Window:
    """A window of two axes: one along a line has a first axis of size one."""
    if len(win.size) == 2:
        return win
    one, none = (1,), (0,)
    return replace(
        win, size=one + win.size, out=one + win.out, kernel=one + win.kernel, strides=one + win.strides,
        dilations=one + win.dilations, begin=none + win.begin, end=none + win.end,
    )  # fmt: skip


def _is_pointwise(c: Correlation) -> bool:
    return c.win.n_taps == 1 and not any(c.win.begin) and not any(c.win.end)


def _is_depthwise(c: Correlation) -> bool:
    return c.per_group == (1, 1)


def _suits_tiles(c: Correlation) -> bool:
    win = c.win
    plain = win.kernel == (3, 3) and win.strides == win.dilations == (1, 1)
    return plain and min(c.per_group) >= MANY and c.n * math.prod(win.out) >= PLACES


_ALGORITHMS: tuple[tuple[Any, Callable[[Correlation], bool]], ...] = (
    (points, _is_pointwise),
    (bands, bands.serves),
    (depthwise, _is_depthwise),
    (tiles, _suits_tiles),
    (lines, lines.serves),
    (patches, patches.serves),
    (columns, lambda c: True),
)
"""Modules with ``forward``, ``x_adjoint`` and ``w_adjoint``, and what each serves; the first that does is taken."""


def algorithm(c: Correlation) -> Any:
    """The module for a correlation: its ``forward``, ``x_adjoint`` and ``w_adjoint`` make routines."""
    return next(module for module, serves in _ALGORITHMS if serves(c))


def into(site: KernelSite, c: Correlation, routine: Routine, operands: int) -> Into | None:
    """The routine as a kernel; what it is given of a one-dimensional convolution are images one line high."""
    fill = routine.fill

    def fill_lines(*arrays: Any) -> None:
        images = (a[:, :, None] if a is not None and a.ndim == 3 else a for a in arrays[:operands])
        fill(*images, *arrays[operands:])

    flat = any(isinstance(t, TensorType) and len(t.shape or ()) == 3 for t in site.outputs)
    return site.into(fill_lines if flat else fill, scratch=[(shape, c.dtype.name) for shape in routine.scratch])


@kernel("Conv")
def convolution(site: KernelSite) -> Into | None:
    """y from x, w and b."""
    c = _correlation(site, "x", "w")
    if c is None or (site.inputs.get("b") is not None and not site.is_float("x", "b")):
        return None
    return into(site, c, algorithm(c).forward(c), 4)


@kernel("Conv.vjp[x]")
def convolution_input_cotangent(site: KernelSite) -> Into | None:
    """x's cotangent from ct, x_like and w."""
    c = _correlation(site, "x_like", "w")
    return None if c is None else into(site, c, algorithm(c).x_adjoint(c), 4)


@kernel("Conv.vjp[w]")
def convolution_weight_cotangent(site: KernelSite) -> Into | None:
    """w's cotangent from ct, x and w_like."""
    c = _correlation(site, "x", "w_like")
    return None if c is None else into(site, c, algorithm(c).w_adjoint(c), 4)


@kernel("Conv.vjp[b]")
def convolution_bias_cotangent(site: KernelSite) -> Into | None:
    """The sums over images and places."""
    return bias_cotangent(site)


def bias_cotangent(site: KernelSite) -> Into | None:
    """The sums of ct over images and places, along rows first: by products with ones, which the BLAS does faster."""
    if not site.is_float("ct") or len(site.shape("ct")) < 3 or 0 in site.shape("ct"):
        return None
    (n, m, *size), dtype = site.shape("ct"), str(site.inputs["ct"].dtype)
    places = math.prod(size)
    ones = np.ones(places, dtype)

    def bias(ct: Array, *others: Array) -> None:
        *_, b, rows = others
        by_row = ct.reshape(n, m, places)
        if places <= SHORT:
            np.vecdot(by_row, ones, out=rows)
        else:
            np.add.reduce(by_row, axis=2, out=rows)
        np.add.reduce(rows, axis=0, out=b)

    return site.into(bias, scratch=[((n, m), dtype)])


KERNELS = (convolution, convolution_input_cotangent, convolution_weight_cotangent, convolution_bias_cotangent)
