"""What a two-dimensional convolution is made of, once its shapes are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from graphrt.op import Array
from graphrt.ops._windows import Window
from graphrt.records import dataclass

Call = tuple[Any, ...]
"""A function and its arguments."""


def run(calls: Iterable[Call]) -> None:
    """Calls one function after the other."""
    for function, *arguments in calls:
        function(*arguments)


@dataclass(frozen=True)
class Routine:
    """``fill(*operands, result, *scratch)`` and the shapes of its scratch arrays, which are of the result's dtype."""

    fill: Callable[..., None]
    scratch: tuple[tuple[int, ...], ...] = ()


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

    @property
    def products(self) -> int:
        """How many products of two numbers are added up."""
        return self.n * self.filters * self.per_group[0] * self.win.n_taps * math.prod(self.win.out)

    def adjoint(self) -> Correlation | None:
        """The correlation of ct with the weights of `turned` that gives x's cotangent; None where there is none.

        That is where it has strides, or is padded so much that a part of ct comes from zeros only.
        """
        win, axes = self.win, range(2)
        begin = tuple((win.kernel[i] - 1) * win.dilations[i] - win.begin[i] for i in axes)
        end = tuple(win.size[i] - win.out[i] + win.begin[i] for i in axes)
        if set(win.strides) != {1} or min(*begin, *end) < 0:
            return None
        back = Window(win.out, win.size, win.kernel, win.strides, win.dilations, begin, end)
        return Correlation(self.n, self.filters, self.channels, self.group, back, self.dtype)

    def turned(self, w: Array) -> Array:
        """[M, C/group, kh, kw] -> [C, M/group, kh, kw], each kernel turned by half a turn; a view where it can be."""
        inside, outside = self.per_group
        grouped = w.reshape(self.group, outside, inside, *self.win.kernel).swapaxes(1, 2)
        return grouped.reshape(self.channels, outside, *self.win.kernel)[:, :, ::-1, ::-1]
