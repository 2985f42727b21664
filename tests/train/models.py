"""Small models and data sets that the training tests share."""

from __future__ import annotations

import itertools

import numpy as np

from graphrt.ir import Graph
from graphrt.ir.builder import GraphBuilder
from graphrt.train import Dataset
from graphrt.train.initializers import glorot_uniform


def linear(inputs: int = 3, outputs: int = 1, dtype: str = "float64", seed: int = 0) -> Graph:
    """scores = x @ w + b."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("linear", dtype=dtype)
    x = b.input("x", dtype, ["batch", inputs])
    w = b.parameter("w", glorot_uniform(rng, (inputs, outputs), dtype))
    b.output(x @ w + b.parameter("b", np.zeros(outputs, dtype)), "scores")
    return b.build()


def mlp(sizes: tuple[int, ...] = (4, 8, 3), dtype: str = "float32", seed: int = 0, dropout: float = 0.0) -> Graph:
    """Dense layers with tanh between them, and dropout after each tanh."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("mlp", dtype=dtype)
    h = b.input("x", dtype, ["batch", sizes[0]])
    for i, (n, m) in enumerate(itertools.pairwise(sizes)):
        h = h @ b.parameter(f"layer{i}.w", glorot_uniform(rng, (n, m), dtype)) + b.parameter(
            f"layer{i}.b", np.zeros(m, dtype)
        )
        if i < len(sizes) - 2:
            h = b.Tanh(h)
            h = b.Dropout(h, b.constant(dropout, dtype)) if dropout else h
    b.output(h, "scores")
    return b.build()


def blobs(n: int = 90, classes: int = 3, width: int = 4, seed: int = 0, dtype: str = "float32") -> Dataset:
    """Points around as many centers as there are classes."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(classes, width)) * 1.5
    label = np.arange(n) % classes
    x = centers[label] + rng.normal(size=(n, width))
    return Dataset({"x": x.astype(dtype), "label": label})
