"""Copies of arrays with their axes in another order."""

from __future__ import annotations

import math

from graphrt.definitions import Into
from graphrt.plugin import Graph, KernelSite, TensorType, kernel
from graphrt.runtime.rearrangements import RESHAPES, TRANSPOSES, permutation
from graphrt_numba.sharing import PRIORITY, bounds_of, by_rows, is_worth, launching

SPEED = 0.4
"""Nanoseconds that one number takes, about."""


@kernel("Fused", name="numba_rearrangement", domain="graphrt", priority=PRIORITY)
def rearrangement(site: KernelSite) -> Into | None:
    """A transpose and a reshape: the elements in their new order."""
    body: Graph = site.attributes["body"]
    x = site.inputs["inputs"][0]
    if len(body.nodes) != 2 or not isinstance(x, TensorType) or not is_worth(site, x) or len(x.shape or ()) > 4:
        return None
    first, last = body.nodes
    if first.domain or first.op_type not in TRANSPOSES or last.op_type not in RESHAPES:
        return None
    order = permutation(first.attributes.get("perm"), len(x.shape), "." in first.op_type)  # type: ignore[arg-type]
    *outer, _ = shape = [1] * (4 - len(order)) + [x.shape[i] for i in order]  # type: ignore[index]
    if 0 in shape:
        return None
    from graphrt_numba import reduction_loops as loops

    rows = math.prod(outer)
    run = by_rows(loops.copy_rows, ["float32[4]", "float32*"], bounds_of(rows, math.prod(shape) * SPEED))
    more = (None,) * (4 - len(order))
    return launching(site, lambda x, *rest: run(x.transpose(order)[more], rest[-1].ravel()))


KERNELS = (rearrangement,)
