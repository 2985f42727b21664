"""Gradients of random graphs whose backward part computes values again: the same bits, within the limit of memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrt.autodiff import reverse
from graphrt.errors import InputError
from graphrt.ir import Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.passes.rematerialize import backward_part, rematerialize
from graphrt.runtime.footprint import footprint
from graphrt.runtime.session import Session

from .graphs import WRT, drawn_graphs


@given(drawn_graphs(), st.data())
@settings(max_examples=60, deadline=None)
def test_any_values_of_random_graphs_may_be_computed_again(drawn, data):
    graph = reverse(drawn.graph, get_registry(), ["f"], WRT, seed_ones=True).graph
    late = backward_part(graph.nodes)
    early = [o for i, n in enumerate(graph.nodes) if i not in late for o in n.outputs if o]
    values = data.draw(st.lists(st.sampled_from(early), unique=True))
    changed = rematerialize(graph, get_registry(), values=values)
    assert 0 <= len(changed.nodes) - len(graph.nodes) <= len(values)
    after = backward_part(changed.nodes)
    assert not {i for k in after for i in changed.nodes[k].inputs} & set(values)
    copies = {o for n in changed.nodes for o in n.outputs} - graph.names()
    pairs = {v: f"{v}.again" for v in values if f"{v}.again" in copies}
    outputs = (*graph.output_names, *pairs)
    expected = Session(graph.replace(outputs=tuple(map(Value, outputs)))).run(drawn.at)
    found = Session(changed.replace(outputs=tuple(map(Value, (*outputs, *pairs.values()))))).run(drawn.at)
    for name, a in expected.items():
        assert np.array_equal(a, found[name]), name
        assert np.array_equal(a, found[pairs.get(name, name)]), name


def test_contributions_to_a_gradient_are_added_as_they_come():
    """So a weight that is used often does not take the memory of as many gradients."""
    b = GraphBuilder(dtype="float32")
    x, w = b.input("x", "float32", [2, 64]), b.parameter("w", np.eye(64, dtype="float32"))
    for _ in range(20):
        x = b.MatMul(x, w)
    b.output(b.ReduceSum(x, keepdims=0), "f")
    session = Session(b.build())
    _, gradient = session.value_and_grad({"x": np.ones((2, 64), "float32")}, wrt=["w"])
    assert np.all(gradient["w"] == 40)
    assert footprint(session.last_plan).peak < 5 * gradient["w"].nbytes


@st.composite
def networks(draw):
    """Deep graphs of values of one size, with skips: a scalar function of x [8, 16] and the parameter w [16, 16]."""
    b = GraphBuilder(dtype="float64")
    values = [b.input("x", "float64", [8, 16])]
    w = b.parameter("w", np.random.default_rng(0).normal(size=(16, 16)) / 4)
    for _ in range(draw(st.integers(10, 40))):
        kind = draw(st.sampled_from(["Tanh", "Sin", "Softplus", "Mul", "Add", "MatMul", "Dropout", "Transpose"]))
        x = values[-draw(st.integers(1, min(3, len(values))))]
        if kind in ("Mul", "Add"):
            x = b.op(kind, x, values[-draw(st.integers(1, min(9, len(values))))])
        elif kind == "MatMul":
            x = b.MatMul(x, w)
        elif kind == "Dropout":
            x = b.Dropout(x, b.constant(np.float64(0.3)), b.constant(np.array(True)))
        else:
            x = b.Transpose(b.Sin(b.Transpose(x))) if kind == "Transpose" else b.op(kind, x)
        values.append(x)
    b.output(b.ReduceSum(values[-1], keepdims=0), "f")
    return b.build()


@given(networks(), st.floats(0.7, 0.98))
@settings(max_examples=40, deadline=None)
def test_gradients_within_a_limit_of_memory_are_the_same(graph, share):
    at = {"x": np.random.default_rng(1).normal(size=(8, 16))}
    free = Session(graph, seed=3)
    value, expected = free.value_and_grad(at, wrt=["x", "w"])
    before = footprint(free.last_plan).peak
    limited = Session(graph, seed=3, memory_limit=int(share * before))
    try:
        same, found = limited.value_and_grad(at, wrt=["x", "w"])
    except InputError as e:
        assert f"takes {before:,}, and " in str(e)
        return
    assert np.array_equal(value, same)
    for name, g in expected.items():
        assert np.array_equal(g, found[name]), name
    plan = limited.last_plan
    cost = plan.recomputation
    assert footprint(plan).peak == cost.peak <= cost.limit < cost.before == before
    assert cost.again == len(plan.steps) - len(free.last_plan.steps) <= cost.of
    assert cost.flops == plan.describe().flops - cost.of_flops
