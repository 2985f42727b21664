"""The pass `simplify`: what it finds, what it must leave, and that the results stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

from graphrt.inference import infer
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.ir.dag import schedule
from graphrt.manager import get_registry
from graphrt.passes.simplify import simplify
from graphrt.registry import ONNX_DOMAIN
from graphrt.runtime.profile import Profiler
from graphrt.runtime.session import Session
from graphrt.types import TensorType
from tests.autodiff.graphs import drawn_graphs

F = "float32"
REGISTRY = get_registry()


def evaluated(graph, feeds, weights=None):
    """Every value of a graph, node by node, by the ops' own functions."""
    values = {"": None, **graph.initializers, **(weights or {}), **feeds}
    for i in schedule(graph):
        node = graph.nodes[i]
        op = REGISTRY.op_of(node, graph)
        context = {k: v for k, v in (("n_outputs", len(node.outputs)), ("opset", 17)) if k in op.context}
        if "rng" in op.context:
            context["rng"] = np.random.default_rng(0)
        made = op.function(*(values[n] for n in node.inputs), **{**op.defaults(), **node.attributes, **context})
        values.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=False))
    return values


def planned(graph, feeds):
    return [s.node.op_type for s in Session(graph).plan(feeds).steps]


def check(graph, feeds, tolerance=1e-5):
    """The graph's results as simplified by the plan and by the pass are those of its nodes one by one."""
    expected = evaluated(graph, feeds)
    passed = simplify(graph, REGISTRY)
    assert simplify(passed, REGISTRY) is passed
    for g in (graph, passed):
        found = Session(g).run(feeds)
        for name in graph.output_names:
            want = expected[name]
            assert (found[name].dtype, found[name].shape) == (want.dtype, want.shape)
            np.testing.assert_allclose(found[name], want, rtol=tolerance, atol=tolerance)
    return passed


def graph_of(write, *shapes, opset=17, dtype=F, seed=0):
    """A graph of one formula and a point for it; ``write(builder, *values)``."""
    b = GraphBuilder(dtype=dtype, opset=opset)
    rng = np.random.default_rng(seed)
    names = [f"x{i}" for i in range(len(shapes))]
    values = [b.input(n, dtype, s) for n, s in zip(names, shapes, strict=True)]
    b.output(write(b, *values), "y")
    return b.build(), {n: rng.normal(size=s).astype(dtype) for n, s in zip(names, shapes, strict=True)}


# ---- formulas ----------------------------------------------------------------------------------------------

ROOT, SLOPE = 2**0.5, (2 / np.pi) ** 0.5


def mean(b, x):
    return b.ReduceMean(x, axes=[-1], keepdims=1)


def standardized(b, x):
    d = x - mean(b, x)
    return d / b.Sqrt(mean(b, d**2.0) + 1e-5)


def standardized_apart(b, x):
    d = x - mean(b, x)
    return d * b.Reciprocal(b.Sqrt(1e-5 + mean(b, b.Mul(x - mean(b, x), d))))


FORMULAS = {
    "Gelu": [
        lambda b, x: x * (b.Erf(x / ROOT) + 1.0) * 0.5,
        lambda b, x: 0.5 * (x * (1.0 + b.Erf(x * (1 / ROOT)))),
        lambda b, x: (0.5 * x) * (1.0 + b.Erf(x / ROOT)),
        lambda b, x: x * ((b.Erf(x / ROOT) + 1.0) / 2.0),
        lambda b, x: 0.5 * x * (1.0 + b.Tanh(SLOPE * (x + 0.044715 * x**3.0))),
        lambda b, x: 0.5 * x * (1.0 + b.Tanh((x + x * x * x * 0.044715) * SLOPE)),
        lambda b, x: 0.5 * x * (1.0 + b.Tanh(x * SLOPE * (1.0 + 0.044715 * x * x))),
    ],
    "Swish": [lambda b, x: x * b.Sigmoid(x), lambda b, x: b.Sigmoid(x * 1.702) * x],
    "HardSwish": [
        lambda b, x: x * b.HardSigmoid(x, alpha=1 / 6, beta=0.5),
        lambda b, x: x * b.Clip(x + 3.0, np.float32(0), np.float32(6)) / 6.0,
        lambda b, x: x * (b.Clip(x + 3.0, np.float32(0), np.float32(6)) / 6.0),
    ],
}


@pytest.mark.parametrize(("op_type", "write"), [(k, w) for k, ws in FORMULAS.items() for w in ws])
def test_activations_written_out(op_type, write):
    graph, feeds = graph_of(write, (4, 5))
    assert planned(graph, feeds) == [op_type]
    passed = check(graph, feeds)
    newest = graph_of(write, (4, 5), opset=24)[0]
    assert [n.op_type for n in simplify(newest, REGISTRY).nodes] == [op_type]
    assert all(n.domain != ONNX_DOMAIN for n in passed.nodes)


@pytest.mark.parametrize(
    "write",
    [
        lambda b, x: x * (b.Erf(x / 1.5) + 1.0) * 0.5,  # another number
        lambda b, x: x * (b.Erf(x / ROOT) + 1.0) * 0.25,
        lambda b, x: x * (b.Erf(x / ROOT) - 1.0) * 0.5,
        lambda b, x: x * b.Sigmoid(-x * x),
        lambda b, x: x / b.Sigmoid(x),
        lambda b, x: x * b.HardSigmoid(x, alpha=0.2, beta=0.5),
        lambda b, x: x * b.Clip(x + 3.0, np.float32(0), np.float32(5)) / 6.0,
        lambda b, x: b.Neg(x) * b.Sigmoid(x),
    ],
)
def test_what_is_nearly_an_activation_stays(write):
    graph, feeds = graph_of(write, (4, 5))
    assert not {"Gelu", "Swish", "HardSwish"} & set(planned(graph, feeds))
    check(graph, feeds)


@pytest.mark.parametrize("standardize", [standardized, standardized_apart])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shifted", [False, True])
def test_layer_normalization_written_out(standardize, dtype, shifted):
    def write(b, x):
        y = standardize(b, x) * b.parameter("scale", np.linspace(1, 2, 6, dtype=dtype))
        return y + b.parameter("shift", np.linspace(-1, 1, 6, dtype=dtype)) if shifted else y

    graph, feeds = graph_of(write, (3, 4, 6), opset=13, dtype=dtype)
    assert planned(graph, feeds) == ["LayerNormalization"]
    check(graph, feeds, 1e-5 if dtype == F else 1e-11)


def test_rms_normalization_written_out():
    def write(b, x):
        w = b.parameter("scale", np.linspace(1, 2, 6, dtype=F))
        return w * (x * b.Reciprocal(b.Sqrt(mean(b, x**2.0) + 1e-6)))

    graph, feeds = graph_of(write, (3, 4, 6), opset=17)
    assert planned(graph, feeds) == ["RMSNormalization"]
    check(graph, feeds)


@pytest.mark.parametrize("axes", [[1], [-2], [1, 2]])
def test_a_mean_over_other_axes_is_no_layer_normalization(axes):
    def write(b, x):
        d = x - b.ReduceMean(x, axes=axes)
        return d / b.Sqrt(b.ReduceMean(d * d, axes=axes) + 1e-5) * b.parameter("w", np.ones(6, F))

    graph, feeds = graph_of(write, (3, 6, 6), opset=13)
    assert "LayerNormalization" not in planned(graph, feeds)
    check(graph, feeds)


def attention(b, q, k, v, mask=None, before=1.0, after=1.0):
    q, k = (q * before, b.Transpose(k, perm=[0, 1, 3, 2]) * before) if before != 1 else (q, k_t(b, k))
    scores = b.MatMul(q, k) * after if after != 1 else b.MatMul(q, k)
    return b.MatMul(b.Softmax(scores if mask is None else scores + mask, axis=-1), v)


def k_t(b, k):
    return b.Transpose(k, perm=[0, 1, 3, 2])


HEADS = ((2, 3, 5, 4), (2, 3, 7, 4), (2, 3, 7, 6))


@pytest.mark.parametrize("scales", [(1.0, 0.5), (0.7, 1.0), (1.0, 1.0)])
@pytest.mark.parametrize("mask", [None, (5, 7), (2, 1, 1, 7)])
def test_attention_written_out(scales, mask):
    shapes = (*HEADS, mask) if mask else HEADS
    graph, feeds = graph_of(lambda b, *xs: attention(b, *xs, before=scales[0], after=scales[1]), *shapes)
    assert planned(graph, feeds)[-1] == "Attention"
    check(graph, feeds)


@pytest.mark.parametrize("shapes", [(*HEADS, (2, 3, 5, 1)), ((3, 5, 4), (3, 4, 7), (3, 7, 6))])
def test_what_is_nearly_attention_stays(shapes):
    def write(b, q, k, v, mask=None):
        k = k if len(k_shape) == 3 else k_t(b, k)
        scores = b.MatMul(q, k)
        return b.MatMul(b.Softmax(scores if mask is None else scores + mask, axis=-1), v)

    k_shape = shapes[1]
    graph, feeds = graph_of(write, *shapes)
    assert "Attention" not in planned(graph, feeds)
    check(graph, feeds)


def test_inner_values_that_are_read_elsewhere_are_kept():
    def write(b, x):
        e = b.Erf(x / ROOT)
        b.output(e, "e")
        return x * (e + 1.0) * 0.5

    graph, feeds = graph_of(write, (4, 5))
    assert "Erf" in planned(graph, feeds)
    check(graph, feeds)
    whole, feeds = graph_of(FORMULAS["Gelu"][0], (4, 5))
    inner = next(n.outputs[0] for n in whole.nodes if n.op_type == "Erf")
    session = Session(whole)
    np.testing.assert_allclose(session.run(feeds, [inner])[inner], evaluated(whole, feeds)[inner], rtol=1e-6)


# ---- normalization in weights ------------------------------------------------------------------------------


def normalized(product, x_shape, w_shape, channels, opset=17, training=False, bias=True, **attributes):
    """A product with a batch normalization after it."""
    rng = np.random.default_rng(1)
    b = GraphBuilder(dtype=F, opset=opset)
    x = b.input("x", F, x_shape)
    weights = [b.parameter(n, rng.uniform(0.5, 2, channels).astype(F)) for n in ("scale", "shift", "mean", "var")]
    w = [b.parameter("w", rng.normal(size=w_shape).astype(F))]
    w += [b.parameter("b", rng.normal(size=channels).astype(F))] if bias else []
    h = b.op(product, x, *w, **attributes)
    flag = {"training_mode": int(training)} if opset >= 14 else {}
    y = b.op("BatchNormalization", h, *weights, outputs=["h", "m", "v"] if training else ["h"], **flag)
    b.output(b.Relu(y[0] if training else y), "y")
    return b.build(), {"x": rng.normal(size=x_shape).astype(F)}


PRODUCTS = [
    ("Conv", (2, 3, 6, 6), (4, 3, 3, 3), 4, {}),
    ("Conv", (2, 4, 9), (4, 2, 3), 4, {"group": 2, "pads": [1, 1]}),
    ("ConvTranspose", (2, 3, 4, 4), (3, 5, 2, 2), 5, {"strides": [2, 2]}),
    ("Gemm", (4, 3), (5, 3), 5, {"transB": 1}),
    ("Gemm", (4, 3), (3, 5), 5, {}),
]


@pytest.mark.parametrize(("product", "x", "w", "channels", "attributes"), PRODUCTS)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("opset", [9, 17])
def test_normalization_goes_into_the_weights(product, x, w, channels, attributes, bias, opset):
    graph, feeds = normalized(product, x, w, channels, bias=bias or opset < 11, opset=opset, **attributes)
    assert "BatchNormalization" not in planned(graph, feeds)
    check(graph, feeds, 1e-4)
    session = Session(graph)
    session.run(feeds)
    for name in ("w", "scale", "var"):
        session.parameters[name] = changed = session.parameters[name] * np.float32(1.5)
        expected = evaluated(graph, feeds, dict(session.parameters))["y"]
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-4, atol=1e-4)
        assert changed is session.parameters[name]


@pytest.mark.parametrize(
    "case",
    [
        normalized("ConvTranspose", (2, 4, 4, 4), (4, 2, 2, 2), 4, group=2),
        normalized("Gemm", (4, 3), (3, 5), 5, alpha=0.5),
    ],
)
def test_normalization_that_is_a_factor_and_a_term(case):
    graph, feeds = case
    assert planned(graph, feeds)[-3:] == ["Mul", "Add", "Relu"]
    check(graph, feeds, 1e-4)


def test_normalization_of_a_value_that_others_read():
    graph, feeds = normalized(*PRODUCTS[0][:4])
    conv = graph.nodes[0].outputs[0]
    both = graph.replace(outputs=(*graph.outputs, Value(conv)))
    assert planned(both, feeds)[-4:] == ["Conv", "Mul", "Add", "Relu"]
    check(both, feeds, 1e-4)


def test_normalization_by_the_batch_stays():
    case = normalized("Conv", (2, 3, 6, 6), (4, 3, 3, 3), 4, training=True)
    assert "BatchNormalization" in planned(*case)
    check(*case)


def test_weights_that_a_run_updates_are_not_folded():
    graph, feeds = normalized(*PRODUCTS[0][:4])
    nodes = (*graph.nodes, Node("Add", ("mean", "mean"), ("twice",)))
    graph = graph.replace(nodes=nodes, state_updates={"mean": "twice"})
    assert "BatchNormalization" in planned(graph, feeds)
    session = Session(graph)
    for factor in (1, 2, 4):
        expected = evaluated(graph, feeds, {"mean": graph.initializers["mean"] * np.float32(factor)})["y"]
        np.testing.assert_allclose(session.run(feeds)["y"], expected, rtol=1e-4, atol=1e-5)


# ---- what repeats and what does nothing --------------------------------------------------------------------


def test_equal_nodes_are_one():
    def write(b, x):
        return b.Sin(x) * b.Cos(x) + b.Sin(x) * b.Cos(x) + b.Softmax(x, axis=0) + b.Softmax(x, axis=1)

    graph, feeds = graph_of(write, (4, 4))
    ops = planned(graph, feeds)
    assert [ops.count(k) for k in ("Sin", "Cos", "Mul", "Softmax")] == [1, 1, 1, 2]
    check(graph, feeds)


def test_random_nodes_and_outputs_are_never_one():
    def write(b, x):
        on = b.constant(np.asarray(True))
        b.output(b.Sin(x), "a")
        b.output(b.Sin(x), "b")
        return b.Dropout(x, 0.5, on) + b.Dropout(x, 0.5, on)

    graph, feeds = graph_of(write, (40,))
    assert planned(graph, feeds).count("Dropout") == planned(graph, feeds).count("Sin") == 2
    y = Session(graph).run(feeds)["y"] / feeds["x0"]
    assert set(np.unique(np.round(y))) == {0, 2, 4}


def test_what_does_nothing_is_left_out():
    def write(b, x):
        y = b.Dropout(b.Identity(b.Sin(x)), 0.5)
        y = b.Reshape(b.Cast(y, to=1), np.array([4, -1]))
        y = b.Transpose(b.Concat(b.Expand(y, np.array([1, 5])), axis=0), perm=[0, 1])
        return b.Cos(y)

    graph, feeds = graph_of(write, (4, 5))
    assert planned(graph, feeds) == ["Sin", "Cos"]
    check(graph, feeds)


def test_what_does_something_stays():
    def write(b, x):
        y = b.Transpose(x, perm=[1, 0])
        y = b.Reshape(y, np.array([2, 8]))
        return b.Cast(b.Cast(b.Expand(y, np.array([3, 1, 1])), to=11), to=1)

    graph, feeds = graph_of(write, (4, 4))
    assert planned(graph, feeds) == ["Transpose", "Reshape", "Expand", "Cast", "Cast"]
    check(graph, feeds)


def test_an_output_that_is_an_input_or_another_output_keeps_its_name():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [3])
    y = b.Sin(x)
    for value, name in ((x, "same"), (y, "y"), (y, "again")):
        b.output(b.Identity(value), name)
    graph = b.build()
    found = Session(graph).run({"x": np.ones(3, F)})
    assert list(found) == ["same", "y", "again"]
    assert not np.shares_memory(found["y"], found["again"])
    check(graph, {"x": np.ones(3, F)})


def body(captured):
    nodes = (Node("Add", (captured, captured), ("twice",)),)
    return Graph("body", outputs=(Value("twice"),), nodes=nodes)


def test_values_that_a_subgraph_captures_keep_their_names():
    nodes = (
        Node("Sin", ("x",), ("a",)),
        Node("Sin", ("x",), ("b",)),
        Node("Identity", ("b",), ("c",)),
        Node("If", ("flag",), ("y",), {"then_branch": body("b"), "else_branch": body("c")}),
        Node("Add", ("a", "y"), ("z",)),
    )
    x = TensorType(F, (3,))
    graph = Graph("g", {"": 17}, (Value("x", x), Value("flag", TensorType("bool", ()))), (Value("z"),), nodes)
    for flag in (True, False):
        feeds = {"x": np.linspace(0, 1, 3, dtype=F), "flag": np.asarray(flag)}
        for g in (graph, simplify(graph, REGISTRY)):
            np.testing.assert_allclose(Session(g).run(feeds)["z"], 3 * np.sin(feeds["x"]), rtol=1e-6)


def test_dead_nodes_are_dropped_and_nothing_else_is_a_change():
    def write(b, x):
        b.Exp(b.Cos(x))
        return b.Sin(x)

    graph, feeds = graph_of(write, (3,))
    passed = check(graph, feeds)
    assert [n.op_type for n in passed.nodes] == ["Sin"]
    assert simplify(passed, REGISTRY) is passed


def test_graphs_with_derivatives_are_left_alone():
    graph, _ = graph_of(FORMULAS["Gelu"][0], (4, 5))
    nodes = (*graph.nodes, Node("Tanh.vjp[input]", ("x0", "x0"), ("g",)))
    joint = graph.replace(nodes=nodes, outputs=(*graph.outputs, Value("g")))
    assert simplify(joint, REGISTRY) is joint


@given(drawn_graphs(most=10))
@settings(max_examples=60, deadline=None)
def test_drawn_graphs_give_the_same(drawn):
    expected = evaluated(drawn.graph, drawn.at, {"w": drawn.weights})
    for graph in (drawn.graph, simplify(drawn.graph, REGISTRY)):
        found = Session(graph).run(drawn.at)
        for name in graph.output_names:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-9, atol=1e-9)


# ---- runs --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", [graph_of(FORMULAS["Gelu"][0], (4, 5)), normalized(*PRODUCTS[0][:4])])
def test_the_same_bits_with_and_without_an_observer(case):
    graph, feeds = case
    watched = Session(graph, observers=[Profiler()]).run(feeds)
    np.testing.assert_array_equal(Session(graph).run(feeds)["y"], watched["y"])


def test_the_default_domain_has_a_name():
    assert REGISTRY.find_op("Gelu", ONNX_DOMAIN) is REGISTRY.find_op("Gelu")
    assert REGISTRY.find_op("Split", ONNX_DOMAIN, 13) is REGISTRY.find_op("Split", "", 13)


def test_types_stay_known():
    graph, _ = graph_of(FORMULAS["Gelu"][0], (4, 5), opset=24)
    passed = simplify(graph, REGISTRY)
    assert infer(passed, REGISTRY).type("y") == infer(graph, REGISTRY).type("y") == TensorType(F, (4, 5))
