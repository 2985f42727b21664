"""The cells of RNN, GRU and LSTM: one step, and its linear map in both directions.

Along the batch a step is elementwise but for the products with the recurrent weights R. So its derivative is R and
a few coefficients per unit, which ``linearize`` computes for all steps at once; ``push`` and ``pull`` only apply them.
``s`` is what step t gets from outside the recurrence, [N, G H]; states are [N, H].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.ops._recurrent import State, gathered, times, transposed
from graphrt.ops._recurrent_activations import Activation

Array = Any


class RNNCell:
    """h' = f(s + h R^T)."""

    def __init__(self, activations: Sequence[Activation], r: Array, rb: Array, p: Array, flag: bool):
        (self.f,) = activations
        self.r, self.rt, self.rb = r, transposed(r), rb

    def constant_bias(self) -> Array:
        """The part of the recurrent bias that is simply added."""
        return self.rb

    def step(self, s: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        """The next state, and what `linearize` needs to know of the step."""
        z = s + np.matmul(state[0], self.rt)
        y = self.f(z)
        return (y,), (z, y)

    def linearize(self, h: Array, z: Array, y: Array) -> None:
        """Takes the states before all steps [T, N, H] and the records."""
        self.h, self.k = h, self.f.slope(z, y)

    def push(self, t: int, s_dot: Array, dots: State) -> State:
        """The next state's tangents."""
        return (self.k[t] * (s_dot + np.matmul(dots[0], self.rt)),)

    def pull(self, t: int, cts: State) -> tuple[Array, State]:
        """The cotangents of s and of the state before, from those of the next state."""
        dz = self.k[t] * cts[0]
        return dz, (np.matmul(dz, self.r),)

    def weight_cts(self, dz: Array) -> tuple[Array, Array, Array]:
        """The cotangents of R, its bias and the peepholes, from those of s at all steps [T, N, G H]."""
        return gathered(dz, self.h), np.sum(dz, axis=(0, 1)), None

    def weight_dots(self, r: Array, rb: Array, p: Array) -> list[Array]:
        """What tangents of R, its bias and the peepholes add to the tangents of s at all steps."""
        return ([] if r is None else [times(self.h, r.T)]) + ([] if rb is None else [rb])


class GRUCell:
    """z, r = f(s + h R^T); h' = (1 - z) g + z h, where g = g(s_h + (r h) R_h^T), or with ``flag`` (the reset gate acts
    after the product) g = g(s_h + r (h R_h^T + b_h))."""

    kept = 5
    """How many arrays `keep` returns."""

    def __init__(self, activations: Sequence[Activation], r: Array, rb: Array, p: Array, flag: bool):
        self.f, self.g = activations
        self.n = r.shape[1]
        self.r, self.rt, self.rb, self.after = r, transposed(r), rb, flag
        self.r_gates, self.r_hidden = r[: 2 * self.n], r[2 * self.n :]
        self.rt_gates, self.rt_hidden = self.rt[:, : 2 * self.n], self.rt[:, 2 * self.n :]

    def constant_bias(self) -> Array:
        if not self.after or self.rb is None:
            return self.rb
        return np.concatenate([self.rb[: 2 * self.n], np.zeros_like(self.rb[2 * self.n :])])

    def step(self, s: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        h, n = state[0], self.n
        if self.after:
            product = np.matmul(h, self.rt)
            a = s[:, : 2 * n] + product[:, : 2 * n]
            u = product[:, 2 * n :] if self.rb is None else product[:, 2 * n :] + self.rb[2 * n :]
        else:
            a, u = s[:, : 2 * n] + np.matmul(h, self.rt_gates), h
        gates = self.f(a)
        z, r = gates[:, :n], gates[:, n:]
        b = s[:, 2 * n :] + (r * u if self.after else np.matmul(r * u, self.rt_hidden))
        g = self.g(b)
        return (g + z * (h - g),), (a, gates, b, g, u)

    def keep(self, h: Array, a: Array, gates: Array, b: Array, g: Array, u: Array) -> tuple[Array, ...]:
        """What the tape holds of all steps, each [T, N, H], from the states before them and the records."""
        return gates[..., : self.n], gates[..., self.n :], g, h - g, u

    def linearize(self, h: Array, a: Array, gates: Array, b: Array, g: Array, u: Array) -> None:
        n = self.n
        slope = self.f.slope(a, gates)
        self.z, self.reset, self.h = gates[..., :n], gates[..., n:], h
        self.kz, self.kr = slope[..., :n] * (h - g), slope[..., n:] * u
        self.kg = (1 - self.z) * self.g.slope(b, g)

    def push(self, t: int, s_dot: Array, dots: State) -> State:
        h, n = dots[0], self.n
        if self.after:
            product = np.matmul(h, self.rt)
            a = s_dot[:, : 2 * n] + product[:, : 2 * n]
            inner = self.reset[t] * product[:, 2 * n :] + self.kr[t] * a[:, n:]
        else:
            a = s_dot[:, : 2 * n] + np.matmul(h, self.rt_gates)
            inner = np.matmul(self.reset[t] * h + self.kr[t] * a[:, n:], self.rt_hidden)
        return (self.kz[t] * a[:, :n] + self.kg[t] * (s_dot[:, 2 * n :] + inner) + self.z[t] * h,)

    def pull(self, t: int, cts: State) -> tuple[Array, State]:
        ct = cts[0]
        dz, dg = self.kz[t] * ct, self.kg[t] * ct
        if self.after:
            dr = self.kr[t] * dg
            back = np.matmul(np.concatenate([dz, dr, self.reset[t] * dg], axis=1), self.r)
        else:
            inner = np.matmul(dg, self.r_hidden)
            dr = self.kr[t] * inner
            back = np.matmul(np.concatenate([dz, dr], axis=1), self.r_gates) + self.reset[t] * inner
        return np.concatenate([dz, dr, dg], axis=1), (self.z[t] * ct + back,)

    def weight_cts(self, dz: Array) -> tuple[Array, Array, Array]:
        n = self.n
        if self.after:
            dz = np.concatenate([dz[..., : 2 * n], self.reset * dz[..., 2 * n :]], axis=-1)
            return gathered(dz, self.h), np.sum(dz, axis=(0, 1)), None
        parts = gathered(dz[..., : 2 * n], self.h), gathered(dz[..., 2 * n :], self.reset * self.h)
        return np.concatenate(parts), np.sum(dz, axis=(0, 1)), None

    def weight_dots(self, r: Array, rb: Array, p: Array) -> list[Array]:
        n, terms = self.n, []
        if r is not None and self.after:
            terms.append(self._reset(times(self.h, r.T)))
        elif r is not None:
            parts = times(self.h, r[: 2 * n].T), times(self.reset * self.h, r[2 * n :].T)
            terms.append(np.concatenate(parts, axis=-1))
        if rb is not None:
            terms.append(self._reset(rb + np.zeros_like(self.h[..., :1])) if self.after else rb)
        return terms

    def _reset(self, dots: Array) -> Array:
        """Puts the reset gate before the tangents of the hidden gate's product."""
        n = self.n
        return np.concatenate([dots[..., : 2 * n], self.reset * dots[..., 2 * n :]], axis=-1)


class LSTMCell:
    """i, f = f(s + h R^T + P c); g = g(s_c + h R_c^T); c' = f c + i g; o = f(s_o + h R_o^T + P_o c'); h' = o h(c').

    Gates lie in the order i, o, f, c; with ``flag`` the forget gate is f = 1 - i. The argument of h is not clipped.
    """

    kept = 6
    """How many arrays `keep` returns."""

    def __init__(self, activations: Sequence[Activation], r: Array, rb: Array, p: Array, flag: bool):
        self.f, self.g, squash = activations
        self.squash = replace(squash, clip=0.0)
        self.n = n = r.shape[1]
        self.r, self.rt, self.rb, self.coupled = r, transposed(r), rb, flag
        self.pi: Array = None if p is None else p[:n]
        self.po: Array = None if p is None else p[n : 2 * n]
        self.pf: Array = None if p is None else p[2 * n :]

    def constant_bias(self) -> Array:
        return self.rb

    def step(self, s: Array, state: State) -> tuple[State, tuple[Array, ...]]:
        h, c = state
        n = self.n
        a = s + np.matmul(h, self.rt)
        if self.pi is None:
            gates = self.f(a[:, : 3 * n])
            i, o, f = gates[:, :n], gates[:, n : 2 * n], gates[:, 2 * n :]
        else:
            ai, af = a[:, :n] + self.pi * c, a[:, 2 * n : 3 * n] + self.pf * c
            i, f = self.f(ai), self.f(af)
        f = 1 - i if self.coupled else f
        g = self.g(a[:, 3 * n :])
        new = f * c + i * g
        if self.pi is not None:
            ao = a[:, n : 2 * n] + self.po * new
            o = self.f(ao)
            a, gates = np.concatenate([ai, ao, af, a[:, 3 * n :]], axis=1), np.concatenate([i, o, f], axis=1)
        out = self.squash(new)
        return (o * out, new), (a, gates, g, new, out)

    def keep(self, h: Array, c: Array, a: Array, gates: Array, g: Array, new: Array, out: Array) -> tuple[Array, ...]:
        """What the tape holds of all steps, each [T, N, H], from the states before them and the records."""
        i, o, f = (gates[..., k * self.n : (k + 1) * self.n] for k in range(3))
        return i, o, 1 - i if self.coupled else f, g, out, c

    def linearize(self, h: Array, c: Array, a: Array, gates: Array, g: Array, new: Array, out: Array) -> None:
        n = self.n
        slope = self.f.slope(a[..., : 3 * n], gates)
        i, o = gates[..., :n], gates[..., n : 2 * n]
        self.h, self.c, self.new = h, c, new
        self.forget = 1 - i if self.coupled else gates[..., 2 * n :]
        self.ki = slope[..., :n] * (g - c if self.coupled else g)
        self.ko = slope[..., n : 2 * n] * out
        self.kf = np.zeros_like(c) if self.coupled else slope[..., 2 * n :] * c
        self.kg = i * self.g.slope(a[..., 3 * n :], g)
        self.kh = o * self.squash.slope(new, out)

    def push(self, t: int, s_dot: Array, dots: State) -> State:
        h, c = dots
        n = self.n
        a = s_dot + np.matmul(h, self.rt)
        ai, ao, af, ag = a[:, :n], a[:, n : 2 * n], a[:, 2 * n : 3 * n], a[:, 3 * n :]
        if self.pi is not None:
            ai, af = ai + self.pi * c, af + self.pf * c
        new = self.forget[t] * c + self.ki[t] * ai + self.kf[t] * af + self.kg[t] * ag
        ao = ao if self.po is None else ao + self.po * new
        return self.ko[t] * ao + self.kh[t] * new, new

    def pull(self, t: int, cts: State) -> tuple[Array, State]:
        ct_h, ct_c = cts
        do = self.ko[t] * ct_h
        ct = ct_c + self.kh[t] * ct_h
        ct = ct if self.po is None else ct + self.po * do
        di, df = self.ki[t] * ct, self.kf[t] * ct
        dz = np.concatenate([di, do, df, self.kg[t] * ct], axis=1)
        back = self.forget[t] * ct
        back = back if self.pi is None else back + self.pi * di + self.pf * df
        return dz, (np.matmul(dz, self.r), back)

    def weight_cts(self, dz: Array) -> tuple[Array, Array, Array]:
        n, p = self.n, None
        if self.pi is not None:
            products = dz[..., : 3 * n] * np.concatenate([self.c, self.new, self.c], axis=-1)
            p = np.sum(products, axis=(0, 1))
        return gathered(dz, self.h), np.sum(dz, axis=(0, 1)), p

    def weight_dots(self, r: Array, rb: Array, p: Array) -> list[Array]:
        terms = ([] if r is None else [times(self.h, r.T)]) + ([] if rb is None else [rb])
        if p is not None:
            products = p * np.concatenate([self.c, self.new, self.c], axis=-1)
            terms.append(np.concatenate([products, np.zeros_like(self.c)], axis=-1))
        return terms
