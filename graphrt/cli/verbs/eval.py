"""``graphrt eval``: loss and metrics of a model on data."""

from __future__ import annotations

import argparse
import sys

import numpy as np

from graphrt.cli.inputs import read_graph
from graphrt.cli.output import print_json
from graphrt.cli.training import Choice, add_data_arguments, choose_objective, read_dataset
from graphrt.cli.verbs.train import format_figures
from graphrt.ir import Graph
from graphrt.manager import get_registry
from graphrt.passes.mode import set_mode
from graphrt.runtime.session import Session
from graphrt.train.data import Dataset
from graphrt.train.feeding import Feeder, batch_length
from graphrt.train.metrics import MetricTotals
from graphrt.train.objective import make_objective


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "example:\n  graphrt eval trained.grt test.npz --metric accuracy --metric f1 --json"
    add_data_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON: {loss, metrics, examples}")


def run(args: argparse.Namespace) -> int:
    """Prints the figures."""
    graph = read_graph(args.model)
    choice = choose_objective(graph, args)
    data, target = read_dataset(graph, args)
    figures = evaluate(graph, data, choice, target, args.batch_size or 256)
    if args.json:
        print_json({**figures, "examples": len(data)})
    else:
        if choice.note:
            print(choice.note, file=sys.stderr)
        print(f"{len(data)} examples: {format_figures(figures)}")
    return 0


def evaluate(graph: Graph, data: Dataset, choice: Choice, target: str | None, batch_size: int) -> dict[str, float]:
    """Loss and metrics over a data set, in inference mode. Needs no derivative of any op.

    Args:
        graph: the model.
        data: the examples, by name.
        choice: the loss, the value it judges, the metrics.
        target: name of the targets, or None to tell them from what is left over.
        batch_size: how many examples are run at a time.
    """
    registry = get_registry()
    model = set_mode(graph, registry, mode="infer")
    objective = make_objective(model, registry, choice.loss, output=choice.output)
    totals = MetricTotals([registry.get("metrics", m) for m in choice.metrics])
    feeder = Feeder(objective.graph, model, objective.target, target, None)
    session = Session(objective.graph)
    with np.errstate(all="ignore"):
        for feeds in feeder.dataset(data).batches(batch_size):
            out = session.run(feeds)
            prediction = out.get(objective.prediction or "")
            totals.add(out[objective.loss].item(), batch_length(feeds), prediction, feeds.get(objective.target or ""))
    return totals.result()
