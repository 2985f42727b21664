"""Sessions: what they refuse, what they keep to themselves, what they give away, and how much they remember."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphrt.errors import ExecutionError, GraphError, InputError, TypeInferenceError, UnknownOpError
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.op import op
from graphrt.registry import Registry
from graphrt.runtime.session import PLANS, Session
from graphrt.types import MapType, OptionalType, SequenceType, TensorType

F = "float64"


def linear():
    """y = x w + b, with a batch symbol shared by x and a mask."""
    b = GraphBuilder("linear")
    x, mask = b.input("x", "float32", ["batch", 2]), b.input("mask", "float32", ["batch", 1])
    w, bias = b.parameter("w", np.float32([[1], [2]])), b.parameter("b", np.float32([3]))
    b.output((x @ w + bias) * mask, "y")
    return b.build()


GOOD = {"x": np.ones((4, 2), np.float32), "mask": np.ones((4, 1), np.float32)}

REFUSED = {
    "unknown name": (
        {**GOOD, "z": 1},
        r"no input 'z'; its inputs are: x: float32\[batch, 2\], mask: float32\[batch, 1\]",
    ),
    "missing": ({"x": GOOD["x"]}, r"the input mask: float32\[batch, 1\] is missing; given: x"),
    "nothing": ({}, "is missing; given: nothing"),
    "dtype": (
        {**GOOD, "x": np.ones((4, 2))},
        r"'x': expected float32\[batch, 2\], got float64\[4, 2\]; convert it: x.ast",
    ),
    "rank": ({**GOOD, "x": np.ones(2, np.float32)}, r"\(2 dimensions\), got float32\[2\] \(1 dimensions\)"),
    "size": ({**GOOD, "x": np.ones((4, 3), np.float32)}, "dimension 1 is 3, not 2"),
    "symbol": ({**GOOD, "mask": np.ones((5, 1), np.float32)}, "'batch' is 5 here and 4 in input 'x'"),
    "text": ({**GOOD, "x": "hello"}, "'x': expected .* got str 'hello'"),
    "ragged": ({**GOOD, "x": [[1], [1, 2]]}, "'x': not an array"),
    "a date": ({**GOOD, "x": np.zeros((4, 2), "datetime64[s]")}, "cannot be values of a graph"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_inputs_that_do_not_fit(case):
    feeds, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        Session(linear()).run(feeds)


NUMBERS = {
    "a list": ([[1, 2], [3, 4]], "float32", [2, 2]),
    "a number": (3, "float32", []),
    "a whole float": (3.0, "int64", []),
    "a bool": (True, "bool", []),
    "a string": ("hi", "string", []),
    "strings": (["a", "b"], "string", ["n"]),
}


@pytest.mark.parametrize("case", NUMBERS)
def test_python_values_become_arrays_of_the_declared_type(case):
    given_, dtype, shape = NUMBERS[case]
    graph = Graph(inputs=(Value("x", TensorType(dtype, tuple(shape))),), outputs=(Value("x"),))
    assert Session(graph).run({"x": given_})["x"].tolist() == given_


@pytest.mark.parametrize("value", [3.5, 300, -1, [1, 2.5]])
def test_numbers_are_never_rounded_to_fit(value):
    graph = Graph(inputs=(Value("x", TensorType("uint8", None)),), outputs=(Value("x"),))
    with pytest.raises(InputError, match="does not fit uint8"):
        Session(graph).run({"x": value})


def test_containers():
    tensor = TensorType(F, ("n",))
    kinds = (Value("s", SequenceType(tensor)), Value("o", OptionalType(tensor)), Value("m", MapType("string", tensor)))
    session = Session(Graph(inputs=kinds, outputs=kinds))
    given = [np.ones(2), np.ones(2)]
    out = session.run({"s": given, "o": None, "m": {"a": np.ones(2)}})
    assert (len(out["s"]), out["o"]) == (2, None)
    out["s"][0][:] = 5
    assert given[0].tolist() == [1, 1]
    with pytest.raises(InputError, match=r"'s': expected sequence\(float64\[n\]\): a list, got ndarray"):
        session.run({"s": np.ones(2), "o": None, "m": {}})
    with pytest.raises(InputError, match=r"'s\[1\]': expected float64\[n\], got float32"):
        session.run({"s": [np.ones(2), np.ones(2, np.float32)], "o": None, "m": {}})
    with pytest.raises(InputError, match=r"'m': expected map.*: a dict, got int"):
        session.run({"s": [], "o": None, "m": 1})


def test_names_that_are_not_there():
    session = Session(linear())
    with pytest.raises(InputError, match="the graph has no value 'z'; its outputs are: y"):
        session.run(GOOD, ["z"])
    with pytest.raises(InputError, match="mode is 'infer' or 'train', not 'test'"):
        Session(linear(), "test")
    with pytest.raises(InputError, match="mode is 'auto', 'reverse' or 'forward', not 'both'"):
        session.jacobian(GOOD, wrt="x", mode="both")
    with pytest.raises(InputError, match="name wrt=: the graph has the inputs x, mask"):
        session.jacobian(GOOD)
    with pytest.raises(InputError, match="'z' is no input or initializer"):
        session.jacobian(GOOD, wrt="z")


def test_any_value_may_be_fetched():
    session = Session(linear())
    out = session.run(GOOD, ["matmul", "w", "x", "y", "matmul"])
    assert list(out) == ["matmul", "w", "x", "y"]
    assert out["matmul"].ravel().tolist() == [3] * 4
    assert session.run(GOOD, []) == {}
    assert list(session.run(GOOD, "matmul")) == ["matmul"]


# ---- whose memory it is ----------------------------------------------------------------------------------


def aliasing():
    """Outputs that are views of the input, of a weight, of a constant and of each other."""
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, [2, 3]), b.parameter("w", np.arange(6.0).reshape(2, 3))
    c = b.constant(np.arange(6.0).reshape(2, 3))
    for v in (x, w, c, b.Tanh(x)):
        b.output(v)
        for made in (
            b.Identity(v),
            b.Transpose(v),
            b.Reshape(v, np.array([-1])),
            *b.Split(v, None, axis=0, num_outputs=2, outputs=2),
        ):
            b.output(made)
    return b.build()


def test_results_are_the_callers_own():
    session, x = Session(aliasing()), np.arange(6.0).reshape(2, 3) / 7
    kept = x.copy()
    expected = {k: v.copy() for k, v in session.run({"x": x}).items()}
    out = session.run({"x": x})
    arrays = list(out.values())
    for i, a in enumerate(arrays):
        assert a.flags.writeable
        assert not any(np.shares_memory(a, other) for other in (x, session.parameters["w"], *arrays[:i]))
        a[...] = -1
    np.testing.assert_array_equal(x, kept)
    for k, v in session.run({"x": x}).items():
        np.testing.assert_array_equal(v, expected[k])
    assert x.flags.writeable
    assert session.parameters["w"].flags.writeable


def test_gradients_are_the_callers_own():
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, [2]), b.parameter("w", np.ones(2))
    b.output(b.ReduceSum(x + w, keepdims=0), "f")
    session = Session(b.build())
    _, g = session.value_and_grad({"x": np.ones(2)}, wrt=["x", "w"])
    g["x"][:] = 5
    assert g["w"].tolist() == [1, 1]
    assert session.value_and_grad({"x": np.ones(2)}, wrt=["x"])[1]["x"].tolist() == [1, 1]


def test_a_pullback_is_about_the_run_it_came_from():
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, [2]), b.parameter("w", np.array([2.0, 3.0]))
    b.output(b.Exp(x * w), "y")
    session, x = Session(b.build()), np.array([0.5, -0.5])
    outputs, pullback = session.vjp({"x": x}, wrt=["x", "w"])
    expected = pullback({"y": np.ones(2)})
    outputs["y"][:] = 99
    expected_again = {k: v.copy() for k, v in expected.items()}
    x[:] = 99
    session.parameters["w"] = np.zeros(2)
    session.run({"x": x})
    for k in expected:
        expected[k][:] = 99
        np.testing.assert_array_equal(pullback({"y": np.ones(2)})[k], expected_again[k])


def counter():
    """A graph that counts its runs, and gives the new count away."""
    b = GraphBuilder(dtype=F)
    x, n = b.input("x", F, [1]), b.parameter("n", np.zeros(1))
    new = n + 1.0
    b.update("n", new)
    b.output(new, "count")
    b.parameter("last", np.zeros(1))
    b.update("last", x)
    b.output(b.ReduceSum(x * n, keepdims=0), "f")
    return b.build()


def test_state_is_not_shared_with_results_or_inputs():
    session, x = Session(counter()), np.array([3.0])
    out = session.run({"x": x})
    out["count"][:] = 50
    x[:] = 70
    assert (session.parameters["n"], session.parameters["last"]) == (1, 3)


def test_one_call_updates_state_once():
    session, x = Session(counter()), {"x": np.array([3.0])}
    calls = (
        lambda: session.run(x),
        lambda: session.value_and_grad(x, of="f", wrt=["x"]),
        lambda: session.jvp(x, x),
        lambda: session.jacobian(x, of="f", wrt="x", mode="forward"),
        lambda: session.jacobian(x, of="f", wrt="x", mode="reverse"),
        lambda: session.vjp(x, wrt=["x"])[1]({"f": 1.0}),
        lambda: session.hvp(x, x, of="f"),
    )
    for i, call in enumerate(calls, 1):
        call()
        assert (session.parameters["n"], session.step) == (i, i)


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize("layout", ["plain", "read-only", "strided", "matrix", "memory map", "big-endian"])
def test_inputs_of_any_layout_are_read_and_not_changed(layout, tmp_path):
    x = np.array([[0.5, 1.5], [2.5, 3.5]])
    if layout == "read-only":
        x.flags.writeable = False
    elif layout == "strided":
        x = np.repeat(x, 2, axis=0)[::2]
    elif layout == "matrix":
        x = np.asmatrix(x)
    elif layout == "memory map":
        np.save(tmp_path / "x.npy", x)
        x = np.load(tmp_path / "x.npy", mmap_mode="r")
    elif layout == "big-endian":
        x = x.astype(">f8")
    before = np.array(x)
    b = GraphBuilder(dtype=F)
    v = b.input("x", F, [2, 2])
    b.output(b.ReduceSum(v * v, np.array([0]), keepdims=0), "y")
    session = Session(b.build())
    session.run({"x": before})
    out = session.run({"x": x})["y"]
    assert (type(out), out.tolist()) == (np.ndarray, [6.5, 14.5])
    np.testing.assert_array_equal(x, before)
    assert type(session.jacobian({"x": x})) is np.ndarray


# ---- plans -------------------------------------------------------------------------------------------------


def doubled(shape):
    b = GraphBuilder(dtype=F)
    b.output(b.input("x", F, shape) * 2.0, "y")
    return Session(b.build())


def test_plans_are_kept_for_the_newest_signatures():
    session = doubled(["n"])
    first = session.plan({"x": np.zeros(1)})
    assert session.plan({"x": np.ones(1)}) is first
    for n in range(2, PLANS + 1):
        session.run({"x": np.zeros(n)})
    assert session.plan({"x": np.zeros(1)}) is first, "used again, so not the oldest"
    second = session.plan({"x": np.zeros(2)})
    session.plan({"x": np.zeros(1)})
    for n in range(PLANS + 1, 2 * PLANS):
        session.run({"x": np.zeros(n)})
    assert session.plan({"x": np.zeros(1)}) is first
    assert session.plan({"x": np.zeros(2)}) is not second


def test_memory_does_not_grow_with_ever_new_batch_sizes():
    b = GraphBuilder(dtype=F)
    b.output(b.ReduceSum(b.Tanh(b.input("x", F, ["n", 64])), keepdims=0), "f")
    session = Session(b.build())

    def runs(sizes):
        for n in sizes:
            session.value_and_grad({"x": np.zeros((n, 64))}, wrt=["x"])
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        settled = runs(range(1, 2 * PLANS))
        assert runs(range(2 * PLANS, 5 * PLANS)) < settled + 100_000
    finally:
        tracemalloc.stop()


# ---- randomness -----------------------------------------------------------------------------------------


def noisy():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [100])
    dropped = b.Dropout(x, 0.5, b.constant(np.array(True)))
    b.output(dropped, "y")
    b.output(b.RandomNormalLike(x), "z")
    return b.build()


def test_same_seed_same_bits_and_every_step_draws_anew():
    class Watching:
        def on_node(self, node, inputs, outputs):
            pass

    x = {"x": np.ones(100)}
    a, b, other = Session(noisy(), seed=3), Session(noisy(), seed=3, observers=[Watching()]), Session(noisy(), seed=4)
    first, again, different = a.run(x), b.run(x), other.run(x)
    second = a.run(x)
    for k in first:
        assert np.array_equal(first[k], again[k])
        assert not np.array_equal(first[k], second[k])
        assert not np.array_equal(first[k], different[k])
    a.step = 0
    assert np.array_equal(a.run(x)["y"], first["y"])
    a.step, a.worker = 0, 1
    assert not np.array_equal(a.run(x)["y"], first["y"])


def test_nodes_draw_apart_even_if_they_share_a_name():
    value = Value("x", TensorType(F, (8,)))
    nodes = [Node("RandomNormalLike", ("x",), (o,), name="noise") for o in ("a", "b")]
    out = Session(Graph(inputs=(value,), outputs=(Value("a"), Value("b")), nodes=nodes)).run({"x": np.zeros(8)})
    assert not np.array_equal(out["a"], out["b"])


def test_subgraphs_of_two_nodes_draw_apart():
    body = Graph(nodes=(Node("RandomNormalLike", ("x",), ("draw",)),), outputs=(Value("draw"),))
    b = GraphBuilder(dtype=F)
    b.input("x", F, [8])
    for name in ("a", "b"):
        b.output(b.If(b.constant(np.array(True)), then_branch=body, else_branch=body), name)
    out = Session(b.build()).run({"x": np.zeros(8)})
    assert not np.array_equal(out["a"], out["b"])


def test_a_derivative_is_along_the_draws_of_its_run():
    session, x = Session(noisy()), {"x": np.linspace(1, 2, 100)}
    outputs, pullback = session.vjp(x, wrt=["x"], of=["y"])
    session.run(x)
    np.testing.assert_array_equal(pullback({"y": x["x"]})["x"], outputs["y"])
    session.step = 0
    assert np.array_equal(session.jvp(x, x, of=["y"])[1]["y"], outputs["y"])
    session.step = 0
    np.testing.assert_array_equal(np.diag(session.jacobian(x, of="y", wrt="x", mode="forward")) * x["x"], outputs["y"])


def test_modes():
    b = GraphBuilder(dtype=F)
    b.output(b.Dropout(b.input("x", F, [100]), 0.5), "y")
    graph, x = b.build(), np.ones(100)
    assert np.array_equal(Session(graph, "infer").run({"x": x})["y"], x)
    trained = Session(graph, "train").run({"x": x})["y"]
    assert set(trained) == {0, 2}


# ---- failures -----------------------------------------------------------------------------------------------


@op("Fail", domain="test")
def fail(x, *, kind: str = "value"):
    raise {"value": ValueError, "key": KeyError, "zero": ZeroDivisionError}[kind]("it broke")


@op("Two", domain="test", outputs=("a", "b"))
def two(x, *, give: str = "tuple"):
    return {"tuple": (x, x), "list": [x, x], "array": np.stack([x, x]), "one": (x,), "none": None}[give]


def failing(op_type, attributes, outputs=("y",)):
    registry = Registry.of(ops=[*get_registry().table("ops").values(), fail, two])
    nodes = [
        Node("Sin", ("x",), ("s",)),
        Node(op_type, ("s",), outputs, attributes, "test", "culprit"),
        Node("Cos", ("y",), ("z",)),
    ]
    graph = Graph(inputs=(Value("x", TensorType(F, (2,))),), outputs=(Value("z"),), nodes=nodes)
    return Session(graph.replace(opset_imports={"": 24, "test": 1}), registry=registry)


@pytest.mark.parametrize(
    ("kind", "shown"), [("value", "it broke"), ("key", "KeyError: 'it broke'"), ("zero", "ZeroDivisionError")]
)
def test_an_op_that_fails_is_named_with_its_inputs_and_its_neighbors(kind, shown):
    with pytest.raises(ExecutionError, match=f"node 'culprit' \\(test::Fail\\) failed: {shown}") as caught:
        failing("Fail", {"kind": kind}).run({"x": np.zeros(2)})
    assert "inputs: s: float64[2]" in str(caught.value)
    assert f">    1  y = test::Fail(s, kind={kind!r})  # culprit" in str(caught.value)
    assert "     2  z = Cos(y)" in str(caught.value)
    assert caught.value.__cause__ is not None


@pytest.mark.parametrize("give", ["tuple", "list"])
def test_several_outputs(give):
    assert failing("Two", {"give": give}, ("y", "")).run({"x": np.zeros(2)})["z"].tolist() == [1, 1]


@pytest.mark.parametrize(
    ("give", "shown"),
    [
        ("array", "a tuple of them, not one ndarray"),
        ("one", "returned 1 outputs, the node has 2"),
        ("none", "NoneType"),
    ],
)
def test_an_op_with_several_outputs_returns_a_tuple(give, shown):
    with pytest.raises(ExecutionError, match=f"(?s)node 'culprit'.*{shown}"):
        failing("Two", {"give": give}, ("y", "other")).run({"x": np.zeros(2)})


def test_graphs_that_cannot_be_planned():
    x = Value("x", TensorType(F, (2,)))

    def run(*nodes, outputs=("y",)):
        Session(Graph(inputs=(x,), outputs=tuple(map(Value, outputs)), nodes=nodes)).run({"x": np.zeros(2)})

    with pytest.raises(UnknownOpError, match=r"(?s)no op 'Tahn'.*did you mean 'Tan' or 'Tanh'.*>    0  y = Tahn\(x\)"):
        run(Node("Tahn", ("x",), ("y",)))
    with pytest.raises(GraphError, match=r"(?s)reads 'z', which nothing produces.*>    0  y = Tanh\(z\)"):
        run(Node("Tanh", ("z",), ("y",)))
    with pytest.raises(GraphError, match=r"(?s)has a cycle; break it.*a = Sin\(b\)"):
        run(Node("Sin", ("b",), ("a",)), Node("Sin", ("a",), ("b",)), Node("Add", ("a", "x"), ("y",)))
    with pytest.raises(GraphError, match="the output 'nothing' of graph '' is produced by nothing"):
        run(outputs=("nothing",))
    with pytest.raises(TypeInferenceError, match=r"(?s)takes 1 inputs.*the node has 2.*>    0  y = Tanh\(x, x\)"):
        run(Node("Tanh", ("x", "x"), ("y",)))
    with pytest.raises(GraphError, match=r"(?s)names 2 outputs; Tanh\(input\) -> .* has 1.*>    0  y, z = Tanh\(x\)"):
        run(Node("Tanh", ("x",), ("y", "z")), outputs=("y", "z"))
    with pytest.raises(TypeInferenceError, match=r"(?s)dimensions 2 and 3 do not broadcast.*>"):
        run(Node("Constant", (), ("c",), {"value": np.zeros(3)}), Node("Add", ("x", "c"), ("y",)))


def test_no_warning_escapes_from_arithmetic():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [2])
    b.output(b.ReduceSum(b.Log(x) / (x - x) + b.Sqrt(x) + b.Exp(x * 1e4), keepdims=0), "f")
    b.output(b.constant(np.array(1.0)) / b.constant(np.array(0.0)), "folded")
    session = Session(b.build())
    assert np.isnan(session.value_and_grad({"x": np.array([0.0, -1.0])}, of="f", wrt=["x"])[0])
    assert session.run({"x": np.ones(2)})["folded"] == np.inf
    assert np.geterr()["divide"] == "warn"


@given(st.integers(1, 6), st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_any_batch_size_equals_row_by_row(n, seed, inner):
    rng = np.random.default_rng(seed)
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, ["batch", inner])
    b.output(b.Softmax(x @ b.parameter("w", rng.normal(size=(inner, 3)))), "y")
    session, x = Session(b.build()), rng.normal(size=(n, inner))
    rows = [session.run({"x": x[i : i + 1]})["y"][0] for i in range(n)]
    np.testing.assert_allclose(session.run({"x": x})["y"], rows, rtol=1e-12)
