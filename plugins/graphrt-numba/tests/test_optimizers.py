"""Every optimizer kernel against its op."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import sharing
from graphrt_numba.optimizers import KERNELS

from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.testing import check_kernel


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


@pytest.mark.parametrize("kernel", KERNELS, ids=[k.name for k in KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples(kernel.op_type)) > 4
