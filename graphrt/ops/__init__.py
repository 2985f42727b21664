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
    "casts",
    "causal_conv",
    "control",
    "convolution",
    "cumulative",
    "deform_conv",
    "dropout",
    "einsum",
    "elementary",
    "extrema",
    "gemm",
    "generators",
    "global_pooling",
    "grid_sample",
    "group_normalization",
    "identity",
    "image",
    "indexing",
    "joining",
    "legacy",
    "linalg",
    "linear_attention",
    "logic",
    "losses",
    "normalization",
    "padding",
    "piecewise",
    "pointwise_losses",
    "pooling",
    "ranking",
    "rectifiers",
    "reduction",
    "reduction_norms",
    "regions",
    "resize",
    "rotary",
    "rounding",
    "sampling",
    "scatter",
    "selection",
    "shape",
    "slicing",
    "softmax",
    "squeezing",
    "unique",
)
"""The modules of this folder that define ops, each in its tuple ``OPS``."""


def builtin_ops() -> Iterator[Op]:
    """Every built-in op, every version."""
    for family in FAMILIES:
        yield from importlib.import_module(f"graphrt.ops.{family}").OPS
