"""Graphs that were frozen for one example take any number."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest
from graphrt_onnx import from_onnx

import graphrt as gr
from graphrt.errors import InputError, PassError
from graphrt.manager import get_registry
from graphrt.passes.dynamic_batch import dynamic_batch, with_dynamic_batch

RNG = np.random.default_rng(0)


def graph_of(body: str, **weights: np.ndarray) -> gr.Graph:
    m = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]> g {body}')
    m.graph.initializer.extend(onnx.numpy_helper.from_array(a, k) for k, a in weights.items())
    return from_onnx(m)


def shape(*dims: int) -> np.ndarray:
    return np.array(dims, np.int64)


def f32(*dims: int) -> np.ndarray:
    return RNG.normal(size=dims).astype("f")


def test_reshapes_follow_the_batch():
    graph = graph_of(
        """(float[1,4,6] x) => (float[1,8] y) {
            a = Reshape (x, s1)   b = MatMul (a, w)   c = Reshape (b, s2)
            d = Reshape (c, s3)   y = MatMul (d, v)
        }""",
        s1=shape(4, 6), w=f32(6, 5), s2=shape(1, 4, 5), s3=shape(1, -1), v=f32(20, 8),
    )  # fmt: skip
    made = with_dynamic_batch(graph, get_registry(), name="n")
    assert not made.obstacles and len(made.rewritten) == 3
    assert [str(v) for v in (*made.graph.inputs, *made.graph.outputs)] == ["x: float32[n, 4, 6]", "y: float32[n, 8]"]
    x = f32(3, 4, 6)
    one = [gr.Session(graph).run({"x": x[i : i + 1]})["y"] for i in range(3)]
    np.testing.assert_allclose(gr.Session(made.graph).run({"x": x})["y"], np.concatenate(one), rtol=1e-5)


@pytest.mark.parametrize(
    ("body", "weights", "reason"),
    [
        ("y = Reshape (x, s)", {"s": shape(2, 3)}, r"target \[2, 3\] is fixed|leading dimension stays"),
        ("y = Concat <axis = 1> (x, token)", {"token": f32(1, 2)}, "'token' has the leading dimension 1: expand it"),
        ("y = ReduceSum (x, s)", {"s": shape(0)}, "its leading dimension stays 1 whatever the batch"),
    ],
)  # fmt: skip
def test_obstacles_are_named(body, weights, reason):
    graph = graph_of(f"(float[1,6] x) => (float[1,?] y) {{ {body} }}", **weights)
    if "Reshape" in body:
        graph = graph_of("(float[1,6] x) => (float[2,3] y) { z = Add (x, x) y = Reshape (z, s) }", s=shape(2, 3))
        made = with_dynamic_batch(graph, get_registry())
        assert gr.Session(made.graph).run({"x": f32(2, 6)})["y"].shape == (4, 3)
        return
    with pytest.raises(PassError, match=reason):
        dynamic_batch(graph, get_registry())


def test_nothing_to_free():
    graph = graph_of("(float[n,6] x) => (float[n,6] y) { y = Neg (x) }")
    with pytest.raises(InputError, match="no input has the leading dimension 1; the inputs are: x"):
        dynamic_batch(graph, get_registry())
