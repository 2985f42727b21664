"""Random differentiable graphs for hypothesis: smooth float64 functions of three inputs and one parameter."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from graphrt.ir import Graph, Value
from graphrt.ir.builder import BuilderValue, GraphBuilder
from graphrt.types import TensorType

F = "float64"
WRT = ("x", "v", "s", "w")
"""The leaves of every drawn graph: x [2, 3], v [3], s [], and the parameter w [3, 3]."""


class Drawn(NamedTuple):
    """A graph with the scalar output ``f`` and the array output ``y``, and a point to evaluate it at."""

    graph: Graph
    at: dict[str, np.ndarray[Any, Any]]
    weights: np.ndarray[Any, Any]

    def leaf(self, name: str) -> np.ndarray[Any, Any]:
        """The value of an input or of the parameter."""
        return self.weights if name == "w" else self.at[name]


UNARY = ("Tanh", "Sigmoid", "Sin", "Cos", "Neg", "Softplus", "Erf", "Identity")


class _Pool:
    """The values drawn so far, with their shapes."""

    def __init__(self, b: GraphBuilder, leaves: list[tuple[BuilderValue, tuple[int, ...]]]):
        self.b, self.values = b, leaves

    def add(self, value: Any, *shape: int) -> None:
        self.values.append((value, shape))

    def unary(self, draw: st.DrawFn) -> None:
        x, shape = draw(st.sampled_from(self.values))
        self.add(self.b.op(draw(st.sampled_from(UNARY)), x), *shape)

    def binary(self, draw: st.DrawFn) -> None:
        x, a = draw(st.sampled_from(self.values))
        y, c = draw(st.sampled_from([(v, s) for v, s in self.values if _broadcasts(a, s)]))
        kind = draw(st.sampled_from(["Add", "Sub", "Mul", "Mul", "Div", "Sum"]))
        if kind == "Div":
            y = self.b.Add(self.b.Mul(y, y), 1.5)
        self.add(self.b.op(kind, x, y), *np.broadcast_shapes(a, c))

    def square(self, draw: st.DrawFn) -> None:
        """One node that reads one value twice, bounded so that chains of it stay tame."""
        x, shape = draw(st.sampled_from(self.values))
        bounded = self.b.Tanh(x)
        self.add(self.b.op(draw(st.sampled_from(["Mul", "Add", "Sub"])), bounded, bounded), *shape)

    def matmul(self, draw: st.DrawFn) -> None:
        x, shape = draw(st.sampled_from([(v, s) for v, s in self.values if s and s[-1] == 3]))
        self.add(self.b.MatMul(x, self.b.value("w")) * 0.5, *shape)

    def reduction(self, draw: st.DrawFn) -> None:
        x, shape = draw(st.sampled_from([(v, s) for v, s in self.values if s]))
        kind = draw(st.sampled_from(["ReduceSum", "ReduceMean", "ReduceLogSumExp", "ReduceSumSquare"]))
        if draw(st.booleans()):
            axis, keep = draw(st.integers(0, len(shape) - 1)), draw(st.booleans())
            kept = list(shape)
            kept[axis : axis + 1] = [1] if keep else []
            self.add(self.b.op(kind, self.b.Tanh(x), np.array([axis]), keepdims=int(keep)), *kept)
        else:
            self.add(self.b.op(kind, self.b.Tanh(x), None, keepdims=0))

    def join_and_split(self, draw: st.DrawFn) -> None:
        """Concat of a value with another of its shape (maybe itself), split again: of two parts one may be unused."""
        x, shape = draw(st.sampled_from([(v, s) for v, s in self.values if s]))
        y, _ = draw(st.sampled_from([(v, s) for v, s in self.values if s == shape]))
        axis, n = draw(st.integers(0, len(shape) - 1)), shape
        joined = self.b.Concat(x, y, axis=axis)
        first, second = self.b.Split(joined, None, axis=axis, num_outputs=2, outputs=2)
        self.add(first, *n)
        if draw(st.booleans()):
            self.add(second, *n)

    def normalization(self, draw: st.DrawFn) -> None:
        """A node with an absent optional input."""
        x, shape = draw(st.sampled_from([(v, s) for v, s in self.values if s and s[-1] == 3]))
        self.add(self.b.LayerNormalization(x, self.b.value("v"), None, epsilon=0.5), *shape)


MOVES = (
    _Pool.unary, _Pool.unary, _Pool.binary, _Pool.binary, _Pool.square,
    _Pool.matmul, _Pool.reduction, _Pool.join_and_split, _Pool.normalization,
)  # fmt: skip


@st.composite
def drawn_graphs(draw: st.DrawFn, most: int = 10) -> Drawn:
    """A graph of up to ``most`` random moves, its nodes listed in random order, and a random point."""
    b = GraphBuilder("drawn", dtype=F)
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    at = {"x": rng.normal(size=(2, 3)), "v": rng.normal(size=3), "s": rng.normal(size=())}
    weights = rng.normal(size=(3, 3))
    leaves = [(b.input(k, F, a.shape), a.shape) for k, a in at.items()]
    pool = _Pool(b, [*leaves, (b.parameter("w", weights), (3, 3))])
    for _ in range(draw(st.integers(1, most))):
        draw(st.sampled_from(MOVES))(pool, draw)
    total = b.Tanh(b.ReduceMean(pool.values[-1][0], keepdims=0))
    for value, _ in draw(st.lists(st.sampled_from(pool.values), max_size=2)):
        total = total + b.ReduceMean(b.Tanh(value), keepdims=0)
    y, shape = draw(st.sampled_from(pool.values))
    b.output(total, "f")
    graph = b.build()
    nodes = list(graph.nodes)
    random.Random(draw(st.integers(0, 99))).shuffle(nodes)
    outputs = (*graph.outputs, Value(y.name, TensorType(F, shape)))
    return Drawn(graph.replace(nodes=nodes, outputs=outputs), at, weights)


def _broadcasts(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(reversed(a), reversed(b), strict=False))
