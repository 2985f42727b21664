"""Pooling: one axis after the other, which gives the same, in blocks of images that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.ops._windows import Window, window
from graphrt.runtime.threads import divide, share

Function = Callable[..., Any]
Tap = tuple[slice, slice]
Pass = tuple[int, list[Tap], tuple[int, ...]]
"""An axis of a block of images, its taps, and the size of an image afterwards."""
BLOCK = 1 << 17
"""Numbers of the input worked on at a time."""
SPEED = 0.4
"""Nanoseconds that one number of the input takes along one axis, about."""


def _pooled(site: KernelSite, x: str) -> Window | None:
    if not site.is_float(x) or len(site.shape(x)) < 3 or 0 in site.shape(x):
        return None
    a = site.attributes
    given = a["kernel_shape"], a["strides"], a["dilations"], a["pads"], a["auto_pad"], a["ceil_mode"]
    return window(site.shape(x)[2:], *given)


def _line(win: Window, axis: int) -> Window:
    """The window along one axis alone."""
    fields = win.size, win.out, win.kernel, win.strides, win.dilations, win.begin, win.end
    return Window(*((f[axis],) for f in fields))


def _taps(win: Window, axis: int) -> list[Tap]:
    """Slices of the output and of the input along one axis, one pair per tap."""
    return [(to[0], at[0]) for _, to, at in _line(win, axis).taps()]


class _Images:
    """Images of one size, [N, C, *S], in blocks divided among threads."""

    def __init__(self, shape: tuple[int, ...], dtype: str, passes: int):
        self.count, self.size, self.dtype = shape[0] * shape[1], shape[2:], dtype
        self.step = min(self.count, max(1, BLOCK // math.prod(self.size)))
        blocks = [slice(i, i + self.step) for i in range(0, self.count, self.step)]
        self.parts = divide(blocks, nanoseconds=math.prod(shape) * passes * SPEED)

    def scratch(self, *sizes: tuple[int, ...], dtype: str = "") -> list[tuple[tuple[int, ...], str]]:
        """For `KernelSite.into`: arrays for a block of images of these sizes, in each thread."""
        return [((len(self.parts), self.step, *size), dtype or self.dtype) for size in sizes]

    def over_blocks(self, work: Callable[..., None], *arrays: Array, scratch: Sequence[Array] = ()) -> None:
        """Calls ``work`` for blocks of images: with these parts of the arrays, and of the scratch arrays."""
        images = [a.reshape(-1, *a.shape[2:]) for a in arrays]

        def each(i: int, blocks: list[slice]) -> None:
            for at in blocks:
                parts = [a[at] for a in images]
                work(*parts, *(s[i, : len(parts[0])] for s in scratch))

        share(each, self.parts)


def _gather(combine: Any, x: Array, y: Array, axis: int, taps: Sequence[Tap], start: float) -> None:
    """Combines along one axis what each tap reads of x, from ``start`` where no tap does, into y."""
    before, size = (slice(None),) * axis, y.shape[axis]
    full = [at for to, at in taps if to == slice(0, size)]
    rest = [(to, at) for to, at in taps if to != slice(0, size)]
    if len(full) > 1:
        combine(_steps(x, full[0], axis, size), _steps(x, full[1], axis, size), out=_flat_if(y, x, full[0], axis, size))
    elif full:
        y[...] = x[(*before, full[0])]
    else:
        y.fill(start)
    for at in full[2:]:
        combine(y, x[(*before, at)], out=y)
    for to, at in rest:
        part = y[(*before, to)]
        combine(part, x[(*before, at)], out=part)


def _is_flat(x: Array, at: slice, axis: int, size: int) -> bool:
    """Whether a tap along the last axis takes every so-manieth element of the whole array."""
    step = at.step or 1
    return bool(axis == x.ndim - 1 and at.start < step and size * step == x.shape[axis] and x.flags.c_contiguous)


def _steps(x: Array, at: slice, axis: int, size: int) -> Array:
    if _is_flat(x, at, axis, size):
        return x.reshape(-1)[at.start :: at.step]
    return x[(*(slice(None),) * axis, at)]


def _flat_if(y: Array, x: Array, at: slice, axis: int, size: int) -> Array:
    return y.reshape(-1) if _is_flat(x, at, axis, size) else y


def _passes(win: Window, *, reverse: bool = False) -> list[Pass]:
    """Pooling one axis after the other, from the first or from the last on."""
    size, passes = list(win.size), []
    for i in reversed(range(len(size))) if reverse else range(len(size)):
        size[i] = win.out[i]
        passes.append((i + 1, _taps(win, i), tuple(size)))
    return passes


def _separable(site: KernelSite, win: Window, combine: Any, start: float, divisor: Any = None) -> Into | None:
    """The kernel that combines along one axis after the other, and divides by the divisor."""
    passes = _passes(win)
    images = _Images(site.shape("x"), site.inputs["x"].dtype, len(passes))

    def pool(x: Array, y: Array, *between: Array) -> None:
        for (axis, taps, _), to in zip(passes, (*between, y), strict=True):
            _gather(combine, x, to, axis, taps, start)
            x = to
        if divisor is not None:
            np.divide(y, divisor, y)

    def fill(x: Array, y: Array, *rest: Any) -> None:
        images.over_blocks(pool, x, y, scratch=[s for s in rest if s is not None])

    return site.into(fill, scratch=images.scratch(*(size for _, _, size in passes[:-1])))


@kernel("MaxPool")
def max_pool(site: KernelSite) -> Into | None:
    """Maximum along one axis, of that along the next."""
    win = _pooled(site, "x")
    if win is None or site.attributes.get("n_outputs", 1) > 1 or site.outputs[0] is None:
        return None
    return _separable(site, win, np.maximum, -np.inf)


@kernel("MaxPool.vjp[x]")
def max_pool_cotangent(site: KernelSite) -> Into | None:
    """The first element that equals the maximum takes all: the first line that has it, and the first place there."""
    win = _pooled(site, "x")
    if win is None:
        return None
    dtype = site.inputs["x"].dtype
    images = _Images(site.shape("x"), dtype, 4)
    if _is_pairs(win, dtype):
        spread: Function = _spread_pairs
        scratch = _pair_scratch(images, win)
    else:
        spread = _spread_by_axis(win)
        between = [size for _, _, size in _passes(win, reverse=True)[:-1]]
        scratch = images.scratch(*between, *between)

    def fill(ct: Array, x: Array, y: Array, x_ct: Array, *space: Array) -> None:
        images.over_blocks(spread, x_ct, ct, x, y, scratch=space)

    return site.into(fill, scratch=scratch)


def _spread_by_axis(win: Window) -> Function:
    """Maxima along the last axis, of those along the one before, and so on; their cotangents the other way."""
    passes = _passes(win, reverse=True)

    def spread(x_ct: Array, ct: Array, x: Array, y: Array, *between: Array) -> None:
        count = len(passes) - 1
        maxima, cts = [x, *between[:count], y], [x_ct, *between[count:], ct]
        for i, (axis, taps, _) in enumerate(passes[:-1]):
            _gather(np.maximum, maxima[i], maxima[i + 1], axis, taps, -np.inf)
        for i, (axis, taps, _) in reversed(list(enumerate(passes))):
            cts[i][...] = 0
            _spread_along(taps, axis, cts[i], cts[i + 1], maxima[i], maxima[i + 1])

    return spread


def _spread_along(taps: Sequence[Tap], axis: int, x_ct: Array, ct: Array, x: Array, y: Array) -> None:
    """Adds each ct to the first element along the axis that equals the maximum."""
    before = (slice(None),) * axis
    free = np.ones(y.shape, bool)
    bits = f"i{ct.dtype.itemsize}"
    ct = ct.view(bits)  # times 0 or 1 as an integer: what `where` does, and no branch that goes either way
    for along, source in taps:
        to, at = (*before, along), (*before, source)
        won = x[at] == y[to]
        np.logical_and(won, free[to], won)
        np.greater(free[to], won, free[to])
        taken = np.multiply(won.astype(bits), ct[to])
        x_ct[at] += taken.view(x_ct.dtype)


def _is_pairs(win: Window, dtype: str) -> bool:
    two = (2, 2)
    fits = win.size == (2 * win.out[0], 2 * win.out[1]) if len(win.out) == 2 else False
    return (
        dtype == "float32"
        and fits
        and win.kernel == win.strides == two
        and set(win.dilations) == {1}
        and not any(win.begin)
    )


def _pair_scratch(images: _Images, win: Window) -> list[tuple[tuple[int, ...], str]]:
    """What `_spread_pairs` works in."""
    half = win.out[0], win.out[1]
    numbers = images.scratch(half, half, half, dtype="uint64") + images.scratch(half, half, dtype="uint16")
    return numbers + images.scratch((half[0], 2 * half[1]), dtype="bool")


def _spread_pairs(
    x_ct: Array, ct: Array, x: Array, y: Array, doubled: Array, bits: Array, shifts: Array, given: Array, shift: Array,
    differ: Array,
) -> None:  # fmt: skip
    """Windows of 2 x 2 side by side, float32: neighbours as one 64-bit number, ct shifted to one half or out of it."""
    count, height, width = y.shape
    lines = x.reshape(count, height, 2, 2 * width)
    to = x_ct.reshape(lines.shape).view(np.uint64)
    np.copyto(bits, ct.view(np.uint32))
    np.copyto(doubled, y.view(np.uint32))
    np.multiply(doubled, 0x1_0000_0001, doubled)
    for i in range(2):
        np.not_equal(lines[:, :, i], doubled.view(np.float32), differ)
        misses = differ.view(np.uint16)  # a byte for the left, a byte for the right
        if i:
            np.bitwise_or(misses, given, misses)  # where the upper line has the maximum, this line has none
        np.right_shift(misses, 8, shift)
        np.bitwise_and(misses, shift, shift)  # 1: both miss
        if not i:
            np.multiply(np.bitwise_xor(shift, 1, given), 0x101, given)
        np.add(shift, np.bitwise_and(misses, 1, misses), shift)
        np.copyto(shifts, np.left_shift(shift, 5, shift))  # 0: the left one has it; 32: the right one; 64: none
        np.left_shift(bits, shifts, to[:, :, i])


@kernel("AveragePool")
def average_pool(site: KernelSite) -> Into | None:
    """Sums along one axis, of those along the next, divided by how many there are."""
    win = _pooled(site, "x")
    return None if win is None else _separable(site, win, np.add, 0.0, _counts(win, site))


@kernel("AveragePool.vjp[x]")
def average_pool_cotangent(site: KernelSite) -> Into | None:
    """ct over the count, spread along one axis and then along the next."""
    win = _pooled(site, "x_like")
    if win is None:
        return None
    counts, passes = _counts(win, site), _passes(win)
    images = _Images(site.shape("x_like"), site.inputs["x_like"].dtype, len(passes))

    def spread(x_ct: Array, ct: Array, *between: Array) -> None:
        np.divide(ct, counts, between[-1])
        for (axis, taps, _), to, given in zip(passes[::-1], (*between[-2::-1], x_ct), between[::-1], strict=True):
            before = (slice(None),) * axis
            to[...] = 0
            for along, source in taps:
                part = to[(*before, source)]
                np.add(part, given[(*before, along)], part)

    def fill(ct: Array, x_like: Any, x_ct: Array, *space: Array) -> None:
        images.over_blocks(spread, x_ct, ct, scratch=space)

    return site.into(fill, scratch=images.scratch(*(size for _, _, size in passes)))


def _counts(win: Window, site: KernelSite) -> Array:
    """How many elements each window averages: [*out], or a number where all are the same."""
    dtype = site.inputs["x" if "x" in site.inputs else "x_like"].dtype
    include = bool(site.attributes["count_include_pad"])
    made = np.ones((), np.int64)
    for per_axis in win.counts(include):
        made = np.multiply.outer(made, per_axis)
    made = np.maximum(made, 1)
    return (made.reshape(-1)[0] if made.min() == made.max() else made).astype(dtype)


@kernel("GlobalAveragePool")
def global_average_pool(site: KernelSite) -> Into | None:
    """Products of rows with ones: the BLAS adds up faster, and in enough places at once to be accurate."""
    if not site.is_float("x") or len(site.shape("x")) < 3 or 0 in site.shape("x"):
        return None
    shape, dtype = site.shape("x"), site.inputs["x"].dtype
    count = math.prod(shape[2:])
    ones = np.ones(count, dtype)

    def mean(x: Array, y: Array) -> None:
        np.vecdot(x.reshape(*shape[:2], count), ones, out=y.reshape(shape[:2]))
        np.divide(y, count, y)

    return site.into(mean)


KERNELS = (max_pool, max_pool_cotangent, average_pool, average_pool_cotangent, global_average_pool)
"""Those that define something; the cotangent of the global average is a view as it is."""
