"""Scan of opset 8 against the same recurrence written out in NumPy, values and derivatives."""

import numpy as np
import pytest

from graphrt.errors import ExecutionError
from graphrt.ir.builder import GraphBuilder
from graphrt.runtime.session import Session

F = "float64"


def graph(directions=(0,)):
    """h <- tanh(h + w row), every h squared as a scan output; f = sum of all outputs times weights."""
    inner = GraphBuilder("body", dtype=F, opset=8)
    h, row = inner.input("h", F, [2]), inner.input("row", F, [2])
    new = inner.Tanh(h + row * inner.value("w"))
    inner.output(new, "h_out")
    inner.output(new * new, "square")
    b = GraphBuilder(dtype=F, opset=8)
    lens, start, x = b.input("lens", "int64", [3]), b.input("start", F, [3, 2]), b.input("x", F, [3, 4, 2])
    b.parameter("w", np.array(0.7))
    last, ys = b.op(
        "Scan", lens, start, x, outputs=["last", "ys"], body=inner.build(), num_scan_inputs=1, directions=directions
    )
    b.output(last, "last")
    b.output(ys, "ys")
    b.output(b.ReduceSum(ys, keepdims=0) + b.ReduceSum(last, keepdims=0), "f")
    return b.build()


def by_hand(lens, start, x, w=0.7, backward=False):
    last, ys = start.copy(), np.zeros(x.shape)
    for b, n in enumerate(lens):
        for t in range(n):
            row = x[b, n - 1 - t] if backward else x[b, t]
            last[b] = np.tanh(last[b] + row * w)
            ys[b, t] = last[b] ** 2
    return last, ys


@pytest.mark.parametrize("backward", [False, True])
def test_each_example_runs_for_its_own_length(backward):
    rng = np.random.default_rng(0)
    session = Session(graph((int(backward),)))
    at = {"lens": np.array([4, 0, 2]), "start": rng.normal(size=(3, 2)), "x": rng.normal(size=(3, 4, 2))}
    out = session.run(at)
    last, ys = by_hand(**at, backward=backward)
    np.testing.assert_allclose(out["last"], last, rtol=1e-12)
    np.testing.assert_allclose(out["ys"], ys, rtol=1e-12)

    def f(start, x, w):
        last, ys = by_hand(at["lens"], start, x, w, backward)
        return last.sum() + ys.sum()

    _, gradient = session.value_and_grad(at, of="f", wrt=["start", "x", "w"])
    point = {"start": at["start"], "x": at["x"], "w": np.array(0.7)}
    for name, value in point.items():
        d = rng.normal(size=value.shape)
        up, down = (f(**{**point, name: value + h * d}) for h in (1e-6, -1e-6))
        assert np.sum(gradient[name] * d) == pytest.approx((up - down) / 2e-6, rel=1e-6)
        if name != "w":
            assert session.jvp(at, {name: d})[1]["f"] == pytest.approx((up - down) / 2e-6, rel=1e-6)


def test_lengths_must_fit():
    at = {"lens": np.array([4, 5, 2]), "start": np.zeros((3, 2)), "x": np.zeros((3, 4, 2))}
    with pytest.raises(ExecutionError, match="should be 3 numbers from 0 to 4"):
        Session(graph()).run(at)
