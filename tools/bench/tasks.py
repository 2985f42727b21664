"""The list of tasks, and the files that they need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import graphrt as gr

from .graphs import make_graph, make_wide
from .process import ROOT, environment
from .rows import JUDGED, ROWS

MODELS = ("resnet18", "mobilenet", "unet", "encoder-model", "lstm-model", "gpt")
LARGE = 500_000_000


@dataclass(frozen=True)
class Task:
    """Something that is timed.

    Attributes:
        name: ``kind/what``, as contenders know it.
        title: what the table says.
        group: tasks whose ratios go into one geometric mean.
        check: how many calls must agree before timing; the first ones, so that losses are of as many steps.
    """

    name: str
    title: str
    group: str
    check: int


def all_tasks() -> Iterator[Task]:
    """Every task but start-up, in the order of the table."""
    rows = [n for n in ROWS if n != "tiny"]
    for kind, what, check in (("train", "training step", 5), ("infer", "inference", 1)):
        for name in rows:
            group = f"{what}, seven rows" if name in JUDGED else "more rows"
            yield Task(f"{kind}/{name}", f"{ROWS[name].title}: {what}", group, check)
    yield Task("chain", "chain of 1,000 scalar ops, value and gradient", "small things", 1)
    yield Task("adam", "Adam over 4M parameters", "small things", 3)
    yield Task("load", "load of a 500 MB file, every page touched", "small things", 1)
    for n in (10_000, 100_000):
        yield Task(f"plan/{n}", f"{n:,} nodes: plan and first run", "planning", 1)
    for kind, what, check in (("model-infer", "inference", 1), ("model-train", "training step", 3)):
        for name in MODELS:
            yield Task(f"{kind}/{name}", f"{name}: {what}", f"whole models, {what}", check)


def write_files(tasks: list[Task], folder: Path) -> None:
    """Writes what the tasks read: rows, wide graphs and whole models as .onnx, and the large file."""
    wanted = {t.name for t in tasks}
    for name in ROWS:
        if wanted & {f"train/{name}", f"infer/{name}"} or name == "tiny":
            _try(f"row-{name}.onnx", lambda name=name: gr.save(make_graph(ROWS[name]), folder / f"row-{name}.onnx"))
    for n in (10_000, 100_000):
        if f"plan/{n}" in wanted:
            _try(f"wide-{n}.onnx", lambda n=n: gr.save(make_wide(n), folder / f"wide-{n}.onnx"))
    if "load" in wanted:
        _write_large(folder)
    models = [m for m in MODELS if wanted & {f"model-train/{m}", f"model-infer/{m}"}]
    if models:
        code = (
            "import sys; from pathlib import Path; from tools.bench.torch_models import export_model\n"
            "for name in sys.argv[2:]: export_model(name, Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", code, str(folder), *models]
        done = subprocess.run(command, cwd=ROOT, env=environment(2), capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"bench: whole models: {(done.stderr.strip().splitlines() or ['no export'])[-1]}", file=sys.stderr)


def _write_large(folder: Path) -> None:
    rng = np.random.default_rng(0)
    b = gr.GraphBuilder("large")
    total = b.input("x", "float32", [])
    arrays = {f"w{i}": rng.standard_normal(LARGE // 16, np.float32) for i in range(4)}
    for name, a in arrays.items():
        total = b.Add(total, b.ReduceMax(b.parameter(name, a), keepdims=0))
    b.output(total, "y")
    gr.save(b.build(), folder / "large.grt")
    np.savez(folder / "large.npz", **arrays)


def _try(what: str, write: Callable[[], object]) -> None:
    try:
        write()
    except Exception as e:
        print(f"bench: {what}: {e}", file=sys.stderr)
