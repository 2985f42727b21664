"""Optimizer updates that may write the new weights and state over the old ones, in as few passes as there can be.

A scaled sum is one pass of the BLAS; what takes more goes through pieces that stay in the cache, which threads share.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import OPTIMIZER_DOMAIN, Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime import blas
from graphrt.runtime.kernels._blocks import parts_of
from graphrt.runtime.kernels._updates import updates_by
from graphrt.runtime.threads import share
from graphrt.runtime.update_groups import MOST

Sum = Callable[[float, Array, float, Array], None]


def _scaled_sum(site: KernelSite) -> Sum:
    """``add(a, x, b, y)``: y = a x + b y, in place, for contiguous arrays like the weights."""
    t = site.inputs["w"]
    axpby, axpy = blas.axpby(t.dtype), blas.axpy(t.dtype)
    together = math.prod(t.shape) >= _BLAS_TOGETHER

    def add(a: float, x: Array, b: float, y: Array) -> None:
        if b == 1 and together:
            axpy(y.size, a, _address(x), 1, _address(y), 1)  # type: ignore[misc]
        else:
            axpby(y.size, a, _address(x), 1, b, _address(y), 1)  # type: ignore[misc]

    def add_by_numpy(a: float, x: Array, b: float, y: Array) -> None:
        if b != 1:
            np.multiply(y, b, y)
        np.add(y, x if a == 1 else x * a, y)

    small = math.prod(t.shape) <= _NUMPY_ALONE
    return add_by_numpy if small or axpby is None or axpy is None else add


def _address(x: Array) -> Any:
    return x.__array_interface__["data"][0]


_NUMPY_ALONE, _BLAS_TOGETHER = MOST, 1 << 20
"""Up to the first number of elements a call of the BLAS costs more than what NumPy takes. OpenBLAS takes a second
thread for y + a x, which pays from about the second number on, but never for b y + a x."""


@kernel("SGD", domain=OPTIMIZER_DOMAIN)
def sgd(site: KernelSite) -> Into | None:
    """Two passes: the gradient is added to the scaled momentum, and that, scaled, to the weights."""
    a = site.attributes
    if not site.is_float("w", "g") or site.outputs[0] is None:
        return None
    add, decay = _scaled_sum(site), a["weight_decay"]
    if not a["momentum"]:

        def descend(w: Array, g: Array, learning_rate: Array, step: Array, m: None, w_new: Array, m_new: None) -> None:
            rate = learning_rate.item()
            _copy(w, w_new)
            add(-rate, _contiguous(g), 1 - rate * decay, w_new)

        return site.into(descend, over={0: (0,)})
    if site.inputs.get("m") is None or not site.is_float("w", "m") or None in site.outputs:
        return None
    momentum, fresh, nesterov = a["momentum"], 1 - a["dampening"], a["nesterov"]

    def update(w: Array, g: Array, learning_rate: Array, step: Array, m: Array, w_new: Array, m_new: Array) -> None:
        rate, g = learning_rate.item(), _contiguous(g)
        _copy(w, w_new)
        if step.item() <= 1:
            m_new[...] = g
            if decay:
                add(decay, w_new, 1, m_new)
        else:
            _copy(m, m_new)
            add(fresh, g, momentum, m_new)
            if decay:
                add(fresh * decay, w_new, 1, m_new)
        if nesterov:
            add(-rate, g, 1 - rate * decay, w_new)
            rate *= momentum
        add(-rate, m_new, 1, w_new)

    return site.into(update, over={0: (0,), 1: (4,)})


def _contiguous(x: Array) -> Array:
    return x if x.flags.c_contiguous else np.ascontiguousarray(x)


def _copy(x: Array, y: Array) -> None:
    if x is not y:
        np.copyto(y, x)


def _adam(site: KernelSite, decoupled: bool) -> Into | None:
    a = site.attributes
    if not site.is_float("w", "g") or not site.is_float("w", "m") or a["amsgrad"] or None in site.outputs[:3]:
        return None
    beta1, beta2, epsilon, decay = a["beta1"], a["beta2"], a["epsilon"], a["weight_decay"]
    add, t = _scaled_sum(site), site.inputs["w"]
    parts = parts_of(math.prod(t.shape), np.dtype(t.dtype).itemsize)

    def update(
        w: Array, g: Array, learning_rate: Array, step: Array, m: Array, v: Array, v_max: None,
        w_new: Array, m_new: Array, v_new: Array, v_max_new: None, *free: Array,
    ) -> None:  # fmt: skip
        count, rate = int(step), learning_rate.item()
        root = (1 - beta2**count) ** 0.5
        scale, small = -rate * root / (1 - beta1**count), epsilon * root
        keep = 1 - rate * decay if decoupled else 1
        for old, new in ((w, w_new), (m, m_new), (v, v_new)):
            _copy(old, new)
        flat = [x.reshape(-1) for x in (_contiguous(g), w_new, m_new, v_new)]

        def work(i: int, pieces: list[slice]) -> None:
            for piece in pieces:
                g_, wn, mn, vn = (x[piece] for x in flat)
                s = free[i][: g_.size]
                if decay and not decoupled:
                    g_ = g_ + decay * wn
                add(1 - beta1, g_, beta1, mn)
                np.multiply(g_, g_, s)
                add(1 - beta2, s, beta2, vn)
                np.sqrt(vn, s)
                np.add(s, small, s)
                np.divide(mn, s, s)
                add(scale, s, keep, wn)

        share(work, parts)

    # without epsilon an update can be 0 / 0: then the old weights have to survive it
    over = {0: (0,), 1: (4,), 2: (5,)} if epsilon > 0 else {}
    return site.into(update, over=over, scratch=[((parts[0][0].stop,), t.dtype)] * len(parts))


@kernel("Adam", domain=OPTIMIZER_DOMAIN)
def adam(site: KernelSite) -> Into | None:
    """All of Adam's passes over one block at a time."""
    return _adam(site, decoupled=False)


@kernel("AdamW", domain=OPTIMIZER_DOMAIN)
def adamw(site: KernelSite) -> Into | None:
    """All of AdamW's passes over one block at a time."""
    return _adam(site, decoupled=True)


@kernel("FusedUpdates", domain="graphrt")
def updates(site: KernelSite) -> Into | None:
    """Small parameters as one."""
    return updates_by(site, {"SGD": sgd, "Adam": adam, "AdamW": adamw})


KERNELS = (sgd, adam, adamw, updates)
