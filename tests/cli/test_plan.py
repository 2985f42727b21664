"""``inspect --plan`` and ``train --memory-limit``."""

import json
import re

import numpy as np
import pytest


@pytest.fixture
def model(cli, tmp_path):
    path = tmp_path / "m.grt"
    assert cli("new", "mlp", path, "--inputs", "2", "--hidden", "4,4,4,4,4,4", "--outputs", "2").code == 0
    return path


def test_the_plan_of_an_inference(cli, line):
    done = cli("inspect", line, "--plan", "--batch", "3")
    assert done.code == 0, done.err
    assert done.out.startswith("plan of line: 2 steps\nstep  node")
    assert "float32[3, 1]" in done.out and "operations: " in done.out
    assert cli("inspect", line, "--plan", "--input", "x=3,2").out == done.out
    facts = cli("inspect", line, "--plan", "--batch", "3", "--json").json()
    assert [s["op"] for s in facts["steps"]] == ["MatMul", "Add"]
    assert facts["recomputation"] is None
    assert f"peak: {facts['peak']} bytes" in done.out


@pytest.mark.parametrize("options", [("--train",), ("--loss", "softmax_cross_entropy")])
def test_the_plan_of_a_training_step(cli, model, options):
    done = cli("inspect", model, "--plan", "--batch", "8", "--optimizer", "sgd", *options)
    assert done.code == 0, done.err
    assert "plan of mlp.step" in done.out
    assert "FusedUpdates[SGD SGD" in done.out and "over w1" in done.out


def test_the_plan_within_a_limit_of_memory(cli, model):
    arguments = ("inspect", model, "--plan", "--train", "--batch", "500")
    before = cli(*arguments, "--json").json()["peak"]
    done = cli(*arguments, "--memory-limit", f"{0.9 * before} B")
    assert done.code == 0, done.err
    assert re.search(r"\nmemory: [\d,]+ bytes instead of " + f"{before:,}, at most ", done.out)
    facts = cli(*arguments, "--memory-limit", f"{0.9 * before} B", "--json").json()
    assert facts["peak"] == facts["recomputation"]["peak"] <= 0.9 * before
    refused = cli(*arguments, "--memory-limit", "1kB")
    assert refused.code == 2 and "the limit of memory is 1,000 bytes" in refused.err
    assert "is a number of bytes above 0" in cli(*arguments, "--memory-limit", "lots").err


def test_what_a_plan_cannot_be_made_of(cli, line):
    for options, said in ((("--batch", "0"), "at least 1"), (("--input", "z=1"), "inputs are x")):
        done = cli("inspect", line, "--plan", *options)
        assert done.code == 2 and said in done.err


def test_training_within_a_limit_of_memory(cli, model, blobs, tmp_path):
    outs = tmp_path / "a.grt", tmp_path / "b.grt"
    arguments = ("train", model, blobs, "--epochs", "2", "--batch-size", "60")
    peak = cli("inspect", model, "--plan", "--train", "--batch", "60", "--json").json()["peak"]
    assert "memory:" not in cli(*arguments, "--out", outs[0]).out
    done = cli(*arguments, "--out", outs[1], "--memory-limit", int(0.93 * peak))
    assert done.code == 0, done.err
    assert re.search(
        r"memory: [\d,]+ bytes instead of [\d,]+, at most [\d,]+; \d+ of \d+ nodes .* more operations", done.out
    )
    assert cli("diff", *outs).code == 0
    wide = cli(*arguments, "--memory-limit", "1 GB")
    assert "memory: a step stays within the limit as it is" in wide.out
    told = cli(*arguments, "--memory-limit", int(0.93 * peak), "--json").json()
    assert np.isfinite(told["memory"]["flops"]) and json.dumps(told)
