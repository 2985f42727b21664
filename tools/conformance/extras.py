"""Cases for the (op, input) pairs that ONNX tags differentiable and that no case of its suite feeds with floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
from onnx import ModelProto

_RNG = np.random.default_rng(0)

_MODELS = {
    "GlobalLpPool.X": "(float[2,3,4,5] a) => (float[2,3,1,1] y) { y = GlobalLpPool (a) }",
    "MaxRoiPool.X": """(float[1,2,6,6] a, float[2,5] rois) => (float[2,2,2,2] y) {
        y = MaxRoiPool <pooled_shape = [2, 2], spatial_scale = 1.0> (a, rois) }""",
    "Trilu.input": "(float[3,4] a) => (float[3,4] y) { y = Trilu (a) }",
}
_ROIS = np.array([[0, 0, 0, 3, 3], [0, 1, 1, 5, 4]], np.float32)


def extra_case(pair: str) -> tuple[ModelProto, dict[str, Any]] | None:
    """A model and its inputs for one pair; None when there is none."""
    if pair not in _MODELS:
        return None
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 21]> g {_MODELS[pair]}')
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"a": _RNG.normal(size=shape).astype(np.float32), "rois": _ROIS}
    return model, {v.name: feeds[v.name] for v in model.graph.input}
