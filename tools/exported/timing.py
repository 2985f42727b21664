"""How long a file takes beside ONNX Runtime and PyTorch, and which ops take it."""

from __future__ import annotations

import statistics as st
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort
import torch
from torch.nn import functional as F

import graphrt as gr

from .exporting import Variant, export
from .subject import Subject
from .zoo import Entry, make_module


@dataclass(frozen=True)
class Times:
    """Medians in milliseconds, and the ops that take most of a training step: (op, share, nodes)."""

    name: str
    infer: float
    infer_ort: float
    step: float
    step_torch: float
    hot: list[tuple[str, float, int]]
    hot_infer: list[tuple[str, float, int]]


class Stopwatch:
    """Watches runs: the time since the node before, by op."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.nodes: Counter[str] = Counter()
        self.last = 0.0

    def on_node(self, node: gr.Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Books the time on the node's op."""
        now = time.perf_counter()
        if self.last:
            self.seconds[node.op_type] += now - self.last
            self.nodes[node.op_type] += 1
        self.last = time.perf_counter()

    def shares(self, runs: int) -> list[tuple[str, float, int]]:
        """The ops that took most: (op, share, nodes a run)."""
        total = sum(self.seconds.values()) or 1.0
        return [(k, v / total, round(self.nodes[k] / runs)) for k, v in self.seconds.most_common(6)]


def measure(entry: Entry, folder: Path, batch: int) -> Times | None:
    """Times of one model, exported with its normalizations as they are, at a batch size."""
    torch.set_num_threads(1)
    script = "script" in entry.exporters
    variant = Variant("script", entry.opsets[-1], "keep") if script else Variant("dynamo", None, "eval")
    module, path = make_module(entry), folder / f"{entry.name}-times.onnx"
    try:
        export(entry, module, variant, path)
    except Exception as e:
        print(f"{entry.name} {variant}: {type(e).__name__}: {str(e)[:200]}")
        return None
    return _measure(Subject(entry, module, variant, path, batch))


def _measure(s: Subject) -> Times:
    s.batch  # noqa: B018
    session = gr.Session(s.graph)
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    theirs = ort.InferenceSession(str(s.path), options, providers=["CPUExecutionProvider"])
    batch = s.feeds | {"target": s.target.numpy()}
    trainer = gr.Trainer(s.graph, "mean_squared_error", gr.optim.Adam(1e-3), output=s.entry.outputs[0])
    watch, watch_infer = Stopwatch(), Stopwatch()
    watched = gr.Trainer(
        s.graph, "mean_squared_error", gr.optim.Adam(1e-3), output=s.entry.outputs[0], observers=[watch]
    )
    watched.step(batch)
    watched_run = gr.Session(s.graph, observers=[watch_infer])
    watched_run.run(s.feeds)
    for w, run in ((watch, lambda: watched.step(batch)), (watch_infer, lambda: watched_run.run(s.feeds))):
        w.seconds.clear(), w.nodes.clear()
        for _ in range(10):
            w.last = 0.0
            run()
    with s.reset(True) as run:
        optimizer = torch.optim.Adam(s.module.parameters(), 1e-3)

        def step() -> None:
            optimizer.zero_grad()
            out = run(*s.inputs.values())
            F.mse_loss(out[0] if isinstance(out, tuple) else out, s.target).backward()
            optimizer.step()

        step_torch = _median(step)
    return Times(
        f"{s.entry.name} ({s.variant})",
        _median(lambda: session.run(s.feeds)), _median(lambda: theirs.run(None, s.feeds)),
        _median(lambda: trainer.step(batch)), step_torch, watch.shares(10), watch_infer.shares(10),
    )  # fmt: skip


def _median(run: Callable[[], Any], most: int = 30, limit: float = 2.0) -> float:
    """Milliseconds of one call: the median of up to ``most``, after three to warm up."""
    for _ in range(3):
        run()
    taken: list[float] = []
    began = time.perf_counter()
    while len(taken) < most and (len(taken) < 5 or time.perf_counter() - began < limit):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return 1e3 * st.median(taken)


def print_times(found: list[Times | None]) -> None:
    """A table, the slowest first."""
    rows = sorted((t for t in found if t), key=lambda t: -t.step / t.step_torch)
    print(f"{'model':<32}{'run ms':>8}{'ORT':>8}{'ratio':>7}{'step ms':>9}{'torch':>8}{'ratio':>7}")
    for t in rows:
        print(
            f"{t.name:<32}{t.infer:8.2f}{t.infer_ort:8.2f}{t.infer / t.infer_ort:7.1f}"
            f"{t.step:9.2f}{t.step_torch:8.2f}{t.step / t.step_torch:7.1f}"
        )
    for t in rows:
        print(f"\n{t.name}")
        for what, hot in (("run ", t.hot_infer), ("step", t.hot)):
            print(f"  {what}: " + ", ".join(f"{op} {share:.0%} ({n})" for op, share, n in hot))
