"""HIPS autograd: derivatives of NumPy programs, traced anew in each call."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import autograd.numpy as np
import numpy
from autograd import value_and_grad

from ..rows import FACTOR, MOMENTUM, ROWS, SHIFT, Row
from . import Unable


def version() -> str:
    """The version."""
    return version_of("autograd")


def set_threads(n: int) -> None:
    """Nothing: the environment has set them."""


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, see `tools.bench.contenders`."""
    kind, _, name = task.partition("/")
    if kind == "chain":
        return _chain()
    if kind != "train" or ROWS[name].kind != "mlp":
        raise Unable("only dense layers and chains are written for it")
    return _train(ROWS[name])


def _chain() -> Callable[[], Any]:
    def f(y: Any) -> Any:
        for _ in range(250):
            y = np.tanh(np.sin(y) * FACTOR + SHIFT)
        return y

    run = value_and_grad(f)
    return lambda: [float(v) for v in run(0.5)]


def _train(row: Row) -> Callable[[], Any]:
    w, batch = row.weights(), row.batch()
    m = {k: numpy.zeros_like(a) for k, a in w.items()}
    x, target = batch["x"], batch["target"]
    rows, layers = numpy.arange(len(target)), len(row.size["hidden"])

    def loss(w: Any) -> Any:
        y = x
        for i in range(1, layers + 1):
            y = y @ w[f"w{i}"] + w[f"b{i}"]
            y = np.tanh(y) if row.size["activation"] == "Tanh" else np.maximum(y, numpy.float32(0))
        y = y @ w[f"w{layers + 1}"] + w[f"b{layers + 1}"]
        y = y - numpy.max(y._value if hasattr(y, "_value") else y, 1, keepdims=True)
        return -np.mean(y[rows, target] - np.log(np.sum(np.exp(y), 1)))

    gradient = value_and_grad(loss)

    def run() -> float:
        value, g = gradient(w)
        for k, a in w.items():
            m[k] *= MOMENTUM
            m[k] += g[k]
            a -= row.rate * m[k]
        return float(value)

    return run
