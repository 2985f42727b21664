"""The checker: each kind of problem by itself, all at once, deep in subgraphs, and never a crash."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphrt.check import check, validate
from graphrt.errors import GraphError
from graphrt.ir import Graph, Node, Value
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.op import op
from graphrt.registry import Registry
from graphrt.types import SequenceType, TensorType

F = "float64"
X = Value("x", TensorType(F, (2, 3)))


def graph(*nodes, outputs=("y",), **fields):
    return Graph("g", inputs=(X,), outputs=tuple(map(Value, outputs)), nodes=nodes, **fields)


def node(op_type, inputs, outputs, domain="", **attributes):
    return Node(op_type, tuple(inputs.split()), tuple(outputs.split()), attributes, domain)


BODY = Graph("body", outputs=(Value("t"),), nodes=(node("Sin", "x", "t"),))


def branching(*nodes, out="t"):
    """An If with these nodes in one of its branches."""
    branch = Graph("branch", nodes=nodes, outputs=(Value(out),))
    return Node("If", ("c",), ("y",), {"then_branch": branch, "else_branch": BODY})


IF = branching(*BODY.nodes)
CONDITION = {"c": np.array(True)}

PROBLEMS = {
    "input twice": (Graph(inputs=(X, X), outputs=(X,)), "the input 'x' is declared twice; rename one"),
    "value twice": (
        graph(node("Sin", "x", "y"), node("Cos", "x", "y")),
        r"the value 'y' is defined twice, first at: y = Sin\(x\)",
    ),
    "node over initializer": (graph(node("Sin", "x", "y"), initializers={"y": np.ones(1)}), "first at: initializer y"),
    "undefined": (graph(node("Sin", "z", "y")), "reads 'z', which nothing produces"),
    "undefined output": (graph(), "the output 'y' is produced by nothing"),
    "cycle": (
        graph(node("Sin", "b", "a"), node("Cos", "a", "b"), node("Add", "a x", "y")),
        "the nodes form a cycle: a -> b -> a",
    ),
    "own input": (graph(node("Sin", "y", "y")), "the nodes form a cycle: y -> y"),
    "unknown op": (graph(node("Tnah", "x", "y")), r"no op 'Tnah' in the default domain \(did you mean .*'Tanh'"),
    "unknown domain": (
        graph(node("Blur", "x", "y", "img"), opset_imports={"": 24, "img": 1}, requires={"img": "graphrt-img>=1"}),
        "no op 'Blur' in domain 'img'.*the graph says that 'graphrt-img>=1' has it: pip install",
    ),
    "no import": (graph(node("Step", "x", "y", "graphrt")), "'graphrt' is used and has no entry in opset_imports"),
    "too old": (graph(node("Gelu", "x", "y"), opset_imports={"": 13}), "'Gelu' .*known from version 20 on"),
    "too many inputs": (graph(node("Sin", "x x", "y")), r"takes 1 inputs \(Sin\(input\) -> .*\), the node has 2"),
    "too few inputs": (graph(node("Add", "x", "y")), "takes 2 inputs"),
    "absent input": (
        graph(Node("Add", ("x", ""), ("y",))),
        r"the input 'b' of Add\(a, b\) -> .* is required",
    ),
    "too many outputs": (graph(node("Sin", "x", "y z")), r"names 2 outputs; Sin\(input\) -> .* has 1"),
    "unknown attribute": (graph(node("Sin", "x", "y", gain=2)), "Sin has no attribute 'gain'; it has: none"),
    "attribute kind": (
        graph(node("Softmax", "x", "y", axis="last")),
        "the attribute 'axis' is of kind int, not str 'last'",
    ),
    "attribute list": (graph(node("Transpose", "x", "y", perm=(0, 1.5))), "'perm' is of kind ints, not tuple"),
    "attribute missing": (graph(node("Concat", "x x", "y")), r"the attribute 'axis' \(int\) of Concat is required"),
    "types": (graph(node("MatMul", "x x", "y")), "MatMul: "),
    "shapes": (
        graph(node("Add", "x w", "y"), initializers={"w": np.ones((4, 3))}),
        "dimensions 2 and 4 do not broadcast",
    ),
    "state of nothing": (
        graph(node("Sin", "x", "y"), state_updates={"m": "y"}),
        "state update of 'm' concerns no initializer",
    ),
    "state from nothing": (
        graph(node("Sin", "x", "y"), initializers={"m": np.ones(1)}, state_updates={"m": "z"}),
        "state update of 'm' reads 'z', which nothing produces",
    ),
    "shadowing": (
        graph(branching(node("Sin", "x", "c"), out="c"), initializers=CONDITION),
        "the value 'c' shadows one of an outer graph; rename it",
    ),
    "undefined in a subgraph": (
        graph(branching(node("Sin", "q", "t")), initializers=CONDITION),
        "reads 'q', which nothing produces",
    ),
    "unknown op in a subgraph": (graph(branching(node("Sni", "x", "t")), initializers=CONDITION), "no op 'Sni'"),
    "cycle in a subgraph": (
        graph(branching(node("Sin", "u", "t"), node("Sin", "t", "u")), initializers=CONDITION),
        "the nodes form a cycle: t -> u -> t",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_each_kind_of_problem(case):
    broken, message = PROBLEMS[case]
    report = check(broken, get_registry())
    with pytest.raises(GraphError, match=message):
        validate(broken, get_registry())
    errors = [p for p in report.problems if p.severity == "error"]
    assert not report.ok
    assert len(errors) == 1, report
    assert errors[0].where
    json.dumps(report.as_dict())


def test_good_graphs_have_no_problems():
    for good in (Graph(), graph(node("Sin", "x", "y")), graph(IF, initializers=CONDITION)):
        report = check(good, get_registry())
        assert report.ok, report
        validate(good, get_registry())
    assert "no problems found" in str(report)


def test_all_problems_at_once():
    pieces = [
        v
        for k, v in PROBLEMS.items()
        if k in ("undefined", "unknown op", "unknown attribute", "attribute kind", "types")
    ]
    nodes = [replace(n, outputs=(f"o{i}",)) for i, (g, _) in enumerate(pieces) for n in g.nodes]
    broken = graph(*nodes, outputs=("o0", "nothing"))
    report = check(broken, get_registry())
    assert len(report.problems) == len(nodes) + 1
    with pytest.raises(GraphError, match=r"(?s)graph 'g': error: .*\(and 1 more\)"):
        validate(broken, get_registry())


def test_a_loosely_declared_output_is_a_warning():
    for declared in (TensorType(F, (2, 4)), TensorType("int64", (2, 3)), TensorType(F, (2,))):
        report = check(graph(node("Sin", "x", "y")).replace(outputs=(Value("y", declared),)), get_registry())
        assert report.ok
        assert "the output 'y' is declared" in report.problems[0].message
    for fine in (TensorType(F, ("n", None)), TensorType(), SequenceType(TensorType())):
        assert not check(graph(node("Sin", "x", "y")).replace(outputs=(Value("y", fine),)), get_registry()).problems


def test_words_in_names_are_not_mistaken_for_problems():
    report = check(graph(node("Sin", "x", "y"), node("Cos", "motorcycle", "z")), get_registry())
    assert report.trainability is not None
    assert report.types.type("y") == X.type


def test_types_are_reported():
    report = check(graph(node("MatMul", "x w", "y"), initializers={"w": np.ones((3, 5))}), get_registry())
    assert report.types.type("y") == TensorType(F, (2, 5))


# ---- trainability -----------------------------------------------------------------------------------------


def blocked(build):
    """What blocks the parameter w in y = build(builder, x, w)."""
    b = GraphBuilder(dtype=F)
    x, w = b.input("x", F, [2, 3]), b.parameter("w", np.ones((2, 3)))
    b.output(build(b, x, w), "y")
    report = check(b.build(), get_registry()).trainability
    return {item.name: item.reasons for item in report.blocked}


def test_what_stops_gradients_is_said():
    assert blocked(lambda b, x, w: x * w) == {}
    (reason,) = blocked(lambda b, x, w: b.Cast(b.ArgMax(x * w), to=11))["w"]
    assert reason.startswith("its outputs are not floats: cast later")
    assert "argmax = ArgMax(mul)" in reason
    (reason,) = blocked(lambda b, x, w: b.Reshape(x, b.Cast(b.Shape(w), to=7)))["w"]
    assert "not floats" in reason
    assert blocked(lambda b, x, w: x * 2.0)["w"] == ("nothing uses it",)

    def dead_end(b, x, w):
        b.Sin(w)
        return x * 2.0

    assert blocked(dead_end)["w"] == ("no output depends on it",)


def test_inputs_that_are_never_differentiated():
    (reason,) = blocked(lambda b, x, w: b.Dropout(x, b.ReduceMean(w, keepdims=0)))["w"]
    assert "'ratio' of Dropout is never differentiated" in reason


def test_unknown_ops_are_obstacles():
    b = GraphBuilder(dtype=F)
    w = b.parameter("w", np.ones(3))
    b.output(b.op("Blur", w, domain="img"), "y")
    report = check(b.build(), get_registry()).trainability
    assert "no op 'Blur'" in report.blocked[0].reasons[0]
    assert "no gradient reaches 'w':\n    no op" in str(report)


def test_the_trainable_set_is_counted():
    b = GraphBuilder(dtype=F)
    x = b.input("x", F, [2, 3])
    b.parameter("steps", np.array(3))
    b.parameter("running", np.zeros(3))
    b.update("running", x)
    b.output(b.MatMul(x, b.parameter("w", np.ones((3, 1000)))) + b.parameter("b", np.ones(1000)), "y")
    report = check(b.build(), get_registry()).trainability
    assert report.trainable == ("w", "b")
    assert report.elements == 4000
    assert report.state == ("running",)
    assert "trainable: 2 parameters, 4,000 elements\nrunning statistics, updated and not trained: running" in str(
        report
    )


# ---- never a crash ------------------------------------------------------------------------------------------

OPS = sorted({(o.domain, o.op_type) for o in get_registry().ops()})
NAMES = st.sampled_from(["x", "y", "a", "b", "c", "w", ""])
BITS = st.one_of(
    st.just(()), st.integers(-3, 3), st.floats(), st.sampled_from(["", "last", "NOTSET"]), st.binary(max_size=3),
    st.lists(st.integers(-2, 2), max_size=3).map(tuple), st.lists(st.floats(), max_size=2).map(tuple),
    st.just(np.arange(3)), st.just(np.array("s", object)), st.just(TensorType()), st.just(BODY), st.just((BODY, 1)),
)  # fmt: skip


@st.composite
def broken_nodes(draw):
    domain, op_type = draw(st.sampled_from(OPS))
    suffix = draw(st.sampled_from(["", "", "", ".vjp[x]", ".jvp[a]", ".vjp[*]", ".", ".vjp["]))
    versions = get_registry().versions(op_type, domain)
    known = list(versions[-1].attributes) if versions else []
    keys = st.sampled_from([*known, "segments", "n_outputs", "rng_key", "axis", "body"])
    return Node(
        op_type + suffix,
        tuple(draw(st.lists(NAMES, max_size=5))),
        tuple(draw(st.lists(NAMES, max_size=3))),
        draw(st.dictionaries(keys, BITS, max_size=3)),
        domain,
    )


TYPES = st.sampled_from(
    [TensorType(), X.type, TensorType("int64", ()), TensorType("string", (2,)), SequenceType(X.type)]
)
INITIALIZERS = st.sampled_from([np.ones((2, 3)), np.array(2), np.zeros(0), np.array(["a"], object), np.ones(3, bool)])


@given(
    st.lists(broken_nodes(), max_size=4),
    st.lists(st.builds(Value, NAMES, TYPES), max_size=3),
    st.lists(st.builds(Value, NAMES, TYPES), max_size=2),
    st.dictionaries(NAMES, INITIALIZERS, max_size=2),
    st.dictionaries(NAMES, NAMES, max_size=1),
    st.dictionaries(st.sampled_from(["", "graphrt", "graphrt.optim"]), st.integers(-1, 30), max_size=3),
)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_graph_is_too_broken_to_check(nodes, inputs, outputs, initializers, updates, opsets):
    fields = {"initializers": initializers, "state_updates": updates, "opset_imports": opsets}
    report = check(Graph("broken", inputs=inputs, outputs=outputs, nodes=nodes, **fields), get_registry())
    assert str(report)
    json.dumps(report.as_dict())


def test_the_report_names_missing_rules_and_modes():
    @op("Opaque", domain="test", elementwise=True)
    def opaque(x):
        return x

    registry = Registry.of(ops=[opaque, *get_registry().table("ops").values()])
    b = GraphBuilder()
    x = b.input("x", "float32", ["n", 2])
    h = x @ b.parameter("w", np.ones((2, 2), "float32"))
    b.output(h + b.op("Opaque", h, domain="test"), "y")
    b.output(b.Dropout(h), "z")
    report = check(b.build(), registry).trainability
    assert report.trainable == ("w",)
    assert len(report.missing_rules) == 1
    assert "test::Opaque" in report.missing_rules[0]
    assert report.modes == ("1 Dropout in inference form; Trainer and Session(mode='train') switch it",)
    assert "no derivative rule" in str(report)
