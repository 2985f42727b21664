"""Matrix products, against NumPy's in double precision."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from graphrt_numba import product_loops, products
from graphrt_numba.compiler import njit
from hypothesis import given, settings
from hypothesis import strategies as st

import graphrt as gr
from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.testing import check_kernel

SIZES = st.one_of(st.integers(1, 20), st.sampled_from([31, 32, 33, 48, 63, 100, 160, 257]))


@pytest.fixture(scope="module")
def multiply():
    @njit(nogil=True)
    def multiply(
        product, rows, columns, depth, a, a_at, a_row, a_column, b, b_at, b_row, b_column, c, c_at, c_row, add
    ):
        left, right = (a, a_at, a_row, a_column), (b, b_at, b_row, b_column)
        product_loops.multiply(product, rows, columns, depth, *left, *right, c, c_at, c_row, add)

    return partial(multiply, product_loops.product())


def laid_out(matrix, order, gap, at):
    """A matrix in a flat array of other numbers; where it begins, how far its rows and columns are apart; a view."""
    turned = matrix.T if order == "F" else matrix
    step = 2 if order == "sparse" else 1
    row = turned.shape[1] * step + gap
    flat = np.full(at + turned.shape[0] * row, np.nan, np.float32)
    view = np.lib.stride_tricks.as_strided(flat[at:], turned.shape, (row * 4, step * 4))
    view[...] = turned
    return flat, at, *((step, row) if order == "F" else (row, step)), view.T if order == "F" else view


@settings(max_examples=150, deadline=None)
@given(
    rows=SIZES, columns=SIZES, depth=st.one_of(SIZES, st.sampled_from([512, 700])),
    orders=st.tuples(*[st.sampled_from(["C", "F", "sparse"])] * 2),
    gap=st.integers(0, 3), at=st.integers(0, 5), add=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_product_is_that_of_numpy(multiply, rows, columns, depth, orders, gap, at, add, seed):
    rng = np.random.default_rng(seed)
    left, right = (rng.normal(size=s).astype(np.float32) for s in ((rows, depth), (depth, columns)))
    (a, *of_a, _), (b, *of_b, _) = laid_out(left, orders[0], gap, at), laid_out(right, orders[1], gap, at)
    old = rng.normal(size=(rows, columns)).astype(np.float32) if add else np.full((rows, columns), np.nan, np.float32)
    c, c_at, c_row, _, inside = laid_out(old, "C", gap, at)
    around = c.copy()
    multiply(rows, columns, depth, a, *of_a, b, *of_b, c, c_at, c_row, int(add))
    expected = left.astype(float) @ right + (old if add else 0)
    size = np.abs(left).astype(float) @ np.abs(right) + 1
    assert (np.abs(inside - expected) <= 1e-6 * np.sqrt(depth + 1) * size).all()
    inside[...] = old
    np.testing.assert_array_equal(c, around)  # nothing was written beside it


def test_rows_and_columns_do_not_depend_on_what_else_is_asked_for(multiply):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(40, 300)).astype(np.float32), rng.normal(size=(300, 80)).astype(np.float32)

    def product(a, b):
        c = np.empty((len(a), b.shape[1]), np.float32)
        of_a, of_b = ((x.base.ravel(), 0, *(s // 4 for s in x.strides)) for x in (a, b))
        multiply(*c.shape, 300, *of_a, *of_b, c.ravel(), 0, len(c[0]), 0)
        return c

    whole = product(a[:], b[:])
    for rows, columns in ((1, 80), (5, 80), (40, 1), (40, 16), (13, 47), (8, 33)):
        np.testing.assert_array_equal(product(a[:rows], b[:, :columns]), whole[:rows, :columns])


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@pytest.mark.parametrize("along", ["rows", "columns", "depth"])
@pytest.mark.parametrize("shape", [(1, 40, 300, 20), (1, 300, 40, 900), (6, 40, 50, 20), (3, 90, 90, 7), (1, 9, 5, 90)])
def test_parts_are_all_of_it_once(monkeypatch, threads, along, shape):
    monkeypatch.setattr(products, "threads_for", lambda nanoseconds, least: threads)
    seen = np.zeros(shape, np.int8)
    parts = products._parts(*shape, along)
    for part in parts:
        ranges = tuple(slice(*ends) for ends in zip(part[::2], part[1::2], strict=True))
        assert seen[ranges].size
        seen[ranges] += 1
    assert (seen == 1).all() and len(parts) <= threads
    assert (not parts[0, 6] and all(parts[1:, 6] > 0)) or not any(parts[:, 6])


def examples(op_type):
    """Of all orientations; stacks of two, three and five axes."""
    rng = np.random.default_rng(2)

    def array(*shape):
        return rng.normal(size=shape)

    if op_type == "Gemm":
        for a, b in ((0, 0), (0, 1), (1, 0), (1, 1)):
            shapes = (40, 33) if a else (33, 40), (70, 40) if b else (40, 70)
            yield Example((*(array(*s) for s in shapes), array(33, 70)), {"transA": a, "transB": b})
            shapes = (900, 33) if a else (33, 900), (70, 900) if b else (900, 70)  # sums in parts
            yield Example((*(array(*s) for s in shapes), array(33, 70)), {"transA": a, "transB": b})
            shapes = (700, 33) if a else (33, 700), (96, 700) if b else (700, 96)  # columns in whole vectors
            yield Example((*(array(*s) for s in shapes), array(33, 96)), {"transA": a, "transB": b})
            yield Example((*(array(*s) for s in shapes), array(96)), {"transA": a, "transB": b})
    else:
        for stack in ((), (3,), (2, 3), (2, 1, 2, 2)):
            yield Example((array(*stack, 33, 40), array(*stack, 40, 70)), {})
            yield Example((array(*stack, 9, 40), array(40, 70)), {})
            yield Example((array(*stack, 9, 700), array(700, 70)), {})


@pytest.mark.parametrize("kernel", products.KERNELS, ids=lambda k: k.name)
@pytest.mark.parametrize("threads", [1, 3])
def test_does_what_the_op_does(monkeypatch, kernel, threads):
    monkeypatch.setattr(fusion, "LEAST", 1)
    monkeypatch.setattr(products, "SMALLEST", 1)
    monkeypatch.setattr(products, "threads_for", lambda nanoseconds, least: threads)
    assert check_kernel(kernel, examples(kernel.op_type.partition(".")[0])) > 3


@pytest.mark.parametrize("depth", [40, 700])
@pytest.mark.parametrize("bias", [None, (), (70,), (1, 70), (300, 70), (300, 1)])
def test_bias_of_any_shape(monkeypatch, bias, depth):
    monkeypatch.setattr(fusion, "LEAST", 1)
    rng = np.random.default_rng(3)
    b = gr.GraphBuilder()
    arrays = {"x": rng.normal(size=(300, depth)), "w": rng.normal(size=(depth, 70))}
    if bias is not None:
        arrays["b"] = rng.normal(size=bias)
    arrays = {n: np.asarray(a, np.float32) for n, a in arrays.items()}
    b.output(b.Gemm(*(b.input(n, "float32", a.shape) for n, a in arrays.items())), "y")
    session = gr.Session(b.build())
    found = session.run(arrays)["y"]
    assert [step.kernel.name for step in session.last_plan.steps] == ["numba_gemm"]
    expected = arrays["x"].astype(float) @ arrays["w"] + arrays.get("b", np.float32(0))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
