"""The built-in ops, one file per family; value and derivative rules side by side."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from graphrt.op import Op

FAMILIES = (
    "activations",
    "arithmetic",
    "arrange",
    "attention",
    "axis_normalization",
    "batch_normalization",
    "batched_scan",
    "casts",
    "causal_conv",
    "control",
    "conv_transpose",
    "convolution",
    "cumulative",
    "deform_conv",
    "detection",
    "dropout",
    "einsum",
    "elementary",
    "extrema",
    "gated",
    "gemm",
    "generators",
    "global_pooling",
    "grid_sample",
    "group_normalization",
    "identity",
    "image",
    "image_files",
    "indexing",
    "joining",
    "legacy",
    "linalg",
    "linear_attention",
    "logic",
    "losses",
    "ngrams",
    "normalization",
    "optionals",
    "padding",
    "piecewise",
    "pointwise_losses",
    "pooling",
    "quantization",
    "quantized_products",
    "ranking",
    "rectifiers",
    "recurrent",
    "reduction",
    "reduction_norms",
    "regions",
    "resize",
    "rotary",
    "rounding",
    "sampling",
    "scatter",
    "selection",
    "sequence_joining",
    "sequence_map",
    "sequences",
    "shape",
    "signal",
    "slicing",
    "softmax",
    "spectral_weights",
    "squeezing",
    "strings",
    "unique",
)
"""The modules of this folder that define ops, each in its tuple ``OPS``."""


def builtin_ops() -> Iterator[Op]:
    """Every built-in op, every version."""
    for family in FAMILIES:
        yield from importlib.import_module(f"graphrt.ops.{family}").OPS
