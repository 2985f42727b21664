"""Optimizer updates in one pass through the weights, the state and the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphrt.definitions import OPTIMIZER_DOMAIN, Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.runtime.kernels._updates import updates_by
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth, launching

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

    settings = a["weight_decay"], a["momentum"], 1 - a["dampening"], bool(a["nesterov"])
    if not with_momentum:
        run = _run(site, loops.sgd, ("float32*", "float32"), arrays=3)

        def descend(w: Array, g: Array, learning_rate: Array, step: Array, m: None, w_new: Array, m_new: None) -> None:
            run(learning_rate.reshape(1), settings[0], g.ravel(), w.ravel(), w_new.ravel())

        return launching(site, descend, over={0: (0,)})
    run = _run(site, loops.momentum_sgd, ("float32*", "int64*", *["float32"] * 3, "boolean"), arrays=5)

    def update(w: Array, g: Array, learning_rate: Array, step: Array, m: Array, w_new: Array, m_new: Array) -> None:
        numbers = learning_rate.reshape(1), step.reshape(1), *settings
        run(*numbers, g.ravel(), w.ravel(), m.ravel(), w_new.ravel(), m_new.ravel())

    return launching(site, update, over={0: (0,), 1: (4,)})


def _adam(site: KernelSite, decoupled: bool) -> Into | None:
    a = site.attributes
    if a["amsgrad"] or not _serves(site, ("m", "v")):
        return None
    from graphrt_numba import optimizer_loops as loops

    settings = a["weight_decay"], decoupled, a["epsilon"], a["beta1"], a["beta2"]
    run = _run(site, loops.adam, ("float32*", "int64*", "float64", "boolean", *["float64"] * 3), arrays=7)

    def update(
        w: Array, g: Array, learning_rate: Array, step: Array, m: Array, v: Array, v_max: None,
        w_new: Array, m_new: Array, v_new: Array, v_max_new: None,
    ) -> None:  # fmt: skip
        numbers = learning_rate.reshape(1), step.reshape(1), *settings
        run(*numbers, *(x.ravel() for x in (g, w, m, v, w_new, m_new, v_new)))

    # without epsilon an update can be 0 / 0: then the old weights have to survive it
    return launching(site, update, over={0: (0,), 1: (4,), 2: (5,)} if a["epsilon"] > 0 else {})


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
    rate, step = (site.inputs[n] for n in ("learning_rate", "step"))
    wanted = None not in site.outputs[: 1 + len(state)] and (rate.dtype, step.dtype) == ("float32", "int64")
    return wanted and is_worth(site, site.inputs["w"]) and site.is_float("w", "g", *state)


def _run(site: KernelSite, loop: Any, numbers: tuple[str, ...], arrays: int) -> Callable[..., None]:
    """The compiled loop over all weights, which takes these numbers, and so many arrays as large as they are."""
    size = math.prod(site.shape("w"))
    return by_rows(loop, (*numbers, *["float32*"] * arrays), bounds_of(size, size * SPEED * (arrays + 1) // 2))


@kernel("FusedUpdates", name="numba_updates", domain="graphrt", priority=PRIORITY)
def updates(site: KernelSite) -> Into | None:
    """One small parameter after the other: launches cost little."""
    return updates_by(site, {"SGD": sgd, "Adam": adam, "AdamW": adamw}, together=False)


KERNELS = (sgd, adam, adamw, updates)
