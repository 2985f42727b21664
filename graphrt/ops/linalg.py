"""Matrix products and determinants."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array, Example, op, unbroadcast
from graphrt.ops._reduced import narrow, widen
from graphrt.ops.reduction import product_of_others
from graphrt.types import Shape, TensorType, broadcast_shapes

# ---- matrix product ----------------------------------------------------------------------------------


@op("MatMul", version=1, linear=("a", "b"))
def matmul(a: Array, b: Array) -> Array:
    """Matrix product of the last two axes; the axes before them broadcast (as `numpy.matmul`).

    a: number [..., m, k] or [k], b: [..., k, n] or [k] -> y: the same dtype, [..., m, n]; m or n is gone where a or b
    is a vector. 16-bit floats are multiplied in float32. Derivatives: ct bᵀ and aᵀ ct, summed over broadcast axes.
    Source: ONNX operator specification.
    """
    return product(a, b)


@matmul.vjp("a")
def _(ct: Array, a_like: Array, b: Array) -> Array:
    rows, right = _as_matrix(ct, a_like, b), b if b.ndim > 1 else b[:, None]
    if a_like.ndim < 3 and right.ndim > 2:
        # One product over all columns side by side, rather than one for each matrix of the stack and their sum.
        return np.reshape(product(_side_by_side(rows), _side_by_side(right).T), a_like.shape)
    matrix_like = a_like if a_like.ndim > 1 else a_like[None, :]
    return np.reshape(unbroadcast(product(rows, np.swapaxes(right, -1, -2)), matrix_like), a_like.shape)


@matmul.vjp("b")
def _(ct: Array, a: Array, b_like: Array) -> Array:
    rows, left = _as_matrix(ct, a, b_like), a if a.ndim > 1 else a[None, :]
    if b_like.ndim < 3 and left.ndim > 2:
        return np.reshape(product(_on_top(left).T, _on_top(rows)), b_like.shape)
    matrix_like = b_like if b_like.ndim > 1 else b_like[:, None]
    return np.reshape(unbroadcast(product(np.swapaxes(left, -1, -2), rows), matrix_like), b_like.shape)


def product(a: Array, b: Array) -> Array:
    """Matrix product; of 16-bit floats in float32."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return narrow(np.matmul(widen(a), widen(b)), a.dtype)


def _as_matrix(ct: Array, a_like: Array, b_like: Array) -> Array:
    """The cotangent with the axes that a vector operand dropped."""
    shape = ct.shape
    if b_like.ndim == 1:
        shape = (*shape, 1)
    if a_like.ndim == 1:
        shape = (*shape[:-1], 1, shape[-1])
    return np.reshape(ct, shape)


def _on_top(x: Array) -> Array:
    """[..., m, n] -> [... m, n]: the matrices of a stack on top of each other."""
    return np.reshape(x, (int(np.prod(x.shape[:-1], dtype=np.int64)), x.shape[-1]))


def _side_by_side(x: Array) -> Array:
    """[..., m, n] -> [m, ... n]: the matrices of a stack side by side."""
    moved = np.moveaxis(x, -2, 0)
    return np.reshape(moved, (moved.shape[0], int(np.prod(moved.shape[1:], dtype=np.int64))))


def product_shape(a: Shape | None, b: Shape | None) -> Shape | None:
    """Shape of a matrix product, as far as the operands' shapes tell."""
    if a is None or b is None:
        return None
    if not a or not b:
        raise ValueError("a matrix product takes vectors and matrices, not scalars")
    m, inner, other, n = a[-2:-1], a[-1], b[-2] if len(b) > 1 else b[0], b[-1:] if len(b) > 1 else ()
    if isinstance(inner, int) and isinstance(other, int) and inner != other:
        raise ValueError(f"the inner dimensions {inner} and {other} of a matrix product differ")
    return (*(broadcast_shapes([a[:-2], b[:-2]]) or ()), *m, *n)


@matmul.infer
def _(a: TensorType, b: TensorType) -> TensorType:
    if a.dtype is not None and b.dtype is not None and a.dtype != b.dtype:
        raise ValueError(f"operands of two element types, {a.dtype} and {b.dtype}")
    return TensorType(a.dtype or b.dtype, product_shape(a.shape, b.shape))


@matmul.examples
def _(rng: np.random.Generator) -> Any:
    shapes: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
        ((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3, 2)), ((2, 3), (4, 3, 2)),
        ((5, 1, 2, 3), (4, 3, 2)), ((3,), (4, 3, 2)), ((4, 2, 3), (3,)), ((2, 0), (0, 3)), ((0, 2), (2, 3)),
        ((0, 2, 3), (3, 2)), ((1, 1), (1, 1)),
    ]  # fmt: skip
    for a, b in shapes:
        yield Example((rng.normal(size=a), rng.normal(size=b)), {})
    yield Example((rng.normal(size=(3, 2)).T, rng.normal(size=(4, 3)).T[:, ::-1]), {})
    yield Example((np.arange(6).reshape(2, 3), np.arange(6).reshape(3, 2)), {})


# ---- integer matrix product --------------------------------------------------------------------------


@op("MatMulInteger", version=10, nondiff=True)
def matmul_integer(a: Array, b: Array, a_zero_point: Array = None, b_zero_point: Array = None) -> Array:
    """Matrix product of 8-bit integers after subtracting their zero points, in int32.

    a: int8 or uint8 [..., m, k], b: int8 or uint8 [..., k, n], a_zero_point: like a, scalar, [m] or [..., m, 1],
    b_zero_point: like b, scalar, [n] or [..., 1, n] -> y: int32 [..., m, n]. Not differentiable.
    Source: ONNX operator specification.
    """
    # Products of 9-bit integers add up exactly in float64, which BLAS multiplies and integers it does not.
    left, right = a.astype(np.float64), b.astype(np.float64)
    if a_zero_point is not None:
        per_row = a_zero_point.ndim == 1 and a_zero_point.size > 1
        left = left - (a_zero_point[:, None] if per_row else a_zero_point)
    if b_zero_point is not None:
        right = right - b_zero_point
    return np.matmul(left, right).astype(np.int64).astype(np.int32)


@matmul_integer.infer
def _(a: TensorType, b: TensorType) -> TensorType:
    return TensorType("int32", product_shape(a.shape, b.shape))


@matmul_integer.examples
def _(rng: np.random.Generator) -> Any:
    a, b = rng.integers(0, 256, (2, 3)).astype(np.uint8), rng.integers(-128, 128, (3, 4)).astype(np.int8)
    yield Example((a, b), {})
    yield Example((a, b, np.uint8(12).reshape(()), np.int8(-3).reshape(1)), {})
    yield Example((a, b, np.array([1, 2], np.uint8), np.array([1, 2, 3, 4], np.int8)), {})
    yield Example((np.stack([a, a]), b, None, np.array([[-3, 0, 1, 2]], np.int8)), {})
    yield Example((np.zeros((2, 0), np.uint8), np.zeros((0, 3), np.uint8)), {})


# ---- determinant -------------------------------------------------------------------------------------


@op("Det", version=11)
def det(x: Array) -> Array:
    """Determinants of square matrices.

    x: float [..., m, m] -> y: float [...]. Derivative: the matrix of cofactors, through the singular value
    decomposition and so without a division: right for singular matrices too. Source: ONNX operator specification.
    """
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"a determinant needs square matrices, not {list(x.shape)}")
    with np.errstate(all="ignore"):
        return narrow(np.linalg.det(widen(x)), x.dtype)


@det.vjp("x")
def _(ct: Array, x: Array) -> Array:
    return ct[..., None, None] * _cofactors(x)


@det.jvp("x")
def _(x_dot: Array, x: Array) -> Array:
    return np.sum(x_dot * _cofactors(x), axis=(-2, -1))


def _cofactors(x: Array) -> Array:
    wide = widen(x)
    with np.errstate(all="ignore"):
        if not isinstance(x, np.ndarray):
            # Dual arrays have no singular value decomposition; away from singular matrices this is the same.
            inverse = np.swapaxes(np.linalg.inv(wide), -1, -2)
            return narrow(np.linalg.det(wide)[..., None, None] * inverse, x.dtype)
        u, s, vh = np.linalg.svd(wide)
        sign = (np.linalg.det(u) * np.linalg.det(vh))[..., None]
        return narrow(np.matmul(u * (sign * product_of_others(s))[..., None, :], vh), x.dtype)


@det.infer
def _(x: TensorType) -> TensorType:
    if x.shape is None:
        return TensorType(x.dtype, None)
    m, n = x.shape[-2:] if len(x.shape) > 1 else (0, 1)
    if isinstance(m, int) and isinstance(n, int) and m != n:
        raise ValueError(f"a determinant needs square matrices, not {x}")
    return TensorType(x.dtype, x.shape[:-2])


@det.examples
def _(rng: np.random.Generator) -> Any:
    for shape in [(3, 3), (2, 3, 2, 2), (1, 1), (4, 4), (2, 0, 3, 3), (0, 0)]:
        yield Example((rng.normal(size=shape),), {})
    yield Example((np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]]),), {}, smooth=False)


OPS = (matmul, matmul_integer, det)
