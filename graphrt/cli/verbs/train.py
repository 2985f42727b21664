"""``graphrt train``: train a model on data."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from graphrt.cli.inputs import read_graph
from graphrt.cli.output import print_json
from graphrt.cli.training import add_data_arguments, choose_objective, class_labels, read_dataset
from graphrt.cli.usage import UsageError
from graphrt.definitions import Optimizer
from graphrt.io import save, suffixes
from graphrt.manager import get_registry
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
    parser.add_argument("--validation", type=float, default=0.1, metavar="PART", help="of the examples (default: 0.1)")
    parser.add_argument("--test", type=float, default=0.0, metavar="PART", help="of the examples, never trained on")
    parser.add_argument("--l1", type=float, default=0.0, metavar="C", help="adds C sum(|w|) to the loss")
    parser.add_argument("--l2", type=float, default=0.0, metavar="C", help="adds C/2 sum(w^2) to the loss")
    parser.add_argument("--clip-norm", type=float, metavar="C", help="the most the gradient's norm may be")
    parser.add_argument("--early-stopping", type=int, metavar="N", help="stop after N epochs without improvement")
    parser.add_argument("--trainable", action="append", metavar="PATTERN", help="weights; * for any, ! excludes")
    parser.add_argument("--out", metavar="FILE", help="where to save the trained model")
    parser.add_argument("--seed", type=int, default=0, help="of the split, the order of examples, random ops")
    parser.add_argument("--no-progress", action="store_true", help="show no progress bar")
    parser.add_argument("--json", action="store_true", help="print the history and the final figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Trains, prints the figures, and saves the model."""
    if args.out:
        check_target(args.out)
    graph = read_graph(args.model)
    choice = choose_objective(graph, args)
    data, target = read_dataset(graph, args)
    parts = split(data, target, args.validation, args.test, args.seed)
    trainer = Trainer(
        graph,
        choice.loss,
        make_optimizer(args.optimizer, args.lr, args.set),
        choice.metrics,
        args.trainable or ["*"],
        l1=args.l1,
        l2=args.l2,
        clip_norm=args.clip_norm,
        seed=args.seed,
        output=choice.output,
        target=target,
    )
    if choice.note:
        print(choice.note, file=sys.stderr)
    shown = not (args.no_progress or args.json) and sys.stderr.isatty()
    history = trainer.fit(
        parts["train"],
        parts.get("validation"),
        epochs=args.epochs,
        batch_size=args.batch_size or 32,
        early_stopping=args.early_stopping,
        progress=shown,
    )
    figures = {name: trainer.evaluate(part) for name, part in parts.items()}
    if args.out:
        save(trainer.graph(), args.out)
    result: dict[str, Any] = {"history": list(history), "stopped": history.stopped, **figures, "out": args.out}
    if args.json:
        print_json(result)
    else:
        _print(result, None if shown else history.table(), parts)
    return 0


def check_target(path: str) -> None:
    """Raises UsageError if a model cannot be saved there: better said before the training than after."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise UsageError(f"{path}: there is no folder {folder}")
    known = suffixes(get_registry())
    if not path.lower().endswith(known):
        raise UsageError(f"{path}: its suffix names no known format; there are: {', '.join(known)}")


def make_optimizer(name: str, rate: float | None, settings: list[str]) -> Optimizer:
    """An optimizer by its name in any case, with its learning rate and ``name=value`` hyperparameters."""
    table = get_registry().table("optimizers")
    names = {n.lower(): n for n in table}
    definition = get_registry().get("optimizers", names.get(name.lower(), name))
    chosen: dict[str, Any] = {}
    for item in settings:
        key, _, text = item.partition("=")
        try:
            chosen[key] = text.lower() == "true" if text.lower() in ("true", "false") else float(text)
        except ValueError:
            raise UsageError(f"--set {item}: write NAME=NUMBER, such as momentum=0.9") from None
        spec = definition.op.attributes.get(key)
        if spec is not None and spec.kind == "int" and chosen[key] == int(chosen[key]):
            chosen[key] = type(spec.default)(chosen[key]) if spec.default is not None else int(chosen[key])
    made: Optimizer = definition(**chosen) if rate is None else definition(rate, **chosen)
    return made


def split(data: Dataset, target: str | None, validation: float, test: float, seed: int) -> dict[str, Dataset]:
    """The parts ``train``, ``validation`` and ``test``; a part of size 0 is left out."""
    wanted = {"train": 1 - validation - test, "validation": validation, "test": test}
    if not (validation >= 0 and test >= 0 and wanted["train"] > 0):
        raise UsageError("--validation and --test are parts of the examples, such as 0.1, and leave some to train on")
    sizes = {name: part for name, part in wanted.items() if part > 0}
    if len(sizes) == 1:
        return {"train": data}
    parts = data.split(list(sizes.values()), seed, class_labels(data, target))
    return dict(zip(sizes, parts, strict=True))


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
