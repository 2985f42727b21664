"""Maxima of windows of 2 x 2 side by side: the pooling that halves images, and its cotangent."""

from __future__ import annotations

import math
from typing import Any

from graphrt.definitions import Into
from graphrt.ops._windows import window
from graphrt.plugin import KernelSite, kernel
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth, launching

SPEED, SPEED_BACK = 0.7, 1.5
"""Nanoseconds that an output takes, about."""
LONGEST = 1024
"""Outputs in a line, at most."""


def _sizes(site: KernelSite) -> tuple[int, ...] | None:
    """Images, their height and width, and those of what is made of them; None for any other pooling."""
    t, a = site.inputs["x"], site.attributes
    if not is_worth(site, t) or len(t.shape) != 4 or tuple(a["kernel_shape"]) != (2, 2):
        return None
    win = window(t.shape[2:], (2, 2), a["strides"], a["dilations"], a["pads"], a["auto_pad"], a["ceil_mode"])
    inside = win.begin == (0, 0) and all(2 * n <= size for n, size in zip(win.out, win.size, strict=True))
    if win.strides != (2, 2) or win.dilations != (1, 1) or not inside or not 0 < win.out[1] <= LONGEST:
        return None
    return math.prod(t.shape[:2]), *win.size, *win.out


def _run(loop: Any, arrays: int, sizes: tuple[int, ...], speed: float) -> Any:
    """A function of arrays that runs a loop over all rows of outputs."""
    images, height, width, high, wide = sizes
    bounds = bounds_of(images * high, images * high * wide * speed)
    each = by_rows(loop, [*["int64"] * 4, *["float32*"] * arrays], bounds)
    return lambda *given: each(height, width, high, wide, *(x.ravel() for x in given))


@kernel("MaxPool", name="numba_halving_max_pool", priority=PRIORITY)
def halving_max_pool(site: KernelSite) -> Into | None:
    """The largest of each window."""
    sizes = _sizes(site)
    if sizes is None or site.outputs[0] is None or site.outputs[1] is not None:
        return None
    from graphrt_numba import halving_loops as loops

    run = _run(loops.largest, 2, sizes, SPEED)
    return launching(site, lambda x, y, indices: run(x, y))


@kernel("MaxPool.vjp[x]", name="numba_halving_max_pool_cotangent", priority=PRIORITY)
def halving_max_pool_cotangent(site: KernelSite) -> Into | None:
    """The first element of a window that equals the maximum takes all."""
    sizes = _sizes(site)
    if sizes is None or site.inputs.get("ct") is None:
        return None
    from graphrt_numba import halving_loops as loops

    run, ins = _run(loops.winners, 4, sizes, SPEED_BACK), list(site.inputs)
    order = [*(ins.index(name) for name in ("ct", "x", "y")), -1]
    return launching(site, lambda *arrays: run(*(arrays[i] for i in order)))


KERNELS = (halving_max_pool, halving_max_pool_cotangent)
