"""Modes: what switches, what stays the very same graph, and that subgraphs switch too."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.errors import InputError, PassError
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.passes.mode import MODES, set_mode
from graphrt.runtime.session import Session
from graphrt.types import TensorType

F = "float64"


def switched(graph, mode):
    return set_mode(graph, get_registry(), mode=mode)


def normalized():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, ["n", 3])
    mean, var = b.parameter("mean", np.zeros(3)), b.parameter("var", np.ones(3))
    h = b.BatchNormalization(x, b.parameter("scale", np.ones(3)), b.parameter("bias", np.zeros(3)), mean, var)
    b.output(b.Dropout(h, 0.5), "y")
    return b.build()


def test_each_mode_is_settled_after_one_pass():
    inferring, x = switched(normalized(), "infer"), {"x": np.ones((4, 3))}
    assert switched(inferring, "infer") is inferring
    once = switched(normalized(), "train")
    twice = switched(once, "train")
    assert twice.state_updates == once.state_updates
    np.testing.assert_array_equal(Session(twice, seed=5).run(x)["y"], Session(once, seed=5).run(x)["y"])
    back = switched(once, "infer")
    assert not back.state_updates
    np.testing.assert_array_equal(Session(back).run(x)["y"], Session(inferring).run(x)["y"])


def test_running_statistics_are_updated_in_training_only():
    x = np.random.default_rng(0).normal(3, 2, size=(50, 3))
    trained, inferred = Session(normalized(), "train"), Session(normalized(), "infer")
    for session in (trained, inferred):
        session.run({"x": x})
    np.testing.assert_allclose(trained.parameters["mean"], 0.1 * x.mean(0))
    assert not inferred.parameters["mean"].any()
    assert switched(normalized(), "train").state_updates.keys() == {"mean", "var"}
    assert not switched(normalized(), "infer").state_updates
    assert trained.trainable() == ("scale", "bias")


def test_a_graph_without_modes_is_returned_as_it_is():
    b = GraphBuilder(dtype=F)
    b.output(b.Sin(b.input("x", F, [2])), "y")
    graph = b.build()
    for mode in MODES:
        assert switched(graph, mode) is graph
        assert Session(graph, mode).graph is graph


def test_subgraphs_switch_too():
    body = Graph("body", nodes=(Node("Dropout", ("x",), ("t",)),), outputs=(Value("t"),))
    plain = Graph("plain", nodes=(Node("Sin", ("x",), ("s",)),), outputs=(Value("s"),))
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [100])
    b.output(b.If(b.constant(np.array(True)), then_branch=body, else_branch=plain), "y")
    graph = b.build()
    assert switched(graph, "infer") is graph
    trained = switched(graph, "train")
    then = next(n for n in trained.nodes if n.op_type == "If").attributes
    assert then["else_branch"] is plain
    assert set(Session(graph, "train").run({"x": np.ones(100)})["y"]) == {0, 2}
    assert set(Session(trained, "infer").run({"x": np.ones(100)})["y"]) == {1}
    del x


def test_unknown_and_broken_nodes_stay():
    x = Value("x", TensorType(F, (2,)))
    for node in (
        Node("Drpout", ("x",), ("y",)),
        Node("Dropout", (), ("y",)),
        Node("BatchNormalization", ("x", "x"), ("y",)),
    ):
        graph = Graph(inputs=(x,), nodes=(node,), outputs=(Value("y"),))
        assert switched(graph, "train") is graph


def test_a_node_that_cannot_be_switched_is_shown():
    node = Node("Dropout", ("x",), ("y",), {"ratio": "half"})
    graph = Graph(opset_imports={"": 7}, inputs=(Value("x"),), nodes=(node,), outputs=(Value("y"),))
    with pytest.raises(
        PassError, match=r"(?s)set_mode: node 'y' has no train mode: .*>    0  y = Dropout\(x, ratio='half'\)"
    ):
        switched(graph, "train")


def test_there_are_two_modes():
    with pytest.raises(InputError, match="mode is 'infer' or 'train', not 'eval'"):
        switched(normalized(), "eval")
