"""LSTM and GRU against their ops."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import recurrent, sharing

from graphrt.op import Example
from graphrt.runtime import fusion
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
