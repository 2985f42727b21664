"""Every optimizer kernel against its op."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import sharing
from graphrt_numba.optimizers import adam, adamw, sgd

from graphrt import optim
from graphrt.ir.builder import GraphBuilder
from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.runtime.observers import Recorder
from graphrt.testing import check_kernel
from graphrt.train import Trainer


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    monkeypatch.setattr(fusion, "LEAST", 1)


def examples(op_type):
    rng = np.random.default_rng(1)
    settings = ({"momentum": 0.9}, {"momentum": 0.9, "nesterov": 1}, {"momentum": 0.9, "dampening": 0.3}, {})
    for setting in settings if op_type == "SGD" else ({}, {"epsilon": 0.0}):
        for step in (1, 3):
            w, g, *state = (np.abs(rng.normal(size=(30, 21))) for _ in range(3 if op_type == "SGD" else 4))
            state = state if setting or op_type != "SGD" else [None]
            yield Example((w, g, np.asarray(0.01), np.asarray(step), *state), {"weight_decay": 0.1, **setting})


@pytest.mark.parametrize("kernel", (sgd, adam, adamw), ids=lambda k: k.name)
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples(kernel.op_type)) > 4


@pytest.mark.parametrize(
    "optimizer",
    [optim.SGD(0.1, momentum=0.9, weight_decay=0.1), optim.Adam(0.01), optim.AdamW(0.01)],
    ids=["SGD", "Adam", "AdamW"],
)
def test_small_parameters_as_one(optimizer):
    """The bits are those of one by one, as a step that is observed updates them."""
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(9, 4)).astype("float32"), "label": np.arange(9) % 4}
    weights = []
    for observers in ((), [Recorder()]):
        b = GraphBuilder(dtype="float32")
        h = b.input("x", "float32", ["n", 4])
        for i in range(4):
            w = b.parameter(f"w{i}", np.random.default_rng(i).normal(size=(4, 4)).astype("float32"))
            h = b.Tanh(b.Gemm(h, w, b.parameter(f"b{i}", np.zeros(4, "float32"))))
        b.output(h, "scores")
        trainer = Trainer(b.build(), "softmax_cross_entropy", optimizer, observers=observers)
        for _ in range(4):
            trainer.step(batch)
        kernels = [s.kernel.name for s in trainer.plan(batch).steps if s.kernel is not None]
        assert ("numba_updates" in kernels) == (not observers)
        weights.append(trainer.weights())
    for name, a in weights[0].items():
        assert a.tobytes() == weights[1][name].tobytes(), name
