"""Timing nodes."""

import json

import numpy as np

import graphrt as gr
from graphrt.runtime.profile import Profiler


def model():
    b = gr.GraphBuilder()
    x = b.input("x", "float32", ["n", 3])
    b.output(b.Tanh(x @ b.parameter("w", np.ones((3, 2), np.float32))), "y")
    return b.build()


def test_every_node_is_booked_once_a_run():
    profiler = Profiler()
    session = gr.Session(model(), observers=[profiler])
    for _ in range(3):
        profiler.begin()
        session.run({"x": np.ones((4, 3), np.float32)})
    assert profiler.runs == 3
    assert {op: t.nodes for op, t in profiler.by_op.items()} == {"MatMul": 3, "Tanh": 3}
    assert profiler.by_op["MatMul"].flops == 3 * 2 * 4 * 3 * 2
    assert all(t.seconds > 0 for t in profiler.by_op.values())
    profiler.clear()
    assert not profiler.events and not profiler.runs


def test_profiling_changes_no_bit():
    x = {"x": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}
    watched = gr.Session(model(), observers=[Profiler()]).run(x)["y"]
    assert np.array_equal(watched, gr.Session(model()).run(x)["y"])


def test_trace_has_an_event_for_each_node_in_order():
    profiler = Profiler()
    profiler.begin()
    gr.Session(model(), observers=[profiler]).run({"x": np.ones((4, 3), np.float32)})
    events = json.loads(profiler.trace_text())["traceEvents"]
    assert [e["name"] for e in events] == ["MatMul", "Tanh"]
    assert events[0]["ts"] + events[0]["dur"] <= events[1]["ts"] + 1e-3
    assert events[0]["args"]["shapes"] == "float32[4, 3], float32[3, 2], float32[4, 2]"
