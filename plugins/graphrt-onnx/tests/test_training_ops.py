"""ai.onnx.preview.training: optimizer steps by their formulas, Gradient nodes by known derivatives."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_onnx.gradients import expand_gradients
from graphrt_onnx.ops.training import DOMAIN, OPS, adagrad, adam, momentum

from graphrt.ir import Graph, Node, Value
from graphrt.manager import get_manager
from graphrt.plugin import ConversionError, TensorType
from graphrt.runtime.session import Session
from graphrt.testing import check_op

ONE = np.array([1.0], np.float32)


@pytest.mark.parametrize("op", OPS, ids=lambda o: o.op_type)
def test_op(op):
    check_op(op)


def test_adam_by_hand():
    x, v, h = adam(np.float32(0.1), np.array(0), 2 * ONE, -ONE, ONE, 4 * ONE, alpha=0.5, beta=0.75, epsilon=0.0)
    assert (v[0], h[0]) == (0.0, 3.25)
    assert x[0] == 2.0
    x, v, h = adam(np.float32(0.1), np.array(1), 2 * ONE, ONE, ONE, ONE, alpha=0.5, beta=0.75, epsilon=0.0)
    assert (v[0], h[0]) == (1.0, 1.0)
    assert x[0] == pytest.approx(2 - 0.1 * 0.5 / 0.5)
    x, *_ = adam(np.float32(0.1), np.array(0), 2 * ONE, ONE, ONE, ONE, norm_coefficient_post=0.5, epsilon=0.0)
    assert x[0] == pytest.approx(0.5 * 1.9)


def test_adagrad_of_two_tensors():
    inputs = (ONE, 2 * ONE, ONE, -ONE, 3 * ONE, 8 * ONE)
    x, y, h, k = adagrad(np.float32(0.3), np.array(2), *inputs, decay_factor=0.25, epsilon=0.0)
    assert (h[0], k[0]) == (4, 9)
    assert x[0] == pytest.approx(1 - 0.2 / 2)
    assert y[0] == pytest.approx(2 + 0.2 / 3)


def test_momentum_and_nesterov():
    common = {"alpha": 0.5, "beta": 0.25, "norm_coefficient": 0.0}
    args = (np.float32(0.1), np.array(1), ONE, 4 * ONE, 2 * ONE)
    x, v = momentum(*args, **common, mode="standard")
    assert (v[0], x[0]) == (2.0, pytest.approx(0.8))
    x, _ = momentum(*args, **common, mode="nesterov")
    assert x[0] == pytest.approx(1 - 0.1 * (4 + 1))
    _, v = momentum(args[0], np.array(0), *args[2:], **common, mode="standard")
    assert v[0] == 5.0  # beta is 1 in the first step
    with pytest.raises(ValueError, match="'standard' or 'nesterov'"):
        momentum(*args, **common, mode="heavy")
    with pytest.raises(ValueError, match="3 equally long lists"):
        momentum(*args[:4], **common, mode="standard")


# ---- Gradient ------------------------------------------------------------------------------------------------


def graph_of(*nodes, inputs, outputs, initializers=None):
    scalar = TensorType("float64", ())
    return Graph(
        opset_imports={"": 17, DOMAIN: 1}, inputs=[Value(i, scalar) for i in inputs],
        outputs=[Value(o) for o in outputs], nodes=nodes, initializers=initializers or {},
    )  # fmt: skip


def gradient(inputs, outputs, xs, y, zs=()):
    return Node("Gradient", inputs, outputs, {"xs": tuple(xs), "zs": tuple(zs), "y": y}, DOMAIN)


def run(graph, **feeds):
    expanded = expand_gradients(graph, get_manager().registry)
    assert all(n.op_type != "Gradient" for n in expanded.nodes)
    return {k: float(v) for k, v in Session(expanded).run({k: np.float64(v) for k, v in feeds.items()}).items()}


SUM, PRODUCT = Node("Add", ["a", "b"], ["c"]), Node("Mul", ["c", "a"], ["d"])


def test_gradient_of_add():
    graph = graph_of(SUM, gradient("ab", ["da", "db"], "ab", "c"), inputs="ab", outputs=["c", "da", "db"])
    assert run(graph, a=1, b=2) == {"c": 3, "da": 1, "db": 1}


def test_gradient_of_add_and_mul():
    node = gradient("ab", ["da", "db"], "ab", "d")
    assert run(graph_of(SUM, PRODUCT, node, inputs="ab", outputs=["d", "da", "db"]), a=1, b=2) == {
        "d": 3,
        "da": 4,
        "db": 1,
    }


def test_gradient_by_an_inner_value_and_at_another_place():
    node = gradient(["h", "a"], ["dc"], ["c"], "d", ["a"])
    graph = graph_of(
        SUM, Node("Mul", ["c", "c"], ["e"]), Node("Mul", ["e", "a"], ["d"]), node, inputs="abh", outputs=["d", "dc"]
    )
    assert run(graph, a=2, b=1, h=5) == {"d": 18, "dc": 2 * 5 * 2}


def test_two_gradients_and_a_skipped_output():
    first, second = gradient("ab", ["", "p"], "ab", "d"), gradient("ab", ["q"], "a", "c", "b")
    assert run(graph_of(SUM, PRODUCT, first, second, inputs="ab", outputs=["p", "q"]), a=3, b=2) == {"p": 3, "q": 1}


def test_gradient_by_an_initializer():
    graph = graph_of(
        Node("Mul", ["w", "a"], ["d"]), gradient(["w", "a"], ["dw"], ["w"], "d", ["a"]), inputs="a", outputs=["dw"],
        initializers={"w": np.array(4.0)},
    )  # fmt: skip
    assert run(graph, a=3) == {"dw": 3}


def test_a_graph_without_gradients_is_left_alone():
    graph = graph_of(SUM, inputs="ab", outputs=["c"])
    assert expand_gradients(graph, get_manager().registry) is graph


def test_what_cannot_be_expanded():
    registry = get_manager().registry
    with pytest.raises(ConversionError, match="it has 1 inputs"):
        expand_gradients(graph_of(SUM, gradient("a", ["x"], "ab", "c"), inputs="ab", outputs=["x"]), registry)
    twice = graph_of(
        SUM, PRODUCT, gradient("ab", ["p"], "ab", "d"), gradient("ab", ["q"], "ab", "p"), inputs="ab", outputs=["q"]
    )
    with pytest.raises(ConversionError, match="reverse over reverse"):
        expand_gradients(twice, registry)
