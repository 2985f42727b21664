"""What a plan tells of itself agrees with what its runs do."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest

import graphrt.optim as optim
from graphrt.definitions import Kernel
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.registry import Registry
from graphrt.runtime.footprint import footprint
from graphrt.runtime.session import Session
from graphrt.train import Trainer


def classifier(inputs=64, hidden=128, classes=10):
    rng = np.random.default_rng(0)
    b = GraphBuilder("classifier")
    x = b.input("x", "float32", ["batch", inputs])
    w = b.parameter("w", rng.normal(size=(inputs, hidden)).astype("float32"))
    v = b.parameter("v", rng.normal(size=(hidden, classes)).astype("float32"))
    h = b.op("Relu", b.MatMul(x, w), outputs=["h"])
    b.output(b.Relu(b.MatMul(h, v)), "scores")
    return b.build()


def batch(n=256, inputs=64):
    rng = np.random.default_rng(1)
    return {"x": rng.normal(size=(n, inputs)).astype("float32"), "y": rng.integers(0, 10, n)}


def trainer(**options):
    return Trainer(classifier(), "softmax_cross_entropy", optim.SGD(0.1, momentum=0.9), **options)


TEXT = """\
plan of classifier: 4 steps
step  node            kernel            output                   place                  held  operations
   0  MatMul(x, w)    product (given)   matmul: float32[4, 128]  arena 0               2,048      65,536
   1  Relu(matmul)    in_place (given)  h: float32[4, 128]       arena 0, over matmul  2,048         512
   2  MatMul(h, v)    product (given)   matmul_1: float32[4, 5]  arena 2048            2,176       5,120
   3  Relu(matmul_1)  in_place (given)  scores: float32[4, 5]    new                     208          20
arena: 2,176 bytes; constants: 0 bytes
peak: 2,256 bytes, 80 of them beside the arena
operations: 71,188"""


def test_the_text():
    """With kernels of the test's own: the small product has its place beside the large one, which Relu is put over."""
    product = Kernel("product", "MatMul", lambda site: site.into(lambda a, b, y: np.matmul(a, b, y)))
    in_place = Kernel("in_place", "Relu", lambda site: site.into(lambda x, y: np.maximum(x, 0, y), over={0: (0,)}))
    registry = Registry.of(ops=get_registry().table("ops").values(), kernels=[product, in_place])
    session = Session(classifier(classes=5), registry=registry)
    plan = session.plan({"x": np.zeros((4, 64), "float32")})
    assert str(plan) == plan.text() == plan.describe().text() == TEXT


def test_the_same_plan_gives_the_same_text():
    one, other = (trainer().plan(batch()) for _ in range(2))
    assert str(one) == str(other)
    assert str(one) != str(trainer().plan(batch(128)))


def test_a_training_step_writes_over_its_weights():
    plan = trainer().plan(batch())
    told = plan.describe()
    last = told.steps[-1]
    assert last.op == "graphrt.optim::SGD"
    assert [str(o.place) for o in last.outputs] == ["over v", "over v.m"]
    places = {o.name: o.place for s in told.steps for o in s.outputs}
    assert places["h"].kind == "arena" and places["h"].of, "Relu is written over what it is made of"
    assert places["scores"].kind == "new", "it leaves the run"
    assert places["h"].nbytes == 256 * 128 * 4
    assert told.arena == plan.nbytes < told.peak


def test_the_facts_are_those_of_the_text():
    told = trainer().plan(batch()).describe()
    facts = json.loads(json.dumps(told.facts()))
    assert facts["peak"] == told.peak and facts["arena"] == told.arena
    assert len(facts["steps"]) == len(told.steps)
    assert facts["flops"] == sum(s["flops"] for s in facts["steps"])
    text = told.text()
    for step in facts["steps"]:
        assert step["op"] in text and step["kernel"] in text
        for output in step["outputs"]:
            assert f"{output['name']}: {output['type']}" in text


def test_kernels_are_named_with_their_plugin_and_the_op_itself_is_the_reference():
    mine = Kernel("mine", "Tanh", lambda site: np.tanh)
    registry = Registry.of(ops=get_registry().table("ops").values(), kernels=[mine])
    b = GraphBuilder()
    b.output(b.Sin(b.Tanh(b.input("x", "float32", [3]))), "y")
    steps = Session(b.build(), registry=registry).plan({"x": np.zeros(3, "float32")}).describe().steps
    assert [(s.kernel, s.plugin) for s in steps] == [("mine", "given"), ("reference", "")]


def test_what_is_held_beside_the_arena_is_what_a_run_takes():
    """Ops of their own functions: each value is made anew, views aside, and let go after its last use."""
    b = GraphBuilder(dtype="float64")
    x = b.input("x", "float64", [1000, 100])
    h = b.Transpose(b.Exp(x))
    h = b.Sin(b.Reshape(h, np.array([50, 2000])))  # the reshaped elements are not in their order: a copy
    y = b.Cos(b.Reshape(h, np.array([100_000])))
    b.output(b.ReduceSum(y, keepdims=0), "f")
    registry = Registry.of(ops=get_registry().table("ops").values())
    session, feeds = Session(b.build(), registry=registry), {"x": np.ones((1000, 100))}
    session.run(feeds)
    plan = session.last_plan
    told = footprint(plan)
    assert not plan.nbytes
    assert [p.kind for p in told.places.values()] == ["new", "view", "new", "new", "view", "new", "new"]
    tracemalloc.start()
    session.run(feeds)
    measured = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told.peak == pytest.approx(measured, abs=20_000)
    assert told.peak == 2 * 800_000


def test_what_is_said_to_be_a_view_shares_memory_and_what_is_new_does_not():
    graph = classifier()
    b = GraphBuilder.extending(graph)
    b.output(b.Transpose(b.Reshape(b.Cast("h", to=11), np.array([-1, 2, 4])), perm=[1, 0, 2]), "turned")
    session = Session(b.build())
    feeds = {"x": batch()["x"]}
    plan = session.plan(feeds)
    told, seen = footprint(plan), {}
    for step in plan.steps:
        call = step.call
        if told.places[step.node.outputs[0]].kind == "arena":
            continue

        def checked(*arrays, call=call, step=step):
            made = call(*arrays)
            if isinstance(made, np.ndarray):
                given = [a for a in arrays if isinstance(a, np.ndarray)]
                seen[step.node.outputs[0]] = any(np.shares_memory(made, a) for a in given if a is not made)
            return made

        step.call = checked
    plan.__post_init__()
    session.run(feeds)
    assert {told.places[name].kind for name in seen} == {"new", "view"}
    for name, shares in seen.items():
        assert shares == (told.places[name].kind == "view"), name
