"""The corners of differentiation: leaves that are outputs, values used twice, paths that end, rules that miss."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.autodiff import forward, reverse
from graphrt.errors import InputError, NotDifferentiableError
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.op import op
from graphrt.registry import Registry
from graphrt.runtime.session import Session
from graphrt.types import TensorType

F = "float64"
X = np.array([1.0, -2.0, 3.0])


def build(function, **inputs):
    """A session of a function of a builder and inputs x: float64 [3] (or as given)."""
    b = GraphBuilder(dtype=F)
    values = [b.input(k, F, shape) for k, shape in (inputs or {"x": [3]}).items()]
    b.output(function(b, *values), "f")
    return Session(b.build())


def total(b, x):
    return b.ReduceSum(x, keepdims=0)


def test_one_node_that_reads_a_value_twice():
    session = build(lambda b, x: total(b, x * x))
    np.testing.assert_array_equal(session.value_and_grad({"x": X}, wrt=["x"])[1]["x"], 2 * X)
    np.testing.assert_array_equal(session.jvp({"x": X}, {"x": X})[1]["f"], 2 * X @ X)
    np.testing.assert_array_equal(session.hvp({"x": X}, {"x": X})[1]["x"], 2 * X)


def test_many_users_of_one_value():
    session = build(lambda b, x: total(b, b.Sum(x, x, x * 2.0, b.Identity(x))))
    assert session.value_and_grad({"x": X}, wrt=["x"])[1]["x"].tolist() == [5, 5, 5]


def test_gradients_of_what_the_value_does_not_depend_on_are_zeros():
    b = GraphBuilder(dtype=F)
    x, _ = b.input("x", F, [3]), b.input("unused", "float32", [2, 0])
    b.parameter("w", np.ones((2, 2), np.float32))
    dead = b.Sin(b.value("w"))
    b.output(total(b, b.Cos(x) * b.ReduceSum(b.Cast(b.Greater(x, 0.0), to=11), keepdims=0)), "f")
    b.output(dead, "g")
    session = Session(b.build())
    _, g = session.value_and_grad({"x": X, "unused": np.zeros((2, 0), np.float32)}, of="f", wrt=["w", "unused", "x"])
    assert (g["w"].shape, g["w"].dtype, g["w"].any()) == ((2, 2), np.float32, False)
    assert (g["unused"].shape, g["unused"].dtype) == ((2, 0), np.float32)
    assert list(g) == ["w", "unused", "x"]
    tangent = session.jvp({"x": X, "unused": np.zeros((2, 0), np.float32)}, {"w": np.ones((2, 2))}, of=["f"])[1]
    assert tangent["f"] == 0


def test_an_output_that_is_an_input():
    graph = Graph(inputs=(Value("x", TensorType(F, ())),), outputs=(Value("x"), Value("x")))
    session = Session(graph)
    assert session.run({"x": 2.0}) == {"x": 2}
    value, g = session.value_and_grad({"x": 2.0}, of="x", wrt=["x"])
    assert (value, g["x"]) == (2, 1)
    outputs, tangents = session.jvp({"x": 2.0}, {"x": 5.0})
    assert (outputs["x"], tangents["x"]) == (2, 5)
    assert session.vjp({"x": 2.0}, wrt=["x"])[1]({"x": 7.0})["x"] == 7
    assert session.jacobian({"x": 2.0}, of="x") == 1
    assert session.hvp({"x": 2.0}, {"x": 1.0}, of="x")[1]["x"] == 0


def test_an_output_that_is_a_parameter_and_no_inputs():
    graph = Graph(outputs=(Value("w"),), initializers={"w": np.arange(2.0)})
    session = Session(graph)
    assert session.run()["w"].tolist() == [0, 1]
    np.testing.assert_array_equal(session.jacobian(wrt="w"), np.eye(2))
    assert session.trainable() == ("w",)


def test_the_empty_graph():
    session = Session(Graph())
    assert session.run() == {}
    assert session.vjp(wrt=[])[1]({}) == {}
    with pytest.raises(InputError, match=r"name of=: the graph has the outputs none"):
        session.value_and_grad()


def overridable():
    """f = sum(tanh(w x)), where w is an input with a default."""
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, [3]), b.input("w", F, [3])
    b.output(total(b, b.Tanh(w * x)), "f")
    return b.build(initializers={"w": np.full(3, 0.5)})


@pytest.mark.parametrize("fed", [{}, {"w": np.array([0.1, 0.2, 0.3])}])
def test_a_parameter_that_is_also_an_input(fed):
    session, w = Session(overridable()), fed.get("w", np.full(3, 0.5))
    expected = X * (1 - np.tanh(w * X) ** 2)
    at = {"x": X, **fed}
    np.testing.assert_allclose(session.value_and_grad(at, wrt=["w"])[1]["w"], expected)
    back = session.vjp(at, wrt=["w", "x"])[1]({"f": 1.0})
    np.testing.assert_allclose(back["w"], expected)
    np.testing.assert_allclose(back["x"], w * (1 - np.tanh(w * X) ** 2))
    np.testing.assert_allclose(session.jvp(at, {"w": X})[1]["f"], expected @ X)
    np.testing.assert_allclose(session.jacobian(at, wrt="w", mode="forward"), expected)
    assert session.trainable() == ()


def test_of_may_be_an_inner_value():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [])
    inner = b.op("Sin", x, name="inner")
    b.output(b.Exp(inner), "f")
    session = Session(b.build())
    assert session.value_and_grad({"x": 0.5}, of="inner", wrt=["x"])[1]["x"] == np.cos(0.5)
    with pytest.raises(InputError, match="cannot differentiate 'nothing': the graph has no such value; outputs: f"):
        session.value_and_grad({"x": 0.5}, of="nothing", wrt=["x"])


def test_what_cannot_be_differentiated_is_said_before_anything_runs():
    b = GraphBuilder(dtype=F)
    x, n = b.input("x", F, []), b.input("n", "int64", [])
    b.output(x * 2.0, "f")
    b.output(n + 1, "m")
    session = Session(b.build())
    at = {"x": 1.0, "n": 1}
    with pytest.raises(InputError, match="through 'n': its values are int64"):
        session.value_and_grad(at, of="f", wrt=["n"])
    with pytest.raises(InputError, match=r"through 'm'.*only floats have derivatives"):
        session.value_and_grad(at, of="m", wrt=["x"])
    with pytest.raises(InputError, match=r"with respect to 'y': it is no input or initializer.*there are: n, x"):
        session.value_and_grad(at, of="f", wrt=["y"])
    with pytest.raises(InputError, match=r"'f' has shape \[2\]; a gradient is of one number: use vjp"):
        build(lambda b, x: x * 2.0, x=[2]).value_and_grad({"x": np.ones(2)}, wrt=["x"])
    with pytest.raises(InputError, match=r"the value 'x' has shape \[\], its tangent \[2\]"):
        session.jvp(at, {"x": np.ones(2)}, of=["f"])
    with pytest.raises(InputError, match=r"no output is named 'g'; there are: f"):
        session.vjp(at, wrt=["x"], of=["f"])[1]({"g": 1.0})


@op("Opaque", domain="test", elementwise=True)
def opaque(x, y=None):
    return x * 1.0 if y is None else x * y


@opaque.derivative("y")
def _(x):
    return x


def with_opaque():
    registry = Registry.of(ops=[*get_registry().table("ops").values(), opaque])
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, []), b.parameter("w", np.float64(3.0))
    before = b.Sin(x)
    b.output(b.op("Opaque", before, w, domain="test", name="strange"), "f")
    return Session(b.build(), registry=registry)


def test_a_missing_rule_is_an_error_only_on_the_way():
    session = with_opaque()
    assert session.value_and_grad({"x": 1.0})[1]["w"] == np.sin(1.0)
    for wanted in (lambda: session.value_and_grad({"x": 1.0}, wrt=["x"]), lambda: session.jvp({"x": 1.0}, {"x": 1.0})):
        with pytest.raises(
            NotDifferentiableError, match=r"op test::Opaque .*no derivative rule for input 'x'"
        ) as caught:
            wanted()
        assert "plug-in given" in str(caught.value)
        assert "> " in str(caught.value)
        assert "f = test::Opaque(sin, w)" in str(caught.value)


def test_joint_graphs_are_graphs_that_print_and_name_each_derivative():
    graph = build(lambda b, x: total(b, b.Tanh(x) * x)).graph
    joint = reverse(graph, get_registry(), ["f"], ["x"], seed_ones=True)
    assert joint.graph.text() == reverse(graph, get_registry(), ["f"], ["x"], seed_ones=True).graph.text()
    kinds = [n.op_type for n in joint.graph.nodes]
    assert {"Tanh.vjp[input]", "Mul.vjp[a]", "ReduceSum.vjp[data]"} <= set(kinds)
    assert joint.graph.output_names == ("f", joint.gradients["x"])
    assert joint.reached == {"x"}
    assert set(joint.cotangents) >= {"x", "f"}
    along = forward(graph, get_registry(), ["f"], ["x"])
    assert "Tanh.jvp[input]" in [n.op_type for n in along.graph.nodes]
    assert along.graph.input_names == ("x", along.seeds["x"])


def test_only_nodes_between_variable_and_output_get_derivatives():
    b = GraphBuilder(dtype=F)
    x, z = b.input("x", F, []), b.input("z", F, [])
    before, after = b.Exp(z), b.Sin(x)
    b.Cos(after)
    b.output(after * before, "f")
    joint = reverse(b.build(), get_registry(), ["f"], ["x"], seed_ones=True, keep_outputs=False)
    kinds = {n.op_type for n in joint.graph.nodes}
    assert "Sin.vjp[input]" in kinds
    assert not kinds & {"Exp.vjp[input]", "Cos", "Cos.vjp[input]"}


def test_long_chains_differentiate():
    n = 30_000
    names = ["x", *(f"v{i}" for i in range(n))]
    nodes = [Node("Sin", (names[i],), (names[i + 1],)) for i in range(n)]
    scalar = TensorType(F, ())
    session = Session(Graph(inputs=(Value("x", scalar),), outputs=(Value(names[-1], scalar),), nodes=nodes))
    value, g = session.value_and_grad({"x": 0.3}, wrt=["x"])
    v, slope = np.float64(0.3), 1.0
    for _ in range(n):
        v, slope = np.sin(v), slope * np.cos(v)
    assert (value, g["x"]) == (v, pytest.approx(slope, rel=1e-9))
    assert slope > 1e-6
