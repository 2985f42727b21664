"""``train``, ``eval`` and ``demo``."""

import re
import sys

import numpy as np
import pytest

import graphrt as gr


@pytest.fixture
def model(cli, tmp_path):
    path = tmp_path / "m.grt"
    assert cli("new", "mlp", path, "--inputs", "2", "--hidden", "4", "--outputs", "2").code == 0
    return path


def test_train_and_eval(cli, model, blobs, tmp_path):
    out = tmp_path / "trained.grt"
    done = cli("train", model, blobs, "--epochs", "30", "--lr", "0.03", "--test", "0.2", "--out", out, "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert len(found["history"]) == 30
    assert found["test"]["accuracy"] > 0.95
    assert "loss softmax_cross_entropy on 'logits'" in done.err
    figures = cli("eval", out, blobs, "--json").json()
    assert figures["examples"] == 200
    assert figures["accuracy"] > 0.95
    assert cli("diff", model, out).code == 1
    same = cli("eval", out, blobs, "--loss", "cross_entropy", "--prediction", "probabilities", "--json").json()
    assert same["loss"] == pytest.approx(figures["loss"], rel=1e-4)


def test_training_is_reproducible(cli, model, blobs, tmp_path):
    for name in ("a.grt", "b.grt"):
        cli("train", model, blobs, "--epochs", "2", "--seed", "5", "--out", tmp_path / name)
    assert (tmp_path / "a.grt").read_bytes() == (tmp_path / "b.grt").read_bytes()


def test_text_output(cli, model, blobs):
    settings = ["--optimizer", "SGD", "--set", "momentum=0.9", "--set", "nesterov=true"]
    done = cli("train", model, blobs, "--epochs", "2", *settings)
    assert "epoch" in done.out and "validation (20 examples)" in done.out
    assert "not saved" in done.out


def test_some_weights_only(cli, model, blobs, tmp_path):
    out = tmp_path / "t.grt"
    assert cli("train", model, blobs, "--epochs", "1", "--trainable", "*2", "--out", out).code == 0
    before, after = gr.load(model).initializers, gr.load(out).initializers
    np.testing.assert_array_equal(before["w1"], after["w1"])
    assert not np.array_equal(before["w2"], after["w2"])


def test_options(cli, model, blobs):
    options = ["--l1", "1e-4", "--l2", "1e-3", "--clip-norm", "1", "--early-stopping", "1", "--schedule", "cosine"]
    done = cli("train", model, blobs, "--epochs", "40", "--lr", "0.5", "--validation", blobs, *options, "--json")
    assert done.code == 0, done.err
    assert "no improvement" in done.json()["stopped"]


def test_sigmoid_and_table(cli, tmp_path):
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((100, 2))
    text = "\n".join(f"{a},{b},{'yes' if a + b > 0 else 'no'}" for a, b in rows)
    (tmp_path / "d.csv").write_text(f"a,b,label\n{text}\n")
    path = tmp_path / "l.json"
    cli("new", "logistic", path, "--inputs", "2")
    command = ["--target", "label", "--epochs", "20", "--lr", "0.1", "--json"]
    found = cli("train", path, tmp_path / "d.csv", *command).json()
    assert found["train"]["sign_accuracy"] > 0.9
    last = cli("train", path, tmp_path / "d.csv", "--target", "-1", "--epochs", "1")
    assert last.code == 0, last.err


BAD = [
    (["m.grt", "missing.npz"], 2, "missing.npz"),
    (["m.grt", "blobs.npz", "--epochs", "-1"], 2, "epochs is a number >= 0"),
    (["m.grt", "blobs.npz", "--batch-size", "0"], 2, "a batch has at least one"),
    (["m.grt", "blobs.npz", "--validation", "1.5"], 2, "are parts of the examples"),
    (["m.grt", "blobs.npz", "--validation", "nan"], 2, "are parts of the examples"),
    (["m.grt", "blobs.npz", "--validation", "0.5", "--test", "0.5"], 2, "leave some to train on"),
    (["m.grt", "blobs.npz", "--loss", "nothing"], 1, "there is no 'nothing'"),
    (["m.grt", "blobs.npz", "--optimizer", "adma"], 1, "did you mean 'Adam'"),
    (["m.grt", "blobs.npz", "--metric", "nothing"], 1, "there is no 'nothing'"),
    (["m.grt", "blobs.npz", "--target", "z"], 2, "the data have no array 'z'"),
    (["m.grt", "blobs.npz", "--set", "momentum"], 2, "write NAME=NUMBER"),
    (["m.grt", "blobs.npz", "--set", "q=1"], 2, "no hyperparameter 'q'"),
    (["m.grt", "blobs.npz", "--lr", "-1"], 2, "the learning rate is a number >= 0"),
    (["m.grt", "blobs.npz", "--schedule", "cosine"], 2, "--schedule needs the learning rate"),
    (["m.grt", "blobs.npz", "--schedule", "step_decay", "--lr", "1"], 2, "also needs period"),
    (["m.grt", "blobs.npz", "--trainable", "q*"], 2, "matches nothing"),
    (["m.grt", "blobs.npz", "--out", "missing/t.grt"], 2, "there is no folder missing"),
    (["m.grt", "blobs.npz", "--out", "t.foo"], 2, "its suffix names no known format"),
    (["m.grt", "blobs.npz", "--prediction", "q"], 2, "name the loss with --loss; there are: binary"),
    (["m.grt", "blobs.npz", "--prediction", "q", "--loss", "hinge"], 2, "the graph has no value 'q'"),
    (["-", "-"], None, "only one of model and data|neither"),
]


@pytest.mark.parametrize(("arguments", "code", "message"), BAD, ids=[" ".join(b[0]) for b in BAD])
def test_bad_input(cli, model, blobs, monkeypatch, stdin, arguments, code, message):
    stdin(model.read_bytes())
    monkeypatch.chdir(model.parent)
    done = cli("train", *arguments)
    assert done.code == code or (code is None and done.code)
    assert re.search(message, done.err), done.err
    assert "Traceback" not in done.err


def test_loss_that_is_not_finite(cli, model, tmp_path):
    np.savez(tmp_path / "nan.npz", x=np.full((10, 2), np.nan), y=np.zeros(10, int))
    done = cli("train", model, tmp_path / "nan.npz")
    assert done.code == 1
    assert "nan" in done.err


def test_data_on_standard_input(cli, model, blobs, stdin):
    stdin(blobs.read_bytes())
    assert cli("eval", model, "-", "--json").json()["examples"] == 200


def test_demo(cli, tmp_path):
    pytest.importorskip("sklearn")
    done = cli("demo", "--folder", tmp_path / "demo", "--epochs", "2", "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert found["accuracy"]["test"] > 0.9
    assert len(found["predictions"]) == 5
    files = {"digits.grt", "trained.grt", "train.npz", "validation.npz", "test.npz"}
    assert {p.name for p in (tmp_path / "demo").iterdir()} == files


def test_demo_without_scikit_learn(cli, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    done = cli("demo", "--folder", tmp_path / "demo")
    assert done.code == 1
    assert "pip install scikit-learn" in done.err
