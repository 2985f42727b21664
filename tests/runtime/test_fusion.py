"""Chains of elementwise nodes become one node of a plan, and the numbers stay the same to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrt.definitions import kernel
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.registry import Registry
from graphrt.runtime import fusion
from graphrt.runtime.observers import Recorder
from graphrt.runtime.plan import make_plan
from graphrt.runtime.session import Session
from graphrt.types import TensorType


@kernel("Fused", domain="graphrt")
def one_by_one(site):
    """Runs the members' own functions."""
    body = site.attributes["body"]

    def fill(*arrays):
        values = {"": None, **dict(zip(body.input_names, arrays, strict=False))}
        for node in body.nodes:
            op = OPS.op_of(node, body)
            attributes = {k: v for k, v in node.attributes.items() if k in op.attributes}
            values[node.outputs[0]] = op.function(*(values[i] for i in node.inputs), **{**op.defaults(), **attributes})
        for name, y in zip(body.output_names, arrays[len(body.inputs) :], strict=True):
            y[...] = values[name]

    return site.into(fill)


OPS = Registry.of(ops=get_registry().table("ops").values())
FUSING = Registry.of(ops=OPS.table("ops").values(), kernels=[one_by_one])


@pytest.fixture(autouse=True)
def _all_sizes(monkeypatch):
    monkeypatch.setattr(fusion, "LEAST", 0)


def planned(graph, registry=FUSING, **options):
    return [s.node for s in make_plan(graph, registry, **options).steps]


def op_types(graph, **options):
    return [n.op_type for n in planned(graph, **options)]


def members(graph, **options):
    """The op types within each group."""
    groups = [n for n in planned(graph, **options) if n.op_type == "Fused"]
    return [[m.op_type for m in n.attributes["body"].nodes] for n in groups]


def build(make, *shapes):
    b = GraphBuilder("test")
    made = make(b, *(b.input(f"x{i}", "float32", list(s)) for i, s in enumerate(shapes)))
    for i, y in enumerate(made if isinstance(made, tuple) else (made,)):
        b.output(y, f"y{i}")
    return b.build()


def feeds_of(graph, seed=0):
    rng = np.random.default_rng(seed)
    return {v.name: rng.standard_normal(v.type.shape).astype("float32") for v in graph.inputs}


# ---- what is a group ---------------------------------------------------------------------------------------


def test_a_chain_with_its_bias_is_one_node():
    graph = build(lambda b, x, w, c: b.MatMul(b.Tanh(b.Add(b.MatMul(x, w), c)), w), (4, 4), (4, 4), (4,))
    assert op_types(graph) == ["MatMul", "Fused", "MatMul"]
    assert members(graph) == [["Add", "Tanh"]]


def test_what_others_read_is_an_output_of_the_group():
    graph = build(lambda b, x, y: (lambda s: (b.Exp(s), b.ReduceSum(s)))(b.Add(x, y)), (3, 4), (3, 4))
    group = planned(graph)[0]
    assert [m.op_type for m in group.attributes["body"].nodes] == ["Add", "Exp"]
    assert len(group.outputs) == 2


def test_a_group_ends_where_another_node_reads_from_it():
    def make(b, x):
        s = b.Exp(x)
        return b.Add(s, b.MatMul(s, x))

    assert members(build(make, (4, 4))) == []


def test_groups_that_meet_are_one():
    graph = build(lambda b, x, y: b.Mul(b.Tanh(b.Neg(x)), b.Sigmoid(b.Abs(y))), (3, 4), (3, 4))
    assert op_types(graph) == ["Fused"]


@pytest.mark.parametrize(
    ("shapes", "why"),
    [(((3, 4), (2, 3, 4)), "the first is the smaller one"), (((3, 1), (1, 4)), "neither has the result's shape")],
)
def test_members_have_one_shape(shapes, why):
    graph = build(lambda b, x, y: b.Add(b.Exp(x), y), *shapes)
    assert members(graph) == [], why


def test_older_ops_that_broadcast_in_their_own_way_are_left_alone():
    nodes = (Node("Add", ("x", "y"), ("s",), {"broadcast": 1}), Node("Exp", ("s",), ("e",)))
    types = Value("x", TensorType("float32", (2, 3))), Value("y", TensorType("float32", (3,)))
    graph = Graph("old", {"": 6}, types, (Value("e"),), nodes)
    assert op_types(graph) == ["Add", "Exp"]


def test_small_arrays_are_left_alone(monkeypatch):
    graph = build(lambda b, x: b.Exp(b.Neg(x)), (3, 4))
    monkeypatch.setattr(fusion, "LEAST", 49)
    assert op_types(graph) == ["Neg", "Exp"]


def test_other_dtypes_are_left_alone():
    b = GraphBuilder("test")
    b.output(b.Abs(b.Neg(b.input("x", "int32", [3]))), "y")
    assert op_types(b.build()) == ["Neg", "Abs"]


def test_an_observed_plan_has_every_node():
    graph = build(lambda b, x: b.Exp(b.Neg(x)), (3, 4))
    assert op_types(graph, observed=True) == ["Neg", "Exp"]
    recorder = Recorder()
    Session(graph, registry=FUSING, observers=[recorder]).run(feeds_of(graph))
    assert [n.op_type for n in recorder.nodes] == ["Neg", "Exp"]


def test_long_chains_are_cut():
    def make(b, x):
        for _ in range(2 * fusion.MOST + 3):
            x = b.Tanh(x)
        return x

    assert [len(m) for m in members(build(make, (3, 4)))] == [fusion.MOST, fusion.MOST, 3]


def test_without_a_kernel_there_are_no_groups():
    graph = build(lambda b, x: b.Exp(b.Neg(x)), (3, 4))
    assert [n.op_type for n in planned(graph, OPS)] == ["Neg", "Exp"]


def test_a_group_that_its_kernel_refuses_is_taken_apart():
    refusing = Registry.of(
        ops=OPS.table("ops").values(), kernels=[kernel("Fused", domain="graphrt")(lambda site: None)]
    )
    graph = build(lambda b, x: b.Exp(b.Neg(x)), (3, 4))
    assert [n.op_type for n in planned(graph, refusing)] == ["Neg", "Exp"]
    x = feeds_of(graph)
    assert np.array_equal(Session(graph, registry=refusing).run(x)["y0"], np.exp(-x["x0"]))


# ---- what a group computes ---------------------------------------------------------------------------------


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def check(graph, feeds, call=lambda session, feeds: session.run(feeds)):
    """A session with groups gives what one without gives."""
    found, expected = (call(Session(graph, registry=r), feeds) for r in (FUSING, OPS))
    assert found.keys() == expected.keys()
    for name, y in expected.items():
        assert same_bits(found[name], y), name


UNARY = ["Tanh", "Sigmoid", "Relu", "Neg", "Exp", "Abs", "Softplus", "Gelu", "Identity"]


@st.composite
def graphs(draw):
    """Elementwise nodes over arrays of a few shapes, with reductions and products among them; some are outputs."""
    b = GraphBuilder("random")
    full, shapes = [4, 4], [[4, 4], [4], [4, 1], []]
    values = [(b.input(f"x{i}", "float32", s), s) for i, s in enumerate(shapes)]
    for _ in range(draw(st.integers(2, 14))):
        (x, s), (y, t) = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        op = draw(st.sampled_from([*UNARY, "Add", "Sub", "Mul", "Sum", "Max", "Clip", "ReduceMean", "MatMul"]))
        if op in UNARY:
            values.append((b.op(op, x), s))
        elif op == "Clip":
            values.append((b.Clip(x, values[3][0]), s))
        elif op == "ReduceMean":
            values.append((b.ReduceMean(x, keepdims=0), []))
        elif op == "MatMul":
            if s == full == t:
                values.append((b.MatMul(x, y), full))
        else:
            values.append((b.op(op, x, y), list(np.broadcast_shapes(s, t))))
    chosen = draw(st.sets(st.sampled_from(range(4, len(values))), max_size=3)) if len(values) > 4 else set()
    for i in chosen:
        b.output(values[i][0], f"y{i}")
    total = b.ReduceSum(b.Mul(values[-1][0], values[0][0]), keepdims=0)
    b.output(total, "total")
    return b.build()


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 5))
def test_any_graph_gives_the_same_bits(graph, seed):
    with np.errstate(all="ignore"):
        check(graph, feeds_of(graph, seed))


@settings(max_examples=60, deadline=None)
@given(graphs(), st.integers(0, 5))
def test_any_gradient_has_the_same_bits(graph, seed):
    def gradient(session, feeds):
        value, grads = session.value_and_grad(feeds, of="total", wrt=list(graph.input_names))
        return {"total": value, **grads}

    with np.errstate(all="ignore"):
        check(graph, feeds_of(graph, seed), gradient)


def test_cotangents_pass_through_a_group():
    """In the gradient of a residual sum the two terms share one cotangent; no copies of it are made."""

    def make(b, x, y):
        return b.ReduceSum(b.Tanh(b.Add(b.Tanh(x), b.Sigmoid(y))), keepdims=0)

    graph = build(make, (3, 4), (3, 4))
    session = Session(graph, registry=FUSING)
    session.value_and_grad(feeds_of(graph), wrt=["x0", "x1"])
    (plan,) = session._plans.values()
    assert all(s.node.op_type not in fusion.ALIASES for s in plan.steps)
    check(graph, feeds_of(graph), lambda s, f: s.value_and_grad(f, wrt=["x0", "x1"])[1])


def test_tangents_are_grouped_too():
    graph = build(lambda b, x, y: b.Tanh(b.Mul(b.Sigmoid(x), y)), (3, 4), (3, 4))
    feeds = feeds_of(graph)
    check(graph, feeds, lambda s, f: s.jvp(f, {"x0": f["x1"], "x1": f["x0"]})[1])


def test_state_updates_are_written_over_the_weights():
    b = GraphBuilder("descent")
    w, g = b.parameter("w", np.ones((3, 4), np.float32)), b.input("g", "float32", [3, 4])
    b.output(b.ReduceSum(g, keepdims=0), "total")
    new = b.Sub(w, b.Mul(g, b.constant(np.float32(0.5))))
    graph = b.build()
    graph = graph.replace(state_updates={"w": new.name})
    session = Session(graph, registry=FUSING, in_place=True)
    for _ in range(2):
        session.run({"g": np.full((3, 4), 2, np.float32)})
    assert np.array_equal(session.parameters["w"], np.full((3, 4), -1, np.float32))
    assert "Fused" in [s.node.op_type for p in session._plans.values() for s in p.steps]
