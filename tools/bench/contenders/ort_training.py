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

from ..rows import MOMENTUM
from . import Unable
from .ort import row_to_train, set_threads, step_loop

__all__ = ["prepare", "set_threads", "version"]
IR = 9  # the newest file version that it reads


def version() -> str:
    """The version."""
    return str(ort.__version__)


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, see `tools.bench.contenders`."""
    row, model = row_to_train(task, folder)
    trained = [n for n in row.weights() if not n.startswith(("mean", "var"))]
    try:
        fixed = {n: a for n, a in row.weights().items() if n not in trained}
        made = _step_model(model, trained, row.rate, list(row.batch()["target"].shape))
        return step_loop(made, _state(row.weights(), trained), fixed | row.batch())
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


def _state(weights: dict[str, Any], trained: list[str]) -> dict[str, tuple[str, Any]]:
    arrays = {n: a for k in trained for n, a in ((k, weights[k]), (f"{k}.m", np.zeros_like(weights[k])))}
    return {n: (f"{n}.new", a) for n, a in arrays.items()}
