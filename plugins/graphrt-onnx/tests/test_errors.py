"""Bad models: a ConversionError that names file, node and reason, and nothing half-written."""

from __future__ import annotations

import os

import numpy as np
import onnx
import onnx.parser
import pytest
from graphrt_onnx import from_onnx, load, save, to_onnx
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import graphrt as gr
from graphrt.errors import ConversionError, SaveError
from graphrt.ir import Graph, Node, Value
from graphrt.types import TensorType

F2 = TensorType("float32", (2,))


def parsed(body: str, head: str = "(float[2] x) => (float[2] y)") -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 18]> g {head} {{ {body} }}')


def with_weight(**fields: object) -> onnx.ModelProto:
    m = parsed("y = Add (x, w)")
    m.graph.initializer.append(TensorProto(name="w", data_type=1, **fields))
    return m


def twice(m: onnx.ModelProto) -> onnx.ModelProto:
    m.graph.initializer.append(m.graph.initializer[0])
    return m


def sparse(dims: list[int], index: int) -> onnx.ModelProto:
    m = parsed("y = Add (x, w)")
    values, indices = helper.make_tensor("w", 1, [1], [1.0]), helper.make_tensor("i", 7, [1], [index])
    m.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, dims))
    return m


RECURSIVE = onnx.parser.parse_model("""
    <ir_version: 9, opset_import: ["": 18, "f": 1]> g (float[2] x) => (float[2] y) { y = f.A (x) }
    <domain: "f", opset_import: ["f": 1]> A (x) => (y) { y = f.A (x) }""")
SHADOW = parsed(
    """
    a = Neg (x)
    y = If (c) <then_branch = t () => (float[2] r) { a = Add (x, x)  r = Neg (a) },
                else_branch = e () => (float[2] s) { s = Neg (x) }>""",
    "(bool c, float[2] x) => (float[2] y)",
)

BAD = {
    "cycle": (parsed("a = Add (x, b)  b = Neg (a)  y = Neg (b)"), r"cycle: 'a' -> 'b' -> 'a'"),
    "itself": (parsed("y = Add (x, y)"), r"cycle: 'y' -> 'y'"),
    "undefined": (parsed("y = Add (x, z)"), r"node 'y' \(Add\) reads 'z', which nothing produces"),
    "no output": (parsed("z = Neg (x)"), "the output 'y' is produced by nothing"),
    "twice": (parsed("y = Neg (x)  y = Abs (x)"), r"node 'y' \(Abs\): the value 'y' is defined already"),
    "shadow": (SHADOW, r"node 'y' \(If\): attribute 'then_branch': subgraph 't' defines 'a' again"),
    "recursion": (RECURSIVE, "functions call themselves: f::A"),
    "short weight": (with_weight(dims=[2], raw_data=b"\0" * 7), "initializer 'w': .* takes 8 bytes, the tensor has 7"),
    "few numbers": (with_weight(dims=[2], float_data=[1.0]), "initializer 'w': .* has 2 numbers, the tensor has 1"),
    "huge": (with_weight(dims=[1 << 40, 1 << 20], raw_data=b""), "takes 4611686018427387904 bytes, the tensor has 0"),
    "negative": (with_weight(dims=[-1], raw_data=b""), r"\[-1\] is not a shape"),
    "two weights": (twice(with_weight(dims=[2], raw_data=b"\0" * 8)), "initializer 'w': it is defined twice"),
    "sparse bomb": (sparse([1 << 20, 1 << 20], 0), "too large to be made dense"),
    "sparse index": (sparse([2], 2), "an index lies outside"),
    "empty": (onnx.ModelProto(), "no graph or no ir_version"),
    "in memory": (with_weight(dims=[2], data_location=1), "external file '', and a model in memory has no folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_model(name, tmp_path):
    model, reason = BAD[name]
    with pytest.raises(ConversionError, match=reason):
        from_onnx(model)
    if name != "in memory":
        path = tmp_path / "bad.onnx"
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ConversionError, match=f"bad.onnx: .*{reason}|{reason}"):
            gr.load(path)


def external(tmp_path, **entries: str):
    m = with_weight(dims=[2], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        m.graph.initializer[0].external_data.add(key=key, value=value)
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "m.onnx").write_bytes(m.SerializeToString())
    (tmp_path / "secret").write_bytes(b"\0" * 64)
    (folder / "short").write_bytes(b"\0" * 7)
    (folder / "good").write_bytes(np.array([0, 3, 4], "f").tobytes())
    os.symlink(tmp_path / "secret", folder / "link")
    os.symlink(tmp_path, folder / "up")
    return folder / "m.onnx"


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"location": "../secret"}, "'../secret' is not a relative path within"),
        ({"location": "a/../../secret"}, "is not a relative path within"),
        ({"location": "..\\secret"}, "is not a relative path within"),
        ({"location": "/etc/passwd"}, "'/etc/passwd' is not a relative path within"),
        ({"location": "C:\\secret"}, "is not a relative path within"),
        ({"location": "a\0b"}, "is not a relative path within"),
        ({}, "'' is not a relative path within"),
        ({"location": "link"}, "leads out of the model's folder by a link"),
        ({"location": "up/secret"}, "leads out of the model's folder by a link"),
        ({"location": "missing"}, "'missing' cannot be read: No such file"),
        ({"location": "short"}, "'short' is too short: it has 7 bytes, 8 are needed from byte 0"),
        ({"location": "good", "offset": "8"}, "too short: it has 12 bytes, 8 are needed from byte 8"),
        ({"location": "good", "offset": "-4"}, "offset '-4' is not a whole number"),
        ({"location": "good", "offset": "9" * 30}, "is not a whole number"),
        ({"location": "good", "length": "4"}, "length says 4 bytes, type and shape need 8"),
        ({"location": "."}, "is not a regular file"),
    ],
)
def test_external_data_stays_inside(tmp_path, entries, reason):
    with pytest.raises(ConversionError, match=f"m.onnx: initializer 'w': .*{reason}"):
        load(external(tmp_path, **entries))


def test_external_offset(tmp_path):
    assert load(external(tmp_path, location="good", offset="4", length="8")).initializers["w"].tolist() == [3, 4]


def graph_of(*nodes: Node, opset: int = 20) -> Graph:
    return Graph("g", {"": opset, "graphrt": 1, "x.y": 1}, (Value("x", F2),), (Value("y", F2),), nodes)


UNSAID = {
    "derived": (
        graph_of(Node("Tanh.vjp[x]", ("x", "x"), ("y",))),
        r"node 'y' \(Tanh.vjp\[x\]\): it computes a derivative",
    ),
    "unknown domain": (
        graph_of(Node("Odd", ("x",), ("y",), {}, "x.y")),
        r"has no op 'x.y::Odd' .* custom_domains=\['x.y'\]",
    ),
    "no body": (
        graph_of(Node("Like", ("x",), ("y",), {}, "graphrt")),
        r"no function body is known.*custom_domains=\['graphrt'\]",
    ),
    "old opset": (
        graph_of(Node("Step", ("x",), ("y",), {}, "graphrt"), opset=13),
        "needs opset 18, the graph imports 13",
    ),
    "untyped": (
        Graph("g", {"": 20}, (Value("x"),), (Value("y"),), (Node("Neg", ("x",), ("y",)),)),
        "the input 'x' has the type",
    ),
    "invalid": (graph_of(Node("Neg", ("x", "x"), ("y",))), "ONNX's checker refuses the model: .*Neg"),
}


@pytest.mark.parametrize("name", UNSAID)
def test_what_onnx_cannot_say(name, tmp_path):
    graph, reason = UNSAID[name]
    path = tmp_path / "y.onnx"
    path.write_bytes(b"good before")
    with pytest.raises(ConversionError, match=reason):
        to_onnx(graph)
    with pytest.raises(ConversionError, match=reason):
        gr.save(graph, path)
    assert [p.name for p in tmp_path.iterdir()] == ["y.onnx"] and path.read_bytes() == b"good before"


def test_custom_domains_are_allowed_on_request():
    graph = UNSAID["unknown domain"][0]
    assert to_onnx(graph, custom_domains=["x.y"]).graph.node[0].domain == "x.y"


def test_nowhere_to_write(tmp_path):
    with pytest.raises(SaveError, match="choose a writable folder"):
        save(graph_of(Node("Neg", ("x",), ("y",))), tmp_path / "missing" / "m.onnx")


def test_not_onnx_at_all(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x89PNG not a model")
    with pytest.raises(ConversionError, match=r"m\.onnx: not an ONNX model"):
        load(path)
    with pytest.raises(ConversionError, match="cannot be read: No such file"):
        load(tmp_path / "missing.onnx")


def seed_model() -> bytes:
    m = SHADOW.__class__()
    m.CopyFrom(SHADOW)
    m.graph.node[1].attribute[0].g.node[0].output[0] = m.graph.node[1].attribute[0].g.node[1].input[0] = "inner"
    m.graph.initializer.append(numpy_helper.from_array(np.arange(6, dtype="f").reshape(2, 3), "w"))
    return m.SerializeToString()


SEED = seed_model()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutated_bytes_load_or_raise(data):
    mutated = bytearray(SEED)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(mutated) - 1))
        kind = data.draw(st.sampled_from(["set", "cut", "insert"]))
        if kind == "set":
            mutated[at] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del mutated[at : at + data.draw(st.integers(1, 8))]
        else:
            mutated[at:at] = data.draw(st.binary(min_size=1, max_size=4))
        if not mutated:
            break
    model = onnx.ModelProto()
    try:
        model.ParseFromString(bytes(mutated))
    except Exception:
        return
    try:
        graph = from_onnx(model)
        to_onnx(graph)
    except ConversionError:
        pass
