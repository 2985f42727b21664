"""The loops of `graphrt_numba.recurrent`: a direction's whole walk over time, for some sequences of the batch.

States and gates are matrices [features, sequences], for at most `MOST` sequences at a time, so that a step's numbers
stay in the second-level cache. Elementwise work goes through as many of their rows at once as the arrays of `local`
have room for; what it gives is first put into these, so that the compiler knows that nothing overlaps.

``team`` and ``hands`` are who helps with a product, for walks that are not divided themselves.

``places`` has numbers: the direction's; whether a GRU resets after the product; how many sequences, inputs, units and
steps there are; and where a direction's part of x begins, and how far it is to the next step and sequence; the same of
y; where a direction's part of a state begins, and how far it is to the next sequence.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, SHORT, helper, inline, local, loop, move, summing
from graphrt_numba.functions import sigmoid, tanh
from graphrt_numba.product_loops import multiply_in_parts as multiply

Array = Any
Number = Any
ZERO, ONE = np.float32(0), np.float32(1)
MOST = 128
"""Sequences that go through time together."""
COLUMNS = 128
"""Steps times sequences, at least `MOST`, whose cotangents are gathered for a product that gives the weights'."""
PAD = 16
"""Keeps rows of such a block from lying a power of two apart."""


def lstm_room(sequences: int, inputs: int, units: int) -> int:
    """Numbers of scratch memory that `lstm` needs."""
    return min(sequences, MOST) * (10 * units + inputs)


@loop
def lstm(
    first: int, last: int, team: Array, hands: int, product: int, places: Array, x: Array, w: Array, r: Array, b: Array,
    h: Array, c: Array, y: Array, y_h: Array, y_c: Array, tape: Array, scratch: Array,
) -> None:  # fmt: skip
    """y, the last states, and the tape i, o, f, g, tanh(c'), c of sequences first to last; each may be empty."""
    _, _, batch, inputs, units, steps, x_at, x_step, x_row, y_at, y_step, y_row, h_at, h_row = _unpack(places)
    by = team, hands, product
    i, o, f, g, new, t = local(x, 1), local(x, 1), local(x, 1), local(x, 1), local(x, 1), local(x, 1)
    for start in range(first, last, MOST):
        n = min(MOST, last - start)
        size, group = units * n, LOCAL // n
        z, bias = scratch[: 4 * size], scratch[4 * size : 8 * size]
        state, cell, column = scratch[8 * size : 9 * size], scratch[9 * size : 10 * size], scratch[10 * size :]
        _spread(b, 0, 4 * units, 4 * units, n, bias)
        _load(h, h_at + start * h_row, h_row, n, units, state)
        _load(c, h_at + start * h_row, h_row, n, units, cell)
        for s in range(steps):
            _load(x, x_at + s * x_step + start * x_row, x_row, n, inputs, column)
            multiply(by, 4 * units, n, inputs, w, 0, inputs, 1, column, 0, n, 1, z, 0, n, 0)
            multiply(by, 4 * units, n, units, r, 0, units, 1, state, 0, n, 1, z, 0, n, 1)
            for row in range(0, units, group):
                rows = min(group, units - row)
                at, end = row * n, (row + rows) * n
                old, to = cell[at:end], state[at:end]
                _sigmoids(z[at:end], bias[at:end], i)
                _sigmoids(z[size + at : size + end], bias[size + at : size + end], o)
                _sigmoids(z[2 * size + at : 2 * size + end], bias[2 * size + at : 2 * size + end], f)
                _tanhs(z[3 * size + at : 3 * size + end], bias[3 * size + at : 3 * size + end], g)
                for k in range(rows * n):
                    new[k] = f[k] * old[k] + i[k] * g[k]
                for k in range(rows * n):
                    t[k] = tanh(new[k])
                if tape.size:
                    record = (s * 6 * units + row) * batch + start
                    _store(i, rows, n, tape, record, batch)
                    _store(o, rows, n, tape, record + units * batch, batch)
                    _store(f, rows, n, tape, record + 2 * units * batch, batch)
                    _store(g, rows, n, tape, record + 3 * units * batch, batch)
                    _store(t, rows, n, tape, record + 4 * units * batch, batch)
                    _store(old, rows, n, tape, record + 5 * units * batch, batch)
                for k in range(rows * n):
                    to[k] = o[k] * t[k]
                for k in range(rows * n):
                    old[k] = new[k]
            if y.size:
                _unload(state, n, units, y, y_at + s * y_step + start * y_row, y_row)
        if y_h.size:
            _unload(state, n, units, y_h, h_at + start * h_row, h_row)
        if y_c.size:
            _unload(cell, n, units, y_c, h_at + start * h_row, h_row)


def gru_room(sequences: int, inputs: int, units: int) -> int:
    """Numbers of scratch memory that `gru` needs."""
    return min(sequences, MOST) * (9 * units + inputs)


@loop
def gru(
    first: int, last: int, team: Array, hands: int, product: int, places: Array, x: Array, w: Array, r: Array, b: Array,
    h: Array, y: Array, y_h: Array, tape: Array, scratch: Array,
) -> None:  # fmt: skip
    """y, the last state, and the tape z, r, g, h - g, u of sequences first to last; each may be empty.

    u is what the reset gate r multiplies: h, or with "after" what the recurrent weights of g make of h.
    """
    _, after, batch, inputs, units, steps, x_at, x_step, x_row, y_at, y_step, y_row, h_at, h_row = _unpack(places)
    by = team, hands, product
    f, g, t, u = local(x, 1), local(x, 1), local(x, 1), local(x, 1)
    for start in range(first, last, MOST):
        n = min(MOST, last - start)
        size, group = units * n, LOCAL // n
        z, bias, inner = scratch[: 3 * size], scratch[3 * size : 7 * size], scratch[7 * size : 8 * size]
        state, column = scratch[8 * size : 9 * size], scratch[9 * size :]
        _spread(b, 0, 3 * units, 2 * units, n, bias)
        _spread(b, 2 * units, 0 if after else 5 * units, units, n, bias[2 * size :])
        _spread(b, 5 * units, 0, units, n, bias[3 * size :])
        _load(h, h_at + start * h_row, h_row, n, units, state)
        for s in range(steps):
            _load(x, x_at + s * x_step + start * x_row, x_row, n, inputs, column)
            multiply(by, 3 * units, n, inputs, w, 0, inputs, 1, column, 0, n, 1, z, 0, n, 0)
            multiply(by, 2 * units, n, units, r, 0, units, 1, state, 0, n, 1, z, 0, n, 1)
            if after:
                of_g = 2 * units * units
                multiply(by, units, n, units, r, of_g, units, 1, state, 0, n, 1, inner, 0, n, 0)
            for row in range(0, units, group):
                rows = min(group, units - row)
                at, end, record = row * n, (row + rows) * n, (s * 5 * units + row) * batch + start
                old, made, of_g = state[at:end], inner[at:end], z[2 * size + at : 2 * size + end]
                _sigmoids(z[at:end], bias[at:end], t)
                _store(t, rows, n, z, at, n)
                if tape.size:
                    _store(t, rows, n, tape, record, batch)
                _sigmoids(z[size + at : size + end], bias[size + at : size + end], f)
                if after:
                    more = bias[3 * size + at : 3 * size + end]
                    for k in range(rows * n):
                        u[k] = made[k] + more[k]
                    for k in range(rows * n):
                        g[k] = of_g[k] + f[k] * u[k]
                    _store(g, rows, n, z, 2 * size + at, n)
                else:
                    for k in range(rows * n):
                        u[k] = old[k]
                    for k in range(rows * n):
                        made[k] = f[k] * u[k]
                if tape.size:
                    _store(f, rows, n, tape, record + units * batch, batch)
                    _store(u, rows, n, tape, record + 4 * units * batch, batch)
            if not after:
                of_g = 2 * units * units
                multiply(by, units, n, units, r, of_g, units, 1, inner, 0, n, 1, z, 2 * size, n, 1)
            for row in range(0, units, group):
                rows = min(group, units - row)
                at, end, record = row * n, (row + rows) * n, (s * 5 * units + row) * batch + start
                old, of_z = state[at:end], z[at:end]
                _tanhs(z[2 * size + at : 2 * size + end], bias[2 * size + at : 2 * size + end], g)
                for k in range(rows * n):
                    t[k] = old[k] - g[k]
                for k in range(rows * n):
                    u[k] = g[k] + of_z[k] * t[k]
                if tape.size:
                    _store(g, rows, n, tape, record + 2 * units * batch, batch)
                    _store(t, rows, n, tape, record + 3 * units * batch, batch)
                _store(u, rows, n, state, at, n)
            if y.size:
                _unload(state, n, units, y, y_at + s * y_step + start * y_row, y_row)
        if y_h.size:
            _unload(state, n, units, y_h, h_at + start * h_row, h_row)


# ---- back ------------------------------------------------------------------------------------------------------


def cotangents_room(sequences: int, inputs: int, units: int) -> int:
    """Numbers of scratch memory that `lstm_cotangents` and `gru_cotangents` need."""
    return 2 * units * min(sequences, MOST) + (COLUMNS + PAD) * (inputs + 5 * units)


@loop
def lstm_cotangents(
    first: int, last: int, team: Array, hands: int, product: int, places: Array, ct_y: Array, ct_h: Array, ct_c: Array,
    x: Array, w: Array, r: Array, h: Array, y: Array, tape: Array, x_ct: Array, h_ct: Array, c_ct: Array,
    w_ct: Array, r_ct: Array, sums: Array, scratch: Array,
) -> None:  # fmt: skip
    """Back along the tape: the cotangents of the inputs and first states of sequences first to last, and what these
    sequences add to those of the weights; ``sums`` takes the sum of dz over steps and sequences. Each may be empty.
    """
    _, _, batch, inputs, units, steps, _, _, _, y_at, y_step, y_row, h_at, h_row = _unpack(places)
    by = team, hands, product
    di, do, df, dg, dc = local(x, 1), local(x, 1), local(x, 1), local(x, 1), local(x, 1)
    for start in range(first, last, MOST):
        n = min(MOST, last - start)
        size, group, block, pitch = units * n, LOCAL // n, _block(steps, n), _block(steps, n) * n + PAD
        ct_state, ct_cell, rest = scratch[:size], scratch[size : 2 * size], scratch[2 * size :]
        dz, seen = rest[: 4 * units * pitch], rest[4 * units * pitch :]
        _load(ct_h, h_at + start * h_row, h_row, n, units, ct_state)
        _load(ct_c, h_at + start * h_row, h_row, n, units, ct_cell)
        for s in range(steps - 1, -1, -1):
            column = s % block * n
            if ct_y.size:
                _load_more(ct_y, y_at + s * y_step + start * y_row, y_row, n, units, ct_state)
            for row in range(0, units, group):
                rows = min(group, units - row)
                for j in range(row, row + rows):
                    at, k = (s * 6 * units + j) * batch + start, (j - row) * n
                    _lstm_slopes(
                        n, tape[at:], tape[at + units * batch :], tape[at + 2 * units * batch :],
                        tape[at + 3 * units * batch :], tape[at + 4 * units * batch :], tape[at + 5 * units * batch :],
                        ct_state[j * n :], ct_cell[j * n :], di[k:], do[k:], df[k:], dg[k:], dc[k:],
                    )  # fmt: skip
                _store(di, rows, n, dz, row * pitch + column, pitch)
                _store(do, rows, n, dz, (units + row) * pitch + column, pitch)
                _store(df, rows, n, dz, (2 * units + row) * pitch + column, pitch)
                _store(dg, rows, n, dz, (3 * units + row) * pitch + column, pitch)
                _store(dc, rows, n, ct_cell, row * n, n)
            multiply(by, units, n, 4 * units, r, 0, 1, units, dz, column, pitch, 1, ct_state, 0, n, 0)
            _to_input(by, places, start, n, s, 4 * units, w, dz, pitch, x_ct)
            _see(places, start, n, s, x, h, y, seen)
            if column == 0:
                taken, add = min(block, steps - s) * n, 0 if start == first and s + block >= steps else 1
                given, before = _seen(seen, block * n, inputs, units)
                _to_weights(by, 4 * units, inputs, taken, dz, 0, pitch, given, add, w_ct, 0)
                _to_weights(by, 4 * units, units, taken, dz, 0, pitch, before, add, r_ct, 0)
                _to_biases(4 * units, taken, dz, pitch, add, sums)
        if h_ct.size:
            _unload(ct_state, n, units, h_ct, h_at + start * h_row, h_row)
        if c_ct.size:
            _unload(ct_cell, n, units, c_ct, h_at + start * h_row, h_row)


@inline
def _lstm_slopes(
    n: int, i: Array, o: Array, f: Array, g: Array, t: Array, c: Array, ct_h: Array, ct_c: Array,
    di: Array, do: Array, df: Array, dg: Array, dc: Array,
) -> None:  # fmt: skip
    """The cotangents of a step's pre-activations and of c, from its tape and the cotangents of h' and c'."""
    for k in range(n):
        ct = ct_c[k] + ct_h[k] * (o[k] - (o[k] * t[k]) * t[k])
        di[k] = ct * (i[k] * g[k] * (ONE - i[k]))
        do[k] = ct_h[k] * (o[k] * t[k] * (ONE - o[k]))
        df[k] = ct * (f[k] * c[k] * (ONE - f[k]))
        dg[k] = ct * (i[k] - (i[k] * g[k]) * g[k])
        dc[k] = ct * f[k]


@loop
def gru_cotangents(
    first: int, last: int, team: Array, hands: int, product: int, places: Array, ct_y: Array, ct_h: Array, x: Array,
    w: Array, r: Array, h: Array, y: Array, tape: Array, x_ct: Array, h_ct: Array,
    w_ct: Array, r_ct: Array, sums: Array, scratch: Array,
) -> None:  # fmt: skip
    """As `lstm_cotangents`. The rows of dz are those of z, r and g, and below them with "after" that of u, else r h."""
    _, after, batch, inputs, units, steps, _, _, _, y_at, y_step, y_row, h_at, h_row = _unpack(places)
    by = team, hands, product
    of_g, below = 2 * units * units, 3 * units
    dz_, dr, dg, du, dh = local(x, 1), local(x, 1), local(x, 1), local(x, 1), local(x, 1)
    for start in range(first, last, MOST):
        n = min(MOST, last - start)
        size, group, block, pitch = units * n, LOCAL // n, _block(steps, n), _block(steps, n) * n + PAD
        ct_state, inner, rest = scratch[:size], scratch[size : 2 * size], scratch[2 * size :]
        dz, seen = rest[: 4 * units * pitch], rest[4 * units * pitch :]
        _load(ct_h, h_at + start * h_row, h_row, n, units, ct_state)
        for s in range(steps - 1, -1, -1):
            column = s % block * n
            if ct_y.size:
                _load_more(ct_y, y_at + s * y_step + start * y_row, y_row, n, units, ct_state)
            for row in range(0, units, group):
                rows = min(group, units - row)
                for j in range(row, row + rows):
                    at, k = (s * 5 * units + j) * batch + start, (j - row) * n
                    _gru_slopes(
                        n, tape[at:], tape[at + units * batch :], tape[at + 2 * units * batch :],
                        tape[at + 3 * units * batch :], tape[at + 4 * units * batch :], ct_state[j * n :],
                        dz_[k:], dr[k:], dg[k:], du[k:], dh[k:],
                    )  # fmt: skip
                _store(dz_, rows, n, dz, row * pitch + column, pitch)
                _store(dg, rows, n, dz, (2 * units + row) * pitch + column, pitch)
                _store(dh, rows, n, ct_state, row * n, n)
                if after:
                    for k in range(rows * n):
                        dr[k] *= dg[k]
                    for k in range(rows * n):
                        du[k] *= dg[k]
                    _store(dr, rows, n, dz, (units + row) * pitch + column, pitch)
                    _store(du, rows, n, dz, (below + row) * pitch + column, pitch)
            if after:
                of_u = below * pitch + column
                multiply(by, units, n, units, r, of_g, 1, units, dz, of_u, pitch, 1, ct_state, 0, n, 1)
            else:
                dg_at = 2 * units * pitch + column
                multiply(by, units, n, units, r, of_g, 1, units, dz, dg_at, pitch, 1, inner, 0, n, 0)
                for j in range(units):
                    at = (s * 5 * units + j) * batch + start
                    _through_reset(
                        n, tape[at + units * batch :], tape[at + 4 * units * batch :], inner[j * n :],
                        ct_state[j * n :], dr, du, dh,
                    )  # fmt: skip
                    _store(dr, 1, n, dz, (units + j) * pitch + column, pitch)
                    _store(du, 1, n, dz, (below + j) * pitch + column, pitch)
                    _store(dh, 1, n, ct_state, j * n, n)
            multiply(by, units, n, 2 * units, r, 0, 1, units, dz, column, pitch, 1, ct_state, 0, n, 1)
            _to_input(by, places, start, n, s, 3 * units, w, dz, pitch, x_ct)
            _see(places, start, n, s, x, h, y, seen)
            if column == 0:
                taken, add = min(block, steps - s) * n, 0 if start == first and s + block >= steps else 1
                given, before = _seen(seen, block * n, inputs, units)
                _to_weights(by, 3 * units, inputs, taken, dz, 0, pitch, given, add, w_ct, 0)
                _to_weights(by, 2 * units, units, taken, dz, 0, pitch, before, add, r_ct, 0)
                if after:
                    _to_weights(by, units, units, taken, dz, below * pitch, pitch, before, add, r_ct, of_g)
                elif r_ct.size:
                    multiply(
                        by, units, units, taken, dz, 2 * units * pitch, pitch, 1, dz, below * pitch, 1, pitch,
                        r_ct, of_g, units, add,
                    )  # fmt: skip
                _to_biases(4 * units, taken, dz, pitch, add, sums)
        if h_ct.size:
            _unload(ct_state, n, units, h_ct, h_at + start * h_row, h_row)


@inline
def _gru_slopes(
    n: int, z: Array, r: Array, g: Array, difference: Array, u: Array, ct: Array,
    dz: Array, dr: Array, dg: Array, du: Array, dh: Array,
) -> None:  # fmt: skip
    """The cotangents of z and g before their activations, what comes to h through z, and by what dg gives dr and du."""
    for k in range(n):
        dz[k] = ct[k] * difference[k] * ((ONE - z[k]) * z[k])
        dr[k] = u[k] * ((ONE - r[k]) * r[k])
        dg[k] = ct[k] * (ONE - z[k]) * (ONE - g[k] * g[k])
        du[k] = r[k]
        dh[k] = ct[k] * z[k]


@inline
def _through_reset(n: int, r: Array, h: Array, ct: Array, ct_h: Array, dr: Array, product: Array, dh: Array) -> None:
    """From the cotangent of r h: that of r before its activation; r h; and that of h so far."""
    for k in range(n):
        dr[k] = ct[k] * h[k] * ((ONE - r[k]) * r[k])
        product[k] = r[k] * h[k]
        dh[k] = ct_h[k] + ct[k] * r[k]


# ---- the products with dz, for a block of steps at a time ------------------------------------------------------


@inline
def _block(steps: int, n: int) -> int:
    """How many steps' dz are gathered."""
    return min(steps, COLUMNS // n)


@inline
def _seen(seen: Array, columns: int, inputs: int, units: int) -> Any:
    """Where, for each step and sequence of a block, there are the inputs and the states before."""
    return seen[: columns * inputs], seen[columns * inputs : columns * (inputs + units)]


@helper
def _see(places: Array, start: int, n: int, s: int, x: Array, h: Array, y: Array, seen: Array) -> None:
    """Gathers what a step has seen."""
    _, _, _, inputs, units, steps, x_at, x_step, x_row, y_at, y_step, y_row, h_at, h_row = _unpack(places)
    block = _block(steps, n)
    given, before = _seen(seen, block * n, inputs, units)
    column = s % block * n
    _copy(x, x_at + s * x_step + start * x_row, x_row, n, inputs, given[column * inputs :])
    if s:
        _copy(y, y_at + (s - 1) * y_step + start * y_row, y_row, n, units, before[column * units :])
    else:
        _copy(h, h_at + start * h_row, h_row, n, units, before[column * units :])


@helper
def _to_weights(
    by: Any, rows: int, columns: int, depth: int, dz: Array, dz_at: int, pitch: int, seen: Array,
    add: int, made: Array, made_at: int,
) -> None:  # fmt: skip
    """The cotangents of some weights [rows, columns] from a block of steps; nothing where these are not wanted."""
    if made.size:
        multiply(by, rows, columns, depth, dz, dz_at, pitch, 1, seen, 0, columns, 1, made, made_at, columns, add)


@summing
def _to_biases(rows: int, depth: int, dz: Array, pitch: int, add: int, sums: Array) -> None:
    """Sums over a block of steps; nothing where these are not wanted."""
    for i in range(rows if sums.size else 0):
        total, line = ZERO, dz[i * pitch : i * pitch + depth]
        for k in range(depth):
            total += line[k]
        sums[i] = sums[i] + total if add else total


@helper
def _to_input(
    by: Any, places: Array, start: int, n: int, s: int, rows: int, w: Array, dz: Array, pitch: int,
    x_ct: Array,
) -> None:  # fmt: skip
    """The cotangents of a step's inputs; those of the second direction are added to the first's."""
    second, _, _, inputs, _, steps, x_at, x_step, x_row, _, _, _, _, _ = _unpack(places)
    if x_ct.size:
        add, at, column = 1 if second else 0, x_at + s * x_step + start * x_row, s % _block(steps, n) * n
        multiply(by, n, inputs, rows, dz, column, 1, pitch, w, 0, inputs, 1, x_ct, at, x_row, add)


# ---- matrices [features, sequences], and arrays where a sequence's features lie side by side -------------------


@inline
def _unpack(places: Array) -> Any:
    p = places
    return p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8], p[9], p[10], p[11], p[12], p[13]


@helper
def _load(x: Array, at: int, step: int, n: int, features: int, matrix: Array) -> None:
    """Fills a matrix with n sequences' features, ``step`` apart; with zeros if x is empty."""
    if x.size == 0:
        for k in range(features * n):
            matrix[k] = ZERO
        return
    for j in range(n):
        given, to = x[at + j * step : at + j * step + features], matrix[j:]
        for k in range(features):
            to[k * n] = given[k]


@helper
def _load_more(x: Array, at: int, step: int, n: int, features: int, matrix: Array) -> None:
    """Adds n sequences' features to a matrix."""
    for j in range(n):
        given, to = x[at + j * step : at + j * step + features], matrix[j:]
        for k in range(features):
            to[k * n] += given[k]


@helper
def _unload(matrix: Array, n: int, features: int, x: Array, at: int, step: int) -> None:
    """Copies a matrix to n sequences' features, ``step`` apart."""
    for j in range(n):
        given, to = matrix[j:], x[at + j * step : at + j * step + features]
        for k in range(features):
            to[k] = given[k * n]


@helper
def _copy(x: Array, at: int, step: int, n: int, features: int, rows: Array) -> None:
    """Copies n sequences' features, ``step`` apart, to rows [n, features]; zeros if x is empty."""
    if x.size == 0:
        for k in range(n * features):
            rows[k] = ZERO
        return
    for j in range(n):
        given, to = x[at + j * step : at + j * step + features], rows[j * features : (j + 1) * features]
        for k in range(features):
            to[k] = given[k]


@helper
def _store(block: Array, rows: int, n: int, matrix: Array, at: int, step: int) -> None:
    """Copies rows of n numbers to rows that begin ``step`` apart."""
    if step == n:
        rows, n = 1, rows * n
    whole = n // SHORT * SHORT
    for row in range(rows):
        source, to = row * n, at + row * step
        for k in range(0, whole, SHORT):
            move(block, source + k, matrix, to + k)
        for k in range(whole, n):
            matrix[to + k] = block[source + k]


@helper
def _spread(b: Array, at: int, more: int, rows: int, n: int, matrix: Array) -> None:
    """Fills each row of a matrix with its bias, plus another one if ``more`` is not 0; with 0 where there are none."""
    for row in range(rows):
        value = ZERO
        if b.size:
            value = b[at + row] + b[more + row] if more else b[at + row]
        for k in range(n):
            matrix[row * n + k] = value


@inline
def _sigmoids(z: Array, bias: Array, made: Array) -> None:
    for k in range(z.size):
        made[k] = sigmoid(z[k] + bias[k])


@inline
def _tanhs(z: Array, bias: Array, made: Array) -> None:
    for k in range(z.size):
        made[k] = tanh(z[k] + bias[k])
