"""Convolutions of few weights against their ops."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import line_loops, lines, sharing

from graphrt.op import Example
from graphrt.ops._windows import window
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    for name in ("WIDE", "LEAST"):
        monkeypatch.setattr(lines, name, 1)
    monkeypatch.setattr(lines, "NUMBERS", 2000)  # several blocks


def examples():
    """Steps, paddings and dilations that meet the edges in all ways; outputs that read padding only; one line."""
    rng = np.random.default_rng(3)
    for x, w, a in (
        ((5, 1, 14, 13), (6, 1, 5, 5), {"pads": (2, 2, 2, 2)}),
        ((7, 3, 9, 8), (5, 3, 5, 5), {}),
        ((5, 3, 9, 10), (8, 3, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 1)}),
        ((4, 2, 11, 9), (3, 2, 4, 3), {"pads": (0, 2, 3, 1), "strides": (3, 1)}),
        ((3, 2, 12, 13), (5, 2, 3, 4), {"pads": (2, 1, 0, 3), "dilations": (2, 3), "strides": (3, 1)}),
        ((3, 4, 9, 12), (2, 4, 2, 3), {"dilations": (3, 2)}),
        ((3, 2, 6, 5), (4, 2, 2, 2), {"pads": (4, 3, 5, 3), "dilations": (3, 1), "strides": (2, 1)}),
        ((5, 2, 9, 9), (5, 2, 2, 2), {"pads": (0, 5, 0, 4)}),
        ((4, 2, 10, 9), (3, 2, 3, 2), {"dilations": (3, 1)}),
        ((4, 3, 7, 10), (4, 3, 3, 1), {"auto_pad": "SAME_UPPER"}),
        ((6, 3, 20), (4, 3, 5), {"pads": (3, 1), "dilations": (2,)}),
    ):
        yield Example((rng.normal(size=x), rng.normal(size=w), rng.normal(size=w[0])), a)
    yield Example((rng.normal(size=x), rng.normal(size=w)), {})


@pytest.mark.parametrize(("size", "stride", "dilation"), [(10, 1, 3), (11, 1, 4), (17, 3, 5), (9, 2, 1)])
def test_each_line_has_a_place_of_its_own(size, stride, dilation):
    win = window((size, 8), (3, 3), (stride, 1), (dilation, 1))
    high = lines.Lines(1, 1, 1, win).high
    assert sorted(line_loops.place.py_func(r, dilation, high) for r in range(high)) == list(range(high))


@pytest.mark.parametrize("kernel", lines.KERNELS, ids=[k.name for k in lines.KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples()) > 10
