"""RNN with tanh, forward and back; see `_recurrent_walks` for the layout. The slope follows from y: 1 - y^2."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
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
    in_blocks,
    optional,
    part,
    put,
    stack,
    to_input,
)


class Forward:
    """Fills y and the last state; takes the op's inputs, its outputs, and scratch."""

    def __init__(self, of: Layer):
        h, n, k = of.units, of.batch, of.inputs + 1 + of.units
        count = pieces(h, k, n) if cut(of, h).alone else 1
        self.of = of
        self.scratch: Shapes = of.shapes((count, h // count, k), (k, n), (h, n))

    def __call__(
        self, x: Array, w: Array, r: Array, b: Array, sequence_lens: None, initial_h: Array, y: Array, y_h: Array,
        weights: Array, column: Array, z: Array,
    ) -> None:  # fmt: skip
        of = self.of
        given, state = column[: of.inputs], column[of.inputs + 1 :]
        made = z.reshape(len(weights), -1, of.batch)
        column[of.inputs] = 1
        for d in of.directions:
            stack(weights.reshape(of.units, -1), w[d], r[d], part(b, d))
            put(state, of.state(initial_h, d))
            for x_s, y_s in zip(of.sequence(x, d), optional(of.hidden(y, d), of), strict=True):
                given[...] = x_s.T
                np.matmul(weights, column, made)
                np.tanh(z, state)
                if y_s is not None:
                    y_s[...] = state.T
            copy((of.state(y_h, d), state))


class Backward:
    """Fills the cotangents of x, w, r, b and the first state; takes the rule's inputs, its outputs, and scratch."""

    def __init__(self, of: Layer):
        h, n, k = of.units, of.batch, of.inputs + 1 + of.units
        self.of, self.one = of, of.number(1)
        self.cut = blocks = cut(of, h)
        count = pieces(h, h, n) if blocks.alone else 1
        self.scratch: Shapes = of.shapes(
            (count, h // count, h), (h, n), (h, n), (blocks.kept, h, blocks.steps, n), (blocks.steps, n, k), (h, k),
            (max(h * k, blocks.steps * n * of.inputs),),
        )  # fmt: skip

    def __call__(
        self, ct_y: Array, ct_y_h: Array, x: Array, w: Array, r: Array, b: Array, sequence_lens: None,
        initial_h: Array, y: Array, x_ct: Array, w_ct: Array, r_ct: Array, b_ct: Array, h_ct: Array, back: Array,
        ct: Array, k: Array, dz: Array, memory: Array, total: Array, product: Array,
    ) -> None:  # fmt: skip
        of, one = self.of, self.of.inputs
        for d in of.directions:
            hidden = of.hidden(y, d)
            back.reshape(of.units, -1)[...] = r[d].T
            put(ct, of.state(ct_y_h, d))
            seen = Seen(of, of.sequence(x, d), hidden, of.state(initial_h, d), memory)
            sum_up = partial(self.sum_up, d, seen, w[d], x_ct, total, product)
            walk = self.walk(optional(of.hidden(ct_y, d), of), hidden, back, ct, k)
            consume(in_blocks(of, walk, dz), sum_up, self.cut.apart)
            copy((part(w_ct, d), total[:, :one]), (part(r_ct, d), total[:, one + 1 :]))
            copy((part(b_ct, d), np.tile(total[:, one], 2)), (of.state(h_ct, d), ct))

    def sum_up(
        self, d: int, seen: Seen, w: Array, x_ct: Array, total: Array, product: Array, blocks: Iterator[Block]
    ) -> None:
        """The cotangents of the weights [H, I + 1 + H], and those of the inputs."""
        for block in blocks:
            steps, dz = block
            accumulate(steps.stop == self.of.steps, dz, seen(steps), total, product)
            to_input(self.of, d, block, w, x_ct, product)

    def walk(self, ct_y: Any, y: Array, back: Array, ct: Array, k: Array) -> Iterator[tuple[int, Array]]:
        """From the last step to the first; gives each and its dz [H, N].

        Args:
            ct_y: for each step [N, H] or None.
            y: [T, N, H].
            back: r^T, [H, H] in pieces.
            ct: [H, N]: of the last state; becomes that of the first one.
            k: [H, N], scratch.
        """
        new = ct.reshape(len(back), -1, self.of.batch)
        for s in range(self.of.steps - 1, -1, -1):
            k[...] = y[s].T
            np.multiply(k, k, k)
            np.subtract(self.one, k, k)
            if ct_y[s] is not None:
                np.add(ct, ct_y[s].T, ct)
            np.multiply(k, ct, k)
            np.matmul(back, k, new)
            yield s, k
