"""The built-in kernels, one file per family. Each does what the op's own function does, faster, where it serves.

A kernel is made for one node when its plan is made (`graphrt.definitions.Kernel`): shapes, dtypes and attributes are
known then, so the function that runs decides nothing. Every kernel is tested against its op's own function. A family is
imported when a plan first has one of its ops.
"""

from __future__ import annotations

from graphrt.definitions import KernelModule

FAMILIES = {
    "attention": "Attention",
    "conv_transpose": "ConvTranspose",
    "convolution": "Conv",
    "elementwise": "Add Sub Mul Div Neg Abs Reciprocal Sqrt Exp Log Sin Cos Tanh Relu Sigmoid Erf Gelu",
    "instance_normalization": "InstanceNormalization",
    "joining": "Concat Gather",
    "layer_normalization": "LayerNormalization RMSNormalization",
    "losses": "SoftmaxCrossEntropyLoss",
    "matmul": "MatMul",
    "normalization": "BatchNormalization",
    "optimizers": "graphrt.optim::SGD graphrt.optim::Adam graphrt.optim::AdamW graphrt::FusedUpdates",
    "pointwise": "Clip HardSigmoid HardSwish Swish LeakyRelu Pow Where graphrt::OnesLike",
    "pooling": "MaxPool AveragePool GlobalAveragePool",
    "products": "Gemm",
    "recurrent": "LSTM GRU RNN",
    "reduction": "ReduceSum ReduceMean graphrt::SumOfSquares",
    "resize": "Resize Upsample",
    "scalars": (
        "graphrt::FusedScalars Abs Acos Acosh Add Asin Asinh Atan Atanh Clip Cos Cosh Div Erf Exp Gelu HardSigmoid "
        "HardSwish LeakyRelu Log Max Min Mul Neg Pow Reciprocal Relu Sigmoid Sin Sinh Softplus Sqrt Sub Sum Swish Tan "
        "Tanh"
    ),
    "softmax": "Softmax LogSoftmax",
    "views": "Reshape Flatten Squeeze Unsqueeze Transpose Split",
}
"""The modules of this folder that define kernels, each in its tuple ``KERNELS``, and the ops these are for."""


def builtin_kernels() -> tuple[KernelModule, ...]:
    """Every built-in kernel."""
    return tuple(KernelModule(f"{__name__}.{family}", ops) for family, ops in FAMILIES.items())
