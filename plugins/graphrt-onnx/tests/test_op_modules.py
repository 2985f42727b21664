"""The ops that the package names, and the modules that define them."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest
from graphrt_onnx import ops


@pytest.mark.parametrize("module", ops.MODULES, ids=lambda m: m.module)
def test_a_module_defines_what_it_is_named_for(module):
    assert set(module.load()) == set(module.keys)


def test_no_module_is_left_out():
    names = (f"{ops.__name__}.{m.name}" for m in pkgutil.iter_modules(ops.__path__))
    assert {n for n in names if hasattr(importlib.import_module(n), "OPS")} == {m.module for m in ops.MODULES}


def test_registering_imports_no_op_and_no_onnx():
    code = """
import sys, graphrt_onnx
assert list(graphrt_onnx.graphrt_register_ops()) and list(graphrt_onnx.graphrt_register_converters())
print([m for m in sys.modules if m in ("onnx", "ml_dtypes") or m.startswith("graphrt_onnx.ops.")])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
