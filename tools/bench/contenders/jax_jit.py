"""JAX: the whole step (forward, backward, update) in one jitted function that owns its buffers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from ..rows import FACTOR, MOMENTUM, ROWS, SHIFT, adam_arrays
from . import Unable
from .jax_rows import forward

jax.config.update("jax_enable_x64", True)


def version() -> str:
    """The version."""
    return str(jax.__version__)


def set_threads(n: int) -> None:
    """Nothing: XLA goes by the CPUs that the worker may use."""


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, see `tools.bench.contenders`."""
    kind, _, name = task.partition("/")
    if kind not in _KINDS:
        raise Unable(f"no work of the kind {kind!r}")
    return _KINDS[kind](name)


def _train(name: str) -> Callable[[], Any]:
    row = ROWS[name]
    w = {k: jnp.asarray(a) for k, a in row.weights().items()}
    fixed = {k: a for k, a in w.items() if k.startswith(("mean", "var"))}
    w = {k: a for k, a in w.items() if k not in fixed}
    m = {k: jnp.zeros_like(a) for k, a in w.items()}
    batch = row.batch()
    x, target = jnp.asarray(batch["x"]), jnp.asarray(batch["target"])

    def loss_of(w: Any, fixed: Any, x: Any, target: Any) -> Any:
        logits, new = forward({**w, **fixed}, x, row, True)
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), target[:, None], 1)
        return -picked.mean(), new

    def step(w: Any, m: Any, fixed: Any, x: Any, target: Any) -> Any:
        (loss, fixed), g = jax.value_and_grad(loss_of, has_aux=True)(w, fixed, x, target)
        m = jax.tree.map(lambda m, g: MOMENTUM * m + g, m, g)
        w = jax.tree.map(lambda w, m: w - row.rate * m, w, m)
        return w, m, fixed, loss

    jitted = jax.jit(step, donate_argnums=(0, 1, 2))
    state = [w, m, fixed]

    def run() -> float:
        *state[:], loss = jitted(*state, x, target)
        jax.block_until_ready(state)
        return float(loss)

    return run


def _infer(name: str) -> Callable[[], Any]:
    row = ROWS[name]
    w, x = {k: jnp.asarray(a) for k, a in row.weights().items()}, jnp.asarray(row.batch()["x"])
    jitted = jax.jit(lambda w, x: forward(w, x, row, False)[0])
    return lambda: jax.block_until_ready(jitted(w, x))


def _chain(name: str) -> Callable[[], Any]:
    def f(y: Any) -> Any:
        for _ in range(250):
            y = jnp.tanh(jnp.sin(y) * FACTOR + SHIFT)
        return y

    jitted, x = jax.jit(jax.value_and_grad(f)), jnp.asarray(0.5, jnp.float64)
    return lambda: [float(v) for v in jitted(x)]


def _adam(name: str) -> Callable[[], Any]:
    def step(w: Any, m: Any, v: Any, t: Any, g: Any) -> Any:
        t = t + 1
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        change = (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return w - 1e-3 * change, m, v, t

    w, g = map(jnp.asarray, adam_arrays())
    jitted = jax.jit(step, donate_argnums=(0, 1, 2, 3))
    state = [w, jnp.zeros_like(w), jnp.zeros_like(w), jnp.zeros((), jnp.float32)]

    def run() -> Any:
        state[:] = jitted(*state, g)
        jax.block_until_ready(state)
        return state[0][:8]

    return run


_KINDS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "train": _train,
    "infer": _infer,
    "chain": _chain,
    "adam": _adam,
}
