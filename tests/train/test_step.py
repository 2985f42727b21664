"""The graph of a step: what it is called, what it holds, and what it does when it is split or run by hand."""

from __future__ import annotations

import numpy as np
import pytest

import graphrt.optim as optim
from graphrt.errors import InputError
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.runtime.session import Session
from graphrt.train import Penalties, Trainer, split_step, training_graph

from .models import blobs, linear, mlp

CE = "softmax_cross_entropy"
REGISTRY = get_registry()


def test_names_of_the_model_are_left_alone():
    b = GraphBuilder(dtype="float64")
    x, t = b.input("learning_rate", "float64", ["n"]), b.input("target", "float64", ["n"])
    b.output(x * b.parameter("w", 2.0) + t * b.parameter("step", 3.0), "loss")
    step = training_graph(b.build(), REGISTRY, "mean_squared_error", optim.Adam(0.1))
    assert len({step.learning_rate, step.step, step.target} & {"learning_rate", "target", "step"}) == 0
    trainer = Trainer(b.build(), "mean_squared_error", optim.Adam(0.1))
    batch = {"learning_rate": [1.0], "target": [1.0], "y": [0.0]}
    assert trainer.step(batch)["loss"] == 25.0


def test_each_parameter_has_one_node_of_the_optimizers_domain():
    step = training_graph(mlp(), REGISTRY, CE, optim.Adam(0.1, beta1=0.8), trainable=["*.w"])
    nodes = [n for n in step.graph.nodes if n.domain == "graphrt.optim"]
    assert [(n.op_type, n.inputs[0], dict(n.attributes)) for n in nodes] == [
        ("Adam", "layer0.w", {"beta1": 0.8}),
        ("Adam", "layer1.w", {"beta1": 0.8}),
    ]
    assert step.state["layer0.w"] == {"m": "layer0.w.m", "v": "layer0.w.v"}
    assert set(step.graph.state_updates) == {*step.parameters, *(n for s in step.state.values() for n in s.values())}
    assert step.graph.output_names == ("softmaxcrossentropyloss", "scores", step.square)


def test_the_gradients_of_a_split_step_are_those_of_value_and_grad():
    g, data = mlp(dtype="float64"), blobs(dtype="float64")
    step = training_graph(g, REGISTRY, "mean_squared_error", optim.SGD(0.1), penalties=Penalties(l2=0.1))
    first, _ = split_step(step)
    feeds = {"x": data["x"], "target": np.zeros((90, 3))}
    out = Session(first).run(feeds)
    value, gradient = Session(step.graph.replace(state_updates={})).value_and_grad(
        {**feeds, "learning_rate": 0.0, "step": 1}, of=step.loss, wrt=list(step.parameters)
    )
    assert out[step.loss] == pytest.approx(value)
    for w, name in step.gradients.items():
        np.testing.assert_allclose(out[name], gradient[w], rtol=1e-10)


def test_both_halves_of_a_step_do_what_the_whole_does():
    step = training_graph(mlp(dropout=0.2), REGISTRY, CE, optim.Adam(0.1), clip_norm=0.5)
    whole, halves = Session(step.graph), [Session(g) for g in split_step(step)]
    halves[1].parameters = halves[0].parameters
    data = blobs()
    feeds = {"x": data["x"], "target": data["label"]}
    for t in (1, 2, 3):
        late = {"learning_rate": np.float32(0.1), "step": t}
        expected = whole.run({**feeds, **late})
        out = halves[0].run(feeds)
        halves[1].run({**{g: out[g] for g in step.gradients.values()}, **late})
        assert out[step.loss] == expected[step.loss]
    for name, a in whole.parameters.items():
        np.testing.assert_array_equal(halves[0].parameters[name], a)


def test_a_model_of_many_outputs_needs_a_name():
    b = GraphBuilder(dtype="float64")
    h = b.input("x", "float64", ["n", 2]) @ b.parameter("w", np.eye(2))
    b.output(b.Softmax(h), "p")
    b.output(h, "scores")
    with pytest.raises(InputError, match="name the prediction with output=: the graph has the outputs p, scores"):
        training_graph(b.build(), REGISTRY, CE, optim.SGD())
    step = training_graph(b.build(), REGISTRY, CE, optim.SGD(), output="scores")
    assert step.prediction == "scores" and step.graph.output_names == (step.loss, "scores", step.square)


def test_class_losses_need_class_scores():
    b = GraphBuilder()
    b.output(b.input("x", "float32", ["n"]) * b.parameter("w", np.float32(1)), "y")
    with pytest.raises(InputError, match=r"takes predictions \[batch, classes, ...\], the model gives float32\[n\]"):
        training_graph(b.build(), REGISTRY, CE, optim.SGD())


def test_without_penalties_or_clipping_nothing_is_paid_for_them():
    plain = training_graph(linear(), REGISTRY, "mean_squared_error", optim.SGD(0.1))
    assert not [n for n in plain.graph.nodes if "penalty" in n.label or "clip" in n.label]
