"""``graphrt bench``: how long a model takes, and which ops take it."""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from graphrt.cli.inputs import read_graph
from graphrt.cli.machine import bandwidth_peak, sgemm_peak
from graphrt.cli.output import print_json, size_text, table
from graphrt.cli.training import choose_objective
from graphrt.cli.usage import UsageError
from graphrt.definitions import Loss
from graphrt.ir import Graph
from graphrt.manager import get_registry
from graphrt.runtime.blas import blas_facts
from graphrt.runtime.profile import OpTime, Profiler, name_of
from graphrt.runtime.session import Session
from graphrt.train.trainer import Trainer
from graphrt.types import TensorType, numpy_dtype

Arrays = dict[str, np.ndarray[Any, Any]]
LEAST, WARM_UP = 5, 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        "examples:\n  graphrt bench model.grt --batch 64\n  graphrt bench model.grt --input x=8,3,224,224 --json\n"
        "  graphrt bench model.grt --train --loss softmax_cross_entropy --batch 32"
    )
    parser.add_argument("model", metavar="FILE", help="a model file; - is standard input")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE", help="such as x=8,3,224,224")
    parser.add_argument(
        "--batch", type=int, default=1, metavar="N", help="for dimensions without a number (default: 1)"
    )
    parser.add_argument("--train", action="store_true", help="time training steps")
    parser.add_argument("--loss", metavar="NAME", help="default: what fits the model's last op")
    parser.add_argument("--prediction", metavar="NAME", help="the value that the loss judges")
    parser.add_argument("--optimizer", default="Adam", metavar="NAME", help="default: Adam")
    parser.add_argument("--seconds", type=float, default=2.0, metavar="S", help="how long to time (default: 2)")
    parser.add_argument("--nodes", type=int, default=0, metavar="N", help="also show the N nodes that take most")
    parser.add_argument("--seed", type=int, default=0, help="of the inputs")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(args: argparse.Namespace) -> int:
    """Times the model and prints what was found."""
    if args.batch < 1 or args.seconds < 0:
        raise UsageError("--batch is at least 1 and --seconds at least 0")
    graph = read_graph(args.model)
    feeds = make_inputs(graph, parse_shapes(args.input, graph), args.batch, args.seed)
    profiler = Profiler()
    work, watched = _training(graph, feeds, args, profiler) if args.train else _inference(graph, feeds, profiler)
    found = _measure(work, watched, profiler, args.seconds)
    found |= {
        "work": "training step" if args.train else "inference",
        "inputs": {k: str(TensorType.of(a)) for k, a in feeds.items()},
        "weight_bytes": sum(int(np.asarray(a).nbytes) for a in graph.initializers.values()),
        "sgemm_flops": sgemm_peak(),
        "bandwidth": bandwidth_peak(),
        "blas": blas_facts(),
    }
    if args.json:
        print_json(found)
    else:
        _print(found, args.nodes)
    return 0


def parse_shapes(texts: list[str], graph: Graph) -> dict[str, tuple[int, ...]]:
    """``x=8,3,224,224`` as name and shape; ``x=`` is a scalar.

    Raises:
        UsageError: that is no shape, or the model has no such input.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for text in texts:
        name, sign, shape = text.partition("=")
        numbers = [n.strip() for n in shape.split(",") if n.strip()]
        if not sign or not all(n.isdecimal() for n in numbers):
            raise UsageError(f"--input {text}: write NAME=SHAPE, such as x=8,3,224,224")
        if name not in graph.input_names:
            raise UsageError(f"--input {text}: the model's inputs are {', '.join(graph.input_names) or 'none'}")
        shapes[name] = tuple(map(int, numbers))
    return shapes


def make_inputs(graph: Graph, shapes: Mapping[str, tuple[int, ...]], batch: int, seed: int) -> Arrays:
    """Random inputs: normal floats; whole numbers and truth values are 0 or 1, which fit as indices.

    Args:
        graph: the model.
        shapes: of some inputs.
        batch: for dimensions without a number of the others.
        seed: of the numbers.

    Raises:
        UsageError: an input's type or rank is not known.
    """
    rng, made = np.random.default_rng(seed), {}
    for value in graph.inputs:
        kind, name = value.type, value.name
        if name in graph.initializers and name not in shapes:
            continue
        declared = kind.shape if isinstance(kind, TensorType) else None
        if not isinstance(kind, TensorType) or kind.dtype is None or (declared is None and name not in shapes):
            raise UsageError(f"the input {name!r} is {kind}: give its shape, --input {name}=SHAPE")
        shape = shapes.get(name) or tuple(d if isinstance(d, int) else batch for d in declared or ())
        dtype = numpy_dtype(kind.dtype)
        drawn = rng.integers(0, 2, shape) if dtype.kind in "iub" else rng.standard_normal(shape)
        made[name] = np.asarray(drawn).astype(dtype)
    return made


def _inference(graph: Graph, feeds: Arrays, profiler: Profiler) -> tuple[Callable[[], Any], Callable[[], Any]]:
    plain, watched = Session(graph, mode="infer"), Session(graph, mode="infer", observers=[profiler])
    return lambda: plain.run(feeds), lambda: watched.run(feeds)


def _training(
    graph: Graph, feeds: Arrays, args: argparse.Namespace, profiler: Profiler
) -> tuple[Callable[[], Any], Callable[[], Any]]:
    trainer, batch = make_training(graph, feeds, args)
    plain, watched = trainer(), trainer(observers=[profiler])
    return lambda: plain.step(batch), lambda: watched.step(batch)


def make_training(graph: Graph, feeds: Arrays, args: argparse.Namespace) -> tuple[Callable[..., Trainer], Arrays]:
    """What makes a trainer, with further options, and a batch for it, with random targets.

    Args:
        graph: the model.
        feeds: its inputs.
        args: the verb's arguments: ``loss``, ``prediction``, ``optimizer``, ``seed``.
    """
    args.metric = []
    choice = choose_objective(graph, args)
    registry = get_registry()
    names = {n.lower(): n for n in registry.table("optimizers")}
    optimizer = names.get(args.optimizer.lower(), args.optimizer)
    of = choice.output or graph.output_names[0]
    prediction = np.asarray(Session(graph, mode="infer").run(feeds, [of])[of])
    name = "target" if "target" not in feeds else "target_"
    batch = feeds | {name: _target(registry.get("losses", choice.loss), prediction, args.seed)}
    return partial(Trainer, graph, choice.loss, optimizer, output=of, target=name), batch


def _target(loss: Loss, prediction: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    rng, shape = np.random.default_rng(seed), prediction.shape
    if loss.target_dtype == "int64" and len(shape) > 1:
        return rng.integers(0, shape[1], (shape[0], *shape[2:]))
    return np.asarray(rng.random(shape), prediction.dtype)


def _measure(work: Callable[[], Any], watched: Callable[[], Any], profiler: Profiler, seconds: float) -> dict[str, Any]:
    for _ in range(WARM_UP):
        work()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < LEAST or time.perf_counter() < end:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    watched()
    profiler.clear()
    runs = max(LEAST, min(100, int(seconds / 2 / np.median(times))))
    for _ in range(runs):
        profiler.begin()
        watched()
    low, middle, high = (float(q) for q in np.percentile(times, [25, 50, 75]))
    nodes, ops = _typical(profiler, runs)
    return {
        "median": middle, "low": low, "high": high, "best": min(times), "calls": len(times),
        "flops": sum(o.flops for o in ops.values()), "peak_bytes": peak,
        "ops": {k: asdict(o) for k, o in ops.items()}, "nodes": {k: asdict(o) for k, o in nodes.items()},
    }  # fmt: skip


def _typical(profiler: Profiler, runs: int) -> tuple[dict[str, OpTime], dict[str, OpTime]]:
    """What a node takes in one run, by the median over runs, and the sums of that by op; the longest first."""
    taken: dict[str, list[float]] = {}
    op_of: dict[str, str] = {}
    for event in profiler.events:
        name = name_of(event.node)
        taken.setdefault(name, []).append(event.seconds)
        op_of[name] = event.node.op_type
    nodes: dict[str, OpTime] = {}
    ops: dict[str, OpTime] = {}
    for name, seconds in taken.items():
        total, times = profiler.by_node[name], len(seconds) / runs
        nodes[name] = OpTime(round(times), times * float(np.median(seconds)), total.flops / runs, total.nbytes / runs)
        ops.setdefault(op_of[name], OpTime()).include(nodes[name])
    return _ordered(nodes), _ordered(ops)


def _ordered(entries: dict[str, OpTime]) -> dict[str, OpTime]:
    return dict(sorted(entries.items(), key=lambda item: -item[1].seconds))


def _print(found: dict[str, Any], nodes: int) -> None:
    rate, peak, width, blas = found["flops"] / found["median"], found["sgemm_flops"], found["bandwidth"], found["blas"]
    spread = f"{1e3 * found['low']:.4g} to {1e3 * found['high']:.4g}"
    print(f"{found['work']}, {', '.join(f'{k}: {v}' for k, v in found['inputs'].items())}")
    print(f"time: median {1e3 * found['median']:.4g} ms, quartiles {spread} ms, quickest {1e3 * found['best']:.4g} ms")
    print(f"speed: {rate / 1e9:.4g} GFLOP/s, {rate / peak:.0%} of a matrix product's {peak / 1e9:.0f}")
    print(f"memory: weights {size_text(found['weight_bytes'])}, a run at most {size_text(found['peak_bytes'])} above")
    print(f"machine: {blas['library']} {blas['version']}, kernel {blas['kernel']}, {blas['threads']} threads; "
          f"copies at {width / 1e9:.0f} GB/s")  # fmt: skip
    for warning in blas["warnings"]:
        print(f"warning: {warning}")
    total = sum(o["seconds"] for o in found["ops"].values()) or 1.0
    for what, entries in (("op", found["ops"]), ("node", dict(list(found["nodes"].items())[:nodes]))):
        if entries:
            headings = [what, "nodes", "ms", "share", "GFLOP/s", "of peak", "GB/s", "of copy"]
            print("\n" + table(headings, [_row(n, o, total, peak, width) for n, o in entries.items()]))


def _row(name: str, o: Mapping[str, float], total: float, peak: float, width: float) -> list[str]:
    seconds = o["seconds"] or 1e-9
    flops, traffic = o["flops"] / seconds, o["nbytes"] / seconds
    return [
        name, f"{o['nodes']:.4g}", f"{1e3 * o['seconds']:.3f}", f"{o['seconds'] / total:.1%}", f"{flops / 1e9:.1f}",
        f"{flops / peak:.0%}", f"{traffic / 1e9:.1f}", f"{traffic / width:.0%}",
    ]  # fmt: skip
