"""Runs commands in this process: ``cli("grad", "x^2", "--at", "x=3").out``."""

import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import graphrt as gr
from graphrt.cli.main import main


@pytest.fixture
def cli(capsys):
    """Runs a command and gives its exit code, output and error output; ``.json`` parses the output strictly."""

    def run(*arguments):
        code = main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return SimpleNamespace(code=code, out=captured.out, err=captured.err, json=lambda: strict_json(captured.out))

    return run


def strict_json(text):
    """JSON without NaN and Infinity, which ``json.loads`` would let pass."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def stdin(monkeypatch):
    """Puts bytes on standard input."""

    def put(data):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))

    return put


@pytest.fixture
def line(tmp_path):
    """A small model in a file: y = x @ w + b, x [batch, 2]."""
    b = gr.GraphBuilder("line")
    x = b.input("x", "float32", ["batch", 2])
    y = x @ b.parameter("w", np.float32([[1], [2]])) + b.parameter("b", np.float32([0.5]))
    b.output(y, "y")
    path = tmp_path / "line.grt"
    gr.save(b.build(metadata={"author": "nobody"}), path)
    return path


@pytest.fixture
def blobs(tmp_path):
    """Two classes that a line separates: x [200, 2], y [200], as ``.npz``."""
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = rng.standard_normal((200, 2)) * 0.3 + np.where(y, 1, -1)[:, None]
    path = tmp_path / "blobs.npz"
    np.savez(path, x=x, y=y)
    return path
