"""``bench``, and ``--profile`` of ``run`` and ``train``."""

import json

import numpy as np
import pytest

from graphrt.cli import machine

QUICK = ("--seconds", "0")


@pytest.fixture
def model(cli, tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "SIZE", 32)
    monkeypatch.setattr(machine, "BYTES", 1 << 12)
    path = tmp_path / "m.grt"
    assert cli("new", "mlp", path, "--inputs", "2", "--hidden", "4", "--outputs", "2").code == 0
    return path


def test_inference(cli, model):
    found = cli("bench", model, "--batch", "5", "--json", *QUICK).json()
    assert found["inputs"] == {"x": "float32[5, 2]"}
    assert found["ops"]["Gemm"]["nodes"] == 2
    assert found["ops"]["Gemm"]["flops"] == 2 * 5 * (2 * 4 + 4 * 2)
    assert 0 < found["best"] <= found["low"] <= found["median"] <= found["high"]
    assert found["weight_bytes"] == 4 * (8 + 4 + 8 + 2)


def test_training_shows_the_update(cli, model):
    done = cli("bench", model, "--train", "--optimizer", "sgd", "--batch", "5", "--nodes", "2", *QUICK)
    assert done.code == 0, done.err
    assert "training step, x: float32[5, 2]" in done.out
    assert "SGD" in done.out and "Gemm.vjp" in done.out


def test_shapes_are_checked(cli, model):
    assert cli("bench", model, "--input", "x=7,2", "--json", *QUICK).json()["inputs"] == {"x": "float32[7, 2]"}
    for wrong, said in (("x=a", "NAME=SHAPE"), ("z=1", "inputs are x")):
        done = cli("bench", model, "--input", wrong)
        assert done.code == 2 and said in done.err


def test_profile_of_a_run(cli, model, tmp_path):
    trace = tmp_path / "trace.json"
    assert cli("run", model, "--input", "x=[[1,2]]", "--profile", trace).code == 0
    assert [e["name"] for e in json.loads(trace.read_text())["traceEvents"]] == ["Gemm", "Tanh", "Gemm", "Softmax"]


def test_profile_of_a_training(cli, model, tmp_path):
    trace, data = tmp_path / "trace.json", tmp_path / "d.npz"
    np.savez(data, x=np.ones((20, 2), np.float32), y=np.arange(20) % 2)
    done = cli("train", model, data, "--epochs", "2", "--profile", trace, "--batch-size", "9", "--validation", "0.1")
    assert done.code == 0, done.err
    names = [e["name"] for e in json.loads(trace.read_text())["traceEvents"]]
    assert names.count("SoftmaxCrossEntropyLoss") == 4
