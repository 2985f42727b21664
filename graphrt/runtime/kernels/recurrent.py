"""LSTM and GRU with their usual activations over sequences of one length.

The walk back keeps, for each step, only the coefficients by which cotangents are multiplied; the products that make the
weights' cotangents are one for all steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._recurrent_walks import (
    Layer,
    column_shape,
    fill_columns,
    layer,
    on_top,
    output_cotangents,
    outputs,
    stacked_states,
    state_cotangent,
    time_first,
)
from graphrt.runtime.kernels._scratch import scratch

Function = Callable[..., Any]


def _at(x: Array, d: int) -> Array:
    return None if x is None else x[d]


def _halve(gates: Array) -> None:
    """sigmoid(2 a) from tanh(a), in place."""
    np.multiply(gates, 0.5, gates)
    np.add(gates, 0.5, gates)


# ---- LSTM --------------------------------------------------------------------------------------------------

_ORDER = [1, 0, 2, 3]
"""Gates o, i, f, c from ONNX's i, o, f, c, and the other way round: the logistic ones together, and those that the
cell's cotangent reaches together."""


def _lstm_weights(of: Layer, w: Array, r: Array, b: Array) -> Array:
    """[4, H, I + 1 + H]: the weights of (input, 1, state), gates in the order o, i, f, c."""
    h, i = of.units, of.inputs
    made = np.empty((4, h, i + 1 + h), of.dtype)
    made[:, :, :i] = w.reshape(4, h, i)[_ORDER]
    made[:, :, i] = 0 if b is None else (b[: 4 * h] + b[4 * h :]).reshape(4, h)[_ORDER]
    made[:, :, i + 1 :] = r.reshape(4, h, h)[_ORDER]
    return made


class _LSTM:
    """The walk forward of one direction, with or without the coefficients that the walk back needs."""

    def __init__(self, of: Layer):
        self.of = of
        t, h, n = of.steps, of.units, of.batch
        self.shapes = (column_shape(of), (t, 4, h, n), (t, h, n), (t, h, n))
        self.size = sum(math.prod(s) for s in self.shapes)

    def parts(self, tape: Array) -> list[Array]:
        """The stacked columns, the gates' coefficients, those of the hidden state's cotangent and of the old cell."""
        made, at = [], 0
        for shape in self.shapes:
            made.append(tape[at : at + math.prod(shape)].reshape(shape))
            at += math.prod(shape)
        return made

    def start(self, d: int, given: Array, x: Array, w: Array, r: Array, b: Array, h0: Array, c0: Array) -> Any:
        """The weights in use [4 H, I + 1 + H] and the first cell state [H, N]."""
        weights = _lstm_weights(self.of, w, r, b)
        weights[:3] *= 0.5
        fill_columns(given, self.of.direction(d, x), h0, self.of)
        c = np.empty((self.of.units, self.of.batch), self.of.dtype)
        c[...] = 0 if c0 is None else c0.T
        return weights.reshape(4 * self.of.units, -1), c

    def forward(self, weights: Array, c: Array, given: Array) -> None:
        """Fills the states of ``given``; c becomes the last cell state."""
        h, n, start = self.of.units, self.of.batch, self.of.inputs + 1
        z, t = np.empty((4 * h, n), self.of.dtype), np.empty((h, n), self.of.dtype)
        sigmoids, o, i, f, g = z[: 3 * h], z[:h], z[h : 2 * h], z[2 * h : 3 * h], z[3 * h :]
        for column, out in zip(given, given[1:, start:], strict=False):
            np.matmul(weights, column, out=z)
            np.tanh(z, z)
            _halve(sigmoids)
            np.multiply(f, c, c)
            np.multiply(i, g, t)
            np.add(c, t, c)
            np.tanh(c, t)
            np.multiply(o, t, out)

    def linearize(self, weights: Array, c: Array, given: Array, k: Array, kh: Array, forget: Array) -> None:
        """As `forward`, and fills the coefficients."""
        h, n, start = self.of.units, self.of.batch, self.of.inputs + 1
        z, t = np.empty((4, h, n), self.of.dtype), np.empty((h, n), self.of.dtype)
        sigmoids, (o, i, f, g), flat = z[:3], z, z.reshape(4 * h, n)
        for s in range(self.of.steps):
            np.matmul(weights, given[s], out=flat)
            np.tanh(z, z)
            _halve(sigmoids)
            slopes, through = k[s], kh[s]
            np.subtract(1, sigmoids, slopes[:3])
            np.multiply(slopes[:3], sigmoids, slopes[:3])
            ko, ki, kf, kg = slopes
            np.multiply(kf, c, kf)
            np.multiply(ki, g, ki)
            np.multiply(g, g, kg)
            np.subtract(1, kg, kg)
            np.multiply(kg, i, kg)
            np.multiply(f, c, c)
            np.multiply(i, g, t)
            np.add(c, t, c)
            np.tanh(c, t)
            np.multiply(o, t, given[s + 1, start:])
            np.multiply(ko, t, ko)
            np.multiply(t, t, t)
            np.subtract(1, t, t)
            np.multiply(o, t, through)
            forget[s] = f


@kernel("LSTM")
def lstm_of_columns(site: KernelSite) -> Function | None:
    """All four gates of a step in one product and one tanh; keeps what the way back needs where that is asked for."""
    of = layer(site, "LSTM", ("initial_h", "initial_c"))
    if of is None:
        return None
    walk, d_s = _LSTM(of), range(len(of.backward))
    has_tape = site.attributes.get("n_outputs", 3) > 3
    keeps = has_tape and bool(site.node.outputs[3:] and site.node.outputs[3])

    def run(
        x: Array, w: Array, r: Array, b: Array = None, sequence_lens: None = None, initial_h: Array = None,
        initial_c: Array = None, p: None = None,
    ) -> tuple[Array, ...]:  # fmt: skip
        x, h0, c0 = time_first(x, of), time_first(initial_h, of), time_first(initial_c, of)
        args = [(x, w[d], r[d], _at(b, d), _at(h0, d), _at(c0, d)) for d in d_s]
        if keeps:
            tape = np.empty((len(args), walk.size), of.dtype)
            return (*finished([walk.parts(t) for t in tape], args), tape)
        with scratch(of.dtype, *[column_shape(of)] * len(args)) as columns:
            made = finished([[c] for c in columns], args)
        return (*made, None) if has_tape else made

    def finished(memory: list[list[Array]], args: list[tuple[Array, ...]]) -> tuple[Array, ...]:
        hidden, last = [], []
        for d in d_s:
            weights, c = walk.start(d, memory[d][0], *args[d])
            (walk.linearize if keeps else walk.forward)(weights, c, *memory[d])
            hidden.append(memory[d][0][1:, of.inputs + 1 :])
            last.append((hidden[-1][-1], c))
        return outputs(of, hidden, last)

    return run


@kernel("LSTM.vjp[x,w,r,b,initial_h,initial_c,p]")
def lstm_cotangents_of_columns(site: KernelSite) -> Function | None:
    """Back along the tape, or along one made again; one product for all weights."""
    of = layer(site, "LSTM", ("initial_h", "initial_c"))
    if of is None:
        return None
    h, n, start, steps = of.units, of.batch, of.inputs + 1, of.steps
    forward = _LSTM(of)
    products = (4 * h, steps * n), (start + h, steps * n)

    def walk(
        d: int, memory: list[Array], ct_y: Array, ct_h: Array, ct_c: Array, w: Array, r: Array
    ) -> tuple[Array, ...]:
        given, k, kh, forget, for_dz, for_columns = memory
        along = output_cotangents(of, d, ct_y)
        back = np.ascontiguousarray(r.reshape(4, h, h)[_ORDER].reshape(4 * h, h).T)
        dz, t, rows = np.empty((4, h, n), of.dtype), np.empty((h, n), of.dtype), for_dz.reshape(4, h, steps, n)
        flat = dz.reshape(4 * h, n)
        for s in range(steps - 1, -1, -1):
            if along is not None:
                np.add(ct_h, along[s], ct_h)
            np.multiply(kh[s], ct_h, t)
            np.add(ct_c, t, ct_c)
            np.multiply(k[s, 0], ct_h, dz[0])
            np.multiply(k[s, 1:], ct_c, dz[1:])
            np.multiply(ct_c, forget[s], ct_c)
            np.matmul(back, flat, out=ct_h)
            rows[:, :, s] = dz
        ct = np.matmul(for_dz, on_top(given[:steps], for_columns).T).reshape(4, h, -1)[_ORDER]
        x_ct = None
        if not of.wanted or of.wanted[0]:
            weights = w.reshape(4, h, of.inputs)[_ORDER].reshape(4 * h, of.inputs)
            x_ct = of.direction(d, np.matmul(for_dz.T, weights).reshape(steps, n, of.inputs))
        bias = ct[:, :, start - 1].reshape(-1)
        w_ct, r_ct = ct[:, :, : start - 1].reshape(4 * h, -1), ct[:, :, start:].reshape(4 * h, -1)
        return x_ct, w_ct, r_ct, np.concatenate([bias, bias]), ct_h, ct_c

    def run(
        ct_y: Array, ct_y_h: Array, ct_y_c: Array, x: Array, w: Array, r: Array, b: Array = None,
        sequence_lens: None = None, initial_h: Array = None, initial_c: Array = None, p: None = None,
        tape: Array = None,
    ) -> tuple[Array, ...]:  # fmt: skip
        found = []
        for d in range(len(of.backward)):
            cts = ct_y, state_cotangent(of, d, ct_y_h), state_cotangent(of, d, ct_y_c)
            with scratch(of.dtype, *products, *(() if tape is not None else forward.shapes)) as memory:
                kept = forward.parts(tape[d]) if tape is not None else memory[2:]
                if tape is None:
                    h0, c0 = time_first(initial_h, of), time_first(initial_c, of)
                    args = time_first(x, of), w[d], r[d], _at(b, d), _at(h0, d), _at(c0, d)
                    forward.linearize(*forward.start(d, kept[0], *args), *kept)
                found.append(walk(d, [*kept, *memory[:2]], *cts, w[d], r[d]))
        return _gathered(of, found, (x, w, r, b, initial_h, initial_c, p))

    return run


def _gathered(of: Layer, parts: list[tuple[Array, ...]], arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """The cotangents of the node's inputs from those of its directions: x, w, r, b, then states."""
    xs, ws, rs, bs, *states = zip(*parts, strict=True)
    x = xs[0] if len(xs) == 1 or xs[0] is None else xs[0] + xs[1]
    found = [time_first(x, of), np.stack(ws), np.stack(rs), np.stack(bs), *(stacked_states(of, s) for s in states)]
    found += [None] * (len(arrays) - len(found))
    return tuple(None if a is None else ct for a, ct in zip(arrays, found, strict=True))


# ---- GRU ---------------------------------------------------------------------------------------------------
#
# With linear_before_reset ("after") the hidden gate's recurrent product u = R_h h + b is made with those of z and r,
# and the reset gate multiplies it; without, the state is multiplied first, and enters a product of its own.


def _gru_weights(of: Layer, w: Array, r: Array, b: Array, after: bool) -> tuple[Array, Array, Array]:
    """Weights of the stacked column (input, 1, state), each [., I + 1 + H]: of z and r [2 H]; of the hidden gate from
    outside the reset gate's reach, and from within it [H]."""
    h, i = of.units, of.inputs
    made = np.zeros((4 * h, i + 1 + h), of.dtype)
    outer, inner = made[2 * h : 3 * h], made[3 * h :]
    made[: 3 * h, :i] = w
    made[: 2 * h, i + 1 :] = r[: 2 * h]
    inner[:, i + 1 :] = r[2 * h :]
    if b is not None:
        made[: 2 * h, i] = b[: 2 * h] + b[3 * h : 5 * h]
        outer[:, i] = b[2 * h : 3 * h]
        (inner if after else outer)[:, i] += b[5 * h :]
    return made[: 2 * h], outer, inner


@kernel("GRU")
def gru_of_columns(site: KernelSite) -> Function | None:
    """Both gates of a step in one product and one tanh."""
    of = layer(site, "GRU", ("initial_h",))
    if of is None:
        return None
    step = GRUStep(of, bool(site.attributes["linear_before_reset"]))

    def walk(d: int, given: Array, x: Array, w: Array, r: Array, b: Array, h0: Array) -> tuple[Array, tuple[Array]]:
        weights = _gru_weights(of, w, r, b, step.after)
        weights[0][...] *= 0.5
        fill_columns(given, of.direction(d, x), h0, of)
        for s in range(of.steps):
            step(weights, given[s], given[s + 1])
        hidden = given[1:, of.inputs + 1 :]
        return hidden, (hidden[-1],)

    def run(
        x: Array, w: Array, r: Array, b: Array = None, sequence_lens: None = None, initial_h: Array = None
    ) -> tuple[Array, ...]:
        x, h0 = time_first(x, of), time_first(initial_h, of)
        with scratch(of.dtype, *[column_shape(of)] * len(of.backward)) as given:
            walks = [walk(d, g, x, w[d], r[d], _at(b, d), _at(h0, d)) for d, g in enumerate(given)]
            return outputs(of, [hidden for hidden, _ in walks], [last for _, last in walks])

    return run


class GRUStep:
    """One step: fills the next state; what it has made on the way lies in ``z``, ``reset``, ``g`` and ``u``."""

    def __init__(self, of: Layer, after: bool):
        self.of, self.after = of, after

    def __call__(self, weights: tuple[Array, Array, Array], column: Array, following: Array) -> tuple[Array, ...]:
        h, start = self.of.units, self.of.inputs + 1
        of_gates, outer, inner = weights
        state = column[start:]
        gates = np.matmul(of_gates, column)
        np.tanh(gates, gates)
        _halve(gates)
        z, reset = gates[:h], gates[h:]
        if self.after:
            u = np.matmul(inner[:, start - 1 :], column[start - 1 :])
            g = np.multiply(reset, u)
        else:
            u = state
            g = np.matmul(inner[:, start:], np.multiply(reset, state))
        np.add(g, np.matmul(outer[:, :start], column[:start]), g)
        np.tanh(g, g)
        new = following[start:]
        np.subtract(state, g, new)
        np.multiply(new, z, new)
        np.add(new, g, new)
        return z, reset, g, u


@kernel("GRU.vjp[x,w,r,b,initial_h]")
def gru_cotangents_of_columns(site: KernelSite) -> Function | None:
    """Forward again with coefficients instead of gates, then back; one product for the weights of each kind."""
    of = layer(site, "GRU", ("initial_h",))
    if of is None:
        return None
    after = bool(site.attributes["linear_before_reset"])
    step = GRUStep(of, after)
    h, n, start, steps = of.units, of.batch, of.inputs + 1, of.steps
    shapes = (column_shape(of), (steps, 4, h, n), (steps, 2, h, n), (4 * h, steps * n), (start + h, steps * n))

    def forward(weights: tuple[Array, Array, Array], given: Array, k: Array, kept: Array) -> None:
        """Fills the coefficients of the cotangents of g, z, r [T, 4, H, N], the last one unused, and keeps the gates z
        and r [T, 2, H, N]."""
        for s in range(steps):
            z, reset, g, u = step(weights, given[s], given[s + 1])
            kg, kz, kr, _ = k[s]
            kept[s, 0], kept[s, 1] = z, reset
            np.subtract(1, z, kg)
            np.multiply(kg, z, kz)
            np.multiply(kz, given[s, start:] - g, kz)
            np.subtract(1, reset, kr)
            np.multiply(kr, reset, kr)
            np.multiply(kr, u, kr)
            np.multiply(g, g, g)
            np.subtract(1, g, g)
            np.multiply(kg, g, kg)

    def walk(
        d: int, memory: list[Array], ct_y: Array, ct: Array, x: Array, w: Array, r: Array, b: Array, h0: Array
    ) -> tuple[Array, ...]:
        given, k, kept, for_dz, for_columns = memory
        weights = _gru_weights(of, w, r, b, after)
        weights[0][...] *= 0.5
        fill_columns(given, of.direction(d, x), h0, of)
        forward(weights, given, k, kept)
        along = output_cotangents(of, d, ct_y)
        back, back_hidden = np.ascontiguousarray(r.T), np.ascontiguousarray(r[2 * h :].T)
        back_gates = np.ascontiguousarray(r[: 2 * h].T)
        for s in range(steps - 1, -1, -1):
            if along is not None:
                np.add(ct, along[s], ct)
            dg, dz, dr, du = k[s]
            z, reset = kept[s]
            np.multiply(dg, ct, dg)
            np.multiply(dz, ct, dz)
            np.multiply(ct, z, ct)
            if after:
                np.multiply(dr, dg, dr)
                np.multiply(dg, reset, du)
                ct += np.matmul(back, k[s, 1:].reshape(3 * h, n))
            else:
                inner = np.matmul(back_hidden, dg)
                np.multiply(dr, inner, dr)
                np.multiply(inner, reset, inner)
                ct += inner
                ct += np.matmul(back_gates, k[s, 1:3].reshape(2 * h, n))
        dz = on_top(k.reshape(steps, 4 * h, n), for_dz)
        seen = on_top(given[:steps], for_columns)
        from_x = np.roll(np.matmul(dz[: 3 * h], seen[:start].T).reshape(3, h, start), -1, axis=0).reshape(3 * h, start)
        bias = from_x[:, start - 1]
        if after:
            r_ct = np.matmul(dz[h:], seen[start - 1 :].T)
            bias = np.concatenate([bias, r_ct[:, 0]])
            r_ct = np.ascontiguousarray(r_ct[:, 1:])
        else:
            r_ct = np.empty((3 * h, h), of.dtype)
            np.matmul(dz[h : 3 * h], seen[start:].T, out=r_ct[: 2 * h])
            np.multiply(kept[:, 1], given[:steps, start:], kept[:, 0])
            np.matmul(dz[:h], on_top(kept[:, 0], for_columns[start:]).T, out=r_ct[2 * h :])
            bias = np.concatenate([bias, bias])
        x_ct = None
        if not of.wanted or of.wanted[0]:
            turned = np.concatenate([w[2 * h :], w[: 2 * h]])
            x_ct = of.direction(d, np.matmul(dz[: 3 * h].T, turned).reshape(steps, n, of.inputs))
        return x_ct, from_x[:, : start - 1], r_ct, bias, ct

    def run(
        ct_y: Array, ct_y_h: Array, x: Array, w: Array, r: Array, b: Array = None, sequence_lens: None = None,
        initial_h: Array = None,
    ) -> tuple[Array, ...]:  # fmt: skip
        x, h0 = time_first(x, of), time_first(initial_h, of)
        parts = []
        for d in range(len(of.backward)):
            ct = state_cotangent(of, d, ct_y_h)
            with scratch(of.dtype, *shapes) as memory:
                parts.append(walk(d, memory, ct_y, ct, x, w[d], r[d], _at(b, d), _at(h0, d)))
        return _gathered(of, parts, (x, w, r, b, initial_h))

    return run


KERNELS = (lstm_of_columns, lstm_cotangents_of_columns, gru_of_columns, gru_cotangents_of_columns)
