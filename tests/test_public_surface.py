"""``import graphrt``: what it offers, and what it costs."""

import json
import subprocess
import sys

import numpy as np
import pytest

import graphrt as gr

HEAVY = ("numpy", "networkx", "pluggy", "msgpack", "rich", "matplotlib", "sklearn")


def test_every_public_name_resolves():
    for name in gr.__all__:
        assert getattr(gr, name) is not None
    assert set(gr.__all__) <= set(dir(gr))


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = gr.nothing


UNUSED = (
    "networkx", "numpy.random", "numpy.testing", "scipy", "onnx", "importlib.metadata", "tempfile", "pathlib",
    "graphrt.dual.algebra",
    "graphrt.ops.convolution", "graphrt.runtime.kernels.convolution", "graphrt.optim", "graphrt.train",
)  # fmt: skip


def loaded_after(code, modules=HEAVY):
    """Which of some modules a fresh process has after running some code, but not before."""
    script = (
        f"import sys, json\nbefore = set(sys.modules)\n{code}\n"
        f"print(json.dumps([m for m in {modules!r} if m in set(sys.modules) - before]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_import_costs_nothing():
    assert loaded_after("import graphrt") == []


def test_command_line_help_needs_no_numpy():
    code = "from graphrt.cli.main import main\nassert main(['--help']) == 0 and main(['--version']) == 0"
    assert loaded_after(code) == []


def test_builder_needs_no_scheduler():
    assert "networkx" not in loaded_after("import graphrt; graphrt.GraphBuilder(); graphrt.TensorType('float32')")


@pytest.mark.parametrize("weights", [True, False])
def test_a_first_prediction_imports_what_it_uses(tmp_path, weights):
    """Not what schedules unlisted orders, draws numbers, reads other formats, or belongs to other ops."""
    gr.save(gr.models.mlp(4, [3], 2), tmp_path / "m.grt")
    given = "graphrt.load(r'{}'), {{'x': numpy.zeros((1, 4), 'float32')}}".format(tmp_path / "m.grt")
    if not weights:
        given = "graphrt.expression('x * y'), {'x': 1.0, 'y': 2.0}"
    code = f"import graphrt, numpy\ngraph, inputs = {given}\ngraphrt.Session(graph).run(inputs)"
    assert loaded_after(code, UNUSED) == []


def test_the_short_story(tmp_path):
    b = gr.GraphBuilder("short")
    x = b.input("x", "float32", ["batch", 2])
    b.output(x @ b.parameter("w", np.float32([[1], [2]])), "y")
    gr.save(b.build(), tmp_path / "m.grt")
    graph = gr.load(tmp_path / "m.grt")
    out = gr.Session(graph).run({"x": np.float32([[3, 4]])})
    assert out["y"].tolist() == [[11]]
    assert isinstance(graph, gr.Graph)
    value, gradient = gr.grad("x*y", {"x": 2.0, "y": 5.0})
    assert (float(value), float(gradient["x"])) == (10, 5)
