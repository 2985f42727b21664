"""Parameters, constants and running statistics are told apart."""

from __future__ import annotations

import numpy as np
import onnx.parser
from graphrt_onnx import from_onnx, to_onnx
from graphrt_onnx.parameters import FOLDED, KIND
from onnx import helper, numpy_helper

import graphrt as gr

RNG = np.random.default_rng(0)


def model(text: str, ir_version: int = 9, **weights: object) -> onnx.ModelProto:
    made = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["": 18]> g {text}')
    made.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), k) for k, a in weights.items())
    return made


def f32(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype("f")


def test_scalars_and_settings_are_constants():
    m = model(
        """(float[1,2,4,4] x) => (float[1,3,8,8] y) {
            c = Conv (x, w, b)
            p = Pow (c, two)
            s = Mul (p, half)
            k = Clip (s, low, high)
            y = Resize (k, , scales)
        }""",
        w=f32(3, 2, 1, 1), b=f32(3), two=np.float32(2), half=np.array([0.5], "f"), low=np.float32(-1),
        high=np.float32(1), scales=np.array([1, 1, 2, 2], "f"),
    )  # fmt: skip
    graph = from_onnx(m)
    assert gr.Session(graph).trainable() == ("w", "b")
    back = to_onnx(graph)
    assert back.graph.initializer == m.graph.initializer
    assert [(n.op_type, n.input) for n in back.graph.node] == [(n.op_type, n.input) for n in m.graph.node]


def test_weights_of_one_element_are_weights():
    m = model(
        "(float[n,2] x) => (float[n,1] y) { a = MatMul (x, w)  c = Add (a, b)  y = PRelu (c, s) }",
        w=f32(2, 1), b=f32(1), s=f32(1),
    )  # fmt: skip
    assert gr.Session(from_onnx(m)).trainable() == ("w", "b", "s")


def test_weights_in_constant_nodes():
    m = model("(float[n,2] x) => (float[n,3] y) { a = MatMul (x, w)  m = Mul (a, two)  y = Add (m, b) }")
    for name, a in (("w", f32(2, 3)), ("two", np.float32(2)), ("b", f32(3))):
        m.graph.node.insert(0, helper.make_node("Constant", [], [name], value=numpy_helper.from_array(a)))
    graph = from_onnx(m)
    assert set(gr.Session(graph).trainable()) == {"w", "b"}
    assert [n.op_type for n in graph.nodes] == ["Constant", "MatMul", "Mul", "Add"]


def test_constants_beside_real_weights_stay():
    m = model("(float[n,2] x) => (float[n,3] y) { d = Sub (x, mean)  y = MatMul (d, w) }", w=f32(2, 3))
    m.graph.node.insert(0, helper.make_node("Constant", [], ["mean"], value=numpy_helper.from_array(f32(2))))
    assert gr.Session(from_onnx(m)).trainable() == ("w",)


def test_a_weight_behind_a_transpose_is_a_weight():
    m = model("(float[n,2] x) => (float[n,3] y) { t = Transpose <perm=[1,0]> (w)  y = MatMul (x, t) }")
    m.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(f32(3, 2))))
    assert gr.Session(from_onnx(m)).trainable() == ("w",)


def test_weights_of_subgraphs_move_out_under_names_of_their_own():
    m = model("""(bool c, float[n,2] x) => (float[n,3] y) {
        y = If (c) <then_branch = yes () => (float[n,3] a) <float[2,3] w = {1,2,3,4,5,6}> { a = MatMul (x, w) },
                    else_branch = no () => (float[n,3] b) <float[2,3] w = {6,5,4,3,2,1}> { b = MatMul (x, w) }>
    }""")
    graph = from_onnx(m)
    session = gr.Session(graph)
    assert len(session.trainable()) == 2
    x = np.eye(2, dtype="f")
    assert session.run({"c": np.array(True), "x": x})["y"].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert session.run({"c": np.array(False), "x": x})["y"].tolist() == [[6, 5, 4], [3, 2, 1]]
    to_onnx(graph)


def test_running_statistics_are_initializers():
    m = model(
        "(float[n,2,4] x) => (float[n,2,4] y) { y = BatchNormalization (x, scale, b, mean, var) }",
        scale=f32(2), b=f32(2), mean=f32(2), var=np.ones(2, "f"),
    )  # fmt: skip
    graph = from_onnx(m)
    assert set(graph.initializers) == {"scale", "b", "mean", "var"}
    assert set(gr.Session(graph, mode="train").trainable()) == {"scale", "b"}


def test_what_the_exporter_calls_a_buffer_is_a_constant():
    m = model(
        "(float[n,2] x) => (float[n,3] y) { s = Mul (x, inv_freq)  y = MatMul (s, w) }", w=f32(2, 3), inv_freq=f32(2)
    )
    for name, kind in (("w", "PARAMETER"), ("inv_freq", "BUFFER")):
        m.graph.value_info.append(helper.make_tensor_value_info(name, 1, None))
        m.graph.value_info[-1].metadata_props.add(key=KIND, value=kind)
    assert gr.Session(from_onnx(m)).trainable() == ("w",)


def test_an_overridable_default_stays_an_input():
    m = model(
        "(float[2] x, float[2] shift) => (float[2] y) { s = Mul (x, w)  y = Add (s, shift) }", shift=f32(2), w=f32(2)
    )
    graph = from_onnx(m)
    assert graph.input_names == ("x", "shift")
    session = gr.Session(graph)
    assert session.trainable() == ("w",)
    one = {"x": np.ones(2, "f")}
    assert not np.array_equal(session.run(one)["y"], session.run({**one, "shift": np.zeros(2, "f")})["y"])


def test_masks_are_constants_and_tokens_are_weights():
    m = model(
        "(bool[n,1] c, float[n,3] x) => (float[n,3] y) { z = MatMul (x, w) a = Add (z, mask) y = Where (c, token, a) }",
        w=f32(3, 3), mask=np.array([[0, -np.inf, 0]], "f"), token=f32(3),
    )  # fmt: skip
    assert gr.Session(from_onnx(m)).trainable() == ("w", "token")


def test_a_constant_of_ones_is_a_placeholder_beside_weights_in_initializers():
    m = model(
        "(float[n,2,4] x) => (float[n,2,4] y) { one = Constant <value = float[2] {1, 1}> ()"
        "  zero = Constant <value = float[2] {0, 0}> ()  s = InstanceNormalization (x, one, zero)  y = Mul (s, w) }",
        w=f32(4),
    )
    assert gr.Session(from_onnx(m)).trainable() == ("w",)


def test_weights_written_once_because_they_were_equal_are_untied():
    m = model(
        "(float[n,2] x) => (float[n,2] y) { v = Identity (scale)  m = Identity (bias)  b = Identity (tied)"
        "  s = BatchNormalization (x, scale, bias, m, v)  t = MatMul (s, tied)  y = MatMul (t, b) }",
        scale=np.ones(2, "f"), bias=np.zeros(2, "f"), tied=f32(2, 2),
    )  # fmt: skip
    session = gr.Session(from_onnx(m), mode="train")
    assert set(session.trainable()) == {"scale", "bias", "tied"}
    assert set(session.graph.state_updates) == {"m", "v"}


def test_what_the_exporter_computed_from_nothing_is_a_constant_where_it_notes_the_kinds():
    m = model(
        "(float[n,3] x) => (float[n,3] y) { a = Mul (x, mask)  b = Add (a, rows)  y = Mul (b, w) }",
        w=f32(3), mask=f32(3), rows=f32(3),
    )  # fmt: skip
    notes = {
        "w": (KIND, "PARAMETER"),
        "mask": (FOLDED, "['arange_1', 'val_2']"),
        "rows": (FOLDED, "['arange', 'p.weight']"),
    }
    for name, (key, value) in notes.items():
        m.graph.value_info.append(helper.make_tensor_value_info(name, 1, None))
        m.graph.value_info[-1].metadata_props.add(key=key, value=value)
    assert set(gr.Session(from_onnx(m)).trainable()) == {"w", "rows"}


def test_weights_that_share_a_name_because_they_were_equal_are_separated():
    m = model(
        "(float[n,2] x) => (float[n,2] y) { a = Mul (x, ones)  b = Mul (a, w)  c = Mul (b, ones)  y = Mul (c, w) }",
        ones=np.ones(2, "f"), w=f32(2),
    )  # fmt: skip
    for name in ("ones", "w"):
        m.graph.value_info.append(helper.make_tensor_value_info(name, 1, [2]))
        m.graph.value_info[-1].metadata_props.add(key=KIND, value="PARAMETER")
    graph = from_onnx(m)
    assert gr.Session(graph).trainable() == ("ones", "w", "ones_1")
    back = to_onnx(graph)
    assert gr.Session(from_onnx(back)).trainable() == ("ones", "w", "ones_1")


def test_a_single_number_is_a_parameter_where_pytorch_names_it_as_an_attribute():
    m = model(
        "(float[n,2] x) => (float[n,2] y) { a = Mul (x, logit_scale)  b = Mul (a, w)  y = Mul (b, half) }",
        logit_scale=f32(1), half=f32(1), w=f32(2),
    )  # fmt: skip
    assert gr.Session(from_onnx(m)).trainable() == ("w",)
    m.producer_name = "pytorch"
    m.graph.initializer[1].name = m.graph.node[2].input[1] = "onnx::Mul_7"
    assert gr.Session(from_onnx(m)).trainable() == ("logit_scale", "w")
