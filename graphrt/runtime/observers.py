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
from graphrt.runtime.interpreter import Plan, Watch
from graphrt.runtime.ownership import copied
from graphrt.runtime.steps import Step


class Observer(Protocol):
    """What a run tells each observer."""

    def on_node(self, node: Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Called after a node has run.

        Args:
            node: the node.
            inputs: value name to what it read.
            outputs: value name to what it made. Neither must be changed; the memory serves for other values later in
                the run, so what is to be kept is copied.
        """


def watch_with(observers: Sequence[Observer]) -> Watch | None:
    """The interpreter's callback for these observers; None when there are none."""
    if not observers:
        return None

    def watch(plan: Plan, step: Step, slots: list[Any]) -> None:
        inputs = {name: x for name, x in step.given(slots) if name}
        outputs = {name: x for name, x in step.made(slots) if name}
        for observer in observers:
            observer.on_node(step.node, inputs, outputs)

    return watch


class Recorder:
    """Keeps every value a run makes: ``recorder.values[name]``; the newest run wins."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.nodes: list[Node] = []

    def on_node(self, node: Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Keeps the inputs and outputs of one node."""
        self.values.update((name, copied(x)) for name, x in (*inputs.items(), *outputs.items()))
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
                    given = ", ".join(f"{k} {_range(v)}" for k, v in inputs.items())
                    raise NonFiniteError(
                        f"node {node.label!r} made {np.asarray(x)[first]} at {list(first)} of {name!r} "
                        f"({int(np.sum(bad))} of {x.size} elements), "
                        f"from {given or 'no inputs'}:\n  {format_node(node)}"
                    )


def _range(x: Any) -> str:
    """Where the numbers of an array lie; the type of anything else."""
    if not isinstance(x, (np.ndarray, np.generic)):
        return f"({type(x).__name__})"
    if not x.size or x.dtype.kind not in "fiu":
        return f"({x.dtype}{list(x.shape)})"
    return f"in [{np.min(x):.6g}, {np.max(x):.6g}]"
