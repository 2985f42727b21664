"""Sequences and optionals in whole graphs: values by hand, derivatives against the same computation on tensors."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.errors import ExecutionError, TypeInferenceError
from graphrt.inference import infer
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.ops import optionals, sequence_joining
from graphrt.ops import sequences as ops
from graphrt.runtime.session import Session
from graphrt.types import UNKNOWN, OptionalType, SequenceType, TensorType

F = "float64"
X = np.array([[0.3, -1.2, 0.8], [1.5, 0.4, -0.6], [-0.9, 0.2, 1.1], [0.7, -0.5, 0.1]])
DIRECTION = np.array([[1.0, 0.5, -2.0], [0.3, -0.7, 0.9], [-1.1, 0.6, 0.2], [0.8, 1.3, -0.4]])


def scalar_graph(build):
    """f(x) for x: [4, 3]; ``build(b, x)`` returns a tensor, which is summed."""
    b = GraphBuilder(dtype=F)
    y = build(b, b.input("x", F, [4, 3]))
    b.output(b.ReduceSum(b.Identity(y), keepdims=0), "f")
    return b.build()


def i64(b, *values):
    return b.constant(np.array(values if len(values) != 1 else values[0], np.int64))


def weighted(b, v, row):
    """A term that tells the places of a sequence apart: sum of v**2 * row."""
    return b.ReduceSum(v * v * float(row), keepdims=0)


def construct_and_at(b, x):
    s = b.SequenceConstruct(x, x * 2.0, b.Sin(x))
    return weighted(b, b.SequenceAt(s, i64(b, 1)), 3) + weighted(b, b.SequenceAt(s, i64(b, -1)), 5)


def insert_and_erase(b, x):
    s = b.SequenceConstruct(x, b.Sin(x))
    s = b.SequenceInsert(s, x * 2.0, i64(b, 1))
    s = b.SequenceInsert(s, b.Cos(x))
    s = b.SequenceErase(s, i64(b, 0))
    s = b.SequenceErase(s)
    return weighted(b, b.SequenceAt(s, i64(b, 0)), 3) + weighted(b, b.SequenceAt(s, i64(b, 1)), 5)


def split_and_join(b, x):
    s = b.SplitToSequence(x, i64(b, 1, 3), axis=0)
    t = b.SplitToSequence(x, i64(b, 2), axis=1)
    u = b.SplitToSequence(x, axis=0, keepdims=0)
    joined = (
        b.ConcatFromSequence(s, axis=0),
        b.ConcatFromSequence(t, axis=1),
        b.ConcatFromSequence(u, axis=0, new_axis=1),
    )
    return weighted(b, joined[0], 1) + weighted(b, joined[1], 2) + weighted(b, b.Sin(joined[2]), 4)


def several_users(b, x):
    """A sequence with three users: its cotangents are added, entry by entry."""
    s = b.SplitToSequence(x, i64(b, 1, 3), axis=0)
    first, second = b.SequenceAt(s, i64(b, 0)), b.SequenceAt(s, i64(b, 1))
    return weighted(b, first, 1) + weighted(b, second, 3) + weighted(b, b.Sin(b.ConcatFromSequence(s, axis=0)), 7)


def through_optionals(b, x):
    o = b.Optional(b.SequenceConstruct(x, b.Sin(x)))
    s = b.OptionalGetElement(o)
    y = b.OptionalGetElement(b.Optional(b.SequenceAt(s, i64(b, 1))))
    return weighted(b, y, 3) + weighted(b, b.SequenceAt(b.OptionalGetElement(o), i64(b, 0)), 5)


S, C = np.sin, np.cos
CASES = {
    construct_and_at: (lambda x: 12 * x**2 + 5 * S(x) ** 2, lambda x: 24 * x + 10 * S(x) * C(x)),
    insert_and_erase: (lambda x: 12 * x**2 + 5 * S(x) ** 2, lambda x: 24 * x + 10 * S(x) * C(x)),
    split_and_join: (lambda x: 3 * x**2 + 4 * S(x) ** 2, lambda x: 6 * x + 8 * S(x) * C(x)),
    several_users: (
        lambda x: x**2 * [[1], [3], [3], [3]] + 7 * S(x) ** 2,
        lambda x: 2 * x * [[1], [3], [3], [3]] + 14 * S(x) * C(x),
    ),
    through_optionals: (lambda x: 3 * S(x) ** 2 + 5 * x**2, lambda x: 6 * S(x) * C(x) + 10 * x),
}


@pytest.mark.parametrize("build", CASES, ids=lambda f: f.__name__)
def test_value_gradient_tangent_and_hessian(build):
    f, slope = CASES[build]
    session = Session(scalar_graph(build))
    value, gradient = session.value_and_grad({"x": X}, wrt=["x"])
    assert float(value) == pytest.approx(f(X).sum())
    np.testing.assert_allclose(gradient["x"], slope(X), rtol=1e-12)
    _, tangent = session.jvp({"x": X}, {"x": DIRECTION})
    assert float(tangent["f"]) == pytest.approx(np.sum(slope(X) * DIRECTION))
    h = 1e-6
    _, product = session.hvp({"x": X}, {"x": DIRECTION})
    difference = (slope(X + h * DIRECTION) - slope(X - h * DIRECTION)) / (2 * h)
    np.testing.assert_allclose(product["x"], difference, rtol=1e-6, atol=1e-8)


# ---- SequenceMap and loops -------------------------------------------------------------------------------


def body(build, inputs, outputs):
    b = GraphBuilder("body", dtype=F)
    values = [b.input(n, *t) for n, t in inputs]
    for name, v in zip(outputs, build(b, *values), strict=True):
        b.output(b.Identity(v), name)
    return b.build()


def map_graph(users=1):
    """f = sum over parts of sin(part * w) * scale + part * c for a captured c; parts of different sizes."""
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, [4, 3]), b.parameter("w", np.array([0.5, -1.2, 0.9]))
    b.parameter("c", np.array(0.7))
    scale = b.constant(np.array(2.0))
    parts = b.SplitToSequence(x, i64(b, 1, 3), axis=0)
    others = b.SequenceConstruct(b.Neg(w), w * 3.0)
    inner = body(
        lambda s, part, other, v, k: [s.Sin(part * v) * k + part * s.value("c"), part * other],
        [("part", (F,)), ("other", (F,)), ("v", (F,)), ("k", (F,))],
        ["first", "second"],
    )
    made, second = b.SequenceMap(parts, others, w, scale, body=inner, outputs=2)
    y = b.ReduceSum(b.ConcatFromSequence(made, axis=0), keepdims=0)
    z = b.ReduceSum(b.ConcatFromSequence(second, axis=0), keepdims=0)
    if users > 1:
        z = z + b.ReduceSum(b.SequenceAt(second, i64(b, 0)), keepdims=0)
    b.output(y + z, "f")
    return b.build()


@pytest.mark.parametrize("users", [1, 2])
def test_sequence_map(users):
    w, c = np.array([0.5, -1.2, 0.9]), 0.7
    rows = np.array([[-float(users)], [3.0], [3.0], [3.0]])
    expected = np.sum(S(X * w) * 2 + X * c + X * w * rows)
    dx = 2 * w * C(X * w) + c + w * rows
    dw = np.sum(2 * X * C(X * w) + X * rows, axis=0)
    session = Session(map_graph(users))
    value, gradient = session.value_and_grad({"x": X}, wrt=["x", "w", "c"])
    assert float(value) == pytest.approx(expected)
    np.testing.assert_allclose(gradient["x"], dx)
    np.testing.assert_allclose(gradient["w"], dw)
    np.testing.assert_allclose(gradient["c"], X.sum())
    w_dot = np.array([1.0, -0.4, 0.3])
    _, tangent = session.jvp({"x": X}, {"x": DIRECTION, "w": w_dot, "c": np.array(0.25)})
    assert float(tangent["f"]) == pytest.approx(np.sum(dx * DIRECTION) + dw @ w_dot + 0.25 * X.sum())
    _, product = session.hvp({"x": X}, {"x": DIRECTION})
    np.testing.assert_allclose(product["x"], -2 * w**2 * S(X * w) * DIRECTION)


def test_sequence_map_over_nothing():
    session = Session(map_graph())
    plain = body(lambda s, part: [part * part], [("part", (F,))], ["y"])
    b = GraphBuilder(dtype=F)
    b.output(b.SequenceMap(b.SequenceEmpty(dtype=11), body=plain), "y", SequenceType(TensorType(F)))
    assert Session(b.build()).run({})["y"] == []
    assert session.run({"x": X})["f"].shape == ()


def loop_graph():
    """The sequence [x, x w, x w w, ...] grows in a loop; f = sum of i * its members."""
    b = GraphBuilder(dtype=F)
    n, x = b.input("n", "int64", []), b.input("x", F, [3])
    b.parameter("w", np.array([0.5, -1.2, 0.9]))
    inner = GraphBuilder("body", dtype=F)
    i, cond, s = inner.input("i", "int64", []), inner.input("cond", "bool", []), inner.input("s")
    last = inner.SequenceAt(s, inner.constant(np.array(-1)))
    inner.output(inner.Identity(cond), "cond_out")
    inner.output(inner.SequenceInsert(s, last * inner.value("w")), "s_out", SequenceType(TensorType(F)))
    del i
    grown = b.Loop(n, None, b.SequenceConstruct(x), body=inner.build())
    stacked = b.ConcatFromSequence(grown, axis=0, new_axis=1)
    again = b.SequenceAt(grown, b.constant(np.array(-1)))
    b.output(b.ReduceSum(stacked, keepdims=0) + b.ReduceSum(b.Sin(again), keepdims=0), "f")
    return b.build()


@pytest.mark.parametrize("trips", [0, 1, 3])
def test_a_sequence_grows_in_a_loop(trips):
    x, w, n = X[0], np.array([0.5, -1.2, 0.9]), np.array(trips)
    powers = np.arange(trips + 1)[:, None]
    members = x * w**powers
    session = Session(loop_graph())
    value, gradient = session.value_and_grad({"x": x, "n": n}, wrt=["x", "w"])
    assert float(value) == pytest.approx(members.sum() + S(members[-1]).sum())
    dx = (w**powers).sum(0) + C(members[-1]) * w**trips
    dw = (powers * x * w ** np.maximum(powers - 1, 0)).sum(0)
    dw = dw + C(members[-1]) * trips * x * w ** max(trips - 1, 0)
    np.testing.assert_allclose(gradient["x"], dx)
    np.testing.assert_allclose(gradient["w"], dw)
    x_dot, w_dot = DIRECTION[0], DIRECTION[1]
    _, tangent = session.jvp({"x": x, "n": n}, {"x": x_dot, "w": w_dot})
    assert float(tangent["f"]) == pytest.approx(dx @ x_dot + dw @ w_dot)


# ---- sequences at the edge of a graph ----------------------------------------------------------------------


def test_sequence_inputs_have_gradients():
    sequence = Value("s", SequenceType(TensorType(F)))
    nodes = (
        Node("Constant", (), ("one",), {"value": np.array(1)}),
        Node("SequenceAt", ("s", "one"), ("t",)),
        Node("Mul", ("t", "t"), ("u",)),
        Node("ReduceSum", ("u",), ("f",), {"keepdims": 0}),
    )
    graph = Graph(opset_imports={"": 18}, inputs=(sequence,), outputs=(Value("f"),), nodes=nodes)
    value, gradient = Session(graph).value_and_grad({"s": [X[0], X[1]]}, wrt=["s"])
    assert float(value) == pytest.approx(X[1] @ X[1])
    first, second = gradient["s"]
    assert first is None or not np.any(first)
    np.testing.assert_allclose(second, 2 * X[1])


def test_inputs_are_never_changed():
    xs = [X[0], X[1]]
    assert len(ops.sequence_insert(xs, X[2], np.array(0))) == 3
    assert len(ops.sequence_erase(xs)) == 1
    assert len(xs) == 2


def test_positions_count_from_the_back():
    xs = [np.array(float(i)) for i in range(3)]
    inserted = ops.sequence_insert(xs, np.array(9.0), np.array(-1))
    assert [float(v) for v in inserted] == [0, 1, 9, 2]
    assert [float(v) for v in ops.sequence_erase(xs, np.array(-3))] == [1, 2]
    assert float(ops.sequence_at(xs, np.array(-2))) == 1


def test_split_sizes():
    x = np.arange(10.0)
    assert [len(p) for p in sequence_joining.split_to_sequence(x, np.array(4))] == [4, 4, 2]
    assert [p.shape for p in sequence_joining.split_to_sequence(x[:2])] == [(1,), (1,)]
    assert [p.shape for p in sequence_joining.split_to_sequence(x[:2], keepdims=0)] == [(), ()]
    assert [p.shape for p in sequence_joining.split_to_sequence(x[:2], np.array(1), keepdims=0)] == [(1,), (1,)]
    assert sequence_joining.split_to_sequence(x[:0]) == []


def test_strings_and_optionals():
    words = [np.array(["a", "b"], object), np.array(["c"], object)]
    assert sequence_joining.concat_from_sequence(words, axis=0).tolist() == ["a", "b", "c"]
    assert not optionals.optional_has_element()
    assert not optionals.optional_has_element(None)
    assert optionals.optional_has_element(X)
    assert optionals.optional_has_element([])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.sequence_at([X], np.array(1)), r"position 1 is outside \[-1, 0\] for a sequence of 1"),
        (lambda: ops.sequence_insert([X], X, np.array(-2)), r"outside \[-1, 1\]"),
        (lambda: ops.sequence_erase([]), r"outside \[0, -1\] for a sequence of 0"),
        (lambda: ops.sequence_at([X], np.array([0, 0])), "position has 2 elements"),
        (lambda: sequence_joining.concat_from_sequence([], axis=0), "the sequence is empty"),
        (lambda: sequence_joining.split_to_sequence(X, np.array([1, 2])), "add up to 4"),
        (lambda: sequence_joining.split_to_sequence(X, np.array(0)), "size of 1 or more"),
        (lambda: optionals.optional_get_element(None), "the optional is empty"),
        (lambda: ops.sequence_empty(dtype=99), "99 is no element type"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_lengths_of_mapped_sequences_agree():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [4, 3])
    inner = body(lambda s, p, q: [p + q], [("p", (F,)), ("q", (F,))], ["y"])
    b.output(b.SequenceMap(b.SequenceConstruct(x), b.SequenceConstruct(x, x), body=inner), "y")
    with pytest.raises(ExecutionError, match="different lengths: 1 and 2"):
        Session(b.build()).run({"x": X})


def test_types():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, ["n", 3])
    s = b.SequenceConstruct(x, x)
    parts = b.SplitToSequence(x, axis=1)
    known = infer(b.build(), get_registry())
    assert known.type(s.name) == SequenceType(TensorType(F, ("n", 3)))
    assert known.type(parts.name) == SequenceType(TensorType(F, ("n", 1)))
    at = ops.sequence_at.infer_types([known.type(parts.name), TensorType("int64", ())], {})
    assert at == (TensorType(F, ("n", 1)),)
    joined = sequence_joining.concat_from_sequence.infer_types([known.type(s.name)], {"axis": -1, "new_axis": 1})
    assert joined == (TensorType(F, ("n", 3, None)),)
    held = optionals.optional.infer_types([known.type(s.name)], {})
    assert held == (OptionalType(known.type(s.name)),)
    assert optionals.optional_get_element.infer_types(held, {}) == (known.type(s.name),)
    assert ops.sequence_at.infer_types([UNKNOWN, UNKNOWN], {}) == (UNKNOWN,)
    with pytest.raises(TypeInferenceError, match="input_sequence is float64"):
        ops.sequence_at.infer_types([TensorType(F, (3,)), UNKNOWN], {})
    with pytest.raises(TypeInferenceError, match="one dtype, not float32, float64"):
        ops.sequence_construct.infer_types([TensorType(F), TensorType("float32")], {})
