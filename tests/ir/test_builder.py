"""GraphBuilder: operators make nodes, names stay unique, graphs run."""

import numpy as np
import pytest

from graphrt.errors import GraphError
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.session import Session

A, B = np.array([1.0, -2.0, 3.0]), np.array([2.0, 0.5, -1.0])
OPERATORS = [
    (lambda a, b: a + b, np.add),
    (lambda a, b: a - b, np.subtract),
    (lambda a, b: a * b, np.multiply),
    (lambda a, b: a / b, np.divide),
    (lambda a, b: abs(a) ** b, lambda a, b: np.abs(a) ** b),
    (lambda a, b: -a + b, lambda a, b: -a + b),
    (lambda a, b: a @ b, np.matmul),
    (lambda a, b: 2 + a * 0 + b, lambda a, b: 2 + b),
    (lambda a, b: 2 - a, lambda a, b: 2 - a),
    (lambda a, b: 2 * a, lambda a, b: 2 * a),
    (lambda a, b: 2 / a, lambda a, b: 2 / a),
    (lambda a, b: 2**a, lambda a, b: 2**a),
    (lambda a, b: B @ a, lambda a, b: B @ a),
    (lambda a, b: B + a, lambda a, b: B + a),
]


@pytest.mark.parametrize("index", range(len(OPERATORS)))
def test_operators(index):
    build, expected = OPERATORS[index]
    b = GraphBuilder(dtype="float64")
    b.output(build(b.input("a", "float64", [3]), b.input("b", "float64", [3])), "y")
    graph = b.build()
    fed = {v.name: {"a": A, "b": B}[v.name] for v in graph.inputs}
    out = Session(graph).run(fed)["y"]
    np.testing.assert_allclose(out, expected(A, B), rtol=1e-14)


def test_literals_take_the_type_of_the_other_operand():
    b = GraphBuilder()
    b.output(b.input("x", "float64", []) * 0.1, "y")
    assert Session(b.build()).run({"x": 1.0})["y"].dtype == np.float64


def test_attributes_domains_and_absent_inputs():
    b = GraphBuilder()
    x = b.input("x", "float32", ["n"])
    y = b.domain("graphrt").Step(x, value_at_zero=1.0)
    b.output(b.Clip(y, None, 0.5), "z")
    graph = b.build()
    assert graph.opset_imports["graphrt"] == 1
    assert graph.nodes[-1].inputs[1] == ""
    np.testing.assert_array_equal(Session(graph).run({"x": np.float32([-1, 0, 1])})["z"], np.float32([0, 0.5, 0.5]))


def test_several_outputs():
    b = GraphBuilder()
    first, second = b.Split(b.input("x", "float32", [4]), num_outputs=2, outputs=2)
    b.output(first, "first")
    b.output(second, "second")
    out = Session(b.build()).run({"x": np.arange(4, dtype=np.float32)})
    np.testing.assert_array_equal(out["second"], [2, 3])


def test_named_outputs_are_claimed():
    b = GraphBuilder()
    x = b.input("x", "float32", [])
    b.op("Sin", x, outputs=["y"])
    with pytest.raises(GraphError, match="'y' is defined already"):
        b.op("Cos", x, outputs=["y"])
    with pytest.raises(GraphError, match="'x' is defined already"):
        b.parameter("x", 1.0)


def test_an_input_as_output_goes_through_identity():
    b = GraphBuilder()
    x = b.input("x", "float32", [])
    b.output(x, "y")
    assert b.build().nodes[0].op_type == "Identity"


def test_one_value_under_two_output_names():
    b = GraphBuilder()
    y = b.Sin(b.input("x", "float32", []))
    b.output(y, "first")
    b.output("first", "second")
    out = Session(b.build()).run({"x": 1.0})
    assert out["first"] == out["second"]


def test_values_of_another_builder_are_refused():
    x = GraphBuilder().input("x")
    with pytest.raises(GraphError, match="another builder"):
        GraphBuilder().Sin(x)


def test_misspelled_method():
    with pytest.raises(AttributeError, match="ops are written in CamelCase"):
        _ = GraphBuilder().sin


def test_extending_keeps_names_unique():
    b = GraphBuilder()
    b.output(b.Sin(b.input("x", "float64", [])), "y")
    more = GraphBuilder.extending(b.build())
    more.output(more.Sin("y"), "z")
    out = Session(more.build()).run({"x": 1.0})
    assert list(out) == ["z"]
    assert float(out["z"]) == np.sin(np.sin(1.0))


def test_state_updates():
    b = GraphBuilder()
    x = b.input("x", "float32", [])
    total = b.parameter("total", np.float32(0)) + x
    b.output(total, "now")
    b.update("total", "now")
    session = Session(b.build())
    assert [float(session.run({"x": 2.0})["now"]) for _ in range(3)] == [2, 4, 6]
