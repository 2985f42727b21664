"""Depthwise convolution and pooling of images: the taps of a window are numbers at a distance, see `window_loops`."""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import le
from typing import Any, NamedTuple

import numpy as np

from graphrt.definitions import Into
from graphrt.ops._windows import Window, window
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.records import dataclass
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth

MOST, SMALLEST, FEWEST = 49, 128, 64
"""Taps of a window, at most: all of them are written out; numbers of a plane, and outputs of one, at least."""
SPEED = 0.06
"""Nanoseconds that one tap takes for one number of the output, about."""
NONE = np.empty(0, np.float32)


class Tap(NamedTuple):
    """One tap of a window: its phase, and how many lines and places it lies beyond the output's."""

    phase: int
    down: int
    along: int


@dataclass(frozen=True)
class Planes:
    """Images [images, channels, *size] under a window, plane by plane."""

    images: int
    channels: int
    win: Window

    @property
    def taps(self) -> tuple[Tap, ...]:
        """In the order of the kernel's rows: phase, and lines and places beyond the output's."""
        (kh, kw), (sh, sw), (dh, dw) = self.win.kernel, self.win.strides, self.win.dilations
        at = [(i * dh, j * dw) for i in range(kh) for j in range(kw)]
        return tuple(Tap(i % sh * sw + j % sw, i // sh, j // sw) for i, j in at)

    @property
    def pitch(self) -> int:
        """The length of a line."""
        return self.win.out[1] + max(t.along for t in self.taps)

    @property
    def lines(self) -> int:
        """How many lines a phase has."""
        return self.win.out[0] + max(t.down for t in self.taps)

    @property
    def size(self) -> int:
        """How far a phase lies from the next: the last tap reads a little beyond the last line."""
        return (self.lines + 1) * self.pitch

    @property
    def phases(self) -> int:
        """How many there are."""
        return math.prod(self.win.strides)

    @property
    def layout(self) -> tuple[int, ...]:
        """What the loops take."""
        w = self.win
        return (*w.size, *w.begin, *w.out, *w.strides, self.lines, self.pitch, self.size)

    def bounds(self, rows: int) -> Array:
        """Of planes, or of channels, for one thread each."""
        outputs = self.images * self.channels * math.prod(self.win.out)
        return bounds_of(rows, outputs * (len(self.taps) + 4) * SPEED)


def _planes(site: KernelSite, x: str, kernel_shape: Any, small: bool = False) -> Planes | None:
    """None where the loops do not serve, or planes are too small, unless ``small`` ones are served."""
    t, a = site.inputs[x], site.attributes
    if not is_worth(site, t) or len(t.shape) != 4 or not 1 < math.prod(kernel_shape) <= MOST:
        return None
    given = a["strides"], a["dilations"], a["pads"], a["auto_pad"], a.get("ceil_mode", 0)
    win = window(t.shape[2:], kernel_shape, *given)
    fits = min(win.begin) >= 0 and max(win.strides) <= 4 and (small or math.prod(win.size) >= SMALLEST)
    return Planes(t.shape[0], t.shape[1], win) if fits else None


def _into(
    site: KernelSite, planes: Planes, loop: Any, rows: int, numbers: tuple[int, ...], extra: Array, sizes: list[int],
    chosen: Callable[..., tuple[Any, ...]],
) -> Into | None:  # fmt: skip
    """A loop as a kernel.

    Args:
        site: where it serves.
        planes: what it goes through.
        loop: takes the first and last row, ``numbers``, the layout, ``extra``, arrays of the node, scratch arrays.
        rows: how many planes or channels there are.
        sizes: of the scratch arrays, for each thread.
        chosen: all arrays of the node to those that the loop takes.
    """
    arguments = *numbers, *planes.layout
    bounds = planes.bounds(rows)
    given = [*site.inputs.values(), *site.outputs]
    count = len(chosen(*given)) + len(sizes)
    kinds = ["float32*"] * (count - len(sizes)) + ["float32**"] * len(sizes)
    run = by_rows(loop, [*["int64"] * len(arguments), f"{extra.dtype}*", *kinds], bounds)

    def fill(*arrays: Array) -> None:
        flat = [NONE if x is None else x.ravel() for x in chosen(*arrays[: len(given)])]
        run(*arguments, extra, *flat, *arrays[len(given) :])

    return site.into(fill, scratch=[((len(bounds) - 1, size), "float32") for size in sizes])


def _slid(
    site: KernelSite, planes: Planes, loop: Any, numbers: tuple[int, ...], chosen: Callable[..., tuple[Any, ...]]
) -> Into | None:
    """A loop of `slide_loops` as a kernel; see `_into`."""
    from graphrt_numba.vectors import LANES

    w, rows = planes.win, planes.images * planes.channels
    (sh, sw), (down, along) = w.strides, w.dilations
    lines = (w.out[0] - 1) * sh + (w.kernel[0] - 1) * down + 1
    read = -(-w.out[1] // LANES) * LANES + (w.kernel[1] - 1) * along // sw + 1
    phase = max(read, (w.size[1] + w.begin[1] - 1) // sw + 1)
    distances = np.array(
        [
            i * down * sw * phase + j * along % sw * phase + j * along // sw
            for i in range(w.kernel[0])
            for j in range(w.kernel[1])
        ]
    )
    arguments = *numbers, *w.size, *w.begin, *w.out, *w.strides, lines, phase
    bounds = planes.bounds(rows)
    given = [*site.inputs.values(), *site.outputs]
    kinds = [*["float32*"] * len(chosen(*given)), "float32**"]
    run = by_rows(loop, [*["int64"] * len(arguments), "int64*", *kinds], bounds)

    def fill(*arrays: Array) -> None:
        flat = [NONE if x is None else x.ravel() for x in chosen(*arrays[:-1])]
        run(*arguments, distances, *flat, arrays[-1])

    return site.into(fill, scratch=[((len(bounds) - 1, lines * sw * phase), "float32")])


# ---- depthwise convolution ---------------------------------------------------------------------------------


def _depthwise(site: KernelSite, x: str, w: str, small: bool = False) -> Planes | None:
    if not site.is_float(x, w) or len(site.shape(w)) != 4:
        return None
    filters, inside, *kernel_shape = site.shape(w)
    if inside != 1 or filters != site.attributes["group"] or site.shape(x)[1] != filters:
        return None
    return _planes(site, x, tuple(kernel_shape), small)


@kernel("Conv", name="numba_depthwise_convolution", priority=PRIORITY)
def depthwise_convolution(site: KernelSite) -> Into | None:
    """y from x, w and b, with a kernel for each channel."""
    planes = _depthwise(site, "x", "w", small=True)
    if (
        planes is None
        or math.prod(planes.win.out) < FEWEST
        or (site.inputs.get("b") is not None and not site.is_float("x", "b"))
    ):
        return None
    from graphrt_numba import slide_loops as loops

    return _slid(site, planes, loops.sums, (planes.channels,), lambda *arrays: arrays)


@kernel("Conv.vjp[x]", name="numba_depthwise_input_cotangent", priority=PRIORITY)
def depthwise_input_cotangent(site: KernelSite) -> Into | None:
    """x's cotangent from ct, x_like and w, with a kernel for each channel."""
    planes = _depthwise(site, "x_like", "w")
    if planes is None:
        return None
    from graphrt_numba import window_loops as loops

    rows, numbers = planes.images * planes.channels, (planes.channels, len(planes.taps))
    loop, sizes = loops.adjoint(planes.taps, planes.phases), [planes.phases * planes.size, 2 * planes.size]
    return _into(site, planes, loop, rows, numbers, NONE, sizes, lambda ct, x_like, w, x_ct: (ct, w, x_ct))


@kernel("Conv.vjp[w]", name="numba_depthwise_weight_cotangent", priority=PRIORITY)
def depthwise_weight_cotangent(site: KernelSite) -> Into | None:
    """w's cotangent from ct, x and w_like, with a kernel for each channel."""
    planes = _depthwise(site, "x", "w_like")
    if planes is None:
        return None
    from graphrt_numba import window_loops as loops

    sizes, numbers = [planes.phases * planes.size, planes.size], (planes.channels, planes.images)
    loop, rows = loops.products(planes.taps), planes.channels
    return _into(site, planes, loop, rows, numbers, NONE, sizes, lambda ct, x, w_like, w_ct: (ct, x, w_ct))


# ---- pooling -----------------------------------------------------------------------------------------------


def _pooled(site: KernelSite, x: str) -> Planes | None:
    """None also where no window overlaps another: then every number is read once, and NumPy is as fast."""
    planes = _planes(site, x, site.attributes["kernel_shape"])
    return None if planes is None or all(map(le, planes.win.kernel, planes.win.strides)) else planes


@kernel("MaxPool", name="numba_max_pool", priority=PRIORITY)
def max_pool(site: KernelSite) -> Into | None:
    """The largest of each window."""
    planes = _pooled(site, "x")
    if planes is None or site.outputs[0] is None or site.outputs[1] is not None:
        return None
    from graphrt_numba import slide_loops as loops

    return _slid(site, planes, loops.largest, (), lambda x, y, indices: (x, y))


@kernel("MaxPool.vjp[x]", name="numba_max_pool_cotangent", priority=PRIORITY)
def max_pool_cotangent(site: KernelSite) -> Into | None:
    """The first element of a window that equals the maximum takes all."""
    planes = _pooled(site, "x")
    if planes is None or site.inputs.get("ct") is None:
        return None
    from graphrt_numba import window_loops as loops

    size, rows = planes.size, planes.images * planes.channels
    sizes = [planes.phases * size, planes.phases * size, size, size]
    distances = np.array([t.phase * size + t.down * planes.pitch + t.along for t in planes.taps])
    ins = list(site.inputs)
    order = [*(ins.index(name) for name in ("ct", "x", "y")), -1]
    return _into(site, planes, loops.winners, rows, (), distances, sizes, lambda *a: tuple(a[i] for i in order))


def _shares(planes: Planes, site: KernelSite) -> Array:
    """One over how many elements each window averages, for all outputs of a plane."""
    down, along = planes.win.counts(bool(site.attributes["count_include_pad"]))
    return (1 / np.maximum(np.multiply.outer(down, along), 1)).astype(np.float32).ravel()


@kernel("AveragePool", name="numba_average_pool", priority=PRIORITY)
def average_pool(site: KernelSite) -> Into | None:
    """A correlation with ones, divided by their number."""
    planes = _pooled(site, "x")
    if planes is None:
        return None
    from graphrt_numba import window_loops as loops

    ones, rows = np.ones(len(planes.taps), np.float32), planes.images * planes.channels
    sizes, shares = [planes.phases * planes.size, planes.size], _shares(planes, site)
    loop = loops.correlation(planes.taps)
    return _into(site, planes, loop, rows, (planes.channels, 0), shares, sizes, lambda x, y: (x, ones, None, y))


@kernel("AveragePool.vjp[x]", name="numba_average_pool_cotangent", priority=PRIORITY)
def average_pool_cotangent(site: KernelSite) -> Into | None:
    """ct over the number of elements, given to each of them."""
    planes = _pooled(site, "x_like")
    if planes is None:
        return None
    from graphrt_numba import window_loops as loops

    ones, rows = np.ones(len(planes.taps), np.float32), planes.images * planes.channels
    loop, sizes = loops.adjoint(planes.taps, planes.phases), [planes.phases * planes.size, 2 * planes.size]
    return _into(
        site, planes, loop, rows, (planes.channels, 0), _shares(planes, site), sizes,
        lambda ct, x_like, x_ct: (ct, ones, x_ct),
    )  # fmt: skip


KERNELS = (
    depthwise_convolution, depthwise_input_cotangent, depthwise_weight_cotangent,
    max_pool, max_pool_cotangent, average_pool, average_pool_cotangent,
)  # fmt: skip
