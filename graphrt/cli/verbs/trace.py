"""``graphrt trace``: the derivative computation step by step."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import Any

from graphrt.cli.output import number, print_json
from graphrt.cli.verbs.grad import add_point_arguments, read_problem
from graphrt.runtime.operations import count_operations
from graphrt.runtime.trace import Trace, trace


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        'examples:\n  graphrt trace "x*y + sin(x)" --at x=3 --at y=0\n'
        '  graphrt trace "x*y + sin(x)" --at x=3 --at y=0 --mode forward --wrt y --count'
    )
    add_point_arguments(parser)
    parser.add_argument("--count", action="store_true", help="count operations; compare with the symbolic derivative")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the table."""
    graph, at, wrt = read_problem(args)
    found = trace(graph, at, args.of, wrt, mode=args.mode)
    counts = count_operations(graph, at, found.of, found.wrt) if args.count else None
    if args.json:
        made = as_dict(found)
        print_json(made if counts is None else made | {"operations": asdict(counts)})
        return 0
    print(found)
    print("\n" + _conclusion(found))
    if counts is not None:
        print(f"\n{counts}")
    return 0


def as_dict(found: Trace) -> dict[str, Any]:
    """A trace for JSON."""
    rows = [
        {"node": r.name, "expression": r.expression, "value": r.value, "local": r.local, "derivative": r.derivative}
        for r in found.rows
    ]
    return {"mode": found.mode, "of": found.of, "wrt": found.wrt, "rows": rows}


def _conclusion(found: Trace) -> str:
    value = next((r for r in found.rows if r.name == found.of), None)
    if found.mode == "reverse":
        lines = [f"d {found.of}/d {name} = {number(g)}" for name, g in found.gradient.items() if g is not None]
        return "\n".join(lines)
    if value is None or not found.wrt:
        return ""
    return f"d {found.of}/d {found.wrt[0]} = {number(value.derivative)}"
