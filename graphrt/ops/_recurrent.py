"""What RNN, GRU and LSTM share: attributes, directions, sequence lengths, and the walks along time.

A cell (see `_recurrent_cells`) is one step and its linear map: ``step`` makes the next state, ``push`` carries tangents
forward through the step, ``pull`` carries cotangents back. The walks here put all that does not depend on the state
outside the loop over time: one matrix product makes the inputs' share of all pre-activations, and one per weight
matrix gathers its cotangent at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.ops._math import quiet
from graphrt.ops._recurrent_activations import Activation, activations
from graphrt.records import dataclass
from graphrt.types import TensorType

Array = Any
State = tuple[Array, ...]


# ---- what a node's attributes say --------------------------------------------------------------------------

DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


@dataclass(frozen=True)
class Layer:
    """A node's attributes, resolved.

    Attributes:
        cell: makes one direction's cell of its activations, recurrent weights, their bias, peepholes and ``flag``.
        backward: for each direction, whether it reads backward.
        activations: for each direction, those of the cell.
        batch_first: layout 1.
        flag: ``linear_before_reset`` or ``input_forget``.
    """

    cell: Callable[..., Any]
    backward: tuple[bool, ...]
    activations: tuple[tuple[Activation, ...], ...]
    batch_first: bool
    flag: bool


def layer(
    cell: Callable[..., Any], names: Sequence[str], direction: str, names_given: Sequence[str] | None,
    alphas: Sequence[float] | None, betas: Sequence[float] | None, clip: float | None, layout: int, flag: int = 0,
) -> Layer:  # fmt: skip
    """Resolves attributes; ``names`` are the default activations of one direction."""
    backward, per = directions(direction), len(names)
    given = tuple(names_given or tuple(names) * len(backward))
    if len(backward) == 1 and len(given) == 2 * per and given[:per] == given[per:]:
        given = given[:per]
    if len(given) != per * len(backward):
        raise ValueError(f"{len(given)} activations for {len(backward)} x {per}; direction is {direction!r}")
    made = activations(given, alphas, betas, clip)
    grouped = tuple(tuple(made[i : i + per]) for i in range(0, len(made), per))
    return Layer(cell, backward, grouped, bool(layout), bool(flag))


def directions(direction: str) -> tuple[bool, ...]:
    """For each direction of a layer, whether it reads backward."""
    found = DIRECTIONS.get(direction.lower())
    if found is None:
        raise ValueError(f"direction is {direction!r}; it should be one of {', '.join(DIRECTIONS)}")
    return found


class Timeline:
    """The order in which one direction reads the steps, and where each sequence ends.

    ``alive``: bool [T, N, 1], false in the padding behind a sequence; None when there is no padding.
    """

    def __init__(self, lengths: Array, steps: int, batch: int, backward: bool):
        self.alive = None
        self._order: Any = slice(None, None, -1) if backward else None
        if lengths is None or np.all(lengths == steps):
            return
        if lengths.shape != (batch,) or np.any(lengths < 0) or np.any(lengths > steps):
            raise ValueError(f"sequence_lens {lengths.tolist()} should be {batch} numbers from 0 to {steps}")
        t = np.arange(steps)[:, None]
        self.alive = (t < lengths)[:, :, None]
        if backward:
            self._order = (np.where(t < lengths, lengths - 1 - t, t), np.arange(batch))

    def ordered(self, x: Array) -> Array:
        """Steps in the order of reading, [T, N, ...] to the same; applied twice it changes nothing."""
        return x if self._order is None else x[self._order]

    def masked(self, x: Array) -> Array:
        """Ordered steps with zeros in the padding."""
        return x if self.alive is None else np.where(self.alive, x, 0)

    def advance(self, t: int, new: State, old: State) -> State:
        """The state after step t: sequences that have ended keep theirs."""
        if self.alive is None:
            return new
        return tuple(np.where(self.alive[t], a, b) for a, b in zip(new, old, strict=True))

    def divide(self, t: int, cts: State) -> tuple[State, State | None]:
        """The cotangents of a state, parted into what goes through step t and what passes by it."""
        if self.alive is None:
            return cts, None
        m = self.alive[t]
        return tuple(np.where(m, c, 0) for c in cts), tuple(np.where(m, 0, c) for c in cts)


# ---- shapes and dtypes -------------------------------------------------------------------------------------


def wide(x: Array) -> Array:
    """16-bit floats as float32, everything else as it is."""
    return x.astype(np.float32) if x is not None and x.dtype.itemsize == 2 else x


def narrow(y: Array, dtype: Any) -> Array:
    """Back in the dtype of the inputs."""
    return y if y is None or y.dtype == dtype else y.astype(dtype)


def swap(x: Array, layer: Layer) -> Array:
    """Between batch-first and the order [time or direction, batch, ...], or with directions [T, D, N, H]."""
    if x is None or not layer.batch_first:
        return x
    return np.swapaxes(x, 0, 1)


def _output_swap(y: Array, layer: Layer) -> Array:
    """[T, D, N, H] to [N, T, D, H] for layout 1."""
    return np.moveaxis(y, 2, 0) if layer.batch_first else y


def _output_unswap(ct: Array, layer: Layer) -> Array:
    return np.moveaxis(ct, 0, 2) if ct is not None and layer.batch_first else ct


def rows(x: Array) -> Array:
    """[T, N, k] as [T N, k]: a matrix."""
    return np.reshape(x, (x.shape[0] * x.shape[1], x.shape[2]))


def transposed(r: Array) -> Array:
    """The transpose, laid out row by row: products with it take half the time in the loop."""
    return np.copy(r.T, order="C")


def times(x: Array, w: Array) -> Array:
    """[T, N, k] by [k, m] in one product."""
    return np.reshape(np.matmul(rows(x), w), (*x.shape[:2], w.shape[1]))


def gathered(dz: Array, x: Array) -> Array:
    """The cotangent of a weight matrix [m, k] from those of its products [T, N, m] and its operands [T, N, k]."""
    return np.matmul(rows(dz).T, rows(x))


def check_shapes(gates: int, layer: Layer, arrays: Sequence[Array], hidden_size: int | None) -> None:
    """Raises ValueError unless all inputs fit each other."""
    x, w, r, b, h, c, p = arrays
    d, n, size = len(layer.backward), x.shape[0 if layer.batch_first else 1] if x.ndim == 3 else -1, r.shape[-1]
    if hidden_size not in (None, size):
        raise ValueError(f"hidden_size is {hidden_size}, r has {size} columns")
    state = (n, d, size) if layer.batch_first else (d, n, size)
    expected = {
        "w": (w, (d, gates * size, x.shape[-1])), "r": (r, (d, gates * size, size)), "b": (b, (d, 2 * gates * size)),
        "initial_h": (h, state), "initial_c": (c, state), "p": (p, (d, 3 * size)),
    }  # fmt: skip
    if x.ndim != 3:
        raise ValueError(f"x has {x.ndim} dimensions; it should have 3")
    for name, (a, shape) in expected.items():
        if a is not None and a.shape != shape:
            raise ValueError(f"{name} has shape {list(a.shape)}; with x {list(x.shape)} it should be {list(shape)}")


def infer(
    x: TensorType, r: TensorType, direction: str, hidden_size: int | None, layout: int, states: int, kept: int = 0
) -> tuple[TensorType, ...]:
    """Types of y, of each final state, and of the tape if the cell keeps anything."""
    d = len(directions(direction))
    t, n = (None, None) if x.shape is None else x.shape[1::-1] if layout else x.shape[:2]
    h = hidden_size if hidden_size is not None else r.shape[-1] if r.shape is not None else None
    y, last = ((n, t, d, h), (n, d, h)) if layout else ((t, d, n, h), (d, n, h))
    tape = [TensorType(x.dtype, (d, t, kept, h, n))] if kept else []
    return (TensorType(x.dtype, y), *(TensorType(x.dtype, last) for _ in range(states)), *tape)


# ---- the walks ---------------------------------------------------------------------------------------------


class Run:
    """One direction of a layer, ready to walk.

    Args:
        layer: the attributes.
        d: which direction.
        x: float [T, N, I]; w: [G H, I]; r: [G H, H]; b: [2 G H] or None; lengths: [N] or None; p: [3 H] or None.
        state: each [N, H] or None (zeros).
    """

    def __init__(
        self, layer: Layer, d: int, x: Array, w: Array, r: Array, b: Array, lengths: Array,
        state: Sequence[Array], p: Array,
    ):  # fmt: skip
        steps, batch = x.shape[:2]
        self.time = Timeline(lengths, steps, batch, layer.backward[d])
        self.x = self.time.masked(self.time.ordered(x))
        self.w, self.steps = w, steps
        half = r.shape[0]
        wb, rb = (None, None) if b is None else (b[:half], b[half:])
        self.cell = layer.cell(layer.activations[d], r, rb, p, layer.flag)
        self.start = tuple(np.zeros((batch, r.shape[1]), x.dtype) if s is None else s for s in state)
        bias = None if wb is None else wb + self.cell.constant_bias()
        self.inputs = times(self.x, w.T) if bias is None else times(self.x, w.T) + bias

    def forward(self, records: list[Any] | None = None) -> tuple[Array, State]:
        """The hidden states of all steps [T, N, H], in the order of the input, and the last state.

        To ``records`` it adds for each step the state before it and what the cell has to say of it.
        """
        state, hidden = self.start, []
        for t in range(self.steps):
            new, record = self.cell.step(self.inputs[t], state)
            if records is not None:
                records.append((*state, *record))
            state = self.time.advance(t, new, state)
            hidden.append(state[0])
        return self._outputs(hidden), state

    def _outputs(self, hidden: Sequence[Array]) -> Array:
        if not hidden:
            return np.zeros((0, *self.start[0].shape), self.x.dtype)
        return self.time.ordered(self.time.masked(np.stack(hidden)))

    def recorded(self) -> tuple[tuple[Array, State], Array]:
        """What `forward` gives, and the tape of the walk [T, k, H, N]."""
        records: list[Any] = []
        made = self.forward(records)
        batch, units = self.start[0].shape
        if not records:
            return made, np.zeros((0, self.cell.kept, units, batch), self.x.dtype)
        kept = self.cell.keep(*(np.stack(column) for column in zip(*records, strict=True)))
        return made, np.swapaxes(np.stack(kept, axis=1), 2, 3)

    def linearize(self) -> None:
        """Walks forward, and gives the cell the stacked records of all steps."""
        records: list[Any] = []
        self.forward(records)
        self.cell.linearize(*(np.stack(column) for column in zip(*records, strict=True)))

    def pull(self, ct_y: Array, ct_last: Sequence[Array]) -> dict[str, Any]:
        """Cotangents of everything this direction reads, by name; ``state`` is a tuple."""
        cts: State = tuple(np.zeros_like(s) if c is None else c for c, s in zip(ct_last, self.start, strict=True))
        if not self.steps:
            return {"state": cts}
        self.linearize()
        along = None if ct_y is None else self.time.masked(self.time.ordered(ct_y))
        dzs = []
        for t in reversed(range(self.steps)):
            cts = cts if along is None else (cts[0] + along[t], *cts[1:])
            through, past = self.time.divide(t, cts)
            dz, cts = self.cell.pull(t, through)
            cts = cts if past is None else tuple(a + b for a, b in zip(cts, past, strict=True))
            dzs.append(dz)
        dz = np.stack(dzs[::-1])
        r, rb, p = self.cell.weight_cts(dz)
        b = np.concatenate([np.sum(dz, axis=(0, 1)), rb])
        x = self.time.ordered(times(dz, self.w))
        return {"x": x, "w": gathered(dz, self.x), "r": r, "b": b, "state": cts, "p": p}

    def push(
        self, x: Array, w: Array, r: Array, b: Array, state: Sequence[Array],
        p: Array,
    ) -> tuple[Array, State]:  # fmt: skip
        """Tangents of the hidden states and of the last state, from tangents of what is read (None: zero)."""
        dots: State = tuple(np.zeros_like(s) if d is None else d for d, s in zip(state, self.start, strict=True))
        if not self.steps:
            return self._outputs(()), dots
        self.linearize()
        half = self.w.shape[0]
        terms = [] if x is None else [times(self.time.ordered(x), self.w.T)]
        terms += [] if w is None else [times(self.x, w.T)]
        terms += [] if b is None else [b[:half]]
        terms += self.cell.weight_dots(r, None if b is None else b[half:], p)
        given = np.zeros_like(self.inputs) + sum(terms)
        hidden = []
        for t in range(self.steps):
            dots = self.time.advance(t, self.cell.push(t, given[t], dots), dots)
            hidden.append(dots[0])
        return self._outputs(hidden), dots


def _runs(layer: Layer, arrays: Sequence[Array], lengths: Array, states: int) -> list[Run]:
    x, w, r, b, h, c, p = (wide(a) for a in arrays)
    h, c = swap(h, layer), swap(c, layer)
    x = swap(x, layer)
    return [
        Run(layer, d, x, w[d], r[d], _at(b, d), lengths, (_at(h, d), _at(c, d))[:states], _at(p, d))
        for d in range(len(layer.backward))
    ]


def _at(x: Array, d: int) -> Array:
    return None if x is None else x[d]


def _assembled(layer: Layer, results: Sequence[tuple[Array, State]], dtype: Any) -> tuple[Array, ...]:
    """The node's outputs from those of each direction."""
    y = _output_swap(np.stack([y for y, _ in results], axis=1), layer)
    last = [swap(np.stack(s), layer) for s in zip(*(s for _, s in results), strict=True)]
    return tuple(narrow(a, dtype) for a in (y, *last))


def value(layer: Layer, arrays: Sequence[Array], lengths: Array, states: int, tape: bool = False) -> tuple[Array, ...]:
    """y and the last states, and the tape [D, T, k, H, N] if it is asked for.

    Args:
        arrays: x, w, r, b, initial_h, initial_c, p; None where absent.
        lengths: of the sequences, or None.
        states: 1 (hidden), or 2 (hidden and cell).
    """
    dtype = arrays[0].dtype
    with quiet():
        runs = _runs(layer, arrays, lengths, states)
        if not tape:
            return _assembled(layer, [run.forward() for run in runs], dtype)
        results, tapes = zip(*(run.recorded() for run in runs), strict=True)
        return (*_assembled(layer, results, dtype), narrow(np.stack(tapes), dtype))


def vjp(layer: Layer, cts: Sequence[Array], arrays: Sequence[Array], lengths: Array) -> list[Array]:
    """Cotangents of ``arrays`` from those of y and the last states."""
    states = len(cts) - 1
    ct_y, *ct_last = (wide(c) for c in cts)
    ct_y, ct_last = _output_unswap(ct_y, layer), [swap(c, layer) for c in ct_last]
    with quiet():
        parts = [
            run.pull(None if ct_y is None else ct_y[:, d], [_at(c, d) for c in ct_last])
            for d, run in enumerate(_runs(layer, arrays, lengths, states))
        ]
    state = [swap(np.stack(s), layer) for s in zip(*(part["state"] for part in parts), strict=True)]
    found: list[Array] = [None] * len(arrays)
    if "x" in parts[0]:
        x = parts[0]["x"] if len(parts) == 1 else parts[0]["x"] + parts[1]["x"]
        w, r, b, p = (_stacked([part[k] for part in parts]) for k in ("w", "r", "b", "p"))
        found = [swap(x, layer), w, r, b, None, None, p]
    found[4 : 4 + states] = state
    pairs = zip(arrays, found, strict=True)
    return [None if a is None else np.zeros_like(a) if ct is None else narrow(ct, a.dtype) for a, ct in pairs]


def _stacked(parts: Sequence[Array]) -> Array:
    return None if parts[0] is None else np.stack(parts)


def jvp(layer: Layer, dots: Sequence[Array], arrays: Sequence[Array], lengths: Array, states: int) -> tuple[Array, ...]:
    """Tangents of y and the last states from those of ``arrays``."""
    x, w, r, b, h, c, p = (wide(d) for d in dots)
    x, h, c = swap(x, layer), swap(h, layer), swap(c, layer)
    with quiet():
        results = [
            run.push(x, _at(w, d), _at(r, d), _at(b, d), (_at(h, d), _at(c, d))[:states], _at(p, d))
            for d, run in enumerate(_runs(layer, arrays, lengths, states))
        ]
    return _assembled(layer, results, arrays[0].dtype)
