"""Transposed convolution in any number of spatial dimensions."""

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
from graphrt.ops._windows import Ints, Window, window
from graphrt.types import Dim, TensorType


def transpose_window(
    x: Any, w: Any, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
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
    with quiet():
        win = transpose_window(
            x, w, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
        )
        return add_bias(correlate_x_adjoint(x, w, win, group), b)


@conv_transpose.vjp("x")
def _(
    ct: Array, x_like: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = transpose_window(
            x_like, w, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
        )
        return correlate(ct, w, win, group)


@conv_transpose.vjp("w")
def _(
    ct: Array, x: Array, w_like: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = transpose_window(
            x, w_like, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
        )
        return correlate_w_adjoint(x, ct, win, group)


@conv_transpose.vjp("b")
def _(ct: Array) -> Array:
    with quiet():
        return sum_to_channels(ct)


@conv_transpose.jvp("x")
def _(
    x_dot: Array, w: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = transpose_window(
            x_dot, w, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
        )
        return correlate_x_adjoint(x_dot, w, win, group)


@conv_transpose.jvp("w")
def _(
    w_dot: Array, x: Array, auto_pad: str, dilations: Ints | None, group: int, kernel_shape: Ints | None,
    output_padding: Ints | None, output_shape: Ints | None, pads: Ints | None, strides: Ints | None,
) -> Array:  # fmt: skip
    with quiet():
        win = transpose_window(
            x, w_dot, auto_pad, dilations, group, kernel_shape, output_padding, output_shape, pads, strides
        )
        return correlate_x_adjoint(x, w_dot, win, group)


@conv_transpose.jvp("b")
def _(b_dot: Array, y_like: Array) -> Array:
    with quiet():
        return spread_channels(b_dot, y_like)


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
        spatial = transpose_window(
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


OPS = (conv_transpose,)
