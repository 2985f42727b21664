"""Convolution and its transpose, in any number of spatial dimensions.

Both are three linear maps on columns (one row per channel and kernel tap, one column per output position of
the whole batch): gather columns and multiply by the weights, multiply by the transposed weights and scatter
back, and the outer product that is the weights' cotangent. One matrix product per group does the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._windows import Window, wide, window, window_dims
from graphrt.types import Dim, TensorType

Ints: TypeAlias = tuple[int, ...]
ALL: Any = slice(None)


# ---- the three linear maps -------------------------------------------------------------------------------


def columns(x: Array, win: Window) -> Array:
    """Gathers windows: x [N, C, *size] -> [C, n_taps, N, *out], zeros where a tap reads padding."""
    channels_first = np.swapaxes(x, 0, 1)
    if win.is_pointwise:
        return channels_first[:, None]
    cols = np.zeros((x.shape[1], win.n_taps, x.shape[0], *win.out), x.dtype, like=x)
    for t, at_out, at_in in win.taps():
        cols[(ALL, t, ALL, *at_out)] = channels_first[(ALL, ALL, *at_in)]
    return cols


def scatter_columns(cols: Array, win: Window) -> Array:
    """The adjoint of `columns`: [C, n_taps, N, *out] -> [N, C, *size], summing what windows share."""
    if win.is_pointwise:
        return np.swapaxes(cols[:, 0], 0, 1)
    x = np.zeros((cols.shape[0], cols.shape[2], *win.size), cols.dtype, like=cols)
    for t, at_out, at_in in win.taps():
        x[(ALL, ALL, *at_in)] += cols[(ALL, t, ALL, *at_out)]
    return np.swapaxes(x, 0, 1)


def correlate(x: Array, w: Array, win: Window, group: int) -> Array:
    """x [N, C, *size], w [M, C/group, *kernel] -> [N, M, *out]."""
    dtype = np.result_type(x.dtype, w.dtype)
    cols = columns(wide(x), win).reshape(group, _row_count(w), x.shape[0] * math.prod(win.out))
    y = np.matmul(_weight_rows(wide(w), group), cols).astype(dtype, copy=False)
    return np.swapaxes(y.reshape(w.shape[0], x.shape[0], *win.out), 0, 1)


def correlate_x_adjoint(ct: Array, w: Array, win: Window, group: int) -> Array:
    """ct [N, M, *out], w [M, C/group, *kernel] -> [N, C, *size]."""
    dtype, n = np.result_type(ct.dtype, w.dtype), ct.shape[0]
    rows = np.swapaxes(_weight_rows(wide(w), group), 1, 2)
    cols = np.matmul(rows, _output_rows(wide(ct), group))
    cols = cols.reshape(group * w.shape[1], win.n_taps, n, *win.out)
    return scatter_columns(cols, win).astype(dtype, copy=False)


def correlate_w_adjoint(ct: Array, x: Array, win: Window, group: int) -> Array:
    """ct [N, M, *out], x [N, C, *size] -> [M, C/group, *kernel]."""
    dtype, per_group = np.result_type(ct.dtype, x.dtype), x.shape[1] // group
    positions = x.shape[0] * math.prod(win.out)
    cols = columns(wide(x), win).reshape(group, per_group * win.n_taps, positions)
    w = np.matmul(_output_rows(wide(ct), group), np.swapaxes(cols, 1, 2))
    return w.reshape(ct.shape[1], per_group, *win.kernel).astype(dtype, copy=False)


def _row_count(w: Array) -> int:
    return math.prod(w.shape[1:])


def _weight_rows(w: Array, group: int) -> Array:
    return w.reshape(group, w.shape[0] // group, _row_count(w))


def _output_rows(y: Array, group: int) -> Array:
    n, m = y.shape[:2]
    return np.swapaxes(y, 0, 1).reshape(group, m // group, n * math.prod(y.shape[2:]))


def _add_bias(y: Array, b: Array | None) -> Array:
    return y if b is None else y + b.reshape(-1, *(1,) * (y.ndim - 2))


def _sum_to_channels(ct: Array) -> Array:
    return np.sum(ct, axis=(0, *range(2, ct.ndim)), dtype=ct.dtype)


def _spread_channels(b_dot: Array, y_like: Array) -> Array:
    return np.broadcast_to(b_dot.reshape(-1, *(1,) * (y_like.ndim - 2)), y_like.shape)


# ---- Conv ------------------------------------------------------------------------------------------------


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
    win = _conv_window(x, w, auto_pad, dilations, group, kernel_shape, pads, strides)
    return _add_bias(correlate(x, w, win, group), b)


@conv.vjp("x")
def _(
    ct: Array, x_like: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _conv_window(x_like, w, auto_pad, dilations, group, kernel_shape, pads, strides)
    return correlate_x_adjoint(ct, w, win, group)


@conv.vjp("w")
def _(
    ct: Array, x: Array, w_like: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _conv_window(x, w_like, auto_pad, dilations, group, kernel_shape, pads, strides)
    return correlate_w_adjoint(ct, x, win, group)


@conv.vjp("b")
def _(ct: Array) -> Array:
    return _sum_to_channels(ct)


@conv.jvp("x")
def _(
    x_dot: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _conv_window(x_dot, w, auto_pad, dilations, group, kernel_shape, pads, strides)
    return correlate(x_dot, w, win, group)


@conv.jvp("w")
def _(
    w_dot: Array, x: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _conv_window(x, w_dot, auto_pad, dilations, group, kernel_shape, pads, strides)
    return correlate(x, w_dot, win, group)


@conv.jvp("b")
def _(b_dot: Array, y_like: Array) -> Array:
    return _spread_channels(b_dot, y_like)


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


# ---- ConvTranspose ---------------------------------------------------------------------------------------


def _transpose_window(
    x: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Window:  # fmt: skip
    """The window of the convolution whose adjoint this is: its input is our output."""
    rank = len(x.shape) - 2
    _check_transpose(x.shape, w.shape, group)
    forward = window((10**9,) * rank, w.shape[2:], strides, dilations, pads, auto_pad)  # checks the attributes
    extra = output_padding or (0,) * rank
    wanted = tuple(output_shape or ())[-rank:] if rank else ()
    if auto_pad.startswith("SAME") and not wanted:
        wanted = tuple(n * s for n, s in zip(x.shape[2:], forward.strides, strict=True))
    bounds = []
    for i, n in enumerate(x.shape[2:]):
        k, s, d = forward.kernel[i], forward.strides[i], forward.dilations[i]
        full = s * (n - 1) + extra[i] + (k - 1) * d + 1
        if wanted:
            total = max(full - wanted[i], 0)
            b = total // 2 if auto_pad == "SAME_UPPER" else total - total // 2
            bounds.append((int(wanted[i]), b, total - b))
        else:
            b, e = (0, 0) if auto_pad == "VALID" else (forward.begin[i], forward.end[i])
            bounds.append((full - b - e, b, e))
    size, begin, end = zip(*bounds, strict=True) if rank else ((),) * 3
    if min(size, default=1) < 0:
        raise ValueError(f"pads {pads} take more than the output has: spatial size {list(size)}")
    return Window(size, tuple(x.shape[2:]), forward.kernel, forward.strides, forward.dilations, begin, end)


def _check_transpose(x: tuple[Dim, ...], w: tuple[Dim, ...], group: int) -> None:
    if len(x) != len(w) or len(x) < 2:
        raise ValueError(f"x of rank {len(x)} and w of rank {len(w)}: both have channels and spatial axes")
    if isinstance(x[1], int) and isinstance(w[0], int) and (x[1] != w[0] or x[1] % group):
        raise ValueError(f"x has {x[1]} channels, w {list(w)} with group {group} reads {w[0]}")


@op("ConvTranspose", version=1)
def conv_transpose(
    x: Array, w: Array, b: Array = None, *, auto_pad: str = "NOTSET", dilations: tuple[int, ...] | None = None,
    group: int = 1, kernel_shape: tuple[int, ...] | None = None, output_padding: tuple[int, ...] | None = None,
    output_shape: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Transposed convolution: the adjoint of `Conv` with the same weights, plus a bias.

    x: float [N, C, *S], w: float [C, M/group, *K], b: float [M] -> y: float [N, M, *O].
    y[n, m, i*stride - pad + t*dilation] sums w[c, m, t] x[n, c, i] over c, i, t;
    O = stride (S-1) + output_padding + (K-1) dilation + 1 - pads, or ``output_shape`` (which then sets the pads),
    or S * stride with auto_pad SAME_*. Derivatives are those of `Conv` with the roles of x and y exchanged.
    Source: ONNX operator spec.
    """
    win = _transpose_window(x, w, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides)
    return _add_bias(correlate_x_adjoint(x, w, win, group), b)


@conv_transpose.vjp("x")
def _(
    ct: Array, x_like: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _transpose_window(
        x_like, w, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
    )
    return correlate(ct, w, win, group)


@conv_transpose.vjp("w")
def _(
    ct: Array, x: Array, w_like: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _transpose_window(
        x, w_like, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
    )
    return correlate_w_adjoint(x, ct, win, group)


@conv_transpose.vjp("b")
def _(ct: Array) -> Array:
    return _sum_to_channels(ct)


@conv_transpose.jvp("x")
def _(
    x_dot: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _transpose_window(
        x_dot, w, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
    )
    return correlate_x_adjoint(x_dot, w, win, group)


@conv_transpose.jvp("w")
def _(
    w_dot: Array, x: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    win = _transpose_window(
        x, w_dot, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
    )
    return correlate_x_adjoint(x, w_dot, win, group)


@conv_transpose.jvp("b")
def _(b_dot: Array, y_like: Array) -> Array:
    return _spread_channels(b_dot, y_like)


@conv_transpose.infer
def _(
    x: TensorType, w: TensorType, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Any:  # fmt: skip
    if x.shape is None or w.shape is None:
        return TensorType(x.dtype, None if x.shape is None else (x.shape[0],) + (None,) * (len(x.shape) - 1))
    _check_transpose(x.shape, w.shape, group)
    channels = w.shape[1] * group if isinstance(w.shape[1], int) else w.shape[1] if group == 1 else None
    spatial: tuple[Dim, ...] = (None,) * (len(x.shape) - 2)
    if output_shape:
        spatial = tuple(output_shape)[-len(spatial) :]
    elif all(isinstance(n, int) for n in (*x.shape[2:], *w.shape[2:])):
        concrete: Any = (0, group, *x.shape[2:]), (group, 1, *w.shape[2:])
        concrete_x, concrete_w = (np.empty(shape) for shape in concrete)
        spatial = _transpose_window(
            concrete_x,
            concrete_w,
            auto_pad,
            dilations,
            group,
            kernel_shape,
            output_padding,
            output_shape,
            pads,
            strides,
        ).size
    return TensorType(x.dtype, (x.shape[0], channels, *spatial))


@conv_transpose.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    yield (draw(2, 3, 3, 4), draw(3, 2, 3, 2), draw(2)), {}
    yield (draw(2, 4, 3, 3), draw(4, 3, 3, 3)), {
        "group": 2, "strides": (2, 3), "pads": (1, 0, 2, 1), "output_padding": (1, 2), "dilations": (2, 1),
    }  # fmt: skip
    yield (draw(1, 2, 5), draw(2, 1, 3), draw(2)), {"group": 2, "auto_pad": "SAME_UPPER", "strides": (2,)}
    yield (draw(1, 2, 3, 3), draw(2, 1, 3, 3)), {"output_shape": (7, 8), "strides": (3, 2), "kernel_shape": (3, 3)}
    yield (draw(1, 2, 2, 3, 2), draw(2, 2, 2, 2, 2)), {"auto_pad": "SAME_LOWER", "strides": (1, 2, 1)}
    yield (draw(0, 2, 3, 3), draw(2, 3, 2, 2), draw(3)), {"auto_pad": "VALID"}


OPS = (conv, conv_transpose)
