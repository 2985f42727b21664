"""Splits a joint graph where some inputs come later: what runs before them, and what waits for them."""

from __future__ import annotations

from collections.abc import Sequence

from graphrt.ir import Graph, Value
from graphrt.ir.dag import schedule
from graphrt.records import dataclass


@dataclass(frozen=True)
class Split:
    """``first`` runs without the late inputs and also returns ``residuals``; ``second`` takes those and the
    late inputs. Together they compute what the whole did."""

    first: Graph
    second: Graph
    residuals: tuple[str, ...]


def split_at(graph: Graph, late: Sequence[str]) -> Split:
    """Splits a graph in two at the inputs that are fed later (the seeds of a reverse-mode graph).

    Args:
        graph: acyclic and complete.
        late: names of the inputs that only the second part has.
    """
    waiting = set(late)
    second: list[int] = []
    order = schedule(graph)
    for i in order:
        node = graph.nodes[i]
        if waiting.intersection(node.free_inputs()):
            second.append(i)
            waiting.update(o for o in node.outputs if o)
    chosen = set(second)
    read = dict.fromkeys(name for i in second for name in graph.nodes[i].free_inputs())
    early_outputs = tuple(v for v in graph.outputs if v.name not in waiting)
    late_outputs = tuple(v for v in graph.outputs if v.name in waiting)
    weights = set(graph.initializers) - set(graph.input_names)
    residuals = tuple(n for n in read if n not in waiting and n not in weights)
    extra = tuple(Value(r) for r in residuals if r not in {v.name for v in early_outputs})
    first = graph.replace(
        inputs=tuple(v for v in graph.inputs if v.name not in late),
        outputs=early_outputs + extra,
        nodes=tuple(graph.nodes[i] for i in order if i not in chosen),
    )
    seeds = tuple(v for v in graph.inputs if v.name in late)
    after = graph.replace(
        inputs=tuple(Value(r) for r in residuals) + seeds,
        outputs=late_outputs,
        nodes=tuple(graph.nodes[i] for i in second),
        state_updates={},
    )
    return Split(first, after, residuals)
