"""Loops that make sums of whole arrays or of their rows, and one that makes all elements equal."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import loop, reduction

Array = Any
Number = Any


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
    """Of some columns of a matrix."""
    y = y[first:last]
    for j in range(last - first):
        y[j] = np.float32(0)
    for i in range(rows):
        row = x[i * columns + first : i * columns + last]
        for j in range(last - first):
            y[j] += row[j]


@loop
def sum_along(first: int, last: int, count: int, inner: int, divisor: Number, x: Array, y: Array) -> None:
    """Of an array [outer, count, inner] the sums along its middle axis over the divisor, for some of the outer ones."""
    for k in range(first, last):
        made, given = y[k * inner : (k + 1) * inner], x[k * count * inner : (k + 1) * count * inner]
        for j in range(inner):
            made[j] = np.float32(0)
        for i in range(count):
            row = given[i * inner : (i + 1) * inner]
            for j in range(inner):
                made[j] += row[j]
        for j in range(inner):
            made[j] /= divisor


@reduction
def sum_of_rows(first: int, last: int, count: int, inner: int, divisor: Number, x: Array, y: Array) -> None:
    """As `sum_along` where the inner axis has one element."""
    for k in range(first, last):
        row, s = x[k * count : (k + 1) * count], np.float32(0)
        for i in range(count):
            s += row[i]
        y[k] = s / divisor


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
def mean(divisor: Number, x: Array, y: Array) -> None:
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
