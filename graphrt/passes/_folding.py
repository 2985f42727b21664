"""Normalization with given statistics, put into the weights of the product before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.ir import Node
from graphrt.passes._rewriting import Rewriting
from graphrt.types import numpy_dtype

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm")


def fold_batch_normalization(graph: Rewriting, node: Node) -> Sequence[Node] | None:
    """``(x * w + b - mean) f + shift`` as ``x * (w f) + ((b - mean) f + shift)``, f = scale / sqrt(var + epsilon).

    Where all but x depends on weights alone, and the product is read by nothing else.
    """
    product = graph.producer(node.inputs[0], *_PRODUCTS)
    if product is None or graph.reads(product.outputs[0]) != 1 or not _is_inference(graph, node):
        return None
    weights = (*product.inputs[1:], *node.inputs[1:5])
    axis = _channel_axis(product)
    types = [graph.type(i) for i in node.inputs[1:5]]
    w = graph.type(product.inputs[1])
    if axis is None or w.shape is None or w.dtype is None or not all(map(graph.is_fixed, weights)):
        return None
    if any(t.shape != w.shape[axis : axis + 1] or t.dtype != w.dtype for t in types):
        return None
    return _folded(graph, node, product, axis, numpy_dtype(w.dtype), len(w.shape))


def _is_inference(graph: Rewriting, node: Node) -> bool:
    a, version = node.attributes, graph.version(node)
    if any(graph.reads(o) for o in node.outputs[1:] if o):
        return False
    if version >= 14:
        return not a.get("training_mode", 0)
    return len(node.outputs) == 1 if version >= 7 else bool(a.get("is_test", 0))


def _channel_axis(product: Node) -> int | None:
    """The axis of the product's weights that its output channels are along."""
    a = product.attributes
    if product.op_type == "Conv":
        return 0
    if product.op_type == "ConvTranspose":
        return 1 if a.get("group", 1) == 1 else None
    if a.get("alpha", 1.0) != 1 or a.get("beta", 1.0) != 1:
        return None
    return 0 if a.get("transB", 0) else 1


def _folded(graph: Rewriting, node: Node, product: Node, axis: int, dtype: Any, rank: int) -> list[Node]:
    base = node.outputs[0]
    made: list[Node] = []

    def op(op_type: str, *inputs: str, **attributes: Any) -> str:
        made.append(Node(op_type, inputs, (graph.fresh(f"{base}.{op_type.lower()}"),), attributes))
        return made[-1].outputs[0]

    def constant(value: Any) -> str:
        return op("Constant", value=np.asarray(value))

    x, w, b = (*product.inputs, "")[:3]
    _, scale, shift, mean, var = node.inputs[:5]
    epsilon = constant(np.array(node.attributes.get("epsilon", 1e-5), dtype))
    factor = op("Div", scale, op("Sqrt", op("Add", var, epsilon)))
    shape = constant(np.array([-1 if i == axis else 1 for i in range(rank)], np.int64))
    weights = op("Mul", w, op("Reshape", factor, shape))
    bias = op("Add", shift, op("Mul", op("Sub", b, mean), factor)) if b else op("Sub", shift, op("Mul", mean, factor))
    inputs = (x, weights, bias)
    return [*made, Node(product.op_type, inputs, node.outputs[:1], product.attributes, product.domain, product.name)]
