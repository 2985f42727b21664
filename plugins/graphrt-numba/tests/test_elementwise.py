"""Functions against float64, kernels against their ops, and chains, to the last bit, against their ops one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from graphrt_numba import sharing
from graphrt_numba.elementwise import KERNELS, collapse
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_manager
from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.runtime.formulas import OPS
from graphrt.runtime.observers import Recorder
from graphrt.runtime.session import Session
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True)
def _all_sizes(monkeypatch):
    monkeypatch.setattr(fusion, "LEAST", 1)


def test_the_plugin_is_found():
    status = {s.name: s for s in get_manager().statuses()}["numba"]
    assert (status.state, status.distribution) == ("ok", "graphrt-numba")


# ---- functions ---------------------------------------------------------------------------------------------


def compiled(name):
    """A function of the package over an array."""
    from graphrt_numba.chains import chain_loop

    run = chain_loop((f"y = {name}(x0)",), ((True,),), ("y",)).compiled(*["int64"] * 3, *["float32*"] * 2)

    def over(x):
        x = np.asarray(x, np.float32)
        y = np.empty_like(x)
        run(0, -(-x.size // 512), x.size, x, y)
        return y

    return over


def around_zero(low, high):
    near = np.geomspace(1e-30, 1, 2000)
    found = np.concatenate([np.linspace(low, high, 100_001), near, -near])
    return found[(found >= low) & (found <= high)].astype(np.float32)


@pytest.mark.parametrize(
    ("name", "reference", "low", "high", "tolerance"),
    [
        ("exp", np.exp, -87, 88.7, 1.3e-7),
        ("expm1_negative", np.expm1, -88, 0, 1.3e-7),
        ("log1p_of_small", np.log1p, 0, 1, 2e-7),
        ("sigmoid", special.expit, -87, 80, 2e-7),
        ("tanh", np.tanh, -12, 12, 2.5e-7),
        ("softplus", lambda x: np.logaddexp(0, x), -80, 80, 2.5e-7),
        ("erf", special.erf, -6, 6, 5e-7),
        ("gelu_tanh", lambda x: x * special.expit(math.sqrt(8 / math.pi) * (x + 0.044715 * x**3)), -4, 8, 3e-6),
    ],
)
def test_relative_accuracy(name, reference, low, high, tolerance):
    x = around_zero(low, high)
    np.testing.assert_allclose(compiled(name)(x), reference(x.astype(np.float64)), rtol=tolerance)


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("gelu", lambda x: x * special.ndtr(x)),
        ("gelu_slope", lambda x: special.ndtr(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi)),
        ("erf_slope", lambda x: 2 / math.sqrt(math.pi) * np.exp(-x * x)),
    ],
)
def test_absolute_accuracy(name, reference):
    x = np.linspace(-9, 9, 100_001).astype(np.float32)
    np.testing.assert_allclose(compiled(name)(x), reference(x.astype(np.float64)), rtol=2e-7, atol=4e-7)


def test_logarithms():
    x = np.geomspace(1e-44, 3e38, 100_001).astype(np.float32)
    np.testing.assert_allclose(compiled("log")(x), np.log(x.astype(np.float64)), rtol=1.5e-7)
    x = np.linspace(0.5, 2, 100_001).astype(np.float32)
    np.testing.assert_allclose(compiled("log")(x), np.log(x.astype(np.float64)), rtol=1.5e-7)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("exp", [np.inf, 0, np.nan, np.inf, 0, 1]),
        ("log", [np.inf, np.nan, np.nan, None, np.nan, -np.inf]),
        ("sigmoid", [1, 0, np.nan, 1, 0, 0.5]),
        ("tanh", [1, -1, np.nan, 1, -1, 0]),
        ("softplus", [np.inf, 0, np.nan, 3e38, 0, None]),
        ("erf", [1, -1, np.nan, 1, -1, 0]),
        ("gelu", [np.inf, np.nan, np.nan, 3e38, 0, 0]),
        ("gelu_slope", [np.nan, np.nan, np.nan, 1, 0, 0.5]),
    ],
)
def test_the_ends_of_the_line(name, expected):
    found = compiled(name)(np.array([np.inf, -np.inf, np.nan, 3e38, -3e38, 0], np.float32))
    for y, want in zip(found, expected, strict=True):
        assert want is None or np.isclose(y, np.float32(want), equal_nan=True)


# ---- kernels -----------------------------------------------------------------------------------------------


def chain_of_three():
    nodes = (Node("Add", ("x", "c"), ("s",)), Node("Gelu", ("s",), ("g",)), Node("Mul", ("g", "x"), ("y",)))
    return Graph("chain", inputs=tuple(map(Value, "xc")), outputs=tuple(map(Value, "ysg")), nodes=nodes)


def examples(op_type):
    """Arrays of more than one piece, and operands that broadcast along rows, along columns and in the middle."""
    rng = np.random.default_rng(0)
    base = op_type.partition(".")[0]
    if base == "Fused":
        for shape, other in (((700,), (1,)), ((3, 600), (600,)), ((2, 3, 20), (3, 1)), ((2, 3, 1, 5), (2, 1, 4, 1))):
            arrays = rng.normal(size=np.broadcast_shapes(shape, other)), rng.normal(size=other)
            yield Example(arrays, {"body": chain_of_three(), "n_outputs": 3})
        return
    count = 2 if base in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Sum") else 1
    for shape in ((1100,), (3, 5, 70)) if base in ("Gelu", "Relu", "Mul") else ((1100,),):
        arrays = tuple(rng.uniform(0.2, 1.5, shape) for _ in range(count))
        yield Example(arrays, {})
        if base == "Gelu":
            yield Example(arrays, {"approximate": "tanh"})
        if base == "Clip":
            for bounds in ((np.array(0.5), None), (None, np.array(1.0)), (np.array(0.5), np.array(1.0))):
                yield Example((*arrays, *bounds), {})
        if count == 2:
            yield Example((arrays[0], arrays[1][..., :1]), {})


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kernel", KERNELS, ids=[k.name for k in KERNELS])
def test_does_what_the_op_does(kernel, threads, monkeypatch):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: threads)
    monkeypatch.setattr(fusion, "LEAST", 0 if kernel.op_type == "Fused" else 2000)  # the ops' own examples are many
    assert check_kernel(kernel, examples(kernel.op_type)) > 0


def test_every_member_of_a_group_has_an_expression():
    """A group that is refused for one member would run others by NumPy, which gives other bits than one by one."""
    assert fusion.MEMBERS <= OPS


@pytest.mark.parametrize("shape", [(6,), (2, 3), (2, 1, 3), (1, 1), (2, 3, 4, 5)])
def test_collapsed_axes_cover_the_shape(shape):
    rng = np.random.default_rng(0)
    for _ in range(20):
        operands = [tuple(n if rng.random() < 0.5 else 1 for n in shape) for _ in range(2)]
        dims, varies = collapse(shape, operands)
        x, y = (rng.normal(size=o) for o in operands)
        flat = [
            a.reshape([n if v else 1 for n, v in zip(dims, w, strict=True)])
            for a, w in zip((x, y), varies, strict=True)
        ]
        assert np.array_equal(np.broadcast_to(x + y, shape).ravel(), np.broadcast_to(flat[0] + flat[1], dims).ravel())


# ---- chains ------------------------------------------------------------------------------------------------

UNARY = ["Tanh", "Sigmoid", "Relu", "Neg", "Exp", "Abs", "Softplus", "Gelu", "Erf", "HardSwish", "Swish", "LeakyRelu"]
BINARY = ["Add", "Sub", "Mul", "Div", "Sum", "Max", "Min"]


@st.composite
def chains(draw):
    """Elementwise nodes over arrays of a few shapes; the last value and some others are outputs."""
    b = GraphBuilder("random")
    shapes = [[3, 40], [3, 40], [40], [3, 1], []]
    values = [(b.input(f"x{i}", "float32", s), s) for i, s in enumerate(shapes)]
    for _ in range(draw(st.integers(2, 10))):
        (x, s), (y, t) = draw(st.sampled_from(values)), draw(st.sampled_from(values))
        op = draw(st.sampled_from(UNARY + BINARY))
        made = b.op(op, x) if op in UNARY else b.op(op, x, y)
        values.append((made, s if op in UNARY else list(np.broadcast_shapes(s, t))))
    for i in draw(st.sets(st.sampled_from(range(len(shapes), len(values))), max_size=3)):
        b.output(values[i][0], f"y{i}")
    b.output(b.ReduceSum(b.Mul(values[-1][0], values[0][0]), keepdims=0), "total")
    return b.build()


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b, equal_nan=True)


@settings(max_examples=6, deadline=None)
@given(chains(), st.integers(0, 9))
def test_a_chain_gives_the_bits_of_its_members(graph, seed):
    rng = np.random.default_rng(seed)
    feeds = {v.name: rng.standard_normal(v.type.shape).astype("float32") for v in graph.inputs}
    alone = Session(graph, observers=[Recorder()])
    for run in (
        lambda s: s.run(feeds),
        lambda s: s.value_and_grad(feeds, of="total", wrt=list(graph.input_names))[1],
    ):
        together = run(Session(graph))
        for name, y in run(alone).items():
            assert same_bits(together[name], y), name


def test_chains_are_made_one_node():
    b = GraphBuilder("test")
    x, c = b.input("x", "float32", [4, 64]), b.parameter("c", np.ones(64, np.float32))
    b.output(b.Relu(b.Add(x, c)), "y")
    session = Session(b.build())
    feeds = {"x": np.linspace(-3, 3, 256, dtype=np.float32).reshape(4, 64)}
    assert [s.node.op_type for s in session.plan(feeds).steps] == ["Fused"]
    assert np.array_equal(session.run(feeds)["y"], np.maximum(feeds["x"] + 1, 0))
