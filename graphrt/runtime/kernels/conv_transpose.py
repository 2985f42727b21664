"""Transposed convolution and its gradients: those of the convolution whose adjoint it is, the roles exchanged."""

from __future__ import annotations

import math

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.ops.conv_transpose import transpose_window
from graphrt.runtime.kernels._correlation import Correlation, Routine
from graphrt.runtime.kernels.convolution import algorithm, bias_cotangent, into, planar
from graphrt.runtime.threads import divide, share

SPEED = 0.02
"""Nanoseconds that one of the products takes, about."""
_ATTRIBUTES = (
    "auto_pad", "dilations", "group", "kernel_shape", "output_padding", "output_shape", "pads", "strides",
)  # fmt: skip


def _convolution(site: KernelSite, x: str, w: str) -> Correlation | None:
    """The convolution from y to x; None where there is nothing to be gained."""
    if not site.is_float(x, w) or len(site.shape(x)) not in (3, 4) or 0 in site.shape(x) or 0 in site.shape(w):
        return None
    (n, channels), (_, outside), a = site.shape(x)[:2], site.shape(w)[:2], site.attributes
    win = planar(transpose_window(site.inputs[x], site.inputs[w], *(a[name] for name in _ATTRIBUTES)))
    if min(*win.begin, *win.end, *win.size) < 0 or 0 in win.size:
        return None
    return Correlation(n, outside * a["group"], channels, a["group"], win, np.dtype(site.inputs[x].dtype))


@kernel("ConvTranspose")
def transposed_convolution(site: KernelSite) -> Into | None:
    """y from x, w and b."""
    c = _convolution(site, "x", "w")
    if c is None or (site.inputs.get("b") is not None and not site.is_float("x", "b")):
        return None
    return into(site, c, _patches(c) if _is_of_patches(c) else _with_bias(algorithm(c).x_adjoint(c)), 4)


def _with_bias(routine: Routine) -> Routine:
    def fill(x: Array, w: Array, b: Array | None, y: Array, *memory: Array) -> None:
        routine.fill(x, None, w, y, *memory)
        if b is not None:
            np.add(y, b[:, None, None], y)

    return Routine(fill, routine.scratch)


def _is_of_patches(c: Correlation) -> bool:
    """Whether each place of x makes a patch of y of its own, and there is nothing between."""
    win = c.win
    whole = all(o * s == n for o, s, n in zip(win.out, win.strides, win.size, strict=True))
    return c.group == 1 and whole and win.kernel == win.strides and win.dilations == (1, 1) and not any(win.begin)


def _patches(c: Correlation) -> Routine:
    """One product for each image, whose rows are lines of every so many numbers of y."""
    (high, wide), places = c.win.kernel, math.prod(c.win.out)
    parts = divide(range(c.n), nanoseconds=c.products * SPEED)

    def fill(x: Array, w: Array, b: Array | None, y: Array, memory: Array) -> None:
        matrix = w.reshape(c.filters, -1).T
        patches = y.reshape(c.n, c.channels, c.win.out[0], high, c.win.out[1], wide)

        def work(i: int, images: list[int]) -> None:
            product = memory[i].reshape(c.channels, high, wide, *c.win.out)
            for n in images:
                np.matmul(matrix, x[n].reshape(c.filters, places), product.reshape(-1, places))
                for at in np.ndindex(high, wide):
                    there = patches[n, :, :, at[0], :, at[1]]
                    if b is None:
                        np.copyto(there, product[:, *at])
                    else:
                        np.add(product[:, *at], b[:, None, None], there)

        share(work, parts)

    return Routine(fill, ((len(parts), c.channels * high * wide * places),))


@kernel("ConvTranspose.vjp[x]")
def transposed_convolution_input_cotangent(site: KernelSite) -> Into | None:
    """x's cotangent from ct, x_like and w."""
    c = _convolution(site, "x_like", "w")
    if c is None:
        return None
    routine = algorithm(c).forward(c)
    return into(site, c, Routine(lambda ct, x_like, w, *rest: routine.fill(ct, w, None, *rest), routine.scratch), 4)


@kernel("ConvTranspose.vjp[w]")
def transposed_convolution_weight_cotangent(site: KernelSite) -> Into | None:
    """w's cotangent from ct, x and w_like."""
    c = _convolution(site, "x", "w_like")
    if c is None:
        return None
    routine = algorithm(c).w_adjoint(c)
    return into(site, c, Routine(lambda ct, x, *rest: routine.fill(x, ct, *rest), routine.scratch), 4)


@kernel("ConvTranspose.vjp[b]")
def transposed_convolution_bias_cotangent(site: KernelSite) -> Into | None:
    """The sums over images and places."""
    return bias_cotangent(site)


KERNELS = (
    transposed_convolution, transposed_convolution_input_cotangent, transposed_convolution_weight_cotangent,
    transposed_convolution_bias_cotangent,
)  # fmt: skip
