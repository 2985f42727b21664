"""Pooling: one axis after the other where that gives the same, in blocks of images that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array
from graphrt.ops._windows import Window, window
from graphrt.runtime.kernels._threads import share

Function = Callable[..., Any]
Tap = tuple[slice, slice]
BLOCK = 1 << 18
"""Numbers of the input worked on at a time."""


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


def _over_blocks(count: int, size: int, work: Callable[[slice], None]) -> None:
    """Calls ``work`` for slices of count images of this size, in several threads where kernels use some."""
    step = max(1, BLOCK // size)

    def each(_: Any, found: list[slice]) -> None:
        for at in found:
            work(at)

    share(each, [(None, [slice(i, i + step) for i in range(0, count, step)])])


def _images(x: Array) -> Array:
    """[N, C, *S] -> [N * C, *S]."""
    return x.reshape(-1, *x.shape[2:])


def _gather(combine: Any, x: Array, axis: int, size: int, taps: Sequence[Tap], start: float) -> Array:
    """Combines along one axis what each tap reads, from ``start`` where no tap does: size elements there."""
    before = (slice(None),) * axis
    full = [at for to, at in taps if to == slice(0, size)]
    rest = [(to, at) for to, at in taps if to != slice(0, size)]
    y = np.empty((*x.shape[:axis], size, *x.shape[axis + 1 :]), x.dtype)
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
    return y


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


def _separable(combine: Any, win: Window, start: float) -> Callable[[Array], Array]:
    """[images, *size] -> [images, *out]."""
    passes = [(i + 1, n, _taps(win, i)) for i, n in enumerate(win.out)]

    def pool(x: Array) -> Array:
        for axis, size, taps in passes:
            x = _gather(combine, x, axis, size, taps, start)
        return x

    return pool


def _over_images(pool: Callable[[Array], Array], win: Window, shape: tuple[int, ...]) -> Callable[[Array], Array]:
    out = (*shape[:2], *win.out)
    count, size = shape[0] * shape[1], math.prod(win.size)

    def whole(x: Array) -> Array:
        y = np.empty(out, x.dtype)
        images, pooled = _images(x), _images(y)

        def work(at: slice) -> None:
            pooled[at] = pool(images[at])

        _over_blocks(count, size, work)
        return y

    return whole


@kernel("MaxPool")
def max_pool(site: KernelSite) -> Function | None:
    """Maximum along one axis, of that along the next."""
    win = _pooled(site, "x")
    if win is None or site.attributes.get("n_outputs", 1) > 1:
        return None
    pool = _over_images(_separable(np.maximum, win, -np.inf), win, site.shape("x"))
    return lambda x: (pool(x), None)


@kernel("MaxPool.vjp[x]")
def max_pool_cotangent(site: KernelSite) -> Function | None:
    """The first element that equals the maximum takes all: the first line that has it, and the first place there."""
    win = _pooled(site, "x")
    if win is None:
        return None
    shape = site.shape("x")
    count, size = shape[0] * shape[1], math.prod(win.size)
    spread = _spread_pairs if _is_pairs(win, site.inputs["x"].dtype) else _spread_by_axis(win)

    def cotangent(ct: Array, x: Array, y: Array) -> Array:
        x_ct = np.empty(shape, x.dtype)
        arrays = [_images(a) for a in (x_ct, ct, x, y)]
        _over_blocks(count, size, lambda at: spread(*(a[at] for a in arrays)))
        return x_ct

    return cotangent


def _spread_by_axis(win: Window) -> Function:
    """Maxima along the last axis, of those along the one before, and so on; their cotangents the other way."""
    axes = list(range(len(win.out)))
    passes = [(i + 1, win.out[i], _taps(win, i)) for i in reversed(axes)]

    def spread(x_ct: Array, ct: Array, x: Array, y: Array) -> None:
        levels = [x]
        for axis, out, taps in passes[:-1]:
            levels.append(_gather(np.maximum, levels[-1], axis, out, taps, -np.inf))
        for level, top, (axis, _, taps) in zip(levels[::-1], [y, *levels[:0:-1]], passes[::-1], strict=True):
            below = np.zeros(level.shape, ct.dtype)
            _spread_along(taps, axis, below, ct, level, top)
            ct = below
        x_ct[...] = ct

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


def _spread_pairs(x_ct: Array, ct: Array, x: Array, y: Array) -> None:
    """Windows of 2 x 2 side by side, float32: neighbours as one 64-bit number, ct shifted to one half or out of it."""
    rows = x.reshape(x.shape[0], -1, 2, x.shape[2])
    doubled = np.repeat(y, 2, axis=2)
    bits = np.ascontiguousarray(ct).view(np.uint32).astype(np.uint64)
    earlier: Any = None
    for i in range(2):
        misses = np.not_equal(rows[:, :, i], doubled).view(np.uint16)  # a byte for the left, a byte for the right
        left, right = misses & 1, misses >> 8
        if earlier is not None:  # the upper line has the maximum: none of this line does
            left |= earlier
            right |= earlier
        shift = (left * (1 + right)) << 5  # 0: left; 32: right; 64: out
        x_ct.reshape(rows.shape)[:, :, i].view(np.uint64)[...] = np.left_shift(bits, shift.astype(np.uint64))
        earlier = (left & right) ^ 1


@kernel("AveragePool")
def average_pool(site: KernelSite) -> Function | None:
    """Sums along one axis, of those along the next, divided by how many there are."""
    win = _pooled(site, "x")
    if win is None:
        return None
    counts = _counts(win, site)
    add = _separable(np.add, win, 0.0)
    return _over_images(lambda x: np.divide(add(x), counts), win, site.shape("x"))


@kernel("AveragePool.vjp[x]")
def average_pool_cotangent(site: KernelSite) -> Function | None:
    """ct over the count, spread along one axis and then along the next."""
    win = _pooled(site, "x_like")
    if win is None:
        return None
    counts, shape = _counts(win, site), site.shape("x_like")
    passes = [(i + 1, n, _taps(win, i)) for i, n in reversed(list(enumerate(win.size)))]

    def cotangent(ct: Array, x_like: Array) -> Array:
        x_ct = np.empty(shape, ct.dtype)
        images, made = _images(ct), _images(x_ct)

        def work(at: slice) -> None:
            part = images[at] / counts
            for axis, size, taps in passes:
                wide = np.zeros((*part.shape[:axis], size, *part.shape[axis + 1 :]), ct.dtype)
                for to, source in taps:
                    wide[(*(slice(None),) * axis, source)] += part[(*(slice(None),) * axis, to)]
                part = wide
            made[at] = part

        _over_blocks(len(images), math.prod(win.size), work)
        return x_ct

    return cotangent


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
def global_average_pool(site: KernelSite) -> Function | None:
    """Products of rows with ones: the BLAS adds up faster, and in enough places at once to be accurate."""
    if not site.is_float("x") or len(site.shape("x")) < 3 or 0 in site.shape("x"):
        return None
    shape, dtype = site.shape("x"), site.inputs["x"].dtype
    count = math.prod(shape[2:])
    ones = np.ones(count, dtype)
    out = (*shape[:2], *(1,) * (len(shape) - 2))

    def mean(x: Array) -> Array:
        y = np.vecdot(x.reshape(*shape[:2], count), ones).reshape(out)
        y /= count
        return y

    return mean


KERNELS = (max_pool, max_pool_cotangent, average_pool, average_pool_cotangent, global_average_pool)
"""Those that define something; the cotangent of the global average is a view as it is."""
