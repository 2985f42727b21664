"""Verbs about the installation: ops, plugins, doctor."""

import json
import os
import subprocess
import sys
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from graphrt.cli.output import plain, table
from graphrt.cli.verbs.plugins import describe
from graphrt.manager import Manager, get_registry
from graphrt.runtime.blas import kernel_warnings


def test_ops(cli):
    done = cli("ops", "--domain", "onnx")
    assert done.code == 0
    row = next(line for line in done.out.splitlines() if line.startswith("MatMul "))
    assert row.split()[2:] == ["a,", "b", "a,", "b", "graphrt"]
    assert "graphrt::Step" in cli("ops").out


def test_one_op(cli):
    done = cli("ops", "tanh")
    assert done.out.startswith("Tanh(")
    assert "version" in done.out and "derivative in" in done.out
    found = cli("ops", "conv", "--json").json()
    assert found[-1]["op_type"] == "Conv"
    assert {"name", "optional", "variadic"} == set(found[-1]["inputs"][0])


def test_every_op_can_be_described(cli):
    found = cli("ops", "--json").json()
    assert len(found) > 100
    assert all(o["doc"] for o in found)
    for name in {o["op_type"] for o in found}:
        assert cli("ops", name).code == 0


def test_plugins(cli):
    done = cli("plugins", "--json")
    found = done.json()["plugins"]
    assert found[0]["name"] == "graphrt" and found[0]["state"] == "ok"
    assert "Tanh" in " ".join(found[0]["registers"]["ops"])
    assert cli("plugins").out.splitlines()[1].startswith("graphrt")


def test_plugins_that_fail_or_clash(tmp_path, monkeypatch):
    (tmp_path / "graphrt_test_broken.py").write_text("raise RuntimeError('no luck')\n")
    (tmp_path / "graphrt_test_clash.py").write_text(
        "from graphrt.plugin import *\nfrom graphrt.plugin import hookimpl, Command\n"
        "@hookimpl\ndef graphrt_register_commands():\n"
        "    return [Command('grad', 'mine', print, print)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    names = ["broken", "clash"]
    manager = Manager([EntryPoint(n, f"graphrt_test_{n}", "graphrt") for n in names])
    found, clashes = describe(manager)
    states = {p["name"]: (p["state"], p["reason"]) for p in found}
    assert states["broken"] == ("failed", "RuntimeError: no luck")
    assert states["clash"][0] == "clash"
    assert len(clashes) == 1 and "'grad' is defined by both 'graphrt' and 'clash'" in clashes[0]


PLUGIN = """
from graphrt.plugin import Command, hookimpl

def configure(parser):
    parser.add_argument("name")

def run(args):
    print(f"hello {args.name}")
    return 0

@hookimpl
def graphrt_register_commands():
    return [Command("greet", "say hello", configure, run)]
"""


def test_a_verb_of_a_plugin(tmp_path):
    (tmp_path / "graphrt_test_greet.py").write_text(PLUGIN)
    info = tmp_path / "graphrt_test_greet-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: graphrt-test-greet\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[graphrt]\ngreeting = graphrt_test_greet\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path}

    def run(*arguments):
        command = [sys.executable, "-m", "graphrt", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)

    assert run("greet", "Ada").stdout == "hello Ada\n"
    assert "say hello" in run("greet", "--help").stdout
    disabled = run("greet", "Ada", "--disable-plugin", "greeting")
    assert disabled.returncode == 2 and "no verb 'greet'" in disabled.stderr
    listed = json.loads(run("plugins", "--json").stdout)["plugins"]
    assert next(p for p in listed if p["name"] == "greeting")["verbs"] == ["greet"]


def test_doctor(cli):
    found = cli("doctor", "--json").json()
    assert found["problems"] == []
    assert found["blas"]["library"]
    assert found["cpus"] >= 1
    text = cli("doctor").out
    assert "NumPy" in text and "no problems found" in text


@pytest.mark.parametrize(
    ("forced", "avx512", "count"),
    [(None, True, 0), ("Haswell", True, 1), ("ZEN", True, 1), ("Haswell", False, 0), ("SkylakeX", True, 0)],
)
def test_kernel_warnings(forced, avx512, count):
    assert len(kernel_warnings(forced, avx512)) == count


def test_plain_json():
    given = {"a": np.float32([1, np.nan]), "b": (1, np.int64(2)), "c": float("inf"), "d": True, "e": None, 5: b"\x01"}
    assert plain(given) == {"a": [1.0, "nan"], "b": [1, 2], "c": "inf", "d": True, "e": None, "5": "01"}


def test_table():
    assert table(["name", "n"], [("a", 1), ("bc", 20)]) == "name   n\na      1\nbc    20"
    assert table(["name"], []) == "name"


def test_registry_is_that_of_the_process():
    assert get_registry() is get_registry()
