"""Dropout, in the four forms that opsets 6 to 22 have given it."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.ir import NameScope, Node
from graphrt.op import op
from graphrt.ops.sampling import source
from graphrt.types import TensorType

Array = Any


def _check_ratio(ratio: float) -> float:
    if not 0 <= ratio < 1:
        raise ValueError(f"ratio {ratio} should be in [0, 1)")
    return ratio


def _drop(data: Array, ratio: float, seed: int | None, rng: np.random.Generator) -> tuple[Array, Array]:
    """Scaled survivors, and which they are. Ratio 0 drops nothing and draws nothing."""
    if _check_ratio(ratio) == 0:
        return data, _all_kept(data)
    mask = np.asarray(source(seed, rng).random(data.shape) >= ratio)
    return _masked(data, mask, ratio), mask


def _masked(x: Array, mask: Array, ratio: float) -> Array:
    """``x * mask / (1 - ratio)`` with zeros, not NaN, where an infinite element is dropped."""
    return np.where(mask, x * np.array(1 / (1 - ratio), x.dtype), np.zeros((), x.dtype))


def _all_kept(data: Array) -> Array:
    """A mask of ones without the memory."""
    return np.broadcast_to(np.True_, data.shape)


# ---- since opset 12: ratio and mode are inputs -------------------------------------------------------


def _active_ratio(ratio: Array | None, training_mode: Array | None) -> float:
    """The share of elements dropped: 0 outside training, 0.5 where nothing is said."""
    if training_mode is None or not training_mode.reshape(()).item():
        return 0.0
    return 0.5 if ratio is None else float(ratio.reshape(()).item())


@op("Dropout", version=12, outputs=("y", "mask"), nondiff=("ratio", "training_mode"))
def dropout(
    data: Array, ratio: Array = None, training_mode: Array = None, *, seed: int | None = None, rng: np.random.Generator
) -> tuple[Array, Array]:
    """Zeroes a random share of the elements in training and scales the others up: y = data mask / (1 - ratio).

    data: float [...]; ratio: float [], in [0, 1), 0.5 when absent; training_mode: bool [], false when absent
    -> y: data's shape and dtype; mask: bool [...], true where kept. Outside training y = data and mask is all true.
    mask = u >= ratio for u uniform in [0, 1), drawn from ``numpy.random.RandomState(seed)`` where ``seed`` is given,
    else from the interpreter's generator. Gradient: ct mask / (1 - ratio), with the mask that was drawn.
    Sources: ONNX operator spec, Dropout; Srivastava et al. 2014.
    """
    return _drop(data, _active_ratio(ratio, training_mode), seed, rng)


train_dropout = op("Dropout", domain="graphrt", outputs=("y", "mask"), nondiff=("ratio", "training_mode"))(
    dropout.function
)
"""The same op in domain ``graphrt``: what a Dropout of opsets 7 to 11, which cannot say "training", becomes there."""


@dropout.vjp("data")
@train_dropout.vjp("data")
def _(ct, mask, ratio, training_mode):
    return _back(ct, mask, _active_ratio(ratio, training_mode))


@dropout.jvp("data")
@train_dropout.jvp("data")
def _(data_dot, mask, ratio, training_mode):
    return _back(data_dot, mask, _active_ratio(ratio, training_mode)), None


def _back(x: Array | None, mask: Array | None, ratio: float) -> Array | None:
    if x is None or ratio == 0:
        return x
    if mask is None:
        raise ValueError("the derivative needs the mask: give the node its second output")
    return _masked(x, mask.astype(bool), ratio)


@dropout.infer
@train_dropout.infer
def _(data):
    return data, TensorType("bool", data.shape)


@dropout.mode
@train_dropout.mode
def _(node: Node, training: bool, scope: NameScope) -> Any:
    inputs = (*node.inputs, "", "")[:2]
    if not training:
        rest = inputs if inputs[1] else inputs[:1]
        same = len(node.inputs) < 3
        return [node if same else Node(node.op_type, rest, node.outputs, node.attributes, node.domain, node.name)], {}
    flag = _constant(np.asarray(True), scope, "training_mode")
    made = Node(node.op_type, (*inputs, flag.outputs[0]), node.outputs, node.attributes, node.domain, node.name)
    return [flag, made], {}


def _constant(value: Array, scope: NameScope, name: str) -> Node:
    return Node("Constant", (), (scope.fresh(name),), {"value": value})


@dropout.examples
@train_dropout.examples
def _(rng):
    x = rng.normal(size=(3, 4))
    yield (x,), {}
    yield (x, np.array(0.3), np.array(True)), {}
    yield (x, np.array(0.75), np.array(True)), {"seed": 7}
    yield (x, np.array(0.3), np.array(False)), {}
    yield (x, None, np.array(True)), {}
    yield (x, np.array(0.0), np.array(True)), {}
    yield (rng.normal(size=()), np.array(0.5), np.array(True)), {"seed": 1}
    yield (np.zeros((0, 2)), np.array(0.5), np.array(True)), {}


# ---- opsets 7 to 11: inference only ------------------------------------------------------------------


@op("Dropout", version=10, outputs=("y", "mask"))
def dropout_10(data: Array, *, ratio: float = 0.5) -> tuple[Array, Array]:
    """`Dropout` of opsets 10 and 11: y = data and mask is all true, for nothing in the node says "training"."""
    _check_ratio(ratio)
    return data, _all_kept(data)


@op("Dropout", version=7, outputs=("y", "mask"))
def dropout_7(data: Array, *, ratio: float = 0.5) -> tuple[Array, Array]:
    """`Dropout` of opsets 7 to 9: y = data; mask is ones of data's dtype."""
    _check_ratio(ratio)
    return data, np.ones(data.shape, data.dtype)


@dropout_10.infer
def _(data):
    return data, TensorType("bool", data.shape)


@dropout_10.vjp("data")
@dropout_7.vjp("data")
def _(ct):
    return ct


@dropout_10.jvp("data")
@dropout_7.jvp("data")
def _(data_dot):
    return data_dot, None


@dropout_10.mode
@dropout_7.mode
def _(node: Node, training: bool, scope: NameScope) -> Any:
    if not training:
        return [node], {}
    ratio = _constant(np.asarray(node.attributes.get("ratio", 0.5), np.float32), scope, "ratio")
    flag = _constant(np.asarray(True), scope, "training_mode")
    inputs = (*node.inputs, ratio.outputs[0], flag.outputs[0])
    return [ratio, flag, Node("Dropout", inputs, node.outputs, {}, "graphrt", node.name)], {}


@dropout_10.examples
@dropout_7.examples
def _(rng):
    yield (rng.normal(size=(3, 4)),), {"ratio": 0.2}
    yield (rng.normal(size=()),), {}
    yield (np.zeros((0, 2)),), {}


# ---- opset 6: an attribute says "test" ---------------------------------------------------------------


@op("Dropout", version=6, outputs=("y", "mask"))
def dropout_6(data: Array, *, ratio: float = 0.5, is_test: int = 0, rng: np.random.Generator) -> tuple[Array, Array]:
    """`Dropout` of opset 6: it drops elements unless ``is_test`` is set; mask has data's dtype."""
    y, mask = _drop(data, 0.0 if is_test else ratio, None, rng)
    return y, mask.astype(data.dtype)


@dropout_6.vjp("data")
def _(ct, mask, ratio, is_test):
    return _back(ct, mask, 0.0 if is_test else ratio)


@dropout_6.jvp("data")
def _(data_dot, mask, ratio, is_test):
    return _back(data_dot, mask, 0.0 if is_test else ratio), None


@dropout_6.infer
@dropout_7.infer
def _(data):
    return data, data


@dropout_6.mode
def _(node: Node, training: bool, scope: NameScope) -> Any:
    attributes = {**node.attributes, "is_test": int(not training)}
    return [Node(node.op_type, node.inputs, node.outputs, attributes, node.domain, node.name)], {}


@dropout_6.examples
def _(rng):
    yield (rng.normal(size=(3, 4)),), {"ratio": 0.3}
    yield (rng.normal(size=(3, 4)),), {"is_test": 1}
    yield (np.zeros((0, 2)),), {}


OPS = (dropout, train_dropout, dropout_10, dropout_7, dropout_6)
