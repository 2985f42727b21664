"""Activations of com.microsoft, most of them with a bias added first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.ops.activations import gelu as onnx_gelu
from graphrt.ops.activations import sigmoid as logistic
from graphrt.ops.activations import swish
from graphrt.ops.joining import split
from graphrt.ops.softmax import softmax_1
from graphrt.plugin import Array, Example, TensorType
from graphrt_onnx.ops._compose import call, composed, renamed
from graphrt_onnx.ops._microsoft import DOMAIN, microsoft, shape_like

gelu = renamed(onnx_gelu, "Gelu", DOMAIN)


@microsoft("QuickGelu", elementwise=True)
def quick_gelu(x: Array, *, alpha: float = 1.702) -> Array:
    """x sigmoid(alpha x), a cheap GELU.

    x: float [...] -> y: float [...]. dy/dx = s + alpha x s (1 - s) with s = sigmoid(alpha x).
    Source: onnxruntime's contributed operators; Hendrycks and Gimpel 2016.
    """
    return swish(x, alpha=alpha)


@quick_gelu.derivative("x")
def _(x: Array, alpha: float) -> Array:
    a = x.dtype.type(alpha)
    s = logistic(a * x)
    return s + a * x * s * (1 - s)


@microsoft("FastGelu")
def fast_gelu(x: Array, bias: Array = None) -> Array:
    """GELU by tanh, of x + bias: y = 0.5 z (1 + tanh(0.797885 z + 0.035677 z^3)).

    x: float [..., C]; bias: float [C] -> y: float [..., C]. Source: onnxruntime's contributed operators.
    """
    return call(onnx_gelu, x if bias is None else x + bias, approximate="tanh")


@microsoft("BiasGelu", outputs="c")
def bias_gelu(a: Array, b: Array) -> Array:
    """GELU of a + b.

    a: float [..., C]; b: float [C] -> c: float [..., C]. Source: onnxruntime's contributed operators.
    """
    return call(onnx_gelu, a + b)


@microsoft("BiasSplitGelu")
def bias_split_gelu(x: Array, bias: Array) -> Array:
    """The first half of x + bias times the GELU of its second half, along the last axis.

    x: float [N, S, D]; bias: float [D] -> y: float [N, S, D/2]. Source: onnxruntime's contributed operators.
    """
    left, right = call(split, x + bias, axis=-1, num_outputs=2, n_outputs=2)
    return left * call(onnx_gelu, right)


@microsoft("BiasAdd")
def bias_add(x: Array, bias: Array, skip: Array) -> Array:
    """x + bias + skip.  x, skip: float [N, S, C]; bias: float [C] -> y: float [N, S, C].

    Source: onnxruntime's contributed operators.
    """
    return x + bias + skip


@microsoft("BiasSoftmax", outputs="output")
def bias_softmax(data: Array, bias: Array, *, axis: int = 1, is_inner_broadcast: int) -> Array:
    """Softmax of data + bias over all dimensions from ``axis`` on together.

    data: float [...]; bias: float, broadcasts to data -> output: float, the shape of data. ``is_inner_broadcast``
    says which dimensions the bias lacks; the shapes say it as well. Source: onnxruntime's contributed operators.
    """
    return call(softmax_1, data + bias, axis=axis)


composed(fast_gelu, "x", "bias")
composed(bias_gelu, "a", "b")
composed(bias_split_gelu, "x", "bias")
composed(bias_add, "x", "bias", "skip")
composed(bias_softmax, "data", "bias")

fast_gelu.infer(lambda x: x)
bias_gelu.infer(lambda a: a)
bias_add.infer(lambda x: x)
bias_softmax.infer(lambda data: data)


@bias_split_gelu.infer
def _(x: TensorType) -> TensorType:
    last = x.shape[-1] if x.shape else None
    return shape_like(x, last // 2 if isinstance(last, int) else None)


@quick_gelu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3)),), {"alpha": 0.7}


@fast_gelu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3)), rng.normal(size=3)), {}
    yield (rng.normal(size=(2, 3)),), {}
    yield (np.zeros((0, 3)), rng.normal(size=3)), {}


@bias_gelu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 2, 3)), rng.normal(size=3)), {}


@bias_split_gelu.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 4)), rng.normal(size=4)), {}


@bias_add.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 4)), rng.normal(size=4), rng.normal(size=(2, 3, 4))), {}


@bias_softmax.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 1, 4))), {"axis": 2, "is_inner_broadcast": 1}
    yield Example((rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 4))), {"is_inner_broadcast": 0})


OPS = (gelu, quick_gelu, fast_gelu, bias_gelu, bias_split_gelu, bias_add, bias_softmax)
