"""Softmax, LogSoftmax and the cross entropy of both with labels: a row at a time, while it is in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from graphrt.definitions import Into
from graphrt.plugin import Array, Kernel, KernelSite, kernel
from graphrt.runtime.kernels.losses import check_labels
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth, launching

SPEED = 0.5
"""Nanoseconds that one number takes, about."""
SHORTEST = 32
"""Elements of a row from which on it pays to go row by row."""


def _along_rows(op_type: str, loop: str, *names: str, over: tuple[int, ...] = ()) -> Kernel:
    """A kernel for arrays of one shape and the op's axis the last one."""

    def make(site: KernelSite) -> Into | None:
        if not is_worth(site, site.inputs[names[0]]) or not site.is_float(*names):
            return None
        shape, axis = site.shape(names[0]), site.attributes["axis"]
        if axis not in (-1, len(shape) - 1) or any(site.shape(n) != shape for n in names):
            return None
        rows, columns = math.prod(shape[:-1]), shape[-1]
        if columns < SHORTEST:
            return None
        from graphrt_numba import softmax_loops as loops

        arguments = ["int64", *["float32*"] * (len(names) + 1)]
        run = by_rows(getattr(loops, loop), arguments, bounds_of(rows, rows * columns * SPEED))
        return launching(site, lambda *arrays: run(columns, *[x.ravel() for x in arrays]), over={0: over})

    return Kernel(f"numba_{loop}", op_type, make, priority=PRIORITY)


# ---- cross entropy -----------------------------------------------------------------------------------------


def _samples(site: KernelSite) -> tuple[int, int, int] | None:
    """How many samples lie one after the other, how many classes there are, how many samples side by side.

    None for what the loops do not serve: weights, samples to ignore, other results than the loss.
    """
    a, labels = site.attributes, site.inputs["labels"]
    plain = site.inputs.get("weights") is None and a["ignore_index"] is None and a["reduction"] in ("mean", "sum")
    if not plain or not is_worth(site, site.inputs["scores"]) or labels.dtype not in ("int64", "int32"):
        return None
    n, classes, *rest = site.shape("scores")
    return n, classes, math.prod(rest)


def _cross_entropy(site: KernelSite, loop: str, *numbers: str) -> tuple[int, Callable[..., None]] | None:
    """How many samples there are, and the loop over them; its last argument is an array for the check of the labels."""
    found = _samples(site)
    if found is None or math.prod(found) == 0:
        return None
    n, classes, step = found
    from graphrt_numba import softmax_loops as loops
    from graphrt_numba.team import alone

    steps, kind = ((), f"row_{loop}") if step == 1 else ((step,), loop)
    labels = f"{site.inputs['labels'].dtype}*"
    types = *["int64"] * (1 + len(steps)), *numbers, "float32*", labels, "float32*"
    run = by_rows(getattr(loops, kind), types, bounds_of(n, math.prod(found) * SPEED))
    check = alone(loops.check_labels, ("int64", labels, "int64*"), classes, explain=_refuse)

    def checked(*arguments: Any) -> None:
        *rest, verdict = arguments
        check(rest[-2], verdict)
        run(classes, *steps, *rest)

    return n * step, checked


def _refuse(classes: int, labels: Array) -> None:
    check_labels(labels, classes)


@kernel("SoftmaxCrossEntropyLoss", name="numba_cross_entropy", priority=PRIORITY)
def cross_entropy(site: KernelSite) -> Into | None:
    """The mean or sum of logsumexp(scores) - scores[label]."""
    found = _cross_entropy(site, "cross_entropy") if site.outputs[1] is None else None
    if found is None or site.outputs[0] is None:
        return None
    from graphrt_numba import reduction_loops
    from graphrt_numba.team import alone

    count, run = found
    divisor = count if site.attributes["reduction"] == "mean" else 1
    total = alone(reduction_loops.sum_over, ("float64", "float32*", "float32*"), divisor)

    def fill(
        scores: Array, labels: Array, weights: None, loss: Array, log_prob: None, losses: Array, verdict: Array
    ) -> None:
        run(scores.ravel(), labels.ravel(), losses, verdict)
        total(losses, loss.reshape(1))

    return launching(site, fill, scratch=[((count,), "float32"), ((1,), "int64")])


@kernel("SoftmaxCrossEntropyLoss.vjp[scores]", name="numba_cross_entropy_cotangent", priority=PRIORITY)
def cross_entropy_cotangent(site: KernelSite) -> Into | None:
    """ct (softmax(scores) - onehot(label)), divided by the number of samples for the mean."""
    if site.inputs.get("ct") is None or site.inputs.get("ct_log_prob") is not None:
        return None
    found = _cross_entropy(site, "cross_entropy_cotangent", "float64", "float32*")
    if found is None:
        return None
    count, run = found
    divisor = count if site.attributes["reduction"] == "mean" else 1

    def fill(
        ct: Array, ct_log_prob: None, scores: Array, labels: Array, weights: None, scores_ct: Array, verdict: Array
    ) -> None:
        run(divisor, ct.reshape(1), scores.ravel(), labels.ravel(), scores_ct.ravel(), verdict)

    return launching(site, fill, over={0: (2,)}, scratch=[((1,), "int64")])


KERNELS = (
    _along_rows("Softmax", "softmax", "input"),
    _along_rows("Softmax.vjp[input]", "softmax_cotangent", "ct", "output", over=(0, 1)),
    _along_rows("LogSoftmax", "log_softmax", "input"),
    _along_rows("LogSoftmax.vjp[input]", "log_softmax_cotangent", "ct", "output", over=(0, 1)),
    cross_entropy,
    cross_entropy_cotangent,
)
