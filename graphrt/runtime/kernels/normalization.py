"""Batch normalization, a few channels at a time, so that all passes but the first find them in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._threads import share

Function = Callable[..., Any]
BLOCK = 1 << 19
"""Numbers worked on at a time."""
_PARAMETERS = ("scale", "b", "input_mean", "input_var")


class _Channels:
    """x [N, C, *S] as [N, C, S], in blocks of channels."""

    def __init__(self, shape: tuple[int, ...], dtype: str):
        self.shape, self.flat = shape, (shape[0], shape[1], math.prod(shape[2:]))
        self.count = self.flat[0] * self.flat[2]
        self.ones = np.ones(self.flat[2], dtype)
        step = max(1, BLOCK // self.count)
        self.blocks = [slice(i, min(i + step, shape[1])) for i in range(0, shape[1], step)]

    def sums(self, a: Array, b: Array | None = None) -> Array:
        """Per channel the sum of a, or of a * b: [c], float64. In places: by the BLAS along S, then over N."""
        return np.add.reduce(np.vecdot(a, self.ones if b is None else b), axis=0, dtype=np.float64)

    def over_blocks(self, work: Callable[..., None], *arrays: Array) -> None:
        """Calls ``work`` for blocks of channels: where they are, and these parts of the arrays, each [N, c, S]."""
        flat = [a.reshape(self.flat) for a in arrays]

        def each(_: Any, found: list[slice]) -> None:
            for at in found:
                work(at, *(a[:, at] for a in flat))

        share(each, [(None, self.blocks)])


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
def batch_normalization(site: KernelSite) -> Function | None:
    """y, and in training the next running statistics and (before opset 14) the batch's own."""
    channels = _channels(site, *_PARAMETERS)
    if channels is None:
        return None
    many = "training_mode" not in site.attributes
    return _training(site, channels, many) if _trains(site) else _inference(site, channels, many)


def _inference(site: KernelSite, channels: _Channels, many: bool) -> Function:
    epsilon = site.attributes["epsilon"]
    absent = (None,) * (4 if many else 2)

    def normalize(x: Array, scale: Array, b: Array, mean: Array, var: Array) -> tuple[Any, ...]:
        y = np.empty(channels.shape, x.dtype)
        factor = scale / np.sqrt(var + epsilon)

        def work(at: slice, part: Array, to: Array) -> None:
            np.subtract(part, mean[at, None], to)
            np.multiply(to, factor[at, None], to)
            np.add(to, b[at, None], to)

        channels.over_blocks(work, x, y)
        return y, *absent

    return normalize


def _training(site: KernelSite, channels: _Channels, many: bool) -> Function:
    epsilon, momentum, count = site.attributes["epsilon"], site.attributes["momentum"], channels.count

    def normalize(x: Array, scale: Array, b: Array, mean: Array, var: Array) -> tuple[Any, ...]:
        y = np.empty(channels.shape, x.dtype)
        batch = np.empty((2, channels.shape[1]))

        def work(at: slice, part: Array, to: Array) -> None:
            mean_here = np.divide(channels.sums(part), count, out=batch[0, at])
            np.subtract(part, _column(mean_here, x), to)
            var_here = np.divide(channels.sums(to, to), count, out=batch[1, at])
            np.multiply(to, _column(scale[at] / np.sqrt(var_here + epsilon), x), to)
            np.add(to, b[at, None], to)

        channels.over_blocks(work, x, y)
        running = [
            np.asarray(given * momentum + found * (1 - momentum), x.dtype)
            for given, found in zip((mean, var), batch, strict=True)
        ]
        return y, *running, *(batch.astype(x.dtype) if many else ())

    return normalize


_JOINT = "BatchNormalization.vjp[x,scale,b,input_mean,input_var]"


@kernel(_JOINT)
def batch_normalization_cotangents(site: KernelSite) -> Function | None:
    """In training: x_ct = scale inv (ct - <ct> - xhat <ct xhat>) and what comes through the statistics."""
    channels = _channels(site, "scale", "b_like", "input_mean", "input_var")
    if channels is None or not _trains(site) or not site.is_float("x", "ct"):
        return None
    epsilon, momentum, count = site.attributes["epsilon"], site.attributes["momentum"], channels.count
    many = "training_mode" not in site.attributes

    def cotangents(
        ct: Array, ct_running_mean: Array | None, ct_running_var: Array | None, *rest: Any
    ) -> tuple[Any, ...]:
        ct_saved, (x, scale, *_) = (rest[:2], rest[2:]) if many else ((None, None), rest)
        through = [
            _through(r, s, momentum, count) for r, s in zip((ct_running_mean, ct_running_var), ct_saved, strict=True)
        ]
        x_ct = np.empty(channels.shape, x.dtype)
        scale_ct, b_ct = np.empty((2, channels.shape[1]), x.dtype)

        def work(at: slice, ct_: Array, x_: Array, to: Array) -> None:
            mean = _column(channels.sums(x_) / count, x)
            np.subtract(x_, mean, to)
            inv = 1 / np.sqrt(channels.sums(to, to) / count + epsilon)
            total, along = channels.sums(ct_), channels.sums(ct_, to)
            scale_ct[at], b_ct[at] = along * inv, total
            np.multiply(to, _column(inv * inv * along / -count, x), to)
            np.add(to, ct_, to)
            np.subtract(to, _column(total / count, x), to)
            np.multiply(to, _column(scale[at] * inv, x), to)
            if through[0] is not None:
                np.add(to, _column(through[0][at], x), to)
            if through[1] is not None:
                np.add(to, (x_ - mean) * _column(2 * through[1][at], x), to)

        channels.over_blocks(work, ct, x, x_ct)
        back = [None if c is None else c * c.dtype.type(momentum) for c in (ct_running_mean, ct_running_var)]
        return x_ct, scale_ct, b_ct, *back

    return cotangents


def _through(ct_running: Array | None, ct_saved: Array | None, momentum: float, count: int) -> Array | None:
    """What a statistic's cotangent adds to each element's, over the derivative of the statistic itself."""
    parts = [] if ct_running is None else [ct_running * (1 - momentum)]
    parts += [] if ct_saved is None else [ct_saved]
    return sum(parts[1:], parts[0]) / count if parts else None


KERNELS = (batch_normalization, batch_normalization_cotangents)
