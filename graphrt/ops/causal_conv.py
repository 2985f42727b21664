"""CausalConvWithState: a depthwise convolution that looks back only, and carries its last inputs along."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import quiet
from graphrt.ops._windows import wide, zeros_for
from graphrt.types import TensorType

_ACTIVATIONS = ("none", "silu", "swish")


def _history(input: Array, weight: Array, past_state: Array | None) -> Array:
    """The input with the last k-1 values before it, [B, C, k-1 + L]."""
    if input.ndim != 3 or weight.ndim != 3 or weight.shape[:2] != (input.shape[1], 1) or weight.shape[2] < 1:
        raise ValueError(f"input {input.shape} and weight {weight.shape} are [B, C, L] and [C, 1, k]")
    shape = (input.shape[0], input.shape[1], weight.shape[2] - 1)
    if past_state is not None and past_state.shape != shape:
        raise ValueError(f"past_state has shape {past_state.shape}, expected {shape}")
    past = np.zeros(shape, wide(input).dtype) if past_state is None else wide(past_state)
    return np.concatenate([past, wide(input)], axis=2)


def _convolve(history: Array, weight: Array, length: int) -> Array:
    w = wide(weight)
    parts = (history[:, :, t : t + length] * w[:, 0, t, None] for t in range(weight.shape[2]))
    return sum(parts, next(parts))


def _sigmoid(z: Array) -> Array:
    return 0.5 * (1 + np.tanh(0.5 * z))


def _before_activation(history: Array, weight: Array, bias: Array | None, length: int) -> Array:
    z = _convolve(history, weight, length)
    return z if bias is None else z + wide(bias)[:, None]


def _slope(z: Array, activation: str) -> Any:
    if activation == "none":
        return 1
    s = _sigmoid(z)
    return s * (1 + z * (1 - s))


@op("CausalConvWithState", version=27, outputs=("output", "present_state"))
def causal_conv_with_state(
    input: Array, weight: Array, bias: Array = None, past_state: Array = None, *, activation: str = "none"
) -> tuple[Array, Array]:
    """Causal depthwise convolution along the last axis, with an optional SiLU.

    input: float [B, C, L], weight: float [C, 1, k], bias: float [C], past_state: float [B, C, k-1] (zeros if absent)
    -> output: float [B, C, L], present_state: float [B, C, k-1], the last values of past and input together.
    output[l] = act(bias + sum over t of weight[t] x[l - (k-1) + t]), x continuing into the past; act(z) = z, or
    z sigmoid(z) for ``silu`` (also called ``swish``). Source: ONNX operator spec.
    """
    with quiet():
        if activation not in _ACTIVATIONS:
            raise ValueError(f"activation {activation!r} is unknown; there are {', '.join(_ACTIVATIONS)}")
        history = _history(input, weight, past_state)
        z = _before_activation(history, weight, bias, input.shape[2])
        output = z if activation == "none" else z * _sigmoid(z)
        return output.astype(input.dtype, copy=False), history[:, :, input.shape[2] :].astype(input.dtype, copy=False)


@causal_conv_with_state.vjp("input", "weight", "bias", "past_state")
def _(
    ct: Array | None, ct_present_state: Array | None, input: Array, weight: Array, bias: Array | None,
    past_state: Array | None, activation: str,
) -> Any:  # fmt: skip
    with quiet():
        history, length, w = _history(input, weight, past_state), input.shape[2], wide(weight)
        z_ct = np.zeros(input.shape, history.dtype) if ct is None else wide(ct)
        if activation != "none":
            z_ct = z_ct * _slope(_before_activation(history, weight, bias, length), activation)
        history_ct = zeros_for(history.shape, z_ct, w)
        for t in range(weight.shape[2]):
            history_ct[:, :, t : t + length] += z_ct * w[:, 0, t, None]
        if ct_present_state is not None:
            tail = np.concatenate([np.zeros(input.shape, history.dtype), wide(ct_present_state)], axis=2)
            history_ct = history_ct + tail
        taps = [np.sum(z_ct * history[:, :, t : t + length], axis=(0, 2)) for t in range(weight.shape[2])]
        k = weight.shape[2] - 1
        return (
            history_ct[:, :, k:].astype(input.dtype, copy=False),
            np.stack(taps, axis=-1)[:, None].astype(weight.dtype, copy=False),
            None if bias is None else np.sum(z_ct, axis=(0, 2)).astype(bias.dtype, copy=False),
            None if past_state is None else history_ct[:, :, :k].astype(past_state.dtype, copy=False),
        )


@causal_conv_with_state.jvp("input", "weight", "bias", "past_state")
def _(
    input_dot: Array | None, weight_dot: Array | None, bias_dot: Array | None, past_state_dot: Array | None,
    input: Array, weight: Array, bias: Array | None, past_state: Array | None, activation: str,
) -> Any:  # fmt: skip
    with quiet():
        history, length = _history(input, weight, past_state), input.shape[2]
        history_dot = _history(
            np.zeros(input.shape, input.dtype) if input_dot is None else input_dot, weight, past_state_dot
        )
        z_dot = _convolve(history_dot, weight, length)
        if weight_dot is not None:
            z_dot = z_dot + _convolve(history, weight_dot, length)
        if bias_dot is not None:
            z_dot = z_dot + wide(bias_dot)[:, None]
        if activation != "none":
            z_dot = z_dot * _slope(_before_activation(history, weight, bias, length), activation)
        return z_dot.astype(input.dtype, copy=False), history_dot[:, :, length:].astype(input.dtype, copy=False)


@causal_conv_with_state.infer
def _(input: TensorType, weight: TensorType) -> Any:
    if input.shape is None:
        return input, TensorType(input.dtype)
    k = weight.shape[2] if weight.shape else None
    return input, TensorType(input.dtype, (*input.shape[:2], k - 1 if isinstance(k, int) else None))


@causal_conv_with_state.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    yield (draw(2, 3, 5), draw(3, 1, 4), draw(3), draw(2, 3, 3)), {"activation": "silu"}
    yield (draw(2, 3, 5), draw(3, 1, 4)), {}
    yield (draw(2, 3, 1), draw(3, 1, 3), None, draw(2, 3, 2)), {"activation": "swish"}
    yield (draw(1, 2, 4), draw(2, 1, 1), draw(2)), {}
    yield (draw(1, 2, 0), draw(2, 1, 3), draw(2)), {}


OPS = (causal_conv_with_state,)
