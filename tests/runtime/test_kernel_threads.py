"""Kernels give the same whether one thread or several work on them, and however small their blocks are."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from graphrt.runtime.kernels import (
    _correlation_columns,
    _correlation_depthwise,
    _correlation_rows,
    _threads,
    convolution,
    normalization,
    pooling,
)
from graphrt.testing import check_kernel
from tests.runtime.image_examples import examples

KERNELS = (*convolution.KERNELS, *pooling.KERNELS, *normalization.KERNELS)


@pytest.fixture(params=[1, 3])
def workers(request):
    _threads.use_workers(request.param)
    yield
    _threads.use_workers(1)


@pytest.mark.parametrize("kernel", KERNELS, ids=[k.name for k in KERNELS])
def test_small_blocks(kernel, workers, monkeypatch):
    sizes = {"ROW": 40, "LIMIT": 900, "TARGET": 40, "CHUNK": 3000, "PIECE": 500, "BLOCK": 300}
    for module in (_correlation_rows, _correlation_columns, _correlation_depthwise, pooling, normalization):
        for name in sizes.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, sizes[name])
    assert check_kernel(kernel, examples(kernel.op_type, np.random.default_rng(3))) > 0


def test_threads_are_as_quiet_as_the_interpreter(workers):
    def work(_, found):
        return [np.float32(1) / x for x in found]

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = _threads.share(work, [(None, [np.zeros(1, np.float32)] * 5)])
    assert sum(map(len, parts)) == 5


def test_blocks_of_one_key_stay_together(workers):
    parts = _threads.share(lambda _, found: found, [(None, [0, 0, 0, 1, 1, 2, 2, 2, 2])], lambda block: block)
    assert [x for part in parts for x in part] == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert len({x for part in parts for x in set(part)}) == sum(len(set(part)) for part in parts)
