"""Runs of compiled kernels replayed as one call: the bits of the kernels one by one, wherever arrays are now."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest
from graphrt_numba import replay
from graphrt_numba.compiler import loop
from graphrt_numba.replay import LINKER
from graphrt_numba.team import TEAM, alone

import graphrt as gr
from graphrt.errors import ExecutionError
from graphrt.runtime.observers import Recorder


@pytest.fixture
def replays(monkeypatch):
    """How often a program was replayed, and how often its fills were called one by one."""
    seen = {"replayed": 0, "one by one": 0}
    update, one_by_one = replay.Notes.update, replay.Program._one_by_one

    def counted(notes, given):
        done = update(notes, given)
        seen["replayed"] += done
        return done

    def plain(program, given):
        seen["one by one"] += 1
        return one_by_one(program, given)

    monkeypatch.setattr(replay.Notes, "update", counted)
    monkeypatch.setattr(replay.Program, "_one_by_one", plain)
    return seen


def classifier(seed=0):
    rng = np.random.default_rng(seed)
    b = gr.GraphBuilder("classifier")
    x = b.input("x", "float32", ["n", 200])
    for i, (n, m) in enumerate(((200, 300), (300, 40), (40, 10))):
        w = b.parameter(f"w{i}", rng.normal(size=(n, m)).astype("f") * 0.1)
        x = b.Gemm(x if not i else b.Tanh(x), w, b.parameter(f"b{i}", np.zeros(m, "f")))
    b.output(x, "y")
    return b.build()


def batch(seed, n=64):
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(n, 200)).astype("f"), "target": rng.integers(0, 10, n)}


def trainer(optimizer, observers=()):
    return gr.Trainer(classifier(), "softmax_cross_entropy", optimizer, target="target", observers=observers)


@pytest.mark.parametrize(
    "optimizer", [gr.optim.SGD(0.1), gr.optim.SGD(0.1, momentum=0.9, nesterov=True), gr.optim.Adam(1e-2)], ids=str
)
def test_training_gives_the_bits_of_single_kernels(replays, optimizer):
    linked, watched = trainer(optimizer), trainer(optimizer, [Recorder()])
    for step in range(5):
        data = batch(step, 64 if step != 2 else 48)  # a batch of another size has a plan of its own
        assert linked.step(data) == watched.step(data)
    assert replays["replayed"] >= 10 and not replays["one by one"]
    mine, theirs = linked.weights(), watched.weights()
    assert all(mine[name].tobytes() == theirs[name].tobytes() for name in mine)


def test_weights_may_be_replaced_between_steps(replays):
    linked, watched = trainer(gr.optim.Adam(1e-2)), trainer(gr.optim.Adam(1e-2), [Recorder()])
    for step in range(4):
        if step == 2:
            for t in (linked, watched):
                t.set_weights(dict(classifier(7).initializers))
        assert linked.step(batch(step)) == watched.step(batch(step))
    assert not replays["one by one"]


@pytest.mark.parametrize(
    "layout", [np.copy, np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2], lambda x: x[::-1]]
)
def test_inputs_may_lie_anyhow(replays, layout):
    session, watched = gr.Session(classifier()), gr.Session(classifier(), observers=[Recorder()])
    for seed in (0, 1, 2):
        x = batch(seed)["x"]
        want = watched.run({"x": np.ascontiguousarray(layout(x))})["y"]
        np.testing.assert_allclose(session.run({"x": layout(x)})["y"], want, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(session.run({"x": x})["y"], watched.run({"x": x})["y"], rtol=1e-5, atol=1e-6)


def test_inputs_that_cannot_be_noted_are_no_obstacle_to_others(replays):
    session, x = gr.Session(classifier()), batch(0)["x"]
    for _ in range(2):
        session.run({"x": x[::-1]})
    assert replays == {"replayed": 0, "one by one": 2}
    for _ in range(3):
        session.run({"x": x})
    assert replays["replayed"] == 3


def test_results_are_the_callers_and_inputs_go_with_them():
    session = gr.Session(classifier())
    first = session.run({"x": batch(0)["x"]})["y"]
    kept = first.copy()
    x = batch(1)["x"]
    gone = weakref.ref(x)
    session.run({"x": x})
    del x
    gc.collect()
    assert gone() is None
    np.testing.assert_array_equal(first, kept)


def test_a_label_that_is_no_class_names_its_node(replays):
    t, wrong = trainer(gr.optim.SGD(0.1)), batch(0)
    wrong["target"] = wrong["target"].copy()
    wrong["target"][3] = 10
    for _ in range(2):  # the notes are written for the first, and there for the second
        with pytest.raises(ExecutionError, match=r"(?s)SoftmaxCrossEntropyLoss\) failed: labels go from 0 to 10"):
            t.step(wrong)
    before = t.weights()
    assert t.step(batch(1))["loss"] > 0
    assert replays["replayed"] and any((before[n] != w).any() for n, w in t.weights().items())


def test_several_threads_run_one_session():
    session, x = gr.Session(classifier()), [batch(i)["x"] for i in range(4)]
    want, failures = [session.run({"x": a})["y"] for a in x], []

    def run(i):
        for _ in range(50):
            if not np.array_equal(session.run({"x": x[i]})["y"], want[i]):
                failures.append(i)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---- programs ----------------------------------------------------------------------------------------------


def test_a_number_too_large_for_its_type_is_infinite():
    run = alone(_scaled, ("float32", "float32*", "float32*"), 1e300)
    y = np.zeros(2, np.float32)
    LINKER.link([lambda x, y: run(x, y)], [(0, 1)], [0, 1])([], np.ones(2, np.float32), y)
    assert np.isinf(y).all()


@loop
def _scaled(factor, x, y):
    for i in range(x.size):
        y[i] = factor * x[i]


@loop
def _verdict(x, verdict):
    verdict[0] = x[0] < 0


@loop
def _mixed(small, large, whole, holds, x, y):
    y[0] = small
    y[1] = large
    y[2] = whole
    y[3] = 1 if holds else 0
    y[4] = x[0, 1, 1, 2]


def test_arguments_of_all_types():
    kinds = "float32", "float64", "int64", "boolean", "float32[4]", "float64*"
    run = alone(_mixed, kinds, 1.5, 1e300, -7, True)
    x = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)
    program, y, kept = LINKER.link([lambda x, y: run(x, y)], [(0, 1)], [0, 1]), np.zeros(5), []
    for given in (x, -x, x.copy()):
        assert program(kept, given, y) is None
        assert y.tolist() == [1.5, 1e300, -7, 1, given[0, 1, 1, 2]]


def test_a_copy_that_a_fill_makes_is_not_noted(replays):
    run = alone(_scaled, ("float32", "float32*", "float32*"), 2.0)
    program = LINKER.link([lambda x, y: run(x + 1, y)], [(0, 1)], [0, 1])
    y, kept = np.zeros(3, np.float32), []
    for n in (1, 2):
        program(kept, np.full(3, n, np.float32), y)
        assert y.tolist() == [2 * (n + 1)] * 3
    assert replays == {"replayed": 0, "one by one": 2}


def test_a_verdict_stops_what_follows():
    def explain(x):
        raise ValueError("negative")

    check = alone(_verdict, ("float32*", "int64*"), explain=explain)
    run = alone(_scaled, ("float32", "float32*", "float32*"), 2.0)
    fills = [lambda x, y, v: run(x, y), lambda x, y, v: check(x, v), lambda x, y, v: run(y, y)]
    program = LINKER.link(fills, [(0, 1, 2)] * 3, [0, 1, 2])
    verdict, kept = np.zeros(1, np.int64), []
    for value, stopped, want in ((1, None, 4), (-1, 1, -2), (3, None, 12)):
        x, y = np.full(2, value, np.float32), np.zeros(2, np.float32)
        assert program(kept, x, y, verdict) == stopped
        assert y.tolist() == [want] * 2
    with pytest.raises(ValueError, match="negative"):
        fills[1](np.full(2, -1, np.float32), y, verdict)


def test_threads_do_not_sleep_while_a_program_runs():
    assert TEAM.numbers[40] == 0  # nobody is expected to have jobs
    gr.Session(classifier()).run({"x": batch(0)["x"]})
    assert TEAM.numbers[40] == 0
