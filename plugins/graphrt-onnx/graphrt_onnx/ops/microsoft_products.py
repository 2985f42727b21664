"""Products and convolutions of com.microsoft that have more fused into them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.ops.arrange import transpose
from graphrt.ops.convolution import conv
from graphrt.ops.gemm import gemm
from graphrt.ops.linalg import matmul, product_shape
from graphrt.plugin import Array, Example, TensorType
from graphrt_onnx.ops._compose import call, composed
from graphrt_onnx.ops._microsoft import activate, channels_first, channels_last, microsoft, permuted

_Ints = tuple[int, ...]

# ---- FusedMatMul ---------------------------------------------------------------------------------------------


def _order(rank: int, trans: int, trans_batch: int) -> tuple[int, ...]:
    """How the dimensions of a factor are arranged before the product."""
    order = list(range(rank))
    if rank < 2:
        return tuple(order)
    if trans_batch:  # the first dimension goes behind the batch dimensions
        order = [*order[1:-1], order[0], order[-1]]
    if trans:
        order[-1], order[-2] = order[-2], order[-1]
    return tuple(order)


def _arranged(x: Any, trans: int, trans_batch: int) -> Any:
    order = _order(x.ndim, trans, trans_batch)
    return x if order == tuple(range(x.ndim)) else call(transpose, x, perm=order)


def _product(a: Any, b: Any, alpha: float, trans: Sequence[int]) -> Any:
    y = call(matmul, _arranged(a, trans[0], trans[1]), _arranged(b, trans[2], trans[3]))
    return y if alpha == 1 else y * np.asarray(alpha, y.dtype)


def _product_type(a: TensorType, b: TensorType, trans: Sequence[int]) -> TensorType:
    shapes = [
        permuted(x.shape, _order(len(x.shape), *t)) if x.shape is not None else None
        for x, t in ((a, trans[:2]), (b, trans[2:]))
    ]
    return TensorType(a.dtype, product_shape(*shapes))


@microsoft("FusedMatMul")
def fused_matmul(
    a: Array, b: Array, *, alpha: float = 1.0, transA: int = 0, transB: int = 0, transBatchA: int = 0,
    transBatchB: int = 0,
) -> Array:  # fmt: skip
    """y = alpha A B, each factor transposed first where asked.

    a: float [..., M, K]; b: float [..., K, N], batch dimensions broadcast -> y: float [..., M, N]. ``transA`` swaps
    the last two dimensions; ``transBatchA`` moves the first dimension behind the batch dimensions (before that).
    Vectors are as in MatMul. Source: onnxruntime's contributed operators.
    """
    return _product(a, b, alpha, (transA, transBatchA, transB, transBatchB))


@fused_matmul.infer
def _(a: TensorType, b: TensorType, transA: int, transB: int, transBatchA: int, transBatchB: int) -> TensorType:
    return _product_type(a, b, (transA, transBatchA, transB, transBatchB))


@fused_matmul.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    def draw(*shape: int) -> Array:
        return rng.normal(size=shape)

    yield (draw(2, 3, 4), draw(4, 5)), {"alpha": 0.5}
    yield (draw(4, 3), draw(5, 4)), {"transA": 1, "transB": 1}
    yield (draw(3, 2, 4), draw(2, 4, 5)), {"transBatchA": 1}
    yield (draw(4, 2, 3), draw(5, 2, 4)), {"transA": 1, "transB": 1, "transBatchA": 1, "transBatchB": 1, "alpha": 2.0}
    yield (draw(4), draw(4)), {}
    yield (draw(0, 4), draw(4, 2)), {"alpha": 2.0}


@microsoft("TransposeMatMul")
def transpose_matmul(a: Array, b: Array, *, alpha: float = 1.0, transA: int = 0, transB: int = 0) -> Array:
    """The older name of FusedMatMul: y = alpha A B, each factor transposed first where asked.

    a: float [..., M, K]; b: float [..., K, N] -> y: float [..., M, N]. Source: onnxruntime's contributed operators.
    """
    return _product(a, b, alpha, (transA, 0, transB, 0))


@transpose_matmul.infer
def _(a: TensorType, b: TensorType, transA: int, transB: int) -> TensorType:
    return _product_type(a, b, (transA, 0, transB, 0))


@transpose_matmul.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 4, 3)), rng.normal(size=(2, 5, 4))), {"transA": 1, "transB": 1, "alpha": 0.5}


@microsoft("FusedMatMulActivation")
def fused_matmul_activation(
    a: Array, b: Array, *, activation: str, activation_alpha: float | None = None, activation_axis: int | None = None,
    activation_beta: float | None = None, activation_gamma: float | None = None, alpha: float = 1.0, transA: int = 0,
    transB: int = 0, transBatchA: int = 0, transBatchB: int = 0,
) -> Array:  # fmt: skip
    """y = activation(alpha A B): FusedMatMul and an activation by name, with its parameters.

    a: float [..., M, K]; b: float [..., K, N] -> y: float [..., M, N]. Source: onnxruntime's contributed operators.
    """
    y = _product(a, b, alpha, (transA, transBatchA, transB, transBatchB))
    return activate(y, activation, alpha=activation_alpha, beta=activation_beta, gamma=activation_gamma)


@fused_matmul_activation.infer
def _(a: TensorType, b: TensorType, transA: int, transB: int, transBatchA: int, transBatchB: int) -> TensorType:
    return _product_type(a, b, (transA, transBatchA, transB, transBatchB))


@fused_matmul_activation.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    yield (a, b), {"activation": "Tanh"}
    yield (a, b.T.copy()), {"activation": "LeakyRelu", "activation_alpha": 0.2, "transB": 1}


# ---- FusedGemm -----------------------------------------------------------------------------------------------


@microsoft("FusedGemm")
def fused_gemm(
    a: Array, b: Array, c: Array = None, *, activation: str | None = None, activation_alpha: float | None = None,
    activation_beta: float | None = None, activation_gamma: float | None = None, alpha: float = 1.0,
    beta: float = 1.0, transA: int = 0, transB: int = 0,
) -> Array:  # fmt: skip
    """y = activation(alpha A B + beta C), with the activation's parameters as attributes.

    a: float [M, K] (or transposed); b: float [K, N]; c: float, broadcasts to [M, N] -> y: float [M, N].
    Source: onnxruntime's contributed operators.
    """
    y = call(gemm, a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    return activate(y, activation, alpha=activation_alpha, beta=activation_beta, gamma=activation_gamma)


@fused_gemm.infer
def _(a: TensorType, b: TensorType, c: TensorType | None, transA: int, transB: int) -> Any:
    return gemm.infer_types([a, b, c], {"transA": transA, "transB": transB})


@fused_gemm.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b, c = rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
    yield (a, b, c), {"activation": "Tanh", "alpha": 0.5, "beta": 2.0}
    yield (a, b.T.copy(), None), {"activation": "LeakyRelu", "activation_alpha": 0.3, "transB": 1}
    yield (a, b, c), {"activation": "HardSigmoid", "activation_alpha": 0.1, "activation_beta": 0.4}
    yield (a, b, c), {}


# ---- FusedConv -----------------------------------------------------------------------------------------------


def _convolution(x: Any, w: Any, b: Any, z: Any, activation: str | None, params: Any, window: dict[str, Any]) -> Any:
    y = call(conv, x, w, b, **window)
    y = y if z is None else y + z
    values = (*(params or ()), None, None)[:2]
    return activate(y, activation, alpha=values[0], beta=values[1])


@microsoft("FusedConv")
def fused_conv(
    x: Array, w: Array, b: Array = None, z: Array = None, *, activation: str | None = None,
    activation_params: tuple[float, ...] | None = None, auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None, group: int = 1, kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """y = activation(Conv(x, w, b) + z).

    x: float [N, C, *S]; w: float [M, C/group, *K]; b: float [M]; z: float, the shape of y -> y: float [N, M, *O].
    activation_params: alpha and beta of LeakyRelu and HardSigmoid, the bounds of Clip. Windows as in Conv.
    Source: onnxruntime's contributed operators.
    """
    window = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape}
    window |= {"pads": pads, "strides": strides}
    return _convolution(x, w, b, z, activation, activation_params, window)


@fused_conv.infer
def _(
    x: TensorType, w: TensorType, auto_pad: str, dilations: _Ints | None, group: int, kernel_shape: _Ints | None,
    pads: _Ints | None, strides: _Ints | None,
) -> Any:  # fmt: skip
    window = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape}
    return conv.infer_types([x, w], {**window, "pads": pads, "strides": strides})


@fused_conv.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, w, b, z = (rng.normal(size=s) for s in ((2, 2, 4, 4), (3, 2, 3, 3), (3,), (2, 3, 4, 4)))
    yield (x, w, b, z), {"activation": "Tanh", "pads": (1, 1, 1, 1)}
    yield (x, w, b), {"activation": "LeakyRelu", "activation_params": (0.2,), "strides": (2, 2)}
    yield (x, w), {"activation": "Clip", "activation_params": (-1.5, 1.5)}
    yield (x, w, None, z), {"auto_pad": "SAME_UPPER"}


@microsoft("NhwcFusedConv")
def nhwc_fused_conv(
    x: Array, w: Array, b: Array = None, z: Array = None, *, activation: str | None = None,
    activation_params: tuple[float, ...] | None = None, auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None, group: int = 1, kernel_shape: tuple[int, ...] | None = None,
    pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """FusedConv with the channels last.

    x: float [N, *S, C]; w: float [M, C/group, *K]; b: float [M]; z: float, the shape of y -> y: float [N, *O, M].
    Source: onnxruntime's contributed operators.
    """
    window = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape}
    window |= {"pads": pads, "strides": strides}
    z = None if z is None else channels_first(z)
    return channels_last(_convolution(channels_first(x), w, b, z, activation, activation_params, window))


@microsoft("NhwcConv")
def nhwc_conv(
    x: Array, w: Array, b: Array = None, *, auto_pad: str = "NOTSET", dilations: tuple[int, ...] | None = None,
    group: int = 1, kernel_shape: tuple[int, ...] | None = None, pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """Conv with the channels last.

    x: float [N, *S, C]; w: float [M, C/group, *K]; b: float [M] -> y: float [N, *O, M].
    Source: onnxruntime's contributed operators.
    """
    window = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape}
    window |= {"pads": pads, "strides": strides}
    return channels_last(_convolution(channels_first(x), w, b, None, None, None, window))


@nhwc_conv.infer
@nhwc_fused_conv.infer
def _(
    x: TensorType, w: TensorType, auto_pad: str, dilations: _Ints | None, group: int, kernel_shape: _Ints | None,
    pads: _Ints | None, strides: _Ints | None,
) -> Any:  # fmt: skip
    if x.shape is None:
        return TensorType(x.dtype)
    first = TensorType(x.dtype, (x.shape[0], x.shape[-1], *x.shape[1:-1]))
    window = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape}
    (y,) = conv.infer_types([first, w], {**window, "pads": pads, "strides": strides})
    shape = y.shape if isinstance(y, TensorType) else None
    return TensorType(x.dtype, None if shape is None else (shape[0], *shape[2:], shape[1]))


@nhwc_fused_conv.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, w, b, z = (rng.normal(size=s) for s in ((2, 4, 4, 2), (3, 2, 3, 3), (3,), (2, 4, 4, 3)))
    yield (x, w, b, z), {"activation": "Sigmoid", "pads": (1, 1, 1, 1)}
    yield (x, w), {"strides": (2, 2)}


@nhwc_conv.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(1, 4, 5, 2)), rng.normal(size=(4, 1, 3, 3)), rng.normal(size=4)), {"group": 2}
    yield Example((rng.normal(size=(1, 4, 5, 2)), rng.normal(size=(3, 2, 2, 2)), None), {"dilations": (2, 1)})


composed(fused_matmul, "a", "b")
composed(transpose_matmul, "a", "b")
composed(fused_matmul_activation, "a", "b")
composed(fused_gemm, "a", "b", "c")
composed(fused_conv, "x", "w", "b", "z")
composed(nhwc_fused_conv, "x", "w", "b", "z")
composed(nhwc_conv, "x", "w", "b")

OPS = (
    fused_matmul,
    transpose_matmul,
    fused_matmul_activation,
    fused_gemm,
    fused_conv,
    nhwc_fused_conv,
    nhwc_conv,
)
