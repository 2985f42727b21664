"""What the kernels of recurrent layers share: states as columns, weights side by side, gates as whole matrices.

A step works on matrices [features, batch]: the gates are then rows next to each other, so that NumPy goes through each
in one stretch, and one product of all weights with the stacked column (input, 1, state) makes every pre-activation,
bias and all. One tanh over all gates makes the logistic ones too: sigmoid(a) = (1 + tanh(a / 2)) / 2, the inner half
being in the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite
from graphrt.op import Array
from graphrt.types import numpy_dtype

_ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh")}
_DIRECTIONS = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}


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
    wanted: tuple[bool, ...]

    def direction(self, d: int, x: Array) -> Array:
        """[T, N, ...] in the order in which a direction reads."""
        return x[::-1] if self.backward[d] else x


def layer(site: KernelSite, op_type: str, states: Sequence[str]) -> Layer | None:
    """None where a node has activations, clipping, lengths or peepholes that need the general walk."""
    a, given = site.attributes, site.inputs
    present = [n for n in ("x", "w", "r", "b", *states, "ct_y", "ct_y_h", "ct_y_c") if given.get(n) is not None]
    names = _ACTIVATIONS[op_type]
    backward = _DIRECTIONS.get(str(a["direction"]).lower())
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
    if not (steps and batch and inputs and units) or not _fit(site, len(backward), len(names) + 1, batch, batch_first):
        return None
    wanted = tuple(bool(o) for o in site.node.outputs)
    return Layer(backward, steps, batch, inputs, units, batch_first, numpy_dtype(given["x"].dtype), wanted)


def _fit(site: KernelSite, d: int, least: int, batch: int, batch_first: bool) -> bool:
    """Whether all shapes are what the op asks for; where they are not, its own function says so."""
    gates = {3: 3, 4: 4}[least]
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


def time_first(x: Array, of: Layer) -> Array:
    """Between batch-first and [time or direction, batch, ...]."""
    return np.swapaxes(x, 0, 1) if of.batch_first and x is not None else x


def column_shape(of: Layer) -> tuple[int, ...]:
    """[T + 1, I + 1 + H, N], see `fill_columns`."""
    return of.steps + 1, of.inputs + 1 + of.units, of.batch


def fill_columns(made: Array, x: Array, h: Array, of: Layer) -> None:
    """For each step the input, a row of ones, and the state; the first state is filled in, the others are to come."""
    i = of.inputs
    made[: of.steps, :i] = np.swapaxes(x, 1, 2)
    made[:, i] = 1
    made[0, i + 1 :] = 0 if h is None else h.T


def on_top(parts: Array, made: Array) -> Array:
    """[T, k, N] -> [k, T N], a matrix that takes the memory of ``made``."""
    t, k, n = parts.shape
    matrix = made.reshape(-1)[: k * t * n]
    matrix.reshape(k, t, n)[...] = np.swapaxes(parts, 0, 1)
    return matrix.reshape(k, t * n)


def outputs(of: Layer, hidden: Sequence[Array], last: Sequence[Sequence[Array]]) -> tuple[Array, ...]:
    """y and the last states from each direction's hidden states [T, H, N], as it read, and states [H, N]."""
    d = len(hidden)
    if of.batch_first:
        y = np.empty((of.batch, of.steps, d, of.units), of.dtype)
        for i, h in enumerate(hidden):
            y[:, :, i] = np.moveaxis(of.direction(i, h), 2, 0)
    else:
        y = np.empty((of.steps, d, of.batch, of.units), of.dtype)
        for i, h in enumerate(hidden):
            y[:, i] = np.swapaxes(of.direction(i, h), 1, 2)
    return (y, *(stacked_states(of, s) for s in zip(*last, strict=True)))


def stacked_states(of: Layer, states: Sequence[Array]) -> Array:
    """[H, N] of each direction as [D, N, H], or [N, D, H] for batch first."""
    made = np.stack([s.T for s in states], axis=1 if of.batch_first else 0)
    return np.ascontiguousarray(made)


def output_cotangents(of: Layer, d: int, ct_y: Array) -> Array:
    """The cotangents of one direction's hidden states [T, H, N], in the order in which it read."""
    if ct_y is None:
        return None
    along = np.moveaxis(ct_y[:, :, d], 0, 2) if of.batch_first else np.swapaxes(ct_y[:, d], 1, 2)
    return np.ascontiguousarray(of.direction(d, along))


def state_cotangent(of: Layer, d: int, ct: Array) -> Array:
    """The cotangent of one direction's last state [H, N], writable."""
    if ct is None:
        return np.zeros((of.units, of.batch), of.dtype)
    return np.array(time_first(ct, of)[d].T, order="C")
