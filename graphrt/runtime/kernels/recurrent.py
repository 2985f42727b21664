"""LSTM and GRU with their usual activations over sequences of one length.

The walk back keeps, for each step, only the coefficients by which cotangents are multiplied; the products that make the
weights' cotangents are one for all steps.
"""

from __future__ import annotations

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
"""Gates o, i, f, c from ONNX's i, o, f, c, and the other way round: the logistic ones together, and those that the cell's
cotangent reaches together."""


def _lstm_weights(of: Layer, w: Array, r: Array, b: Array) -> Array:
    """[4, H, I + 1 + H]: the weights of (input, 1, state), gates in the order o, i, f, c."""
    h, i = of.units, of.inputs
    made = np.empty((4, h, i + 1 + h), of.dtype)
    made[:, :, :i] = w.reshape(4, h, i)[_ORDER]
    made[:, :, i] = 0 if b is None else (b[: 4 * h] + b[4 * h :]).reshape(4, h)[_ORDER]
    made[:, :, i + 1 :] = r.reshape(4, h, h)[_ORDER]
    return made


@kernel("LSTM")
def lstm_of_columns(site: KernelSite) -> Function | None:
    """All four gates of a step in one product and one tanh."""
    of = layer(site, "LSTM", ("initial_h", "initial_c"))
    if of is None:
        return None
    h, n, start = of.units, of.batch, of.inputs + 1

    def walk(
        d: int, given: Array, x: Array, w: Array, r: Array, b: Array, h0: Array, c0: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        weights = _lstm_weights(of, w, r, b)
        weights[:3] *= 0.5
        weights = weights.reshape(4 * h, -1)
        fill_columns(given, of.direction(d, x), h0, of)
        z, c, t = np.empty((4 * h, n), of.dtype), np.empty((h, n), of.dtype), np.empty((h, n), of.dtype)
        c[...] = 0 if c0 is None else c0.T
        sigmoids, o, i, f, g = z[: 3 * h], z[:h], z[h : 2 * h], z[2 * h : 3 * h], z[3 * h :]
        hidden = given[1:, start:]
        for column, out in zip(given, hidden, strict=False):
            np.matmul(weights, column, out=z)
            np.tanh(z, z)
            _halve(sigmoids)
            np.multiply(f, c, c)
            np.multiply(i, g, t)
            np.add(c, t, c)
            np.tanh(c, t)
            np.multiply(o, t, out)
        return hidden, (hidden[-1], c)

    def run(
        x: Array, w: Array, r: Array, b: Array = None, sequence_lens: None = None, initial_h: Array = None,
        initial_c: Array = None, p: None = None,
    ) -> tuple[Array, ...]:  # fmt: skip
        x, h0, c0 = time_first(x, of), time_first(initial_h, of), time_first(initial_c, of)
        with scratch(of.dtype, *[column_shape(of)] * len(of.backward)) as given:
            walks = [walk(d, g, x, w[d], r[d], _at(b, d), _at(h0, d), _at(c0, d)) for d, g in enumerate(given)]
            return outputs(of, [hidden for hidden, _ in walks], [last for _, last in walks])

    return run


@kernel("LSTM.vjp[x,w,r,b,initial_h,initial_c,p]")
def lstm_cotangents_of_columns(site: KernelSite) -> Function | None:
    """Forward again with coefficients instead of gates, then back; one product for all weights."""
    of = layer(site, "LSTM", ("initial_h", "initial_c"))
    if of is None:
        return None
    h, n, start, steps = of.units, of.batch, of.inputs + 1, of.steps

    shapes = (column_shape(of), (steps, 4, h, n), (steps, h, n), (steps, h, n), (4 * h + start + h, steps * n))

    def forward(weights: Array, given: Array, c: Array, k: Array, kh: Array, forget: Array) -> None:
        """Fills the coefficients of gates [T, 4, H, N], of the hidden state's cotangent and of the cell before [T, H, N]."""
        z, t = np.empty((4, h, n), of.dtype), np.empty((h, n), of.dtype)
        sigmoids, (o, i, f, g), flat = z[:3], z, z.reshape(4 * h, n)
        for s in range(steps):
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

    def walk(
        d: int, memory: list[Array], ct_y: Array, ct_h: Array, ct_c: Array, x: Array, w: Array, r: Array, b: Array,
        h0: Array, c0: Array,
    ) -> tuple[Array, ...]:  # fmt: skip
        given, k, kh, forget, matrices = memory
        plain = _lstm_weights(of, w, r, b)
        weights = plain.copy()
        weights[:3] *= 0.5
        plain, weights = plain.reshape(4 * h, -1), weights.reshape(4 * h, -1)
        fill_columns(given, of.direction(d, x), h0, of)
        c = np.empty((h, n), of.dtype)
        c[...] = 0 if c0 is None else c0.T
        forward(weights, given, c, k, kh, forget)
        along = output_cotangents(of, d, ct_y)
        back, t = np.ascontiguousarray(plain[:, start:].T), c
        for s in range(steps - 1, -1, -1):
            if along is not None:
                np.add(ct_h, along[s], ct_h)
            dz = k[s]
            np.multiply(kh[s], ct_h, t)
            np.add(ct_c, t, ct_c)
            np.multiply(dz[0], ct_h, dz[0])
            np.multiply(dz[1:], ct_c, dz[1:])
            np.multiply(ct_c, forget[s], ct_c)
            np.matmul(back, dz.reshape(4 * h, n), out=ct_h)
        dz = on_top(k.reshape(steps, 4 * h, n), matrices[: 4 * h])
        ct = np.matmul(dz, on_top(given[:steps], matrices[4 * h :]).T).reshape(4, h, -1)[_ORDER]
        x_ct = None
        if not of.wanted or of.wanted[0]:
            x_ct = np.matmul(dz.T, plain[:, : of.inputs]).reshape(steps, n, of.inputs)
            x_ct = of.direction(d, x_ct)
        bias = ct[:, :, start - 1].reshape(-1)
        w_ct, r_ct = ct[:, :, : start - 1].reshape(4 * h, -1), ct[:, :, start:].reshape(4 * h, -1)
        return x_ct, w_ct, r_ct, np.concatenate([bias, bias]), ct_h, ct_c

    def run(
        ct_y: Array, ct_y_h: Array, ct_y_c: Array, x: Array, w: Array, r: Array, b: Array = None,
        sequence_lens: None = None, initial_h: Array = None, initial_c: Array = None, p: None = None,
    ) -> tuple[Array, ...]:  # fmt: skip
        x, h0, c0 = time_first(x, of), time_first(initial_h, of), time_first(initial_c, of)
        parts = []
        for d in range(len(of.backward)):
            ct_h, ct_c = state_cotangent(of, d, ct_y_h), state_cotangent(of, d, ct_y_c)
            with scratch(of.dtype, *shapes) as memory:
                parts.append(walk(d, memory, ct_y, ct_h, ct_c, x, w[d], r[d], _at(b, d), _at(h0, d), _at(c0, d)))
        return _gathered(of, parts, (x, w, r, b, initial_h, initial_c, p))

    return run


def _gathered(of: Layer, parts: list[tuple[Array, ...]], arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """The cotangents of the node's inputs from those of its directions: x, w, r, b, then states."""
    xs, ws, rs, bs, *states = zip(*parts, strict=True)
    x = xs[0] if len(xs) == 1 or xs[0] is None else xs[0] + xs[1]
    found = [time_first(x, of), np.stack(ws), np.stack(rs), np.stack(bs), *(stacked_states(of, s) for s in states)]
    found += [None] * (len(arrays) - len(found))
    return tuple(None if a is None else ct for a, ct in zip(arrays, found, strict=True))


KERNELS = (lstm_of_columns, lstm_cotangents_of_columns)
