"""What a two-dimensional convolution is made of, once its shapes are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphrt.op import Array
from graphrt.ops._windows import Window


@dataclass(frozen=True)
class Correlation:
    """y[n, m, o] = sum over c, t of w[m, c, t] x[n, c, o * stride - begin + t * dilation].

    Attributes:
        n: images.
        channels, filters: of x and of y, over all groups.
        group: how many groups they come in.
        win: the window; two axes.
        dtype: of all arrays.
    """

    n: int
    channels: int
    filters: int
    group: int
    win: Window
    dtype: Any

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of the input."""
        return (self.n, self.channels, *self.win.size)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Of the output."""
        return (self.n, self.filters, *self.win.out)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Of the weights."""
        return (self.filters, self.channels // self.group, *self.win.kernel)

    @property
    def per_group(self) -> tuple[int, int]:
        """Channels and filters of one group."""
        return self.channels // self.group, self.filters // self.group

    def adjoint(self) -> Correlation:
        """The correlation of ct with the weights of `turned` that gives x's cotangent, where all strides are 1."""
        win, axes = self.win, range(2)
        begin = tuple((win.kernel[i] - 1) * win.dilations[i] - win.begin[i] for i in axes)
        end = tuple(win.size[i] - win.out[i] + win.begin[i] for i in axes)
        back = Window(win.out, win.size, win.kernel, win.strides, win.dilations, begin, end)
        return Correlation(self.n, self.filters, self.channels, self.group, back, self.dtype)

    def turned(self, w: Array) -> Array:
        """[M, C/group, kh, kw] -> [C, M/group, kh, kw], each kernel turned by half a turn; a view where it can be."""
        inside, outside = self.per_group
        grouped = w.reshape(self.group, outside, inside, *self.win.kernel).swapaxes(1, 2)
        return grouped.reshape(self.channels, outside, *self.win.kernel)[:, :, ::-1, ::-1]
