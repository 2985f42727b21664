"""The built-in ops, one file per family; value and derivative rules side by side.

A family is imported when a graph first uses one of its ops.
"""

from __future__ import annotations

from graphrt.op import OpModule

FAMILIES = {
    "activations": "Sigmoid-6 Tanh-6 Softplus Softsign Swish-24 Mish-18 Gelu-20",
    "arithmetic": "Add-7 Sub-7 Mul-7 Div-7 Neg-6 Abs-6 Reciprocal-6 Mod-10 Pow-7",
    "arrange": "Transpose Tile-6 Trilu-14 DepthToSpace SpaceToDepth ReverseSequence-10",
    "attention": "Attention-23",
    "axis_normalization": "LpNormalization MeanVarianceNormalization-9",
    "batch_normalization": "BatchNormalization-6,7,14",
    "batched_scan": "Scan-8",
    "casts": "Cast-6,19,24 CastLike-15,19,24 BitCast-26",
    "causal_conv": "CausalConvWithState-27",
    "control": "If Loop Scan-9",
    "conv_transpose": "ConvTranspose",
    "convolution": "Conv",
    "cumulative": "CumSum-11 CumProd-26",
    "deform_conv": "DeformConv-19",
    "detection": "NonMaxSuppression-10",
    "dropout": "Dropout-6,7,10,12 graphrt::Dropout",
    "einsum": "Einsum-12",
    "elementary": (
        "Exp-6 Log-6 Sqrt-6 Sin-7 Cos-7 Tan-7 Asin-7 Acos-7 Atan-7 Sinh-9 Cosh-9 Asinh-9 Acosh-9 Atanh-9 Erf-9"
    ),
    "extrema": "Max-6,8 Min-6,8 Sum-6,8 Mean-6,8",
    "fused": "graphrt::Fused graphrt::FusedScalars graphrt::FusedUpdates",
    "gated": "SwiGLU-28",
    "gemm": "Gemm-1,7",
    "generators": "Constant ConstantOfShape-9 Range-11 EyeLike-9 OneHot-9,11",
    "global_pooling": "GlobalAveragePool GlobalMaxPool GlobalLpPool-2 MaxUnpool-9",
    "grid_sample": "GridSample-16 AffineGrid-20",
    "group_normalization": "GroupNormalization-18,21 InstanceNormalization",
    "identity": "Identity graphrt::ZerosLike graphrt::OnesLike graphrt::Like Shape Size",
    "image": "Col2Im-18 CenterCropPad-18 MaxRoiPool",
    "image_files": "ImageDecoder-20",
    "indexing": "Gather GatherElements-11 GatherND-11",
    "joining": "Concat-4 Split-2,13,18",
    "legacy": "Add-6 Sub-6 Mul-6 Div-6 Pow Equal Greater Less And Or Xor",
    "linalg": "MatMul MatMulInteger-10 Det-11",
    "linear_attention": "LinearAttention-27",
    "logic": (
        "Equal-7 Greater-7 GreaterOrEqual-12 Less-7 LessOrEqual-12 And-7 Or-7 Xor-7 Not IsNaN-9 IsInf-10 "
        "BitwiseAnd-18 BitwiseOr-18 BitwiseXor-18 BitwiseNot-18 BitShift-11"
    ),
    "losses": "SoftmaxCrossEntropyLoss-12 NegativeLogLikelihoodLoss-12",
    "ngrams": "TfIdfVectorizer-9",
    "normalization": "LayerNormalization-17 RMSNormalization-23 LRN",
    "optionals": "Optional-15 OptionalGetElement-15 OptionalHasElement-15 graphrt::Accumulate",
    "padding": "Pad-2,11",
    "piecewise": (
        "graphrt::Step graphrt::GeneralizedRelu graphrt::PiecewiseLinear graphrt::LearnedPiecewiseLinear "
        "graphrt::Maxout"
    ),
    "pointwise_losses": (
        "graphrt::BinaryCrossEntropy graphrt::BinaryCrossEntropyWithLogits graphrt::MeanSquaredError "
        "graphrt::MeanAbsoluteError graphrt::Huber graphrt::Hinge"
    ),
    "pooling": "MaxPool AveragePool LpPool-2",
    "quantization": "QuantizeLinear-10,13,19,21,23 DequantizeLinear-10,13,21,23 DynamicQuantizeLinear-11",
    "quantized_products": "ConvInteger-10 QLinearConv-10 QLinearMatMul-10",
    "ranking": "ArgMax ArgMin TopK-1,10",
    "rectifiers": (
        "Relu-6 LeakyRelu-6 PRelu-6,7 ThresholdedRelu-10 Shrink-9 Elu-6 Selu-6 Celu-12 HardSigmoid-6 HardSwish-14"
    ),
    "recurrent": "RNN GRU-3 LSTM",
    "reduction": "ReduceSum-1,13 ReduceMean-1,18 ReduceMax-1,18 ReduceMin-1,18 ReduceProd-1,18",
    "reduction_norms": (
        "ReduceL1-1,18 ReduceL2-1,18 ReduceSumSquare-1,18 ReduceLogSum-1,18 ReduceLogSumExp-1,18 graphrt::SumOfSquares"
    ),
    "regions": "RoiAlign-10,16",
    "resize": "Resize-10,11 Upsample-1,7,9",
    "rotary": "RotaryEmbedding-23",
    "rounding": "Sign-9 Floor-6 Ceil-6 Round-11",
    "sampling": "RandomNormal RandomUniform RandomNormalLike RandomUniformLike Bernoulli-15 Multinomial-7",
    "scatter": "ScatterElements-11,16 Scatter-9 ScatterND-11,16 TensorScatter-24",
    "selection": "Clip-6,11 Where-9",
    "sequence_joining": "ConcatFromSequence-11 SplitToSequence-11",
    "sequence_map": "SequenceMap-17",
    "sequences": (
        "SequenceConstruct-11 SequenceEmpty-11 SequenceInsert-11 SequenceErase-11 SequenceAt-11 SequenceLength-11"
    ),
    "shape": "Reshape-5 Flatten Expand-8",
    "signal": "DFT-17,20 STFT-17",
    "slicing": "Slice-1,10 Compress-9",
    "softmax": "Softmax-1,13 LogSoftmax-1,13 Hardmax-1,13",
    "spectral_weights": "HannWindow-17 HammingWindow-17 BlackmanWindow-17 MelWeightMatrix-17",
    "squeezing": "Squeeze-1,13 Unsqueeze-1,13",
    "strings": "StringConcat-20 StringSplit-20 StringNormalizer-10 RegexFullMatch-20",
    "unique": "NonZero-9 Unique-11",
}
"""The modules of this folder that define ops, each in its tuple ``OPS``, and the names of these (see `OpModule`)."""


def builtin_ops() -> tuple[OpModule, ...]:
    """Every built-in op, every version."""
    return tuple(OpModule(f"graphrt.ops.{family}", names) for family, names in FAMILIES.items())
