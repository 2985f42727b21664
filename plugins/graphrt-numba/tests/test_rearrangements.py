"""Transposes and reshapes as one copy: the elements that the two give one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphrt as gr
from graphrt.runtime import fusion
from graphrt.runtime.observers import Recorder


@pytest.fixture(scope="module", autouse=True)
def _all_sizes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion, "LEAST", 1)
        yield


@st.composite
def cases(draw):
    shape = draw(st.lists(st.integers(1, 6), min_size=1, max_size=5))
    perm = draw(st.permutations(range(len(shape))))
    return tuple(shape), tuple(perm)


def graph_of(shape, perm):
    """x y with its axes moved, flat, times w; the transpose is read elsewhere too if there is an odd number of axes."""
    b = gr.GraphBuilder()
    product = b.Mul(b.input("x", "float32", list(shape)), b.parameter("y", np.full(shape, 2, "float32")))
    moved = b.Transpose(product, perm=perm)
    flat = b.Reshape(moved, np.array([-1, shape[perm[-1]]]))
    made = b.Mul(flat, b.parameter("w", np.linspace(1, 2, shape[perm[-1]]).astype("float32")))
    b.output(made, "made")
    if len(shape) % 2:
        b.output(b.Neg(moved), "other")
    b.output(b.ReduceSum(b.Mul(made, made), keepdims=0), "loss")
    return b.build()


@given(cases())
@settings(max_examples=40, deadline=None)
def test_a_rearrangement_gives_the_bits_of_its_members(case):
    shape, perm = case
    graph, x = graph_of(shape, perm), np.random.default_rng(0).normal(size=shape).astype("float32")
    fused, watched = gr.Session(graph), gr.Session(graph, observers=[Recorder()])
    for given_x in (x, -x, np.asfortranarray(x)):
        found, expected = fused.run({"x": given_x}), watched.run({"x": given_x})
        assert found["made"].tobytes() == expected["made"].tobytes()
        np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    np.testing.assert_array_equal(
        found["made"], x.transpose(perm).reshape(-1, shape[perm[-1]]) * 2 * graph.initializers["w"]
    )
    mine, theirs = (s.value_and_grad({"x": x}, of="loss", wrt=["y"])[1]["y"] for s in (fused, watched))
    np.testing.assert_allclose(mine, theirs, rtol=1e-5)
    kernels = [s.kernel for s in fused.plan({"x": x}).describe().steps]
    assert ("numba_rearrangement" in kernels) == (len(shape) == 4 and perm != (0, 1, 2, 3))
