"""The house: imports flow downward, and whatever is public says what it is."""

from __future__ import annotations

import ast
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(p for p in (ROOT / "graphrt").rglob("*.py") if p.name.startswith("__") or not p.name.startswith("_"))


@pytest.fixture
def layers():
    """tools/check_layers.py as a module."""
    spec = importlib.util.spec_from_file_location("check_layers", ROOT / "tools" / "check_layers.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imports_flow_downward(layers, capsys):
    assert layers.main() == 0, capsys.readouterr().out


WRONG = {
    "ir/bad.py": ("from graphrt.op import op", r"graphrt/ir/bad.py:1: ir \(level \d+\) imports op"),
    "ops/bad.py": ("def f():\n    import msgpack", "graphrt/ops/bad.py:2: msgpack is imported only in format/"),
    "runtime/bad.py": ("import networkx.algorithms", "networkx is imported only in ir/dag.py"),
    "check.py": ("from graphrt import runtime", r"check \(level \d+\) imports runtime"),
    "novel.py": ("", "its room 'novel' has no level; add it to LEVELS"),
}


@pytest.mark.parametrize("file", WRONG)
def test_the_check_finds_what_breaks_the_rule(layers, tmp_path, monkeypatch, file, capsys):
    source, message = WRONG[file]
    target = tmp_path / "graphrt" / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(f"{source}\n")
    monkeypatch.setattr(layers, "ROOT", tmp_path / "graphrt")
    assert layers.main() == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(capsys.readouterr().out)
    shutil.rmtree(tmp_path / "graphrt")


def undocumented(path):
    """Line and name of each public class or function of a file, or of its public classes, without a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if not ast.get_docstring(tree):
        yield "1: the module"
    waiting = [(tree, "")]
    while waiting:
        scope, prefix = waiting.pop()
        for node in scope.body:
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)) or node.name.startswith("_"):
                continue
            if any(isinstance(d, ast.Attribute) and d.attr == "setter" for d in node.decorator_list):
                continue
            if prefix == "Dual." and hasattr(np.ndarray, node.name):
                continue  # is to a dual array what NumPy's is to an array
            if not ast.get_docstring(node):
                yield f"{node.lineno}: {prefix}{node.name}"
            if isinstance(node, ast.ClassDef):
                waiting.append((node, f"{prefix}{node.name}."))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_what_is_public_is_documented(path):
    missing = list(undocumented(path))
    assert not missing, "\n".join(missing)
