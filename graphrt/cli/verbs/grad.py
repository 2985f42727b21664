"""``graphrt grad``: value and gradient of a formula or a model at a point."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from graphrt.cli.differences import CheckResult, check_gradient
from graphrt.cli.inputs import choose_names, fit_inputs
from graphrt.cli.output import number, print_json, table
from graphrt.cli.points import read_formula_or_graph, read_inputs
from graphrt.expressions import float_inputs, gradient_of, with_shapes
from graphrt.ir import Graph
from graphrt.runtime.session import Session


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        'examples:\n  graphrt grad "x*y + sin(x)" --at x=3 --at y=0\n'
        '  graphrt grad "x^x" --at x=pi/2 --mode forward --check\n'
        "  graphrt grad model.grt --at x=[[1,2]] --of loss --wrt 'w*' --json"
    )
    add_point_arguments(parser)
    parser.add_argument("--check", action="store_true", help="compare with central differences over many step sizes")
    parser.add_argument("--json", action="store_true", help='print {"value": ..., "gradient": {name: ...}}')


def add_point_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that say what to differentiate, where, and how."""
    parser.add_argument("model", metavar="FORMULA|FILE", help="a formula such as 'x*y + sin(x)', or a model file")
    parser.add_argument(
        "--at",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an input: a number, a JSON list, a formula such as pi/2, or a .npy file; repeatable",
    )
    parser.add_argument("--data", metavar="FILE.npz", help="inputs by name")
    parser.add_argument("--of", metavar="NAME", help="the value to differentiate (default: the only output)")
    parser.add_argument(
        "--wrt", action="append", metavar="NAME", help="inputs or weights, * for any (default: the float inputs)"
    )
    parser.add_argument("--mode", choices=["reverse", "forward"], default="reverse", help="default: reverse")


def read_problem(args: argparse.Namespace) -> tuple[Graph, dict[str, Any], list[str]]:
    """The graph, the point, and the names to differentiate with respect to."""
    graph, is_formula = read_formula_or_graph(args.model)
    at = read_inputs(args.at, args.data)
    if is_formula:
        graph = with_shapes(graph, at)
    names = float_inputs(graph)
    if args.wrt:
        names = choose_names(args.wrt, [*graph.input_names, *graph.initializers])
    return graph, fit_inputs(graph, at), names


def run(args: argparse.Namespace) -> int:
    """Prints the value and the gradient; exit code 1 when ``--check`` finds them to disagree."""
    graph, at, wrt = read_problem(args)
    session = Session(graph)
    value, gradient = gradient_of(session, at, of=args.of, wrt=wrt, mode=args.mode)
    result = check_gradient(session, at, args.of, gradient) if args.check else None
    if args.json:
        found: dict[str, Any] = {"value": value, "gradient": gradient}
        print_json(found if result is None else found | {"check": result.as_dict()})
    else:
        _print(value, gradient, result)
    return 0 if result is None or result.agrees else 1


def _print(value: Any, gradient: Mapping[str, Any], result: CheckResult | None) -> None:
    print(f"value = {number(value)}")
    for name, g in gradient.items():
        print(f"d/d{name} = {number(g)}")
    if result is None:
        return
    rows = [(f"{s.step:.0e}", f"{s.error:.3e}", s.dominates) for s in result.steps]
    print("\n" + table(["step", "error", "dominated by"], rows))
    verdict = "agree" if result.agrees else "DISAGREE"
    print(
        f"\ncentral differences {verdict} with the gradient: "
        f"the best step is {result.best.step:.0e}, with an error of {result.best.error:.3e}"
    )
