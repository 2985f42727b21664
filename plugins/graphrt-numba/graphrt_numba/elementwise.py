"""Kernels for elementwise ops and chains of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from graphrt.definitions import Into
from graphrt.manager import get_registry
from graphrt.plugin import Array, Graph, Kernel, KernelSite, TensorType, kernel
from graphrt.runtime import fusion
from graphrt.runtime.formulas import formula
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth, launching

Shape = tuple[int, ...]

SPEED = 0.2
"""Nanoseconds that one op takes for one number, about."""


@kernel("Fused", name="numba_chain", domain="graphrt", priority=PRIORITY)
def chain(site: KernelSite) -> Into | None:
    """All nodes of the body in one loop."""
    body: Graph = site.attributes["body"]
    if any(n.op_type not in fusion.MEMBERS or n.domain for n in body.nodes):
        return None
    names = {name: f"x{i}" for i, name in enumerate(body.input_names)}
    statements = []
    for i, node in enumerate(body.nodes):
        op = get_registry().op_of(node, body)
        attributes = {**op.defaults(), **node.attributes}
        text = formula(node.op_type, [names.get(n, "") for n in node.inputs], attributes)
        names[node.outputs[0]] = f"y{i}"
        statements.append(f"y{i} = {text}")
    return _loop(site, site.inputs["inputs"], statements, [names[o] for o in body.output_names])


def _single(op_type: str) -> Kernel:
    """The kernel of one op: a chain of one."""

    def make(site: KernelSite) -> Into | None:
        if "broadcast" in site.attributes:  # an op of opset 6, whose rules differ
            return None
        types: list[Any] = []
        for name, t in site.inputs.items():
            if name.endswith("_like") and t is not None and t != site.outputs[0]:
                return None
            types += t if isinstance(t, tuple) else [t]
        present = iter(range(len(types)))
        operands = ["" if t is None else f"x{next(present)}" for t in types]
        return _loop(site, types, [f"y = {formula(op_type, operands, site.attributes)}"], ["y"])

    return Kernel(f"numba_{op_type}", op_type, make, priority=PRIORITY)


def _loop(
    site: KernelSite, types: Sequence[TensorType | None], statements: Sequence[str], outputs: Sequence[str]
) -> Into | None:
    """The statements as a loop, if it is worth compiling one.

    Args:
        site: where it is to serve.
        types: of the flat inputs, None where one is absent; the statements call those that are not x0, x1, ...
        statements: ``name = expression``.
        outputs: the names of the outputs.
    """
    made = site.outputs[0]
    given = [t for t in types if t is not None]
    if not isinstance(made, TensorType) or not is_worth(site, made) or any(t != made for t in site.outputs):
        return None
    if not all(fusion.broadcasts(t, made) for t in given):
        return None
    dims, varies = collapse(made.shape, [t.shape for t in given])  # type: ignore[arg-type, misc]
    if not dims:
        return None
    from graphrt_numba import chains  # and with it numba, now that there is something to compile

    loop = chains.chain_loop(tuple(statements), tuple(varies), tuple(outputs))
    arguments = [*["int64"] * len(dims), *["float32*"] * (len(given) + len(outputs))]
    run = by_rows(loop, arguments, bounds_of(chains.rows_of(dims), math.prod(dims) * SPEED * len(statements)))

    def fill(*arrays: Array) -> None:
        run(*dims, *[x.ravel() for x in arrays if x is not None])

    return launching(site, fill, over=dict.fromkeys(range(len(outputs)), tuple(range(len(types)))))


def collapse(shape: Shape, operands: Iterable[Shape]) -> tuple[Shape, list[tuple[bool, ...]]]:
    """A shape with as few axes as will do, and along which of them each of some operands varies.

    Axes side by side become one where each operand varies along both or is broadcast along both.

    >>> collapse((8, 16, 32, 32), [(8, 16, 32, 32), (16, 1, 1), ()])
    ((8, 16, 1024), [(True, True, True), (False, True, False), (False, False, False)])
    """
    full = [(1,) * (len(shape) - len(o)) + tuple(o) for o in operands]
    dims: list[int] = []
    kinds: list[tuple[bool, ...]] = []
    for axis, n in enumerate(shape):
        kind = tuple(o[axis] == n for o in full)
        if kinds and kind == kinds[-1]:
            dims[-1] *= n
        elif n != 1:
            dims.append(n)
            kinds.append(kind)
    return tuple(dims), [tuple(k[i] for k in kinds) for i in range(len(full))]


KERNELS = (chain, *(_single(op_type) for op_type in sorted(fusion.MEMBERS)))
