"""The ops this package brings: ai.onnx.ml, ai.onnx.preview.training, and what onnxruntime adds (com.microsoft)."""

from __future__ import annotations

from graphrt.plugin import OpModule

FAMILIES = {
    "ai.onnx.ml": {
        "ml_features": "ArrayFeatureExtractor Binarizer FeatureVectorizer Imputer Scaler Normalizer",
        "ml_categories": "CategoryMapper LabelEncoder-1,2,4 OneHotEncoder",
        "ml_maps": "CastMap DictVectorizer ZipMap",
        "ml_linear": "LinearRegressor LinearClassifier",
        "ml_svm": "SVMRegressor SVMClassifier",
        "ml_trees": "TreeEnsembleRegressor-1,3 TreeEnsembleClassifier-1,3 TreeEnsemble-5",
    },
    "ai.onnx.preview.training": {
        "training": "Adagrad Adam Momentum",
    },
    "com.microsoft": {
        "microsoft_activations": "Gelu QuickGelu FastGelu BiasGelu BiasSplitGelu BiasAdd BiasSoftmax",
        "microsoft_products": (
            "FusedMatMul TransposeMatMul FusedMatMulActivation FusedGemm FusedConv NhwcFusedConv NhwcConv"
        ),
        "microsoft_normalization": (
            "::LayerNormalization ::SimplifiedLayerNormalization SkipLayerNormalization "
            "SkipSimplifiedLayerNormalization EmbedLayerNormalization GroupNorm SkipGroupNorm"
        ),
        "microsoft_attention": "RotaryEmbedding Attention MultiHeadAttention GroupQueryAttention",
        "microsoft_quantized": (
            "QuantizeLinear DequantizeLinear QLinearAdd QLinearMul QLinearLeakyRelu QLinearSigmoid QLinearSoftmax "
            "QLinearWhere QLinearConcat QLinearAveragePool QLinearGlobalAveragePool QLinearReduceMean"
        ),
        "microsoft_quantized_products": (
            "MatMulIntegerToFloat DynamicQuantizeMatMul QGemm MatMulNBits GatherBlockQuantized QAttention "
            "DynamicQuantizeLSTM"
        ),
        "microsoft_arrays": (
            "Trilu GatherND GridSample SampleOp ExpandDims Range Pad Unique Inverse CDist Rfft Irfft ComplexMul "
            "ComplexMulConj CropAndResize ConvTransposeWithDynamicPads NhwcMaxPool MurmurHash3 IsAllFinite"
        ),
    },
}
"""By domain, the modules of this folder that define ops, and the names of these (see `OpModule`)."""

MODULES = tuple(
    OpModule(f"{__name__}.{module}", names, domain=domain)
    for domain, families in FAMILIES.items()
    for module, names in families.items()
)
"""The same as a plug-in registers it: each module is imported when one of its ops is first used."""
