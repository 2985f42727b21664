"""What goes in comes out: names, opsets, metadata, bits of the weights."""

from __future__ import annotations

import mmap

import ml_dtypes
import numpy as np
import onnx
import onnx.parser
import pytest
from graphrt_onnx import from_onnx, load, save, to_onnx
from graphrt_onnx.tensors import array_of, tensor_of
from graphrt_onnx.value_types import ONNX_DTYPE, type_from_onnx, type_to_onnx
from onnx import TensorProto, helper, numpy_helper

import graphrt as gr
from graphrt.ir import Graph, Node, Value
from graphrt.ir.compare import same_graph
from graphrt.types import DTYPES, MapType, OptionalType, SequenceType, TensorType, numpy_dtype

RNG = np.random.default_rng(0)


def mlp() -> onnx.ModelProto:
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 19, "com.microsoft": 1], producer_name: "maker", producer_version: "3",
         domain: "org.example", model_version: 7, doc_string: "a model",
         metadata_props: ["author": "me", "onnx.x": "y"]>
        mlp (float[batch, 4] x) => (float[batch, 2] y) <float[batch, 3] h> {
            h = Gemm (x, w1, b1)
            a = Relu (h)
            y = MatMul (a, w2)
        }""")
    for name, shape in (("w1", (4, 3)), ("b1", (3,)), ("w2", (3, 2))):
        model.graph.initializer.append(numpy_helper.from_array(RNG.normal(size=shape).astype("f"), name))
    model.graph.doc_string = "a graph"
    for node in model.graph.node:
        node.name, node.doc_string = f"layer/{node.op_type}", f"about {node.op_type}"
    model.graph.node[0].metadata_props.add(key="k", value="v")
    model.graph.input[0].doc_string = "features"
    return model


def texts(model):
    return [(n.name, n.doc_string, {e.key: e.value for e in n.metadata_props}) for n in model.graph.node]


def test_names_opsets_texts_and_bits_survive():
    model = mlp()
    back = to_onnx(from_onnx(model))
    for field in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        assert getattr(back, field) == getattr(model, field)
    assert {e.key: e.value for e in back.metadata_props} == {"author": "me", "onnx.x": "y"}
    assert {e.domain: e.version for e in back.opset_import} == {"": 19, "com.microsoft": 1}
    assert (back.graph.name, back.graph.doc_string) == ("mlp", "a graph")
    assert texts(back) == texts(model)
    assert back.graph.input == model.graph.input and back.graph.output == model.graph.output
    assert back.graph.value_info == model.graph.value_info
    assert [(t.name, t.raw_data) for t in back.graph.initializer] == [
        (t.name, t.raw_data) for t in model.graph.initializer
    ]


def test_through_files_and_our_own_format(tmp_path):
    path = tmp_path / "a.onnx"
    onnx.save(mlp(), path)
    graph = gr.load(path)
    gr.save(graph, tmp_path / "b.grt")
    gr.save(gr.load(tmp_path / "b.grt"), tmp_path / "c.onnx")
    assert same_graph(graph, gr.load(tmp_path / "c.onnx")) == []
    x = RNG.normal(size=(5, 4)).astype("f")
    np.testing.assert_array_equal(gr.Session(graph).run({"x": x})["y"].shape, (5, 2))


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "string"])
def test_every_element_type_keeps_its_bits(dtype):
    d = numpy_dtype(dtype)
    array = (
        RNG.integers(0, 2, 7).astype(bool) if dtype == "bool" else RNG.integers(0, 255, 7).astype(np.uint8).astype(d)
    )
    if DTYPES[dtype].kind in "fiu":
        array = RNG.integers(0, 2, 7).astype(np.float32).astype(d)
    tensor = tensor_of(array, "t")
    assert numpy_helper.to_array(tensor).tobytes() == array.tobytes()
    assert array_of(tensor, None).tobytes() == array.tobytes()
    assert array_of(tensor, None).dtype == d
    if dtype not in ("float8e8m0",):
        fields = helper.make_tensor("t", ONNX_DTYPE[dtype], [7], array.tolist())
        assert array_of(fields, None).astype(np.complex128).tolist() == array.astype(np.complex128).tolist()


def test_packed_types_keep_their_signs():
    a = np.array([-8, 7, -1, 0, 3]).astype(ml_dtypes.int4)
    assert array_of(tensor_of(a), None).tolist() == a.tolist()
    assert array_of(numpy_helper.from_array(a), None).tolist() == a.tolist()


def test_strings_survive():
    a = np.array([["a", "ü"], ["", "日本"]], object)
    assert array_of(tensor_of(a), None).tolist() == a.tolist()


@pytest.mark.parametrize(
    "t",
    [
        TensorType("float32", ("n", 3, None)), TensorType("int4", ()), TensorType("string"),
        SequenceType(TensorType("bfloat16", (2,))), OptionalType(SequenceType(TensorType("bool", ()))),
        MapType("int64", TensorType("float32", ())), MapType("string", TensorType("float8e5m2", None)),
    ],
    ids=str,
)  # fmt: skip
def test_value_types_survive(t):
    assert type_from_onnx(type_to_onnx(t)) == t


def test_sparse_becomes_dense():
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [5.0, 7.0])
    sparse = helper.make_sparse_tensor(values, helper.make_tensor("i", TensorProto.INT64, [2], [1, 5]), [2, 3])
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [helper.make_tensor_value_info("x", 1, [1, 2])],
        [helper.make_tensor_value_info("y", 1, [1, 3])], sparse_initializer=[sparse],
    )  # fmt: skip
    found = from_onnx(helper.make_model(graph))
    assert found.initializers["w"].tolist() == [[0, 5, 0], [0, 0, 7]]


def test_subgraphs_capture_and_survive():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18]> g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <then_branch = yes () => (float[2] a) { a = Add (x, x) },
                        else_branch = no () => (float[2] b) { b = Neg (x) }>
        }""")
    graph = from_onnx(model)
    assert graph.nodes[0].attributes["then_branch"].captured() == ("x",)
    session = gr.Session(graph)
    x = np.array([1, 2], "f")
    assert session.run({"c": np.array(True), "x": x})["y"].tolist() == [2, 4]
    assert session.run({"c": np.array(False), "x": x})["y"].tolist() == [-1, -2]
    assert [a.g.name for a in to_onnx(graph).graph.node[0].attribute] == ["yes", "no"]


def test_model_functions_are_expanded():
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["": 18, "f": 1]> g (float[2] x) => (float[2] y) {
            t = f.Twice (x)
            y = f.Scale <by = 3.0> (t)
        }
        <domain: "f", opset_import: ["": 18, "f": 1]> Twice (x) => (y) { t = Add (x, x)  y = Identity (t) }
        <domain: "f", opset_import: ["": 18]> Scale <by> (x) => (y) {
            t = Constant <value_float: float = @by> ()
            y = Mul (x, t)
        }""")
    graph = from_onnx(model)
    assert {n.domain for n in graph.nodes} == {""}
    assert gr.Session(graph).run({"x": np.array([1, 2], "f")})["y"].tolist() == [6, 12]


def test_input_listed_weights_are_weights_and_listed_again():
    model = mlp()
    model.ir_version = 3
    model.graph.input.extend(helper.make_tensor_value_info(t.name, 1, t.dims) for t in model.graph.initializer)
    graph = from_onnx(model)
    assert graph.input_names == ("x",)
    assert gr.Session(graph).trainable() == ("w1", "b1", "w2")
    back = to_onnx(graph)
    assert [v.name for v in back.graph.input] == ["x", "w1", "b1", "w2"] and back.ir_version == 3


def test_external_data(tmp_path):
    shapes = {"w1": (4, 300), "b1": (300,), "w2": (300, 2)}
    weights = {k: RNG.normal(size=s).astype("f") for k, s in shapes.items()}
    graph = from_onnx(mlp()).replace(initializers=weights, value_info={})
    save(graph, tmp_path / "m.onnx", external_data=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    assert same_graph(graph, load(tmp_path / "m.onnx")) == []
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    assert (
        numpy_helper.to_array(onnx.load(tmp_path / "m.onnx").graph.initializer[0]).tobytes()
        == graph.initializers["w1"].tobytes()
    )


def test_large_external_data_is_mapped(tmp_path):
    w = RNG.normal(size=(1 << 10, 1 << 9)).astype("f")
    x, y = (Value(k, TensorType("float32", (1, n))) for k, n in (("x", 1 << 10), ("y", 1 << 9)))
    graph = Graph("g", {"": 18}, (x,), (y,), (Node("MatMul", ("x", "w"), ("y",)),), {"w": w})
    save(graph, tmp_path / "m.onnx", external_data=True)
    found = load(tmp_path / "m.onnx").initializers["w"]
    base = found
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap)
    np.testing.assert_array_equal(found, w)


def test_graphrt_ops_become_functions_and_come_back():
    x = TensorType("float32", ("n", 6))
    graph = Graph(
        "g", {"": 20, "graphrt": 1}, (Value("x", x), Value("t", TensorType("float32", ("n", 3)))), (Value("loss"),),
        (Node("Maxout", ("x",), ("m",), {"pieces": 2}, "graphrt"), Node("Huber", ("m", "t"), ("loss",), {}, "graphrt")),
    )  # fmt: skip
    model = to_onnx(graph)
    assert sorted(f.name for f in model.functions) == ["Huber", "Maxout"]
    assert [n.op_type for n in from_onnx(model).nodes] == ["Maxout", "Huber"]
    feeds = {"x": RNG.normal(size=(4, 6)).astype("f"), "t": np.zeros((4, 3), "f")}
    ort = pytest.importorskip("onnxruntime")
    got = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
    np.testing.assert_allclose(got, gr.Session(graph).run(feeds)["loss"], rtol=1e-5)


def test_unknown_ops_open():
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["": 18, "com.example": 2]> g (float[2] x) => (float[2] y) {
            y = com.example.Mystery <n = 3> (x)
        }""")
    graph = from_onnx(model)
    assert graph.nodes[0].qualified_op == "com.example::Mystery"
    assert to_onnx(graph).graph.node == model.graph.node


def test_nodes_in_any_order_are_sorted_on_export():
    model = mlp()
    nodes = list(reversed(model.graph.node))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    assert [n.op_type for n in to_onnx(from_onnx(model)).graph.node] == ["Gemm", "Relu", "MatMul"]
