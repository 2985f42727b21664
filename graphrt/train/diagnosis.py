"""Finds where a NaN or an infinity came from, by running the step that made it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from graphrt.errors import NonFiniteError
from graphrt.ir import Graph, Node
from graphrt.registry import Registry
from graphrt.runtime.observers import FiniteGuard
from graphrt.runtime.session import Session


class OriginGuard(FiniteGuard):
    """Stops a run at the first node that makes a NaN or infinity out of finite numbers only."""

    def on_node(self, node: Node, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Checks one node; what its inputs hold already is not its doing."""
        if all(is_finite(x) for x in inputs.values()):
            super().on_node(node, inputs, outputs)


def is_finite(x: Any) -> bool:
    """Whether an array holds no NaN or infinity; whole numbers and texts never do."""
    return not isinstance(x, (np.ndarray, np.generic)) or x.dtype.kind not in "fc" or bool(np.all(np.isfinite(x)))


def non_finite_names(arrays: Mapping[str, Any]) -> Iterator[str]:
    """The names of the arrays that hold a NaN or an infinity."""
    return (name for name, x in arrays.items() if not is_finite(x))


def find_origin(
    graph: Graph, registry: Registry, seed: int, step: int, parameters: Mapping[str, Any], feeds: Mapping[str, Any]
) -> str:
    """Which input, weight or node brought the first NaN or infinity into a run, as text for a message.

    The run is repeated as it was (same weights, inputs and random step): first for a node that makes a NaN or
    infinity of finite numbers, then for the first NaN, then for the first infinity.
    """
    for what, arrays in (("input", feeds), ("weight", parameters)):
        for name in non_finite_names(arrays):
            return f"the {what} {name!r} holds a NaN or an infinity"
    for guard in (OriginGuard(), FiniteGuard(allow_infinite=True), FiniteGuard()):
        session = Session(graph, observers=[guard], seed=seed, registry=registry)
        session.parameters, session.step = dict(parameters), step
        try:
            session.run(feeds)
        except NonFiniteError as e:
            return str(e)
    return "no single node made it when the step was run again"
