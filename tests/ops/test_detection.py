"""NonMaxSuppression against a box-by-box loop, and SwiGLU."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops.detection import non_max_suppression
from graphrt.ops.gated import swiglu
from graphrt.types import TensorType


def area_of_overlap(a, b):
    """Intersection over union of two boxes [y1, x1, y2, x2]."""
    (ay, ax, ay2, ax2), (by, bx, by2, bx2) = ((*np.minimum(p[:2], p[2:]), *np.maximum(p[:2], p[2:])) for p in (a, b))
    height, width = min(ay2, by2) - max(ay, by), min(ax2, bx2) - max(ax, bx)
    if height <= 0 or width <= 0:
        return 0
    return height * width / ((ay2 - ay) * (ax2 - ax) + (by2 - by) * (bx2 - bx) - height * width)


def by_loops(boxes, scores, most, iou, low):
    found = []
    for b, c in np.ndindex(scores.shape[:2]):
        kept = []
        for i in sorted(range(boxes.shape[1]), key=lambda i: (-scores[b, c, i], i)):
            free = all(area_of_overlap(boxes[b, i], boxes[b, j]) <= iou for j in kept)
            if free and len(kept) < most and scores[b, c, i] > low:
                kept.append(i)
        found += [[b, c, i] for i in kept]
    return found


@pytest.mark.parametrize("seed", range(12))
def test_agrees_with_loops(seed):
    rng = np.random.default_rng(seed)
    boxes, scores = rng.uniform(0, 1, (2, 15, 4)), rng.uniform(0, 1, (2, 3, 15))
    if seed % 3 == 0:  # ties, equal boxes, boxes without area
        boxes, scores = np.round(boxes * 3) / 3, np.round(scores * 4) / 4
    most, iou, low = seed, (0.0, 0.3, 0.5, 1.0)[seed % 4], 0.2
    found = non_max_suppression(boxes, scores, *map(np.array, (most, iou, low)))
    assert found.dtype == np.int64
    assert found.shape == (len(found), 3)
    assert found.tolist() == by_loops(boxes, scores, most, iou, low)


def test_an_overlap_equal_to_the_threshold_is_kept():
    boxes = np.array([[[0, 0, 1, 2], [0, 1, 1, 3]]], np.float32)  # intersection 1, union 3
    scores, most = np.array([[[0.5, 0.9]]], np.float32), np.array(2)
    third = np.float32(1) / np.float32(3)
    assert len(non_max_suppression(boxes, scores, most, np.array(third))) == 2
    assert non_max_suppression(boxes, scores, most, np.array(third - np.float32(1e-6))).tolist() == [[0, 0, 1]]


def test_boxes_by_their_centers():
    corners = np.random.default_rng(0).uniform(0, 1, (1, 9, 4))
    low, high = np.minimum(corners[..., :2], corners[..., 2:]), np.maximum(corners[..., :2], corners[..., 2:])
    (y, x), (height, width) = (np.moveaxis(a, -1, 0) for a in ((low + high) / 2, high - low))
    scores = np.random.default_rng(1).uniform(0, 1, (1, 2, 9))
    given = np.array(9), np.array(0.3)
    centers = np.stack([x, y, width, height], -1)
    np.testing.assert_array_equal(
        non_max_suppression(centers, scores, *given, center_point_box=1), non_max_suppression(corners, scores, *given)
    )


def test_defaults():
    boxes, scores = np.array([[[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]], float), np.array([[[-1.0, -2.0, -3.0]]])
    assert non_max_suppression(boxes, scores).shape == (0, 3)
    assert non_max_suppression(boxes, scores, np.array(9)).tolist() == [[0, 0, 0], [0, 0, 2]]


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="5 and 6 boxes in boxes"):
        non_max_suppression(np.zeros((1, 5, 4)), np.zeros((1, 2, 6)))
    with pytest.raises(TypeInferenceError, match="2 and 1 images"):
        non_max_suppression.infer_types([TensorType("float32", (2, 5, 4)), TensorType("float32", (1, 1, 5))], {})


def test_swiglu_at_extremes():
    a, b = np.array([1e4, -1e4, 0, 2.0]), np.array([2.0, 2.0, 5.0, -3.0])
    sigmoid = 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(swiglu(a, b), [2e4, 0, 0, -6 * sigmoid], atol=1e-300)
    slope = swiglu.derived("vjp[a]").function(np.ones(4), a, b, np.zeros(4), alpha=1.0)
    np.testing.assert_allclose(slope, [2, 0, 2.5, -3 * (sigmoid + 2 * sigmoid * (1 - sigmoid))], atol=1e-300)
