"""What ``train`` and ``eval`` share: data, and which loss on which value."""

from __future__ import annotations

import argparse

from graphrt.cli.inputs import read_arrays
from graphrt.cli.usage import UsageError
from graphrt.ir import Graph
from graphrt.manager import get_registry
from graphrt.records import dataclass
from graphrt.train.data import Dataset, load_data

SCORES = {
    "Softmax": ("softmax_cross_entropy", "accuracy"),
    "LogSoftmax": ("softmax_cross_entropy", "accuracy"),
    "Sigmoid": ("binary_cross_entropy_with_logits", "sign_accuracy"),
    "Step": ("hinge", "sign_accuracy"),
}
"""Last op of a model to the loss on the scores before it, and the metric that goes with that."""

METRICS = {
    "softmax_cross_entropy": "accuracy",
    "cross_entropy": "accuracy",
    "negative_log_likelihood": "accuracy",
    "binary_cross_entropy": "binary_accuracy",
    "binary_cross_entropy_with_logits": "sign_accuracy",
    "hinge": "sign_accuracy",
}
"""Loss to the metric that is shown when none is asked for."""


@dataclass(frozen=True)
class Choice:
    """A loss by name, the value it judges, the metrics; ``note`` tells what was chosen without being asked."""

    loss: str
    output: str | None
    metrics: tuple[str, ...]
    note: str = ""


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments about model, data, loss and metrics."""
    parser.add_argument("model", metavar="FILE", help="a model file; - is standard input")
    parser.add_argument("data", metavar="DATA", help=".npz (arrays by name), .npy or .csv (columns)")
    parser.add_argument(
        "--target", metavar="NAME", help="array or column of the targets (default: what is left over; the last column)"
    )
    parser.add_argument("--loss", metavar="NAME", help="default: what fits the model's last op")
    parser.add_argument("--prediction", metavar="NAME", help="the value that loss and metrics judge")
    parser.add_argument("--metric", action="append", metavar="NAME", help="repeatable (default: what fits the loss)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="examples at a time")


def choose_objective(graph: Graph, args: argparse.Namespace) -> Choice:
    """The loss and metrics asked for, or those that fit the end of the model.

    A loss on scores, given for a model that ends in the op that makes probabilities of them, is put on the scores.

    Raises:
        UsageError: no loss is given and the model's end does not suggest one.
    """
    loss, output = args.loss, args.prediction
    note = ""
    if output is None and len(graph.outputs) == 1:
        last = graph.producers().get(graph.output_names[0])
        suggested, _ = SCORES.get(last.op_type, ("", "")) if last is not None else ("", "")
        if last is not None and suggested and loss in (None, suggested):
            loss, output = suggested, last.inputs[0]
            note = f"loss {loss} on {output!r}, the scores before {last.op_type}"
        elif loss is None:
            loss = "mean_squared_error"
            note = f"loss {loss} on {graph.output_names[0]!r}"
    if loss is None:
        raise UsageError(f"name the loss with --loss; there are: {', '.join(get_registry().table('losses'))}")
    fitting = METRICS.get(loss)
    metrics = tuple(args.metric) if args.metric is not None else (fitting,) if fitting else ()
    return Choice(loss, output, metrics, note)


def read_dataset(graph: Graph, args: argparse.Namespace) -> tuple[Dataset, str | None]:
    """The data set, and the name of its targets where that is known."""
    if args.batch_size is not None and args.batch_size < 1:
        raise UsageError(f"--batch-size {args.batch_size}: a batch has at least one example")
    if args.data == "-":
        if args.model == "-":
            raise UsageError("only one of model and data can be standard input")
        return _with_target(Dataset(read_arrays("-")), graph, args.target)
    if args.data.lower().endswith(".npz"):
        return _with_target(load_data(args.data), graph, args.target)
    if len(graph.inputs) != 1:
        raise UsageError(f"{args.data}: a table feeds a model with one input, not {len(graph.inputs)}; use .npz")
    (name,) = graph.input_names
    target = "target" if name != "target" else "y"
    text = "-1" if args.target is None else args.target
    column = int(text) if text.removeprefix("-").isdecimal() else text
    return load_data(args.data, target=column, inputs=name, output=target), target


def _with_target(data: Dataset, graph: Graph, target: str | None) -> tuple[Dataset, str | None]:
    if target is not None and target not in data.names:
        raise UsageError(f"the data have no array {target!r}; they have: {', '.join(data.names)}")
    rest = [n for n in data.names if n not in graph.input_names]
    if target is None and len(rest) == 1:
        (target,) = rest
    wanted = [n for n in data.names if n in graph.input_names or n == target or target is None]
    return Dataset({n: data[n] for n in wanted}, data.labels), target


def class_labels(data: Dataset, target: str | None) -> str | None:
    """The name of the targets if they are class numbers, so that a split can keep their proportions."""
    if target is None or data[target].ndim != 1 or data[target].dtype.kind not in "iub":
        return None
    return target
