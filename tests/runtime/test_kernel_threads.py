"""Kernels give the same on one thread and on several, and however small their blocks are."""

from __future__ import annotations

import os
import threading
import warnings

import numpy as np
import pytest

from graphrt.ops._windows import window
from graphrt.runtime import threads as sharing
from graphrt.runtime.blas import thread_functions
from graphrt.runtime.kernels import (
    _correlation_bands,
    _correlation_columns,
    _correlation_depthwise,
    _correlation_lines,
    _correlation_patches,
    _correlation_points,
    _correlation_tiles,
    _tile_points,
    conv_transpose,
    convolution,
    normalization,
    pooling,
)
from graphrt.runtime.kernels._correlation import Correlation
from graphrt.testing import check_kernel
from tests.runtime.image_examples import examples

KERNELS = (*convolution.KERNELS, *conv_transpose.KERNELS, *pooling.KERNELS, *normalization.KERNELS)
MODULES = (
    _correlation_bands, _correlation_columns, _correlation_depthwise, _correlation_lines, _correlation_patches,
    _correlation_points, _correlation_tiles, _tile_points, normalization, pooling,
)  # fmt: skip
SMALL = {
    "AREA": 900, "AREA_SHARED": 900, "LEAST": 9, "CHUNK": 3000, "CHUNK_BACK": 3000, "ROW": 40, "LIMIT": 900,
    "PIECE": 500, "BLOCK": 300, "STEP": 4, "PLACES": 4, "BAND": 3, "WHOLE": 100, "MANY": 3, "KERNELS": 40,
    "NUMBERS": 3000, "WIDE": 25, "SHORT": 5,
}  # fmt: skip


def use_threads(monkeypatch, count):
    """As many threads as that, and worth it for the least work."""
    monkeypatch.setattr(sharing._blas, "most", lambda: count)
    monkeypatch.setattr(sharing, "LEAST", 1e-3)


@pytest.fixture(params=[1, 3])
def threads(request, monkeypatch):
    use_threads(monkeypatch, request.param)
    return request.param


@pytest.mark.parametrize("kernel", KERNELS, ids=[k.name for k in KERNELS])
def test_small_blocks(kernel, threads, monkeypatch):
    for module in (*MODULES, convolution):
        for name in SMALL.keys() & vars(module).keys():
            monkeypatch.setattr(module, name, SMALL[name])
    assert check_kernel(kernel, examples(kernel.op_type, np.random.default_rng(3))) > 0


def computed(routine, dtype, shape, *operands):
    """What a routine makes of operands, in memory full of other things."""
    result, *scratch = (np.full(s, np.nan, dtype) for s in (shape, *routine.scratch))
    routine.fill(*operands, result, *scratch)
    return result


@pytest.mark.parametrize("module", [_correlation_tiles, _correlation_columns, _correlation_lines])
def test_which_threads_do_the_parts_does_not_matter(module, monkeypatch):
    use_threads(monkeypatch, 3)
    rng = np.random.default_rng(4)
    c = Correlation(7, 16, 16, 1, window((9, 8), (3, 3)), np.dtype(np.float32))
    ct, x = (rng.normal(size=s).astype(c.dtype) for s in (c.y_shape, c.x_shape))
    routine = module.w_adjoint(c)
    assert routine.scratch[0][0] == 3
    together = computed(routine, c.dtype, c.w_shape, ct, x, None)
    with sharing.limit_threads(1):
        alone = computed(routine, c.dtype, c.w_shape, ct, x, None)
    np.testing.assert_array_equal(together, alone)


def test_parts_are_done_in_order_of_the_parts(threads):
    assert sharing.share(lambda i, part: (i, part), "abcde") == list(enumerate("abcde"))
    assert sharing.share(lambda i, part: part, []) == []


def test_parts_run_at_the_same_time(monkeypatch):
    use_threads(monkeypatch, 3)
    meeting = threading.Barrier(3, timeout=60)
    sharing.share(lambda i, part: meeting.wait(), range(3))


def test_within_a_part_others_run_one_after_the_other(threads):
    def work(i, part):
        return sharing.share(lambda j, inner: (part, inner), range(3))

    assert sharing.share(work, range(3)) == [[(i, j) for j in range(3)] for i in range(3)]


def test_several_callers_at_a_time(monkeypatch):
    use_threads(monkeypatch, 3)
    results = {}

    def call(name):
        results[name] = [sharing.share(lambda i, part: part * name, range(4)) for _ in range(50)]

    callers = [threading.Thread(target=call, args=(name,)) for name in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == {name: [[name * i for i in range(4)]] * 50 for name in range(4)}


@pytest.mark.parametrize("failing", range(3))
def test_what_a_part_raises_is_raised_when_all_have_ended(failing, monkeypatch):
    use_threads(monkeypatch, 3)
    ended = []

    def work(i, part):
        if part == failing:
            raise ValueError(f"part {part}")
        ended.append(part)

    with pytest.raises(ValueError, match=f"part {failing}"):
        sharing.share(work, range(3))
    assert sorted([*ended, failing]) == [0, 1, 2]
    assert sharing.share(lambda i, part: part, range(3)) == [0, 1, 2]


def test_threads_are_as_quiet_as_the_interpreter(threads):
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        parts = sharing.share(lambda i, x: np.float32(1) / x, np.zeros(5, np.float32))
    assert np.isinf(parts).all()


def test_the_blas_has_one_thread_while_parts_run_and_as_many_as_before_afterwards():
    get, _ = thread_functions()
    before = get()
    assert sharing.share(lambda i, part: get(), range(2)) == [1, 1]
    with sharing.limit_threads(1):
        assert get() == sharing.thread_count() == 1
        with sharing.limit_threads(5):
            assert sharing.thread_count() == 1
    assert get() == before == sharing.thread_count()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_process_has_workers_of_its_own(monkeypatch):
    use_threads(monkeypatch, 3)
    sharing.share(lambda i, part: part, range(3))
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # there are threads, as is meant
        child = os.fork()
    if child == 0:
        os.write(writer, bytes(sharing.share(lambda i, part: part, range(3))))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 3) == bytes(range(3))


def test_divided_items_are_all_there_in_order_and_about_equally_many(threads):
    for count in range(12):
        runs = sharing.divide(range(count))
        assert [x for run in runs for x in run] == list(range(count))
        assert all(runs) and len(runs) == min(threads, count)
        assert not runs or max(map(len, runs)) - min(map(len, runs)) <= 1


def test_items_of_one_key_stay_together(threads):
    runs = sharing.divide([0, 0, 0, 1, 1, 2, 2, 2, 2], key=lambda item: item)
    assert [x for run in runs for x in run] == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert sum(len(set(run)) for run in runs) == 3
    assert len(runs) == threads


@pytest.mark.parametrize("shapes", [((70, 80), (80, 90)), ((90, 80), (80, 70)), ((65, 66), (66, 67)), ((3, 4), (4, 5))])
def test_a_shared_product(shapes, threads):
    a, b = (np.random.default_rng(5).normal(size=s) for s in shapes)
    for left, right in ((a, b), (np.asfortranarray(a), np.asfortranarray(b))):
        out = np.full((a.shape[0], b.shape[1]), np.nan)
        sharing.matmul(left, right, out)
        np.testing.assert_allclose(out, np.einsum("ij,jk->ik", a, b), rtol=1e-12, atol=1e-12)
