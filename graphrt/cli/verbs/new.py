"""``graphrt new``: make a model file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from graphrt import models
from graphrt.cli.usage import UsageError
from graphrt.cli.verbs.inspect import describe
from graphrt.io import save
from graphrt.ir import Graph


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        "examples:\n  graphrt new mlp digits.grt --inputs 64 --hidden 32,16 --outputs 10 --activation relu\n"
        "  graphrt new logistic spam.json --inputs 57 --outputs 1"
    )
    parser.add_argument("kind", choices=["mlp", "logistic", "perceptron"], help="the kind of model")
    parser.add_argument("out", metavar="OUT", help="the file to write: .grt, .json, or what a converter writes")
    parser.add_argument("--inputs", type=int, required=True, metavar="N", help="features per example")
    parser.add_argument("--hidden", metavar="N,N", help="units of the hidden layers of an mlp (default: 32)")
    parser.add_argument("--outputs", type=int, metavar="N", help="default: 10 for an mlp, else 1")
    parser.add_argument("--activation", metavar="OP", help="an op of one input (default: tanh)")
    parser.add_argument("--output", choices=sorted(models.HEADS), help="how an mlp ends (default: softmax)")
    parser.add_argument("--dtype", default="float32", help="default: float32")
    parser.add_argument("--seed", type=int, default=0, help="of the initial weights")
    parser.add_argument("--init", metavar="NAME", help="an initializer, such as he_normal (default: by activation)")
    parser.add_argument("--normalize", metavar="MEAN,DEVIATION", help="begin with (x - mean) / deviation, two numbers")


def run(args: argparse.Namespace) -> int:
    """Writes the file."""
    make: Callable[..., Graph] = getattr(models, args.kind)
    options: dict[str, Any] = {"dtype": args.dtype, "seed": _natural(args.seed)}
    for option in ("hidden", "activation", "output"):
        if args.kind != "mlp" and getattr(args, option) is not None:
            raise UsageError(f"--{option} is for an mlp; a {args.kind} has one layer and its own ending")
    chosen = {k: getattr(args, k) for k in ("outputs", "activation", "output", "init") if getattr(args, k) is not None}
    if args.hidden is not None:
        chosen["hidden"] = _numbers(args.hidden, int, "--hidden") if args.hidden.strip() else []
    if args.normalize is not None:
        mean, deviation = (_numbers(args.normalize, float, "--normalize") * 2)[:2]
        if args.normalize.count(",") != 1 or deviation == 0:
            raise UsageError(f"--normalize {args.normalize}: two numbers, the second not 0, such as 8,8")
        chosen["normalize"] = (mean, deviation)
    graph = make(args.inputs, **options, **chosen)
    save(graph, args.out)
    facts = describe(graph)
    print(f"{args.out}: {args.kind}, {facts['nodes']} nodes, {facts['parameters']:,} parameters")
    return 0


def _natural(seed: int) -> int:
    if seed < 0:
        raise UsageError(f"--seed {seed}: a seed is 0 or more")
    return seed


def _numbers(text: str, kind: type, option: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: write numbers with commas between, such as 32,16") from None
