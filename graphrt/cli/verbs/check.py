"""``graphrt check``: find everything that is wrong with a model."""

from __future__ import annotations

import argparse

from graphrt.check import check
from graphrt.cli.inputs import read_graph
from graphrt.cli.output import print_json
from graphrt.manager import get_registry


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "exit code 1 when there are errors (warnings are allowed)\nexample:\n  graphrt check model.grt"
    parser.add_argument("model", metavar="FILE", help="a model file; - is standard input")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the report."""
    report = check(read_graph(args.model), get_registry())
    if args.json:
        print_json(report.as_dict())
    else:
        print(report)
    return 0 if report.ok else 1
