"""Convolutions of any kernel, step, padding, dilation and number of groups: in tiles of places times filters.

Images are first spread, their channels side by side, with the padding around them; then what a line of taps reads for
a place is a run of numbers, wherever it begins, and nothing need be written out for each tap. Kernels of one tap that
read all places are products of the images as they lie.

After M. Dukhan, "The indirect convolution algorithm", 2019 (arXiv:1907.02129), with distances in place of pointers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import pairwise, product
from typing import Any

import numpy as np

from graphrt.definitions import Into
from graphrt.ops._windows import Window, window
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.records import dataclass
from graphrt.runtime.kernels._kept import Kept
from graphrt.runtime.kernels.convolution import planar
from graphrt.runtime.threads import threads_for
from graphrt_numba.sharing import LEAST, PRIORITY, is_worth, launching

SPEED, SPREAD_SPEED = 0.014, 0.3
"""Nanoseconds that one of the products takes, about; and a number that is spread."""
FEWEST = 8
"""Filters of a group, at least: a tile has as many as vectors have numbers."""
SMALLEST = 1 << 14
"""Products of two numbers, at least."""
MOST = 2048
"""Channels of a kernel of one tap, at most."""
PLACES = 8
"""Of a tile."""
SHORTEST = 64
"""Places of all images from which on the gradient of the weights pays: it is written twice."""
RUNS = 512
"""Runs of a place, at most."""
BLOCK = 1 << 16
"""Numbers of images that are read for a block of places, about: they stay in the cache for all filters."""
PARTS = 4
"""Parts for each thread: they are not done at the same time, as a rule."""
NONE = np.empty(0, np.float32)
Ints = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """Places of an image, what they read of a spread one, and where their sums go; all pairs are lines, places.

    Attributes:
        out: how many there are.
        first: the first place that the first of them reads.
        steps: from what one reads to what the next one does.
        kernel, dilations: the taps.
        to: where in a plane the first sum is written, how far those of lines are apart, and those in a line.
        taps: where the weights of a filter are: of each tap, and of each tap the channels.
    """

    out: Ints
    first: Ints
    steps: Ints
    kernel: Ints
    dilations: Ints
    to: Ints
    taps: Array


@dataclass(frozen=True)
class Sums:
    """What gives the sums of some forms: images, spread with padding around them, times weights.

    Attributes:
        images, channels, filters, groups: how many.
        size: of an image.
        begin: padding above and to the left.
        spread: size of a spread image.
        plane: numbers of an image of a filter.
        forms: one or several.
        step: from the weights of a filter to those of the next.
    """

    images: int
    channels: int
    filters: int
    groups: int
    size: Ints
    begin: Ints
    spread: Ints
    plane: int
    forms: tuple[Form, ...]
    step: int

    @property
    def products(self) -> int:
        """How many numbers are multiplied."""
        return sum(self.images * math.prod(f.out) * self.filters * f.taps.size for f in self.forms)

    @property
    def numbers(self) -> int:
        """How many are spread."""
        return self.images * self.channels * math.prod(self.spread)

    @cached_property
    def threads(self) -> int:
        """How many pay."""
        return threads_for(self.products * SPEED + self.numbers * SPREAD_SPEED, LEAST)

    def runs(self, form: Form) -> tuple[Array, int]:
        """Where the runs that a place reads begin, and how long they are."""
        (down, along), channels = form.dilations, self.channels
        line = np.arange(form.kernel[0]) * (down * self.spread[1] * channels)
        if along == 1 and self.groups == 1:
            return line, form.kernel[1] * channels
        return np.add.outer(line, np.arange(form.kernel[1]) * along * channels).ravel(), channels // self.groups

    def numbers_of(self, form: Form, step: int, weight: int) -> list[int]:
        """What the loops take of a form, whose runs and weights begin at some elements."""
        (runs, length), wide, c = self.runs(form), self.spread[1], self.channels
        (line, place), to = form.first, form.to
        at = (line * wide + place) * c, form.steps[0] * wide * c, form.steps[1] * c
        return [*form.out, len(runs), length, step, *at, *to, weight]

    @property
    def own(self) -> int:
        """Filters of a group."""
        return self.filters // self.groups

    @property
    def block(self) -> int:
        """How many tiles go together."""
        each = self.channels * max(math.prod(f.steps) for f in self.forms)
        return max(1, BLOCK // (each * PLACES))

    def parts(self) -> Array:
        """Rows of form, first and last tile, first and last panel."""
        from graphrt_numba.patch_loops import PANEL

        rows = []
        panels = self.groups * -(-self.own // PANEL)
        for i, form in enumerate(self.forms):
            tiles = -(-self.images * math.prod(form.out) // PLACES)
            wanted = self.threads * PARTS if self.threads > 1 else 1
            if self.filters * form.taps.size > self.numbers:
                of_panels = _cuts(panels, wanted)
                of_tiles = _cuts(tiles, wanted // len(of_panels))
            else:
                of_tiles = _cuts(tiles, wanted)
                of_panels = _cuts(panels, wanted // len(of_tiles))
            rows += [(i, *t, *p) for p, t in product(of_panels, of_tiles)]
        return np.array(rows)

    def lines(self) -> Array:
        """Where parts of all lines that are spread begin, and where the last one ends."""
        lines = self.images * self.spread[0]
        return np.array([lines * i // self.threads for i in range(self.threads + 1)])

    def compiled(self) -> tuple[Callable[..., None], list[tuple[tuple[int, ...], str]]]:
        """A function of x, w, b (or nothing), y and scratch arrays, flat ones; and the scratch arrays."""
        from graphrt_numba import patch_loops as loops
        from graphrt_numba.team import TEAM
        from graphrt_numba.vectors import LANES

        forms: list[list[int]] = []
        steps: list[int] = []
        begins: list[int] = []
        weight = 0
        for form in self.forms:
            forms.append(self.numbers_of(form, len(steps), weight))
            steps += list(self.runs(form)[0])
            begins.append(weight)
            weight += self.groups * -(-self.own // LANES) * LANES * form.taps.size
        kinds = "int64*", "int64", "int64*", "int64**", "int64**", "int64*", *["int64"] * 12, *["float32*"] * 5
        numbers = (
            self.images, self.channels, *self.size, *self.begin, *self.spread, self.filters, self.groups, self.plane,
            self.block,
        )  # fmt: skip
        given = self.lines(), self.parts(), np.array(forms), np.array(steps), *numbers
        run = TEAM.calls(loops.outputs, kinds, self.threads - 1, *given)
        pack, kept = loops.panels.compiled(*["int64"] * 4, "int64*", "float32*", "int64", "float32*"), Kept()

        def in_panels(w: Array, packed: Array) -> None:
            size = w.size // self.groups
            for form, begin in zip(self.forms, begins, strict=True):
                pack(self.groups, size, self.own, self.step, form.taps, w.ravel(), begin, packed)

        def fill(x: Array, w: Array, b: Array | None, y: Array, room: Array, spread: Array) -> None:
            run(x.ravel(), kept.of(w, room, in_panels), NONE if b is None else b.ravel(), y.reshape(-1), spread)

        return fill, [((weight,), "float32"), ((self.numbers + RUNS,), "float32")]


def _cuts(length: int, count: int) -> list[tuple[int, int]]:
    """First and last of so many parts of about equal length, or fewer."""
    count = max(1, min(count, length))
    return list(pairwise(length * i // count for i in range(count + 1)))


# ---- sites -------------------------------------------------------------------------------------------------


def _geometry(site: KernelSite, x: str, w: str) -> tuple[int, int, int, int, Window] | None:
    """Images, channels, filters, groups and the window; None where the loops do not serve."""
    if not site.is_float(x, w) or not is_worth(site, site.inputs[x]) or len(site.shape(x)) not in (3, 4):
        return None
    (n, channels, *size), (filters, inside, *kernel_shape), a = site.shape(x), site.shape(w), site.attributes
    groups = a["group"]
    if 0 in site.shape(x) or 0 in site.shape(w) or len(kernel_shape) != len(size):
        return None
    if channels != inside * groups or filters % groups or filters // groups < FEWEST:
        return None
    win = planar(window(size, kernel_shape, a["strides"], a["dilations"], a["pads"], a["auto_pad"]))
    if min(*win.begin, *win.end) < 0 or win.n_taps > RUNS:
        return None
    if n * filters * inside * win.n_taps * math.prod(win.out) < SMALLEST:
        return None
    return n, channels, filters, groups, win


def _read(win: Window, out: tuple[int, ...]) -> tuple[int, int]:
    """Lines and places of a padded image that so many outputs read."""
    high, wide = (
        (o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(out, win.strides, win.kernel, win.dilations, strict=True)
    )
    return high, wide


def _taps(kernel: tuple[int, ...], lines: Any, places: Any, channels: int, step: int) -> Array:
    """Where the weights of a filter are, of taps at some lines and places of a kernel."""
    at = np.add.outer(np.asarray(lines) * kernel[1], np.asarray(places)).ravel()
    return np.add.outer(at, np.arange(channels) * step).ravel()


def _forward(n: int, channels: int, filters: int, groups: int, win: Window) -> Sums:
    taps = _taps(win.kernel, range(win.kernel[0]), range(win.kernel[1]), channels // groups, win.n_taps)
    form = Form(win.out, (0, 0), win.strides, win.kernel, win.dilations, (0, win.out[1], 1), taps)
    return Sums(
        n, channels, filters, groups, win.size, win.begin, _read(win, win.out), math.prod(win.out), (form,),
        channels // groups * win.n_taps,
    )  # fmt: skip


@kernel("Conv", name="numba_patches", priority=PRIORITY - 2)
def patches(site: KernelSite) -> Into | None:
    """y from x, w and b."""
    found = _geometry(site, "x", "w")
    if found is None or (site.inputs.get("b") is not None and not site.is_float("x", "b")):
        return None
    if _is_product(found):
        run = _product(*found)
        return launching(
            site, lambda x, w, b, y: run(w.ravel(), x.ravel(), NONE if b is None else b.ravel(), y.reshape(-1))
        )
    fill, scratch = _forward(*found).compiled()
    return site.into(fill, scratch=scratch)


def _is_product(found: tuple[int, int, int, int, Window]) -> bool:
    """Whether each image as it lies is a matrix that the weights are multiplied with."""
    _, channels, _, groups, win = found
    return groups == 1 and win.is_pointwise and not any(win.end) and channels <= MOST


def _product(n: int, channels: int, filters: int, groups: int, win: Window) -> Callable[..., None]:
    """What computes y = w x + b for each image, from w, x, b (or nothing) and y, flat arrays."""
    from graphrt_numba import patch_loops as loops
    from graphrt_numba.team import TEAM

    plane = math.prod(win.out)
    threads = threads_for(n * channels * filters * plane * SPEED, LEAST)
    wanted = threads * PARTS if threads > 1 else 1
    of_places = _cuts(-(-n * plane // loops.STRIP), wanted)
    of_filters = _cuts(-(-filters // PLACES), wanted // len(of_places))
    parts = [(*p, f[0] * PLACES, min(f[1] * PLACES, filters)) for f, p in product(of_filters, of_places)]
    kinds = "int64*", "int64", "int64**", *["int64"] * 4, *["float32*"] * 4
    return TEAM.calls(loops.points, kinds, threads - 1, np.array(parts), n, channels, filters, plane)


# ---- gradients ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phase:
    """Places of x along an axis that are as far apart as outputs read, and what gives their cotangents.

    Attributes:
        at, step, count: the places.
        first: the first place of ct that the first of them takes; it may be outside of it.
        taps: of the kernel, in the order of what they take.
        dilation: how far that is apart.
    """

    at: int
    step: int
    count: int
    first: int
    taps: range
    dilation: int


def _phases(win: Window, axis: int) -> list[Phase]:
    """Those of an axis that has steps of one, or taps next to each other."""
    size, stride, taps = win.size[axis], win.strides[axis], win.kernel[axis]
    dilation, begin = win.dilations[axis], win.begin[axis]
    if stride == 1:
        back = range(taps - 1, -1, -1)
        return [Phase(0, 1, size, begin - (taps - 1) * dilation, back, dilation)]
    phases = []
    for phase in range(stride):
        given, nearest = range(phase, taps, stride), -((phase - begin) // stride)
        at = nearest * stride + phase - begin
        count = len(range(at, size, stride))
        phases.append(Phase(at, stride, count, nearest - len(given) + 1, given[::-1], 1))
    return [p for p in phases if p.count]


def _backward(n: int, channels: int, filters: int, groups: int, win: Window) -> tuple[Sums, bool]:
    """What gives x's cotangent from ct and w, and whether that is every number of it."""
    axes = [_phases(win, axis) for axis in (0, 1)]
    pairs = list(product(*axes))
    pairs_used = [pair for pair in pairs if all(p.taps for p in pair)]
    begin = [max(0, *(-p.first for p in phases)) for phases in axes]
    spread = [
        max(b + p.first + p.count + (len(p.taps) - 1) * p.dilation for p in phases if p.taps)
        for b, phases in zip(begin, axes, strict=True)
    ]
    inside, own, width = channels // groups, filters // groups, win.size[1]
    forms = tuple(
        Form(
            (down.count, along.count), (begin[0] + down.first, begin[1] + along.first), (1, 1),
            (len(down.taps), len(along.taps)), (down.dilation, along.dilation),
            (down.at * width + along.at, down.step * width, along.step),
            _taps(win.kernel, down.taps, along.taps, own, inside * win.n_taps),
        )
        for down, along in pairs_used
    )  # fmt: skip
    sums = Sums(
        n, filters, channels, groups, win.out, (begin[0], begin[1]), (spread[0], spread[1]), math.prod(win.size), forms,
        win.n_taps,
    )  # fmt: skip
    return sums, len(pairs_used) == len(pairs)


@kernel("Conv.vjp[x]", name="numba_patches_input_cotangent", priority=PRIORITY - 2)
def patches_input_cotangent(site: KernelSite) -> Into | None:
    """x's cotangent from ct, x_like and w: sums of ct, for each place that is read alike those of some taps."""
    found = _geometry(site, "x_like", "w")
    if found is None:
        return None
    n, channels, filters, groups, win = found
    if _is_product((n, filters, channels, groups, win)):
        return _product_cotangent(site, _product(n, filters, channels, groups, win), (channels, filters))
    apart = any(s > 1 and d > 1 for s, d in zip(win.strides, win.dilations, strict=True))
    if apart or channels // groups < FEWEST:
        return None
    sums, is_all = _backward(*found)
    sum_up, scratch = sums.compiled()

    def fill(ct: Array, x_like: Array, w: Array, x_ct: Array, *memory: Array) -> None:
        if not is_all:
            x_ct.fill(0)
        sum_up(ct, w, None, x_ct, *memory)

    return site.into(fill, scratch=scratch)


def _product_cotangent(site: KernelSite, run: Callable[..., None], shape: tuple[int, int]) -> Into | None:
    """For a kernel of one tap: w^T ct for each image; the shape is that of w^T."""
    kept = Kept()

    def turned(w: Array, room: Array) -> None:
        room[...] = w.reshape(shape[::-1]).T

    def fill(ct: Array, x_like: Array, w: Array, x_ct: Array, room: Array) -> None:
        run(kept.of(w, room, turned).reshape(-1), ct.ravel(), NONE, x_ct.reshape(-1))

    return site.into(fill, scratch=[(shape, "float32")])


@kernel("Conv.vjp[w]", name="numba_patches_weight_cotangent", priority=PRIORITY - 2)
def patches_weight_cotangent(site: KernelSite) -> Into | None:
    """w's cotangent from ct, x and w_like: for each line of taps sums of ct times what they read."""
    found = _geometry(site, "x", "w_like")
    if found is None or found[0] * math.prod(found[4].out) < SHORTEST:
        return None
    from graphrt_numba import patch_loops as loops
    from graphrt_numba.team import TEAM

    sums, (n, channels, filters, groups, win) = _forward(*found), found
    (form,), (high, wide) = sums.forms, sums.spread
    runs, length = sums.runs(form)
    plane, line = math.prod(win.out), np.arange(win.out[0])
    of_ct = np.add.outer(np.arange(n) * filters * plane, line * win.out[1]).ravel()
    of_x = np.add.outer(np.arange(n) * high * wide, line * win.strides[0] * wide).ravel() * channels
    tall, broad = -(-sums.own // PLACES) * PLACES, -(-length // loops.PANEL) * loops.PANEL
    shape = len(runs), groups, tall, broad
    tiles = math.prod(shape) // (PLACES * loops.PANEL)
    parts = np.array(_cuts(tiles, sums.threads * PARTS if sums.threads > 1 else 1))
    kinds = "int64*", "int64", "int64*", "int64**", *["int64*"] * 3, *["int64"] * 13, *["float32*"] * 4
    numbers = channels, *win.size, *win.begin, high, wide, sums.own, length, channels // groups, plane, win.out[1]
    step = win.strides[1] * channels
    given = sums.lines(), parts, runs, of_ct, of_x, *numbers, step
    run = TEAM.calls(loops.weights, kinds, sums.threads - 1, *given)

    def fill(ct: Array, x: Array, w_like: Array, w_ct: Array, total: Array, spread: Array) -> None:
        run(ct.ravel(), x.ravel(), total, spread)
        made = total.reshape(win.kernel[0], -1, *shape[1:])[..., : sums.own, :length]
        made = made.reshape(*made.shape[:4], -1, channels // groups)
        # lines of the kernel, runs of a line, groups, filters, taps of a run, channels
        to = w_ct.reshape(groups, sums.own, channels // groups, *made.shape[:2], made.shape[4])
        to[...] = made.transpose(2, 3, 5, 0, 1, 4)

    return site.into(fill, scratch=[((math.prod(shape),), "float32"), ((sums.numbers + RUNS,), "float32")])


KERNELS = (patches, patches_input_cotangent, patches_weight_cotangent)
