"""``graphrt train``: train a model on data."""

from __future__ import annotations

import argparse
import inspect
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from graphrt.cli.inputs import read_graph
from graphrt.cli.output import print_json
from graphrt.cli.training import add_data_arguments, choose_objective, class_labels, read_dataset
from graphrt.cli.usage import UsageError
from graphrt.cli.verbs.run import save_trace
from graphrt.definitions import Optimizer, Schedule, ScheduleDefinition
from graphrt.io import save, suffixes
from graphrt.ir import Graph
from graphrt.manager import get_registry
from graphrt.runtime.profile import Profiler
from graphrt.train.callbacks import TrainingCallback
from graphrt.train.data import Dataset
from graphrt.train.trainer import Trainer


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        "examples:\n  graphrt train model.grt data.npz --epochs 20 --lr 1e-3 --out trained.grt\n"
        "  graphrt train model.grt iris.csv --target species --optimizer sgd --set momentum=0.9 --json"
    )
    add_data_arguments(parser)
    parser.add_argument("--optimizer", default="Adam", metavar="NAME", help="in any case (default: adam)")
    parser.add_argument("--lr", type=float, metavar="RATE", help="learning rate (default: the optimizer's)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a hyperparameter of the optimizer; repeatable"
    )
    parser.add_argument("--epochs", type=int, default=10, metavar="N", help="default: 10")
    parser.add_argument("--schedule", metavar="NAME", help="how the learning rate falls: cosine, linear, ...")
    parser.add_argument(
        "--validation", default="0.1", metavar="PART|DATA", help="part of the examples, or a data file (default: 0.1)"
    )
    parser.add_argument("--test", default="0", metavar="PART|DATA", help="never trained on (default: none)")
    parser.add_argument("--l1", type=float, default=0.0, metavar="C", help="adds C sum(|w|) to the loss")
    parser.add_argument("--l2", type=float, default=0.0, metavar="C", help="adds C/2 sum(w^2) to the loss")
    parser.add_argument("--clip-norm", type=float, metavar="C", help="the most the gradient's norm may be")
    parser.add_argument("--memory-limit", metavar="SIZE", help="the most memory of a step beside weights: 64MB")
    parser.add_argument("--early-stopping", type=int, metavar="N", help="stop after N epochs without improvement")
    parser.add_argument("--trainable", action="append", metavar="PATTERN", help="weights; * for any, ! excludes")
    parser.add_argument("--out", metavar="FILE", help="where to save the trained model")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the order of examples, random ops")
    parser.add_argument("--profile", metavar="FILE.json", help="write when each node ran, for chrome://tracing")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    parser.add_argument("--json", action="store_true", help="print the history and the final figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Trains, prints the figures, and saves the model."""
    if args.out:
        check_target(args.out)
    graph = read_graph(args.model)
    choice = choose_objective(graph, args)
    data, target = read_dataset(graph, args)
    batch_size = args.batch_size or 32
    parts = split(args, graph, data, target)
    profiler = Profiler()
    trainer = Trainer(
        graph,
        choice.loss,
        make_optimizer(args, args.epochs * -(-len(parts["train"]) // batch_size)),
        choice.metrics,
        args.trainable or ["*"],
        l1=args.l1,
        l2=args.l2,
        clip_norm=args.clip_norm,
        seed=args.seed,
        output=choice.output,
        target=target,
        observers=[profiler] if args.profile else [],
        memory_limit=args.memory_limit,
    )
    if choice.note:
        print(choice.note, file=sys.stderr)
    shown = not args.no_progress and sys.stderr.isatty()
    profiler.begin()
    history = trainer.fit(
        parts["train"],
        parts.get("validation"),
        epochs=args.epochs,
        batch_size=batch_size,
        early_stopping=args.early_stopping,
        progress=shown,
        callbacks=[_Steps(profiler)] if args.profile else [],
    )
    if args.profile:
        save_trace(args.profile, profiler)
    memory = trainer.recomputation
    figures = {name: trainer.evaluate(part) for name, part in parts.items()}
    if args.out:
        save(trainer.graph(), args.out)
    result: dict[str, Any] = {"history": list(history), "stopped": history.stopped, **figures, "out": args.out}
    if args.memory_limit:
        result["memory"] = None if memory is None else asdict(memory)
    if args.json:
        print_json(result)
    else:
        _print(result, None if shown else history.table(), parts)
        if args.memory_limit:
            print(memory or "memory: a step stays within the limit as it is")
    return 0


class _Steps(TrainingCallback):
    """Tells a profiler where each step begins."""

    def __init__(self, profiler: Profiler):
        self._profiler = profiler

    def on_step_end(self, trainer: Any, step: int, metrics: Any) -> None:
        """The next step begins."""
        self._profiler.begin()


def check_target(path: str) -> None:
    """Raises UsageError if a model cannot be saved there: better said before the training than after."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no folder {folder}")
    known = suffixes(get_registry())
    if not path.lower().endswith(known):
        raise UsageError(f"{path}: its suffix names no known format; there are: {', '.join(known)}")


def make_optimizer(args: argparse.Namespace, steps: int) -> Optimizer:
    """The optimizer that was asked for, by its name in any case, with its learning rate and hyperparameters.

    Args:
        args: the verb's arguments.
        steps: how many there will be, for schedules.
    """
    registry = get_registry()
    definition = registry.get("optimizers", _in_any_case(args.optimizer, registry.table("optimizers")))
    chosen: dict[str, Any] = {}
    for item in args.set:
        key, _, text = item.partition("=")
        spec = definition.op.attributes.get(key)
        chosen[key] = _setting(item, text, None if spec is None else spec.default)
    rate = args.lr if args.schedule is None else _schedule(args.schedule, args.lr, steps)
    made: Optimizer = definition(**chosen) if rate is None else definition(rate, **chosen)
    return made


def _in_any_case(name: str, names: Iterable[str]) -> str:
    return {n.lower(): n for n in names}.get(name.lower(), name)


def _setting(item: str, text: str, default: Any) -> Any:
    """A number, or true or false, of the type that the default has."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"--set {item}: write NAME=NUMBER, such as momentum=0.9") from None
    return type(default)(value) if isinstance(default, int) and value == int(value) else value


def _schedule(name: str, rate: float | None, steps: int) -> Schedule:
    definition: ScheduleDefinition = get_registry().get("schedules", name)
    if rate is None:
        raise UsageError("--schedule needs the learning rate to begin with: --lr 1e-3")
    parameters = list(inspect.signature(definition.function).parameters.values())[1:]
    given = {"rate": rate, "steps": steps}
    missing = [p.name for p in parameters if p.default is p.empty and p.name not in given]
    if missing:
        raise UsageError(f"the schedule {name!r} also needs {', '.join(missing)}: use it from Python")
    return definition(**{p.name: given[p.name] for p in parameters if p.name in given})


def split(args: argparse.Namespace, graph: Graph, data: Dataset, target: str | None) -> dict[str, Dataset]:
    """The parts ``train``, ``validation`` and ``test``: from files of their own, or taken from the data."""
    files: dict[str, Dataset] = {}
    wanted: dict[str, float] = {}
    for name in ("validation", "test"):
        text = getattr(args, name)
        try:
            wanted[name] = float(text)
        except ValueError:
            other = argparse.Namespace(**{**vars(args), "data": text, "target": args.target})
            files[name], _ = read_dataset(graph, other)
    sizes = {"train": 1 - sum(wanted.values()), **{name: part for name, part in wanted.items() if part}}
    if not all(0 < part <= 1 for part in sizes.values()):
        raise UsageError("--validation and --test are parts of the examples, such as 0.1, and leave some to train on")
    if len(sizes) == 1:
        return {"train": data, **files}
    parts = data.split(list(sizes.values()), args.seed, class_labels(data, target))
    made = dict(zip(sizes, parts, strict=True)) | files
    return {name: made[name] for name in ("train", "validation", "test") if name in made}


def _print(result: dict[str, Any], table: str | None, parts: dict[str, Dataset]) -> None:
    if table:
        print(table)
    if result["stopped"]:
        print(f"stopped: {result['stopped']}")
    for name, part in parts.items():
        print(f"{name} ({len(part)} examples): {format_figures(result[name])}")
    print(f"saved {result['out']}" if result["out"] else "not saved: name a file with --out")


def format_figures(figures: dict[str, float]) -> str:
    """Loss and metrics in a line."""
    return "  ".join(f"{k} {v:.5g}" for k, v in figures.items())
