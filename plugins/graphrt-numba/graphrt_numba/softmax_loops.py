"""The loops of `graphrt_numba.softmax`. Classes lie ``step`` elements apart: 1 where the axis is the last one."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, inline, local, loop, reduction
from graphrt_numba.functions import exp, log

Array = Any
Number = Any
LANES = 64
"""How many candidates for a maximum are followed side by side."""
SMALL, HUGE = np.float32(1e-15), np.float32(1e30)
"""Between these a sum of exponentials is exact to rounding with no maximum subtracted: neither did one that matters
vanish, nor did one overflow."""


@inline
def largest(row: Array, lanes: Array) -> Number:
    """The largest element, NaN left out; ``lanes`` is scratch memory."""
    top, whole = row[0], row.size // LANES * LANES
    if whole:
        for j in range(LANES):
            lanes[j] = row[j]
        for start in range(LANES, whole, LANES):
            part = row[start : start + LANES]
            for j in range(LANES):
                lanes[j] = part[j] if part[j] > lanes[j] else lanes[j]
        for j in range(32):
            lanes[j] = lanes[j + 32] if lanes[j + 32] > lanes[j] else lanes[j]
        for j in range(16):
            lanes[j] = lanes[j + 16] if lanes[j + 16] > lanes[j] else lanes[j]
        for j in range(16):
            top = max(top, lanes[j])
    for i in range(whole, row.size):
        top = max(top, row[i])
    return top


@reduction
def softmax(first: int, last: int, columns: int, x: Array, y: Array) -> None:
    """exp(x) over its sum; the maximum is subtracted from x where the sum says that it is needed."""
    lanes = local(x, 1)
    for r in range(first, last):
        row, out = x[r * columns : (r + 1) * columns], y[r * columns : (r + 1) * columns]
        total = np.float32(0)
        for i in range(columns):
            e = exp(row[i])
            out[i] = e
            total += e
        if not (SMALL < total < HUGE):
            top = largest(row, lanes)
            total = np.float32(0)
            for i in range(columns):
                e = exp(row[i] - top)
                out[i] = e
                total += e
        factor = np.float32(1) / total
        for i in range(columns):
            out[i] *= factor


@reduction
def softmax_cotangent(first: int, last: int, columns: int, ct: Array, y: Array, x_ct: Array) -> None:
    """y (ct - <ct, y>)."""
    block = local(y, 1)
    for r in range(first, last):
        row, back = y[r * columns : (r + 1) * columns], ct[r * columns : (r + 1) * columns]
        along = np.float32(0)
        for i in range(columns):
            along += back[i] * row[i]
        for start in range(0, columns, LOCAL):
            stop = min(start + LOCAL, columns)
            row_, back_, out = row[start:stop], back[start:stop], x_ct[r * columns + start : r * columns + stop]
            for i in range(stop - start):
                block[i] = (back_[i] - along) * row_[i]
            for i in range(stop - start):
                out[i] = block[i]


@reduction
def log_softmax(first: int, last: int, columns: int, x: Array, y: Array) -> None:
    """x - max - log(sum(exp(x - max)))."""
    lanes = local(x, 1)
    for r in range(first, last):
        row, out = x[r * columns : (r + 1) * columns], y[r * columns : (r + 1) * columns]
        top = largest(row, lanes)
        total = np.float32(0)
        for i in range(columns):
            total += exp(row[i] - top)
        shift = log(total)
        for i in range(columns):
            out[i] = (row[i] - top) - shift


@reduction
def log_softmax_cotangent(first: int, last: int, columns: int, ct: Array, y: Array, x_ct: Array) -> None:
    """ct - exp(y) sum(ct)."""
    block = local(y, 1)
    for r in range(first, last):
        row, back = y[r * columns : (r + 1) * columns], ct[r * columns : (r + 1) * columns]
        total = np.float32(0)
        for i in range(columns):
            total += back[i]
        for start in range(0, columns, LOCAL):
            stop = min(start + LOCAL, columns)
            row_, back_, out = row[start:stop], back[start:stop], x_ct[r * columns + start : r * columns + stop]
            for i in range(stop - start):
                block[i] = back_[i] - exp(row_[i]) * total
            for i in range(stop - start):
                out[i] = block[i]


# ---- cross entropy -----------------------------------------------------------------------------------------


@loop
def check_labels(classes: int, labels: Array, verdict: Array) -> None:
    """The verdict is 1 if a label is not the number of a class."""
    wrong = 0
    for i in range(labels.size):
        wrong |= (labels[i] < 0) | (labels[i] >= classes)
    verdict[0] = wrong


@reduction
def cross_entropy(first: int, last: int, classes: int, step: int, scores: Array, labels: Array, losses: Array) -> None:
    """log(sum(exp(scores))) - scores[label] for samples that lie side by side, ``step`` of them, class after class."""
    top, total = local(scores, 1), local(scores, 1)
    for n in range(first, last):
        for start in range(0, step, LOCAL):
            count, at = min(LOCAL, step - start), n * classes * step + start
            _sums_of_exponentials(scores, at, count, classes, step, top, total)
            chosen, out = labels[n * step + start : n * step + start + count], losses[n * step + start :]
            for i in range(count):
                out[i] = log(total[i]) + top[i] - scores[at + chosen[i] * step + i]


@reduction
def cross_entropy_cotangent(
    first: int, last: int, classes: int, step: int, divisor: float, ct: Array, scores: Array, labels: Array,
    scores_ct: Array,
) -> None:  # fmt: skip
    """ct / divisor (softmax(scores) - onehot(label))."""
    share = np.float32(ct[0] / divisor)
    top, total, block = local(scores, 1), local(scores, 1), local(scores, 1)
    for n in range(first, last):
        for start in range(0, step, LOCAL):
            count, at = min(LOCAL, step - start), n * classes * step + start
            _sums_of_exponentials(scores, at, count, classes, step, top, total)
            for i in range(count):
                total[i] = share / total[i]
            for c in range(classes):
                row, out = (
                    scores[at + c * step : at + c * step + count],
                    scores_ct[at + c * step : at + c * step + count],
                )
                for i in range(count):
                    block[i] = exp(row[i] - top[i]) * total[i]
                for i in range(count):
                    out[i] = block[i]
            chosen = labels[n * step + start : n * step + start + count]
            for i in range(count):
                scores_ct[at + chosen[i] * step + i] -= share


@inline
def _sums_of_exponentials(
    scores: Array, at: int, count: int, classes: int, step: int, top: Array, total: Array
) -> None:
    """For samples side by side the largest score, and the sum of the exponentials of the scores less that."""
    for i in range(count):
        top[i], total[i] = scores[at + i], np.float32(0)
    for c in range(classes):
        row = scores[at + c * step : at + c * step + count]
        for i in range(count):
            top[i] = row[i] if row[i] > top[i] else top[i]
    for c in range(classes):
        row = scores[at + c * step : at + c * step + count]
        for i in range(count):
            total[i] += exp(row[i] - top[i])


@reduction
def row_cross_entropy(first: int, last: int, classes: int, scores: Array, labels: Array, losses: Array) -> None:
    """`cross_entropy` of samples whose scores are rows."""
    lanes = local(scores, 1)
    for r in range(first, last):
        row = scores[r * classes : (r + 1) * classes]
        top, total = largest(row, lanes), np.float32(0)
        for i in range(classes):
            total += exp(row[i] - top)
        losses[r] = log(total) + top - row[labels[r]]


@reduction
def row_cross_entropy_cotangent(
    first: int, last: int, classes: int, divisor: float, ct: Array, scores: Array, labels: Array, scores_ct: Array
) -> None:
    """`cross_entropy_cotangent` of samples whose scores are rows."""
    share = np.float32(ct[0] / divisor)
    lanes, block = local(scores, 1), local(scores, 1)
    for r in range(first, last):
        row, out = scores[r * classes : (r + 1) * classes], scores_ct[r * classes : (r + 1) * classes]
        top, total = largest(row, lanes), np.float32(0)
        for i in range(classes):
            total += exp(row[i] - top)
        factor = share / total
        for start in range(0, classes, LOCAL):
            stop = min(start + LOCAL, classes)
            row_, out_ = row[start:stop], out[start:stop]
            for i in range(stop - start):
                block[i] = exp(row_[i] - top) * factor
            for i in range(stop - start):
                out_[i] = block[i]
        out[labels[r]] -= share
