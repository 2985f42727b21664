"""Makes the graphs of small classical models, with fresh weights.

A dense layer is ``Gemm(x, w, b)`` with ``w`` [in, out]. The scores before the last activation are a value of their
own name (``logits`` or ``scores``), so that a loss can be put on them: ``Trainer(graph, output="logits", ...)``.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.errors import InputError
from graphrt.expressions import function_names
from graphrt.ir import Graph
from graphrt.ir.builder import BuilderValue, GraphBuilder
from graphrt.manager import get_registry
from graphrt.registry import Registry
from graphrt.types import DTYPES, TensorType, numpy_dtype

HEADS = {
    "softmax": ("logits", "Softmax", "", "probabilities"),
    "log_softmax": ("logits", "LogSoftmax", "", "log_probabilities"),
    "sigmoid": ("logits", "Sigmoid", "", "probabilities"),
    "step": ("scores", "Step", "graphrt", "y"),
    "logits": ("logits", "", "", "logits"),
    "linear": ("y", "", "", "y"),
}
"""How a model may end: name to the scores' name, the op after them and its domain, the output's name."""

_INITIALIZERS = {"relu": "he_normal", "leakyrelu": "he_normal", "elu": "he_normal", "gelu": "he_normal"}
_INITIALIZERS |= {"selu": "lecun_normal"}


def mlp(
    inputs: int,
    hidden: Sequence[int] = (32,),
    outputs: int = 10,
    *,
    activation: str = "tanh",
    output: str = "softmax",
    dtype: str = "float32",
    seed: int = 0,
    init: str | None = None,
    normalize: tuple[Any, Any] | None = None,
    name: str = "mlp",
    registry: Registry | None = None,
) -> Graph:
    """A multi-layer perceptron: dense layers with an activation between them.

    Args:
        inputs: features per example. The input is ``x``: [batch, inputs].
        hidden: units of each hidden layer; empty for a single layer.
        outputs: numbers per example.
        activation: any registered op of one input, in any case: ``"tanh"``, ``"relu"``, ``"gelu"``, …
        output: how it ends, one of `HEADS`.
        dtype: a float element type.
        seed: of the initial weights.
        init: name of a registered initializer (default: ``"he_normal"`` for ReLU and its kin,
            ``"lecun_normal"`` for SELU, else ``"glorot_uniform"``). Biases begin at 0.
        normalize: (mean, deviation), numbers or arrays [inputs]: the graph begins with
            ``(x - mean) / deviation``.
        name: the graph's label.
        registry: where the activation and the initializer are looked up (default: what is installed).

    Raises:
        InputError: a size is not positive, or an argument has no such choice.
        PluginError: no initializer has this name.

    >>> graph = mlp(4, [3], 2)
    >>> print(graph)
    graph mlp [onnx 24]
      input x: float32[batch, 4]
      initializer w1: float32[4, 3]
      initializer b1: float32[3]
      initializer w2: float32[3, 2]
      initializer b2: float32[2]
      z1 = Gemm(x, w1, b1)
      h1 = Tanh(z1)
      logits = Gemm(h1, w2, b2)
      probabilities = Softmax(logits, axis=-1)
      output probabilities: float32[batch, 2]
    """
    sizes = [inputs, *hidden, outputs]
    _check(sizes, dtype, output)
    registry = get_registry() if registry is None else registry
    fill = registry.get("initializers", init or _INITIALIZERS.get(activation.lower(), "glorot_uniform"))
    rng = np.random.default_rng(seed)
    b = GraphBuilder(name, dtype=dtype)
    value = _normalized(b, b.input("x", dtype, ["batch", inputs]), normalize, dtype)
    for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes), start=1):
        w = b.parameter(f"w{i}", fill(rng, (n_in, n_out), dtype))
        bias = b.parameter(f"b{i}", np.zeros(n_out, numpy_dtype(dtype)))
        last = i == len(sizes) - 1
        value = b.op("Gemm", value, w, bias, outputs=[HEADS[output][0] if last else f"z{i}"])
        if not last:
            value = _activated(b, value, activation, f"h{i}", registry)
    return _finished(b, value, output, TensorType(dtype, ("batch", outputs)))


def logistic(inputs: int, outputs: int = 1, *, init: str = "zeros", name: str = "logistic", **options: Any) -> Graph:
    """Logistic regression: one dense layer, then Sigmoid (one output) or Softmax (several).

    Args:
        inputs: features per example.
        outputs: 1 for two classes, else the number of classes.
        init: initial weights; the loss is convex, so that zeros do.
        name: the graph's label.
        **options: ``dtype``, ``seed``, ``normalize``, ``registry``: see `mlp`.
    """
    head = "sigmoid" if outputs == 1 else "softmax"
    return mlp(inputs, (), outputs, output=head, init=init, name=name, **options)


def perceptron(
    inputs: int, outputs: int = 1, *, init: str = "zeros", name: str = "perceptron", **options: Any
) -> Graph:
    """Rosenblatt's perceptron: one dense layer, then the step function. The scores before it are ``scores``.

    Step has derivative 0, so a loss belongs on the scores (hinge, say).

    Args:
        inputs: features per example.
        outputs: decisions per example, each 0 or 1.
        init: initial weights.
        name: the graph's label.
        **options: ``dtype``, ``seed``, ``normalize``, ``registry``: see `mlp`.
    """
    return mlp(inputs, (), outputs, output="step", init=init, name=name, **options)


def _check(sizes: Sequence[int], dtype: str, output: str) -> None:
    for n in sizes:
        if n < 1:
            raise InputError(f"a layer has 1 unit or more, not {n}")
    if dtype not in DTYPES or DTYPES[dtype].kind != "f":
        floats = [d.name for d in DTYPES.values() if d.kind == "f"]
        raise InputError(f"weights are floats, not {dtype!r}; choose from {', '.join(floats)}")
    if output not in HEADS:
        raise InputError(f"a model ends in one of {', '.join(HEADS)}, not {output!r}")


def _normalized(b: GraphBuilder, x: BuilderValue, normalize: tuple[Any, Any] | None, dtype: str) -> BuilderValue:
    if normalize is None:
        return x
    mean, deviation = (b.constant(v, dtype, name=n) for v, n in zip(normalize, ("mean", "deviation"), strict=True))
    return (x - mean) / deviation


def _activated(b: GraphBuilder, x: BuilderValue, activation: str, name: str, registry: Registry) -> BuilderValue:
    found = function_names(registry).get(activation.lower())
    if found is None or found.least != 1:
        raise InputError(f"no op of one input is called {activation!r}; see graphrt ops")
    made = b.op(found.op_type, x, domain=found.domain, version=found.version, outputs=[name])
    return BuilderValue(b, made.name, x.dtype)


def _finished(b: GraphBuilder, scores: BuilderValue, output: str, kind: TensorType) -> Graph:
    _, op_type, domain, name = HEADS[output]
    if op_type:
        axis = -1 if "Softmax" in op_type else None
        scores = b.op(op_type, scores, domain=domain, outputs=[name], axis=axis)
    b.output(scores, type=kind)
    return b.build()
