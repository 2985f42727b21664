"""Kernels that numba compiles: chains of elementwise ops in one loop each, normalizations, optimizers, pooling, ..."""

from __future__ import annotations

from collections.abc import Iterable

from graphrt.plugin import KernelModule, hookimpl

MODULES = {
    "products": "Gemm MatMul",
    "windows": "Conv MaxPool AveragePool",
    "halving": "MaxPool",
    "convolution": "Conv",
    "lines": "Conv",
    "patches": "Conv",
    "batch_normalization": "BatchNormalization",
    "elementwise": (
        "graphrt::Fused Abs Add Clip Div Erf Exp Gelu HardSigmoid HardSwish LeakyRelu Log Max Min Mul Neg Reciprocal "
        "Relu Sigmoid Softplus Sqrt Sub Sum Swish Tanh"
    ),
    "rearrangements": "graphrt::Fused",
    "attention": "Attention",
    "normalization": "LayerNormalization RMSNormalization",
    "reductions": ("Add Sub Gemm LayerNormalization ReduceSum ReduceMean graphrt::SumOfSquares graphrt::OnesLike"),
    "softmax": "Softmax LogSoftmax SoftmaxCrossEntropyLoss",
    "recurrent": "LSTM GRU",
    "scalars": "graphrt::FusedScalars",
    "optimizers": "graphrt.optim::SGD graphrt.optim::Adam graphrt.optim::AdamW graphrt::FusedUpdates",
}
"""The modules that define kernels, each in its tuple ``KERNELS``, and the ops these are for."""


@hookimpl
def graphrt_register_kernels() -> Iterable[KernelModule]:
    """The modules of this package; none of them imports numba before there is something to compile."""
    return [KernelModule(f"graphrt_numba.{module}", ops) for module, ops in MODULES.items()]
