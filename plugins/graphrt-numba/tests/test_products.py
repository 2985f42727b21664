"""Matrix products that compiled loops call, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import products
from graphrt_numba.compiler import njit, sgemm

from graphrt.runtime.blas import address

SGEMM = address("cblas_sgemm")
pytestmark = pytest.mark.skipif(SGEMM is None, reason="NumPy runs on another BLAS than OpenBLAS")


@pytest.fixture(scope="module")
def product():
    @njit(nogil=True)
    def product(
        address, turn_a, turn_b, rows, columns, depth, alpha, a, a_at, a_step, b, b_at, b_step, beta, c, c_at, c_step
    ):
        matrices = a, a_at, a_step, b, b_at, b_step
        sgemm(address, turn_a, turn_b, rows, columns, depth, alpha, *matrices, beta, c, c_at, c_step)

    return product


def flat(matrix, turned, at, step):
    """A matrix, or its transpose, with its rows so far apart in a flat array of other numbers; its row's length."""
    matrix = matrix.T if turned else matrix
    made = np.full(at + matrix.shape[0] * (matrix.shape[1] + step), np.nan, np.float32)
    inside = np.lib.stride_tricks.as_strided(made[at:], matrix.shape, ((matrix.shape[1] + step) * 4, 4))
    inside[...] = matrix
    return made, matrix.shape[1] + step, inside


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 4, 1), (70, 90, 120)])
@pytest.mark.parametrize(("turn_a", "turn_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (1, 1), (-0.5, 2)])
def test_product_is_that_of_numpy(product, shape, turn_a, turn_b, alpha, beta):
    rng = np.random.default_rng(0)
    rows, columns, depth = shape
    left, right = (rng.normal(size=s).astype(np.float32) for s in ((rows, depth), (depth, columns)))
    old = np.full((rows, columns), np.nan, np.float32) if beta == 0 else rng.normal(size=(rows, columns))
    for at, step in ((0, 0), (3, 2)):
        (a, a_step, _), (b, b_step, _) = flat(left, turn_a, at, step), flat(right, turn_b, at, step)
        c, c_step, inside = flat(old.astype(np.float32), False, at + 1, step)
        before = c.copy()
        product(SGEMM, turn_a, turn_b, *shape[:2], depth, alpha, a, at, a_step, b, at, b_step, beta, c, at + 1, c_step)
        expected = alpha * (left @ right) + (beta * old if beta else 0)
        np.testing.assert_allclose(inside, expected, rtol=1e-4, atol=1e-4)
        inside[...] = np.nan
        before[at + 1 :][: c.size - at - 1].reshape(rows, -1)[:, :columns] = np.nan
        np.testing.assert_array_equal(c, before)


@pytest.mark.parametrize("turned", [0, 1])
def test_product_in_pieces_of_rows(turned):
    @njit(nogil=True)
    def run(address, small, turned, rows, columns, depth, a, a_step, b, c):
        products.product(
            address, small, turned, rows, columns, depth, a, 0, a_step, b, 0, columns, np.float32(0), c, 0, columns
        )

    rng = np.random.default_rng(1)
    left, right = rng.normal(size=(37, 5)).astype(np.float32), rng.normal(size=(5, 6)).astype(np.float32)
    a = np.ascontiguousarray(left.T if turned else left)
    for small in (0, 100, 8 * 30, 17 * 30, 10**6):
        c = np.full(37 * 6, np.nan, np.float32)
        run(SGEMM, small, turned, 37, 6, 5, a.ravel(), a.shape[1], right.ravel(), c)
        np.testing.assert_allclose(c.reshape(37, 6), left @ right, rtol=1e-4, atol=1e-5)
