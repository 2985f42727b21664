"""Scan as it was in opset 8: for each example of a batch on its own, with sequences of different lengths."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.ir import Graph, Node, Value
from graphrt.op import Array, Function, op
from graphrt.ops._axes import zeros
from graphrt.ops.control import scan
from graphrt.types import TensorType


@op("Scan", version=8, outputs="*outputs", nondiff="sequence_lens")
def scan_8(
    sequence_lens: Array = None,
    *initial_state_and_scan_inputs: Array,
    body: Graph,
    num_scan_inputs: int,
    directions: tuple[int, ...] | None = None,
) -> tuple[Any, ...]:
    """Runs Scan of opset 9 for each example: batches on axis 0, slices along axis 1.

    sequence_lens: int64 [B], steps of each example (None: all, L); then the initial states [B, ...] and
    ``num_scan_inputs`` arrays [B, L, ...] -> the last states [B, ...], and the scan outputs [B, L, ...], zero beyond
    an example's length. directions: 1 for each scan input that is read backward, from the example's own end.
    Derivative: through every step that ran. (ONNX operator spec, version 8)
    """
    batch = _Batch(sequence_lens, initial_state_and_scan_inputs, num_scan_inputs)
    arguments = {"body": body, "num_scan_inputs": num_scan_inputs, "scan_input_directions": directions}
    results = [scan.function(*xs, **arguments) for xs in batch.split(initial_state_and_scan_inputs, batch.n_state)]
    return batch.join(results, batch.n_state)


class _Batch:
    """How many examples there are and how long each is."""

    def __init__(self, sequence_lens: Array | None, arrays: Sequence[Array], num_scan_inputs: int):
        self.n_state = len(arrays) - num_scan_inputs
        size, self.length = arrays[-1].shape[:2]
        if not size:
            raise ValueError("Scan of opset 8 needs at least one example: without one, its body tells no shapes")
        self.lengths = [self.length] * size if sequence_lens is None else sequence_lens.tolist()
        if len(self.lengths) != size or not all(0 <= n <= self.length for n in self.lengths):
            raise ValueError(f"sequence_lens {self.lengths} should be {size} numbers from 0 to {self.length}")

    def split(self, arrays: Sequence[Array | None], n_state: int) -> Iterator[tuple[Array | None, ...]]:
        """Each example's arrays: the first ``n_state`` as they are, the others cut to the example's length."""
        for b, n in enumerate(self.lengths):
            yield tuple(x if x is None else x[b] if i < n_state else x[b, :n] for i, x in enumerate(arrays))

    def join(self, results: Sequence[Sequence[Array | None]], n_state: int) -> tuple[Array | None, ...]:
        """The inverse of `split`, with zeros beyond an example's length; None where every example has None."""
        columns = [[r[i] for r in results] for i in range(len(results[0]))]
        return tuple(self._stack(c, sequence=i >= n_state) for i, c in enumerate(columns))

    def _stack(self, parts: Sequence[Array | None], sequence: bool) -> Array | None:
        known = [p for p in parts if p is not None]
        if not known:
            return None
        rest = known[0].shape[1:] if sequence else known[0].shape
        whole = zeros((len(parts), *((self.length,) if sequence else ()), *rest), *known)
        for b, p in enumerate(parts):
            if p is not None:
                whole[(b, slice(len(p))) if sequence else b] = p
        return whole


def _rule(declared: Function | None) -> Function:
    if declared is None:
        raise TypeError("Scan of opset 9 has rules for its subgraph")
    return declared


@scan_8.body_vjp
def _(
    cts: Sequence[Array], inputs: Sequence[Any], *, body: Any, num_scan_inputs: int, directions: Any = None
) -> tuple[Any, ...]:
    lengths, *arrays = inputs
    batch, back = _Batch(lengths, arrays, num_scan_inputs), _rule(scan.body_vjp_rule)
    arguments = {"body": body, "num_scan_inputs": num_scan_inputs, "scan_input_directions": directions}
    examples = zip(batch.split(cts, batch.n_state), batch.split(arrays, batch.n_state), strict=True)
    return None, *batch.join([back(ct, xs, **arguments) for ct, xs in examples], batch.n_state)


@scan_8.body_jvp
def _(
    dots: Sequence[Array], inputs: Sequence[Any], *, body: Any, num_scan_inputs: int, directions: Any = None
) -> tuple[Any, ...]:
    lengths, *arrays = inputs
    batch, push = _Batch(lengths, arrays, num_scan_inputs), _rule(scan.body_jvp_rule)
    arguments = {"body": body, "num_scan_inputs": num_scan_inputs, "scan_input_directions": directions}
    examples = zip(batch.split(dots[1:], batch.n_state), batch.split(arrays, batch.n_state), strict=True)
    return batch.join([push(d, xs, **arguments) for d, xs in examples], batch.n_state)


@scan_8.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    inputs = tuple(Value(n, TensorType("float64", (None,))) for n in ("state", "row"))
    nodes = (
        Node("Mul", ("state", "row"), ("p",)),
        Node("Sin", ("p",), ("next",)),
        Node("Mul", ("p", "a"), ("out",)),
    )
    body = Graph("body", inputs=inputs, outputs=(Value("next"), Value("out")), nodes=nodes)
    common = {"body": body, "num_scan_inputs": 1, "n_outputs": 2, "outer": {"a": rng.normal(size=2)}}
    state, rows = rng.normal(size=(3, 2)), rng.normal(size=(3, 4, 2))
    yield (None, state, rows), common
    yield (np.array([4, 0, 2]), state, rows), common
    yield (np.array([3, 1, 4]), state, rows), {**common, "directions": (1,)}


OPS = (scan_8,)
