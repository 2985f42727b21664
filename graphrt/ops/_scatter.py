"""What the scatter ops share: values written into, or combined with, flat data at flat positions.

Conventions where a result or a slope is not unique: of several values written to one position without a
reduction the last one (in row-major order) stays and takes the gradient; of equal maxima (or minima) the gradient
goes to the data, then to the first update. Products are differentiated without division, so zeros are no trouble.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.ops._axes import element_positions, row_positions, scatter_add, writable, zeros

Array = Any
UFUNCS = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def positions_of_elements(indices: Array, updates_like: Array, shape: Sequence[int], axis: int) -> Array:
    """For ScatterElements: the flat position in the data of each update."""
    if updates_like.shape != indices.shape:
        raise ValueError(f"updates {updates_like.shape} and indices {indices.shape} should have the same shape")
    return element_positions(indices, shape, axis).reshape(-1)


def positions_of_slices(indices: Array, updates_like: Array, shape: Sequence[int]) -> Array:
    """For ScatterND: the flat position in the data of each element of each update."""
    tail = tuple(shape[indices.shape[-1] :]) if indices.ndim else ()
    if updates_like.shape != indices.shape[:-1] + tail:
        raise ValueError(f"updates have shape {updates_like.shape}, expected {indices.shape[:-1] + tail}")
    width = math.prod(tail)
    return (row_positions(indices, shape).reshape(-1, 1) * width + np.arange(width)).reshape(-1)


# ---- the value ---------------------------------------------------------------------------------------


def scatter(data: Array, at: Array, updates: Array, reduction: str) -> Array:
    """A copy of ``data`` with ``updates`` written into, or combined with, the elements at ``at``."""
    y = writable(data, updates)
    flat, values = y.reshape(-1), updates.reshape(-1)
    if reduction == "none":
        flat[at] = values
    elif reduction in UFUNCS:
        with np.errstate(over="ignore", invalid="ignore"):
            UFUNCS[reduction].at(flat, at, values)
    else:
        raise ValueError(f"reduction {reduction!r} should be none, {', '.join(UFUNCS)}")
    return y


# ---- derivatives -------------------------------------------------------------------------------------


def data_adjoint(ct: Array, at: Array, data: Array, updates: Array, y: Array, reduction: str) -> Array:
    """Cotangent of the data; only "mul" looks at ``updates``, only "max" and "min" at ``data`` and ``y``."""
    if reduction == "none":
        kept = writable(ct)
        kept.reshape(-1)[at] = 0
        return kept
    if reduction == "mul":
        return ct * _update_products(updates.reshape(-1), at, ct.size).reshape(ct.shape)
    return ct if reduction == "add" else np.where(data == y, ct, np.zeros((), ct.dtype))


def updates_adjoint(ct: Array, at: Array, data: Array, updates: Array, y: Array, reduction: str) -> Array:
    """Cotangent of the updates; ``data``, ``updates`` and ``y`` are looked at by "mul", "max" and "min" only."""
    back = ct.reshape(-1)[at]
    if reduction == "none":
        back = _where(_last_writers(at, ct.size), back)
    elif reduction == "mul":
        back = back * data.reshape(-1)[at] * products_of_others(updates.reshape(-1), at)
    elif reduction != "add":
        back = _where(_first_winners(at, data, updates, y), back)
    return back.reshape(updates.shape)


def tangent(
    data_dot: Array | None, updates_dot: Array | None, at: Array, data: Array, updates: Array, y: Array, reduction: str
) -> Array:
    """Tangent of the result; a None tangent is zero."""
    data_dot = np.zeros(data.shape, data.dtype) if data_dot is None else data_dot
    updates_dot = np.zeros(updates.shape, updates.dtype) if updates_dot is None else updates_dot
    if reduction in ("none", "add"):
        return scatter(data_dot, at, updates_dot, reduction)
    if reduction == "mul":
        steps = updates_dot.reshape(-1) * products_of_others(updates.reshape(-1), at)
        moved = data * scatter_add(at, steps, data.size).reshape(data.shape)
        return data_dot * _update_products(updates.reshape(-1), at, data.size).reshape(data.shape) + moved
    won = np.flatnonzero(_first_winners(at, data, updates, y))
    y_dot = writable(np.where(data == y, data_dot, np.zeros((), data_dot.dtype)), updates_dot)
    y_dot.reshape(-1)[at[won]] = updates_dot.reshape(-1)[won]
    return y_dot


def _where(chosen: Array, values: Array) -> Array:
    return values if chosen.all() else np.where(chosen, values, np.zeros((), values.dtype))


def _last_writers(at: Array, size: int) -> Array:
    """Which writes into a flat array of ``size`` elements no later one overwrites."""
    order = np.arange(at.size)
    writer = np.empty(size, np.intp)
    writer[at] = order
    return writer[at] == order


def _first_winners(at: Array, data: Array, updates: Array, y: Array) -> Array:
    """Which updates are the first to attain the extreme that the data does not attain itself."""
    best = y.reshape(-1)[at]
    candidates = np.flatnonzero((updates.reshape(-1) == best) & (data.reshape(-1)[at] != best))
    won = np.zeros(at.size, bool)
    won[candidates[::-1][_last_writers(at[candidates][::-1], data.size)]] = True
    return won


# ---- products over repeated positions ----------------------------------------------------------------


def _runs(at: Array) -> tuple[Array, Array, Array]:
    """The order that brings equal positions together, and each one's place in its run from both ends."""
    order = np.argsort(at, kind="stable")
    first = np.ones(at.size, bool)
    first[1:] = at[order][1:] != at[order][:-1]
    starts = np.flatnonzero(first)
    run = np.cumsum(first) - 1
    place = np.arange(at.size) - starts[run]
    return order, place, np.diff(np.append(starts, at.size))[run] - 1 - place


def _running_product(x: Array, place: Array) -> Array:
    """The product of the elements before each one in its run, by doubling: log2(longest run) passes."""
    if not x.size:
        return x
    one = np.ones((), x.dtype)
    y, step, longest = np.where(place >= 1, _delayed(x, 1), one), 1, place.max()
    while step < longest:
        y = y * np.where(place >= step, _delayed(y, step), one)
        step *= 2
    return y


def _delayed(x: Array, step: int) -> Array:
    return np.concatenate([x[:step], x[:-step]])[: x.size]


def products_of_others(updates: Array, at: Array) -> Array:
    """For each update the product of all others at the same position."""
    order, place, place_from_end = _runs(at)
    x = updates[order]
    found = zeros(x.shape, x)
    with np.errstate(over="ignore", invalid="ignore"):
        found[order] = _running_product(x, place) * _running_product(x[::-1], place_from_end[::-1])[::-1]
    return found


def _update_products(updates: Array, at: Array, size: int) -> Array:
    """For each of ``size`` positions the product of the updates there; 1 where there are none."""
    order, place, place_from_end = _runs(at)
    x, last = updates[order], np.flatnonzero(place_from_end == 0)
    products = zeros((size,), x)
    products[...] = 1
    with np.errstate(over="ignore", invalid="ignore"):
        products[at[order][last]] = (_running_product(x, place) * x)[last]
    return products
