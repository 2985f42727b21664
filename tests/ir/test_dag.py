"""Schedules and reachability, beside networkx on random graphs of dependencies."""

from __future__ import annotations

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphrt.errors import GraphError
from graphrt.ir import Graph, Node, Value
from graphrt.ir.dag import between, dependencies, find_cycle, needed_for, schedule

EDGES = st.integers(1, 9).flatmap(
    lambda n: st.tuples(st.just(n), st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=14))
)


def graph_of(n, edges):
    """Node i makes ``v<i>``; an edge (a, b) makes node b read it. Every node reads the input ``x`` too."""
    nodes = [Node("Sum", ("x", *(f"v{a}" for a, to in sorted(edges) if to == b)), (f"v{b}",)) for b in range(n)]
    return Graph("g", inputs=(Value("x"),), outputs=(Value(f"v{n - 1}"),), nodes=tuple(nodes))


def directed(n, edges):
    dag = nx.DiGraph()
    dag.add_nodes_from(range(n))
    dag.add_edges_from(edges)
    return dag


def test_dependencies():
    assert [list(d) for d in dependencies(graph_of(3, {(0, 1), (0, 2), (1, 2)}))] == [[], [0], [0, 1]]


@given(EDGES)
def test_the_schedule_is_the_first_topological_order(drawn):
    n, edges = drawn
    dag = directed(n, edges)
    graph = graph_of(n, edges)
    if nx.is_directed_acyclic_graph(dag):
        assert schedule(graph) == list(nx.lexicographical_topological_sort(dag))
        assert find_cycle(graph) is None
    else:
        with pytest.raises(GraphError, match="has a cycle; break it at one of these nodes"):
            schedule(graph)
        cycle = find_cycle(graph)
        assert all(dag.has_edge(a, b) for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True))


@given(EDGES)
def test_a_graph_listed_in_an_order_of_execution_is_left_so(drawn):
    n, edges = drawn
    forward = {(min(e), max(e)) for e in edges if e[0] != e[1]}
    assert schedule(graph_of(n, forward)) == list(range(n))


@given(EDGES, st.sets(st.integers(0, 8)), st.sets(st.integers(0, 8)))
def test_reach(drawn, sources, targets):
    n, edges = drawn
    sources, targets = ({i for i in chosen if i < n} for chosen in (sources, targets))
    graph, dag = graph_of(n, edges), directed(n, edges)
    above = targets.union(*(nx.ancestors(dag, t) for t in targets))
    assert needed_for(graph, [*(f"v{t}" for t in targets), "x", "nothing"]) == above
    users = {b for a, b in edges if a in sources}
    below = users.union(*(nx.descendants(dag, u) for u in users))
    assert between(graph, [f"v{s}" for s in sources], [f"v{t}" for t in targets]) == above & below
    assert between(graph, ["x"], [f"v{n - 1}"]) == {n - 1} | nx.ancestors(dag, n - 1)


def test_captured_values_are_dependencies():
    body = Graph("body", outputs=(Value("z"),), nodes=(Node("Neg", ("a",), ("z",)),))
    loop = Node("If", ("c",), ("y",), {"then_branch": body, "else_branch": body})
    graph = Graph("g", inputs=(Value("c"), Value("x")), nodes=(loop, Node("Neg", ("x",), ("a",))))
    assert schedule(graph) == [1, 0]
    assert needed_for(graph, ["y"]) == {0, 1}
