"""Normalization with given statistics, put into the weights of the product before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.ir import Node
from graphrt.passes._rewriting import Rewriting
from graphrt.types import Dim, TensorType, numpy_dtype

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm")


def fold_batch_normalization(graph: Rewriting, node: Node) -> Sequence[Node] | None:
    """``(x * w + b - mean) f + shift`` as ``x * (w f) + ((b - mean) f + shift)``, f = scale / sqrt(var + epsilon).

    Where all but x depends on weights alone, and the product is read by nothing else.
    """
    product = graph.producer(node.inputs[0], *_PRODUCTS)
    if product is None or graph.reads(product.outputs[0]) != 1 or not _depends_on_weights_alone(graph, node):
        return None
    axis, w = _channel_axis(product), graph.type(product.inputs[1])
    if axis is None or w.shape is None or not all(map(graph.is_fixed, product.inputs[1:])):
        return None
    if not _are_vectors(graph, node, w.dtype, w.shape[axis]):
        return None
    write = _Writer(graph, node)
    x, weights, b = (*product.inputs, "")[:3]
    factor = write.factor()
    weights = write("Mul", weights, write.along(factor, axis, len(w.shape)))
    inputs = (x, weights, write.bias(factor, b))
    last = Node(product.op_type, inputs, node.outputs[:1], product.attributes, product.domain, product.name)
    return [*write.nodes, last]


def scale_and_shift(graph: Rewriting, node: Node) -> Sequence[Node] | None:
    """``(x - mean) f + shift`` as ``x f + (shift - mean f)``, where all but x depends on weights alone."""
    x = graph.type(node.inputs[0])
    if x.shape is None or len(x.shape) < 2 or not _depends_on_weights_alone(graph, node):
        return None
    if not _are_vectors(graph, node, x.dtype, x.shape[1]):
        return None
    write, rank = _Writer(graph, node), len(x.shape) - 1
    factor = write.factor()
    product = write("Mul", node.inputs[0], write.along(factor, 0, rank))
    last = Node("Add", (product, write.along(write.bias(factor), 0, rank)), node.outputs[:1], {}, "", node.name)
    return [*write.nodes, last]


class _Writer:
    """Writes nodes on the parameters of a batch normalization."""

    def __init__(self, graph: Rewriting, node: Node):
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []
        self._shapes: dict[tuple[int, ...], str] = {}

    def __call__(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = self.graph.fresh(f"{self.node.outputs[0]}.{op_type.lower()}")
        self.nodes.append(Node(op_type, inputs, (name,), attributes))
        return name

    def factor(self) -> str:
        """``scale / sqrt(var + epsilon)``."""
        scale, var = self.node.inputs[1], self.node.inputs[4]
        dtype = numpy_dtype(self.graph.type(var).dtype or "float32")
        epsilon = self("Constant", value=np.array(self.node.attributes.get("epsilon", 1e-5), dtype))
        return self("Div", scale, self("Sqrt", self("Add", var, epsilon)))

    def bias(self, factor: str, b: str = "") -> str:
        """``shift + (b - mean) factor``."""
        shift, mean = self.node.inputs[2:4]
        if b:
            return self("Add", shift, self("Mul", self("Sub", b, mean), factor))
        return self("Sub", shift, self("Mul", mean, factor))

    def along(self, vector: str, axis: int, rank: int) -> str:
        """A vector as an array of some axes, along one of them."""
        if rank == 1:
            return vector
        shape = tuple(-1 if i == axis else 1 for i in range(rank))
        if shape not in self._shapes:
            self._shapes[shape] = self("Constant", value=np.array(shape, np.int64))
        return self("Reshape", vector, self._shapes[shape])


def _depends_on_weights_alone(graph: Rewriting, node: Node) -> bool:
    """Whether a batch normalization has given statistics, and these and its other parameters are weights."""
    return _is_inference(graph, node) and all(map(graph.is_fixed, node.inputs[1:5])) and graph.opsets.get("", 0) >= 7


def _are_vectors(graph: Rewriting, node: Node, dtype: str | None, channels: Dim) -> bool:
    """Whether all parameters have one number of this dtype for each channel."""
    return dtype is not None and all(graph.type(i) == TensorType(dtype, (channels,)) for i in node.inputs[1:5])


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
