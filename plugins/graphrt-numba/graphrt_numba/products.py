"""Matrix products of `product_loops`, shared among threads, with the bias added on the way."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product

import numpy as np

from graphrt.definitions import Into
from graphrt.plugin import Array, KernelSite, kernel
from graphrt.runtime.threads import threads_for
from graphrt_numba.sharing import LEAST, PRIORITY, is_worth, launching

Shape = tuple[int, ...]

SPEED = 0.02
"""Nanoseconds that one multiplication takes, about."""
FEWEST = 4
"""Rows and columns of a product, at least: with fewer, most of the time goes to reading the other operand."""
SMALLEST = 1 << 8
"""Multiplications of a product, at least."""
TALL, WIDE = 8, 32
"""Parts of a product begin at multiples of so many rows and columns."""
LARGEST, DEEP = 1 << 14, 128
"""Numbers of a product of which the parts are summed up, at most; terms of a sum in each of them, at least."""
NONE, NOTHING = np.empty(0, np.float32), np.empty((0, 0), np.float32)


def _cuts(length: int, count: int, step: int) -> list[tuple[int, int]]:
    """First and last of about so many parts of equal length."""
    steps = -(-length // step)
    count = min(count, steps)
    at = [min(steps * i // count * step, length) for i in range(count + 1)]
    return list(pairwise(at))


def _parts(stack: int, rows: int, columns: int, depth: int, along: str) -> Array:
    """A stack of products in parts [parts, 8]: the first and last matrix, row, column, and term of the sums.

    A product is divided along the first axis of the matrix of weights that it reads or makes: in all products with it,
    and when it is updated, a thread then has the same part of it in its cache.

    Args:
        stack, rows, columns, depth: how many of each.
        along: where that axis is: ``"depth"``, ``"columns"`` or ``"rows"``.
    """
    count = threads_for(stack * rows * columns * depth * SPEED, LEAST)
    of_stack = min(stack, count)
    each = count // of_stack
    if along == "depth" and (of_stack > 1 or rows * columns > LARGEST or depth < each * DEEP):
        along = "columns"
    if along == "columns":
        across = max(1, min(each, columns // (2 * WIDE)))
        shares = each // across, across, 1
    else:
        shares = (each, 1, 1) if along == "rows" else (1, 1, each)
    cuts = zip((rows, columns, depth), shares, (TALL, WIDE, TALL), strict=True)
    grid = product(_cuts(stack, of_stack, 1), *(_cuts(*cut) for cut in cuts))
    return np.array([sum(part, ()) for part in grid])


class _Product:
    """What writes a b and a bias into c, which has its columns or its rows side by side.

    Attributes:
        scratch: the array it needs, as `KernelSite.into` takes it.
    """

    def __init__(self, stack: int, rows: int, columns: int, depth: int, along: str):
        from graphrt_numba import product_loops
        from graphrt_numba.team import TEAM

        parts = _parts(stack, rows, columns, depth, along)
        sums = int(np.count_nonzero(parts[:, 6]))
        self.scratch = [((sums, rows * columns), "float32")] if sums else []
        kinds = "int64*", "int64", "int64**", "int64", *["float32[4]"] * 3, "float32*", "float32**"
        self._run = TEAM.calls(product_loops.products, kinds, len(parts) - 1, parts, product_loops.product())

    def __call__(self, a: Array, b: Array, c: Array, bias: Array, sums: Array = NOTHING) -> None:
        """Operands are matrices or stacks of as many; ``bias`` is empty if there is none."""
        self._run(_of_four(a), _of_four(b), _of_four(c), bias, sums)


def _product(stack: int, rows: int, columns: int, depth: int, along: str) -> _Product | None:
    """None where the loops would not pay."""
    work = stack * rows * columns * depth
    return None if min(rows, columns) < FEWEST or work < SMALLEST else _Product(stack, rows, columns, depth, along)


def _into(
    site: KernelSite, sizes: tuple[int, int, int, int], along: str, matrices: Callable[..., tuple[Array, Array, Array]]
) -> Into | None:
    """A product of what ``matrices`` makes of a node's inputs and output: operands and result."""
    run = _product(*sizes, along)
    if run is None:
        return None
    count = len(site.inputs) + 1
    return launching(site, lambda *arrays: run(*matrices(*arrays[:count]), NONE, *arrays[count:]), scratch=run.scratch)


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
    """Whether these inputs are all float32, in a plan that is worth compiled loops."""
    return site.is_float(*names) and any(is_worth(site, site.inputs[n]) for n in names)


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
    run = _product(1, rows, columns, depth, "columns" if transpose_b else "depth")
    if run is None:
        return None
    is_row = bias is not None and site.shape("c") in ((columns,), (1, columns))

    def multiply(a: Array, b: Array, c: Array, y: Array, *sums: Array) -> None:
        run(a.T if transpose_a else a, b.T if transpose_b else b, y, c.ravel() if is_row else NONE, *sums)

    def multiply_and_add(a: Array, b: Array, c: Array, y: Array, *sums: Array) -> None:
        multiply(a, b, c, y, *sums)
        np.add(y, c, y)

    if bias is None or is_row:
        return launching(site, multiply, scratch=run.scratch)
    return site.into(multiply_and_add, scratch=run.scratch)


@kernel("Gemm.vjp[a]", name="numba_gemm_left_cotangent", priority=PRIORITY)
def gemm_left_cotangent(site: KernelSite) -> Into | None:
    """``ct @ b.T``, in the orientation of a."""
    if not _is_plain(site, "ct", "b") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    rows, depth = site.shape("ct")
    sizes = 1, rows, math.prod(site.shape("b")) // max(depth, 1), depth
    along = "depth" if transpose_b and not transpose_a else "columns"
    return _into(
        site, sizes, along, lambda ct, b, y: (ct, b if transpose_b else b.T, y.T if transpose_a else y)
    )  # fmt: skip


@kernel("Gemm.vjp[b]", name="numba_gemm_right_cotangent", priority=PRIORITY)
def gemm_right_cotangent(site: KernelSite) -> Into | None:
    """``a.T @ ct``, in the orientation of b."""
    if not _is_plain(site, "ct", "a") or site.attributes["alpha"] != 1:
        return None
    transpose_a, transpose_b = site.attributes["transA"], site.attributes["transB"]
    depth, columns = site.shape("ct")
    sizes = 1, math.prod(site.shape("a")) // max(depth, 1), columns, depth
    along = "columns" if transpose_b else "rows"
    return _into(
        site, sizes, along, lambda ct, a, y: (a if transpose_a else a.T, ct, y.T if transpose_b else y)
    )  # fmt: skip


# ---- MatMul ------------------------------------------------------------------------------------------------


def _stacked(site: KernelSite, a: str, b: str) -> bool | None:
    """Whether b is a stack as a is (not: one matrix, for all of a); None for other operands."""
    of_a, of_b = site.shape(a), site.shape(b)
    if len(of_a) >= 2 and len(of_b) == 2:
        return False
    return True if min(len(of_a), len(of_b)) >= 2 and of_a[:-2] == of_b[:-2] else None


@kernel("MatMul", name="numba_matmul", priority=PRIORITY)
def matmul(site: KernelSite) -> Into | None:
    """``a @ b``; for a matrix b all rows of a in one product."""
    stacked = _stacked(site, "a", "b") if _is_plain(site, "a", "b") else None
    if stacked is None:
        return None
    (*stack, rows, depth), columns = site.shape("a"), site.shape("b")[-1]
    count = math.prod(stack)
    if stacked:
        return _into(site, (count, rows, columns, depth), "columns", lambda a, b, y: (_three(a), _three(b), _three(y)))
    return _into(
        site, (1, count * rows, columns, depth), "depth",
        lambda a, b, y: (a.reshape(-1, depth), b, y.reshape(-1, columns)),
    )  # fmt: skip


@kernel("MatMul.vjp[a]", name="numba_matmul_left_cotangent", priority=PRIORITY)
def matmul_left_cotangent(site: KernelSite) -> Into | None:
    """``ct @ b.T``."""
    stacked = _stacked(site, "a_like", "b") if _is_plain(site, "ct", "a_like", "b") else None
    if stacked is None:
        return None
    (*stack, rows, columns), depth = site.shape("a_like"), site.shape("b")[-1]
    count = math.prod(stack)
    if stacked:
        return _into(
            site, (count, rows, columns, depth), "columns",
            lambda ct, a_like, b, y: (_three(ct), _turned(_three(b)), _three(y)),
        )  # fmt: skip
    return _into(
        site, (1, count * rows, columns, depth), "columns",
        lambda ct, a_like, b, y: (ct.reshape(-1, depth), b.T, y.reshape(-1, columns)),
    )  # fmt: skip


@kernel("MatMul.vjp[b]", name="numba_matmul_right_cotangent", priority=PRIORITY)
def matmul_right_cotangent(site: KernelSite) -> Into | None:
    """``a.T @ ct``; for a matrix b over all rows at once."""
    stacked = _stacked(site, "a", "b_like") if _is_plain(site, "ct", "a", "b_like") else None
    if stacked is None:
        return None
    (*stack, depth, rows), columns = site.shape("a"), site.shape("b_like")[-1]
    count = math.prod(stack)
    if stacked:
        return _into(
            site, (count, rows, columns, depth), "columns",
            lambda ct, a, b_like, y: (_turned(_three(a)), _three(ct), _three(y)),
        )  # fmt: skip
    return _into(
        site, (1, rows, columns, count * depth), "rows",
        lambda ct, a, b_like, y: (a.reshape(-1, rows).T, ct.reshape(-1, columns), y),
    )  # fmt: skip


KERNELS = (
    gemm, gemm_left_cotangent, gemm_right_cotangent,
    matmul, matmul_left_cotangent, matmul_right_cotangent,
)  # fmt: skip
