"""The general matrix product of BLAS."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array, Example, op, unbroadcast
from graphrt.ops._reduced import narrow
from graphrt.ops.linalg import product, product_shape
from graphrt.types import Dim, TensorType


@op("Gemm", version=7)
def gemm(
    a: Array, b: Array, c: Array = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Array:
    """``alpha A B + beta C`` of matrices, A and B optionally transposed first.

    a: number [m, k] ([k, m] with transA), b: [k, n] ([n, k] with transB), c: broadcastable to [m, n], or absent
    -> y: the same dtype, [m, n]. Derivatives: alpha ct Bᵀ and alpha Aᵀ ct (transposed with transA, transB), and
    beta ct summed over c's broadcast axes. Source: ONNX operator specification.
    """
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"Gemm multiplies matrices, not tensors of {a.ndim} and {b.ndim} dimensions")
    y = _scaled(product(a.T if transA else a, b.T if transB else b), alpha)
    if c is None:
        return y
    if not _broadcasts_to(c.shape, y.shape):
        raise ValueError(f"c of shape {list(c.shape)} does not broadcast to the product's shape {list(y.shape)}")
    return y + _scaled(c, beta)


@op("Gemm", version=1)
def gemm_1(
    a: Array,
    b: Array,
    c: Array,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,
    transA: int = 0,
    transB: int = 0,
) -> Array:
    """``alpha A B + beta C``, where C broadcasts only with the attribute ``broadcast``; see the newer version.

    c is required, and without ``broadcast`` has the shape of the product.
    """
    y = gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
    if not broadcast and c.shape != y.shape:
        raise ValueError(f"c of shape {list(c.shape)} is not {list(y.shape)}, and the attribute broadcast is 0")
    return y


@gemm_1.vjp("a")
@gemm.vjp("a")
def _(ct: Array, b: Array, alpha: float, transA: int, transB: int) -> Array:
    right = b if transB else b.T
    return _scaled(product(right.T, ct.T) if transA else product(ct, right), alpha)


@gemm_1.vjp("b")
@gemm.vjp("b")
def _(ct: Array, a: Array, alpha: float, transA: int, transB: int) -> Array:
    left = a if transA else a.T
    return _scaled(product(ct.T, left.T) if transB else product(left, ct), alpha)


@gemm_1.vjp("c")
@gemm.vjp("c")
def _(ct: Array, c_like: Array, beta: float) -> Array:
    return _scaled(unbroadcast(ct, c_like), beta)


@gemm_1.jvp("a")
@gemm.jvp("a")
def _(a_dot: Array, b: Array, alpha: float, transA: int, transB: int) -> Array:
    return _scaled(product(a_dot.T if transA else a_dot, b.T if transB else b), alpha)


@gemm_1.jvp("b")
@gemm.jvp("b")
def _(b_dot: Array, a: Array, alpha: float, transA: int, transB: int) -> Array:
    return _scaled(product(a.T if transA else a, b_dot.T if transB else b_dot), alpha)


@gemm_1.jvp("c")
@gemm.jvp("c")
def _(c_dot: Array, y_like: Array, beta: float) -> Array:
    return np.broadcast_to(_scaled(c_dot, beta), y_like.shape)


def _scaled(x: Array, factor: float) -> Array:
    return x if factor == 1 else narrow(factor * x, x.dtype)


def _broadcasts_to(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(n in (1, m) for n, m in pairs)


def _gemm_type(a: TensorType, b: TensorType, c: TensorType | None, transA: int, transB: int) -> TensorType:
    dtype = a.dtype or b.dtype
    if {t.dtype for t in (a, b, c) if t is not None and t.dtype is not None} - {dtype}:
        raise ValueError(f"operands of several element types: {', '.join(str(t) for t in (a, b, c) if t)}")
    for t in (a, b):
        if t.shape is not None and len(t.shape) != 2:
            raise ValueError(f"Gemm multiplies matrices, not {t}")
    left: tuple[Dim, ...] = a.shape or (None, None)
    right: tuple[Dim, ...] = b.shape or (None, None)
    y = product_shape(left[::-1] if transA else left, right[::-1] if transB else right) or (None, None)
    if c is not None and c.shape is not None:
        if len(c.shape) > 2:
            raise ValueError(f"c, {c}, does not broadcast to a matrix")
        for d, n in zip(reversed(c.shape), reversed(y), strict=False):
            if isinstance(d, int) and isinstance(n, int) and d not in (1, n):
                raise ValueError(f"c, {c}, does not broadcast to {TensorType(dtype, y)}")
    return TensorType(dtype, y)


@gemm_1.infer
@gemm.infer
def _(a: TensorType, b: TensorType, c: TensorType | None, transA: int, transB: int) -> TensorType:
    return _gemm_type(a, b, c, transA, transB)


@gemm.examples
def _(rng: np.random.Generator) -> Any:
    for trans_a in (0, 1):
        for trans_b in (0, 1):
            a = rng.normal(size=(3, 2) if trans_a else (2, 3))
            b = rng.normal(size=(4, 3) if trans_b else (3, 4))
            attributes = {"transA": trans_a, "transB": trans_b}
            yield Example((a, b, rng.normal(size=(2, 4))), {**attributes, "alpha": 0.5, "beta": -1.5})
            yield Example((a, b, None), attributes)
    for shape in [(), (1,), (4,), (2, 1), (1, 4), (1, 1)]:
        yield Example((rng.normal(size=(2, 3)), rng.normal(size=(3, 4)), rng.normal(size=shape)), {"beta": 0.25})
    yield Example((np.zeros((0, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)), {})
    yield Example((rng.normal(size=(2, 0)), np.zeros((0, 4)), rng.normal(size=4)), {})


@gemm_1.examples
def _(rng: np.random.Generator) -> Any:
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(4, 3))
    yield Example((a, b, rng.normal(size=(2, 4))), {"alpha": 0.5, "beta": 2.0, "transB": 1})
    yield Example((a.T, b.T, rng.normal(size=4)), {"broadcast": 1, "transA": 1})


OPS = (gemm, gemm_1)
