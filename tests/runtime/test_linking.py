"""Steps that a linker makes one call of: what is linked, what it is given, and what is said when it stops."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.definitions import Kernel
from graphrt.errors import ExecutionError
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.op import Example
from graphrt.registry import Registry
from graphrt.runtime.observers import Recorder
from graphrt.runtime.session import Session
from graphrt.testing import KernelCheckError, check_kernel


class Calling:
    """A linker whose calls are those of the fills, but for where it is told to stop."""

    def __init__(self, stop=None):
        self.stop, self.linked, self.calls = stop, [], []

    def link(self, fills, places, moving):
        self.linked.append(len(fills))

        def call(kept, *arrays):
            self.calls.append((kept, [arrays[i] for i in moving]))
            kept.append(len(self.calls))
            for i, (fill, at) in enumerate(zip(fills, places, strict=True)):
                if i == self.stop:
                    return i
                fill(*(arrays[k] for k in at))
            return None

        return call


def elementwise(op_type, function, linker):
    def make(site):
        return site.into(lambda x, y: function(x, y), over={0: (0,)}, linker=linker)

    return Kernel(f"linked_{op_type}", op_type, make, priority=99)


def refuse(x, y):
    raise ValueError("not today")


def session_of(linker, *, exp=np.exp, observers=()):
    """sin(x) twice, exp, an op that is not linked, sqrt and abs."""
    b = GraphBuilder()
    x = b.Sin(b.Sin(b.input("x", "float64", ["n"])))
    b.output(b.Exp(x), "early")
    b.output(b.Abs(b.Sqrt(b.Sigmoid(x))), "late")
    kernels = [("Sin", np.sin), ("Exp", exp), ("Sqrt", np.sqrt), ("Abs", np.abs)]
    linked = [elementwise(name, f, linker) for name, f in kernels]
    registry = Registry.of(ops=get_registry().table("ops").values(), kernels=linked)
    return Session(b.build(), registry=registry, observers=observers)


def test_neighbors_are_linked():
    linker = Calling()
    session, x = session_of(linker), np.linspace(0, 1, 5)
    out = session.run({"x": x})
    np.testing.assert_array_equal(out["early"], np.exp(np.sin(np.sin(x))))
    assert linker.linked == [3, 2]
    assert len(session.last_plan.steps) == 6 and session.last_plan.describe().steps[0].kernel == "linked_Sin"


def test_what_moves_and_what_is_kept():
    linker = Calling()
    session = session_of(linker)
    for x in (np.zeros(4), np.ones(4)):
        session.run({"x": x})
    (kept, moved), _, (again, moved_again), _ = linker.calls
    assert kept is again and kept == [1, 3]
    assert [m.shape for m in moved] == [(4,), (4,)]  # the input, and the output that is the caller's
    assert all(a is not b for a, b in zip(moved, moved_again, strict=True))
    session.run({"x": np.zeros(7)})  # another plan
    assert linker.calls[-2][0] is not kept


def test_nothing_is_linked_where_every_node_is_watched():
    linker = Calling()
    session_of(linker, observers=[Recorder()]).run({"x": np.ones(3)})
    assert not linker.linked


def test_the_node_that_stops_says_why():
    with pytest.raises(ExecutionError, match=r"(?s)'early' \(Exp\) failed: not today.*> .*Exp"):
        session_of(Calling(stop=2), exp=refuse).run({"x": np.ones(3)})


def test_where_a_linker_stops_the_kernels_go_on_one_by_one():
    x = np.linspace(0, 1, 5)
    for stop in range(3):
        found, expected = (session_of(linker).run({"x": x}) for linker in (Calling(stop), None))
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


class Remembering:
    """A linker that takes no notice of new numbers."""

    def link(self, fills, places, moving):
        def call(kept, *arrays):
            if not kept:
                kept += [np.array(arrays[0])]
            fills[0](kept[0], *arrays[1:])

        return call


def test_the_check_catches_what_is_remembered():
    more = [Example((np.linspace(-1, 1, 6).reshape(2, 3),), {})]
    assert check_kernel(elementwise("Tanh", np.tanh, Calling()), more)
    with pytest.raises(KernelCheckError, match="linked, output 0 is another one"):
        check_kernel(elementwise("Tanh", np.tanh, Remembering()), more)
    with pytest.raises(KernelCheckError, match="linked, it stops"):
        check_kernel(elementwise("Tanh", np.tanh, Calling(stop=1)), more)
