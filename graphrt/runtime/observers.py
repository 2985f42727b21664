"""Watching a run: what every node was given and what it made.

An observer is any object with a method ``on_node(node, inputs, outputs)``: the `Node`, and the arrays by value
name. Without observers a run pays nothing for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from graphrt.errors import NonFiniteError
from graphrt.ir import Node, format_node
from graphrt.runtime.interpreter import Plan, Step, Watch


class Observer(Protocol):
    """What a run tells each observer."""

    def on_node(self, node: Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Called after a node has run.

        Args:
            node: the node.
            inputs: value name to what it read. Must not be changed.
            outputs: value name to what it made. Must not be changed.
        """


def watch_with(observers: Sequence[Observer]) -> Watch | None:
    """The interpreter's callback for these observers; None when there are none."""
    if not observers:
        return None

    def watch(plan: Plan, step: Step, slots: list[Any]) -> None:
        node = step.node
        slot_of = step.inputs[-len(node.inputs) :] if node.inputs else ()
        inputs = {n: slots[s] for n, s in zip(node.inputs, slot_of, strict=False) if n}
        where = (step.output,) if step.output >= 0 else step.outputs
        outputs = {n: slots[s] for n, s in zip(node.outputs, where, strict=False) if n}
        for observer in observers:
            observer.on_node(node, inputs, outputs)

    return watch


class Recorder:
    """Keeps every value a run makes: ``recorder.values[name]``; the newest run wins."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.nodes: list[Node] = []

    def on_node(self, node: Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Keeps the inputs and outputs of one node."""
        self.values.update(inputs)
        self.values.update(outputs)
        self.nodes.append(node)


class FiniteGuard:
    """Stops a run at the first node that makes a NaN (or an infinity, unless ``allow_infinite``).

    Raises:
        NonFiniteError: from `on_node`; names the node.
    """

    def __init__(self, allow_infinite: bool = False):
        self.allow_infinite = allow_infinite

    def on_node(self, node: Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Checks the float outputs of one node."""
        for name, x in outputs.items():
            if isinstance(x, (np.ndarray, np.generic)) and x.dtype.kind in "fc":
                bad = np.isnan(x) if self.allow_infinite else ~np.isfinite(x)
                if np.any(bad):
                    first = tuple(int(i) for i in np.argwhere(bad)[0])
                    given = ", ".join(f"{k} in [{np.min(v):.6g}, {np.max(v):.6g}]" for k, v in inputs.items() if np.size(v))
                    raise NonFiniteError(
                        f"node {node.label!r} made {np.asarray(x)[first]} at {list(first)} of {name!r} "
                        f"({int(np.sum(bad))} of {x.size} elements), from {given or 'no inputs'}:\n  {format_node(node)}"
                    )
