"""``graphrt inspect``: what is in a model file. Needs none of the ops that the model uses."""

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
    parser.epilog = "examples:\n  graphrt inspect model.grt\n  graphrt inspect model.onnx --json"
    parser.add_argument("model", metavar="FILE", help="a model file; - is standard input")
    parser.add_argument("--max-nodes", type=int, metavar="N", help="list at most N nodes")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(args: argparse.Namespace) -> int:
    """Prints the listing and the sizes."""
    graph = read_graph(args.model)
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
