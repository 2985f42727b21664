"""GRU with its usual activations, forward and back; see `_recurrent_walks` for the layout.

With linear_before_reset ("after") the reset gate multiplies u = R_h h + b; without, it multiplies u = h itself, and the
product with R_h comes then. The column of a step is (r h, input, 1, state), so that each product takes one stretch of
it: with "after", (1, state) makes u and (input, 1) the rest of the hidden gate; without, (r h, input, 1) makes it all.

The tape has for each step z, r, g, h - g and u.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np

from graphrt.op import Array
from graphrt.runtime.kernels._pieces import pieces
from graphrt.runtime.kernels._recurrent_walks import (
    Block,
    Layer,
    Seen,
    Shapes,
    accumulate,
    consume,
    copy,
    cut,
    halves,
    in_blocks,
    optional,
    part,
    put,
    stack,
    to_input,
)


class Forward:
    """Fills y, the last state, and the tape if it is wanted; takes the op's inputs, its outputs, and scratch."""

    def __init__(self, of: Layer, after: bool):
        h, n, i = of.units, of.batch, of.inputs
        self.of, self.after, self.half = of, after, of.number(0.5)
        p, q = (pieces(2 * h, i + 1 + h, n), pieces(h, h + i + 1, n)) if cut(of, 4 * h).alone else (1, 1)
        self.scratch: Shapes = of.shapes(
            (p, 2 * h // p, i + 1 + h),
            (q, h // q, h + i + 1),
            (q, h // q, 1 + h),
            (h + i + 1 + h, n),
            (5, h, n),
            (h, n),
        )

    def __call__(
        self, x: Array, w: Array, r: Array, b: Array, sequence_lens: None, initial_h: Array, y: Array, y_h: Array,
        tape: Array, gates: Array, hidden: Array, inner: Array, column: Array, record: Array, t: Array,
    ) -> None:  # fmt: skip
        of = self.of
        state = column[-of.units :]
        for d in of.directions:
            bias = np.zeros(6 * of.units, of.dtype) if b is None else b[d]
            self.fill_weights(w[d], r[d], bias.reshape(6, -1), gates, hidden, inner)
            put(state, of.state(initial_h, d))
            records: Any = repeat(record) if tape is None else tape[d]
            steps = zip(of.sequence(x, d), optional(of.hidden(y, d), of), records, strict=False)
            self.walk(steps, gates, hidden, inner, column, t)
            copy((of.state(y_h, d), state))

    def fill_weights(self, w: Array, r: Array, b: Array, gates: Array, hidden: Array, inner: Array) -> None:
        """Weights of z and r from (input, 1, state), of the hidden gate from (r h, input, 1), of u from (1, state)."""
        h, i = self.of.units, self.of.inputs
        stack(gates.reshape(2 * h, -1), w[: 2 * h], r[: 2 * h], b[[0, 1, 3, 4]].reshape(-1))
        gates *= self.half
        outer, of_u = hidden.reshape(h, -1), inner.reshape(h, -1)
        outer[:, :h], outer[:, h : h + i] = r[2 * h :], w[2 * h :]
        outer[:, h + i] = b[2] if self.after else b[2] + b[5]
        of_u[:, 0], of_u[:, 1:] = b[5], r[2 * h :]

    def walk(self, steps: Any, gates: Array, hidden: Array, inner: Array, column: Array, t: Array) -> None:
        """Steps give input and place for the output [N, .], and the place for z, r, g, h - g and u."""
        h, i, n = self.of.units, self.of.inputs, self.of.batch
        given, state = column[h : h + i], column[h + i + 1 :]
        column[h + i] = 1
        for x, y, record in steps:
            z, reset, g, difference, u = record
            of_g = g.reshape(len(hidden), -1, n)
            given[...] = x.T
            np.matmul(gates, column[h:], record[:2].reshape(len(gates), -1, n))
            np.tanh(record[:2], record[:2])
            halves(record[:2], self.half)
            if self.after:
                np.matmul(inner, column[h + i :], u.reshape(of_g.shape))
                np.matmul(hidden[:, :, h:], column[h : h + i + 1], of_g)
                np.multiply(reset, u, t)
                np.add(g, t, g)
            else:
                u[...] = state
                np.multiply(reset, state, column[:h])
                np.matmul(hidden, column[: h + i + 1], of_g)
            np.tanh(g, g)
            np.subtract(state, g, difference)
            np.multiply(z, difference, t)
            np.add(g, t, state)
            if y is not None:
                y[...] = state.T


class Backward:
    """Fills the cotangents of x, w, r, b and the first state; takes the rule's inputs, its outputs, and scratch.

    dz has the rows g, z, r, in which order w is taken too; below them those of u, or r h, which that of g multiplies.
    """

    def __init__(self, of: Layer, after: bool):
        h, n, i = of.units, of.batch, of.inputs
        self.of, self.after, self.one = of, after, of.number(1)
        self.cut = blocks = cut(of, 4 * h)
        count = pieces(h, 3 * h, n) if blocks.alone else 1
        self.scratch: Shapes = of.shapes(
            (3 * h, i), (count, h // count, 3 * h), (h, n), (of.stretch(4 * h), 4, h, n), (h, n),
            (blocks.kept, 4 * h, blocks.steps, n), (blocks.steps, n, i + 1 + h), (3 * h, i + 1), (3 * h, 1 + h),
            (max(3 * h * max(i + 1, h + 1), blocks.steps * n * i),),
        )  # fmt: skip

    def __call__(
        self, ct_y: Array, ct_y_h: Array, x: Array, w: Array, r: Array, b: Array, sequence_lens: None,
        initial_h: Array, y: Array, tape: Array, x_ct: Array, w_ct: Array, r_ct: Array, b_ct: Array, h_ct: Array,
        turned: Array, back: Array, ct: Array, k: Array, t: Array, dz: Array, memory: Array, of_w: Array, of_r: Array,
        product: Array,
    ) -> None:  # fmt: skip
        of, (h, i) = self.of, (self.of.units, self.of.inputs)
        for d in of.directions:
            turned[:h], turned[h:] = w[d, 2 * h :], w[d, : 2 * h]
            back.reshape(h, -1)[...] = r[d].T
            put(ct, of.state(ct_y_h, d))
            seen = Seen(of, of.sequence(x, d), of.hidden(y, d), of.state(initial_h, d), memory)
            sum_up = partial(self.sum_up, d, seen, turned, x_ct, of_w, of_r, product)
            walk = self.walk(optional(of.hidden(ct_y, d), of), tape[d], back, ct, k, t)
            consume(in_blocks(of, walk, dz), sum_up, self.cut.apart)
            if w_ct is not None:
                w_ct[d, 2 * h :], w_ct[d, : 2 * h] = of_w[:h, :i], of_w[h:, :i]
            if b_ct is not None:
                b_ct[d, 2 * h : 3 * h], b_ct[d, : 2 * h] = of_w[:h, i], of_w[h:, i]
                b_ct[d, 3 * h :] = of_r[:, 0] if self.after else b_ct[d, : 3 * h]
            copy((part(r_ct, d), of_r[:, 1:]), (of.state(h_ct, d), ct))

    def sum_up(
        self, d: int, seen: Seen, w: Array, x_ct: Array, of_w: Array, of_r: Array, product: Array,
        blocks: Iterator[Block],
    ) -> None:  # fmt: skip
        """The cotangents of the weights of (input, 1), [3 H, .], of (1, state), [3 H, .], and those of the inputs."""
        h, i = self.of.units, self.of.inputs
        for block in blocks:
            steps, dz = block
            last, before = steps.stop == self.of.steps, seen(steps)
            accumulate(last, dz[: 3 * h], before[:, : i + 1], of_w, product)
            if self.after:
                accumulate(last, dz[h:], before[:, i:], of_r, product)
            else:
                accumulate(last, dz[h : 3 * h], before[:, i:], of_r[: 2 * h], product)
                accumulate(last, dz[:h], dz[3 * h :].T, of_r[2 * h :, 1:], product)
            to_input(self.of, d, block, w, x_ct, product)

    def linearize(self, tape: Array, k: Array) -> None:
        """Some steps' coefficients, from their tape [S, 5, H, N]: k [S, 4, H, N] takes those by which the cotangents of
        h', h' and r u give those of g, z and r before their activations, and r u, for use without "after"."""
        gates, reset, g, u = tape[:, :2], tape[:, 1], tape[:, 2], tape[:, 4]
        of_g, of_gates = k[:, 0], k[:, 1:3]
        np.subtract(self.one, gates, of_gates)
        np.multiply(g, g, of_g)
        np.subtract(self.one, of_g, of_g)
        np.multiply(of_g, k[:, 1], of_g)
        np.multiply(of_gates, gates, of_gates)
        np.multiply(of_gates, tape[:, 3:], of_gates)
        if not self.after:
            np.multiply(reset, u, k[:, 3])

    def walk(self, ct_y: Any, tape: Array, back: Array, ct: Array, k: Array, t: Array) -> Iterator[tuple[int, Array]]:
        """From the last step to the first; gives each and its dz [4 H, N].

        Args:
            ct_y: for each step [N, H] or None.
            tape: [T, 5, H, N].
            back: r^T, [H, 3 H] in pieces.
            ct: [H, N]: of the last state; becomes that of the first one.
            k: [S, 4, H, N]; t: [H, N]: scratch.
        """
        h, n = self.of.units, self.of.batch
        made = t.reshape(len(back), -1, n)
        for end in range(self.of.steps, 0, -len(k)):
            start = max(end - len(k), 0)
            self.linearize(tape[start:end], k[: end - start])
            for s in range(end - 1, start - 1, -1):
                of_step, (z, reset, *_) = k[s - start], tape[s]
                dg, _, dr, du = of_step
                dz = of_step.reshape(4 * h, n)
                if ct_y[s] is not None:
                    np.add(ct, ct_y[s].T, ct)
                np.multiply(of_step[:2], ct, of_step[:2])
                np.multiply(ct, z, ct)
                if self.after:
                    np.multiply(dr, dg, dr)
                    np.multiply(dg, reset, du)
                    np.matmul(back, dz[h:], made)
                else:
                    np.matmul(back[:, :, 2 * h :], dg, made)
                    np.multiply(dr, t, dr)
                    np.multiply(t, reset, t)
                    np.add(ct, t, ct)
                    np.matmul(back[:, :, : 2 * h], dz[h : 3 * h], made)
                np.add(ct, t, ct)
                yield s, dz
