"""Normalizations, softmax, cross entropy and sums of squares against their ops."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import batch_normalization, normalization, reductions, sharing, softmax

from graphrt.definitions import KernelSite
from graphrt.ir import Node
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.runtime.session import Session
from graphrt.testing import check_kernel
from graphrt.types import TensorType

KERNELS = (*normalization.KERNELS, *softmax.KERNELS, *batch_normalization.KERNELS, *reductions.KERNELS)


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    monkeypatch.setattr(fusion, "LEAST", 1)
    monkeypatch.setattr(softmax, "SHORTEST", 1)
    monkeypatch.setattr(batch_normalization, "SHORTEST", 1)


def examples(op_type):
    """Rows shorter and longer than the loops' blocks; large scores; classes side by side and one after the other."""
    rng = np.random.default_rng(2)
    draw = rng.normal
    base = op_type.partition(".")[0]
    if base in ("LayerNormalization", "RMSNormalization"):
        for shape, axis in (((3, 4, 37), -1), ((2, 600), 1), ((2, 3, 5), 1)):
            x, scale, b = draw(size=shape) * 2 + 1, draw(size=shape[axis:]), draw(size=shape[axis:])
            yield Example((x, scale), {"axis": axis, "epsilon": 1e-3, "n_outputs": 1})
            if base == "LayerNormalization":
                yield Example((x, scale, b), {"axis": axis, "n_outputs": 3})
                yield Example((x, scale, b), {"axis": axis, "n_outputs": 1})
    elif base in ("Softmax", "LogSoftmax"):
        for shape in ((3, 7), (2, 3, 64), (5, 1000), (1, 130)):
            yield Example((draw(size=shape) * 3,), {})
            yield Example((draw(size=shape) * 100 + 300,), {})
    elif base == "SoftmaxCrossEntropyLoss":
        for shape in ((5, 7), (3, 600), (2, 3, 700), (2, 11, 4, 5)):
            labels = rng.integers(0, shape[1], (shape[0], *shape[2:]))
            for reduction in ("mean", "sum"):
                for kind in (np.int64, np.int32):
                    yield Example(
                        (draw(size=shape) * 40, labels.astype(kind)), {"reduction": reduction, "n_outputs": 1}
                    )
    elif base in ("Add", "Sub"):
        for shape, other in (((3, 4, 37), (37,)), ((20, 600), (1, 600)), ((2, 3, 5), (3, 5)), ((700, 2), ())):
            yield Example((draw(size=shape), draw(size=other)), {})
            yield Example((draw(size=other), draw(size=shape)), {})
    elif base == "Gemm":
        for c in ((70,), (1, 70), (33, 70), (33, 1)):
            yield Example((draw(size=(33, 9)), draw(size=(9, 70)), draw(size=c)), {})
    elif base in ("ReduceSum", "ReduceMean"):
        together = ((3, 40, 37), (1,)), ((20, 600), (-1,)), ((2, 3, 4, 5), (2, 3)), ((700, 2), (0, 1)), ((5, 5), (0,))
        apart = ((2, 3, 3), (0, 2)), ((4, 6, 6, 6), (0, 2, 3)), ((4, 1, 6), (0, 2)), ((4, 5, 6), (0, 2))
        for shape, axes in (*together, *apart):
            for keepdims in (0, 1):
                yield Example((draw(size=shape), np.array(axes)), {"keepdims": keepdims})
    elif base == "SumOfSquares":
        yield Example(tuple(draw(size=shape) for shape in ((), (7,), (3, 100_003), (2, 3, 700))), {})
        yield Example((draw(size=(4, 900)).T,), {})
    else:
        for shape in ((4, 3, 5, 6), (2, 3, 600), (1, 2, 4, 4)):
            c = shape[1]
            parameters = draw(size=c), draw(size=c), draw(size=c), rng.uniform(0.5, 2, c)
            for mode in ({"training_mode": 1}, {"training_mode": 0, "n_outputs": 1}, {"n_outputs": 5}, {"is_test": 1}):
                yield Example((draw(size=shape) * 2 + 1, *parameters), {"momentum": 0.7, **mode})


@pytest.mark.parametrize("kernel", KERNELS, ids=[k.name for k in KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples(kernel.op_type)) > 0


def made(kernel, op_type, types, outputs, **attributes):
    op = get_registry().find_op(op_type, "", 24)
    return kernel.make(KernelSite(Node(op_type), op.bind(types), {**op.defaults(), **attributes}, outputs))


def test_batch_statistics_of_a_distant_mean_keep_their_digits():
    x = (np.random.default_rng(0).normal(size=(8, 2, 32)) + 1000).astype(np.float32)
    kernel = batch_normalization.batch_normalization
    vector, t = TensorType("float32", (2,)), TensorType.of(x)
    into = made(kernel, "BatchNormalization", [t, *[vector] * 4], (t, vector, vector), training_mode=1, momentum=0.0)
    ones, zeros = np.ones(2, np.float32), np.zeros(2, np.float32)
    y, mean, var, batch = np.empty_like(x), zeros.copy(), zeros.copy(), np.empty((2, 2))
    into.fill(x, ones, zeros, zeros, ones, y, mean, var, batch)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(var, wide.var(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(mean, wide.mean(axis=(0, 2)), rtol=1e-7)


def test_a_row_of_large_scores_is_shifted():
    x = np.array([[1e4, 0, -1e4, 9.99e3] * 20], np.float32)
    into = made(softmax.KERNELS[0], "Softmax", [TensorType.of(x)], (TensorType.of(x),))
    y = np.empty_like(x)
    into.fill(x, y)
    assert y.sum() == pytest.approx(1) and y[0, 0] == pytest.approx(0.05, rel=1e-3) and y[0, 1] == 0


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_out_of_range_are_told(label):
    b = GraphBuilder("test")
    scores, labels = b.input("scores", "float32", [2, 3]), b.input("labels", "int64", [2])
    b.output(b.SoftmaxCrossEntropyLoss(scores, labels), "loss")
    with pytest.raises(Exception, match=r"labels go from .* there are 3 classes"):
        Session(b.build()).run({"scores": np.zeros((2, 3), np.float32), "labels": np.array([0, label])})


@pytest.mark.parametrize("columns", [1, 2, 700])
def test_long_sums_are_accurate(columns):
    """To a few units in the last place: one sum after the other would be off by a percent and more."""
    n = 2**20 // columns
    b = GraphBuilder()
    x = b.Add(b.input("x", "float32", [n, columns]), b.parameter("c", np.zeros(columns, "float32")))
    b.output(b.ReduceSum(x, np.array([0]), keepdims=0), "down")
    b.output(b.ReduceSum(x, keepdims=0), "total")
    b.output(b.ReduceSum(b.Mul(x, x), keepdims=0), "loss")
    session, data = Session(b.build()), {"x": np.full((n, columns), 0.1, "float32")}
    out = session.run(data)
    np.testing.assert_allclose(out["down"], n * 0.1, rtol=3e-6)
    np.testing.assert_allclose(out["total"], n * columns * 0.1, rtol=3e-6)
    np.testing.assert_allclose(session.value_and_grad(data, of="loss", wrt=["c"])[1]["c"], n * 0.2, rtol=3e-6)
