"""Values that the backward part computes again: the same bits, from nodes of its own, and no more than that."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.autodiff import reverse
from graphrt.check import check
from graphrt.errors import PassError
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.passes.mode import set_mode
from graphrt.passes.rematerialize import rematerialize
from graphrt.runtime.session import Session

F = "float64"


def again(graph, *values):
    return rematerialize(graph, get_registry(), values=values)


def gradient_graph(graph, of, wrt):
    return reverse(graph, get_registry(), [of], wrt, seed_ones=True).graph


def chain():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [4])
    for i, op in enumerate(("Exp", "Tanh", "Sin", "Sigmoid")):
        x = b.op(op, x, outputs=[f"v{i}"])
    b.output(b.ReduceSum(x, keepdims=0), "f")
    return gradient_graph(b.build(), "f", ["x"])


def ops(graph):
    return [n.op_type for n in graph.nodes]


def test_each_copy_stands_right_before_the_first_that_reads_it():
    """Sigmoid's rule reads v3, Sin's v1, Tanh's v1, Exp's v0: in this order of the backward part."""
    graph = again(chain(), "v0", "v1")
    names = [n.outputs[0] for n in graph.nodes]
    at = names.index("v1.again")
    assert names[at - 1] == "v0.again", "v1 is made of v0, which is not kept either"
    assert graph.nodes[at + 1].op_type == "Sin.vjp[input]"
    late = graph.nodes[at + 1 :]
    assert not any({"v0", "v1"} & set(n.inputs) for n in late)
    assert sum("v1.again" in n.inputs for n in late) == 2
    assert names.count("v0.again") == 1


def test_what_needs_no_change_is_the_very_graph():
    graph = chain()
    assert again(graph) is graph
    assert again(graph, "v2") is graph, "no rule reads the output of Sin"
    assert again(graph, "v3") is not graph
    b = GraphBuilder(dtype=F)
    b.output(b.Exp(b.Tanh(b.input("x", F, [4]), outputs=["h"]), outputs=["y"]), "y")
    forward = b.build()
    assert again(forward, "h") is forward


@pytest.mark.parametrize("name", ["x", "v3.ct", "nothing"])
def test_what_the_forward_part_does_not_make_cannot_be_made_again(name):
    with pytest.raises(
        PassError, match=f"rematerialize: '{name}' of graph .* no node before the backward part makes it"
    ):
        again(chain(), name)


def test_what_a_subgraph_reads_cannot_be_made_again():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [3])
    h = b.op("Exp", x, outputs=["h"])
    branches = []
    for op in ("Sin", "Cos"):
        inner = GraphBuilder(dtype=F)
        inner.output(inner.op(op, inner.op("Identity", "h")), "out")
        branches.append(inner.build())
    y = b.op("If", b.input("c", "bool", []), then_branch=branches[0], else_branch=branches[1])
    b.output(b.ReduceSum(y * h, keepdims=0), "f")
    graph = gradient_graph(b.build(), "f", ["x"])
    with pytest.raises(PassError, match=r"'h' of graph .* a subgraph reads it"):
        again(graph, "h")


def normalized_and_dropped():
    """BatchNormalization and Dropout in training, with something after them."""
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, ["n", 3])
    w = [b.parameter(n, np.full(3, v)) for n, v in (("scale", 1.5), ("bias", 0.1), ("mean", 0.0), ("var", 1.0))]
    h = b.BatchNormalization(b.op("Tanh", x, outputs=["t"]), *w, outputs=["h"])
    d, _ = b.op("Dropout", h, b.constant(np.float64(0.5)), outputs=["d", "mask"])
    b.output(b.ReduceSum(b.op("Sin", d, outputs=["s"]), keepdims=0), "f")
    graph = set_mode(b.build(), get_registry(), mode="train")
    return gradient_graph(graph, "f", ["x", "scale"])


def test_random_numbers_are_drawn_again_and_statistics_updated_once():
    graph = normalized_and_dropped()
    twice = again(graph, "t", "h", "d", "mask")
    assert ops(twice).count("BatchNormalization") == ops(twice).count("Dropout") == 2
    assert check(twice, get_registry()).ok
    x = np.random.default_rng(0).normal(2, 3, size=(20, 3))
    once, same = Session(graph, seed=4), Session(twice, seed=4)
    for _ in range(3):
        expected, found = once.run({"x": x}), same.run({"x": x})
        for name, a in expected.items():
            assert np.array_equal(a, found[name]), name
        for name, a in once.parameters.items():
            assert np.array_equal(a, same.parameters[name]), name
    assert set(twice.state_updates.values()) == set(graph.state_updates.values())


def test_nodes_with_subgraphs_run_again_as_they_ran():
    """Random numbers that a body draws are drawn again too."""
    body = GraphBuilder(dtype=F)
    body.input("i", "int64", []), body.input("c", "bool", [])
    state = body.input("s", F, [5])
    body.output(body.op("Identity", "c"), "again")
    body.output(body.Sin(state * body.RandomUniformLike(state, low=0.5)), "next")
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [5])
    y = b.op("Loop", b.constant(np.array(3)), b.constant(np.array(True)), x, body=body.build(), outputs=["y"])
    b.output(b.ReduceSum(b.Exp(b.Sin(y)), keepdims=0), "f")
    graph = gradient_graph(b.build(), "f", ["x"])
    twice = again(graph, "y")
    assert ops(twice).count("Loop") == 2
    expected, found = (Session(g, seed=7).run({"x": np.arange(5.0)}) for g in (graph, twice))
    for name, a in expected.items():
        assert np.array_equal(a, found[name]), name
