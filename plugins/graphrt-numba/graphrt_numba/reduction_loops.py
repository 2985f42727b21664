"""Loops that make sums of whole arrays or of their rows, and one that makes all elements equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, inline, local, loop, reduction

Array = Any
Number = Any
ZERO = np.float32(0)
TOGETHER = 128
"""Rows that are summed up before their sum is added to that of the others."""


@reduction
def sum_of_squares(first: int, last: int, x: Array, total: Array) -> None:
    """The first element of ``total`` becomes the sum over the part."""
    x, s = x[first:last], np.float32(0)
    for i in range(last - first):
        s += x[i] * x[i]
    total[0] = s


@loop
def total(counts: Array, sums: Array, y: Array) -> None:
    """The first element of y becomes the sum of the first elements of so many parts of each array."""
    s = 0.0
    for k in range(len(counts)):
        for part in range(counts[k]):
            s += sums[k, part, 0]
    y[0] = s


@loop
def sum_over_rows(first: int, last: int, rows: int, columns: int, x: Array, y: Array) -> None:
    """The sums of the columns of a matrix, for some of them: of blocks of rows, and then of these."""
    block, lost = local(x, 1), local(x, 1)
    for start in range(first, last, LOCAL):
        count = min(LOCAL, last - start)
        _add_up(rows, columns, count, x, start, block, lost, y[start : start + count])


@inline
def _add_up(
    rows: int, step: int, count: int, x: Array, at: int, block: Array, lost: Array, y: Array
) -> None:  # fmt: skip
    """y = the sum of rows of so many numbers, each ``step`` after the one before, the first at ``at``.

    What the sum of blocks loses by rounding is added at the end (Kahan 1965, Further remarks on reducing truncation
    errors); ``block`` and ``lost`` are scratch memory.
    """
    for j in range(count):
        y[j] = lost[j] = ZERO
    for begin in range(0, rows, TOGETHER):
        for j in range(count):
            block[j] = ZERO
        for i in range(begin, min(begin + TOGETHER, rows)):
            row = x[at + i * step : at + i * step + count]
            for j in range(count):
                block[j] += row[j]
        for j in range(count):
            before, more = y[j], block[j]
            y[j] = before + more
            lost[j] += more - (y[j] - before)
    for j in range(count):
        y[j] += lost[j]


@loop
def sum_along(first: int, last: int, count: int, inner: int, divisor: Number, x: Array, y: Array) -> None:
    """Of an array [outer, count, inner] the sums along its middle axis over the divisor, for some of the outer ones."""
    block, lost = local(x, 1), local(x, 1)
    for k in range(first, last):
        for start in range(0, inner, LOCAL):
            some = min(LOCAL, inner - start)
            made = y[k * inner + start : k * inner + start + some]
            _add_up(count, inner, some, x, k * count * inner + start, block, lost, made)
            for j in range(some):
                made[j] /= divisor


@reduction
def sum_of_rows(first: int, last: int, count: int, inner: int, divisor: Number, x: Array, y: Array) -> None:
    """As `sum_along` where the inner axis has one element."""
    for k in range(first, last):
        total = 0.0
        for begin in range(k * count, (k + 1) * count, LOCAL):
            part, s = x[begin : min(begin + LOCAL, (k + 1) * count)], ZERO
            for i in range(part.size):
                s += part[i]
            total += s
        y[k] = total / divisor


@loop
def spread_along(first: int, last: int, count: int, inner: int, divisor: Number, x: Array, y: Array) -> None:
    """The transpose of `sum_along`."""
    for k in range(first, last):
        row, given = x[k * inner : (k + 1) * inner], y[k * count * inner : (k + 1) * count * inner]
        for i in range(count):
            made = given[i * inner : (i + 1) * inner]
            for j in range(inner):
                made[j] = row[j] / divisor


@reduction
def sum_over(divisor: Number, x: Array, y: Array) -> None:
    """The first element of y becomes the sum of x over a divisor."""
    s = 0.0
    for i in range(x.size):
        s += x[i]
    y[0] = s / divisor


@loop
def copy_rows(first: int, last: int, x: Array, y: Array) -> None:
    """Some rows of an array of four axes that lies anyhow, one after the other."""
    _, n1, n2, n3 = x.shape
    for r in range(first, last):
        row, made = x[r // (n1 * n2), r // n2 % n1, r % n2], y[r * n3 : (r + 1) * n3]
        for i in range(n3):
            made[i] = row[i]


@loop
def fill(first: int, last: int, value: Number, y: Array) -> None:
    """Every element becomes the value."""
    y = y[first:last]
    for i in range(last - first):
        y[i] = value
