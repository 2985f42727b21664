"""If, Loop and Scan against the same computation written out in Python, values and derivatives."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.session import Session
from graphrt.types import TensorType

F = "float64"


def body(build, inputs, outputs_of=None):
    """A subgraph: ``build(builder, *values)`` returns its outputs; outer values are read by name."""
    b = GraphBuilder("body", dtype=F)
    values = [b.input(n, t, s) for n, t, s in inputs]
    for i, v in enumerate(build(b, *values)):
        b.output(b.Identity(v), f"{inputs[0][0] if inputs else 'branch'}_out{i}")
    return b.build()


def if_graph():
    """y = x * w where x sums to something positive, else sin(x)."""
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, ["n"])
    b.parameter("w", np.array(3.0))
    positive = b.Greater(b.ReduceSum(x, keepdims=0), 0.0)
    then_branch = body(lambda s: [s.value("x") * s.value("w")], [])
    else_branch = body(lambda s: [s.Sin(s.value("x"))], [])
    y = b.If(positive, then_branch=then_branch, else_branch=else_branch)
    b.output(b.ReduceSum(y * y, keepdims=0), "f")
    return b.build()


@pytest.mark.parametrize(("x", "dx", "dw"), [([1.0, 2.0], [18.0, 36.0], 30.0), ([-1.0, 0.5], None, 0.0)])
def test_if_follows_the_branch_taken(x, dx, dw):
    x = np.array(x)
    session = Session(if_graph())
    value, gradient = session.value_and_grad({"x": x}, wrt=["x", "w"])
    expected = np.array(dx) if dx else 2 * np.sin(x) * np.cos(x)
    np.testing.assert_allclose(gradient["x"], expected)
    np.testing.assert_allclose(gradient["w"], dw)
    direction = np.array([0.3, -0.7])
    out, tangent = session.jvp({"x": x}, {"x": direction})
    assert out["f"] == pytest.approx(float(value))
    assert tangent["f"] == pytest.approx(float(expected @ direction))


def loop_graph(scan_output=True):
    """v <- tanh(v * w + i) n times, from v = x; also every v as a scan output."""
    b = GraphBuilder(dtype=F)
    n, x = b.input("n", "int64", []), b.input("x", F, [3])
    b.parameter("w", np.array([0.5, -1.2, 0.9]))

    def build(s, i, cond, v):
        v = s.Tanh(v * s.value("w") + s.Cast(i, to=11))
        return [cond, v, v * v] if scan_output else [cond, v]

    inner = body(build, [("i", "int64", []), ("c", "bool", []), ("v", F, [3])])
    outputs = b.Loop(n, None, x, body=inner, outputs=2 if scan_output else 1)
    last, all_v = outputs if scan_output else (outputs, None)
    total = b.ReduceSum(last * last, keepdims=0)
    if scan_output:
        total = total + b.ReduceSum(all_v, keepdims=0)
    b.output(total, "f")
    return b.build()


def unrolled(x, w, n):
    b = GraphBuilder(dtype=F)
    v, vw = b.input("x", F, [3]), b.input("w", F, [3])
    total = None
    for i in range(n):
        v = b.Tanh(v * vw + float(i))
        part = b.ReduceSum(v * v, keepdims=0)
        total = part if total is None else total + part
    last = b.ReduceSum(v * v, keepdims=0)
    b.output(last if total is None else last + total, "f")
    return Session(b.build()).value_and_grad({"x": x, "w": w}, wrt=["x", "w"])


@pytest.mark.parametrize("n", [0, 1, 5])
def test_loop_equals_the_unrolled_graph(n):
    rng = np.random.default_rng(n)
    x = rng.normal(size=3)
    session = Session(loop_graph())
    w = session.parameters["w"]
    value, gradient = session.value_and_grad({"n": n, "x": x}, wrt=["x", "w"])
    expected, expected_gradient = unrolled(x, w, n)
    assert value == pytest.approx(float(expected), rel=1e-12)
    for k, g in expected_gradient.items():
        np.testing.assert_allclose(gradient[k], g, rtol=1e-10, atol=1e-14)
    dots = {"x": rng.normal(size=3), "w": rng.normal(size=3)}
    _, tangent = session.jvp({"n": n, "x": x}, dots)
    assert tangent["f"] == pytest.approx(sum(float(gradient[k] @ d) for k, d in dots.items()), rel=1e-10)


def test_hessian_vector_product_through_a_loop():
    x, v = np.array([0.2, -0.4, 0.7]), np.array([1.0, 0.5, -2.0])
    session = Session(loop_graph())
    _, product = session.hvp({"n": 3, "x": x}, {"x": v})
    h = 1e-6
    g = [session.value_and_grad({"n": 3, "x": x + s * h * v}, wrt=["x"])[1]["x"] for s in (1, -1)]
    np.testing.assert_allclose(product["x"], (g[0] - g[1]) / (2 * h), rtol=1e-6)


def test_loop_ends_when_its_condition_fails():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [])

    def build(s, i, cond, v):
        doubled = v * 2.0
        return [s.Less(doubled, 100.0), doubled]

    inner = body(build, [("i", "int64", []), ("c", "bool", []), ("v", F, [])])
    b.output(b.Loop(None, True, x, body=inner), "y")
    session = Session(b.build())
    value, gradient = session.value_and_grad({"x": 3.0}, wrt=["x"])
    assert (value, gradient["x"]) == (192, 64)


def test_loop_carries_values_that_grow():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [1])
    inner = body(
        lambda s, i, c, v: [c, s.Concat(v, v * 2.0, axis=0)],
        [("i", "int64", []), ("c", "bool", []), ("v", F, None)],
    )
    b.output(b.Loop(b.constant(np.int64(3)), None, x, body=inner), "y")
    session = Session(b.build())
    np.testing.assert_array_equal(session.run({"x": np.array([1.0])})["y"], [1, 2, 2, 4, 2, 4, 4, 8])
    assert session.jacobian({"x": np.array([1.0])}, mode="reverse").ravel().tolist() == [1, 2, 2, 4, 2, 4, 4, 8]


@pytest.mark.parametrize("reverse", [0, 1])
def test_scan_is_a_cumulative_sum(reverse):
    b = GraphBuilder(dtype=F)
    start, x = b.input("start", F, [2]), b.input("x", F, ["n", 2])
    inner = body(lambda s, acc, row: [acc + row, (acc + row) ** 2], [("acc", F, [2]), ("row", F, [2])])
    directions = {"scan_input_directions": [reverse], "scan_output_directions": [reverse]}
    last, ys = b.Scan(start, x, body=inner, num_scan_inputs=1, outputs=2, **directions)
    b.output(b.ReduceSum(ys, keepdims=0) + b.ReduceSum(last, keepdims=0), "f")
    session = Session(b.build())
    rng = np.random.default_rng(4)
    at = {"start": rng.normal(size=2), "x": rng.normal(size=(4, 2))}

    def f(start, x):
        rows = x[::-1] if reverse else x
        sums = start + np.cumsum(rows, 0)
        return (sums**2).sum() + sums[-1].sum()

    value, gradient = session.value_and_grad(at, wrt=["start", "x"])
    assert value == pytest.approx(f(**at))
    for k in at:
        d = rng.normal(size=at[k].shape)
        numeric = (f(**{**at, k: at[k] + 1e-6 * d}) - f(**{**at, k: at[k] - 1e-6 * d})) / 2e-6
        assert np.sum(gradient[k] * d) == pytest.approx(numeric, rel=1e-7)
        assert session.jvp(at, {k: d})[1]["f"] == pytest.approx(numeric, rel=1e-7)


def test_loop_within_if_captures_from_both_levels():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [])
    b.op("Mul", x, x, outputs=["square"])
    loop_body = body(
        lambda s, i, c, v: [c, v + s.value("square")], [("i", "int64", []), ("c", "bool", []), ("v", F, [])]
    )

    def build(s):
        return [s.Loop(s.constant(np.int64(4)), None, s.value("x"), body=loop_body)]

    y = b.If(b.constant(np.array(True)), then_branch=body(build, []), else_branch=body(lambda s: [s.value("x")], []))
    b.output(y, "y")
    session = Session(b.build())
    value, gradient = session.value_and_grad({"x": 3.0}, wrt=["x"])
    assert (value, gradient["x"]) == (3 + 4 * 9, 1 + 4 * 6)


def test_random_ops_differ_from_trip_to_trip():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [4])
    inner = Graph(
        "body",
        inputs=(
            Value("i", TensorType("int64", ())),
            Value("c", TensorType("bool", ())),
            Value("v", TensorType(F, (4,))),
        ),
        outputs=(Value("c2"), Value("v2"), Value("draw")),
        nodes=(
            Node("Identity", ("c",), ("c2",)),
            Node("Identity", ("v",), ("v2",)),
            Node("RandomUniformLike", ("v",), ("draw",)),
        ),
    )
    _, draws = b.Loop(b.constant(np.int64(2)), None, x, body=inner, outputs=2)
    b.output(draws, "y")
    y = Session(b.build()).run({"x": np.zeros(4)})["y"]
    assert y.shape == (2, 4)
    assert not np.array_equal(y[0], y[1])
