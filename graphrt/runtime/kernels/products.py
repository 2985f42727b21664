"""Matrix products with everything that their plan already knows decided: orientation, scaling, bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.definitions import KernelSite, kernel
from graphrt.op import Array

Function = Callable[..., Any]


@kernel("Gemm")
def gemm_bias(site: KernelSite) -> Function | None:
    """``a @ b + c`` with c added in place."""
    if not site.is_float("a", "b") or not _plain(site):
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    matmul, add = np.matmul, np.add

    def product(a: Array, b: Array) -> Array:
        return matmul(a.T if transpose_a else a, b.T if transpose_b else b)

    if site.inputs.get("c") is None:
        return lambda a, b, c=None: product(a, b)
    if not site.is_float("a", "c"):
        return None

    def with_bias(a: Array, b: Array, c: Array) -> Array:
        y = product(a, b)
        return add(y, c, y)

    return with_bias


@kernel("Gemm.vjp[a]")
def gemm_left_cotangent(site: KernelSite) -> Function | None:
    """``ct @ b.T``, in the orientation of a."""
    if not site.is_float("b") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]

    def left(ct: Array, b: Array) -> Array:
        right = b if transpose_b else b.T
        return np.matmul(right.T, ct.T) if transpose_a else np.matmul(ct, right)

    return left


@kernel("Gemm.vjp[b]")
def gemm_right_cotangent(site: KernelSite) -> Function | None:
    """``a.T @ ct``, in the orientation of b."""
    if not site.is_float("a") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]

    def right(ct: Array, a: Array) -> Array:
        left = a if transpose_a else a.T
        return np.matmul(ct.T, left.T) if transpose_b else np.matmul(left, ct)

    return right


@kernel("Gemm.vjp[c]")
def gemm_bias_cotangent(site: KernelSite) -> Function | None:
    """The sum over the rows."""
    if not site.is_float("c_like") or len(site.shape("c_like")) != 1 or site.attributes["beta"] != 1:
        return None
    width = site.shape("c_like")[0]

    def bias(ct: Array, c_like: Array) -> Array:
        if ct.shape[1] != width:
            return np.sum(ct, keepdims=True).reshape(1)
        return np.add.reduce(ct, axis=0)

    return bias


def _plain(site: KernelSite) -> bool:
    return bool(site.attributes["alpha"] == 1 and site.attributes["beta"] == 1)


KERNELS = (gemm_bias, gemm_left_cotangent, gemm_right_cotangent, gemm_bias_cotangent)
