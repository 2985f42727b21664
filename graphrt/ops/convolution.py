"""Convolution in any number of spatial dimensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._correlation import (
    add_bias,
    correlate,
    correlate_w_adjoint,
    correlate_x_adjoint,
    spread_channels,
    sum_to_channels,
)
from graphrt.ops._math import quiet
from graphrt.ops._windows import Ints, Window, window, window_dims
from graphrt.types import Dim, TensorType


def _conv_window(
    x: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Window:  # fmt: skip
    _check_conv(x.shape, w.shape, group, kernel_shape)
    return window(x.shape[2:], w.shape[2:], strides, dilations, pads, auto_pad)


def _check_conv(x: tuple[Dim, ...], w: tuple[Dim, ...], group: int, kernel_shape: Ints | None) -> None:
    if len(x) != len(w) or len(x) < 2:
        raise ValueError(f"x of rank {len(x)} and w of rank {len(w)}: both are [N or M, channels, *spatial]")
    if isinstance(x[1], int) and isinstance(w[1], int) and x[1] != w[1] * group:
        raise ValueError(f"x has {x[1]} channels, but w {list(w)} with group {group} reads {w[1] * group}")
    if isinstance(w[0], int) and w[0] % group:
        raise ValueError(f"w makes {w[0]} channels, which {group} groups do not divide")
    if kernel_shape and any(isinstance(n, int) and n != k for n, k in zip(w[2:], kernel_shape, strict=True)):
        raise ValueError(f"kernel_shape {tuple(kernel_shape)} is not that of w {list(w)}")


@op("Conv", version=1)
def conv(
    x: Array, w: Array, b: Array = None, *, auto_pad: str = "NOTSET", dilations: tuple[int, ...] | None = None,
    group: int = 1, kernel_shape: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Convolution (cross-correlation), 1-d, 2-d, 3-d and beyond, grouped and dilated.

    x: float [N, C, *S], w: float [M, C/group, *K], b: float [M] -> y: float [N, M, *O].
    y[n, m, o] = b[m] + sum over c, t of w[m, c, t] x[n, c, o*stride - pad + t*dilation], zero outside x.
    The derivative for x scatters w^T ct back to where it was read, that for w is ct times the gathered windows.
    Raises ValueError when channels, groups or window do not fit. Source: ONNX operator spec.
    """
    with quiet():
        win = _conv_window(x, w, auto_pad, dilations, group, kernel_shape, pads, strides)
        return add_bias(correlate(x, w, win, group), b)


@conv.vjp("x")
def _(
    ct: Array, x_like: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _conv_window(x_like, w, auto_pad, dilations, group, kernel_shape, pads, strides)
        return correlate_x_adjoint(ct, w, win, group)


@conv.vjp("w")
def _(
    ct: Array, x: Array, w_like: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _conv_window(x, w_like, auto_pad, dilations, group, kernel_shape, pads, strides)
        return correlate_w_adjoint(ct, x, win, group)


@conv.vjp("b")
def _(ct: Array) -> Array:
    with quiet():
        return sum_to_channels(ct)


@conv.jvp("x")
def _(
    x_dot: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _conv_window(x_dot, w, auto_pad, dilations, group, kernel_shape, pads, strides)
        return correlate(x_dot, w, win, group)


@conv.jvp("w")
def _(
    w_dot: Array, x: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = _conv_window(x, w_dot, auto_pad, dilations, group, kernel_shape, pads, strides)
        return correlate(x, w_dot, win, group)


@conv.jvp("b")
def _(b_dot: Array, y_like: Array) -> Array:
    with quiet():
        return spread_channels(b_dot, y_like)


@conv.infer
def _(
    x: TensorType, w: TensorType, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Any:  # fmt: skip
    if x.shape is None:
        return TensorType(x.dtype, None if w.shape is None else (None,) * len(w.shape))
    if w.shape is not None:
        _check_conv(x.shape, w.shape, group, kernel_shape)
    kernel = kernel_shape or (w.shape[2:] if w.shape is not None else (None,) * (len(x.shape) - 2))
    spatial = window_dims(x.shape[2:], kernel, strides, dilations, pads, auto_pad)
    return TensorType(x.dtype, (x.shape[0], None if w.shape is None else w.shape[0], *spatial))


@conv.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    yield (draw(2, 3, 5, 4), draw(4, 3, 3, 2), draw(4)), {}
    yield (
        (draw(2, 4, 6, 5), draw(6, 2, 3, 3)),
        {"group": 2, "pads": (1, 0, 2, 1), "strides": (2, 1), "dilations": (1, 2)},
    )
    yield (draw(2, 3, 7), draw(6, 1, 3), draw(6)), {"group": 3, "strides": (2,), "auto_pad": "SAME_UPPER"}
    yield (draw(1, 2, 4, 3, 3), draw(2, 2, 2, 2, 3)), {"auto_pad": "SAME_LOWER", "kernel_shape": (2, 2, 3)}
    yield (draw(1, 3, 4, 4), draw(2, 3, 1, 1), draw(2)), {"auto_pad": "VALID"}
    yield (draw(0, 2, 4, 4), draw(3, 2, 3, 3), draw(3)), {}


OPS = (conv,)
