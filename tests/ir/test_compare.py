"""Differences between graphs are found and named."""

import numpy as np
import pytest

from graphrt.ir.compare import same_graph
from graphrt.ir.graph import Graph, Node, Value
from graphrt.types import TensorType

W = np.array([0.0, np.nan], np.float32)
BODY = Graph("body", initializers={"c": W})
BASE = Graph(
    "g",
    inputs=(Value("x"),),
    nodes=(Node("Op", ("x",), ("y",), {"i": 1, "f": 0.0, "t": W, "g": BODY, "l": (1, 2)}),),
    initializers={"w": W, "v": W},
    metadata={"a": "b"},
)


def with_attribute(key, value):
    node = BASE.nodes[0]
    return BASE.replace(nodes=(Node(node.op_type, node.inputs, node.outputs, {**node.attributes, key: value}),))


def test_equal_graphs_have_no_differences():
    copy = BASE.replace(initializers={k: v.copy() for k, v in BASE.initializers.items()})
    assert same_graph(BASE, copy) == []
    assert same_graph(BASE, BASE.replace(initializers={k: v.astype(">f4") for k, v in BASE.initializers.items()})) == []


@pytest.mark.parametrize(
    ("other", "difference"),
    [
        (BASE.replace(name="h"), "name: 'g' became 'h'"),
        (BASE.replace(inputs=(Value("x", TensorType("int8")),)), "inputs: (x: ?[...]) became (x: int8[...])"),
        (BASE.replace(metadata={}), "metadata 'a': b is gone"),
        (BASE.replace(metadata={"a": "b", "c": "d"}), "metadata 'c': d is new"),
        (BASE.replace(metadata={"a": "c"}), "metadata 'a': b became c"),
        (BASE.replace(nodes=()), "nodes: 1 became 0"),
        (BASE.replace(nodes=(Node("Op", ("z",), ("y",), BASE.nodes[0].attributes),)), "node 0 (y) inputs: ('x',) be"),
        (BASE.replace(initializers={"v": W, "w": W}), "initializers: their order changed"),
        (BASE.replace(initializers={"w": W}), "initializer 'v' is gone"),
        (BASE.replace(initializers={"w": W, "v": W, "u": W}), "initializer 'u' is new"),
        (BASE.replace(initializers={"w": W, "v": W + 1}), "initializer 'v': 1 of 2 elements changed"),
        (BASE.replace(initializers={"w": W, "v": -W * 0}), "initializer 'v': "),
        (BASE.replace(initializers={"w": W, "v": W[:1]}), "initializer 'v': float32[2] became float32[1]"),
        (with_attribute("i", 1.0), "node 0 (y) attribute 'i': 1 became 1.0"),
        (with_attribute("f", -0.0), "node 0 (y) attribute 'f': 0.0 became -0.0"),
        (with_attribute("n", 1), "node 0 (y) attribute 'n' is new"),
        (with_attribute("l", (1, 3)), "node 0 (y) attribute 'l'[1]: 2 became 3"),
        (with_attribute("t", W[:0]), "node 0 (y) attribute 't': float32[2] became float32[0]"),
        (with_attribute("g", BODY.replace(name="b")), "node 0 (y) attribute 'g': name: 'body' became 'b'"),
    ],
)
def test_a_difference_is_named(other, difference):
    (line,) = same_graph(BASE, other)
    assert line.startswith(difference)
    assert same_graph(other, BASE)
