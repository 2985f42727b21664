"""Plans: what is left out, what is computed ahead, and when each value's memory is let go."""

from __future__ import annotations

import sys
import weakref

import numpy as np
import pytest

from graphrt.autodiff import reverse
from graphrt.definitions import Kernel
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.registry import Registry
from graphrt.runtime.plan import make_plan
from graphrt.runtime.session import Session
from graphrt.types import TensorType

F = "float64"
SCALAR = TensorType(F, ())


def steps(session, inputs, **options):
    return [s.node.op_type for s in session.plan(inputs, **options).steps]


def test_dead_nodes_are_not_run():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [2])
    b.Exp(b.Cos(x))
    b.output(b.Sin(x), "y")
    assert steps(Session(b.build()), {"x": np.zeros(2)}) == ["Sin"]


def test_constants_are_folded_and_weights_are_not():
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, [2]), b.parameter("w", np.ones(2))
    c = b.Sqrt(b.constant(np.float64(4.0)) * 4.0)
    b.output(x * c + b.Neg(w), "y")
    session = Session(b.build())
    assert sorted(steps(session, {"x": np.zeros(2)})) == ["Add", "Mul", "Neg"]
    session.parameters["w"] = np.full(2, 5.0)
    assert session.run({"x": np.ones(2)})["y"].tolist() == [-1, -1]


def flattened():
    """x reshaped by arithmetic on its own shape."""
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, ["n", 3, "m"])
    shape = b.Shape(x)
    first, rest = b.Slice(shape, np.array([0]), np.array([1])), b.Slice(shape, np.array([1]), np.array([3]))
    size = b.ReduceProd(rest, keepdims=1)
    b.output(b.Reshape(x, b.Concat(first, size, axis=0)), "y")
    return b.build()


def test_arithmetic_on_shapes_vanishes_for_a_given_signature():
    session = Session(flattened())
    assert steps(session, {"x": np.zeros((2, 3, 4))}) == ["Reshape"]
    for shape in ((2, 3, 4), (5, 3, 1), (0, 3, 2)):
        assert session.run({"x": np.zeros(shape)})["y"].shape == (shape[0], shape[1] * shape[2])


def chain(*ops, dtype=F):
    b = GraphBuilder(dtype=dtype)
    v = b.input("x", dtype, [1000])
    for i, kind in enumerate(ops):
        v = b.op(kind, v, outputs=[f"v{i}"])
    b.output(b.op("ReduceSum", v, keepdims=0), "f")
    return Session(b.build())


def test_a_value_lies_in_the_place_of_one_that_is_not_needed_any_more():
    plan = chain("Exp", "Cos", "Exp", "Tanh").plan({"x": np.zeros(1000)})
    assert set(plan.places) == {"v0", "v1", "v2", "v3"}
    assert plan.nbytes == 8000


def test_outputs_nobody_wants_are_let_go_at_once():
    b = GraphBuilder(dtype=F)
    x, made = b.input("x", F, [1000]), []
    y, _ = b.op("Dropout", x, 0.5, b.constant(np.array(True)), outputs=["y", ""])
    b.output(b.ReduceSum(y, keepdims=0), "f")
    seen = []

    class Watching:
        def on_node(self, node, inputs, outputs):
            seen.append([ref() is not None for ref in made])

    session = Session(b.build(), observers=[Watching()])
    plan = session.plan({"x": np.ones(1000)})
    step = plan.steps[0]
    call = step.call

    def keeping(*arguments):
        outputs = call(*arguments)
        made.extend(map(weakref.ref, outputs))
        return outputs

    step.call = keeping
    plan.__post_init__()
    session.run({"x": np.ones(1000)})
    assert seen[0] == [True, False]


def test_the_names_of_the_rules_are_the_memory_plan():
    """Tanh's rule names its output and Gelu's its input: what neither names is gone when backward begins."""
    graph = chain("Neg", "Tanh", "Neg", "Gelu", "Neg", dtype="float32").graph
    joint = reverse(graph, get_registry(), ["f"], ["x"], seed_ones=True).graph
    plan = make_plan(joint, get_registry(), inputs={"x": TensorType("float32", (1000,))})
    at = next(i for i, s in enumerate(plan.steps) if "." in s.node.op_type)
    held = {v for v in (f"v{i}" for i in range(5)) if plan.places[v].first < at <= plan.places[v].last}
    assert held == {"v1", "v2"}, "v1: the output of Tanh; v2: the input of Gelu"


def test_released_slots_include_outputs_nobody_reads():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [4])
    first, _ = b.Split(x, None, num_outputs=2, outputs=2)
    b.output(first, "y")
    plan = Session(b.build()).plan({"x": np.zeros(4)})
    (split,) = plan.steps
    assert len(split.release) == 1
    assert split.release[0] == split.outputs[1]


def test_kernels_are_chosen_when_they_apply_by_priority():
    calls = []

    def kernel(name, priority, applies):
        def function(x):
            calls.append(name)
            return np.tanh(x)

        return Kernel(name, "Tanh", lambda site: function if applies(site) else None, priority=priority)

    def is_wide(site):
        return site.is_float("input") and site.shape("input") == (8,)

    kernels = [kernel("low", 0, lambda site: True), kernel("wide", 9, is_wide)]
    registry = Registry.of(ops=get_registry().table("ops").values(), kernels=kernels)
    b = GraphBuilder(dtype=F)
    b.output(b.Tanh(b.input("x", F, ["n"])), "y")
    session = Session(b.build(), registry=registry)
    session.run({"x": np.zeros(8)})
    session.run({"x": np.zeros(3)})
    assert calls == ["wide", "low"]


def long_chain(n):
    names = ["x", *(f"v{i}" for i in range(n))]
    nodes = [Node("Neg", (names[i],), (names[i + 1],)) for i in range(n)]
    return Graph(inputs=(Value("x", SCALAR),), outputs=(Value(names[-1], SCALAR),), nodes=nodes)


def calls_to_plan(n):
    """How many Python calls planning a chain of n nodes takes."""
    graph, count = long_chain(n), 0

    def profile(frame, event, arg):
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        make_plan(graph, get_registry())
    finally:
        sys.setprofile(before)
    return count


def test_planning_takes_time_proportional_to_the_graph():
    calls_to_plan(1600)  # imports what is imported late
    assert calls_to_plan(1600) < 4.5 * calls_to_plan(400)


@pytest.mark.parametrize("reverse", [False, True])
def test_long_chains_in_any_order_run(reverse):
    graph = long_chain(30_000)
    session = Session(graph.replace(nodes=graph.nodes[::-1]) if reverse else graph)
    assert session.run({"x": 2.0})["v29999"] == 2
