"""Matrix products with everything that their plan already knows decided: orientation, scaling, bias."""

from __future__ import annotations

import math

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.threads import matmul, plan_product


@kernel("Gemm")
def gemm_bias(site: KernelSite) -> Into | None:
    """``a @ b + c`` with c added in place."""
    if not site.is_float("a", "b") or not _plain(site):
        return None
    if site.inputs.get("c") is not None and not site.is_float("a", "c"):
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    plan_product(math.prod(site.shape("a")) * site.shape("b")[0 if transpose_b else 1])

    def fill(a: Array, b: Array, c: Array, y: Array) -> None:
        matmul(a.T if transpose_a else a, b.T if transpose_b else b, y)
        if c is not None:
            np.add(y, c, y)

    return site.into(fill)


@kernel("Gemm.vjp[a]")
def gemm_left_cotangent(site: KernelSite) -> Into | None:
    """``ct @ b.T``, in the orientation of a."""
    if not site.is_float("ct", "b") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    plan_product(math.prod(site.shape("b")) * site.shape("ct")[0])

    def fill(ct: Array, b: Array, y: Array) -> None:
        right = b if transpose_b else b.T
        if transpose_a:
            matmul(right.T, ct.T, y)
        else:
            matmul(ct, right, y)

    return site.into(fill)


@kernel("Gemm.vjp[b]")
def gemm_right_cotangent(site: KernelSite) -> Into | None:
    """``a.T @ ct``, in the orientation of b."""
    if not site.is_float("ct", "a") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    plan_product(math.prod(site.shape("a")) * site.shape("ct")[1])

    def fill(ct: Array, a: Array, y: Array) -> None:
        left = a if transpose_a else a.T
        if transpose_b:
            matmul(ct.T, left.T, y)
        else:
            matmul(left, ct, y)

    return site.into(fill)


@kernel("Gemm.vjp[c]")
def gemm_bias_cotangent(site: KernelSite) -> Into | None:
    """The sum over the rows."""
    if not site.is_float("ct", "c_like") or len(site.shape("c_like")) != 1 or site.attributes["beta"] != 1:
        return None
    if site.shape("c_like")[0] != site.shape("ct")[1]:
        return site.into(lambda ct, c_like, y: np.sum(ct, keepdims=True, out=y.reshape(1, 1)))
    return site.into(lambda ct, c_like, y: np.add.reduce(ct, 0, None, y))


def _plain(site: KernelSite) -> bool:
    return bool(site.attributes["alpha"] == 1 and site.attributes["beta"] == 1)


KERNELS = (gemm_bias, gemm_left_cotangent, gemm_right_cotangent, gemm_bias_cotangent)
