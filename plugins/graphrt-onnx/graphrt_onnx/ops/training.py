"""The domain ai.onnx.preview.training: optimizer steps as ops, and Gradient nodes written out as graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from graphrt.plugin import Array, TensorType, op

DOMAIN = "ai.onnx.preview.training"

_step = partial(op, domain=DOMAIN, outputs=("*new",), nondiff=True)


def _each(inputs: tuple[Array, ...], kinds: int, step: Callable[..., tuple[Array, ...]]) -> tuple[Array, ...]:
    """Runs a step per tensor; inputs and outputs list all tensors of one kind before the next kind."""
    if not inputs or len(inputs) % kinds:
        raise ValueError(f"after r and t come {kinds} equally long lists of tensors; there are {len(inputs)} tensors")
    n = len(inputs) // kinds
    done = [step(*inputs[i::n]) for i in range(n)]
    return tuple(new for kind in zip(*done, strict=True) for new in kind)


def _like(x: Array, new: Array) -> Array:
    return new.astype(x.dtype, copy=False)


@_step("Adagrad")
def adagrad(
    r: Array, t: Array, *inputs: Array, decay_factor: float = 0.0, epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """One step of Adagrad.

    r: float [], learning rate; t: int64 [], updates so far; then n tensors x, n gradients g, n sums of squares h, each
    float [...] -> n new x, n new h. With g' = g + norm_coefficient x: h = h + g'^2,
    x = x - r/(1 + t decay_factor) g'/(sqrt(h) + epsilon). No gradient flows through a step.
    Source: ONNX training operator spec; Duchi et al. 2011.
    """
    rate = r / (1 + t * decay_factor)

    def step(x: Array, g: Array, h: Array) -> tuple[Array, Array]:
        g = norm_coefficient * x + g
        h_new = h + g * g
        return _like(x, x - rate * g / (np.sqrt(h_new) + epsilon)), _like(h, h_new)

    return _each(inputs, 3, step)


@_step("Momentum")
def momentum(
    r: Array, t: Array, *inputs: Array, alpha: float, beta: float, mode: str, norm_coefficient: float
) -> tuple[Array, ...]:
    """One step of stochastic gradient descent with momentum.

    r: float [], learning rate; t: int64 [], updates so far; then n tensors x, n gradients g, n momenta v, each
    float [...] -> n new x, n new v. With g' = g + norm_coefficient x and beta = 1 at t = 0: v = alpha v + beta g', then
    x = x - r v (mode "standard") or x - r (g' + alpha v) ("nesterov"). No gradient flows through a step.
    Source: ONNX training operator spec.
    """
    if mode not in ("standard", "nesterov"):
        raise ValueError(f"mode is 'standard' or 'nesterov', not {mode!r}")
    scale = beta if t > 0 else 1.0

    def step(x: Array, g: Array, v: Array) -> tuple[Array, Array]:
        g = norm_coefficient * x + g
        v_new = alpha * v + scale * g
        way = v_new if mode == "standard" else g + alpha * v_new
        return _like(x, x - r * way), _like(v, v_new)

    return _each(inputs, 3, step)


@_step("Adam")
def adam(
    r: Array, t: Array, *inputs: Array, alpha: float = 0.9, beta: float = 0.999, epsilon: float = 1e-6,
    norm_coefficient: float = 0.0, norm_coefficient_post: float = 0.0,
) -> tuple[Array, ...]:  # fmt: skip
    """One step of Adam.

    r: float [], learning rate; t: int64 [], updates so far; then n tensors x, n gradients g, n averages v of gradients,
    n averages h of squares, each float [...] -> n new x, n new v, n new h. With g' = g + norm_coefficient x:
    v = alpha v + (1-alpha) g', h = beta h + (1-beta) g'^2, r' = r sqrt(1-beta^t)/(1-alpha^t) where t > 0,
    x = (1 - norm_coefficient_post) (x - r' v/(sqrt(h) + epsilon)). No gradient flows through a step.
    Source: ONNX training operator spec; Kingma and Ba 2015.
    """
    count = float(t)
    rate = r * (np.sqrt(1 - beta**count) / (1 - alpha**count)) if count > 0 else r

    def step(x: Array, g: Array, v: Array, h: Array) -> tuple[Array, Array, Array]:
        g = norm_coefficient * x + g
        v_new = alpha * v + (1 - alpha) * g
        h_new = beta * h + (1 - beta) * g * g
        x_new = (1 - norm_coefficient_post) * (x - rate * v_new / (np.sqrt(h_new) + epsilon))
        return _like(x, x_new), _like(v, v_new), _like(h, h_new)

    return _each(inputs, 4, step)


@adagrad.infer
@momentum.infer
def _(inputs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    n = len(inputs) // 3
    return (*inputs[:n], *inputs[2 * n :])


@adam.infer
def _(inputs: tuple[TensorType, ...]) -> tuple[TensorType, ...]:
    n = len(inputs) // 4
    return (*inputs[:n], *inputs[2 * n :])


def _tensors(rng: np.random.Generator, kinds: int) -> tuple[Array, ...]:
    return tuple(np.abs(rng.normal(size=shape)) for _ in range(kinds) for shape in ((2, 3), (4,)))


@adagrad.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array(0.1), np.array(3), *_tensors(rng, 3)), {"decay_factor": 0.1, "norm_coefficient": 0.01}
    yield (np.array(0.1), np.array(0), *(np.ones(()) for _ in range(3))), {"epsilon": 1e-3}


@momentum.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for mode in ("standard", "nesterov"):
        for t in (0, 2):
            attributes = {"alpha": 0.9, "beta": 0.5, "mode": mode, "norm_coefficient": 0.01}
            yield (np.array(0.1), np.array(t), *_tensors(rng, 3)), attributes


@adam.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array(0.1), np.array(0), *_tensors(rng, 4)), {}
    yield (np.array(0.1), np.array(5), *_tensors(rng, 4)), {"norm_coefficient": 0.01, "norm_coefficient_post": 0.1}


OPS = (adagrad, adam, momentum)
