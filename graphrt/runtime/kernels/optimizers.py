"""Optimizer updates that allocate what they return and little else, in blocks that stay in the cache.

The arrays they are given are not changed: a run that goes wrong is undone by going back to them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import OPTIMIZER_DOMAIN, KernelSite, kernel
from graphrt.op import Array

Function = Callable[..., Any]
BLOCK = 1 << 16
"""Bytes of a block: several of them fit in the second-level cache together."""


@kernel("SGD", domain=OPTIMIZER_DOMAIN)
def sgd(site: KernelSite) -> Function | None:
    """Momentum and step in one go through memory."""
    a = site.attributes
    if not site.is_float("w", "g") or not a["momentum"] or site.inputs.get("m") is None or not site.is_float("w", "m"):
        return None
    momentum, fresh, nesterov, decay = a["momentum"], 1 - a["dampening"], a["nesterov"], a["weight_decay"]

    def update(w: Array, g: Array, learning_rate: Array, step: Array, m: Array) -> tuple[Array, Array]:
        w_new, m_new = np.empty(w.shape, w.dtype), np.empty(m.shape, m.dtype)
        first = step <= 1
        for w_, g_, m_, wn, mn in _blocks(w, g, m, w_new, m_new):
            if decay:
                g_ = g_ + decay * w_
            if first:
                mn[...] = g_
            else:
                np.multiply(m_, momentum, mn)
                mn += g_ if fresh == 1 else fresh * g_
            if nesterov:
                np.multiply(mn, momentum, wn)
                wn += g_
                wn *= learning_rate
            else:
                np.multiply(mn, learning_rate, wn)
            np.subtract(w_, wn, wn)
        return w_new, m_new

    return update


def _adam(site: KernelSite, decoupled: bool) -> Function | None:
    a = site.attributes
    if not site.is_float("w", "g") or not site.is_float("w", "m") or a["amsgrad"]:
        return None
    beta1, beta2, epsilon, decay = a["beta1"], a["beta2"], a["epsilon"], a["weight_decay"]

    def update(
        w: Array, g: Array, learning_rate: Array, step: Array, m: Array, v: Array, v_max: None = None
    ) -> tuple[Array, Array, Array, None]:
        w_new, m_new, v_new = (np.empty(x.shape, x.dtype) for x in (w, m, v))
        count = int(step)
        root, rate = (1 - beta2**count) ** 0.5, learning_rate / (1 - beta1**count)
        shrink = 1 - learning_rate * decay
        for w_, g_, m_, v_, wn, mn, vn in _blocks(w, g, m, v, w_new, m_new, v_new):
            if decay and not decoupled:
                g_ = g_ + decay * w_
            np.multiply(g_, 1 - beta1, wn)
            np.multiply(m_, beta1, mn)
            mn += wn
            np.multiply(g_, g_, wn)
            wn *= 1 - beta2
            np.multiply(v_, beta2, vn)
            vn += wn
            np.sqrt(vn, wn)
            wn /= root
            wn += epsilon
            np.divide(mn, wn, wn)
            wn *= rate
            if decay and decoupled:
                np.subtract(w_ * shrink, wn, wn)
            else:
                np.subtract(w_, wn, wn)
        return w_new, m_new, v_new, None

    return update


@kernel("Adam", domain=OPTIMIZER_DOMAIN)
def adam(site: KernelSite) -> Function | None:
    """All of Adam's passes over one block at a time."""
    return _adam(site, decoupled=False)


@kernel("AdamW", domain=OPTIMIZER_DOMAIN)
def adamw(site: KernelSite) -> Function | None:
    """All of AdamW's passes over one block at a time."""
    return _adam(site, decoupled=True)


def _blocks(*arrays: Array) -> Any:
    """The arrays side by side in blocks of `BLOCK` bytes; whole where they are small or not contiguous."""
    first = arrays[0]
    length = BLOCK // first.itemsize
    if first.size <= length or not all(x.flags.c_contiguous for x in arrays):
        return (arrays,)
    flat = [x.reshape(-1) for x in arrays]
    return (tuple(x[i : i + length] for x in flat) for i in range(0, first.size, length))


KERNELS = (sgd, adam, adamw)
