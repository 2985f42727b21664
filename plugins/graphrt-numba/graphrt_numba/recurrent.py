"""LSTM and GRU: the walk over time of a part of the batch is one compiled loop, matrix products and all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.records import dataclass
from graphrt.runtime import fusion
from graphrt.runtime.kernels._recurrent_walks import Layer, layer
from graphrt.runtime.threads import threads_for
from graphrt_numba.sharing import LEAST, PRIORITY, bounds_of

SPEED = 0.02
"""Nanoseconds that a multiplication takes one thread, about, elementwise work and all."""
WIDEST = 384
"""Units up to which the recurrent weights stay in the caches; beyond, threads had better share each step's product."""
TOGETHER = 16
"""Sequences of a part, at least: with fewer, products have fewer columns than a vector has numbers. Where there are not
enough for two parts, each step's products are shared out instead."""
NONE = np.empty(0, np.float32)


@dataclass(frozen=True)
class Walk:
    """The loop of a node, for any of its directions.

    Attributes:
        of: the node's sizes.
        run: the compiled loop for all sequences: ``product``, ``places``, arrays.
        parts: how many the batch is divided into.
        product: what it multiplies matrices with.
        places: for each direction, where its part of each array is; see `recurrent_loops`.
        room: numbers of scratch memory that a part needs.
    """

    of: Layer
    run: Callable[..., None]
    parts: int
    product: int
    places: list[Array]
    room: int


def _walk(
    site: KernelSite, op_type: str, loop: str, room: str, arrays: int, rooms: int
) -> Walk | None:  # fmt: skip
    """None where there is no loop for the node or where it is too small to gain from one.

    Args:
        site: the node.
        op_type: of the layer.
        loop: the name of the loop; ``room`` that of the function that gives the size of its scratch memory.
        arrays, rooms: how many arrays it takes, and how many that have a row for each part.
    """
    of = layer(site, op_type)
    if of is None or of.dtype != np.float32 or of.units > WIDEST:
        return None
    if of.steps * of.batch * of.units * 4 < fusion.LEAST:
        return None
    from graphrt_numba import recurrent_loops as loops
    from graphrt_numba.product_loops import product
    from graphrt_numba.team import TEAM

    work = of.steps * of.batch * of.units * (of.inputs + of.units) * 4 * len(of.backward)
    groups = max(1, of.batch // TOGETHER)
    bounds = bounds_of(groups, work * SPEED) * of.batch // groups
    hands = threads_for(work * SPEED, LEAST) - 1 if len(bounds) == 2 else 0
    types = ["int64*", "int64", "int64", "int64*", *["float32*"] * arrays, *["float32**"] * rooms]
    walk = TEAM.shares(getattr(loops, loop), types, bounds, len(bounds) - 2 + hands)
    run = partial(walk, TEAM.numbers, hands)
    places = _places(of, int(site.attributes.get("linear_before_reset", 0)))
    return Walk(of, run, len(bounds) - 1, product(), places, getattr(loops, room)(of.batch, of.inputs, of.units))


def _places(of: Layer, after: int) -> list[Array]:
    t, n, i, h, count = of.steps, of.batch, of.inputs, of.units, len(of.backward)
    x, y, state, part = (n * i, i), (count * n * h, h), h, n * h
    if of.batch_first:
        x, y, state, part = (i, t * i), (count * h, t * count * h), count * h, h
    made = []
    for d in of.directions:
        (x_at, x_step), (y_at, y_step) = (((t - 1) * s, -s) if of.backward[d] else (0, s) for s in (x[0], y[0]))
        where = x_at, x_step, x[1], d * part + y_at, y_step, y[1], d * part, state
        made.append(np.array([d, after, n, i, h, t, *where]))
    return made


def _flat(x: Array | None) -> Array:
    """Empty where there is none."""
    return NONE if x is None else x.ravel()


def _of(d: int, x: Array | None) -> Array:
    """A direction's part of weights or of a tape."""
    return NONE if x is None else x[d].ravel()


def _forward(site: KernelSite, walk: Walk | None, states: int) -> Into | None:
    """y, the last states, and the tape, each if it is wanted."""
    if walk is None:
        return None

    def fill(x: Array, w: Array, r: Array, b: Array, sequence_lens: None, *rest: Any) -> None:
        y, *last, tape, scratch = rest[-3 - states :]
        given, made = _flat(x), [_flat(a) for a in (*rest[:states], y, *last)]

        for d, places in enumerate(walk.places):
            walk.run(walk.product, places, given, _of(d, w), _of(d, r), _of(d, b), *made, _of(d, tape), scratch)

    return site.into(fill, scratch=[((walk.parts, walk.room), "float32")])


def _back(site: KernelSite, walk: Walk | None, states: int, to_biases: Callable[[Array], list[Array]]) -> Into | None:
    """The cotangents, back along the tape.

    Args:
        site: the node.
        walk: its loop.
        states: how many states there are.
        to_biases: those of the biases, from the sum of dz over steps and sequences [4 H].
    """
    if walk is None or site.inputs.get("tape") is None:
        return None
    at, none = 1 + states, np.empty((walk.parts, 0), np.float32)

    def fill(*arrays: Any) -> None:
        (x, w, r), h, (y, tape) = arrays[at : at + 3], arrays[at + 5], arrays[inputs - 2 : inputs]
        (x_ct, w_ct, r_ct, b_ct), first = arrays[inputs : inputs + 4], arrays[inputs + 4 : inputs + 4 + states]
        scratch, w_sums, r_sums, b_sums = arrays[-4:]
        given = [_flat(a) for a in (*arrays[:at], x)]
        seen, made, ends = [_flat(h), _flat(y)], _flat(x_ct), [_flat(a) for a in first]

        for d, places in enumerate(walk.places):
            to = [none if made is None else sums[d] for made, sums in ((w_ct, w_sums), (r_ct, r_sums), (b_ct, b_sums))]
            walk.run(walk.product, places, *given, _of(d, w), _of(d, r), *seen, _of(d, tape), made, *ends, *to, scratch)
            for total, sums in ((w_ct, w_sums), (r_ct, r_sums)):
                if total is not None:
                    np.add.reduce(sums[d], 0, None, total[d].reshape(-1))
        if b_ct is not None:
            for to, total in zip(b_ct, np.add.reduce(b_sums, 1), strict=True):
                np.concatenate(to_biases(total), out=to)

    inputs = list(site.inputs).index("tape") + 1
    gates, each = walk.of.units * (4 if states == 2 else 3), (len(walk.places), walk.parts)
    sizes = gates * walk.of.inputs, gates * walk.of.units, 4 * walk.of.units
    shapes = [(walk.parts, walk.room), *((*each, size) for size in sizes)]
    return site.into(fill, scratch=[(shape, "float32") for shape in shapes])


@kernel("LSTM", name="numba_lstm", priority=PRIORITY)
def lstm(site: KernelSite) -> Into | None:
    """All of `recurrent_loops.lstm`."""
    return _forward(site, _walk(site, "LSTM", "lstm", "lstm_room", 10, 1), 2)


@kernel("LSTM.vjp[x,w,r,b,initial_h,initial_c,p]", name="numba_lstm_cotangents", priority=PRIORITY)
def lstm_cotangents(site: KernelSite) -> Into | None:
    """Both biases are added to the same."""
    walk = _walk(site, "LSTM", "lstm_cotangents", "cotangents_room", 12, 4)
    return _back(site, walk, 2, lambda total: [total, total])


@kernel("GRU", name="numba_gru", priority=PRIORITY)
def gru(site: KernelSite) -> Into | None:
    """All of `recurrent_loops.gru`."""
    return _forward(site, _walk(site, "GRU", "gru", "gru_room", 8, 1), 1)


@kernel("GRU.vjp[x,w,r,b,initial_h]", name="numba_gru_cotangents", priority=PRIORITY)
def gru_cotangents(site: KernelSite) -> Into | None:
    """The recurrent bias of g has what is below the other rows of dz where that is u's."""
    walk = _walk(site, "GRU", "gru_cotangents", "cotangents_room", 10, 4)
    after = bool(site.attributes["linear_before_reset"])

    def to_biases(total: Array) -> list[Array]:
        z, r, g, u = total.reshape(4, -1)
        return [z, r, g, z, r, u if after else g]

    return _back(site, walk, 1, to_biases)


KERNELS = (lstm, lstm_cotangents, gru, gru_cotangents)
