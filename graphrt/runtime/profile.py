"""Timing every node of a run: sums by op, and a trace for Chrome's and Perfetto's viewers."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphrt.ir import Node
from graphrt.records import dataclass
from graphrt.runtime.flops import count_flops

MOST_EVENTS = 500_000
"""Nodes a profiler keeps one by one; the sums go on beyond."""


@dataclass(slots=True)
class OpTime:
    """What the nodes of one op took, over all runs.

    Attributes:
        nodes: how often one ran.
        seconds, flops, nbytes: sums; the bytes are those of all inputs and outputs.
    """

    nodes: int = 0
    seconds: float = 0.0
    flops: float = 0.0
    nbytes: float = 0.0

    def add(self, seconds: float, flops: float, nbytes: float) -> None:
        """Books one run of a node."""
        self.nodes += 1
        self.seconds += seconds
        self.flops += flops
        self.nbytes += nbytes

    def include(self, other: OpTime) -> None:
        """Adds the sums of another."""
        self.nodes += other.nodes
        self.seconds += other.seconds
        self.flops += other.flops
        self.nbytes += other.nbytes


@dataclass(frozen=True, slots=True)
class Event:
    """One run of a node: when it began and how long it took, in seconds."""

    node: Node
    start: float
    seconds: float
    shapes: tuple[str, ...]


class Profiler:
    """An observer that times nodes: from the end of one to the end of the next.

    Call `begin` before each run, so that the first node is timed from there. A node with a subgraph is charged with
    what its inner nodes leave.

    Attributes:
        by_op: op to its sums.
        by_node: a node's name, see `name_of`, to its sums.
        events: each run of a node, up to `MOST_EVENTS`.
        runs: calls of `begin`.

    >>> from graphrt.ir.builder import GraphBuilder
    >>> from graphrt.runtime.session import Session
    >>> b = GraphBuilder()
    >>> b.output(b.Tanh(b.input("x", "float32", ["n"])), "y")
    >>> profiler = Profiler()
    >>> session = Session(b.build(), observers=[profiler])
    >>> profiler.begin()
    >>> _ = session.run({"x": [1.0, 2.0]})
    >>> profiler.by_op["Tanh"].nodes, profiler.by_op["Tanh"].nbytes
    (1, 16.0)
    """

    def __init__(self) -> None:
        self.by_op: dict[str, OpTime] = {}
        self.by_node: dict[str, OpTime] = {}
        self.events: list[Event] = []
        self.runs = 0
        self._began = self._last = time.perf_counter()

    def begin(self) -> None:
        """A run starts now."""
        self.runs += 1
        self._last = time.perf_counter()

    def clear(self) -> None:
        """Forgets everything so far."""
        self.__init__()  # type: ignore[misc]

    def on_node(self, node: Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Books the time since the node before."""
        now = time.perf_counter()
        seconds = now - self._last
        read, made = [inputs.get(n) for n in node.inputs], [outputs.get(n) for n in node.outputs if n]
        flops, nbytes = count_flops(node, read, made), float(sum(map(_nbytes, (*read, *made))))
        self.by_op.setdefault(node.op_type, OpTime()).add(seconds, flops, nbytes)
        self.by_node.setdefault(name_of(node), OpTime()).add(seconds, flops, nbytes)
        if len(self.events) < MOST_EVENTS:
            shapes = tuple(_describe(x) for x in (*read, *made))
            self.events.append(Event(node, self._last - self._began, seconds, shapes))
        self._last = time.perf_counter()

    def trace(self) -> dict[str, Any]:
        """The events in the Trace Event Format, which chrome://tracing and ui.perfetto.dev show."""
        events = [
            {
                "name": e.node.op_type, "cat": e.node.domain or "onnx", "ph": "X", "pid": 1, "tid": 1,
                "ts": 1e6 * e.start, "dur": 1e6 * e.seconds,
                "args": {"node": e.node.label, "shapes": ", ".join(e.shapes)},
            }
            for e in self.events
        ]  # fmt: skip
        return {"traceEvents": events, "displayTimeUnit": "ms"}

    def trace_text(self) -> str:
        """`trace` as JSON."""
        return json.dumps(self.trace())


def name_of(node: Node) -> str:
    """Op and first output: a name that no other node of a graph has, also none of those made from it."""
    return f"{node.op_type} -> {next(filter(None, node.outputs), node.label)}"


def _nbytes(x: Any) -> int:
    return int(x.nbytes) if isinstance(x, (np.ndarray, np.generic)) else 0


def _describe(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") and hasattr(x, "shape") else "-"
