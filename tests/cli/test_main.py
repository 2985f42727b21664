"""The command line as such: help, exit codes, errors, streams."""

import os
import re
import subprocess
import sys
import time

import pytest

from graphrt import __version__
from graphrt.cli import main as entry
from graphrt.cli.table import VERBS
from graphrt.manager import get_registry


def test_help(cli):
    done = cli("--help")
    assert done.code == 0
    for verb, text in VERBS.items():
        assert f"  {verb} " in done.out and text in done.out


def test_nothing_shows_the_help(cli):
    assert cli().out == cli("--help").out


def test_version(cli):
    assert cli("--version").out == f"graphrt {__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each_verb(cli, verb):
    done = cli(verb, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: graphrt {verb}")
    assert "example" in done.out
    assert "--debug" in done.out


def test_every_verb_is_a_registered_command():
    commands = get_registry().table("commands")
    assert set(VERBS) <= set(commands)
    assert commands["grad"].help == VERBS["grad"]


WRONG = [
    (["grd"], "there is no verb 'grd'; did you mean grad"),
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    (["grad"], "required: FORMULA|FILE"),
    (["grad", "x", "--mode", "sideways"], "invalid choice: 'sideways'"),
    (["grad", "x +"], "column 4"),
    (["grad", "x*y", "--at", "x=1"], "the input y: float64.. is missing"),
    (["grad", "x", "--at", "x=1", "--at", "x=2"], "'x' is given twice"),
    (["grad", "x", "--at", "x"], "write NAME=VALUE"),
    (["grad", "x", "--at", "=1"], "write NAME=VALUE"),
    (["grad", "x", "--at", "x=y"], "nothing says what y is"),
    (["grad", "x", "--at", "x=__import__('os')"], "no function '__import__'"),
    (["grad", "x", "--at", "x=[1,"], "not a JSON list"),
    (["grad", "x", "--at", "x=[[1],[2,3]]"], "not a JSON list"),
    (["grad", "x", "--at", 'x=["a"]'], "not a JSON list"),
    (["grad", "x", "--at", "x=" + "[" * 100000], "not a JSON list"),
    (["grad", "x", "--at", "x=missing.npy"], "there is no such file"),
    (["grad", "x", "--at", "z=1", "--at", "x=1"], "the graph has no input 'z'"),
    (["grad", "x*x", "--at", "x=[1,2]"], "a gradient is of one number"),
    (["grad", "x*x", "--at", "x=[1,2]", "--mode", "forward"], "a gradient is of one number"),
    (["grad", "x", "--at", "x=1", "--wrt", "q*"], "no name matches 'q\\*'"),
    (["inspect", "missing.grt"], "missing.grt: there is no such file"),
    (["run", "missing.grt"], "there is no such file"),
    (["ops", "Sni"], "no op 'Sni'; did you mean Sin"),
    (["ops", "--domain", "nowhere"], "no op of domain 'nowhere'"),
    (["new", "mlp", "x.grt", "--inputs", "0"], "a layer has 1 unit or more"),
    (["new", "mlp", "x.grt", "--inputs", "2", "--hidden", "a"], "write numbers with commas"),
    (["new", "mlp", "x.grt", "--inputs", "2", "--activation", "tahn"], "no op of one input is called 'tahn'"),
    (["new", "mlp", "x.grt", "--inputs", "2", "--activation", "add"], "no op of one input is called 'add'"),
    (["new", "mlp", "x.grt", "--inputs", "2", "--dtype", "int8"], "weights are floats, not 'int8'"),
    (["new", "mlp", "x.grt", "--inputs", "2", "--normalize", "1"], "two numbers"),
    (["new", "mlp", "x.grt", "--inputs", "2", "--normalize", "1,0"], "two numbers, the second not 0"),
    (["new", "mlp", "x.grt", "--inputs", "2", "--seed", "-1"], "a seed is 0 or more"),
    (["new", "logistic", "x.grt", "--inputs", "2", "--hidden", "3"], "--hidden is for an mlp"),
    (["diff", "-", "-"], "only one of the two"),
    (["demo", "--seed", "-1"], "are 0 or more"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(w[0])[:50] for w in WRONG])
def test_wrong_usage(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = cli(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("graphrt: ")
    assert re.search(message, done.err)
    assert "Traceback" not in done.err
    assert os.listdir(tmp_path) == []


def test_bad_models_have_exit_code_1(cli, tmp_path):
    for name, content in [("a.grt", b"nonsense"), ("b.json", b"{"), ("c.onnx", b"x"), ("d.grt", b"")]:
        (tmp_path / name).write_bytes(content)
        done = cli("inspect", tmp_path / name)
        assert done.code == 1
        assert name in done.err
        assert done.out == ""


def test_unknown_suffix_names_the_known_ones(cli, line, tmp_path):
    done = cli("convert", line, tmp_path / "m.unknown")
    assert done.code == 1
    assert ".grt, .json" in done.err


def test_debug_shows_the_traceback(cli):
    assert "Traceback" in cli("--debug", "grad", "x +").err
    assert "Traceback" in cli("grad", "x +", "--debug").err


def test_surprises_become_one_line(cli, monkeypatch):
    def fail(args):
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(entry, "run_verb", lambda verb: fail)
    done = cli("plugins")
    assert done.code == 1
    assert done.err == "graphrt: ZeroDivisionError: by zero (--debug shows where)\n"


def test_interrupt(cli, monkeypatch):
    def stop(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "run_verb", lambda verb: stop)
    done = cli("plugins")
    assert done.code == 130
    assert done.err == "graphrt: interrupted\n"


def python(*arguments, **options):
    return subprocess.run([sys.executable, "-m", "graphrt", *arguments], capture_output=True, timeout=60, **options)


def test_broken_pipe_is_quiet():
    writer = subprocess.Popen(
        [sys.executable, "-m", "graphrt", "ops", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    writer.stdout.close()
    assert writer.stderr.read() == b""
    writer.stderr.close()
    assert writer.wait(60) == 141


def test_disable_plugin_and_process_exit_code():
    done = python("--disable-plugin", "special", "plugins", "--json")
    assert done.returncode == 0, done.stderr
    assert python("grad", "x +").returncode == 2


def test_help_is_quick():
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert python("--help").returncode == 0
        took.append(time.perf_counter() - began)
    assert min(took) < 1
