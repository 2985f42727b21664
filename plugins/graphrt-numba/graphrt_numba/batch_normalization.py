"""Batch normalization, a channel at a time: the second pass over it finds it in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth

SPEED = 0.4
"""Nanoseconds that one number takes, about."""
SHORTEST = 8
"""Elements that each channel of an example has at least, for loops along them to pay."""


def _layout(site: KernelSite, *parameters: str) -> tuple[int, int, int] | None:
    """Examples, channels, and elements of each; None where the loops do not serve."""
    if not is_worth(site, site.inputs["x"]) or not site.is_float("x", *parameters) or site.outputs[0] is None:
        return None
    shape = site.shape("x")
    size = math.prod(shape[2:])
    fits = size >= SHORTEST and all(site.shape(p) == shape[1:2] for p in parameters)
    return (shape[0], shape[1], size) if fits else None


def _trains(site: KernelSite) -> bool:
    """Whether the batch's own statistics are taken, in whichever of its versions the op is."""
    a = site.attributes
    if "training_mode" in a:
        return bool(a["training_mode"])
    return not a["is_test"] if "is_test" in a else a.get("n_outputs", 1) > 1


def _run(site: KernelSite, loop: Any, layout: tuple[int, int, int], types: list[str]) -> Callable[..., None]:
    """The loop over all channels, with the layout and epsilon bound."""
    bounds, epsilon = bounds_of(layout[1], math.prod(layout) * SPEED), site.attributes["epsilon"]
    run = by_rows(loop, [*["int64"] * 3, "float64", *types], bounds)
    return lambda *arrays: run(*layout, epsilon, *arrays)


@kernel("BatchNormalization", name="numba_batch_normalization", priority=PRIORITY)
def batch_normalization(site: KernelSite) -> Into | None:
    """y, and in training the next running statistics and (before opset 14) the batch's own."""
    layout = _layout(site, "scale", "b", "input_mean", "input_var")
    if layout is None:
        return None
    from graphrt_numba import batch_loops as loops

    if not _trains(site):
        apply = _run(site, loops.scale, layout, ["float32*"] * 6)

        def scale(x: Array, factor: Array, b: Array, mean: Array, var: Array, y: Array, *absent: None) -> None:
            apply(x.ravel(), factor.ravel(), b.ravel(), mean.ravel(), var.ravel(), y.ravel())

        return site.into(scale, over={0: (0,)})
    run = _run(site, loops.normalize, layout, [*["float32*"] * 4, *["float64*"] * 2])
    momentum = site.attributes["momentum"]

    def normalize(x: Array, scale: Array, b: Array, *rest: Any) -> None:
        given, y, running, saved, batch = rest[:2], rest[2], rest[3:5], rest[5:-1], rest[-1]
        run(x.ravel(), scale.ravel(), b.ravel(), y.ravel(), *batch)
        for old, found, to in zip(given, batch, running, strict=True):
            if to is not None:
                to[...] = old * momentum + found * (1 - momentum)
        for found, to in zip(batch, saved, strict=False):
            if to is not None:
                to[...] = found

    return site.into(normalize, over={0: (0,)}, scratch=[((2, layout[1]), "float64")])


@kernel(
    "BatchNormalization.vjp[x,scale,b,input_mean,input_var]", name="numba_batch_normalization_cotangents",
    priority=PRIORITY,
)  # fmt: skip
def batch_normalization_cotangents(site: KernelSite) -> Into | None:
    """In training: scale inv (ct - <ct> - xhat <ct xhat>) and what comes through the statistics."""
    layout = _layout(site, "scale", "b_like")
    if layout is None or not _trains(site) or not site.is_float("x", "ct"):
        return None
    from graphrt_numba import batch_loops as loops

    types = ["float32*", "float64*", "float64*", *["float32*"] * 5]
    run, momentum = _run(site, loops.cotangents, layout, types), site.attributes["momentum"]
    x_at = list(site.inputs).index("x")

    def cotangents(*arrays: Array) -> None:
        ct, running, saved = arrays[0], arrays[1:3], arrays[3:x_at] or (None, None)
        (x, scale), (x_ct, scale_ct, b_ct, *backs, free) = arrays[x_at : x_at + 2], arrays[x_at + 5 :]
        through = [_through(r, s, momentum) for r, s in zip(running, saved, strict=True)]
        to = (f if made is None else made.ravel() for made, f in zip((scale_ct, b_ct), free, strict=True))
        run(ct.ravel(), *through, x.ravel(), scale.ravel(), x_ct.ravel(), *to)
        for given, back in zip(running, backs, strict=True):
            if back is not None:
                back[...] = 0 if given is None else given * momentum

    return site.into(cotangents, over={0: (0, x_at)}, scratch=[((2, layout[1]), "float32")])


def _through(running_ct: Array | None, saved_ct: Array | None, momentum: float) -> Array:
    """The cotangent of a batch's statistic from those of the running one and of its own; empty if there is none."""
    parts = [] if running_ct is None else [running_ct * (1 - momentum)]
    parts += [] if saved_ct is None else [saved_ct]
    return np.asarray(sum(parts[1:], parts[0]) if parts else (), np.float64)


KERNELS = (batch_normalization, batch_normalization_cotangents)
