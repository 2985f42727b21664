"""Observers see every node with its own inputs and outputs, and the guard names the first bad one."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.errors import NonFiniteError
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.observers import FiniteGuard, Recorder
from graphrt.runtime.session import Session
from graphrt.types import TensorType

F = "float64"


def build(function, *names):
    b = GraphBuilder(dtype=F)
    b.output(function(b, *(b.input(n, F, ["n"]) for n in names)), "f")
    return b.build()


def test_recorder_keeps_every_value_under_its_name():
    recorder = Recorder()
    graph = build(lambda b, x: b.Sin(x) * b.Cos(x), "x")
    out = Session(graph, observers=[recorder]).run({"x": np.array([0.5])})
    assert recorder.values["x"] == 0.5
    assert recorder.values["sin"] == np.sin(0.5)
    assert recorder.values["f"] == out["f"]
    assert [n.op_type for n in recorder.nodes] == ["Sin", "Cos", "Mul"]


def test_values_captured_by_subgraphs_are_not_taken_for_inputs():
    recorder = Recorder()
    body = Graph(nodes=(Node("Mul", ("x", "y"), ("p",)),), outputs=(Value("p"),))
    b = GraphBuilder(dtype=F)
    for name in ("x", "y"):
        b.input(name, F, [1])
    cond = b.input("cond", "bool", [])
    b.output(b.If(cond, then_branch=body, else_branch=body), "f")
    at = {"x": np.array([2.0]), "y": np.array([3.0]), "cond": True}
    assert Session(b.build(), observers=[recorder]).run(at)["f"] == 6
    assert recorder.values["cond"].dtype == bool
    assert recorder.values["p"] == 6, "observers see into subgraphs"


def test_random_nodes_show_their_inputs():
    recorder = Recorder()
    session = Session(build(lambda b, x: b.RandomNormalLike(x), "x"), observers=[recorder])
    session.run({"x": np.array([7.0])})
    assert recorder.values["x"] == 7


BAD = {
    "log of a negative": (lambda b, x: b.Exp(b.Log(x) * 2.0), -1.0, "'log'", "nan"),
    "division by zero": (lambda b, x: b.Sin(b.Neg(1.0 / x)), 0.0, "'div'", "inf"),
    "overflow": (lambda b, x: b.Exp(x * 500.0) - b.Exp(x * 500.0), 2.0, "'exp'", "inf"),
}


@pytest.mark.parametrize("case", BAD)
def test_the_guard_names_the_first_node_that_made_it(case):
    function, at, node, value = BAD[case]
    session = Session(build(function, "x"), observers=[FiniteGuard()])
    x = np.array([0.5, at, 0.5])
    with pytest.raises(NonFiniteError, match=rf"node {node} made -?{value} at \[1\] of {node} \(1 of 3 elements\)"):
        session.run({"x": x})
    session.run({"x": np.full(3, 0.5)})


def test_the_guard_shows_where_the_inputs_lay():
    session = Session(build(lambda b, x: b.Log(x), "x"), observers=[FiniteGuard()])
    with pytest.raises(NonFiniteError, match=r"from x in \[-2, 4\]:\n  f = Log\(x\)"):
        session.run({"x": np.array([-2.0, 4.0])})


def test_the_guard_with_inputs_that_are_no_floats():
    b = GraphBuilder(dtype=F)
    cond, x = b.input("cond", "bool", [2]), b.input("x", F, [2])
    b.output(b.Where(cond, x, b.constant(np.full(2, np.nan))), "f")
    session = Session(b.build(), observers=[FiniteGuard()])
    with pytest.raises(NonFiniteError, match=r"from cond \(bool\[2\]\), x in \[1, 1\]"):
        session.run({"cond": [True, False], "x": np.ones(2)})


def test_infinities_may_be_allowed():
    session = Session(build(lambda b, x: 1.0 / x, "x"), observers=[FiniteGuard(allow_infinite=True)])
    assert session.run({"x": np.zeros(1)})["f"] == np.inf
    with pytest.raises(NonFiniteError, match="made nan"):
        session.run({"x": np.array([np.nan])})


def test_the_guard_sees_backward_and_into_subgraphs():
    session = Session(build(lambda b, x: b.ReduceSum(b.Sqrt(x), keepdims=0), "x"), observers=[FiniteGuard()])
    with pytest.raises(NonFiniteError, match=r"(?s)made inf .*Sqrt.vjp\[") as caught:
        session.value_and_grad({"x": np.zeros(2)}, wrt=["x"])
    assert "Sqrt.vjp" in str(caught.value)
    body = Graph(nodes=(Node("Log", ("x",), ("bad",)),), outputs=(Value("bad"),))
    b = GraphBuilder(dtype=F)
    b.input("x", F, [1])
    b.output(b.If(b.constant(np.array(True)), then_branch=body, else_branch=body), "f")
    with pytest.raises(NonFiniteError, match="node 'bad' made nan"):
        Session(b.build(), observers=[FiniteGuard()]).run({"x": np.array([-1.0])})


def test_what_an_observer_raises_ends_the_run_as_it_is():
    class Stop(Exception):
        pass

    class Stopping:
        def on_node(self, node, inputs, outputs):
            raise Stop(node.op_type)

    graph = Graph(inputs=(Value("x", TensorType(F, ())),), outputs=(Value("y"),), nodes=(Node("Sin", ("x",), ("y",)),))
    with pytest.raises(Stop, match="Sin"):
        Session(graph, observers=[Stopping()]).run({"x": 1.0})
