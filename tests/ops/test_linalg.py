"""Matrix products, einsum and determinants, beyond what the conformance kit tries."""

import itertools

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.op import like
from graphrt.ops.einsum import einsum, parse
from graphrt.ops.gemm import gemm, gemm_1
from graphrt.ops.linalg import det, matmul, matmul_integer
from graphrt.types import TensorType


def test_matmul_of_half_precision_adds_up_in_single():
    ones = np.ones((1, 4096), np.float16)
    product = matmul(ones, ones.T)
    assert product.dtype == np.float16
    assert product[0, 0] == 4096


def test_matmul_gradient_of_a_matrix_shared_by_a_stack():
    rng = np.random.default_rng(0)
    stack, matrix, ct = rng.normal(size=(4, 2, 3)), rng.normal(size=(3, 5)), rng.normal(size=(4, 2, 5))
    right = matmul.derived("vjp[b]").function(ct, stack, like(matrix))
    np.testing.assert_allclose(right, sum(stack[i].T @ ct[i] for i in range(4)), rtol=1e-12)
    flipped, ct_flipped = np.swapaxes(stack, 1, 2), np.swapaxes(ct, 1, 2)  # matrix.T times each, transposed
    left = matmul.derived("vjp[a]").function(ct_flipped, like(matrix.T), flipped)
    np.testing.assert_allclose(left, right.T, rtol=1e-12)


def test_matmul_types():
    def infer(*shapes):
        return matmul.infer_types([TensorType("float32", s) for s in shapes], {})[0].shape

    assert infer(("batch", 2, 3), (3, "n")) == ("batch", 2, "n")
    assert infer((3,), (3,)) == ()
    assert infer(None, (3, 4)) is None
    with pytest.raises(TypeInferenceError, match="inner dimensions 3 and 4"):
        infer((2, 3), (4, 5))
    with pytest.raises(TypeInferenceError, match="two element types"):
        matmul.infer_types([TensorType("float32", (2,)), TensorType("float64", (2,))], {})


def test_gemm_takes_matrices_and_a_c_that_fits():
    a, b = np.ones((2, 3)), np.ones((3, 4))
    np.testing.assert_array_equal(gemm(a, b, np.arange(4.0), alpha=2.0, beta=10.0)[0], [6, 16, 26, 36])
    with pytest.raises(ValueError, match="does not broadcast to the product's shape"):
        gemm(a, b, np.ones((5, 2, 4)))
    with pytest.raises(ValueError, match="multiplies matrices"):
        gemm(np.ones(3), b)


def test_gemm_of_integers_stays_integer():
    a = np.arange(6, dtype=np.int32).reshape(2, 3)
    y = gemm(a, a.T, np.int32(1).reshape(()), alpha=2.0)
    assert y.dtype == np.int32
    np.testing.assert_array_equal(y, 2 * a @ a.T + 1)


def test_old_gemm_broadcasts_only_when_asked():
    a, b, c = np.ones((2, 3)), np.ones((3, 4)), np.ones(4)
    np.testing.assert_array_equal(gemm_1(a, b, c, broadcast=1), np.full((2, 4), 4.0))
    with pytest.raises(ValueError, match="attribute broadcast is 0"):
        gemm_1(a, b, c)


def test_integer_product_of_extremes_is_exact():
    a = np.full((1, 1000), 255, np.uint8)
    y = matmul_integer(a, a.T, None, np.uint8(255).reshape(()))
    assert y.dtype == np.int32
    assert y[0, 0] == 0
    assert matmul_integer(a, a.T)[0, 0] == 255 * 255 * 1000
    rows = matmul_integer(np.array([[1, 2], [3, 4]], np.uint8), np.eye(2, dtype=np.int8), np.array([1, 3], np.uint8))
    np.testing.assert_array_equal(rows, [[0, 1], [0, 1]])


def test_gradient_of_a_singular_determinant_is_the_cofactors():
    x = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]])
    cofactors = np.empty((3, 3))
    for i, j in itertools.product(range(3), range(3)):
        m = np.delete(np.delete(x, i, 0), j, 1)
        cofactors[i, j] = (-1) ** (i + j) * (m[0, 0] * m[1, 1] - m[0, 1] * m[1, 0])
    rule = det.derived("vjp[x]").function
    np.testing.assert_allclose(rule(np.ones(()), x), cofactors, atol=1e-12)
    np.testing.assert_array_equal(rule(np.ones(()), np.zeros((3, 3))), np.zeros((3, 3)))


def test_determinant_needs_square_matrices():
    with pytest.raises(ValueError, match="square matrices"):
        det(np.ones((2, 3)))
    with pytest.raises(TypeInferenceError, match="square matrices"):
        det.infer_types([TensorType("float32", ("n", 2, 3))], {})


def test_einsum_without_arrow_sorts_by_ascii():
    x = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(einsum(x, equation="aB"), x.T)  # B before a
    np.testing.assert_array_equal(einsum(x, equation="ba"), x.T)


def test_einsum_sums_an_ellipsis_that_the_output_drops():
    x = np.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(einsum(x, equation="...i->i"), x.sum((0, 1)))


def test_einsum_gradient_goes_to_diagonals_and_lone_indices():
    vjp = einsum.derived("vjp[inputs]").function
    (trace,) = vjp(np.array(2.0), (np.ones((3, 3)),), equation="ii->")
    np.testing.assert_array_equal(trace, 2 * np.eye(3))
    spread, other = vjp(np.array([1.0, 10.0]), (np.ones((2, 3)), np.array([5.0, 7.0])), equation="ij,k->k")
    np.testing.assert_array_equal(spread, np.full((2, 3), 75.0))
    np.testing.assert_array_equal(other, [6.0, 60.0])


@pytest.mark.parametrize(
    ("equation", "ranks", "message"),
    [
        ("ij,jk->ik", (2,), "has 2 terms, there are 1 inputs"),
        ("ij->i", (3,), "does not fit an input of 3 dimensions"),
        ("ij->ik", (2,), "names one that no input has"),
        ("ij->ii", (2,), "repeats an index"),
        ("i1->i", (2,), "not letters"),
        ("......i->i", (3,), "at most one"),
        ("i..->i", (1,), "not letters"),
    ],
)
def test_malformed_equations_are_refused(equation, ranks, message):
    with pytest.raises(ValueError, match=message):
        parse(equation, ranks)


def test_einsum_types():
    types = [TensorType("float32", ("batch", 2, 3)), TensorType("float32", (3, "n"))]
    assert einsum.infer_types(types, {"equation": "...ij,jk->...ik"})[0].shape == ("batch", 2, "n")
    with pytest.raises(TypeInferenceError, match="do not broadcast"):
        einsum.infer_types([TensorType(None, (2, 3)), TensorType(None, (4, 5))], {"equation": "ij,jk->ik"})
