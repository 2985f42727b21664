"""onnxruntime-training: its gradient graph, with the momentum update written behind it as ONNX nodes.

Weights and momenta stay in memory that the runtime allocated: two sets, read and written in turn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.training.onnxblock._training_graph_utils import build_gradient_graph

from ..rows import MOMENTUM, ROWS
from . import Unable
from .ort import options, set_threads

__all__ = ["prepare", "set_threads", "version"]
IR = 9  # the newest file version that it reads


def version() -> str:
    """The version."""
    return str(ort.__version__)


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, see `tools.bench.contenders`."""
    kind, _, name = task.partition("/")
    if kind != "train":
        raise Unable("it only trains")
    path = folder / f"row-{name}.onnx"
    if not path.exists():
        raise Unable("the model was not exported")
    row, model = ROWS[name], onnx.load(str(path))
    trained = [n for n in row.weights() if not n.startswith(("mean", "var"))]
    try:
        made = _step_model(model, trained, row.rate, list(row.batch()["target"].shape))
        return _runner(made, row.weights(), trained, row.batch())
    except Exception as e:
        raise Unable(f"it cannot train this model: {str(e)[:200]}") from e


def _step_model(model: Any, trained: list[str], rate: float, target: list[int]) -> Any:
    """The model of a step: batch, weights and momenta in; the loss, the new weights and momenta out."""
    shapes = {i.name: list(i.dims) for i in model.graph.initializer}
    model.ir_version = min(model.ir_version, IR)
    for node in model.graph.node:
        if node.op_type == "LayerNormalization":  # its gradient reads these
            node.output.extend(f"{node.output[0]}.{n}" for n in ("mean", "deviation"))
    logits = model.graph.output[0].name
    model.graph.node.append(
        helper.make_node("SoftmaxCrossEntropyLoss", [logits, "target"], ["loss", "scores.log"], reduction="mean")
    )
    model.graph.input.append(helper.make_tensor_value_info("target", TensorProto.INT64, target))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))
    model = onnx.shape_inference.infer_shapes(model)
    frozen = {n for n in shapes if n.startswith(("mean", "var"))}
    model, _ = build_gradient_graph(model, set(trained), frozen, ["loss"])
    graph = model.graph
    for name, value in (("momentum", MOMENTUM), ("rate", rate)):
        graph.initializer.append(helper.make_tensor(f"bench.{name}", TensorProto.FLOAT, [], [value]))
    for w in trained:
        graph.node.extend([
            helper.make_node("Mul", [f"{w}.m", "bench.momentum"], [f"{w}.decayed"]),
            helper.make_node("Add", [f"{w}.decayed", f"{w}_grad"], [f"{w}.m.new"]),
            helper.make_node("Mul", [f"{w}.m.new", "bench.rate"], [f"{w}.change"]),
            helper.make_node("Sub", [w, f"{w}.change"], [f"{w}.new"]),
        ])  # fmt: skip
        graph.input.append(helper.make_tensor_value_info(f"{w}.m", TensorProto.FLOAT, shapes[w]))
    del graph.output[:]
    made = [n for w in trained for n in (f"{w}.new", f"{w}.m.new")]
    sizes = {f"{w}{end}": shapes[w] for w in trained for end in (".new", ".m.new")}
    graph.output.append(helper.make_tensor_value_info("loss", TensorProto.FLOAT, []))
    graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, sizes[n]) for n in made)
    return model


def _runner(model: Any, weights: dict[str, Any], trained: list[str], batch: dict[str, Any]) -> Callable[[], float]:
    session = ort.InferenceSession(model.SerializeToString(), options(), providers=["CPUExecutionProvider"])
    sets = []
    for _ in range(2):
        arrays = {n: a for k in trained for n, a in ((k, weights[k]), (f"{k}.m", np.zeros_like(weights[k])))}
        sets.append({n: ort.OrtValue.ortvalue_from_numpy(a.copy(), "cpu", 0) for n, a in arrays.items()})
    fixed = {n: a for n, a in weights.items() if n not in trained} | batch
    fed = {n: ort.OrtValue.ortvalue_from_numpy(a, "cpu", 0) for n, a in fixed.items()}
    bindings = []
    for given, made in ((sets[0], sets[1]), (sets[1], sets[0])):
        binding = session.io_binding()
        for name, value in (fed | given).items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("loss", "cpu")
        for name, value in made.items():
            binding.bind_ortvalue_output(f"{name}.new", value)
        bindings.append(binding)
    turn = [0]

    def run(held: Any = (fed, sets, batch, weights)) -> float:  # the bindings do not hold what they are bound to
        binding, turn[0] = bindings[turn[0] % 2], turn[0] + 1
        session.run_with_iobinding(binding)
        return float(binding.get_outputs()[0].numpy())

    return run
