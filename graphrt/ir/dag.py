"""The graph as a networkx directed graph: schedules, cycles, what lies between two sets of values.

The nodes of the networkx graph are the positions of the graph's nodes; an edge runs from the producer of a
value to each of its users (also to a node whose subgraph captures the value).
"""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from graphrt.errors import GraphError
from graphrt.ir.graph import Graph
from graphrt.ir.text import format_node


def dependency_graph(graph: Graph) -> nx.DiGraph:
    """The data dependencies between the nodes of a graph, by position."""
    producer = {o: i for i, n in enumerate(graph.nodes) for o in n.outputs if o}
    dag = nx.DiGraph()
    dag.add_nodes_from(range(len(graph.nodes)))
    dag.add_edges_from(
        (producer[name], i) for i, node in enumerate(graph.nodes) for name in node.free_inputs() if name in producer
    )
    return dag


def schedule(graph: Graph, dag: nx.DiGraph | None = None) -> list[int]:
    """An order of execution: topological, and as the nodes are listed wherever that is possible.

    Raises:
        GraphError: the graph has a cycle; the message shows one.
    """
    dag = dependency_graph(graph) if dag is None else dag
    try:
        return list(nx.lexicographical_topological_sort(dag))
    except nx.NetworkXUnfeasible:
        cycle = find_cycle(graph, dag) or []
        lines = "\n".join(f"  {format_node(graph.nodes[i])}" for i in cycle)
        raise GraphError(f"graph {graph.name!r} has a cycle; break it at one of these nodes:\n{lines}") from None


def find_cycle(graph: Graph, dag: nx.DiGraph | None = None) -> list[int] | None:
    """The positions of the nodes of one cycle, in order, or None."""
    dag = dependency_graph(graph) if dag is None else dag
    knots = [c for c in nx.strongly_connected_components(dag) if len(c) > 1]
    loops = [i for i in dag if dag.has_edge(i, i)]
    if loops:
        return [min(loops)]
    if not knots:
        return None
    start = min(min(c) for c in knots)
    return [a for a, _ in nx.find_cycle(dag, start)]


def between(graph: Graph, sources: Iterable[str], targets: Iterable[str], dag: nx.DiGraph | None = None) -> set[int]:
    """Positions of the nodes on a path from any source value to any target value."""
    dag = dependency_graph(graph) if dag is None else dag
    wanted, from_values = set(targets), set(sources)
    starts = [i for i, n in enumerate(graph.nodes) if from_values.intersection(n.free_inputs())]
    ends = [i for i, n in enumerate(graph.nodes) if wanted.intersection(n.outputs)]
    return _reach(dag, starts) & _reach(dag.reverse(copy=False), ends)


def needed_for(graph: Graph, targets: Iterable[str], dag: nx.DiGraph | None = None) -> set[int]:
    """Positions of the nodes that the target values depend on."""
    dag = dependency_graph(graph) if dag is None else dag
    wanted = set(targets)
    ends = [i for i, n in enumerate(graph.nodes) if wanted.intersection(n.outputs)]
    return _reach(dag.reverse(copy=False), ends)


def _reach(dag: nx.DiGraph, starts: list[int]) -> set[int]:
    """The starts and all their descendants."""
    if not starts:
        return set()
    layers = nx.bfs_layers(dag, starts)
    return {i for layer in layers for i in layer}
