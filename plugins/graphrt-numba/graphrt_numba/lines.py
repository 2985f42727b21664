"""Convolutions with few weights: lines of all images side by side, and a product for each line of outputs.

What the taps along a line read is written out once; all that a line of outputs reads is a matrix of it as it lies (Cho
and Brand, MEC: memory-efficient convolution for deep neural networks, 2017). One compiled loop does everything for the
images of a thread.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property, partial

import numpy as np

from graphrt.definitions import Into
from graphrt.ops._windows import Window, window
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.records import dataclass
from graphrt.runtime.kernels._kept import Kept
from graphrt.runtime.kernels._pieces import SMALL
from graphrt.runtime.kernels.convolution import planar
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows

WIDE = 96
"""Outputs in a line of all images from which on the products pay."""
NUMBERS = 1 << 17
"""Numbers that are written out for a block of images, about: they stay in the cache."""
LARGEST = 1 << 18
"""Numbers that are written out for an image, at most."""
LEAST = 1 << 18
"""Products of two numbers in all, at least."""
SPEED, COPY_SPEED = 0.022, 0.15
"""Nanoseconds that one of the products takes, about; and a number that is written out."""
NONE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Lines:
    """A correlation, y[n, m, o] = sum over c, t of w[m, c, t] x[n, c, o * stride - begin + t * dilation].

    Attributes:
        images, channels, filters: how many.
        win: the window; two axes.
    """

    images: int
    channels: int
    filters: int
    win: Window

    @property
    def high(self) -> int:
        """Lines of a padded image that are read, and as many more as make them a multiple of the dilation."""
        w = self.win
        read, spread = (w.out[0] - 1) * w.strides[0] + (w.kernel[0] - 1) * w.dilations[0] + 1, w.dilations[0]
        return -(-read // spread) * spread

    @property
    def weights(self) -> int:
        """How many there are."""
        return self.filters * self.channels * self.win.n_taps

    @property
    def pitch(self) -> int:
        """Places of a padded line of x that are read."""
        w = self.win
        return w.out[1] + (w.kernel[1] - 1) * w.dilations[1]

    @property
    def layout(self) -> tuple[int, ...]:
        """What the loops take."""
        w = self.win
        sizes = (*w.size, *w.begin, *w.out, self.high, *w.kernel, w.strides[0], *w.dilations)
        return self.channels, self.filters, *sizes

    def block(self, numbers: int, width: int) -> int:
        """How many images go together, of which each has so many numbers, and outputs in a line."""
        each = int(np.diff(self.bounds).max())
        most = max(1, min(NUMBERS // numbers, SMALL // (self.weights * width)))
        return -(-each // -(-each // most))

    @cached_property
    def bounds(self) -> Array:
        """Of images for one thread each."""
        w = self.win
        products = self.images * self.weights * math.prod(w.out)
        copied = self.images * (self.written + self.filters * math.prod(w.out))
        return bounds_of(self.images, products * SPEED + copied * COPY_SPEED)

    @property
    def written(self) -> int:
        """How many numbers are written out for an image."""
        return self.high * self.channels * self.win.kernel[1] * self.win.out[1]


def _lines(site: KernelSite, x: str, w: str) -> Lines | None:
    """The site's correlation; None where lines do not serve or do not pay."""
    if not site.is_float(x, w) or site.inputs[x].dtype != "float32" or len(site.shape(x)) not in (3, 4):
        return None
    (n, channels, *size), (filters, inside, *kernel_shape), a = site.shape(x), site.shape(w), site.attributes
    if inside != channels or 0 in site.shape(x) or 0 in site.shape(w) or len(kernel_shape) != len(size):
        return None
    win = planar(window(size, kernel_shape, a["strides"], a["dilations"], a["pads"], a["auto_pad"]))
    lines = Lines(n, channels, filters, win)
    pays = n * win.out[1] >= WIDE and lines.weights * WIDE <= SMALL and lines.written <= LARGEST
    large = n * lines.weights * math.prod(win.out) >= LEAST and win.n_taps > 1 and win.strides[1] == 1
    return lines if large and pays and min(*win.begin, *win.end) >= 0 else None


def _run(lines: Lines, loop: str, arrays: int, rooms: int) -> Callable[..., None]:
    """One of the loops, for all images: a function of a block's size, the layout, arrays, and scratch arrays."""
    from graphrt_numba import line_loops
    from graphrt_numba.product_loops import product

    arguments = [*["int64"] * 16, *["float32*"] * arrays, *["float32**"] * rooms]
    return partial(by_rows(getattr(line_loops, loop), arguments, lines.bounds), product())


@kernel("Conv", name="numba_few_weights", priority=PRIORITY - 1)
def few_weights(site: KernelSite) -> Into | None:
    """y from x, w and b."""
    lines = _lines(site, "x", "w")
    if lines is None or (site.inputs.get("b") is not None and not site.is_float("x", "b")):
        return None
    run, win, kept, parts = _run(lines, "outputs", 4, 2), lines.win, Kept(), len(lines.bounds) - 1
    block = lines.block(lines.written, win.out[1])
    numbers = block, *lines.layout
    across = block * win.out[1]

    def by_line(w: Array, matrix: Array) -> None:
        matrix[...] = w.reshape(lines.filters, lines.channels, *win.kernel).swapaxes(1, 2)

    def fill(x: Array, w: Array, b: Array | None, y: Array, room: Array, written: Array, made: Array) -> None:
        matrix = kept.of(w, room, by_line).reshape(-1)
        arrays = x.ravel(), matrix, NONE if b is None else b.ravel(), y.reshape(-1)
        run(*numbers, *arrays, written, made)

    shape = lines.filters, win.kernel[0], lines.channels, win.kernel[1]
    scratch = [shape, (parts, block * lines.written), (parts, lines.filters * across)]
    return site.into(fill, scratch=[(s, "float32") for s in scratch])


@kernel("Conv.vjp[w]", name="numba_few_weights_cotangent", priority=PRIORITY - 1)
def few_weights_cotangent(site: KernelSite) -> Into | None:
    """w's cotangent from ct, x and w_like."""
    lines = _lines(site, "x", "w_like")
    if lines is None:
        return None
    run, win, parts = _run(lines, "weights", 2, 3), lines.win, len(lines.bounds) - 1
    block = lines.block(lines.written, win.out[1])
    numbers = block, *lines.layout
    shape = win.kernel[0], lines.channels, win.kernel[1], lines.filters

    def fill(ct: Array, x: Array, w_like: Array, w: Array, total: Array, written: Array, given: Array) -> None:
        arrays = ct.ravel(), x.ravel()
        run(*numbers, *arrays, total, written, given)
        for other in total[1:]:
            np.add(total[0], other, total[0])
        w.reshape(lines.filters, lines.channels, *win.kernel)[...] = total[0].reshape(shape).transpose(3, 1, 0, 2)

    sizes = lines.weights, block * lines.written, lines.filters * block * win.out[1]
    return site.into(fill, scratch=[((parts, size), "float32") for size in sizes])


@kernel("Conv.vjp[x]", name="numba_few_weights_input_cotangent", priority=PRIORITY - 1)
def few_weights_input_cotangent(site: KernelSite) -> Into | None:
    """x's cotangent from ct, x_like and w."""
    lines = _lines(site, "x_like", "w")
    if lines is None:
        return None
    run, win, kept, parts = _run(lines, "inputs", 3, 3), lines.win, Kept(), len(lines.bounds) - 1
    sums, written = lines.high * lines.channels * lines.pitch, lines.filters * win.kernel[1] * lines.pitch
    block = lines.block(max(sums, written), lines.pitch)
    numbers = block, *lines.layout

    def by_line(w: Array, matrix: Array) -> None:
        matrix[...] = w.reshape(lines.filters, lines.channels, *win.kernel).transpose(2, 1, 0, 3)

    def fill(ct: Array, x_like: Array, w: Array, x: Array, room: Array, *memory: Array) -> None:
        arrays = ct.ravel(), kept.of(w, room, by_line).reshape(-1), x.reshape(-1)
        run(*numbers, *arrays, *memory)

    shape = win.kernel[0], lines.channels, lines.filters, win.kernel[1]
    spread = lines.filters * block * lines.pitch + lines.pitch
    sizes = block * sums, spread, block * written
    return site.into(fill, scratch=[(shape, "float32"), *(((parts, size), "float32") for size in sizes)])


KERNELS = (few_weights, few_weights_cotangent, few_weights_input_cotangent)
