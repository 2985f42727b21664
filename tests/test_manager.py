"""Plug-ins as they come: real entry points on sys.path, good ones and every kind of broken one."""

from __future__ import annotations

import sys

import pytest

from graphrt import hookspecs, manager
from graphrt.errors import PluginError, UnknownOpError
from graphrt.installed import installed_points
from graphrt.manager import GROUP, Manager
from graphrt.registry import KINDS

OP = '''
from graphrt.plugin import hookimpl, op

@op("{name}", domain="tests", elementwise=True)
def function(x):
    """An op."""
    return x

@hookimpl
def graphrt_register_ops():
    return [function]
'''
GOOD = OP.format(name="Good")


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a distribution with one module and an entry point to it, without pip: ``install("a", source)``."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    installed = []

    def make(name, source, *, entry=None, version="1.2"):
        module = f"plugin_{name}_{len(installed)}_for_tests"
        installed.append(module)
        (site / f"{module}.py").write_text(source)
        info = site / f"graphrt_{name}_{len(installed)}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: graphrt-{name}-{len(installed)}\nVersion: {version}\n"
        )
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entry or name} = {module}\n")
        return module

    yield make
    for module in installed:
        sys.modules.pop(module, None)


def loaded(**options):
    """A manager of the plug-ins made by `install` only."""
    points = [p for p in installed_points(GROUP) if p.value.endswith("_for_tests")]
    return Manager(points, **options)


def statuses(made):
    return {s.name: s for s in made.statuses()}


def op_names(made):
    return {o.op_type for o in made.registry.ops() if o.domain == "tests"}


def test_a_good_plugin(install):
    install("good", GOOD)
    made = loaded()
    (status,) = made.statuses()
    assert (status.name, status.distribution, status.version, status.state) == ("good", "graphrt-good-1", "1.2", "ok")
    assert (status.hooks, status.reason) == (("ops",), "")
    found = made.registry.find_op("Good", "tests")
    assert made.registry.plugin_of("ops", found) == "good"
    assert made.registry.plugin_of("ops", made.registry.find_op("Tanh")) == "graphrt"
    assert made.failures() == ()


HOOK = "from graphrt.plugin import hookimpl\n@hookimpl\ndef graphrt_register_{}(): {}\n"
BROKEN = {
    "import error": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "exit": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "syntax": ("def (:", "SyntaxError"),
    "any error": ("1/0", "ZeroDivisionError"),
    "unknown hook": (
        HOOK.format("opps", "return []"),
        "graphrt_register_opps is no hook of graphrt; there are: .*graphrt_register_ops",
    ),
    "unmarked unknown hook": ("def graphrt_register_opps(): return []", "graphrt_register_opps is no hook"),
    "no decorator": ("def graphrt_register_ops(): return []", "graphrt_register_ops lacks its decorator"),
    "wrong signature": (
        "from graphrt.plugin import hookimpl\n@hookimpl\ndef graphrt_register_ops(x): return []",
        "PluginValidationError",
    ),
    "hook fails": (HOOK.format("ops", "raise OSError('disk')"), "in graphrt_register_ops: OSError: disk"),
    "hook exits": (
        HOOK.format("ops", "raise SystemExit('no license')"),
        "in graphrt_register_ops: SystemExit: no license",
    ),
    "no list": (HOOK.format("ops", "return 5"), "in graphrt_register_ops: TypeError: 'int' object is not iterable"),
    "wrong names": (
        HOOK.format("ops", "from graphrt.plugin import OpModule; return [OpModule('m', 'Op-x')]"),
        "in graphrt_register_ops: PluginError: m: 'Op-x' is no name of ops",
    ),
    "wrong type": (
        HOOK.format("metrics", "return ['accuracy']"),
        "graphrt_register_metrics returned 'accuracy', which is no Metric",
    ),
    "wrong kind": (
        GOOD.replace("register_ops", "register_passes"),
        "graphrt_register_passes returned <op .*which is no Pass",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_reported_and_harms_no_other(install, case):
    source, reason = BROKEN[case]
    install("bad", source)
    install("good", GOOD)
    made = loaded()
    found = statuses(made)
    assert (found["bad"].state, found["bad"].distribution) == ("failed", "graphrt-bad-1")
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(found["bad"].reason)
    assert [s.name for s in made.failures()] == ["bad"]
    assert found["good"].state == "ok"
    assert op_names(made) == {"Good"}
    assert made.registry.find_op("Tanh")


NAMED = {
    "ops": "OpModule({!r}, 'Late', domain='late')",
    "kernels": "KernelModule({!r}, 'Tanh late::Late')",
}
FAILING = {
    "missing": (None, "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "exits": ("import sys\nsys.exit('no license')", "SystemExit: no license"),
    "nothing there": ("", "AttributeError: .* has no attribute"),
    "others there": ("OPS = KERNELS = ()", "PluginError: .* is said to"),
}


@pytest.mark.parametrize("kind", NAMED)
@pytest.mark.parametrize("case", FAILING)
def test_a_named_module_that_fails_harms_no_other(install, case, kind):
    """The plug-in fails when the module is imported: for one of its ops, or to see how it fares."""
    source, reason = FAILING[case]
    module = "no_such_module_at_all" if source is None else install("late", source)
    install("bad", f"from graphrt.plugin import *\n{HOOK.format(kind, f'return [{NAMED[kind].format(module)}]')}")
    install("good", GOOD)
    made = loaded(enabled=["bad", "good"])
    assert made.registry.find_op("Good", "tests")
    assert made.failures() == ()
    if kind == "ops":
        with pytest.raises(UnknownOpError, match=f"op 'Late' cannot be imported: plug-in 'bad': .* failed: {reason}"):
            made.registry.find_op("Late", "late")
    else:
        assert all(made.registry.plugin_of("kernels", k) == "graphrt" for k in made.registry.kernels_for("Tanh"))
    for _ in range(2):
        with pytest.raises(AssertionError, match=f"^in {module}: {reason}[^;]*$"):
            raise AssertionError(statuses(made)["bad"].reason)
        assert [s.name for s in made.failures()] == ["bad"]
    assert op_names(made) == {"Good"}


def test_a_hook_that_gives_nothing(install):
    install("empty", HOOK.format("ops", "return None"))
    install("lazy", HOOK.format("metrics", "yield from ()"))
    assert {s.state for s in loaded().statuses()} == {"ok"}


def test_an_interrupt_is_no_failure_of_a_plugin(install):
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        loaded()


def test_a_plugin_of_which_one_hook_fails_keeps_the_others(install):
    install(
        "half",
        GOOD + HOOK.format("metrics", "raise ValueError('no')") + HOOK.format("losses", "raise ValueError('never')"),
    )
    for first in KINDS:
        made = loaded()
        made.registry.table(first)
        status = statuses(made)["half"]
        assert status.state == "failed"
        assert "in graphrt_register_metrics: ValueError: no" in status.reason
        assert "in graphrt_register_losses: ValueError: never" in status.reason
        assert op_names(made) == {"Good"}


def test_two_plugins_with_one_op(install):
    install("first", GOOD)
    install("second", GOOD)
    install("third", OP.format(name="Third"))
    made = loaded()
    found = statuses(made)
    assert {k: s.state for k, s in found.items()} == {"first": "clash", "second": "clash", "third": "ok"}
    for name in ("first", "second"):
        assert "'tests::Good-0001' is defined by both 'first' and 'second'" in found[name].reason
    with pytest.raises(PluginError, match="by both 'first' and 'second'; disable one of them"):
        made.registry.find_op("Third", "tests")
    assert made.registry.get("passes", "set_mode")
    assert op_names(loaded(disabled=["second"])) == {"Good", "Third"}


def test_a_plugin_with_an_op_of_ours(install):
    version = manager.get_registry().find_op("Tanh").version
    install("greedy", GOOD.replace('"Good", domain="tests"', f'"Tanh", version={version}'))
    made = loaded()
    assert statuses(made)["greedy"].state == "clash"
    with pytest.raises(PluginError, match=r"'::Tanh-....' is defined by both 'graphrt' and 'greedy'"):
        made.registry.find_op("Sin")


def test_two_distributions_with_one_entry_point_name(install):
    install("one", GOOD, entry="same")
    install("two", OP.format(name="Other"), entry="same")
    install("ours", OP.format(name="Ours"), entry="graphrt")
    made = loaded()
    found = [(s.name, s.distribution, s.state) for s in made.statuses()]
    assert ("same", "graphrt-one-1", "ok") in found
    assert ("same", "graphrt-two-2", "failed") in found
    assert ("graphrt", "graphrt-ours-3", "failed") in found
    assert "name of one of graphrt-one-1; rename it" in next(
        s.reason for s in made.statuses() if "two" in s.distribution
    )
    assert op_names(made) == {"Good"}


def test_order_of_installation_does_not_matter(install):
    for name in ("zebra", "ant", "monkey"):
        install(name, OP.format(name=name.title()))
    assert [s.name for s in loaded().statuses()] == ["ant", "monkey", "zebra"]


def test_disabled_by_name(install):
    install("good", GOOD)
    install("crash", "raise RuntimeError('must not be imported')")
    made = loaded(disabled=["crash"])
    found = statuses(made)
    assert (found["crash"].state, found["crash"].reason) == ("disabled", "by --disable-plugin")
    assert found["good"].state == "ok"


@pytest.mark.parametrize(
    ("chosen", "active"), [(None, {"a", "b"}), ("", set()), ("a", {"a"}), (" b , a ,", {"a", "b"})]
)
def test_the_environment_chooses(install, monkeypatch, chosen, active):
    install("a", OP.format(name="A"))
    install("b", OP.format(name="B"))
    monkeypatch.setattr(manager, "_current", None)
    monkeypatch.setattr(
        manager,
        "installed_points",
        lambda group: [p for p in installed_points(group) if p.value.endswith("_for_tests")],
    )
    monkeypatch.delenv("GRAPHRT_PLUGINS", raising=False)
    if chosen is not None:
        monkeypatch.setenv("GRAPHRT_PLUGINS", chosen)
    made = manager.get_manager()
    assert manager.get_manager() is made
    assert {s.name for s in made.statuses() if s.state == "ok"} == active
    assert {s.reason for s in made.statuses() if s.state == "disabled"} <= {"by GRAPHRT_PLUGINS"}
    assert manager.get_registry() is made.registry
    with pytest.raises(PluginError, match="plug-ins are loaded already; disable them first, or set GRAPHRT_PLUGINS"):
        manager.disable_plugins(["a"])


def test_names_that_are_not_installed_are_reported(install):
    install("good", GOOD)
    found = statuses(loaded(enabled=["good", "godo"], disabled=["slwo"]))
    assert found["good"].state == "ok"
    assert (found["godo"].state, found["slwo"].state) == ("failed", "failed")
    assert found["godo"].reason == "GRAPHRT_PLUGINS names it, and no plug-in of this name is installed"
    assert found["slwo"].reason == "--disable-plugin names it, and no plug-in of this name is installed"


def test_every_hook_is_documented_and_of_a_kind():
    hooks = {name for name in vars(hookspecs) if name.startswith("graphrt_")}
    assert hooks == {f"graphrt_register_{kind}" for kind in KINDS}
    for name in hooks:
        assert getattr(hookspecs, name).__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_every_hook_is_called_and_its_definitions_are_found(install, kind):
    """Each hook, with one minimal definition of its kind."""
    made_of = {
        "ops": "op('Mine')(lambda x: x)",
        "optimizers": "optimizer('mine')(lambda w, g, learning_rate, step: (w,))",
        "losses": "loss('mine')(lambda b, p, t: p)",
        "metrics": "metric('mine')(lambda p, t: p)",
        "schedules": "schedule('mine')(lambda step: 1.0)",
        "initializers": "initializer('mine')(lambda rng, shape, dtype: None)",
        "passes": "graph_pass('mine')(lambda graph, registry: graph)",
        "kernels": "Kernel('mine', 'Tanh', lambda site: None)",
        "converters": "Converter('mine', ('.mine',))",
        "engines": "Engine('mine', print)",
        "commands": "Command('mine', 'help', print, print)",
        "callbacks": "Callback('mine', print)",
    }
    install("mine", f"from graphrt.plugin import *\n{HOOK.format(kind, f'return [{made_of[kind]}]')}")
    made = loaded()
    (status,) = made.statuses()
    assert (status.state, status.reason, status.hooks) == ("ok", "", (kind,))
    mine = [d for d in made.registry.table(kind).values() if made.registry.plugin_of(kind, d) == "mine"]
    assert len(mine) == 1
