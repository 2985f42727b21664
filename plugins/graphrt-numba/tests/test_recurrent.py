"""LSTM and GRU against their ops."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import recurrent, sharing

from graphrt.ir.builder import GraphBuilder
from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.runtime.session import Session
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    monkeypatch.setattr(fusion, "LEAST", 1)
    monkeypatch.setattr(recurrent, "TOGETHER", 1)


SIZES = [(5, 4, 3, 2), (3, 1, 2, 5), (9, 70, 3, 20), (2, 150, 1, 3), (40, 9, 5, 7)]
"""Steps, sequences, inputs, units: more sequences and more steps than go together, and fewer."""


def examples(op_type):
    """All directions, layouts, with and without biases, first states and a tape."""
    rng = np.random.default_rng(3)
    gates, states = {"GRU": (3, 1), "LSTM": (4, 2)}[op_type.partition(".")[0]]
    options = [("forward", 0, 1), ("reverse", 1, 0), ("bidirectional", 0, 1), ("bidirectional", 1, 0)]
    for t, n, i, h in SIZES:
        for direction, layout, full in options:
            d = 2 if direction == "bidirectional" else 1
            shapes = [(n, t, i) if layout else (t, n, i), (d, gates * h, i), (d, gates * h, h), (d, 2 * gates * h)]
            x, w, r, b = (rng.normal(size=s) for s in shapes)
            first = [rng.normal(size=(n, d, h) if layout else (d, n, h)) for _ in range(states)]
            inputs = (x, w, r, b, None, *first) if full else (x, w, r)
            for after in (0, 1) if gates == 3 else (None,):
                flag = {} if after is None else {"linear_before_reset": after}
                for tape in (0, 1):
                    yield Example(
                        inputs, {"direction": direction, "layout": layout, "n_outputs": 1 + states + tape, **flag}
                    )


@pytest.mark.parametrize("kernel", recurrent.KERNELS, ids=[k.name for k in recurrent.KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples(kernel.op_type)) > 0


@pytest.mark.parametrize("op_type", ["LSTM", "GRU"])
def test_products_of_few_sequences_are_shared_out_with_the_same_bits(op_type, monkeypatch):
    """Of one part, with two threads for each step's products and with one."""
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: 1)
    rng = np.random.default_rng(4)
    gates, (t, n, i, h) = {"GRU": 3, "LSTM": 4}[op_type], (4, 8, 130, 200)
    b = GraphBuilder(dtype="float32")
    x = b.parameter("x", rng.normal(size=(t, n, i)).astype("float32"))
    w = b.parameter("w", rng.normal(size=(1, gates * h, i)).astype("float32") / 20)
    r = b.parameter("r", rng.normal(size=(1, gates * h, h)).astype("float32") / 20)
    b.output(b.ReduceSumSquare(b.op(op_type, x, w, r, hidden_size=h, n_outputs=1), keepdims=0), "y")
    found = []
    for count in (1, 2):
        monkeypatch.setattr(recurrent, "threads_for", lambda nanoseconds, least, count=count: count)
        session = Session(b.build())
        value, gradients = session.value_and_grad()
        assert f"numba_{op_type.lower()}_cotangents" in [s.kernel.name for s in session.last_plan.steps if s.kernel]
        found.append([value, *gradients.values()])
    for one, other in zip(*found, strict=True):
        assert one.tobytes() == other.tobytes()
