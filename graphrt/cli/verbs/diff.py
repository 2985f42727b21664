"""``graphrt diff``: what two models differ in."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from graphrt.cli.inputs import read_graph
from graphrt.cli.output import print_json, table
from graphrt.cli.usage import UsageError
from graphrt.ir import Graph
from graphrt.ir.compare import same_graph


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = "exit code 1 when they differ\nexample:\n  graphrt diff before.grt after.grt"
    parser.add_argument("before", metavar="A", help="a model file; - is standard input")
    parser.add_argument("after", metavar="B", help="another")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the differences; exit code 1 when there are any."""
    if args.before == args.after == "-":
        raise UsageError("only one of the two can be standard input")
    before, after = read_graph(args.before), read_graph(args.after)
    differences = same_graph(before, after)
    weights = weight_differences(before, after)
    if args.json:
        print_json({"same": not differences, "differences": differences, "weights": weights})
    elif differences:
        print("\n".join(differences))
        rows = [(w["name"], f"{w['max_abs']:.3e}", f"{w['rms']:.3e}", f"{w['relative']:.3e}") for w in weights]
        if rows:
            print("\n" + table(["weights", "largest change", "rms change", "rms / rms of A"], rows))
    else:
        print("the same")
    return 1 if differences else 0


def weight_differences(a: Graph, b: Graph) -> list[dict[str, Any]]:
    """For each numeric initializer of one shape in both whose values differ: how far.

    ``max_abs`` is the largest change of an element, ``rms`` the root of the mean square, ``relative`` that
    divided by the rms of the values in ``a``.
    """
    found = []
    for name, old in a.initializers.items():
        new = b.initializers.get(name)
        if new is None or new.shape != old.shape or not old.size or "O" in (old.dtype.kind, new.dtype.kind):
            continue
        wide = np.complex128 if "c" in (old.dtype.kind, new.dtype.kind) else np.float64
        x, y = np.asarray(old, wide), np.asarray(new, wide)
        with np.errstate(all="ignore"):
            change = np.abs(y - x)
            rms, size = float(np.sqrt(np.mean(change**2))), float(np.sqrt(np.mean(np.abs(x) ** 2)))
        if not np.array_equal(x, y, equal_nan=True):
            relative = rms / size if size else float("inf")
            found.append({"name": name, "max_abs": float(np.max(change)), "rms": rms, "relative": relative})
    return found
