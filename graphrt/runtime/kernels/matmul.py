"""Matrix products of stacks: one large product where the right operand is a matrix, BLAS in every case."""

from __future__ import annotations

import math

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.runtime.kernels._blocks import for_blas
from graphrt.runtime.threads import matmul, plan_product


def _is_dense(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """A stack of matrices times one matrix, as in a dense layer."""
    return len(a) >= 2 and len(b) == 2


def _is_stack(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Two stacks of as many matrices."""
    return min(len(a), len(b)) >= 2 and a[:-2] == b[:-2]


@kernel("MatMul")
def matmul_as_one(site: KernelSite) -> Into | None:
    """``a @ b``; for a matrix b all rows of a in one product."""
    if not site.is_float("a", "b"):
        return None
    a_shape, b_shape = site.shape("a"), site.shape("b")
    if _is_stack(a_shape, b_shape):
        plan_product(math.prod(a_shape) * b_shape[-1])
        return site.into(lambda a, b, y: matmul(for_blas(a), for_blas(b), y))
    if not _is_dense(a_shape, b_shape) or not a_shape[-1]:
        return None
    inner, rows = a_shape[-1], (math.prod(a_shape[:-1]), b_shape[1])
    plan_product(inner * math.prod(rows))
    return site.into(lambda a, b, y: matmul(for_blas(a.reshape(rows[0], inner)), for_blas(b), y.reshape(rows)))


@kernel("MatMul.vjp[a]")
def matmul_left_cotangent(site: KernelSite) -> Into | None:
    """``ct @ b.T``."""
    if not site.is_float("ct", "a_like", "b"):
        return None
    shape, b_shape = site.shape("a_like"), site.shape("b")
    if _is_stack(shape, b_shape):
        plan_product(math.prod(shape) * b_shape[-1])
        return site.into(lambda ct, a_like, b, y: matmul(for_blas(ct), np.swapaxes(for_blas(b), -1, -2), y))
    if not _is_dense(shape, b_shape) or not b_shape[1]:
        return None
    width, rows = b_shape[1], (math.prod(shape[:-1]), shape[-1])
    plan_product(width * math.prod(rows))
    return site.into(
        lambda ct, a_like, b, y: matmul(for_blas(ct.reshape(rows[0], width)), for_blas(b).T, y.reshape(rows))
    )


@kernel("MatMul.vjp[b]")
def matmul_right_cotangent(site: KernelSite) -> Into | None:
    """``a.T @ ct``; for a matrix b over all rows at once."""
    if not site.is_float("ct", "a", "b_like"):
        return None
    a_shape, shape = site.shape("a"), site.shape("b_like")
    if _is_stack(a_shape, shape):
        plan_product(math.prod(a_shape) * shape[-1])
        return site.into(lambda ct, a, b_like, y: matmul(np.swapaxes(for_blas(a), -1, -2), for_blas(ct), y))
    if not _is_dense(a_shape, shape) or not shape[0] or not shape[1]:
        return None
    inner, width = shape
    plan_product(math.prod(a_shape) * width)
    return site.into(
        lambda ct, a, b_like, y: matmul(for_blas(a.reshape(-1, inner)).T, for_blas(ct.reshape(-1, width)), y)
    )


KERNELS = (matmul_as_one, matmul_left_cotangent, matmul_right_cotangent)
