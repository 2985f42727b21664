"""Pooling that halves images against its op."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import halving, halving_loops, sharing

from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    monkeypatch.setattr(fusion, "LEAST", 1)


def examples():
    """Lines and rows left over or not; more rows than go together; ties."""
    rng = np.random.default_rng(4)
    for shape in ((2, 3, 8, 6), (3, 2, 7, 9), (1, 1, 2, 2), (40, 5, 10, 12), (1, 2, 3, 2048)):
        x = rng.integers(-2, 3, shape) * 0.5
        yield Example((x,), {"kernel_shape": (2, 2), "strides": (2, 2), "n_outputs": 1})


def test_examples_take_several_rounds():
    assert 2 * halving_loops.MOST < 40 * 5 * 5 * 6


@pytest.mark.parametrize("kernel", halving.KERNELS, ids=[k.name for k in halving.KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples()) > 3
