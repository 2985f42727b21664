"""What depends on what in a graph: schedules, cycles, what lies between two sets of values.

Nodes are named by their positions in the graph. A node depends on the producer of each value it reads, or that one of
its subgraphs captures. networkx schedules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from graphrt.errors import GraphError
from graphrt.ir.graph import Graph
from graphrt.ir.text import format_node

if TYPE_CHECKING:
    import networkx as nx

Dependencies: TypeAlias = Sequence[Sequence[int]]
"""For each node of a graph, the nodes it depends on."""


def dependencies(graph: Graph) -> Dependencies:
    """For each node of a graph, the nodes it depends on."""
    producer = {o: i for i, n in enumerate(graph.nodes) for o in n.outputs if o}
    return [[producer[name] for name in node.free_inputs() if name in producer] for node in graph.nodes]


def schedule(graph: Graph, needs: Dependencies | None = None) -> list[int]:
    """An order of execution: topological, and as the nodes are listed wherever that is possible.

    Raises:
        GraphError: the graph has a cycle; the message shows one.
    """
    import networkx as nx

    dag = _directed_graph(dependencies(graph) if needs is None else needs)
    try:
        return list(nx.lexicographical_topological_sort(dag))
    except nx.NetworkXUnfeasible:
        cycle = _cycle_in(dag) or []
        lines = "\n".join(f"  {format_node(graph.nodes[i])}" for i in cycle)
        raise GraphError(f"graph {graph.name!r} has a cycle; break it at one of these nodes:\n{lines}") from None


def execution_order(graph: Graph, needs: Dependencies | None = None) -> list[int]:
    """What `schedule` gives; a graph whose nodes are listed in such an order, as those of files are, is not scheduled.

    A first prediction then does without networkx, which takes longer to import than all else.
    """
    needs = dependencies(graph) if needs is None else needs
    return list(range(len(needs))) if _is_ordered(needs) else schedule(graph, needs)


def find_cycle(graph: Graph) -> list[int] | None:
    """The positions of the nodes of one cycle, in order, or None."""
    needs = dependencies(graph)
    return None if _is_ordered(needs) else _cycle_in(_directed_graph(needs))


def between(
    graph: Graph, sources: Iterable[str], targets: Iterable[str], needs: Dependencies | None = None
) -> set[int]:
    """Positions of the nodes on a path from any source value to any target value."""
    needs = dependencies(graph) if needs is None else needs
    from_values = set(sources)
    users: list[list[int]] = [[] for _ in needs]
    for i, read in enumerate(needs):
        for j in read:
            users[j].append(i)
    starts = [i for i, n in enumerate(graph.nodes) if from_values.intersection(n.free_inputs())]
    return _reach(users, starts) & needed_for(graph, targets, needs)


def needed_for(graph: Graph, targets: Iterable[str], needs: Dependencies | None = None) -> set[int]:
    """Positions of the nodes that the target values depend on."""
    needs = dependencies(graph) if needs is None else needs
    wanted = set(targets)
    return _reach(needs, [i for i, n in enumerate(graph.nodes) if wanted.intersection(n.outputs)])


def _is_ordered(needs: Dependencies) -> bool:
    """Whether each node is listed after all it depends on."""
    return all(j < i for i, read in enumerate(needs) for j in read)


def _reach(neighbors: Sequence[Sequence[int]], starts: Iterable[int]) -> set[int]:
    """The starts, their neighbors, the neighbors of these, and so on."""
    found = set(starts)
    waiting = list(found)
    while waiting:
        new = [i for i in neighbors[waiting.pop()] if i not in found]
        found.update(new)
        waiting += new
    return found


def _directed_graph(needs: Dependencies) -> nx.DiGraph:
    """An edge runs from each node to each of its users."""
    import networkx as nx

    dag = nx.DiGraph()
    dag.add_nodes_from(range(len(needs)))
    dag.add_edges_from((j, i) for i, read in enumerate(needs) for j in read)
    return dag


def _cycle_in(dag: nx.DiGraph) -> list[int] | None:
    import networkx as nx

    knots = [c for c in nx.strongly_connected_components(dag) if len(c) > 1]
    loops = [i for i in dag if dag.has_edge(i, i)]
    if loops:
        return [min(loops)]
    if not knots:
        return None
    start = min(min(c) for c in knots)
    return [a for a, _ in nx.find_cycle(dag, start)]
