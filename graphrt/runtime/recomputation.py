"""Keeps the run of a plan within a limit of memory: its backward part computes values again instead of keeping them.

What is computed again is chosen by an estimate (`graphrt.runtime.retention`); the choices are tried, from the fewest
operations on, until a plan is within the limit.
"""

from __future__ import annotations

from collections.abc import Callable

from graphrt.errors import InputError
from graphrt.ir import Graph
from graphrt.passes.rematerialize import rematerialize
from graphrt.records import dataclass
from graphrt.runtime.description import node_flops
from graphrt.runtime.footprint import footprint
from graphrt.runtime.interpreter import Plan
from graphrt.runtime.retention import Forward, nodes_to_run


@dataclass(frozen=True, slots=True)
class Recomputation:
    """What it costs to stay within a limit of memory: some nodes before the backward part run twice.

    Attributes:
        limit: in bytes, as all here that is memory.
        peak: what a run takes at most, beside inputs, weights and constants.
        before: what it would take without.
        again: how many nodes run twice.
        of: how many nodes come before the backward part.
        flops: operations more.
        of_flops: operations without.
    """

    limit: int
    peak: int
    before: int
    again: int
    of: int
    flops: float
    of_flops: float

    def __str__(self) -> str:
        more = self.flops / self.of_flops if self.of_flops else 0.0
        return (
            f"memory: {self.peak:,} bytes instead of {self.before:,}, at most {self.limit:,}; "
            f"{self.again} of {self.of} nodes before the backward part run twice, {more:.1%} more operations"
        )


def within_limit(plan: Plan, limit: int, make: Callable[[Graph], Plan]) -> Plan:
    """A plan that does the same, to the bit, in at most so much memory.

    Args:
        plan: what is to be kept within the limit; returned as it is if it is.
        limit: the most bytes that a run may take at once beside inputs, weights and constants: the arena, and what is
            made beside it.
        make: plans a graph as ``plan`` was made.

    Raises:
        InputError: none was found; says the least that was.
    """
    before = footprint(plan).peak
    if before <= limit:
        return plan
    assert plan.registry is not None
    forward, least = Forward(plan), before
    for chosen in forward.attempts(limit / before):
        values = [v for root in chosen.dropped for v in forward.members[root]]
        made = make(rematerialize(plan.graph, plan.registry, values=values))
        peak = footprint(made).peak
        if peak <= limit:
            made.recomputation = _compared(forward, made, limit, peak, before)
            return made
        least = min(least, peak)
    raise InputError(
        f"the limit of memory is {limit:,} bytes; a run of {plan.graph.name or 'the graph'!r} takes {before:,}, and "
        f"{least:,} at least where values are computed again: allow more, or give smaller inputs"
    )


def _compared(forward: Forward, made: Plan, limit: int, peak: int, before: int) -> Recomputation:
    """What a plan that computes values again costs."""
    nodes, flops = list(nodes_to_run(made)), sum(forward.flops)
    more = sum(node_flops(made, n) for n in nodes) - flops
    return Recomputation(limit, peak, before, len(nodes) - len(forward.nodes), len(forward.early), more, flops)
