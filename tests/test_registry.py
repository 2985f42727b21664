"""Registries: lookup by version, near misses, clashes, provenance."""

from __future__ import annotations

import pytest

from graphrt.errors import GraphError, NotDifferentiableError, PluginError, UnknownOpError
from graphrt.ir import Graph, Node
from graphrt.manager import get_registry
from graphrt.op import op
from graphrt.plugin import metric
from graphrt.registry import KINDS, Registry


def versioned(name, *versions, domain=""):
    def make(version):
        @op(name, version=version, domain=domain, elementwise=True)
        def function(x):
            """An op."""
            return x

        return function

    return [make(v) for v in versions]


def test_the_newest_version_not_above_the_opset():
    registry = Registry.of(ops=versioned("Old", 7, 1, 13))
    assert [o.version for o in registry.versions("Old")] == [1, 7, 13]
    for opset, version in ((1, 1), (6, 1), (7, 7), (12, 7), (13, 13), (99, 13), (None, 13)):
        assert registry.find_op("Old", "", opset).version == version
    with pytest.raises(UnknownOpError, match=r"op 'Old' .* is known from version 1 on, .* imports version 0"):
        registry.find_op("Old", "", 0)
    assert registry.versions("New") == ()


def test_unknown_ops_come_with_the_nearest_names_and_where_else_there_is_one():
    registry = Registry.of(ops=[*versioned("Tanh", 1), *versioned("Cube", 1, domain="shapes")])
    with pytest.raises(UnknownOpError, match=r"no op 'tahn' in the default domain \(did you mean 'Tanh'\?\)"):
        registry.find_op("tahn")
    with pytest.raises(UnknownOpError, match="no op 'Cube' in the default domain; 'shapes' has an op of that name"):
        registry.find_op("Cube")
    with pytest.raises(
        UnknownOpError, match="in domain 'nowhere'; no plug-in that is loaded has any op of that domain"
    ):
        registry.find_op("Sphere", "nowhere")


def test_the_graph_says_which_package_has_an_op():
    graph = Graph(opset_imports={"x": 1}, requires={"x": "graphrt-x>=2"})
    with pytest.raises(UnknownOpError, match="the graph says that 'graphrt-x>=2' has it: pip install 'graphrt-x>=2'"):
        get_registry().op_of(Node("Strange", domain="x"), graph)


@pytest.mark.parametrize(
    "name", ["Tanh.", "Tanh.vjp", "Tanh.vjp[]", "Tanh.vjp[input", "Tanh.sum[input]", "Tanh..vjp[input]", "Tanh.vjp[*"]
)
def test_malformed_derived_ops(name):
    with pytest.raises(GraphError, match=r"a derived op is written OP\.vjp\[input\]"):
        get_registry().find_op(name)


def test_derived_ops_are_found_and_kept():
    registry = get_registry()
    first = registry.find_op("Tanh.vjp[input]")
    assert registry.find_op("Tanh.vjp[input]") is first
    assert registry.find_op("Tanh.vjp[input].jvp[ct]").op_type == "Tanh.vjp[input].jvp[ct]"
    with pytest.raises(NotDifferentiableError, match="no derivative rule for input 'nothing'"):
        registry.find_op("Tanh.vjp[nothing]")
    with pytest.raises(NotDifferentiableError, match=r"op Tanh has subgraphs and no vjp rule|no vjp rule"):
        registry.find_op("Tanh.vjp[*]")


def test_definitions_by_name():
    def score(prediction, target):
        return prediction

    registry = Registry.of(metrics=[metric("score")(score)])
    assert registry.get("metrics", "score").function is score
    with pytest.raises(PluginError, match=r"metrics: there is no 'scor' \(did you mean 'score'\?\); there are: score"):
        registry.get("metrics", "scor")
    assert registry.plugin_of("metrics", registry.get("metrics", "score")) == "given"


def test_a_clash_names_both_and_spares_other_kinds():
    asked = []

    def source(kind):
        asked.append(kind)
        first, second = versioned("Same", 1), versioned("Same", 1)
        return [(first[0], "one"), (second[0], "two")] if kind == "ops" else []

    registry = Registry(source)
    for _ in range(2):
        with pytest.raises(
            PluginError, match="ops: '::Same-0001' is defined by both 'one' and 'two'; disable one of them"
        ):
            registry.table("ops")
        with pytest.raises(PluginError, match="defined by both"):
            registry.find_op("Other")
    assert registry.table("metrics") == {}
    assert [c.plugins for c in registry.clashes("ops")] == [("one", "two")]
    assert asked.count("ops") == 1, "hooks are called once"


def test_tables_are_made_once_and_never_change():
    registry = get_registry()
    for kind in KINDS:
        table = registry.table(kind)
        assert registry.table(kind) is table
        with pytest.raises(TypeError):
            table["x"] = 1
        assert list(table) == sorted(table)


def test_every_builtin_definition_comes_from_graphrt_and_is_documented():
    registry = get_registry()
    for kind in KINDS:
        for name, definition in registry.table(kind).items():
            if registry.plugin_of(kind, definition) == "graphrt":
                text = definition.help if kind == "commands" else getattr(definition, "doc", None) or definition.__doc__
                assert text, f"{kind}: {name} has no docstring"


@pytest.mark.parametrize("name", ["", "My.Op"])
def test_names_an_op_cannot_have(name):
    with pytest.raises(PluginError, match="a name has no dots"):
        versioned(name, 1)
