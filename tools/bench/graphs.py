"""The rows as graphs: opset 20, so that other runtimes read them too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.ir import Graph
from graphrt.ir.builder import BuilderValue, GraphBuilder
from graphrt.manager import get_registry
from graphrt.optim import Adam
from graphrt.train.step import split_step, training_graph
from graphrt.types import TensorType

from .rows import CLASSES, FACTOR, SHIFT, Arrays, Row, adam_arrays

OPSET = 20
Weights = dict[str, BuilderValue]


def make_graph(row: Row, weights: Arrays | None = None) -> Graph:
    """The model of a row: input ``x``, output ``logits`` float32[batch, classes]."""
    b = GraphBuilder(row.name.replace("-", "_"), opset=OPSET)
    batch_axis = 1 if row.kind == "lstm" else 0
    shape = ["batch" if i == batch_axis else n for i, n in enumerate(row.input)]
    x = b.input("x", "float32", shape)
    w = {name: b.parameter(name, a) for name, a in (weights or row.weights()).items()}
    b.output(_BODIES[row.kind](b, x, w, row), "logits", TensorType("float32", ("batch", CLASSES)))
    return b.build()


def _dense(b: GraphBuilder, x: Any, w: Weights, i: int) -> Any:
    return b.Gemm(x, w[f"w{i}"], w[f"b{i}"])


def _mlp(b: GraphBuilder, x: Any, w: Weights, row: Row) -> Any:
    layers = len(row.size["hidden"])
    for i in range(1, layers + 1):
        x = b.op(row.size["activation"], _dense(b, x, w, i))
    return _dense(b, x, w, layers + 1)


def _lenet(b: GraphBuilder, x: Any, w: Weights, row: Row) -> Any:
    for i, pads in ((1, [2, 2, 2, 2]), (2, [0, 0, 0, 0])):
        x = b.Relu(b.Conv(x, w[f"k{i}"], w[f"c{i}"], kernel_shape=[5, 5], pads=pads))
        x = b.MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
    x = b.Flatten(x)
    return _dense(b, b.Relu(_dense(b, b.Relu(_dense(b, x, w, 1)), w, 2)), w, 3)


def _residual(b: GraphBuilder, x: Any, w: Weights, row: Row) -> Any:
    def layer(x: Any, i: int) -> Any:
        x = b.Conv(x, w[f"k{i}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
        return b.BatchNormalization(x, w[f"scale{i}"], w[f"shift{i}"], w[f"mean{i}"], w[f"var{i}"])

    for i in range(1, 2 * row.size["blocks"], 2):
        x = b.Relu(b.Add(layer(b.Relu(layer(x, i)), i + 1), x))
    return _dense(b, b.Flatten(b.GlobalAveragePool(x)), w, 1)


def _encoder(b: GraphBuilder, x: Any, w: Weights, row: Row) -> Any:
    d, heads = row.input[2], row.size["heads"]
    size = d // heads

    def split(p: str, *perm: int) -> Any:
        y = b.Reshape(b.Add(b.MatMul(x, w[f"w{p}"]), w[f"b{p}"]), b.constant(np.array([0, 0, heads, size])))
        return b.Transpose(y, perm=list(perm))

    def norm(y: Any, i: int) -> Any:
        return b.LayerNormalization(y, w[f"scale{i}"], w[f"shift{i}"], axis=-1, epsilon=1e-5)

    q, k, v = split("q", 0, 2, 1, 3), split("k", 0, 2, 3, 1), split("v", 0, 2, 1, 3)
    scores = b.Mul(b.MatMul(q, k), b.constant(np.float32(size**-0.5)))
    mixed = b.Transpose(b.MatMul(b.Softmax(scores, axis=-1), v), perm=[0, 2, 1, 3])
    mixed = b.Reshape(mixed, b.constant(np.array([0, 0, d])))
    x = norm(b.Add(x, b.Add(b.MatMul(mixed, w["wo"]), w["bo"])), 1)
    hidden = b.Gelu(b.Add(b.MatMul(x, w["w1"]), w["b1"]))
    x = norm(b.Add(x, b.Add(b.MatMul(hidden, w["w2"]), w["b2"])), 2)
    return _dense(b, b.ReduceMean(x, b.constant(np.array([1])), keepdims=0), w, 3)


def _lstm(b: GraphBuilder, x: Any, w: Weights, row: Row) -> Any:
    _, last, _ = b.LSTM(x, w["w"], w["r"], w["b"], hidden_size=row.size["hidden"], outputs=3)
    return _dense(b, b.Squeeze(last, b.constant(np.array([0]))), w, 1)


_BODIES: dict[str, Callable[[GraphBuilder, Any, Weights, Row], Any]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "residual": _residual,
    "encoder": _encoder,
    "lstm": _lstm,
}


def make_chain(length: int = 1000) -> Graph:
    """A chain of scalar ops, float64: sin, times FACTOR, plus SHIFT, tanh, and again."""
    b = GraphBuilder("chain", dtype="float64", opset=OPSET)
    x: Any = b.input("x", "float64", [])
    factor, shift = b.constant(np.float64(FACTOR)), b.constant(np.float64(SHIFT))
    for i in range(length):
        x = _link(b, x, i, factor, shift)
    b.output(x, "y", TensorType("float64", ()))
    return b.build()


def _link(b: GraphBuilder, x: Any, i: int, factor: Any, shift: Any) -> Any:
    if i % 4 == 0:
        return b.Sin(x)
    if i % 4 == 1:
        return b.Mul(x, factor)
    if i % 4 == 2:
        return b.Add(x, shift)
    return b.Tanh(x)


def make_wide(nodes: int) -> Graph:
    """A graph of many small nodes, in rungs of four that share values, for planning; float32 [4]."""
    b = GraphBuilder("many", opset=OPSET)
    x: Any = b.input("x", "float32", [4])
    y: Any = x
    for i in range(nodes // 4):
        z = b.Add(x, y)
        x, y = b.Mul(b.Tanh(z), y), b.Sub(z, x)
        if i % 50 == 49:
            x = b.Tanh(x)
    b.output(b.Add(x, y), "y", TensorType("float32", (4,)))
    return b.build()


def make_adam() -> tuple[Graph, str, str, str]:
    """The update part of a training step with Adam; its graph, and the names of learning rate, step and parameter."""
    b = GraphBuilder("adam", opset=OPSET)
    w = b.parameter("w", adam_arrays()[0])
    b.output(b.ReduceSum(w, keepdims=0), "loss", TensorType("float32", ()))
    step = training_graph(b.build(), get_registry(), None, Adam(1e-3))
    return split_step(step)[1], step.learning_rate, step.step, "w"
