"""Convolutions by tiles of places and filters against their ops."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import patches

from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True, params=[1, 2], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(patches, "threads_for", lambda nanoseconds, least: request.param)
    monkeypatch.setattr(fusion, "LEAST", 1)
    for name in ("FEWEST", "SMALLEST", "SHORTEST"):
        monkeypatch.setattr(patches, name, 1)
    monkeypatch.setattr(patches, "BLOCK", 600)  # several blocks of tiles


def examples():
    """Channels, places and filters that are left over or not; images within a tile; all kinds of windows."""
    rng = np.random.default_rng(5)
    for x, w, attributes in (
        ((2, 3, 13, 12), (33, 3, 5, 5), {"strides": (2, 2), "pads": (2, 2, 2, 2)}),
        ((3, 16, 8, 8), (20, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
        ((2, 9, 7, 7), (64, 9, 3, 3), {"pads": (1, 0, 2, 1)}),
        ((5, 8, 2, 2), (40, 8, 3, 3), {"pads": (1, 1, 1, 1)}),
        ((2, 8, 11, 9), (8, 8, 2, 3), {"strides": (3, 1), "dilations": (2, 2), "pads": (3, 4, 5, 0)}),
        ((2, 12, 9, 10), (40, 6, 3, 2), {"group": 2, "strides": (1, 3), "pads": (0, 1, 1, 0)}),
        ((2, 18, 6, 5), (12, 3, 3, 3), {"group": 6, "pads": (1, 1, 1, 1)}),
        ((2, 8, 9, 8), (17, 8, 1, 1), {"strides": (2, 2)}),
        ((2, 8, 4, 4), (9, 8, 1, 1), {}),
        ((1, 24, 8, 24), (70, 24, 1, 1), {}),
        ((2, 7, 3, 5), (9, 7, 1, 1), {"pads": (1, 1, 0, 0)}),
        ((2, 5, 30), (10, 5, 4), {"strides": (2,), "pads": (1, 3)}),
        ((2, 4, 6, 6), (3, 4, 3, 3), {"strides": (5, 4), "pads": (7, 0, 0, 6)}),
    ):
        given = rng.normal(size=x), rng.normal(size=w), rng.normal(size=w[0])
        yield Example(given, attributes)
    yield Example(given[:2], {"auto_pad": "SAME_UPPER", "strides": (2, 2)})


@pytest.mark.parametrize("kernel", patches.KERNELS, ids=[k.name for k in patches.KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples()) > 12
