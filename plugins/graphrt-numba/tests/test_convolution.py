"""Convolutions in tiles against their ops, and their accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import convolution, sharing

from graphrt.ir.builder import GraphBuilder
from graphrt.op import Example
from graphrt.runtime.session import Session
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    for name in ("MANY", "FEWEST"):
        monkeypatch.setattr(convolution, name, 1)
    monkeypatch.setattr(convolution, "BLOCK", 12)  # several blocks, and images cut in two


def examples():
    """Edges inside a tile and at its end; every padding that tiles serve; images in one block, and larger than one."""
    rng = np.random.default_rng(3)
    for size, pads in (
        ((9, 10), (1, 1, 1, 1)), ((8, 8), (1, 1, 1, 1)), ((5, 3), (0, 0, 0, 0)), ((4, 21), (2, 2, 2, 2)),
        ((17, 6), (2, 0, 1, 3)), ((6, 61), (1, 1, 0, 0)),
    ):  # fmt: skip
        x, w, b = rng.normal(size=(3, 2, *size)), rng.normal(size=(4, 2, 3, 3)), rng.normal(size=4)
        yield Example((x, w, b), {"pads": pads, "kernel_shape": (3, 3)})
    yield Example((x[:1], w), {"auto_pad": "SAME_UPPER"})


@pytest.mark.parametrize("kernel", convolution.KERNELS, ids=[k.name for k in convolution.KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples()) > 5


def test_errors_are_small():
    rng = np.random.default_rng(0)
    x, w = (rng.normal(size=s).astype(np.float32) for s in ((2, 64, 12, 12), (16, 64, 3, 3)))
    b = GraphBuilder("test")
    b.output(b.Conv(b.input("x", "float32", list(x.shape)), b.parameter("w", w), pads=[1, 1, 1, 1]), "y")
    session = Session(b.build())
    assert [s.kernel.name for s in session.plan({"x": x}).steps] == ["numba_convolution"]
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    exact = np.einsum("nchwij,mcij->nmhw", windows, w.astype(np.float64))
    error = session.run({"x": x})["y"] - exact
    assert np.sqrt(np.mean(error**2)) < 1e-6 * exact.std()


def test_weights_that_change_are_seen():
    """What is made of the weights is kept between runs while they are the same."""
    rng = np.random.default_rng(0)
    b = GraphBuilder("test")
    w = b.parameter("w", rng.normal(size=(2, 2, 3, 3)).astype(np.float32))
    b.output(b.Conv(b.input("x", "float32", [1, 2, 8, 8]), w, pads=[1, 1, 1, 1]), "y")
    session = Session(b.build())
    x = rng.normal(size=(1, 2, 8, 8)).astype(np.float32)
    first = [session.run({"x": x})["y"] for _ in range(3)]
    assert all(np.array_equal(first[0], y) for y in first)
    session.parameters["w"] = 2 * session.parameters["w"]
    assert np.array_equal(session.run({"x": x})["y"], 2 * first[0])
