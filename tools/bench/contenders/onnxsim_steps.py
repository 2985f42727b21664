"""onnxsim: its gradient and step graphs, of plain ONNX nodes, run in a loop by ONNX Runtime.

``build_backward`` differentiates the row's graph, from the gradient of the mean cross entropy with respect to the
logits (softmax minus one-hot, over n) on; ``sgd_momentum_update`` and ``make_step_graph`` are its own, too. It is made
for opset 17: nodes that came later are written as older ones first.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxsim import graph_grad, qat_graph

from ..rows import CLASSES, MOMENTUM, Arrays, Row
from . import Unable
from .ort import row_to_train, set_threads, step_loop

__all__ = ["prepare", "set_threads", "version"]


def version() -> str:
    """The version, and that of the runtime."""
    return f"{version_of('onnxsim')} (onnxruntime {ort.__version__})"


def prepare(task: str, folder: Path) -> Callable[[], Any]:
    """The work of a task, see `tools.bench.contenders`."""
    row, model = row_to_train(task, folder)
    if row.kind == "residual":
        raise Unable("its BatchNormalization is that of inference")
    try:
        made = _step_graph(model, row)
    except graph_grad.UnsupportedOpError as e:
        raise Unable(f"it cannot train this model: {str(e).partition(';')[0]}") from e
    weights, batch = row.weights(), row.batch()
    first = weights | {_momentum(w): np.zeros_like(a) for w, a in weights.items()}
    state = {name: (new, first[name]) for name, new in made.state.items()}
    return step_loop(made.model, state, batch)


def _step_graph(model: Any, row: Row) -> Any:
    """One training step: batch, weights and momenta in; the new weights and momenta and ``loss`` out."""
    weights, batch = row.weights(), row.batch()
    b = qat_graph.GraphBuilder(prefix="step.")
    b.initializer.extend(i for i in model.graph.initializer if i.name not in weights)
    for node in model.graph.node:
        _add_forward(b, node)
    forward = list(b.nodes)
    logits = model.graph.output[0].name
    seed = _add_loss(b, logits, len(batch["target"]))
    gradients = graph_grad.build_backward(b, forward, _shapes(b, forward, weights, batch), {logits: seed}, [*weights])
    rate = b.const(row.rate)
    state: dict[str, Any] = {}
    for w, a in weights.items():
        new, momentum = qat_graph.sgd_momentum_update(b, w, gradients[w], _momentum(w), rate, MOMENTUM)
        state |= {w: (a.shape, new), _momentum(w): (a.shape, momentum)}
    constants = {n: (a.shape, helper.np_dtype_to_tensor_dtype(a.dtype)) for n, a in batch.items()}
    return qat_graph.make_step_graph(b, constants, state, loss="loss")


def _momentum(weight: str) -> str:
    return f"{weight}.m"


def _add_loss(b: Any, logits: str, n: int) -> str:
    """Appends the mean cross entropy of ``logits`` with ``target``, named ``loss``, and gives its gradient."""
    b.initializer.append(numpy_helper.from_array(np.array([CLASSES]), "step.classes"))
    chosen = b.op("OneHot", ["target", "step.classes", b.const([0, 1])])
    log = b.op("LogSoftmax", [logits], axis=1)
    total = b.op("ReduceSum", [b.mul(chosen, log)], keepdims=0)
    b.nodes.append(helper.make_node("Div", [total, b.const(-n)], ["loss"]))
    return str(b.div(b.sub(b.op("Exp", [log]), chosen), b.const(n)))


def _shapes(b: Any, nodes: list[Any], weights: Arrays, batch: Arrays) -> dict[str, list[int]]:
    """The shape of every value of a graph of these nodes."""
    given = [helper.make_tensor_value_info(n, TensorProto.FLOAT, a.shape) for n, a in (weights | batch).items()]
    made = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for node in nodes for o in node.output if o]
    graph = helper.make_graph(nodes, "shapes", given, made, initializer=b.initializer)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    found = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in [*graph.input, *graph.output]}
    return found | {i.name: list(i.dims) for i in graph.initializer}


def _add_forward(b: Any, node: Any) -> None:
    """Appends a node of the model as one of opset 17 that has a gradient rule, if there is one."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    x = node.input[0] if node.input else ""
    if node.op_type == "Constant":
        b.initializer.append(numpy_helper.from_array(numpy_helper.to_array(attributes["value"]), node.output[0]))
        return
    if node.op_type == "Gelu":  # x (1 + erf(x / sqrt 2)) / 2
        bell = b.add(b.op("Erf", [b.mul(x, b.const(0.5**0.5))]), b.const(1.0))
        node = helper.make_node("Mul", [b.mul(x, b.const(0.5)), bell], node.output)
    elif node.op_type == "ReduceMean":
        axes = next(numpy_helper.to_array(i).tolist() for i in b.initializer if i.name == node.input[1])
        node = helper.make_node("ReduceMean", [x], node.output, axes=axes, **attributes)
    elif node.op_type == "Flatten":
        b.initializer.append(numpy_helper.from_array(np.array([0, -1]), f"{node.output[0]}.shape"))
        node = helper.make_node("Reshape", [x, f"{node.output[0]}.shape"], node.output)
    b.nodes.append(node)
