"""Arrays in one piece of memory, and what is prepared on them."""

from __future__ import annotations

import gc
import weakref

import numpy as np

from graphrt.definitions import Kernel
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.registry import Registry
from graphrt.runtime.kernels._scratch import ALIGN, Bound, carve, room
from graphrt.runtime.session import Session


def test_carved_arrays_lie_side_by_side_at_aligned_places():
    shapes = (2, 3), (), (5, 0), (ALIGN + 1,), (4,)
    memory = np.zeros(room(*shapes))
    arrays = list(carve(memory, *shapes))
    assert [a.shape for a in arrays] == list(shapes)
    for i, a in enumerate(arrays):
        a[...] = i + 1
        assert a.flags.c_contiguous
        assert not a.size or (a.ctypes.data - memory.ctypes.data) % (ALIGN * memory.itemsize) == 0
    assert [(memory == i + 1).sum() for i in range(len(shapes))] == [6, 1, 0, ALIGN + 1, 4]


def test_what_is_bound_to_arrays_is_made_once_while_they_come():
    calls = []

    def make(*arrays):
        calls.append(len(arrays))
        return [a[1:] for a in arrays]

    bound, x, y = Bound(make), np.zeros(3), np.zeros(3)
    assert bound(x, y) is bound(x, y)
    assert np.shares_memory(bound(x, y)[1], y)
    assert calls == [2]
    assert bound(y, x) is not bound(x) and calls == [2, 2, 1]


def test_what_is_bound_goes_with_the_arrays():
    bound = Bound(lambda x: x[1:])
    memory = np.zeros(9)
    gone = weakref.ref(memory)
    x = memory[:5]
    bound(x)
    del x, memory
    gc.collect()
    assert gone() is None


def test_scratch_without_elements_is_an_array_too():
    seen = []

    def fill(x, y, scratch):
        seen.append((scratch.shape, scratch.dtype))
        np.negative(x, y)

    empty = Kernel("empty", "Neg", lambda site: site.into(fill, scratch=[((0, 3), "float32")]))
    b = GraphBuilder("negative")
    b.output(b.Neg(b.input("x", "float32", [4])), "y")
    registry = Registry.of(ops=get_registry().table("ops").values(), kernels=[empty])
    assert Session(b.build(), registry=registry).run({"x": np.ones(4, "float32")})["y"].tolist() == [-1] * 4
    assert seen == [((0, 3), np.float32)]
