"""Convolution along one or two axes and its gradients: the algorithm that suits the shapes, chosen when planned.

One-element kernels are matrix products; a kernel per channel is shifted rows times numbers; kernels three lines high
with many channels go by Winograd's products (`_correlation_rows`); all others by columns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array
from graphrt.ops._windows import window
from graphrt.runtime.kernels import _correlation_columns as columns
from graphrt.runtime.kernels import _correlation_depthwise as depthwise
from graphrt.runtime.kernels import _correlation_points as points
from graphrt.runtime.kernels import _correlation_rows as rows
from graphrt.runtime.kernels._correlation import Correlation

Function = Callable[..., Any]
MANY = 16
"""From how many channels and filters in a group on Winograd's products pay."""


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
    win = window(x_shape[2:], w_shape[2:], a["strides"], a["dilations"], a["pads"], a["auto_pad"])
    if len(x_shape) == 3:
        one, none = (1,), (0,)
        win = replace(
            win, size=one + win.size, out=one + win.out, kernel=one + win.kernel, strides=one + win.strides,
            dilations=one + win.dilations, begin=none + win.begin, end=none + win.end,
        )  # fmt: skip
    if min(*win.begin, *win.end) < 0:
        return None
    return Correlation(x_shape[0], x_shape[1], w_shape[0], a["group"], win, np.dtype(site.inputs[x].dtype))


def _is_pointwise(c: Correlation) -> bool:
    return c.win.n_taps == 1 and not any(c.win.begin) and not any(c.win.end)


def _is_depthwise(c: Correlation) -> bool:
    return c.per_group == (1, 1)


def _suits_rows(c: Correlation) -> bool:
    win = c.win
    plain = win.kernel[0] == 3 and win.strides == (1, 1) and win.dilations[0] == 1 and win.out[0] > 2
    return plain and min(c.per_group) >= MANY


@kernel("Conv")
def convolution(site: KernelSite) -> Function | None:
    """y from x, w and b."""
    c = _correlation(site, "x", "w")
    if c is None or (site.inputs.get("b") is not None and not site.is_float("x", "b")):
        return None
    compute: Function = next(m for m, serves in _ALGORITHMS if serves(c)).forward(c)
    if len(site.shape("x")) == 4:
        return compute
    return lambda x, w, b=None: compute(x[:, :, None], w[:, :, None], b)[:, :, 0]


@kernel("Conv.vjp[x]")
def convolution_input_cotangent(site: KernelSite) -> Function | None:
    """x's cotangent from ct and w."""
    c = _correlation(site, "x_like", "w")
    if c is None:
        return None
    compute = _x_adjoint(c)
    if len(site.shape("x_like")) == 4:
        return lambda ct, x_like, w: compute(ct, w)
    return lambda ct, x_like, w: compute(ct[:, :, None], w[:, :, None])[:, :, 0]


def _x_adjoint(c: Correlation) -> Function:
    module: Any
    if not _is_pointwise(c) and set(c.win.strides) == {1}:
        back = c.adjoint()
        module = depthwise if _is_depthwise(back) else rows if _suits_rows(back) else None
        if min(*back.win.begin, *back.win.end) >= 0 and module is not None:
            forward = module.forward(back)
            return lambda ct, w: forward(ct, c.turned(w))
    module = points if _is_pointwise(c) else depthwise if _is_depthwise(c) else columns
    made: Function = module.x_adjoint(c)
    return made


@kernel("Conv.vjp[w]")
def convolution_weight_cotangent(site: KernelSite) -> Function | None:
    """w's cotangent from ct and x."""
    c = _correlation(site, "x", "w_like")
    if c is None:
        return None
    compute: Function = next(m for m, serves in _ALGORITHMS if serves(c)).w_adjoint(c)
    if len(site.shape("x")) == 4:
        return compute
    return lambda ct, x, w_like: compute(ct[:, :, None], x[:, :, None])[:, :, 0]


@kernel("Conv.vjp[b]")
def convolution_bias_cotangent(site: KernelSite) -> Function | None:
    """The sums over images and places, along rows first."""
    if not site.is_float("ct") or len(site.shape("ct")) < 3 or 0 in site.shape("ct"):
        return None
    n, m = site.shape("ct")[:2]

    def bias(ct: Array) -> Array:
        flat = ct.reshape(n, m, -1)
        return np.add.reduce(np.add.reduce(flat, axis=2), axis=0)

    return bias


_ALGORITHMS: tuple[tuple[Any, Callable[[Correlation], bool]], ...] = (
    (points, _is_pointwise),
    (depthwise, _is_depthwise),
    (rows, _suits_rows),
    (columns, lambda c: True),
)
"""Modules with ``forward`` and ``w_adjoint``, and what each serves; the first that does is taken."""

KERNELS = (convolution, convolution_input_cotangent, convolution_weight_cotangent, convolution_bias_cotangent)
