"""NonMaxSuppression: of boxes that overlap, keeps the best."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._math import quiet
from graphrt.types import TensorType


@op("NonMaxSuppression", version=10, outputs="selected_indices", nondiff=True)
def non_max_suppression(
    boxes: Array, scores: Array, max_output_boxes_per_class: Array = None, iou_threshold: Array = None,
    score_threshold: Array = None, *, center_point_box: int = 0,
) -> Array:  # fmt: skip
    """Per image and class, goes through the boxes by falling score and drops those that overlap a kept one.

    boxes: float [B, N, 4], two opposite corners [y1, x1, y2, x2], or with ``center_point_box`` [x, y, width, height];
    scores: float [B, C, N]; max_output_boxes_per_class: int [] (default 0: no output); iou_threshold: float [] (0);
    score_threshold: float [] (none) -> selected_indices: int64 [K, 3], (image, class, box), images and classes in
    order, then falling scores; of equal scores the smaller index first. A box stays when its score is above
    score_threshold and its area of intersection over union with each kept box is at most iou_threshold; a box
    without area overlaps nothing. Not differentiable. Source: ONNX operator spec.
    """
    _check(boxes.shape, scores.shape)
    most = 0 if max_output_boxes_per_class is None else int(max_output_boxes_per_class.reshape(()).item())
    rows, order = _ranked(scores, score_threshold)
    alive = order >= 0
    images, threshold = rows // max(scores.shape[1], 1), _number(iou_threshold, boxes.dtype)
    corners = _corners(boxes, center_point_box)[:, images[:, None], order]  # [4, rows, N], best first
    kept = []
    for _ in range(min(most, order.shape[1])):
        has = np.flatnonzero(alive.any(axis=1))  # rows that still have a candidate
        if len(has) < len(rows):
            rows, order, alive, corners = rows[has], order[has], alive[has], corners[:, has]
        if not len(rows):
            break
        best = np.argmax(alive, axis=1)
        here = np.arange(len(rows))
        kept.append(np.stack([rows, order[here, best]]))
        alive &= ~(_overlap(corners, corners[:, here, best][..., None]) > threshold)
        alive[here, best] = False  # a box without area does not overlap even itself
    return _sorted_by_row(kept, scores.shape[1])


def _check(boxes: Any, scores: Any) -> None:
    if len(boxes) != 3 or len(scores) != 3:
        raise ValueError(f"boxes are [B, N, 4] and scores [B, C, N], not {tuple(boxes)} and {tuple(scores)}")
    for what, a, b in (("images", boxes[0], scores[0]), ("boxes", boxes[1], scores[2]), ("numbers a box", boxes[2], 4)):
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise ValueError(f"{a} and {b} {what} in boxes {tuple(boxes)} and scores {tuple(scores)}: should be equal")


def _number(x: Array | None, dtype: Any) -> Any:
    return dtype.type(0) if x is None else x.reshape(()).astype(dtype)


def _ranked(scores: Array, score_threshold: Array | None) -> tuple[Array, Array]:
    """Row numbers (image times classes plus class), and int [rows, n]: candidates by falling score, then -1."""
    flat = scores.reshape(scores.shape[0] * scores.shape[1], scores.shape[2])
    order = np.argsort(-flat, axis=1, kind="stable")
    if score_threshold is not None:
        passes = np.take_along_axis(flat, order, axis=1) > score_threshold.reshape(())
        order = np.where(passes, order, -1)[:, : int(passes.sum(axis=1).max(initial=0))]
    return np.arange(len(flat)), order


def _corners(boxes: Array, center_point_box: int) -> Array:
    """[4, B, N]: least y, least x, greatest y, greatest x."""
    a, b, c, d = np.moveaxis(boxes, -1, 0)
    with quiet():
        if center_point_box:
            width, height = c / 2, d / 2
            return np.stack([b - height, a - width, b + height, a + width])
        return np.stack([np.minimum(a, c), np.minimum(b, d), np.maximum(a, c), np.maximum(b, d)])


def _overlap(corners: Array, one: Array) -> Array:
    """Intersection over union of boxes with one box each row: [4, rows, n], [4, rows, 1] -> [rows, n]."""
    with quiet():
        height = np.minimum(corners[2], one[2]) - np.maximum(corners[0], one[0])
        width = np.minimum(corners[3], one[3]) - np.maximum(corners[1], one[1])
        common = np.maximum(height, 0) * np.maximum(width, 0)
        areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (corners, one)]
        union = areas[0] + areas[1] - common
        overlaps = (common > 0) & (areas[0] > 0) & (areas[1] > 0) & (union > 0)
        return np.where(overlaps, common / union, -1)


def _sorted_by_row(kept: list[Array], classes: int) -> Array:
    """[K, 3]: (image, class, box), by image and class and in each by the order of keeping."""
    if not kept:
        return np.zeros((0, 3), np.int64)
    rows, found = np.concatenate(kept, axis=1)
    order = np.argsort(rows, kind="stable")
    image, which = np.divmod(rows[order], classes)
    return np.stack([image, which, found[order]], axis=1).astype(np.int64)


@non_max_suppression.infer
def _(boxes: TensorType, scores: TensorType) -> TensorType:
    if boxes.shape is not None and scores.shape is not None:
        _check(boxes.shape, scores.shape)
    return TensorType("int64", (None, 3))


@non_max_suppression.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    boxes, scores = rng.uniform(0, 1, (2, 9, 4)), rng.uniform(0, 1, (2, 3, 9))
    yield (boxes, scores), {}
    yield (boxes, scores, np.array(4)), {}
    yield (boxes, scores, np.array([3]), np.array([0.3], np.float32), np.array([0.4], np.float32)), {}
    yield (boxes, scores, np.array(5), np.array(0.5, np.float32)), {"center_point_box": 1}
    yield (boxes, scores, np.array(5), None, np.array(2.0, np.float32)), {}
    yield (np.zeros((1, 0, 4)), np.zeros((1, 2, 0)), np.array(3)), {}


OPS = (non_max_suppression,)
