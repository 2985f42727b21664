"""What the kernels of recurrent layers share: when they serve, states as columns, the weights' cotangents.

A step works on matrices [features, batch]: the gates are then rows next to each other, so that NumPy goes through each
in one stretch, and one product of all weights with the stacked column (input, 1, state) makes every pre-activation,
bias and all. One tanh over all gates makes the logistic ones too: sigmoid(a) = (1 + tanh(a / 2)) / 2, the inner half
being in the weights.

On the way back each step has dz, the cotangents of its pre-activations. Those of the weights are the sum over all steps
of dz (input, 1, state)^T, those of the inputs W^T dz: products for a block of steps at a time. With two threads the one
does these while the other goes on, because two that share each product of each step mostly wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np

from graphrt.definitions import KernelSite
from graphrt.op import Array
from graphrt.records import dataclass
from graphrt.runtime.threads import PRODUCT, share, thread_count, threads_for
from graphrt.types import numpy_dtype

T = TypeVar("T")
Shapes = list[tuple[tuple[int, ...], str]]
Block = tuple[slice, Array]
"""Some steps, and dz of all of them, [R, S N]."""

_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
_FLOATS = ("x", "w", "r", "b", "initial_h", "initial_c", "y", "tape", "ct_y", "ct_y_h", "ct_y_c")

COLUMNS = 512
"""Steps times sequences of a block: enough for products at full speed, few enough for the second-level cache."""
COLUMNS_APART = 128
"""The same where another thread waits for the first block."""
WORK_APART = 2 * 10**7
"""Multiplications of all blocks together for which another thread is asked."""
STEP_APART = 2 * 10**7
"""Multiplications of a step with the recurrent weights from which on threads had better share them."""
STRETCH = 1 << 14
"""Numbers that the elementwise work on several steps at once goes through: they stay in the second-level cache."""


@dataclass(frozen=True)
class Layer:
    """The node's sizes: steps T, batch N, inputs I, units H; for each direction whether it reads backward."""

    backward: tuple[bool, ...]
    steps: int
    batch: int
    inputs: int
    units: int
    batch_first: bool
    dtype: Any

    @property
    def directions(self) -> range:
        """The directions' numbers."""
        return range(len(self.backward))

    def sequence(self, x: Array, d: int) -> Array:
        """x as [T, N, I], in the order in which a direction reads; a view."""
        x = np.swapaxes(x, 0, 1) if self.batch_first else x
        return x[::-1] if self.backward[d] else x

    def hidden(self, y: Array, d: int) -> Array:
        """A direction's part of y as [T, N, H], in the order in which it reads; a view. None where there is no y."""
        if y is None:
            return None
        y = np.swapaxes(y[:, :, d], 0, 1) if self.batch_first else y[:, d]
        return y[::-1] if self.backward[d] else y

    def state(self, h: Array, d: int) -> Array:
        """A direction's part of a first or last state as a column [H, N]; a view. None where there is no state."""
        if h is None:
            return None
        return (h[:, d] if self.batch_first else h[d]).T

    def number(self, x: float) -> Array:
        """A constant in the layer's dtype."""
        return np.array(x, self.dtype)

    def shapes(self, *shapes: tuple[int, ...]) -> Shapes:
        """Scratch arrays of these shapes."""
        return [(s, self.dtype.name) for s in shapes]

    def stretch(self, rows: int) -> int:
        """How many steps' matrices [rows, N] the elementwise work goes through at once."""
        return min(self.steps, max(1, STRETCH // (rows * self.batch)))


def layer(site: KernelSite, op_type: str) -> Layer | None:
    """None where a node has activations, clipping, lengths or peepholes that need the general walk."""
    a, given = site.attributes, site.inputs
    names = _ACTIVATIONS[op_type]
    backward = _DIRECTIONS.get(str(a["direction"]).lower())
    present = [n for n in _FLOATS if given.get(n) is not None]
    if backward is None or not site.is_float(*present) or given.get("sequence_lens") is not None:
        return None
    chosen = tuple(n.lower() for n in a["activations"] or names * len(backward))
    if chosen not in (names * len(backward), names * 2) or a["clip"] or given.get("p") is not None:
        return None
    if a.get("input_forget") or len(site.shape("x")) != 3:
        return None
    batch_first = bool(a["layout"])
    (first, second, inputs), units = site.shape("x"), site.shape("r")[-1]
    steps, batch = (second, first) if batch_first else (first, second)
    if not (steps and batch and inputs and units) or not _fit(site, len(backward), _GATES[op_type], batch, batch_first):
        return None
    return Layer(backward, steps, batch, inputs, units, batch_first, numpy_dtype(given["x"].dtype))


def _fit(site: KernelSite, d: int, gates: int, batch: int, batch_first: bool) -> bool:
    """Whether all shapes are what the op asks for; where they are not, its own function says so."""
    inputs, units = site.shape("x")[-1], site.shape("r")[-1]
    state = (batch, d, units) if batch_first else (d, batch, units)
    expected = {
        "w": (d, gates * units, inputs), "r": (d, gates * units, units), "b": (d, 2 * gates * units),
        "initial_h": state, "initial_c": state,
    }  # fmt: skip
    size = site.attributes.get("hidden_size")
    return size in (None, units) and all(
        site.inputs.get(n) is None or site.shape(n) == shape for n, shape in expected.items()
    )


# ---- parts of arrays, some of which may be absent ------------------------------------------------------------


def part(x: Array, d: int) -> Array:
    """What belongs to a direction; None where there is nothing."""
    return None if x is None else x[d]


def put(target: Array, x: Array) -> None:
    """Copies x; zeros where there is none."""
    target[...] = 0 if x is None else x


def copy(*pairs: tuple[Array, Array]) -> None:
    """Copies to each target that is wanted the array that comes with it."""
    for target, source in pairs:
        if target is not None:
            target[...] = source


def optional(steps: Array, of: Layer) -> Iterable[Array]:
    """One item for each step; None where there are none."""
    return (None,) * of.steps if steps is None else steps


# ---- forward -------------------------------------------------------------------------------------------------


def stack(made: Array, w: Array, r: Array, b: Array) -> None:
    """Fills [G H, I + 1 + H] with the weights of (input, 1, state), where the two biases are simply added."""
    rows, inputs = w.shape
    made[:, :inputs] = w
    put(made[:, inputs], None if b is None else b[:rows] + b[rows:])
    made[:, inputs + 1 :] = r


def halves(tanh: Array, half: Array) -> None:
    """sigmoid(2 a) from tanh(a), in place."""
    np.multiply(tanh, half, tanh)
    np.add(tanh, half, tanh)


# ---- blocks of steps -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cut:
    """How the steps are cut into blocks, for products with what does not depend on the step before or after.

    Attributes:
        steps: of a block.
        kept: how many blocks there is memory for.
        apart: whether one thread does these products while another goes from step to step.
        alone: whether a thread does a step's own products alone.
    """

    steps: int
    kept: int
    apart: bool
    alone: bool


def cut(of: Layer, rows: int) -> Cut:
    """Blocks for a layer whose pre-activations have so many rows."""
    threads, step = thread_count(), rows * of.batch * of.units
    work = rows * of.batch * (of.inputs + 1 + of.units) * of.steps
    apart = threads == 2 and work >= WORK_APART and step < STEP_APART and threads_for(work * PRODUCT) == 2
    steps = min(of.steps, -(-(COLUMNS_APART if apart else COLUMNS) // of.batch))
    return Cut(steps, -(-of.steps // steps) if apart else 1, apart, apart or threads == 1)


def in_blocks(of: Layer, walk: Iterator[tuple[int, Array]], dz: Array) -> Iterator[Block]:
    """Gathers dz for a block of steps at a time.

    Args:
        of: the layer.
        walk: each step, from the last to the first, and its dz [R, N].
        dz: [B, R, S, N], scratch for B blocks of S steps, which are filled in turn.
    """
    length = dz.shape[2]
    for s, of_step in walk:
        block, at = dz[s // length % len(dz)], s % length
        block[:, at] = of_step
        if at == 0:
            steps = slice(s, min(s + length, of.steps))
            yield steps, block[:, : steps.stop - s].reshape(len(of_step), -1)


def consume(items: Iterator[T], use: Callable[[Iterator[T]], None], apart: bool) -> None:
    """Uses items as they are made; ``apart``: in another thread, if one is free, else when all are made."""
    if not apart:
        use(items)
        return
    ready: SimpleQueue[T | None] = SimpleQueue()

    def make() -> None:
        try:
            for item in items:
                ready.put(item)
        finally:
            ready.put(None)

    def work(i: int, maker: bool) -> None:
        if maker:
            make()
        else:
            use(iter(ready.get, None))

    share(work, (True, False))


class Seen:
    """What the steps have seen: (input, 1, state before).

    Args:
        of: the layer.
        x, y: [T, N, I] and [T, N, H], in the order of reading.
        h: the first state [H, N], or None.
        memory: [S, N, I + 1 + H], scratch.
    """

    def __init__(self, of: Layer, x: Array, y: Array, h: Array, memory: Array):
        self.of, self.x, self.y, self.memory = of, x, y, memory
        self.h = None if h is None else h.T
        memory[:, :, of.inputs] = 1

    def __call__(self, steps: slice) -> Array:
        """[S N, I + 1 + H] of a block of steps; in the scratch memory."""
        of, s = self.of, steps.start
        seen = self.memory[: steps.stop - s]
        seen[:, :, : of.inputs] = self.x[steps]
        seen[1:, :, of.inputs + 1 :] = self.y[s : steps.stop - 1]
        put(seen[0, :, of.inputs + 1 :], self.y[s - 1] if s else self.h)
        return seen.reshape(-1, seen.shape[2])


def accumulate(first: bool, a: Array, b: Array, total: Array, memory: Array) -> None:
    """Adds a b to the total; the first product is the total."""
    if first:
        np.matmul(a, b, total)
        return
    product = memory[: total.size].reshape(total.shape)
    np.matmul(a, b, product)
    np.add(total, product, total)


def to_input(of: Layer, d: int, block: Block, w: Array, x_ct: Array, memory: Array) -> None:
    """Writes the cotangents dz^T w of a block's inputs; those of the second direction are added to the first's."""
    if x_ct is None:
        return
    steps, dz = block
    target = of.sequence(x_ct, d)[steps]
    made = memory[: target.size].reshape(-1, of.inputs)
    np.matmul(dz[: len(w)].T, w, made)
    if d:
        target += made.reshape(target.shape)
    else:
        target[...] = made.reshape(target.shape)
