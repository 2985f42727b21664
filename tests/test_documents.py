"""What the README and the plug-in guide show is run as it stands."""

from __future__ import annotations

import re
import shlex
import types
from pathlib import Path

import numpy as np
import pytest

from graphrt.cli.main import main
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.registry import KINDS, Registry
from graphrt.runtime.session import Session
from graphrt.testing import check_kernel, check_op, check_optimizer
from graphrt.train import Trainer

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def commands(text):
    """Every line of an indented block and every code span that begins with ``graphrt``."""
    indented = [line.strip() for line in text.splitlines() if line.startswith("    graphrt ")]
    spans = [s for s in re.findall(r"`(graphrt [^`]+)`", text) if "..." not in s and len(s.split()) > 2]
    return [c.split("  #")[0].strip() for c in dict.fromkeys(indented + spans)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with the data that the README's commands name."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("data.npz", "test.npz"):
        np.savez(name, x=rng.normal(size=(80, 64)).astype("float32"), y=rng.integers(0, 10, 80))
    return tmp_path


def test_python_of_the_readme(folder, capsys):
    namespace: dict[str, object] = {}
    for code in blocks(README, "python"):
        exec(compile(code, "README.md", "exec"), namespace)  # our own text, not a stranger's
    printed = capsys.readouterr().out
    listing = re.search(r"```\n(graph line .*?)```", README, re.S).group(1)
    assert listing in printed
    assert float(printed.strip().splitlines()[-1]) < 1e-5
    assert (folder / "trained.grt").exists()
    check_op(namespace["cube"])


def test_commands_of_the_readme(folder, capsys):
    found = commands(README)
    assert len(found) > 12
    for command in found:
        if command.split()[1] in ("trace", "grad", "--help") or "model.onnx" in command:
            continue  # tried below, and in the tests of graphrt-onnx
        assert main(shlex.split(command)[1:]) == 0, (command, capsys.readouterr().err)


@pytest.mark.parametrize("command", [c for c in commands(README) if c.split()[1] in ("trace", "grad")])
def test_examples_of_the_readme(command, capsys):
    assert main(shlex.split(command)[1:]) == 0
    printed = capsys.readouterr().out
    if command == 'graphrt trace "x*y + sin(x)" --at x=pi/2 --at y=0':
        table = re.search(r"    node  expression.*?\n\n.*?\n\n", README, re.S).group(0)
        assert [line.split() for line in table.split("\n") if line.strip()] == [
            line.split() for line in printed.split("\n") if line.strip()
        ]


def test_the_plugin_of_the_guide():
    module = types.ModuleType("graphrt_cube")
    exec(compile(blocks(GUIDE, "python")[0], "graphrt_cube.py", "exec"), module.__dict__)
    ops, optimizers = module.graphrt_register_ops(), module.graphrt_register_optimizers()
    for found in ops:
        check_op(found)
    for found in optimizers:
        check_optimizer(found)
    given = {"ops": ops, "optimizers": optimizers}
    installed = get_registry()
    everything = {k: [*installed.table(k).values(), *given.get(k, ())] for k in KINDS if k != "kernels"}
    registry = Registry.of(**everything)
    b = GraphBuilder()
    x = b.input("x", "float32", ["batch", 2])
    w = b.parameter("w", np.full((2, 1), 0.5, "float32"))
    b.output(b.domain("cube").Cube(x @ w), "y")
    xs = np.random.default_rng(0).normal(size=(128, 2)).astype("float32")
    ys = (xs @ np.array([[1.0], [-0.5]], "float32")) ** 3
    trainer = Trainer(b.build(), "mean_squared_error", optimizers[0](0.02), registry=registry)
    history = trainer.fit({"x": xs, "y": ys}, epochs=30, progress=False)
    assert history.rows[-1]["loss"] < 0.01 * history.rows[0]["loss"]
    assert Session(trainer.graph(), registry=registry).run({"x": xs})["y"].shape == (128, 1)


def test_the_kernel_of_the_guide():
    namespace: dict[str, object] = {}
    code = next(c for c in blocks(GUIDE, "python") if "site.into" in c)
    exec(compile(code, "fast.py", "exec"), namespace)
    assert check_kernel(namespace["softsign"]) > 4


def test_every_hook_is_in_the_guide():
    for kind in KINDS:
        assert f"_{kind}`" in GUIDE, kind
