"""Textbook derivatives, each with its number; the same graphs are what ``graphrt trace`` prints."""

from __future__ import annotations

import math

import numpy as np
import pytest

from graphrt.dual import Dual
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.observers import Recorder
from graphrt.runtime.operations import count_operations
from graphrt.runtime.session import Session
from graphrt.runtime.trace import trace


def scalars(*names: str):
    """A builder with float64 scalar inputs."""
    b = GraphBuilder(dtype="float64")
    return b, *(b.input(n, "float64", []) for n in names)


def log_ab():
    b, x, y = scalars("a", "b")
    b.output(b.Log(x * y), "f")
    return b.build()


def xy_plus_sin():
    b, x, y = scalars("x", "y")
    b.output(x * y + b.Sin(x), "f")
    return b.build()


def test_log_of_product():
    value, gradient = Session(log_ab()).value_and_grad({"a": 2.0, "b": 3.0}, wrt=["a", "b"])
    assert value == pytest.approx(1.791759, abs=5e-7)
    assert gradient["a"] == pytest.approx(0.5)
    assert gradient["b"] == pytest.approx(0.333333, abs=5e-7)


def test_product_plus_sine():
    session = Session(xy_plus_sin())
    value, gradient = session.value_and_grad({"x": 3.0, "y": 0.0}, wrt=["x", "y"])
    assert value == pytest.approx(math.sin(3))
    assert gradient["x"] == pytest.approx(math.cos(3))
    assert gradient["y"] == 3
    value, gradient = session.value_and_grad({"x": np.pi / 2, "y": 0.0}, wrt=["x", "y"])
    assert value == 1
    assert gradient["x"] == pytest.approx(0, abs=1e-15)
    assert gradient["y"] == pytest.approx(np.pi / 2)


def test_logistic_of_a_dot_product():
    b, x1, x2, y1, y2 = scalars("x1", "x2", "y1", "y2")
    b.output(b.Log(1 + b.Exp(-(x1 * y1 + x2 * y2))), "f")
    at = {"x1": 1.0, "x2": 1.0, "y1": 0.0, "y2": 0.0}
    value, gradient = Session(b.build()).value_and_grad(at, wrt=list(at))
    assert value == pytest.approx(math.log(2))
    assert [float(gradient[k]) for k in at] == pytest.approx([0, 0, -0.5, -0.5])


def logistic_term():
    b, x, y = scalars("X", "y")
    w = b.parameter("W", np.float64(3))
    xi1 = b.op("Neg", w * x, name="xi1")
    xi2 = b.Exp(xi1, name="xi2")
    xi3 = b.op("Add", xi2, 1.0, name="xi3")
    xi4 = b.op("Div", b.constant(1.0, "float64"), xi3, name="xi4")
    xi5 = b.Log(xi4, name="xi5")
    b.output(b.op("Neg", b.op("Mul", y, xi5, name="xi6")), "L")
    return b.build()


def test_logistic_loss_term_node_by_node():
    table = trace(logistic_term(), {"X": 3.0, "y": 1.0}, wrt=["W"])
    rows = {r.name: r for r in table.rows}
    assert rows["xi1"].value == -9
    assert rows["xi2"].value == pytest.approx(math.exp(-9))
    assert rows["xi3"].value == pytest.approx(1 + math.exp(-9))
    assert rows["xi5"].value == pytest.approx(-math.log1p(math.exp(-9)))
    assert rows["L"].value == pytest.approx(1.2340219e-4, rel=1e-6)
    assert rows["xi1"].local["mul"] == -1
    assert table.gradient["W"] == pytest.approx(-0.00037018372, rel=1e-7)
    assert "xi2" in str(table)
    assert "d L/d node" in str(table)


def test_exponential_of_a_square():
    b, x = scalars("x")
    b.output(b.Exp(x**2), "f")
    value, gradient = Session(b.build()).value_and_grad({"x": 1.5}, wrt=["x"])
    assert value == pytest.approx(math.exp(2.25))
    assert gradient["x"] == pytest.approx(3 * math.exp(2.25))


def test_operation_counts_of_shared_and_written_out_derivatives():
    b, x = scalars("x")
    square = x**2
    b.output(b.Sqrt(b.Exp(square) + square), "f")
    graph = b.build()
    _, gradient = Session(graph).value_and_grad({"x": 0.7}, wrt=["x"])
    e = math.exp(0.49)
    assert gradient["x"] == pytest.approx((2 * 0.7 * e + 2 * 0.7) / (2 * math.sqrt(e + 0.49)))
    count = count_operations(graph, {"x": 0.7})
    assert count.value == 4
    assert count.value < count.reverse < count.value + count.symbolic


def test_written_out_derivatives_grow_where_reverse_mode_does_not():
    def nested(depth: int):
        b, x = scalars("x")
        v = x
        for _ in range(depth):
            v = b.Sin(v)
        b.output(v, "f")
        return count_operations(b.build(), {"x": 0.5})

    three, six = nested(3), nested(6)
    assert six.reverse < 2.5 * three.reverse
    assert six.symbolic > 2.5 * three.symbolic


def nested_sine():
    b, x = scalars("x")
    b.output(b.Sin(b.Sin(b.Sin(x))), "f")
    return b.build()


def test_nested_sine_and_numerical_derivatives():
    x = 0.8
    _, gradient = Session(nested_sine()).value_and_grad({"x": x}, wrt=["x"])
    exact = math.cos(math.sin(math.sin(x))) * math.cos(math.sin(x)) * math.cos(x)
    assert gradient["x"] == pytest.approx(exact, rel=1e-14)

    def f(v):
        return math.sin(math.sin(math.sin(v)))

    errors = {h: abs((f(x + h) - f(x - h)) / (2 * h) - exact) for h in (1e-2, 1e-5, 1e-13)}
    assert errors[1e-5] < errors[1e-2], "truncation dominates large steps"
    assert errors[1e-5] < errors[1e-13], "cancellation dominates small steps"


def test_dual_numbers_agree_with_forward_mode():
    x = Dual(np.float64(0.8), np.float64(1.0))
    by_overloading = np.sin(np.sin(np.sin(x)))
    values, tangents = Session(nested_sine()).jvp({"x": 0.8}, {"x": 1.0})
    assert by_overloading.value == values["f"]
    assert by_overloading.tangent == pytest.approx(float(tangents["f"]), rel=1e-15)


def test_jacobian_by_columns_equals_jacobian_by_rows():
    rng = np.random.default_rng(0)
    b = GraphBuilder(dtype="float64")
    x = b.input("x", "float64", [4])
    w = b.parameter("w", rng.normal(size=(4, 3)))
    b.output(b.Tanh(x @ w) * b.Sin(b.ReduceSum(x, keepdims=0)), "f")
    session, at = Session(b.build()), {"x": rng.normal(size=4)}
    by_rows = session.jacobian(at, mode="reverse")
    by_columns = session.jacobian(at, mode="forward")
    assert by_rows.shape == (3, 4)
    np.testing.assert_allclose(by_rows, by_columns, rtol=1e-13)


def test_perceptron_with_squared_error():
    """C = (a - y)^2 / 2, a = s(z), z = w x + b: dC/dw = (a - y) s'(z) x."""
    b, x, y = scalars("x", "y")
    w, bias = b.parameter("w", np.float64(0.6)), b.parameter("b", np.float64(0.9))
    z = b.op("Add", w * x, bias, name="z")
    a = b.Sigmoid(z, name="a")
    b.output(b.op("Mul", (a - y) ** 2, 0.5, name="cost"), "C")
    rows = {r.name: r for r in trace(b.build(), {"x": 1.0, "y": 0.0}, wrt=["w", "b"]).rows}
    act = 1 / (1 + math.exp(-1.5))
    delta = act * act * (1 - act)
    assert rows["a"].derivative == pytest.approx(act)
    assert rows["z"].derivative == pytest.approx(delta)
    assert rows["w"].derivative == pytest.approx(delta)
    assert rows["b"].derivative == pytest.approx(delta)


def test_every_delta_of_one_hidden_layer():
    """Scalar x and y, three hidden units: delta2 = a2 - y, delta1 = w2 delta2 s'(z1)."""
    rng = np.random.default_rng(1)
    w1, b1, w2, b2 = (rng.normal(size=s) for s in ((1, 3), (3,), (3, 1), (1,)))
    x, y = np.array([[0.3]]), np.array([[0.8]])
    b = GraphBuilder(dtype="float64")
    vx, vy = b.input("x", "float64", [1, 1]), b.input("y", "float64", [1, 1])
    p1, q1, p2, q2 = (b.parameter(n, v) for n, v in (("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2)))
    z1 = b.op("Add", vx @ p1, q1, name="z1")
    a1 = b.Tanh(z1, name="a1")
    z2 = b.op("Add", a1 @ p2, q2, name="z2")
    b.output(b.ReduceSum((z2 - vy) ** 2 * 0.5, keepdims=0), "C")
    rows = {r.name: r.derivative for r in trace(b.build(), {"x": x, "y": y}).rows}
    h = np.tanh(x @ w1 + b1)
    delta2 = h @ w2 + b2 - y
    delta1 = (delta2 @ w2.T) * (1 - h * h)
    for name, expected in {
        "z2": delta2, "w2": h.T @ delta2, "b2": delta2[0], "a1": delta2 @ w2.T,
        "z1": delta1, "w1": x.T @ delta1, "b1": delta1[0], "x": delta1 @ w1.T,
    }.items():  # fmt: skip
        np.testing.assert_allclose(rows[name], expected, rtol=1e-12, err_msg=name)


def xor_network(n: int):
    """n-bit XOR by induction: xor_n = xor2(xor_{n-1}, x_n), each a pair of steep tanh units.

    With bits -1 and +1, xor2(a, b) = tanh(k (h1 - h2 - 1/2 ...)): one unit fires for "a or b", one for "a and b".
    """
    b = GraphBuilder(f"xor{n}", dtype="float64")
    bits = b.input("bits", "float64", ["batch", n])
    steep = 10.0
    columns = b.Split(bits, axis=1, num_outputs=n, outputs=n)
    result = columns[0]
    for column in columns[1:]:
        total = result + column
        either = b.Tanh((total + 1.0) * steep)
        both = b.Tanh((total - 1.0) * steep)
        result = b.Tanh((either - both - 1.0) * steep)
    b.output(result, "parity")
    return b.build()


@pytest.mark.parametrize("n", range(2, 7))
def test_hand_set_tanh_network_computes_parity(n):
    bits = np.array([[2.0 * (i >> j & 1) - 1 for j in range(n)] for i in range(2**n)])
    out = Session(xor_network(n)).run({"bits": bits})["parity"][:, 0]
    expected = np.where((bits > 0).sum(1) % 2 == 1, 1.0, -1.0)
    np.testing.assert_allclose(out, expected, atol=1e-3)


def deep_net(activation: str, depth: int = 12, width: int = 32):
    rng = np.random.default_rng(2)
    b = GraphBuilder(dtype="float64")
    h = b.input("x", "float64", ["batch", width])
    gain = np.sqrt(2.0) if activation == "Relu" else 1.0
    for i in range(depth):
        w = b.parameter(f"w{i}", rng.normal(size=(width, width)) * gain / np.sqrt(width))
        h = b.op(activation, h @ w)
    b.output(b.ReduceMean(h * h, keepdims=0), "loss")
    return b.build()


def test_gradients_vanish_in_a_deep_sigmoid_net_and_not_with_relu():
    x = np.random.default_rng(3).normal(size=(16, 32))
    ratio = {}
    for activation in ("Sigmoid", "Relu"):
        recorder = Recorder()
        session = Session(deep_net(activation), observers=[recorder])
        _, gradient = session.value_and_grad({"x": x})
        norms = [np.linalg.norm(gradient[f"w{i}"]) for i in range(12)]
        ratio[activation] = norms[0] / norms[-1]
        assert any("MatMul.vjp" in n.op_type for n in recorder.nodes)
    assert ratio["Sigmoid"] < 1e-5
    assert ratio["Relu"] > 1e-2
