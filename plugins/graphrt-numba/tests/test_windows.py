"""Depthwise convolution and pooling against their ops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from graphrt_numba import sharing, windows

from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    monkeypatch.setattr(fusion, "LEAST", 1)
    for name in ("SMALLEST", "FEWEST"):
        monkeypatch.setattr(windows, name, 1)


def examples(op_type):
    """Strides and paddings that meet the edges in all ways; dilations; windows that see padding only; ties."""
    rng = np.random.default_rng(4)
    for strides, left, size in itertools.product(((1, 1), (2, 2)), (0, 1, 2), ((7, 8), (6, 5))):
        a = {"kernel_shape": (3, 3), "strides": strides, "pads": (left, left, 1, 2 - left)}
        yield from _example(op_type, rng, size, a)
    for a in (
        {"kernel_shape": (3, 2), "dilations": (2, 3), "strides": (1, 2), "pads": (3, 1, 2, 3)},
        {"kernel_shape": (4, 4), "auto_pad": "SAME_UPPER", "strides": (2, 3)},
    ):
        yield from _example(op_type, rng, (9, 11), a)
    for size, step in itertools.product(((5, 40), (6, 16), (9, 35), (8, 8)), (1, 2)):  # whole vectors, and halves
        yield from _example(op_type, rng, size, {"kernel_shape": (3, 3), "strides": (step,) * 2, "pads": (1,) * 4})
    if "Pool" in op_type:
        yield from _example(op_type, rng, (8, 7), {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1})


def _example(op_type, rng, size, a):
    x = rng.integers(-4, 5, (2, 3, *size)) * 0.5
    if op_type.startswith("Conv"):
        yield Example((x, rng.normal(size=(3, 1, *a["kernel_shape"])), rng.normal(size=3)), {**a, "group": 3})
    elif op_type.startswith("MaxPool"):
        yield Example((x,), {**a, "n_outputs": 1})
    else:
        yield from (Example((x,), {**a, "count_include_pad": i}) for i in (0, 1))


@pytest.mark.parametrize("kernel", windows.KERNELS, ids=[k.name for k in windows.KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples(kernel.op_type)) > 12
