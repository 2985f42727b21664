"""``graphrt convert``: read a model in one format and write it in another."""

from __future__ import annotations

import argparse
import sys

from graphrt.cli.inputs import read_graph
from graphrt.io import save
from graphrt.manager import get_registry
from graphrt.passes.dynamic_batch import with_dynamic_batch


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "examples:\n  graphrt convert model.onnx model.grt\n  graphrt convert model.grt model.json"
    parser.add_argument("source", metavar="FROM", help="a model file; - is standard input")
    parser.add_argument(
        "--dynamic-batch",
        nargs="?",
        const="batch",
        metavar="NAME",
        help="replace a frozen leading dimension of 1 by a symbol (default name: batch)",
    )
    parser.add_argument("target", metavar="TO", help="the file to write; its suffix says which format")


def run(args: argparse.Namespace) -> int:
    """Writes the file; with ``--dynamic-batch``, says what was rewritten and what still pins the batch."""
    graph = read_graph(args.source)
    obstacles: tuple[str, ...] = ()
    if args.dynamic_batch:
        changed = with_dynamic_batch(graph, get_registry(), name=args.dynamic_batch)
        graph, obstacles = changed.graph, changed.obstacles
        for line in changed.rewritten:
            print(f"rewritten: {line}")
    if obstacles:
        listed = "\n".join(f"  {o}" for o in obstacles)
        print(f"graphrt: the batch stays frozen, nothing is written:\n{listed}", file=sys.stderr)
        return 1
    save(graph, args.target)
    print(f"{args.source} -> {args.target}")
    return 0
