"""What kernels and plans keep of weights: made once for weights that stay, anew for any other, and gone with them."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

from graphrt import optim
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.runtime.kernels._kept import Kept
from graphrt.runtime.ownership import Lending
from graphrt.runtime.session import Session
from graphrt.train.step import training_graph

F = "float32"


class Doubled:
    """A transform that counts its calls, with memory to make it in."""

    def __init__(self):
        self.kept, self.room, self.calls = Kept(), np.empty(3), 0

    def __call__(self, weight):
        return self.kept.of(weight, self.room, self._make)

    def _make(self, weight, made):
        self.calls += 1
        np.multiply(weight, 2, made)


def frozen(*values):
    x = np.array(values, float)
    x.flags.writeable = False
    return x


def test_the_same_weight_is_transformed_twice_and_no_more():
    of, w = Doubled(), frozen(1, 2, 3)
    found = [of(w) for _ in range(5)]
    assert of.calls == 2
    assert all(np.array_equal(x, [2, 4, 6]) for x in found)
    assert found[0] is of.room
    assert len({id(x) for x in found[1:]}) == 1
    assert found[1] is not of.room


def test_other_weights_are_transformed_anew():
    of, a, b = Doubled(), frozen(1, 2, 3), frozen(1, 2, 3)
    for w in (a, b, a, b):
        assert of(w) is of.room
    assert of.calls == 4
    kept = of(b)
    assert kept is not of.room
    assert np.array_equal(of(frozen(5, 5, 5)), [10, 10, 10])
    assert np.array_equal(kept, [2, 4, 6])


def writable():
    return np.array([1.0, 2, 3])


def view_of_writable():
    view = writable().view()
    view.flags.writeable = False
    return view


@pytest.mark.parametrize("make", [writable, view_of_writable])
def test_what_may_be_written_to_is_never_kept(make):
    of, w = Doubled(), make()
    base = w if w.base is None else w.base
    for i in range(4):
        base[0] = i
        assert of(w)[0] == 2 * i
    assert of.calls == 4


def test_what_was_made_of_a_weight_goes_with_it():
    of, w = Doubled(), frozen(1, 2, 3)
    of(w)
    made = weakref.ref(of(w))
    assert made() is not None
    del w
    gc.collect()
    assert made() is None


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((4, 16, 12, 12), (16, 16, 3, 3), {"pads": [1, 1, 1, 1]}),
        ((4, 8, 12, 12), (8, 1, 3, 3), {"group": 8, "pads": [1, 1, 1, 1]}),
        ((4, 8, 6, 6), (8, 1, 3, 3), {"group": 8}),
    ],
)
def test_a_convolution_follows_its_weights(x, w, attributes):
    rng = np.random.default_rng(0)
    b = GraphBuilder(dtype=F)
    b.output(b.Conv(b.input("x", F, x), b.parameter("w", np.zeros(w, F)), **attributes), "y")
    session, feeds = Session(b.build()), {"x": rng.normal(size=x).astype(F)}
    for _ in range(3):
        weights = rng.normal(size=w).astype(F)
        weights.flags.writeable = False
        session.parameters["w"] = weights
        found = [session.run(feeds)["y"] for _ in range(4)]
        session.parameters["w"] = weights.copy()
        for y in found:
            np.testing.assert_array_equal(y, session.run(feeds)["y"])


def test_what_is_made_of_weights_follows_those_of_a_session_that_overwrites_them():
    """Two sessions with one dictionary: one trains in place, the other computes something of the weights alone."""
    b = GraphBuilder(dtype=F)
    b.output(b.Transpose(b.Exp(b.parameter("w", np.ones((2, 2), F)))), "y")
    reading = Session(b.build())
    b = GraphBuilder(dtype=F)
    b.output(b.MatMul(b.input("x", F, (2, 2)), b.parameter("w", np.ones((2, 2), F))), "y")
    step = training_graph(b.build(), get_registry(), "mean_squared_error", optim.SGD(0.1, momentum=0.9))
    training = Session(step.graph, in_place=True)
    reading.parameters = training.parameters
    feeds = {"x": np.eye(2, dtype=F), step.target: np.zeros((2, 2), F), step.learning_rate: np.array(0.1, F)}
    for i in range(3):
        training.run({**feeds, step.step: np.array(i + 1)})
        for _ in range(3):
            expected = np.exp(training.parameters["w"]).T
            np.testing.assert_allclose(reading.run()["y"], expected, rtol=1e-6)
        assert reading.last_plan.preparation.last is not None and training.last_plan.overwritten


@pytest.mark.parametrize("prepared", [True, False])
def test_weights_that_are_written_to_between_runs(prepared):
    """As an array of the caller's that became a parameter: neither what is prepared of it nor a view of it is stale."""
    b = GraphBuilder()
    w = b.parameter("w", np.zeros((3, 2), F))
    x = b.input("x", F, [1, 3])
    b.output(b.MatMul(x, b.Exp(w)) if prepared else b.MatMul(x, w), "y")
    session, mine = Session(b.build()), np.zeros((3, 2), F)
    session.parameters["w"] = mine
    for value in (0, 0, 1, 1, 2):
        mine[...] = value
        found = session.run({"x": np.ones((1, 3), F)})["y"]
        np.testing.assert_allclose(found, 3 * (np.exp(value) if prepared else value), rtol=1e-6)


def test_weights_that_are_replaced_are_gone():
    lending, first = Lending(), np.zeros(3)
    view = lending.of("w", first)
    assert lending.of("w", first) is view and not view.flags.writeable
    gone = weakref.ref(first)
    lending.of("w", frozen(1, 2, 3))
    del first, view
    gc.collect()
    assert gone() is None
