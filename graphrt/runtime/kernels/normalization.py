"""Batch normalization, a few channels at a time, so that all passes but the first find them in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.threads import divide, share, threads_for

BLOCK = 1 << 19
"""Numbers worked on at a time."""
SPEED = 0.6
"""Nanoseconds that one number takes, about."""
_PARAMETERS = ("scale", "b", "input_mean", "input_var")


class _Channels:
    """x [N, C, *S] as [N, C, S], in blocks of channels divided among threads."""

    def __init__(self, shape: tuple[int, ...], dtype: str):
        self.flat = shape[0], shape[1], math.prod(shape[2:])
        self.count = self.flat[0] * self.flat[2]
        self.ones = np.ones(self.flat[2], dtype)
        duration = math.prod(shape) * SPEED
        step = max(1, min(BLOCK // self.count, -(-shape[1] // threads_for(duration))))
        blocks = [slice(i, min(i + step, shape[1])) for i in range(0, shape[1], step)]
        self.parts = divide(blocks, nanoseconds=duration)
        self.block = len(self.parts), shape[0], step, self.flat[2]

    def sums(self, a: Array, b: Array | None = None) -> Array:
        """Per channel the sum of a, or of a * b: [c], float64. In places: by the BLAS along S, then over N."""
        return np.add.reduce(np.vecdot(a, self.ones if b is None else b), axis=0, dtype=np.float64)

    def over_blocks(self, work: Callable[..., None], *arrays: Array) -> None:
        """Calls ``work`` for blocks of channels: its part, where they are, and those of the arrays, each [N, c, S]."""
        flat = [a.reshape(self.flat) for a in arrays]

        def each(i: int, blocks: list[slice]) -> None:
            for at in blocks:
                work(i, at, *(a[:, at] for a in flat))

        share(each, self.parts)


def _channels(site: KernelSite, *parameters: str) -> _Channels | None:
    """None where the kernels below do not serve: no channels, nothing in them, a parameter that is not [C]."""
    if not site.is_float("x", *parameters) or len(site.shape("x")) < 2 or 0 in site.shape("x"):
        return None
    shape = site.shape("x")
    fit = all(site.shape(p) == shape[1:2] for p in parameters)
    return _Channels(shape, site.inputs["x"].dtype) if fit else None


def _trains(site: KernelSite) -> bool:
    """Whether the batch's own statistics are taken, in whichever of its versions the op is."""
    a = site.attributes
    if "training_mode" in a:
        return bool(a["training_mode"])
    return not a["is_test"] if "is_test" in a else a.get("n_outputs", 1) > 1


def _column(p: Array, like: Array) -> Array:
    return np.asarray(p, like.dtype)[:, None]


@kernel("BatchNormalization")
def batch_normalization(site: KernelSite) -> Into | None:
    """y, and in training the next running statistics and (before opset 14) the batch's own."""
    channels = _channels(site, *_PARAMETERS)
    if channels is None or site.outputs[0] is None:
        return None
    return site.into(_training(site, channels) if _trains(site) else _inference(site, channels), over={0: (0,)})


def _inference(site: KernelSite, channels: _Channels) -> Callable[..., None]:
    epsilon = site.attributes["epsilon"]

    def normalize(x: Array, scale: Array, b: Array, mean: Array, var: Array, y: Array, *absent: None) -> None:
        factor = scale / np.sqrt(var + epsilon)

        def work(i: int, at: slice, part: Array, to: Array) -> None:
            np.subtract(part, mean[at, None], to)
            np.multiply(to, factor[at, None], to)
            np.add(to, b[at, None], to)

        channels.over_blocks(work, x, y)

    return normalize


def _training(site: KernelSite, channels: _Channels) -> Callable[..., None]:
    epsilon, momentum, count = site.attributes["epsilon"], site.attributes["momentum"], channels.count

    def normalize(x: Array, scale: Array, b: Array, *rest: Any) -> None:
        (mean, var), y, running, saved = rest[:2], rest[2], rest[3:5], rest[5:]
        batch = np.empty((2, channels.flat[1]))

        def work(i: int, at: slice, part: Array, to: Array) -> None:
            mean_here = np.divide(channels.sums(part), count, out=batch[0, at])
            np.subtract(part, _column(mean_here, x), to)
            var_here = np.divide(channels.sums(to, to), count, out=batch[1, at])
            np.multiply(to, _column(scale[at] / np.sqrt(var_here + epsilon), x), to)
            np.add(to, b[at, None], to)

        channels.over_blocks(work, x, y)
        for given, found, to in zip((mean, var), batch, running, strict=True):
            if to is not None:
                to[...] = given * momentum + found * (1 - momentum)
        for found, to in zip(batch, saved, strict=False):
            if to is not None:
                to[...] = found

    return normalize


_JOINT = "BatchNormalization.vjp[x,scale,b,input_mean,input_var]"


@kernel(_JOINT)
def batch_normalization_cotangents(site: KernelSite) -> Into | None:
    """In training: x_ct = scale inv (ct - <ct> - xhat <ct xhat>) and what comes through the statistics."""
    channels = _channels(site, "scale", "b_like", "input_mean", "input_var")
    if channels is None or not _trains(site) or not site.is_float("x", "ct") or site.outputs[0] is None:
        return None
    epsilon, momentum, count = site.attributes["epsilon"], site.attributes["momentum"], channels.count
    saved = ("ct_saved_mean", "ct_saved_var") if "ct_saved_mean" in site.inputs else ()
    x_at = 3 + len(saved)

    def cotangents(ct: Array, *rest: Any) -> None:
        ct_running, ct_saved = rest[:2], rest[2 : 2 + len(saved)] or (None, None)
        x, scale, *_ = rest[x_at - 1 :]
        x_ct, scale_ct, b_ct, *backs, spare, sums = rest[x_at + 4 :]
        through = [_through(r, s, momentum, count) for r, s in zip(ct_running, ct_saved, strict=True)]

        def work(i: int, at: slice, ct_: Array, x_: Array, to: Array) -> None:
            mean = channels.sums(x_) / count
            np.subtract(x_, _column(mean, x), to)
            inv = 1 / np.sqrt(channels.sums(to, to) / count + epsilon)
            sums[0, at], sums[1, at] = total, along = channels.sums(ct_), channels.sums(ct_, to) * inv
            factor = scale[at] * inv
            slope, shift = -factor * inv * along / count, -factor * total / count
            if through[0] is not None:
                shift += through[0][at]
            if through[1] is not None:
                slope += 2 * through[1][at]
            np.multiply(to, _column(slope, x), to)
            np.add(to, np.multiply(ct_, _column(factor, x), spare[i, :, : to.shape[1]]), to)
            np.add(to, _column(shift, x), to)

        channels.over_blocks(work, ct, x, x_ct)
        for found, made in zip(sums, (b_ct, scale_ct), strict=True):
            if made is not None:
                made[...] = found
        for given, back in zip(ct_running, backs, strict=True):
            if back is not None:
                back[...] = 0 if given is None else given * momentum

    scratch = [(channels.block, str(site.inputs["x"].dtype)), ((2, channels.flat[1]), "float64")]
    return site.into(cotangents, over={0: (x_at,)}, scratch=scratch)


def _through(ct_running: Array | None, ct_saved: Array | None, momentum: float, count: int) -> Array | None:
    """What a statistic's cotangent adds to each element's, over the derivative of the statistic itself."""
    parts = [] if ct_running is None else [ct_running * (1 - momentum)]
    parts += [] if ct_saved is None else [ct_saved]
    return sum(parts[1:], parts[0]) / count if parts else None


KERNELS = (batch_normalization, batch_normalization_cotangents)
