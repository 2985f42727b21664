"""`check_optimizer`: everything the optimizer contract asks, tried on one optimizer."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.definitions import Optimizer, OptimizerDefinition
from graphrt.op import Array
from graphrt.types import TensorType

SHAPES = ((), (3,), (2, 3), (0, 2))


class OptimizerCheckError(AssertionError):
    """An optimizer does not do what its contract says; the message names it, its settings and the numbers."""


def check_optimizer(
    definition: OptimizerDefinition, *, seed: int = 0, learning_rate: float = 0.05, steps: int = 500
) -> None:
    """Tries an optimizer against its whole contract, with its defaults and with each hyperparameter changed.

    Checked are, for float64, float32 and float16 and arrays of several ranks: parameter and state keep their shape
    and dtype, state is kept exactly where the settings say so, nothing is mutated, the same result again, a learning
    rate of 0 changes nothing, a gradient of 0 gives finite numbers, no warnings, types as inferred; and that a
    quadratic is minimized to a hundredth of its value (with a changed hyperparameter: to half of it).

    Args:
        definition: what to check.
        seed: of the parameters and gradients.
        learning_rate, steps: with which the quadratic is to be minimized.

    Raises:
        OptimizerCheckError: the optimizer breaks its contract; the message says where and how.
    """
    with warnings.catch_warnings(), np.errstate(divide="warn", over="warn", invalid="warn", under="ignore"):
        warnings.simplefilter("error")
        for i, settings in enumerate(_settings(definition)):
            chosen = definition(learning_rate, **settings)
            where = f"optimizer {chosen!r}"
            try:
                _check_settings(chosen, where, np.random.default_rng(seed))
                part = 0.01 if i == 0 else 0.5
                _check_convergence(chosen, where, np.random.default_rng(seed), steps, part)
            except OptimizerCheckError:
                raise
            except Exception as e:
                raise OptimizerCheckError(f"{where}: raises {type(e).__name__}: {e}") from e


def _settings(definition: OptimizerDefinition) -> Iterator[dict[str, Any]]:
    """The defaults; then each switch turned over, and each number changed a little."""
    required = {s.name: 0.5 for s in definition.op.attributes.values() if s.required}
    yield required
    for spec in definition.op.attributes.values():
        default = 0.5 if spec.required else spec.default
        if isinstance(default, bool):
            yield {**required, spec.name: not default}
        elif default == 0:
            yield {**required, spec.name: 0.1}
        else:
            yield {**required, spec.name: default * 0.9}


def _check_settings(chosen: Optimizer, where: str, rng: np.random.Generator) -> None:
    for dtype in ("float64", "float32", "float16"):
        for shape in SHAPES:
            w = np.asarray(rng.normal(size=shape)).astype(dtype)
            state = chosen.init(w)
            if tuple(state) != chosen.state:
                raise OptimizerCheckError(f"{where}: init makes {tuple(state)}, the settings keep {chosen.state}")
            for step in (1, 2, 3):
                g = np.asarray(rng.normal(size=shape)).astype(dtype)
                w, state = _checked_update(chosen, f"{where} at step {step}, {dtype}{list(shape)}", w, g, state, step)
            _check_rest(chosen, f"{where}, {dtype}{list(shape)}", w)


def _checked_update(
    chosen: Optimizer, where: str, w: Array, g: Array, state: dict[str, Array], step: int
) -> tuple[Array, dict[str, Array]]:
    given = {"w": w, "g": g, **state}
    before = {k: np.array(a) for k, a in given.items()}
    for a in given.values():
        np.asarray(a).flags.writeable = False
    w_new, new = chosen.update(w, g, state, step)
    again, new_again = chosen.update(w, g, state, step)
    for name, a in given.items():
        if not _same(a, before[name]):
            raise OptimizerCheckError(f"{where}: it changes its argument {name}")
    if not _same(w_new, again) or any(not _same(new[s], new_again[s]) for s in new):
        raise OptimizerCheckError(f"{where}: the same arguments give another result the second time")
    for name, x in {"the new w": w_new, **new}.items():
        old = np.asarray(state.get(name, w))
        if x is None or np.shape(x) != old.shape or np.asarray(x).dtype != old.dtype:
            kind = "None" if x is None else f"{np.asarray(x).dtype}{list(np.shape(x))}"
            raise OptimizerCheckError(f"{where}: {name} is {kind}, the old one {old.dtype}{list(old.shape)}")
        if not np.all(np.isfinite(x)):
            raise OptimizerCheckError(f"{where}: {name} is not finite: {x}")
    op = chosen.definition.op
    types = op.infer_types([TensorType.of(w)] * len(op.inputs), chosen.hyperparameters, n_outputs=len(op.outputs))
    if len(types) != len(op.outputs):
        raise OptimizerCheckError(f"{where}: its types are inferred for {len(types)} of {len(op.outputs)} outputs")
    return np.asarray(w_new), {s: np.asarray(a) for s, a in new.items()}


def _check_rest(chosen: Optimizer, where: str, w: Array) -> None:
    """A learning rate of 0 moves nothing; a gradient of 0 gives finite numbers."""
    still = Optimizer(chosen.definition, 0.0, chosen.hyperparameters)
    w_new, _ = still.update(w, np.ones_like(w), still.init(w), 1)
    if not _same(w_new, w):
        raise OptimizerCheckError(f"{where}: a learning rate of 0 changes the parameter from {w} to {w_new}")
    w_new, _ = chosen.update(w, np.zeros_like(w), chosen.init(w), 1)
    if not np.all(np.isfinite(w_new)):
        raise OptimizerCheckError(f"{where}: a gradient of 0 makes the parameter {w_new}")


def _check_convergence(chosen: Optimizer, where: str, rng: np.random.Generator, steps: int, part: float) -> None:
    goal, w = rng.uniform(-1, 1, 5), np.zeros(5)
    curvature = np.linspace(0.5, 2, 5)
    first = np.sum(curvature * (w - goal) ** 2)
    state = chosen.init(w)
    for step in range(1, steps + 1):
        w, state = chosen.update(w, curvature * (w - goal), state, step)
    last = np.sum(curvature * (w - goal) ** 2)
    if not last < first * part:
        raise OptimizerCheckError(f"{where}: {steps} steps take the quadratic from {first:.4g} to {last:.4g} only")


def _same(a: Any, b: Any) -> bool:
    """Equal bit for bit."""
    return bool(np.asarray(a).tobytes() == np.asarray(b).tobytes())
