"""The ops this package brings: ai.onnx.ml, ai.onnx.preview.training, and what onnxruntime adds (com.microsoft)."""

from __future__ import annotations

from graphrt.plugin import Op
from graphrt_onnx.ops import (
    microsoft_activations,
    microsoft_arrays,
    microsoft_attention,
    microsoft_normalization,
    microsoft_products,
    microsoft_quantized,
    microsoft_quantized_products,
    ml_categories,
    ml_features,
    ml_linear,
    ml_maps,
    ml_svm,
    ml_trees,
    training,
)

OPS: tuple[Op, ...] = (
    *ml_features.OPS,
    *ml_categories.OPS,
    *ml_maps.OPS,
    *ml_linear.OPS,
    *ml_svm.OPS,
    *ml_trees.OPS,
    *training.OPS,
    *microsoft_activations.OPS,
    *microsoft_products.OPS,
    *microsoft_normalization.OPS,
    *microsoft_attention.OPS,
    *microsoft_quantized.OPS,
    *microsoft_quantized_products.OPS,
    *microsoft_arrays.OPS,
)
