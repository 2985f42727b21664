"""Groups of single numbers on a tape: the bits of Python's functions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from graphrt_numba import scalars
from graphrt_numba.tape import INSTRUCTIONS
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.runtime.formulas import FILLS
from graphrt.runtime.observers import Recorder
from graphrt.runtime.plan import make_plan
from graphrt.runtime.session import Session
from graphrt.testing import check_kernel

BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"]
UNARY = sorted(op for op in INSTRUCTIONS.keys() - FILLS.keys() - {*BINARY, "Sum"} if "." not in op)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 1e-300, 1e300, -1e300, 710.0, math.inf, -math.inf, math.nan]
numbers = st.one_of(st.sampled_from(SPECIAL), st.floats(-30, 30), st.floats())


@pytest.fixture(autouse=True)
def _all_sizes(monkeypatch):
    monkeypatch.setattr(scalars, "LEAST", 1)


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a.view("int64"), b.view("int64"))


def check(way, sessions):
    """What two sessions make in some way has the same bits; a NaN is a NaN."""
    found, alone = map(way, sessions)
    for name, y in found.items():
        assert same_bits(y, alone[name]) or (np.isnan(y) and np.isnan(alone[name])), (name, y, alone[name])


def with_and_without_observer(graph):
    return [Session(graph), Session(graph, observers=[Recorder()])]


def test_does_what_the_op_does():
    assert check_kernel(scalars.tape) > 0


def test_zeros_of_both_signs_among_the_attributes():
    b = GraphBuilder("test", dtype="float64")
    x = b.input("x", "float64", [])
    b.output(b.LeakyRelu(x, alpha=0.0), "plus")
    b.output(b.LeakyRelu(x, alpha=-0.0), "minus")
    b.output(b.Mul(b.Sin(x), b.Exp(x)), "more")
    check(lambda session: session.run({"x": -1.0}), with_and_without_observer(b.build()))
    found = Session(b.build()).run({"x": -1.0})
    assert np.signbit(found["plus"]) and not np.signbit(found["minus"])


def test_it_serves_large_groups_alone(monkeypatch):
    b = GraphBuilder("test", dtype="float64")
    x = b.input("x", "float64", [])
    b.output(b.Sin(b.Exp(b.Neg(b.Tanh(x)))), "y")
    graph = b.build()
    assert [s.kernel.name for s in make_plan(graph, get_registry()).steps] == ["numba_tape"]
    monkeypatch.setattr(scalars, "LEAST", 5)
    assert [s.kernel.name for s in make_plan(graph, get_registry()).steps] == ["scalars"]


def every_op():
    b = GraphBuilder("every", dtype="float64")
    x, y = b.input("x", "float64", []), b.input("y", "float64", [])
    made = [b.op(op, x) for op in UNARY] + [b.op(op, x, y) for op in BINARY] + [b.Sum(x, y, x), b.Sum(x)]
    made += [b.LeakyRelu(x, alpha=0.3), b.HardSigmoid(x, alpha=0.4, beta=0.6), b.Swish(x, alpha=1.5)]
    for i, z in enumerate(made):
        b.output(z, f"y{i}")
    return b.build()


EVERY = with_and_without_observer(every_op())


@settings(max_examples=100, deadline=None)
@given(numbers, numbers)
def test_every_op_and_its_slope_have_the_bits_of_python(x, y):
    feeds = {"x": x, "y": y}
    check(lambda session: session.run(feeds), EVERY)
    check(lambda session: session.jvp(feeds, {"x": 1.0, "y": 0.5})[1], EVERY)


@st.composite
def graphs(draw):
    """Ops over a few numbers; the last value and another are outputs."""
    b = GraphBuilder("random", dtype="float64")
    values = [b.input(f"x{i}", "float64", []) for i in range(2)] + [b.constant(np.float64(1.5))]
    for _ in range(draw(st.integers(4, 20))):
        x, y = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        op = draw(st.sampled_from([*UNARY, *BINARY, *BINARY, "Sum", "Erf", "Floor"]))
        values.append(b.op(op, x, y) if op in (*BINARY, "Sum") else b.op(op, x))
    for i, y in enumerate({id(v): v for v in (values[-1], draw(st.sampled_from(values[3:])))}.values()):
        b.output(b.Identity(y), f"y{i}")
    return b.build()


@settings(max_examples=60, deadline=None)
@given(graphs(), st.tuples(numbers, numbers))
def test_any_graph_gives_the_bits_of_its_nodes(graph, values):
    feeds = dict(zip(graph.input_names, values, strict=True))
    for y in graph.output_names:
        check(
            lambda session, y=y: session.value_and_grad(feeds, of=y, wrt=list(graph.input_names))[1],
            with_and_without_observer(graph),
        )
