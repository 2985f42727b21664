"""Matrix products of stacks: one large product where the right operand is a matrix, BLAS in every case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.runtime.kernels._blocks import for_blas

Function = Callable[..., Any]


def _is_dense(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """A stack of matrices times one matrix, as in a dense layer."""
    return len(a) >= 2 and len(b) == 2


def _is_stack(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Two stacks of as many matrices."""
    return min(len(a), len(b)) >= 2 and a[:-2] == b[:-2]


@kernel("MatMul")
def matmul_as_one(site: KernelSite) -> Function | None:
    """``a @ b``; for a matrix b all rows of a in one product."""
    if not site.is_float("a", "b"):
        return None
    a_shape, b_shape = site.shape("a"), site.shape("b")
    if _is_stack(a_shape, b_shape):
        return lambda a, b: np.matmul(for_blas(a), for_blas(b))
    if not _is_dense(a_shape, b_shape):
        return None
    inner, shape = a_shape[-1], (*a_shape[:-1], b_shape[1])
    if not inner:
        return None
    return lambda a, b: np.matmul(for_blas(a.reshape(-1, inner)), for_blas(b)).reshape(shape)


@kernel("MatMul.vjp[a]")
def matmul_left_cotangent(site: KernelSite) -> Function | None:
    """``ct @ b.T``."""
    if not site.is_float("a_like", "b"):
        return None
    shape, b_shape = site.shape("a_like"), site.shape("b")
    if _is_stack(shape, b_shape):
        return lambda ct, a_like, b: np.matmul(for_blas(ct), np.swapaxes(for_blas(b), -1, -2))
    if not _is_dense(shape, b_shape) or not b_shape[1]:
        return None
    width = b_shape[1]
    return lambda ct, a_like, b: np.matmul(for_blas(ct.reshape(-1, width)), for_blas(b).T).reshape(shape)


@kernel("MatMul.vjp[b]")
def matmul_right_cotangent(site: KernelSite) -> Function | None:
    """``a.T @ ct``; for a matrix b over all rows at once."""
    if not site.is_float("a", "b_like"):
        return None
    a_shape, shape = site.shape("a"), site.shape("b_like")
    if _is_stack(a_shape, shape):
        return lambda ct, a, b_like: np.matmul(np.swapaxes(for_blas(a), -1, -2), for_blas(ct))
    if not _is_dense(a_shape, shape) or not shape[0] or not shape[1]:
        return None
    inner, width = shape
    return lambda ct, a, b_like: np.matmul(for_blas(a.reshape(-1, inner)).T, for_blas(ct.reshape(-1, width)))


KERNELS = (matmul_as_one, matmul_left_cotangent, matmul_right_cotangent)
