"""SequenceMap: a subgraph run on each member of a sequence."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

from graphrt.dual import lists
from graphrt.ir import Graph, Node, Value
from graphrt.op import Array, op
from graphrt.ops._sequences import element_type
from graphrt.types import SequenceType, TensorType


@op("SequenceMap", version=17, outputs="*out_sequence")
def sequence_map(input_sequence: list[Array], *additional_inputs: Any, body: Graph) -> tuple[Any, ...]:
    """Runs a subgraph on each member of a sequence.  input_sequence: n tensors; additional_inputs: sequences of n
    (read member by member) or tensors (given to each run) -> for each output of the subgraph a sequence of n.

    Derivative: through each run; a tensor's cotangents are summed over the runs. Source: ONNX operator spec.
    """
    results = [body(*xs) for xs in _samples((input_sequence, *additional_inputs))]  # type: ignore[operator]
    return _columns(results, body)


def _samples(inputs: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The subgraph's inputs, run by run; None instead of a list is None in each run."""
    n = len(inputs[0])
    wrong = [len(x) for x in inputs if isinstance(x, list) and len(x) != n]
    if wrong:
        raise ValueError(f"the sequences have different lengths: {n} and {wrong[0]}")
    return (tuple(x[i] if isinstance(x, list) else x for x in inputs) for i in range(n))


def _columns(rows: Sequence[Sequence[Any]], body: Any) -> tuple[list[Any], ...]:
    return tuple([row[k] for row in rows] for k in range(body.n_outputs))


@sequence_map.body_vjp
def _(cts: Sequence[Any], inputs: Sequence[Any], *, body: Any) -> tuple[Any, ...]:
    back = []
    for i, xs in enumerate(_samples(inputs)):
        _, pullback = body.vjp(*xs)
        back.append(pullback([None if ct is None else ct[i] for ct in cts]))
    columns = [[row[k] for row in back] for k in range(len(inputs))]
    return tuple(
        c if isinstance(x, list) else functools.reduce(lists.add, c, None) for x, c in zip(inputs, columns, strict=True)
    )


@sequence_map.body_jvp
def _(dots: Sequence[Any], inputs: Sequence[Any], *, body: Any) -> tuple[Any, ...]:
    rows = []
    for i, xs in enumerate(_samples(inputs)):
        here = [d[i] if isinstance(d, list) else d for d in dots]
        rows.append(body.jvp(xs, here)[1])
    return _columns(rows, body)


@sequence_map.infer
def _(input_sequence, body):
    element_type(input_sequence)
    return tuple(SequenceType(v.type) for v in body.outputs)


@sequence_map.examples
def _(rng):
    kind = TensorType("float64", (None,))
    nodes = (Node("Mul", ("part", "other"), ("p",)), Node("Add", ("p", "v"), ("q",)), Node("Sin", ("q",), ("r",)))
    inputs = tuple(Value(n, kind) for n in ("part", "other", "v"))
    body = Graph("body", inputs=inputs, outputs=(Value("q", kind), Value("r", kind)), nodes=nodes)
    draw = rng.normal
    parts, others = [draw(size=2), draw(size=3)], [draw(size=2), draw(size=1)]
    yield (parts, others, draw(size=1)), {"body": body, "n_outputs": 2}
    yield ([], [], draw(size=1)), {"body": body, "n_outputs": 2}


OPS = (sequence_map,)
