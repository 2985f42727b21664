"""Pictures of what a model has learned; needs matplotlib (``pip install 'graphrt[plot]'``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from graphrt.errors import InputError
from graphrt.ir import Graph
from graphrt.op import Array
from graphrt.runtime.session import Session
from graphrt.types import TensorType, numpy_dtype


def decision_boundary(
    graph: Graph, points: Array, labels: Array, path: str | Path, *, resolution: int = 200, title: str = ""
) -> Array:
    """Draws the regions into which a classifier divides the plane, with the labeled points on top.

    Args:
        graph: one float input ``[batch, 2]``; one output ``[batch, classes]`` of scores, or ``[batch, 1]`` or
            ``[batch]`` of a probability (class 1 from 0.5) or a signed score when it leaves [0, 1].
        points: float [n, 2].
        labels: int [n].
        path: the picture to write; its suffix says the format (``.png``, ``.svg``, ``.pdf``).
        resolution: cells along each side.
        title: above the picture.

    Returns:
        int [resolution, resolution]; the class of each cell, rows from low to high second coordinate.

    Raises:
        InputError: the graph does not classify points of a plane, or matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as e:
        raise InputError("pictures need matplotlib: pip install 'graphrt[plot]'") from e
    low, high = points.min(0), points.max(0)
    margin = 0.1 * (high - low)
    xs, ys = (np.linspace(a, b, resolution) for a, b in zip(low - margin, high + margin, strict=True))
    grid = np.stack(np.meshgrid(xs, ys), axis=-1)
    regions = classify(graph, grid.reshape(-1, 2)).reshape(resolution, resolution)
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    classes = int(max(regions.max(), labels.max())) + 1
    levels = np.arange(classes + 1) - 0.5
    axes.contourf(xs, ys, regions, levels=levels, cmap="Pastel1", vmin=-0.5, vmax=8.5)
    for c in range(classes - 1):
        axes.contour(xs, ys, regions == c, levels=[0.5], colors="black", linewidths=0.5)
    first, second = points.T
    axes.scatter(first, second, c=labels, cmap="Set1", vmin=-0.5, vmax=8.5, s=12, edgecolors="black", linewidths=0.3)
    axes.set_title(title or graph.name)
    figure.savefig(path)
    return regions


def classify(graph: Graph, points: Array) -> Array:
    """The class a classifier gives to each point; see `decision_boundary` for the graph.

    Args:
        graph: the classifier.
        points: float [n, 2].

    Returns:
        int [n].
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise InputError("a decision boundary needs a graph with one input and one output")
    declared: Any = graph.inputs[0].type
    dtype = declared.dtype if isinstance(declared, TensorType) and declared.dtype else "float32"
    out = Session(graph, "infer").run({graph.input_names[0]: points.astype(numpy_dtype(dtype))})
    scores = np.asarray(next(iter(out.values())))
    if scores.ndim == 2 and scores.shape[1] > 1:
        return np.argmax(scores, axis=1)
    scores = scores.reshape(len(points))
    threshold = 0.5 if scores.min() >= 0 and scores.max() <= 1 else 0.0
    return (scores > threshold).astype(np.int64)
