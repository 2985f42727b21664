"""Learning-rate schedules: pure functions of the step, which is 1 for the first update.

``gr.optim.Adam(gr.optim.cosine(1e-3, steps=1000))``. Settings named ``rate`` are the learning rate to start from
(or the peak); ``steps`` counts updates, not epochs. After its last step a schedule stays at its final value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from graphrt.definitions import schedule


@schedule("constant")
def constant(step: int, rate: float) -> float:
    """Always ``rate``."""
    return rate


@schedule("step_decay")
def step_decay(step: int, rate: float, period: int, factor: float = 0.1) -> float:
    """``rate * factor ** ((step - 1) // period)``: drops by a factor every ``period`` steps."""
    return rate * factor ** ((step - 1) // period)


@schedule("exponential")
def exponential(step: int, rate: float, factor: float) -> float:
    """``rate * factor ** (step - 1)``."""
    return rate * factor ** (step - 1)


@schedule("linear")
def linear(step: int, rate: float, steps: int, end: float = 0.0) -> float:
    """A straight line from ``rate`` at step 1 to ``end`` at step ``steps + 1``."""
    return rate + (end - rate) * _part(step, steps)


@schedule("polynomial")
def polynomial(step: int, rate: float, steps: int, power: float = 2.0, end: float = 0.0) -> float:
    """``end + (rate - end) * (1 - t) ** power``, t running from 0 at step 1 to 1 at step ``steps + 1``."""
    return float(end + (rate - end) * (1 - _part(step, steps)) ** power)


@schedule("cosine")
def cosine(step: int, rate: float, steps: int, end: float = 0.0) -> float:
    """Half a cosine from ``rate`` at step 1 to ``end`` at step ``steps + 1``. Source: Loshchilov and Hutter, 2017."""
    return _half_cosine(rate, end, _part(step, steps))


@schedule("cosine_restarts")
def cosine_restarts(step: int, rate: float, period: int, growth: float = 1.0, end: float = 0.0) -> float:
    """Half cosines from ``rate`` to ``end``: the first of ``period`` steps, each ``growth`` times as long as the last.

    Source: Loshchilov and Hutter, 2017 (SGDR).
    """
    at, length = float(step - 1), float(period)
    if growth == 1:
        return _half_cosine(rate, end, at % length / length)
    while at >= length:
        at -= length
        length *= growth
    return _half_cosine(rate, end, at / length)


@schedule("piecewise")
def piecewise(step: int, boundaries: Sequence[int], rates: Sequence[float]) -> float:
    """``rates[i]``, where i boundaries lie below ``step``: one more rate than boundaries, which ascend."""
    return rates[sum(b < step for b in boundaries)]


@schedule("inverse_sqrt")
def inverse_sqrt(step: int, rate: float, warmup: int) -> float:
    """``rate * min(step / warmup, sqrt(warmup / step))``. Source: Vaswani et al., 2017."""
    return rate * min(step / warmup, math.sqrt(warmup / step)) if warmup else rate / math.sqrt(step)


@schedule("warmup_linear")
def warmup_linear(step: int, rate: float, warmup: int, steps: int, end: float = 0.0) -> float:
    """``rate * step / warmup`` for ``warmup`` steps, then a line to ``end`` at step ``steps + 1``."""
    if step <= warmup:
        return rate * step / warmup
    return rate + (end - rate) * _part(step - warmup, steps - warmup)


@schedule("warmup_cosine")
def warmup_cosine(step: int, rate: float, warmup: int, steps: int, end: float = 0.0) -> float:
    """``rate * step / warmup`` for ``warmup`` steps, then half a cosine to ``end`` at step ``steps + 1``."""
    if step <= warmup:
        return rate * step / warmup
    return _half_cosine(rate, end, _part(step - warmup, steps - warmup))


@schedule("one_cycle")
def one_cycle(
    step: int, rate: float, steps: int, rise: float = 0.3, divide: float = 25.0, final_divide: float = 1e4
) -> float:
    """Up from ``rate / divide`` to ``rate`` and down to ``rate / divide / final_divide`` at step ``steps``.

    Both ways are half cosines; ``rise`` is the part of the steps that goes up.
    Source: Smith and Topin, 2018; PyTorch's OneCycleLR.
    """
    start, at = rate / divide, min(step - 1, steps - 1)
    top = rise * steps - 1
    if at <= top:
        return _half_cosine(start, rate, at / top if top else 1.0)
    return _half_cosine(rate, start / final_divide, (at - top) / (steps - 1 - top))


def _part(step: int, steps: int) -> float:
    """How far through ``steps`` steps, from 0 at step 1 to 1."""
    return min((step - 1) / steps, 1.0) if steps > 0 else 1.0


def _half_cosine(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2
