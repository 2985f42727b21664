"""``graphrt inspect --plan``: what a run does step by step, and where its values live."""

from __future__ import annotations

import argparse

from graphrt.cli.output import print_json
from graphrt.cli.usage import UsageError
from graphrt.cli.verbs.bench import make_inputs, make_training, parse_shapes
from graphrt.ir import Graph
from graphrt.runtime.interpreter import Plan
from graphrt.runtime.session import Session


def show_plan(graph: Graph, args: argparse.Namespace) -> int:
    """Prints the plan of an inference, or of a training step where a loss is named or one asked for."""
    if args.batch < 1:
        raise UsageError("--batch is at least 1")
    plan = _plan(graph, args)
    if args.json:
        print_json(plan.describe().facts())
    else:
        print(plan)
    return 0


def _plan(graph: Graph, args: argparse.Namespace) -> Plan:
    args.seed = 0
    feeds = make_inputs(graph, parse_shapes(args.input, graph), args.batch, args.seed)
    if not (args.train or args.loss):
        return Session(graph, mode="infer", memory_limit=args.memory_limit).plan(feeds)
    trainer, batch = make_training(graph, feeds, args)
    return trainer(memory_limit=args.memory_limit).plan(batch)
