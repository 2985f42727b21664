"""graphrt itself, through its public surface."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

import graphrt as gr
from graphrt.runtime.blas import blas_facts

from ..graphs import make_adam, make_chain, make_graph, make_wide
from ..rows import MOMENTUM, ROWS, adam_arrays
from . import Unable


def version() -> str:
    """Versions of graphrt, of NumPy and the kernel that its BLAS has chosen, or of numba.

    Raises:
        Unable: the process was started with graphrt-numba, and there is none.
    """
    if _with_numba():
        if importlib.util.find_spec("graphrt_numba") is None:
            raise Unable("graphrt-numba is not installed")
        return f"the same, numba {metadata.version('numba')}"
    facts = blas_facts()
    return f"{gr.__version__}, NumPy {np.__version__}, {facts['library']} {facts['version']} ({facts['kernel']})"


def set_threads(n: int) -> None:
    """The environment has set them; but numba is loaded here, as a library that the memory of a task does not count."""
    if _with_numba() and importlib.util.find_spec("numba") is not None:
        importlib.import_module("numba").njit(lambda: None)()  # the first function loads most of its modules


def _with_numba() -> bool:
    return "numba" in os.environ.get("GRAPHRT_PLUGINS", "").split(",")


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, see `tools.bench.contenders`."""
    kind, _, name = task.partition("/")
    if kind not in _KINDS:
        raise Unable(f"no work of the kind {kind!r}")
    return _KINDS[kind](name, folder)


def _step(graph: gr.Graph, batch: dict[str, Any], rate: float) -> Callable[[], float]:
    trainer = gr.Trainer(
        graph, "softmax_cross_entropy", gr.optim.SGD(rate, momentum=MOMENTUM), output="logits", target="target"
    )
    return lambda: trainer.step(batch)["loss"]


def _predict(graph: gr.Graph, batch: dict[str, Any]) -> Callable[[], Any]:
    session, feeds = gr.Session(graph, mode="infer"), {k: v for k, v in batch.items() if k != "target"}
    return lambda: session.run(feeds)["logits"]


def _train(name: str, folder: Path) -> Callable[[], Any]:
    return _step(make_graph(ROWS[name]), ROWS[name].batch(), ROWS[name].rate)


def _infer(name: str, folder: Path) -> Callable[[], Any]:
    return _predict(make_graph(ROWS[name]), ROWS[name].batch())


def _model(name: str, folder: Path) -> tuple[gr.Graph, dict[str, Any], float]:
    path = folder / f"{name}.onnx"
    if not path.exists():
        raise Unable("the model was not exported")
    with np.load(folder / f"{name}.npz") as data:
        batch = dict(data)
    return gr.load(path), batch, float(batch.pop("rate"))


def _model_train(name: str, folder: Path) -> Callable[[], Any]:
    return _step(*_model(name, folder))


def _model_infer(name: str, folder: Path) -> Callable[[], Any]:
    return _predict(*_model(name, folder)[:2])


def _chain(name: str, folder: Path) -> Callable[[], Any]:
    session = gr.Session(make_chain())
    x = {"x": np.array(0.5)}

    def run() -> list[float]:
        value, gradient = session.value_and_grad(x, of="y", wrt=["x"])
        return [float(value), float(gradient["x"])]

    return run


def _adam(name: str, folder: Path) -> Callable[[], Any]:
    graph, learning_rate, step, w = make_adam()
    session, (_, gradient) = gr.Session(graph, in_place=True), adam_arrays()
    feeds = {n: gradient for n in graph.input_names if n not in (learning_rate, step)}

    def run() -> Any:
        rate = np.asarray(1e-3, np.float32)
        session.run({**feeds, learning_rate: rate, step: np.asarray(session.step + 1)})
        return session.parameters[w][:8]

    return run


def _load(name: str, folder: Path) -> Callable[[], Any]:
    path = folder / "large.grt"

    def run() -> float:
        return float(sum(a.reshape(-1)[::1024].sum(dtype=np.float64) for a in gr.load(path).initializers.values()))

    return run


def _plan(name: str, folder: Path) -> Callable[[], Any]:
    graph, feeds = make_wide(int(name)), {"x": np.full(4, 0.1, np.float32)}
    return lambda: gr.Session(graph).run(feeds)["y"]


_KINDS: dict[str, Callable[[str, Path], Callable[[], Any]]] = {
    "train": _train,
    "infer": _infer,
    "model-train": _model_train,
    "model-infer": _model_infer,
    "chain": _chain,
    "adam": _adam,
    "load": _load,
    "plan": _plan,
}
