"""Types before anything runs: they hold of what then comes out, and shape arithmetic is done ahead."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.inference import SMALL, infer, merge_types
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.op import op
from graphrt.registry import Registry
from graphrt.runtime.observers import Recorder
from graphrt.runtime.session import Session
from graphrt.types import UNKNOWN, SequenceType, TensorType

F = "float64"


def network():
    """A small convolutional classifier with shape arithmetic."""
    rng = np.random.default_rng(0)
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, ["batch", 3, 8, 8])
    h = b.Relu(b.Conv(x, b.parameter("k", rng.normal(size=(4, 3, 3, 3))), pads=(1, 1, 1, 1)))
    h = b.MaxPool(h, kernel_shape=(2, 2), strides=(2, 2))
    first = b.Gather(b.Shape(h), np.array(0))
    flat = b.Reshape(h, b.Concat(b.Unsqueeze(first, np.array([0])), np.array([-1]), axis=0))
    b.output(b.Softmax(flat @ b.parameter("w", rng.normal(size=(64, 10))), axis=-1), "y")
    b.output(b.ArgMax(flat, axis=1, keepdims=0), "best")
    return b.build()


def agrees(found, array):
    """Whether what was inferred is true of an array."""
    if not isinstance(found, TensorType):
        return True
    if found.dtype is not None and found.dtype != str(array.dtype):
        return False
    if found.shape is None:
        return True
    return len(found.shape) == array.ndim and all(
        not isinstance(d, int) or d == n for d, n in zip(found.shape, array.shape, strict=True)
    )


@pytest.mark.parametrize(
    "inputs", [None, {"x": TensorType(F, (5, 3, 8, 8))}, {"x": TensorType(F, None)}, {"x": UNKNOWN}]
)
def test_what_is_inferred_is_true_of_what_is_computed(inputs):
    graph, recorder = network(), Recorder()
    Session(graph, observers=[recorder]).run({"x": np.ones((5, 3, 8, 8))})
    known = infer(graph, get_registry(), inputs=inputs)
    for name, array in recorder.values.items():
        assert agrees(known.type(name), array), (name, str(known.type(name)))
    for name, array in known.constants.items():
        np.testing.assert_array_equal(array, recorder.values.get(name, array))


def test_symbols_and_numbers_flow_to_the_outputs():
    known = infer(network(), get_registry())
    assert known.type("y").rank == 2
    assert known.type("best").dtype == "int64"
    known = infer(network(), get_registry(), inputs={"x": TensorType(F, (5, 3, 8, 8))})
    assert known.type("y") == TensorType(F, (5, 10))
    assert known.type("best") == TensorType("int64", (5,))
    assert known.constants["concat"].tolist() == [5, -1]
    assert known.type("no such value") == UNKNOWN


def test_only_small_constants_are_computed_ahead():
    b = GraphBuilder(dtype=F)
    for n in (SMALL, SMALL + 1):
        b.output(b.Neg(b.constant(np.zeros(n))), f"y{n}")
    known = infer(b.build(), get_registry())
    assert f"y{SMALL}" in known.constants
    assert f"y{SMALL + 1}" not in known.constants


def test_weights_that_training_changes_are_no_constants():
    b = GraphBuilder(dtype=F)
    b.output(b.Neg(b.parameter("w", np.ones(2))), "y")
    b.output(b.Neg(b.parameter("i", np.ones(2, np.int64))), "z")
    graph = b.build()
    assert {"y", "z"} <= infer(graph, get_registry()).constants.keys()
    assert {"z"} == infer(graph, get_registry(), fold_floats=False).constants.keys() - {"i"}
    overridable = graph.replace(inputs=(Value("i"),), state_updates={"w": "y"})
    assert not infer(overridable, get_registry()).constants


def test_constants_cannot_be_written_to():
    weights = np.array([2, 3])
    graph = Graph(initializers={"s": weights}, nodes=(Node("Neg", ("s",), ("y",)),), outputs=(Value("y"),))
    for array in infer(graph, get_registry()).constants.values():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9
    weights[0] = 2


def test_an_error_shows_the_node():
    b = GraphBuilder(dtype=F)
    b.output(b.op("MatMul", b.input("x", F, [2, 3]), b.parameter("w", np.ones((4, 5))), name="bad"), "y")
    with pytest.raises(TypeInferenceError, match=r"(?s)at node 'y':\n>    0  y = MatMul\(x, w\)"):
        infer(b.build(), get_registry())
    found = []
    known = infer(b.build(), get_registry(), on_error=lambda node, error: found.append((node.op_type, type(error))))
    assert found == [("MatMul", TypeInferenceError)]
    assert known.type("y") == UNKNOWN


@pytest.mark.parametrize("error", [KeyError, ZeroDivisionError, TypeError, AssertionError, RecursionError])
def test_whatever_an_infer_rule_raises_is_an_error_of_types(error):
    @op("Stumble", domain="test")
    def stumble(x):
        return x

    @stumble.infer
    def _(x):
        raise error("over this")

    graph = Graph(opset_imports={"test": 1}, inputs=(Value("x"),), nodes=(Node("Stumble", ("x",), ("y",), {}, "test"),))
    with pytest.raises(TypeInferenceError, match=r"test::Stumble: .*over this"):
        infer(graph, Registry.of(ops=[stumble]))


def test_declared_types_help_where_nothing_is_inferred():
    @op("Plain", domain="test")
    def plain(x):
        return x

    registry = Registry.of(ops=[plain])
    declared = TensorType(F, ("n", 2))
    graph = Graph(
        opset_imports={"test": 1},
        inputs=(Value("x"),),
        nodes=(Node("Plain", ("x",), ("y",), {}, "test"),),
        value_info={"y": declared},
    )
    assert infer(graph, registry).type("y") == declared
    assert infer(graph, registry, trust_declared=False).type("y") == TensorType(F)


@pytest.mark.parametrize(
    ("inferred", "declared", "merged"),
    [
        (UNKNOWN, TensorType(F, (1,)), TensorType(F, (1,))),
        (TensorType(F, None), TensorType("int8", (1,)), TensorType(F, (1,))),
        (TensorType(None, (None, 2)), TensorType(F, ("n", 3)), TensorType(F, ("n", 2))),
        (TensorType(F, (1, 2)), TensorType(F, (1,)), TensorType(F, (1, 2))),
        (SequenceType(UNKNOWN), TensorType(F), SequenceType(UNKNOWN)),
        (TensorType(F), SequenceType(UNKNOWN), TensorType(F)),
    ],
)
def test_the_more_precise_of_two_types(inferred, declared, merged):
    assert merge_types(inferred, declared) == merged


def test_unknown_ops_are_passed_over():
    graph = Graph(
        inputs=(Value("x", TensorType(F, (2,))),), nodes=(Node("What", ("x",), ("y",)), Node("Sin", ("x",), ("z",)))
    )
    assert infer(graph, get_registry()).type("z") == TensorType(F, (2,))
