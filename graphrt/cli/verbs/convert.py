"""``graphrt convert``: read a model in one format and write it in another."""

from __future__ import annotations

import argparse

from graphrt.cli.inputs import read_graph
from graphrt.io import save


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "examples:\n  graphrt convert model.onnx model.grt\n  graphrt convert model.grt model.json"
    parser.add_argument("source", metavar="FROM", help="a model file; - is standard input")
    parser.add_argument("target", metavar="TO", help="the file to write; its suffix says which format")


def run(args: argparse.Namespace) -> int:
    """Writes the file."""
    save(read_graph(args.source), args.target)
    print(f"{args.source} -> {args.target}")
    return 0
