"""Optimizer updates in one pass through the weights, the state and the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import OPTIMIZER_DOMAIN, Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.runtime.kernels._updates import updates_by
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth

SPEED = 0.1
"""Nanoseconds that one number of one array takes, about."""


@kernel("SGD", name="numba_sgd", domain=OPTIMIZER_DOMAIN, priority=PRIORITY)
def sgd(site: KernelSite) -> Into | None:
    """With momentum or without, weight decay and Nesterov's form included."""
    a = site.attributes
    with_momentum = bool(a["momentum"])
    if not _serves(site, ("m",) if with_momentum else ()):
        return None
    from graphrt_numba import optimizer_loops as loops

    decay, momentum, fresh, nesterov = a["weight_decay"], a["momentum"], 1 - a["dampening"], a["nesterov"]
    if not with_momentum:
        run = _run(site, loops.sgd, numbers=2, arrays=2)

        def descend(w: Array, g: Array, learning_rate: Array, step: Array, m: None, w_new: Array, m_new: None) -> None:
            _copy(w, w_new)
            run(learning_rate.item(), decay, w_new.ravel(), g.ravel())

        return site.into(descend, over={0: (0,)})
    run = _run(site, loops.momentum_sgd, numbers=6, arrays=3)

    def update(w: Array, g: Array, learning_rate: Array, step: Array, m: Array, w_new: Array, m_new: Array) -> None:
        _copy(w, w_new)
        _copy(m, m_new)
        kept, added = (0.0, 1.0) if step <= 1 else (momentum, fresh)
        ahead, now = (momentum, 1.0) if nesterov else (1.0, 0.0)
        run(learning_rate.item(), decay, kept, added, ahead, now, w_new.ravel(), m_new.ravel(), g.ravel())

    return site.into(update, over={0: (0,), 1: (4,)})


def _adam(site: KernelSite, decoupled: bool) -> Into | None:
    a = site.attributes
    if a["amsgrad"] or not _serves(site, ("m", "v")):
        return None
    from graphrt_numba import optimizer_loops as loops

    beta1, beta2, epsilon, decay = a["beta1"], a["beta2"], a["epsilon"], a["weight_decay"]
    run = _run(site, loops.adam, numbers=8, arrays=4)

    def update(
        w: Array, g: Array, learning_rate: Array, step: Array, m: Array, v: Array, v_max: None,
        w_new: Array, m_new: Array, v_new: Array, v_max_new: None,
    ) -> None:  # fmt: skip
        for old, new in ((w, w_new), (m, m_new), (v, v_new)):
            _copy(old, new)
        count, rate = int(step), learning_rate.item()
        root = (1 - beta2**count) ** 0.5
        shrink, coupled = (1 - rate * decay, 0.0) if decoupled else (1.0, decay)
        numbers = rate * root / (1 - beta1**count), shrink, coupled, epsilon * root, beta1, 1 - beta1, beta2, 1 - beta2
        run(*numbers, w_new.ravel(), m_new.ravel(), v_new.ravel(), g.ravel())

    # without epsilon an update can be 0 / 0: then the old weights have to survive it
    return site.into(update, over={0: (0,), 1: (4,), 2: (5,)} if epsilon > 0 else {})


@kernel("Adam", name="numba_adam", domain=OPTIMIZER_DOMAIN, priority=PRIORITY)
def adam(site: KernelSite) -> Into | None:
    """Without amsgrad."""
    return _adam(site, decoupled=False)


@kernel("AdamW", name="numba_adamw", domain=OPTIMIZER_DOMAIN, priority=PRIORITY)
def adamw(site: KernelSite) -> Into | None:
    """Without amsgrad."""
    return _adam(site, decoupled=True)


def _serves(site: KernelSite, state: tuple[str, ...]) -> bool:
    """Whether the weights are large, and the state and its outputs are there."""
    wanted = None not in site.outputs[: 1 + len(state)]
    return wanted and is_worth(site, site.inputs["w"]) and site.is_float("w", "g", *state)


def _run(site: KernelSite, loop: Any, numbers: int, arrays: int) -> Callable[..., None]:
    """The compiled loop over all weights."""
    size = math.prod(site.shape("w"))
    return by_rows(loop, ["float32"] * numbers + ["float32*"] * arrays, bounds_of(size, size * SPEED * arrays))


def _copy(x: Array, y: Array) -> None:
    if x is not y:
        np.copyto(y, x)


@kernel("FusedUpdates", name="numba_updates", domain="graphrt", priority=PRIORITY)
def updates(site: KernelSite) -> Into | None:
    """Small parameters as one."""
    return updates_by(site, {"SGD": sgd, "Adam": adam, "AdamW": adamw})


KERNELS = (sgd, adam, adamw, updates)
