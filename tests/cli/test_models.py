"""Verbs about model files: new, inspect, run, check, convert, diff."""

import json
import re

import numpy as np
import pytest

import graphrt as gr
from graphrt import models
from graphrt.errors import InputError


@pytest.mark.parametrize("suffix", [".grt", ".json"])
@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        (["mlp", "--hidden", "5,4", "--outputs", "3", "--activation", "relu", "--init", "he_uniform"], (7, 3)),
        (["mlp", "--hidden", "", "--outputs", "3", "--output", "linear", "--dtype", "float64"], (7, 3)),
        (["mlp", "--activation", "GELU", "--normalize", "1,2", "--output", "log_softmax"], (7, 10)),
        (["mlp", "--output", "logits", "--dtype", "float16"], (7, 10)),
        (["mlp", "--output", "sigmoid", "--outputs", "2"], (7, 2)),
        (["logistic"], (7, 1)),
        (["logistic", "--outputs", "4"], (7, 4)),
        (["perceptron", "--seed", "3", "--init", "normal"], (7, 1)),
    ],
)
def test_new(cli, tmp_path, suffix, arguments, shape):
    path = tmp_path / f"m{suffix}"
    done = cli("new", arguments[0], path, "--inputs", "6", *arguments[1:])
    assert done.code == 0, done.err
    graph = gr.load(path)
    dtype = graph.inputs[0].type.dtype
    (out,) = gr.Session(graph).run({"x": np.ones((7, 6), dtype)}).values()
    assert out.shape == shape
    assert out.dtype == dtype
    assert cli("check", path).code == 0


def test_models_in_python():
    assert models.mlp(3, seed=1).initializers["w1"][0, 0] != models.mlp(3, seed=2).initializers["w1"][0, 0]
    np.testing.assert_array_equal(models.mlp(3, seed=1).initializers["w1"], models.mlp(3, seed=1).initializers["w1"])
    with pytest.raises(InputError, match="a model ends in one of"):
        models.mlp(3, output="nothing")
    mean, deviation = np.array([1.0, 2, 3]), np.array([2.0, 4, 8])
    graph = models.logistic(3, normalize=(mean, deviation), dtype="float64", init="ones")
    x = np.array([[3.0, 6, 11]])
    out = gr.Session(graph).run({"x": x}, ["logits"])["logits"]
    assert out.item() == pytest.approx(3)


def test_inspect(cli, line):
    done = cli("inspect", line)
    assert done.code == 0
    assert "graph line" in done.out and "matmul = MatMul(x, w)" in done.out
    assert "parameters: 3 in 2 initializers, 3 of them trainable" in done.out
    found = cli("inspect", line, "--json").json()
    assert found["parameters"] == 3
    assert found["ops"] == {"Add": 1, "MatMul": 1}
    assert found["metadata"] == {"author": "nobody"}
    assert found["file_bytes"] == line.stat().st_size


def test_inspect_and_diff_of_unknown_ops(cli, tmp_path):
    b = gr.GraphBuilder("strange")
    b.output(b.op("Frobnicate", b.input("x"), domain="far.away", version=3), "y")
    path = tmp_path / "strange.grt"
    gr.save(b.build(requires={"far.away": "graphrt-far>=3"}), path)
    done = cli("inspect", path)
    assert done.code == 0
    assert "far.away::Frobnicate" in done.out
    assert "requires for domain 'far.away': graphrt-far>=3" in done.out
    assert cli("diff", path, path).code == 0
    done = cli("run", path, "--input", "x=1")
    assert done.code == 1
    assert "graphrt-far" in done.err


def test_inspect_standard_input(cli, line, stdin, tmp_path):
    stdin(line.read_bytes())
    assert "graph line" in cli("inspect", "-").out
    cli("convert", line, tmp_path / "line.json")
    stdin((tmp_path / "line.json").read_bytes())
    assert cli("inspect", "-", "--json").json()["name"] == "line"
    stdin(b"\xff\xfe")
    assert cli("inspect", "-").code == 1


def test_run(cli, line, tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1.0, 2.0], [3.0, 4.0]]))
    np.savez(tmp_path / "x.npz", x=np.float32([[1, 2]]), other=np.zeros(3))
    assert cli("run", line, "--input", f"x={tmp_path}/x.npy", "--json").json() == {"y": [[5.5], [11.5]]}
    assert cli("run", line, "--data", tmp_path / "x.npz", "--json").json() == {"y": [[5.5]]}
    done = cli("run", line, "--input", "x=[[1,2]]")
    assert done.out == "y: float32[1, 1] =\n[[5.5]]\n"
    assert cli("run", line, "--input", "x=[[1,2]]", "--fetch", "matmul", "--json").json() == {"matmul": [[5]]}
    for name in ("out.npz", "out.npy"):
        assert cli("run", line, "--input", "x=[[1,2]]", "--output", tmp_path / name).code == 0
        loaded = np.load(tmp_path / name)
        np.testing.assert_array_equal(loaded["y"] if name == "out.npz" else loaded, np.float32([[5.5]]))


BAD_RUNS = [
    (["--input", "x=[[1,2,3]]"], 2, "dimension 1 is 3, not 2"),
    (["--input", "x=[1,2]"], 2, "expected float32.batch, 2."),
    (["--input", "z=1"], 2, "no input 'z'"),
    ([], 2, "the input x: float32.batch, 2. is missing"),
    (["--input", "x=[[1,2]]", "--output", "out.txt"], 2, "its suffix is .npz or .npy"),
    (["--input", "x=[[1,2]]", "--output", "missing/out.npz"], 1, "cannot write there"),
    (["--input", "x=[[1,2]]", "--fetch", "q"], 2, "no name matches 'q'"),
    (["--data", "bad.npz"], 2, "not an .npz file"),
    (["--data", "objects.npz"], 2, "not an .npz file that can be used"),
    (["--input", "x=bad.npy"], 2, "not a .npy file"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD_RUNS)
def test_bad_runs(cli, line, monkeypatch, arguments, code, message):
    monkeypatch.chdir(line.parent)
    (line.parent / "bad.npz").write_bytes(b"PK\x03\x04 not really")
    (line.parent / "bad.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False")
    np.savez(line.parent / "objects.npz", x=np.array([{}], dtype=object))
    done = cli("run", line, *arguments)
    assert done.code == code, done.err
    assert re.search(message, done.err)


def test_check(cli, tmp_path, line):
    assert "no problems found" in cli("check", line).out
    bad = gr.load(line)
    bad = bad.replace(nodes=bad.nodes[1:])
    path = tmp_path / "bad.grt"
    gr.save(bad, path)
    done = cli("check", path)
    assert done.code == 1
    assert "matmul" in done.out
    assert cli("check", path, "--json").json()["ok"] is False


def test_convert_and_diff(cli, line, tmp_path):
    other = tmp_path / "other.json"
    assert cli("convert", line, other).code == 0
    assert json.loads(other.read_text())
    done = cli("diff", line, other)
    assert (done.code, done.out) == (0, "the same\n")
    graph = gr.load(line)
    changed = graph.replace(initializers={**graph.initializers, "w": np.float32([[1], [2.5]])})
    gr.save(changed, other)
    done = cli("diff", line, other)
    assert done.code == 1
    assert "initializer 'w': 1 of 2 elements changed" in done.out
    found = cli("diff", line, other, "--json").json()
    assert not found["same"]
    assert found["weights"] == [
        {"name": "w", "max_abs": 0.5, "rms": pytest.approx(0.5 / 2**0.5), "relative": pytest.approx(0.5 / 5**0.5)}
    ]
