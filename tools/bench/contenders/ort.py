"""ONNX Runtime: inference of the same graph, written as an .onnx file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from ..rows import ROWS, Row
from . import Unable


def version() -> str:
    """The version."""
    return str(ort.__version__)


def set_threads(n: int) -> None:
    """Remembered for the sessions to come."""
    os.environ["BENCH_THREADS"] = str(n)


def options() -> Any:
    """Session options: all optimizations, the wanted number of threads, only errors are logged."""
    made = ort.SessionOptions()
    made.log_severity_level, made.inter_op_num_threads = 3, 1
    made.intra_op_num_threads = int(os.environ.get("BENCH_THREADS", "1"))
    return made


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, see `tools.bench.contenders`."""
    kind, _, name = task.partition("/")
    if kind == "plan":
        return _plan(folder / f"wide-{name}.onnx")
    if kind not in ("infer", "model-infer"):
        raise Unable("it only predicts")
    path = folder / (f"row-{name}.onnx" if kind == "infer" else f"{name}.onnx")
    if not path.exists():
        raise Unable("the model was not exported")
    session = ort.InferenceSession(str(path), options(), providers=["CPUExecutionProvider"])
    if kind == "infer":
        batch = ROWS[name].batch()
    else:
        with np.load(folder / f"{name}.npz") as data:
            batch = dict(data)
    feeds = {i.name: batch[i.name] for i in session.get_inputs()}
    return lambda: session.run(["logits"], feeds)[0]


def row_to_train(task: str, folder: Path) -> tuple[Row, Any]:
    """The row that a task trains, and its exported model.

    Raises:
        Unable: it trains no row, or the row was not exported.
    """
    kind, _, name = task.partition("/")
    if kind != "train":
        raise Unable("it only trains")
    path = folder / f"row-{name}.onnx"
    if not path.exists():
        raise Unable("the model was not exported")
    import onnx  # inference does without

    return ROWS[name], onnx.load(str(path))


def step_loop(model: Any, state: dict[str, tuple[str, Any]], fixed: dict[str, Any]) -> Callable[[], float]:
    """A training step as a function without arguments that returns the loss, the model's output ``loss``.

    Args:
        model: of one step; what it is fed stays in memory that the runtime allocated.
        state: input to the output that is its next value, and its first value: two sets, read and written in turn.
        fixed: the other inputs.
    """
    session = ort.InferenceSession(model.SerializeToString(), options(), providers=["CPUExecutionProvider"])
    sets = [{n: ort.OrtValue.ortvalue_from_numpy(a.copy(), "cpu", 0) for n, (_, a) in state.items()} for _ in range(2)]
    fed = {n: ort.OrtValue.ortvalue_from_numpy(a, "cpu", 0) for n, a in fixed.items()}
    bindings = []
    for given, made in ((sets[0], sets[1]), (sets[1], sets[0])):
        binding = session.io_binding()
        for name, value in (fed | given).items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("loss", "cpu")
        for name, value in made.items():
            binding.bind_ortvalue_output(state[name][0], value)
        bindings.append(binding)
    turn = [0]

    def run(held: Any = (fed, sets, fixed)) -> float:  # the bindings do not hold what they are bound to
        binding, turn[0] = bindings[turn[0] % 2], turn[0] + 1
        session.run_with_iobinding(binding)
        return float(binding.get_outputs()[0].numpy())

    return run


def _plan(path: Path) -> Callable[[], Any]:
    if not path.exists():
        raise Unable("the model was not exported")
    feeds = {"x": np.full(4, 0.1, np.float32)}

    def run() -> Any:
        session = ort.InferenceSession(str(path), options(), providers=["CPUExecutionProvider"])
        return session.run(None, feeds)[0]

    return run
