"""``graphrt inspect``: what is in a model file. Only its ``--plan`` needs the ops that the model uses."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from typing import Any

from graphrt.cli.inputs import read_graph
from graphrt.cli.output import print_json, size_text, table
from graphrt.ir import Graph
from graphrt.types import TensorType, is_differentiable


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.epilog = (
        "examples:\n  graphrt inspect model.grt\n  graphrt inspect model.onnx --json\n"
        "  graphrt inspect model.grt --plan --batch 64\n"
        "  graphrt inspect model.grt --plan --loss softmax_cross_entropy --batch 32 --memory-limit 64MB"
    )
    parser.add_argument("model", metavar="FILE", help="a model file; - is standard input")
    parser.add_argument("--max-nodes", type=int, metavar="N", help="list at most N nodes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--plan", action="store_true", help="show what a run does step by step, and what it takes")
    plan = parser.add_argument_group("with --plan")
    plan.add_argument("--input", action="append", default=[], metavar="NAME=SHAPE", help="such as x=8,3,224,224")
    plan.add_argument("--batch", type=int, default=1, metavar="N", help="for dimensions without a number (default: 1)")
    plan.add_argument("--train", action="store_true", help="the plan of a training step")
    plan.add_argument("--loss", metavar="NAME", help="the same; without one: what fits the model's last op")
    plan.add_argument("--prediction", metavar="NAME", help="the value that the loss judges")
    plan.add_argument("--optimizer", default="Adam", metavar="NAME", help="default: Adam")
    plan.add_argument("--memory-limit", metavar="SIZE", help="the most memory of a run beside weights: 64MB")


def run(args: argparse.Namespace) -> int:
    """Prints the listing and the sizes."""
    graph = read_graph(args.model)
    if args.plan:
        from graphrt.cli.inspect_plan import show_plan  # needs the ops

        return show_plan(graph, args)
    facts = describe(graph)
    if args.model != "-":
        facts["file_bytes"] = os.path.getsize(args.model)
    if args.json:
        print_json(facts)
        return 0
    print(graph.text(max_nodes=args.max_nodes))
    print()
    print("\n".join(_summary(facts)))
    return 0


def describe(graph: Graph) -> dict[str, Any]:
    """The facts about a graph that a program may want."""
    weights = []
    for name, array in graph.initializers.items():
        t = TensorType.of(array)
        trainable = is_differentiable(t.dtype) and name not in graph.state_updates
        weights.append(
            {"name": name, "dtype": t.dtype, "shape": t.shape, "bytes": array.nbytes, "elements": array.size}
            | {"trainable": trainable}
        )
    return {
        "name": graph.name,
        "opset_imports": dict(graph.opset_imports),
        "inputs": [{"name": v.name, "type": str(v.type)} for v in graph.inputs],
        "outputs": [{"name": v.name, "type": str(v.type)} for v in graph.outputs],
        "nodes": len(graph.nodes),
        "ops": dict(sorted(Counter(n.qualified_op for n in graph.nodes).items())),
        "initializers": weights,
        "parameters": sum(w["elements"] for w in weights),
        "trainable_parameters": sum(w["elements"] for w in weights if w["trainable"]),
        "weight_bytes": sum(w["bytes"] for w in weights),
        "state_updates": dict(graph.state_updates),
        "metadata": dict(graph.metadata),
        "requires": dict(graph.requires),
    }


def _summary(facts: dict[str, Any]) -> list[str]:
    lines = [
        f"nodes: {facts['nodes']} ({', '.join(f'{n} {op}' for op, n in facts['ops'].items()) or 'none'})",
        f"parameters: {facts['parameters']:,} in {len(facts['initializers'])} initializers, "
        f"{facts['trainable_parameters']:,} of them trainable, {size_text(facts['weight_bytes'])}",
    ]
    if "file_bytes" in facts:
        lines.append(f"file: {size_text(facts['file_bytes'])}")
    lines += [f"requires for domain {d!r}: {wanted}" for d, wanted in facts["requires"].items()]
    if facts["metadata"]:
        lines.append(table(["metadata", "value"], sorted(facts["metadata"].items())))
    return lines
