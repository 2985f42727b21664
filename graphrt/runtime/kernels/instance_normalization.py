"""InstanceNormalization: some channels of some examples at a time, so that most passes find them in the cache."""

from __future__ import annotations

import math

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._blocks import parts_of
from graphrt.runtime.threads import share
from graphrt.types import numpy_dtype


@kernel("InstanceNormalization")
def instance_normalization(site: KernelSite) -> Into | None:
    """(x - mean) scale / sqrt(var + epsilon) + b, with the mean and variance of each channel of each example."""
    if not site.is_float("input", "scale", "b") or 0 in site.shape("input") or len(site.shape("input")) < 3:
        return None
    (n, channels, *places), epsilon = site.shape("input"), site.attributes["epsilon"]
    rows, count, dtype = n * channels, math.prod(places), numpy_dtype(site.inputs["input"].dtype)
    parts, average = parts_of(rows, count * dtype.itemsize), np.full(count, 1 / count, dtype)

    def fill(x: Array, scale: Array, b: Array, y: Array) -> None:
        given, made = x.reshape(rows, count), y.reshape(rows, count)
        scales, shifts = (np.broadcast_to(p, (n, channels)).reshape(rows, 1) for p in (scale, b))

        def work(i: int, blocks: list[slice]) -> None:
            for at in blocks:
                part = made[at]
                np.subtract(given[at], np.matmul(given[at], average)[:, None], part)
                variance = np.vecdot(part, part)[:, None] / count
                np.multiply(part, scales[at] / np.sqrt(variance + epsilon), part)
                np.add(part, shifts[at], part)

        share(work, parts)

    return site.into(fill, over={0: (0,)})


KERNELS = (instance_normalization,)
