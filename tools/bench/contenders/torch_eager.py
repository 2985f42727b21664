"""PyTorch, eager, with its fused optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rows import FACTOR, MOMENTUM, ROWS, SHIFT, adam_arrays
from ..torch_models import make_model
from . import Unable
from .torch_rows import RowModule


def version() -> str:
    """The version."""
    return str(torch.__version__)


def set_threads(n: int) -> None:
    """Threads within an op."""
    torch.set_num_threads(n)


def prepare(task: str, folder: Path, wrap: Callable[[Any], Any] = lambda f: f) -> Callable[[], Any]:
    """The work of a task; ``wrap`` is put around the function that is run (to compile it)."""
    kind, _, name = task.partition("/")
    if kind in ("train", "infer"):
        row, batch = ROWS[name], ROWS[name].batch()
        module: nn.Module = RowModule(row, row.weights())
        return (_step if kind == "train" else _predict)(module, _tensors(batch), row.rate, wrap)
    if kind in ("model-train", "model-infer"):
        with np.load(folder / f"{name}.npz") as data:
            batch = dict(data)
        rate = float(batch.pop("rate"))
        return (_step if "train" in kind else _predict)(make_model(name), _tensors(batch), rate, wrap)
    if kind not in _KINDS:
        raise Unable(f"no work of the kind {kind!r}")
    return _KINDS[kind](folder)


def _tensors(batch: dict[str, Any]) -> dict[str, Tensor]:
    return {k: torch.from_numpy(v) for k, v in batch.items()}


def _step(m: nn.Module, batch: dict[str, Tensor], rate: float, wrap: Callable[[Any], Any]) -> Callable[[], float]:
    target = batch.pop("target")
    inputs = list(batch.values())
    m.train()
    optimizer = torch.optim.SGD(m.parameters(), rate, momentum=MOMENTUM, fused=True)
    forward = wrap(lambda *x: F.cross_entropy(m(*x[:-1]), x[-1]))

    def run() -> float:
        optimizer.zero_grad()
        loss = forward(*inputs, target)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    return run


def _predict(m: nn.Module, batch: dict[str, Tensor], rate: float, wrap: Callable[[Any], Any]) -> Callable[[], Any]:
    inputs = [v for k, v in batch.items() if k != "target"]
    m.eval()
    forward = wrap(m)

    def run() -> Any:
        with torch.inference_mode():
            return forward(*inputs).numpy()

    return run


def _chain(folder: Path) -> Callable[[], Any]:
    x = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def run() -> list[float]:
        y = x
        for _ in range(250):
            y = torch.tanh(torch.sin(y) * FACTOR + SHIFT)
        (gradient,) = torch.autograd.grad(y, x)
        return [y.item(), gradient.item()]

    return run


def _adam(folder: Path) -> Callable[[], Any]:
    w, gradient = (torch.from_numpy(a) for a in adam_arrays())
    parameter = nn.Parameter(w)
    parameter.grad = gradient
    optimizer = torch.optim.Adam([parameter], 1e-3, fused=True)

    def run() -> Any:
        optimizer.step()
        return parameter.detach()[:8].numpy()

    return run


def _load(folder: Path) -> Callable[[], Any]:
    path = folder / "large.pt"
    if not path.exists():
        with np.load(folder / "large.npz") as data:
            torch.save({k: torch.from_numpy(v) for k, v in data.items()}, path)

    def run() -> float:
        loaded = torch.load(path, weights_only=True)
        return math.fsum(float(a.reshape(-1)[::1024].sum(dtype=torch.float64)) for a in loaded.values())

    return run


_KINDS: dict[str, Callable[[Path], Callable[[], Any]]] = {"chain": _chain, "adam": _adam, "load": _load}
