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


@reduction
def mean(divisor: Number, x: Array, y: Array) -> None:
    """The first element of y becomes the sum of x over a divisor."""
    s = 0.0
    for i in range(x.size):
        s += x[i]
    y[0] = s / divisor


@loop
def fill(first: int, last: int, value: Number, y: Array) -> None:
    """Every element becomes the value."""
    y = y[first:last]
    for i in range(last - first):
        y[i] = value
