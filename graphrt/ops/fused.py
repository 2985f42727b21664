"""Several nodes as one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.ir import Graph, Node, Value
from graphrt.op import Array, op
from graphrt.types import TensorType


@op("Fused", domain="graphrt", outputs="*outputs")
def fused(*inputs: Array, body: Graph) -> tuple[Any, ...]:
    """Runs a subgraph once.  inputs: what the body takes, any type -> its outputs.

    Plans put it in the place of chains of elementwise nodes (`graphrt.runtime.fusion`), so that a kernel does all of
    them in one pass through memory. Derivative: that of the body.
    """
    outputs: tuple[Any, ...] = body(*inputs)  # type: ignore[operator]
    return outputs


@op("FusedScalars", domain="graphrt", outputs="*outputs")
def fused_scalars(*inputs: Array, body: Graph) -> tuple[Any, ...]:
    """As Fused, for groups of nodes all of whose values are single numbers.

    inputs: float64, no axis -> outputs: the same.
    """
    outputs: tuple[Any, ...] = body(*inputs)  # type: ignore[operator]
    return outputs


@op("FusedUpdates", domain="graphrt", outputs="*outputs")
def fused_updates(*inputs: Array, body: Graph) -> tuple[Any, ...]:
    """As Fused, for groups of an optimizer's updates (`graphrt.runtime.update_groups`).

    inputs: float or integer, what the updates take -> outputs: new parameters and states.
    """
    outputs: tuple[Any, ...] = body(*inputs)  # type: ignore[operator]
    return outputs


def _vjp(cts: Sequence[Array], inputs: Sequence[Array], *, body: Any) -> tuple[Any, ...]:
    _, pullback = body.vjp(*inputs)
    back: tuple[Any, ...] = pullback(cts)
    return back


def _jvp(dots: Sequence[Array], inputs: Sequence[Array], *, body: Any) -> tuple[Any, ...]:
    tangents: tuple[Any, ...] = body.jvp(inputs, dots)[1]
    return tangents


def _infer(*, body: Graph) -> tuple[TensorType, ...]:
    return tuple(v.type for v in body.outputs)  # type: ignore[misc]


def _chain() -> Graph:
    """tanh(x y) and x y + x."""
    nodes = (Node("Mul", ("x", "y"), ("p",)), Node("Tanh", ("p",), ("t",)), Node("Add", ("p", "x"), ("s",)))
    return Graph("chain", inputs=(Value("x"), Value("y")), outputs=(Value("t"), Value("s")), nodes=nodes)


@fused.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3)), rng.normal(size=(2, 3))), {"body": _chain(), "n_outputs": 2}
    yield (rng.normal(size=(2, 3)), rng.normal(size=3)), {"body": _chain(), "n_outputs": 2}


@fused_updates.examples
@fused_scalars.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=()), rng.normal(size=())), {"body": _chain(), "n_outputs": 2}


OPS = (fused, fused_scalars, fused_updates)
for _op in OPS:
    _op.body_vjp(_vjp)
    _op.body_jvp(_jvp)
    _op.infer(_infer)
