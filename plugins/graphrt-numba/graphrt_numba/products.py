"""Matrix products of `product_loops`, shared among threads, with the bias added on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.runtime.threads import threads_for
from graphrt_numba.sharing import LEAST, PRIORITY

Shape = tuple[int, ...]

SPEED = 0.02
"""Nanoseconds that one multiplication takes, about."""
FEWEST = 4
"""Rows and columns of a product, at least: with fewer, most of the time goes to reading the other operand."""
SMALLEST = 1 << 12
"""Multiplications of a product, at least."""
TALL, WIDE = 8, 32
"""Parts of a product begin at multiples of so many rows and columns."""
NONE = np.empty(0, np.float32)


def _cuts(length: int, count: int, step: int) -> list[tuple[int, int]]:
    """First and last of about so many parts of equal length."""
    steps = -(-length // step)
    count = min(count, steps)
    at = [min(steps * i // count * step, length) for i in range(count + 1)]
    return list(pairwise(at))


def _parts(stack: int, rows: int, columns: int, depth: int) -> Array:
    """A stack of products in parts [parts, 6]: first and last matrix, row and column.

    Divides the stack first, and columns rather than rows: a part that has all rows uses what it packs most often.
    """
    count = threads_for(stack * rows * columns * depth * SPEED, LEAST)
    of_stack = min(stack, count)
    across = max(1, min(count // of_stack, columns // (2 * WIDE)))
    down = count // (of_stack * across)
    grid = product(_cuts(stack, of_stack, 1), _cuts(rows, down, TALL), _cuts(columns, across, WIDE))
    return np.array([(*of_stack, *of_rows, *of_columns) for of_stack, of_rows, of_columns in grid])


def _product(stack: int, rows: int, columns: int, depth: int) -> Callable[[Array, Array, Array, Array], None] | None:
    """What writes a b and a bias (or nothing) into c, which has its columns or its rows side by side.

    Operands are matrices or stacks of as many; None where the loops would not pay.
    """
    work = stack * rows * columns * depth
    if min(rows, columns) < FEWEST or work < SMALLEST:
        return None
    from graphrt_numba import product_loops
    from graphrt_numba.team import TEAM

    parts = _parts(stack, rows, columns, depth)
    loop = product_loops.products.compiled("int64*", "int64", "int64**", "int64", *["float32[4]"] * 3, "float32*")
    run = TEAM.calls(loop, len(parts) - 1, parts, product_loops.product())
    return lambda a, b, c, bias: run(_of_four(a), _of_four(b), _of_four(c), bias)


def _of_four(x: Array) -> Array:
    """With two axes before the last two."""
    return x[None, None] if x.ndim == 2 else x[None] if x.ndim == 3 else x


def _three(x: Array) -> Array:
    """A stack of matrices with one axis for the stack, if it has more than two."""
    return x if x.ndim <= 4 else x.reshape(-1, *x.shape[-2:])


def _turned(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


# ---- Gemm --------------------------------------------------------------------------------------------------


def _is_plain(site: KernelSite, *names: str) -> bool:
    return site.is_float(*names) and site.inputs[names[0]].dtype == "float32"


@kernel("Gemm", name="numba_gemm", priority=PRIORITY)
def gemm(site: KernelSite) -> Into | None:
    """``a @ b + c``."""
    a, bias = site.attributes, site.inputs.get("c")
    if not _is_plain(site, "a", "b") or a["alpha"] != 1 or a["beta"] != 1:
        return None
    if bias is not None and not _is_plain(site, "a", "c"):
        return None
    transpose_a, transpose_b = a["transA"], a["transB"]
    rows, depth = site.shape("a")[::-1] if transpose_a else site.shape("a")
    columns = site.shape("b")[0 if transpose_b else 1]
    run = _product(1, rows, columns, depth)
    if run is None:
        return None
    along = bias is not None and site.shape("c") in ((columns,), (1, columns))

    def fill(a: Array, b: Array, c: Array, y: Array) -> None:
        run(a.T if transpose_a else a, b.T if transpose_b else b, y, c.ravel() if along else NONE)
        if c is not None and not along:
            np.add(y, c, y)

    return site.into(fill)


@kernel("Gemm.vjp[a]", name="numba_gemm_left_cotangent", priority=PRIORITY)
def gemm_left_cotangent(site: KernelSite) -> Into | None:
    """``ct @ b.T``, in the orientation of a."""
    if not _is_plain(site, "ct", "b") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    rows, depth = site.shape("ct")
    run = _product(1, rows, math.prod(site.shape("b")) // max(depth, 1), depth)
    if run is None:
        return None

    def fill(ct: Array, b: Array, y: Array) -> None:
        run(ct, b if transpose_b else b.T, y.T if transpose_a else y, NONE)

    return site.into(fill)


@kernel("Gemm.vjp[b]", name="numba_gemm_right_cotangent", priority=PRIORITY)
def gemm_right_cotangent(site: KernelSite) -> Into | None:
    """``a.T @ ct``, in the orientation of b."""
    if not _is_plain(site, "ct", "a") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    depth, columns = site.shape("ct")
    run = _product(1, math.prod(site.shape("a")) // max(depth, 1), columns, depth)
    if run is None:
        return None

    def fill(ct: Array, a: Array, y: Array) -> None:
        run(a if transpose_a else a.T, ct, y.T if transpose_b else y, NONE)

    return site.into(fill)


# ---- MatMul ------------------------------------------------------------------------------------------------


def _stacked(a: Shape, b: Shape) -> bool | None:
    """Whether b is a stack as a is (not: one matrix, for all of a); None for other operands."""
    if len(a) >= 2 and len(b) == 2:
        return False
    return True if min(len(a), len(b)) >= 2 and a[:-2] == b[:-2] else None


@kernel("MatMul", name="numba_matmul", priority=PRIORITY)
def matmul(site: KernelSite) -> Into | None:
    """``a @ b``; for a matrix b all rows of a in one product."""
    if not _is_plain(site, "a", "b"):
        return None
    stacked = _stacked(site.shape("a"), site.shape("b"))
    if stacked is None:
        return None
    (*stack, rows, depth), columns = site.shape("a"), site.shape("b")[-1]
    if stacked:
        run = _product(math.prod(stack), rows, columns, depth)
        return None if run is None else site.into(lambda a, b, y: run(_three(a), _three(b), _three(y), NONE))
    run, all_rows = _product(1, math.prod(stack) * rows, columns, depth), math.prod(stack) * rows
    if run is None:
        return None
    return site.into(lambda a, b, y: run(a.reshape(all_rows, depth), b, y.reshape(all_rows, columns), NONE))


@kernel("MatMul.vjp[a]", name="numba_matmul_left_cotangent", priority=PRIORITY)
def matmul_left_cotangent(site: KernelSite) -> Into | None:
    """``ct @ b.T``."""
    if not _is_plain(site, "ct", "a_like", "b"):
        return None
    stacked = _stacked(site.shape("a_like"), site.shape("b"))
    if stacked is None:
        return None
    (*stack, rows, columns), depth = site.shape("a_like"), site.shape("b")[-1]
    if stacked:
        run = _product(math.prod(stack), rows, columns, depth)
        if run is None:
            return None
        return site.into(lambda ct, a_like, b, y: run(_three(ct), _turned(_three(b)), _three(y), NONE))
    run, all_rows = _product(1, math.prod(stack) * rows, columns, depth), math.prod(stack) * rows
    if run is None:
        return None
    return site.into(lambda ct, a_like, b, y: run(ct.reshape(all_rows, depth), b.T, y.reshape(all_rows, columns), NONE))


@kernel("MatMul.vjp[b]", name="numba_matmul_right_cotangent", priority=PRIORITY)
def matmul_right_cotangent(site: KernelSite) -> Into | None:
    """``a.T @ ct``; for a matrix b over all rows at once."""
    if not _is_plain(site, "ct", "a", "b_like"):
        return None
    stacked = _stacked(site.shape("a"), site.shape("b_like"))
    if stacked is None:
        return None
    (*stack, depth, rows), columns = site.shape("a"), site.shape("b_like")[-1]
    if stacked:
        run = _product(math.prod(stack), rows, columns, depth)
        if run is None:
            return None
        return site.into(lambda ct, a, b_like, y: run(_turned(_three(a)), _three(ct), _three(y), NONE))
    run = _product(1, rows, columns, math.prod(stack) * depth)
    if run is None:
        return None
    return site.into(lambda ct, a, b_like, y: run(a.reshape(-1, rows).T, ct.reshape(-1, columns), y, NONE))


KERNELS = (
    gemm, gemm_left_cotangent, gemm_right_cotangent, matmul, matmul_left_cotangent, matmul_right_cotangent,
)  # fmt: skip
