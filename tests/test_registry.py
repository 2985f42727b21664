"""Registries: lookup by version, near misses, clashes, provenance."""

from __future__ import annotations

import importlib
import pkgutil
import sys
import types

import pytest

from graphrt.errors import GraphError, NotDifferentiableError, PluginError, UnknownOpError
from graphrt.ir import Graph, Node
from graphrt.manager import get_registry
from graphrt.op import OpModule, op
from graphrt.plugin import Kernel, KernelModule, metric
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


# ---- modules that stand for definitions --------------------------------------------------------------


@pytest.fixture
def module(monkeypatch):
    """Makes a module that can be imported: ``module("name", OPS=..., KERNELS=...)``."""

    def make(name, **content):
        made = types.ModuleType(name)
        vars(made).update(content)
        monkeypatch.setitem(sys.modules, name, made)
        return name

    return make


def kernels(*ops):
    return tuple(Kernel(f"kernel_of_{o}", o, lambda site: None) for o in ops)


@pytest.mark.parametrize("kind", ["ops", "kernels"])
def test_every_module_of_ours_is_named_with_what_it_defines(kind):
    """Loading raises where a name is wrong; and nothing that defines ops or kernels is left out."""
    from graphrt.ops import builtin_ops
    from graphrt.runtime.kernels import builtin_kernels

    modules = {m.module: m for m in (builtin_ops() if kind == "ops" else builtin_kernels())}
    for named in modules.values():
        named.load()
    package = importlib.import_module("graphrt.ops" if kind == "ops" else "graphrt.runtime.kernels")
    names = (f"{package.__name__}.{m.name}" for m in pkgutil.iter_modules(package.__path__) if m.name[0] != "_")
    assert {n for n in names if hasattr(importlib.import_module(n), kind.upper())} == modules.keys()


def test_names_of_ops():
    named = OpModule("m", "Add-7,13 ::Sub graphrt::Step-2 Two-Parts-1", domain="d")
    assert named.keys == (
        ("d", "Add", 7),
        ("d", "Add", 13),
        ("", "Sub", 1),
        ("graphrt", "Step", 2),
        ("d", "Two-Parts", 1),
    )
    assert OpModule("m", "Plain").keys == (("", "Plain", 1),)
    for wrong in ("Add-", "Add-x", "Add-1,", "Two-Parts"):
        with pytest.raises(PluginError, match=f"m: '{wrong}' is no name of ops; write Name or Name-7,13"):
            OpModule("m", wrong)


def test_a_module_of_ops_is_imported_when_one_is_used(module):
    ops = [*versioned("Lazy", 1, 7, domain="d"), *versioned("Other", 1)]
    named = OpModule("lazy_ops_for_tests", "Lazy-1,7 ::Other", domain="d")
    registry = Registry.of(ops=[named, *versioned("Plain", 1)])
    assert registry.find_op("Plain").version == 1
    assert registry.op_names() == [("", "Other"), ("", "Plain"), ("d", "Lazy")]
    assert registry.plugins_by_domain() == {"": "given", "d": "given"}
    module("lazy_ops_for_tests", OPS=ops)  # until here it could not have been imported
    assert registry.find_op("Lazy", "d", 6) is ops[0]
    assert registry.versions("Lazy", "d") == tuple(ops[:2])
    assert list(registry.table("ops")) == ["::Other-0001", "::Plain-0001", "d::Lazy-0001", "d::Lazy-0007"]
    assert registry.plugin_of("ops", ops[1]) == "given"


def test_a_module_with_other_ops_than_it_is_named_for(module):
    module(
        "wrong_ops_for_tests", OPS=[*versioned("Real", 1, 13), *versioned("New", 1), *versioned("Step", 1, domain="x")]
    )
    registry = Registry.of(ops=[OpModule("wrong_ops_for_tests", "Real Gone"), *versioned("Plain", 1)])
    message = r"said to define 'Real Gone', and defines 'Real-1,13 New x::Step'"
    for _ in range(2):
        with pytest.raises(UnknownOpError, match=f"op 'Gone' cannot be imported: .*{message}"):
            registry.find_op("Gone")
    with pytest.raises(UnknownOpError, match=message):
        registry.versions("Real")
    assert list(registry.table("ops")) == ["::Plain-0001"]
    assert [o.op_type for o in registry.ops()] == ["Plain"]


def test_clashes_are_found_without_importing():
    first, second = OpModule("nowhere", "A B-1,7"), OpModule("nowhere.else", "B-7 C")
    registry = Registry(lambda kind: [(first, "one"), (second, "two")] if kind == "ops" else [])
    with pytest.raises(PluginError, match="'::B-0007' is defined by both 'one' and 'two'"):
        registry.find_op("C")


def test_kernels_are_imported_for_their_ops(module):
    low, high = (Kernel(n, "Tanh", lambda site: None, priority=p) for n, p in (("low", -1), ("high", 1)))
    named = KernelModule("lazy_kernels_for_tests", "Tanh d::Cube"), KernelModule("no_such_module", "Sin")
    registry = Registry.of(kernels=[low, *named, high])
    assert registry.kernels_for("Cos") == ()
    more = (*kernels("Tanh", "Tanh.vjp[x]"), Kernel("cube", "Cube", lambda site: None, domain="d"))
    module("lazy_kernels_for_tests", KERNELS=more)
    assert registry.kernels_for("Tanh") == (high, more[0], low)
    assert registry.kernels_for("Tanh.vjp[x]") == (more[1],)
    assert registry.kernels_for("Cube", "d") == (more[2],)
    assert registry.kernels_for("Cube") == ()
    with pytest.raises(ModuleNotFoundError):
        registry.table("kernels")


def test_kernels_of_one_name_clash_when_they_are_imported(module):
    module("kernels_one", KERNELS=kernels("Tanh"))
    module("kernels_two", KERNELS=[*kernels("Tanh"), *kernels("Sin")])
    named = [(KernelModule("kernels_one", "Tanh"), "one"), (KernelModule("kernels_two", "Tanh Sin"), "two")]
    for look in (lambda r: r.kernels_for("Tanh"), lambda r: r.table("kernels")):
        registry = Registry(lambda kind: named if kind == "kernels" else [])
        with pytest.raises(PluginError, match="kernels: 'kernel_of_Tanh' is defined by both 'one' and 'two'"):
            look(registry)


def test_a_module_with_kernels_for_other_ops_than_it_is_named_for(module):
    module("wrong_kernels_for_tests", KERNELS=[*kernels("Tanh.vjp[x]"), Kernel("cube", "Cube", print, domain="d")])
    named = KernelModule("wrong_kernels_for_tests", "Tanh Sin")
    with pytest.raises(PluginError, match="to have kernels for 'Tanh Sin', and has them for 'Tanh d::Cube'"):
        named.load()
    assert Registry.of(kernels=[named]).kernels_for("Tanh") == ()


@pytest.mark.parametrize("name", ["", "My.Op"])
def test_names_an_op_cannot_have(name):
    with pytest.raises(PluginError, match="a name has no dots"):
        versioned(name, 1)
