"""Nodes of single numbers become one function, and give what they give one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.registry import Registry
from graphrt.runtime import scalar_groups
from graphrt.runtime.formulas import FILLS, OPS
from graphrt.runtime.fusion import ALIASES
from graphrt.runtime.observers import Recorder
from graphrt.runtime.plan import make_plan
from graphrt.runtime.session import Session

OWN = Registry.of(ops=get_registry().table("ops").values())
"""No kernels: the ops' own functions."""

BINARY = ["Add", "Sub", "Mul", "Div", "Pow", "Sum", "Max", "Min"]
UNARY = sorted(op for op in OPS - FILLS.keys() - {*BINARY} if "." not in op)
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.0, 3.0, 1e-300, 1e300, -1e300, 710.0, -750.0, math.inf, -math.inf, math.nan]
numbers = st.one_of(st.sampled_from(SPECIAL), st.floats(-4, 4))


def build(make, count=1, dtype="float64"):
    b = GraphBuilder("test", dtype=dtype)
    made = make(b, *(b.input(f"x{i}", dtype, []) for i in range(count)))
    for i, y in enumerate(made if isinstance(made, tuple) else (made,)):
        b.output(y, f"y{i}")
    return b.build()


def steps(graph, **options):
    return [s.node.op_type for s in make_plan(graph, get_registry(), **options).steps]


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and (a.tobytes() == b.tobytes() or bool(np.isnan(a) & np.isnan(b)))


def polynomial(b, x, y):
    return b.Sin(x * y + x) / (b.Exp(y) - x)


# ---- what is a group ---------------------------------------------------------------------------------------


def test_value_and_gradient_are_one_step():
    session = Session(build(polynomial, 2))
    session.value_and_grad({"x0": 2.0, "x1": 0.5}, wrt=["x0", "x1"])
    session.run({"x0": 2.0, "x1": 0.5})
    assert [[s.node.op_type for s in p.steps] for p in session._plans.values()] == [["FusedScalars"]] * 2


def test_what_others_read_ends_a_group():
    def make(b, x):
        s = b.Neg(b.Abs(b.Exp(b.Sin(x))))
        return b.Add(s, b.Neg(b.Abs(b.Floor(s)))), b.Cos(s)

    assert steps(build(make)) == ["FusedScalars", "Floor", "FusedScalars"]


def test_what_is_beside_does_not_end_a_group():
    def make(b, x, y):
        s = b.Exp(b.Sin(x))
        return b.Floor(y), b.Neg(b.Abs(s))

    assert steps(build(make, 2)) == ["Floor", "FusedScalars"]


def test_large_groups_are_cut(monkeypatch):
    monkeypatch.setattr(scalar_groups, "MOST", 5)

    def make(b, x):
        values = [x]
        for _ in range(14):
            values.append(b.Sin(b.Add(values[-1], values[len(values) // 2])))
        return values[-1]

    graph = build(make)
    made = [s.node for s in make_plan(graph, get_registry()).steps]
    sizes = [len(n.attributes["body"].nodes) if n.op_type == "FusedScalars" else 1 for n in made]
    assert sizes == [5, 5, 5, 5, 5, 1, 1, 1]
    check(graph, [0.7])


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_other_numbers_are_left_alone(dtype):
    assert "FusedScalars" not in steps(build(lambda b, x: b.Abs(b.Neg(b.Abs(b.Neg(x)))), 1, dtype))


def test_a_few_nodes_are_left_alone():
    assert steps(build(lambda b, x: b.Sin(b.Neg(x)))) == ["Neg", "Sin"]


def test_an_observed_plan_has_every_node():
    graph = build(lambda b, x: b.Exp(b.Sin(b.Neg(b.Tanh(x)))))
    assert steps(graph, observed=True) == ["Tanh", "Neg", "Sin", "Exp"]


def test_without_a_kernel_there_are_no_groups():
    graph = build(polynomial, 2)
    assert "FusedScalars" not in [s.node.op_type for s in make_plan(graph, OWN).steps]


# ---- what it computes --------------------------------------------------------------------------------------


def results(graph, feeds, *, wrt=None, **options):
    session = Session(graph, **options)
    found = session.run(feeds)
    for y in graph.output_names:
        value, gradient = session.value_and_grad(feeds, of=y, wrt=wrt or list(graph.input_names))
        found |= {f"{y} again": value} | {f"{y} by {x}": g for x, g in gradient.items()}
    return found


def check(graph, values):
    """The same bits with and without an observer; what they are."""
    feeds = {name: np.array(v) for name, v in zip(graph.input_names, values, strict=True)}
    found, alone = results(graph, feeds), results(graph, feeds, observers=[Recorder()])
    for name, y in found.items():
        assert same_bits(y, alone[name]), name
        assert y.flags.writeable and y.flags.owndata
    return found


@pytest.mark.parametrize("x", SPECIAL)
def test_every_op_of_one_number(x):
    """Each as its own function and its rule have it, infinities and NaN too."""

    def make(b, x):
        return tuple(b.op(op, x) for op in UNARY)

    graph = build(make)
    found, own = check(graph, [x]), results(graph, {"x0": np.array(x)}, registry=OWN)
    for name, y in own.items():
        np.testing.assert_allclose(found[name], y, rtol=1e-14, atol=1e-320, equal_nan=True, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(numbers, numbers)
def test_every_op_of_two_numbers(x, y):
    assume(y != 0.5 or x != -np.inf)  # NumPy takes the square root of a single number, which is no power there

    def make(b, x, y):
        return tuple(b.op(op, x, y) for op in BINARY)

    graph = build(make, 2)
    with np.errstate(all="ignore"):
        found, own = check(graph, [x, y]), results(graph, {"x0": np.array(x), "x1": np.array(y)}, registry=OWN)
    for name, z in own.items():
        np.testing.assert_allclose(found[name], z, rtol=1e-14, atol=1e-320, equal_nan=True, err_msg=name)


def test_attributes_and_absent_inputs():
    def make(b, x, y):
        leaky, hard = b.LeakyRelu(x, alpha=0.3), b.HardSigmoid(x, alpha=0.4, beta=0.6)
        return leaky, hard, b.Clip(x, y), b.Clip(x, "", y), b.Gelu(x, approximate="tanh"), b.Swish(x, alpha=1.5)

    graph = build(make, 2)
    for x in (-1.7, 0.2, 0.9):
        feeds = {"x0": np.array(x), "x1": np.array(0.5)}
        found, own = check(graph, feeds.values()), results(graph, feeds, registry=OWN)
        for name, y in own.items():
            np.testing.assert_allclose(found[name], y, rtol=1e-14, err_msg=name)


@st.composite
def graphs(draw):
    """Ops with formulas and others over a few numbers; some values are outputs."""
    b = GraphBuilder("random", dtype="float64")
    values = [b.input(f"x{i}", "float64", []) for i in range(3)] + [b.constant(np.float64(1.5))]
    for _ in range(draw(st.integers(1, 20))):
        x, y = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        op = draw(st.sampled_from([*UNARY, *BINARY, *BINARY, "Floor", "Mish", "Mean", "ReduceSum"]))
        values.append(b.op(op, x, y) if op in (*BINARY, "Mean") else b.op(op, x))
    for i, y in enumerate(draw(st.lists(st.sampled_from(values[4:]), min_size=1, max_size=2, unique=True))):
        b.output(b.Identity(y), f"y{i}")
    return b.build()


@settings(max_examples=150, deadline=None)
@given(graphs(), st.tuples(numbers, numbers, numbers))
def test_any_graph_gives_the_bits_of_its_nodes(graph, values):
    check(graph, values)


def test_forward_mode_and_second_derivatives():
    graph, feeds = build(polynomial, 2), {"x0": 0.4, "x1": 0.9}
    ways = [
        lambda s: s.jvp(feeds, {"x0": 1.0, "x1": -2.0})[1],
        lambda s: s.hvp(feeds, {"x0": 1.0, "x1": -2.0})[1],
        lambda s: s.vjp(feeds, ["x0", "x1"])[1]({"y0": 1.5}),
    ]
    for way in ways:
        found, alone, own = (way(Session(graph, **o)) for o in ({}, {"observers": [Recorder()]}, {"registry": OWN}))
        for name, y in found.items():
            assert same_bits(y, alone[name])
            np.testing.assert_allclose(y, own[name], rtol=1e-13)


def test_what_was_returned_stays():
    session = Session(build(polynomial, 2))
    first = session.run({"x0": 0.4, "x1": 0.9})["y0"]
    before = float(first)
    second = session.run({"x0": 0.1, "x1": 0.2})["y0"]
    assert float(first) == before != float(second)


def test_weights_are_updated():
    b = GraphBuilder("descent", dtype="float64")
    w, g = b.parameter("w", np.array(2.0)), b.input("g", "float64", [])
    b.output(b.Sin(b.Cos(w)), "y")
    new = w - b.Mul(g, b.Tanh(b.constant(np.float64(0.5))))
    graph = b.build()
    graph = graph.replace(state_updates={"w": new.name})
    for in_place in (False, True):
        session = Session(graph, in_place=in_place)
        for _ in range(2):
            session.run({"g": 1.0})
        np.testing.assert_allclose(session.parameters["w"], 2 - 2 * math.tanh(0.5), rtol=1e-15)


def test_within_a_limit_of_memory():
    graph = build(lambda b, x, y: b.Exp(b.Sin(b.Mul(b.Tanh(x), b.Cos(y)))), 2)
    feeds = {"x0": 0.3, "x1": 0.8}
    free, tight = (Session(graph, memory_limit=m).value_and_grad(feeds, wrt=["x0"])[1] for m in (None, "1 KB"))
    assert same_bits(free["x0"], tight["x0"])


def test_in_the_body_of_a_loop():
    inner = GraphBuilder("body", dtype="float64")
    inner.input("i", "int64", [])
    go, x = inner.input("go", "bool", []), inner.input("x", "float64", [])
    inner.output(inner.Identity(go), "go_on")
    inner.output(inner.Tanh(inner.Sin(inner.Mul(inner.Exp(x), x))), "next")
    b = GraphBuilder("loop", dtype="float64")
    x = b.input("x", "float64", [])
    b.output(b.op("Loop", b.constant(np.int64(5)), "", x, body=inner.build()), "y")
    graph = b.build()
    value, gradient = Session(graph).value_and_grad({"x": 0.7}, wrt=["x"])
    y, slope = 0.7, 1.0
    for _ in range(5):
        p = math.exp(y) * y
        new = math.tanh(math.sin(p))
        slope *= (1 - new**2) * math.cos(p) * math.exp(y) * (1 + y)
        y = new
    np.testing.assert_allclose([value, gradient["x"]], [y, slope], rtol=1e-14)


def test_every_op_with_a_formula_has_a_kernel_for_one_number():
    for op in OPS - ALIASES - FILLS.keys():
        assert any(k.name == f"scalar_{op}" for k in get_registry().kernels_for(op)), op
