"""LSTM with its usual activations, forward and back; see `_recurrent_walks` for the layout.

The tape has for each step i, o, f, g, tanh(c') and the cell state c before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
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
    """Fills y, the last states, and the tape if it is wanted; takes the op's inputs, its outputs, and scratch.

    With two threads the one makes the inputs' share of the pre-activations, for a block of steps at a time; it lies
    where the gates will be.
    """

    def __init__(self, of: Layer, has_tape: bool):
        h, n, i = of.units, of.batch, of.inputs
        self.of, self.half, self.cut = of, of.number(0.5), cut(of, 4 * h)
        apart = self.cut.apart
        count = pieces(4 * h, max(h, i + 1) if apart else i + 1 + h, n) if self.cut.alone else 1
        self.scratch: Shapes = of.shapes(
            (count, 4 * h // count, i + 1 + h), (i + 1 + h, n), (h, n),
            (of.steps if apart and not has_tape else 1, 5, h, n), (4, h, n), (self.cut.steps if apart else 0, i + 1, n),
        )  # fmt: skip

    def __call__(
        self, x: Array, w: Array, r: Array, b: Array, sequence_lens: None, initial_h: Array, initial_c: Array, p: None,
        y: Array, y_h: Array, y_c: Array, tape: Array, weights: Array, column: Array, cell: Array, spare: Array,
        z: Array, columns: Array,
    ) -> None:  # fmt: skip
        of = self.of
        stacked, state = weights.reshape(4 * of.units, -1), column[of.inputs + 1 :]
        column[of.inputs] = columns[:, of.inputs] = 1
        for d in of.directions:
            stack(stacked, w[d], r[d], part(b, d))
            stacked[: 3 * of.units] *= self.half
            if tape is None:
                records, cells = spare if len(spare) == of.steps else [*spare] * of.steps, [cell] * (of.steps + 1)
            else:
                records, cells = tape[d, :, :5], [*tape[d, :, 5], cell]
            put(state, of.state(initial_h, d))
            put(cells[0], of.state(initial_c, d))
            xs, walk = of.sequence(x, d), partial(self.walk, of.hidden(y, d), records, cells, state)
            if self.cut.apart:
                shares = z.reshape(*weights.shape[:2], of.batch)
                add = partial(_add_recurrent, weights[:, :, of.inputs + 1 :], state, shares, z)
                blocks = self.from_inputs(xs, weights[:, :, : of.inputs + 1], columns, records)
                consume(blocks, partial(walk, add), True)
            else:
                walk(partial(self.multiply, xs, weights, column), [range(of.steps)])
            copy((of.state(y_h, d), state), (of.state(y_c, d), cell))

    def from_inputs(self, x: Array, weights: Array, columns: Array, records: Array) -> Iterator[range]:
        """Fills the places of the gates with the weights' products with (input, 1), a block of steps at a time."""
        of, shape = self.of, (*weights.shape[:2], self.of.batch)
        for s in range(0, of.steps, len(columns)):
            steps = range(s, min(s + len(columns), of.steps))
            given = columns[: len(steps)]
            given[:, : of.inputs] = np.swapaxes(x[s : steps.stop], 1, 2)
            np.matmul(weights, given[:, None], records[s : steps.stop, :4].reshape(len(steps), *shape))
            yield steps

    def multiply(self, x: Array, weights: Array, column: Array, s: int, gates: Array) -> None:
        """Fills the gates with the weights' product with (input, 1, state)."""
        column[: self.of.inputs] = x[s].T
        np.matmul(weights, column, gates.reshape(*weights.shape[:2], -1))

    def walk(
        self, y: Array, records: Any, cells: Sequence[Array], state: Array, product: Callable[[int, Array], None],
        blocks: Iterable[range],
    ) -> None:  # fmt: skip
        """All steps.

        Args:
            y: takes the outputs, [T, N, H]; or None.
            records: take i, o, f, g and tanh(c') of each step, [5, H, N].
            cells: the first is c before all steps; take c after each.
            state: [H, N], becomes the last one.
            product: fills the place of the gates with their pre-activations, those of i, o and f halved.
            blocks: the steps.
        """
        half, turned = self.half, state.T
        for s in chain.from_iterable(blocks):
            record, new = records[s], cells[s + 1]
            gates, (i, o, f, g, t) = record[:4], record
            product(s, gates)
            np.tanh(gates, gates)
            halves(gates[:3], half)
            np.multiply(f, cells[s], new)
            np.multiply(i, g, t)
            np.add(new, t, new)
            np.tanh(new, t)
            np.multiply(o, t, state)
            if y is not None:
                y[s] = turned


def _add_recurrent(weights: Array, state: Array, shares: Array, z: Array, s: int, gates: Array) -> None:
    """Adds to the gates, which have the inputs' share already, that of the state; shares is z in pieces."""
    np.matmul(weights, state, shares)
    np.add(gates, z, gates)


class Backward:
    """Fills the cotangents of x, w, r, b and the first states; takes the rule's inputs, its outputs, and scratch."""

    def __init__(self, of: Layer):
        h, n, k = of.units, of.batch, of.inputs + 1 + of.units
        self.of, self.one = of, of.number(1)
        self.cut = blocks = cut(of, 4 * h)
        count = pieces(h, 4 * h, n) if blocks.alone else 1
        stretch = of.stretch(4 * h)
        self.scratch: Shapes = of.shapes(
            (count, h // count, 4 * h), (2, h, n), (stretch, 4, h, n), (stretch, 4, h, n),
            (blocks.kept, 4 * h, blocks.steps, n), (blocks.steps, n, k), (4 * h, k),
            (max(4 * h * k, blocks.steps * n * of.inputs),),
        )  # fmt: skip

    def __call__(
        self, ct_y: Array, ct_y_h: Array, ct_y_c: Array, x: Array, w: Array, r: Array, b: Array, sequence_lens: None,
        initial_h: Array, initial_c: Array, p: None, y: Array, tape: Array, x_ct: Array, w_ct: Array, r_ct: Array,
        b_ct: Array, h_ct: Array, c_ct: Array, p_ct: None, back: Array, cts: Array, k: Array, more: Array, dz: Array,
        memory: Array, total: Array, product: Array,
    ) -> None:  # fmt: skip
        of, one = self.of, self.of.inputs
        for d in of.directions:
            back.reshape(of.units, -1)[...] = r[d].T
            put(cts[0], of.state(ct_y_h, d))
            put(cts[1], of.state(ct_y_c, d))
            seen = Seen(of, of.sequence(x, d), of.hidden(y, d), of.state(initial_h, d), memory)
            sum_up = partial(self.sum_up, d, seen, w[d], x_ct, total, product)
            walk = self.walk(optional(of.hidden(ct_y, d), of), tape[d], back, cts, k, more)
            consume(in_blocks(of, walk, dz), sum_up, self.cut.apart)
            copy((part(w_ct, d), total[:, :one]), (part(r_ct, d), total[:, one + 1 :]))
            copy((part(b_ct, d), np.tile(total[:, one], 2)))
            copy((of.state(h_ct, d), cts[0]), (of.state(c_ct, d), cts[1]))

    def sum_up(
        self, d: int, seen: Seen, w: Array, x_ct: Array, total: Array, product: Array, blocks: Iterator[Block]
    ) -> None:
        """The cotangents of the weights [4 H, I + 1 + H], and those of the inputs."""
        for block in blocks:
            steps, dz = block
            accumulate(steps.stop == self.of.steps, dz, seen(steps), total, product)
            to_input(self.of, d, block, w, x_ct, product)

    def linearize(self, tape: Array, k: Array, more: Array) -> None:
        """Some steps' coefficients, from their tape [S, 6, H, N].

        k [S, 4, H, N] takes those by which the cotangents of c', h', c', c' give dz; more[:, 3] that by which the
        cotangent of h' adds to that of c'. These are, with t = tanh(c'), i g (1 - i), o t (1 - o), f c (1 - f),
        i - (i g) g and o - (o t) t.
        """
        i, o, g, t = tape[:, 0], tape[:, 1], tape[:, 3], tape[:, 4]
        of_gates, of_g, of_h = k[:, :3], k[:, 3], more[:, 3]
        products, i_g, o_t = more[:, :3], more[:, 0], more[:, 1]
        np.multiply(i, g, i_g)
        np.multiply(tape[:, 1:3], tape[:, 4:], more[:, 1:3])
        np.subtract(self.one, tape[:, :3], of_gates)
        np.multiply(of_gates, products, of_gates)
        np.multiply(i_g, g, of_g)
        np.subtract(i, of_g, of_g)
        np.multiply(o_t, t, of_h)
        np.subtract(o, of_h, of_h)

    def walk(
        self, ct_y: Any, tape: Array, back: Array, cts: Array, k: Array, more: Array
    ) -> Iterator[tuple[int, Array]]:
        """From the last step to the first; gives each and its dz [4 H, N].

        Args:
            ct_y: for each step [N, H] or None.
            tape: [T, 6, H, N].
            back: r^T, [H, 4 H] in pieces.
            cts: [2, H, N]: of the last states; become those of the first ones.
            k, more: [S, 4, H, N], scratch.
        """
        of, (ct_h, ct_c) = self.of, cts
        new_h = ct_h.reshape(len(back), -1, of.batch)
        parts = [(m[3], c[1:3], c[::3], c.reshape(4 * of.units, of.batch)) for c, m in zip(k, more, strict=True)]
        for end in range(of.steps, 0, -len(k)):
            start = max(end - len(k), 0)
            self.linearize(tape[start:end], k[: end - start], more[: end - start])
            for s in range(end - 1, start - 1, -1):
                (of_h, of_o_f, of_i_g, dz), ct = parts[s - start], ct_y[s]
                if ct is not None:
                    np.add(ct_h, ct.T, ct_h)
                np.multiply(of_h, ct_h, of_h)
                np.add(ct_c, of_h, ct_c)
                np.multiply(of_o_f, cts, of_o_f)
                np.multiply(of_i_g, ct_c, of_i_g)
                np.multiply(ct_c, tape[s, 2], ct_c)
                np.matmul(back, dz, new_h)
                yield s, dz
