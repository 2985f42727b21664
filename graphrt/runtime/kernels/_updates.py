"""Updates of several parameters by the kernel that serves one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from graphrt.definitions import Into, Kernel, KernelSite
from graphrt.op import Array
from graphrt.runtime.kernels._scratch import Bound
from graphrt.runtime.update_groups import STATES
from graphrt.types import TensorType


def updates_by(site: KernelSite, kernels: Mapping[str, Kernel], *, together: bool = True) -> Into | None:
    """A kernel for a group of updates: of all as of one parameter where their memory allows it, else one by one.

    Args:
        site: of a node ``graphrt::FusedUpdates``, see `graphrt.runtime.update_groups`.
        kernels: optimizer to the kernel for one update, which gives the same bits to an element whatever is beside it.
        together: whether updates may be made as one; if not, their linker can link them.

    Returns:
        None where none of the kernels serves.
    """
    body: Any = site.attributes["body"]
    first, n, types = body.nodes[0], len(body.nodes), site.inputs["inputs"]
    if first.op_type not in kernels or None in site.outputs:
        return None
    names = STATES[first.op_type]
    there = [bool(name) for name in first.inputs[4:]] + [False] * (4 + len(names) - len(first.inputs))
    dtype, size = types[0].dtype, sum(math.prod(t.shape) for t in types[:n])

    def made_for(shape: tuple[int, ...]) -> Into | None:
        t = TensorType(dtype, shape)
        states = {name: t if given else None for name, given in zip(names, there, strict=True)}
        inputs = {"w": t, "g": t, "learning_rate": types[2 * n], "step": types[2 * n + 1], **states}
        found = kernels[first.op_type].make(
            KernelSite(first, inputs, first.attributes, (t, *states.values()), site.largest)
        )
        return found if isinstance(found, Into) else None

    whole, each = made_for((size,)), [into for t in types[:n] if (into := made_for(t.shape)) is not None]
    kinds = 1 + sum(there)
    if whole is None or len(each) < n or len(whole.over) < kinds:
        return None
    joined = Bound(partial(_joined, n))
    begin, middle = 2 * n + 2, 2 * n + 2 + n * (kinds - 1)
    end = middle + n * kinds

    def fill(*arrays: Any) -> None:
        rate, step = arrays[2 * n : begin]
        scratch = arrays[end + together :]
        pieces = joined(*arrays[:n], *arrays[begin:end]) if together else None
        if pieces is not None:
            np.concatenate([g.reshape(-1) for g in arrays[n : 2 * n]], out=arrays[end])
            states = spread(pieces[1:])
            whole.fill(pieces[0], arrays[end], rate, step, *states, pieces[0], *states, *scratch)
            return
        for i, into in enumerate(each):
            old, (new, *kept) = spread(arrays[begin + i : middle : n]), arrays[middle + i : end : n]
            into.fill(arrays[i], arrays[n + i], rate, step, *old, new, *spread(kept), *scratch)

    def spread(states: Sequence[Array]) -> list[Any]:
        given = iter(states)
        return [next(given) if is_there else None for is_there in there]

    over = {k: (i,) for k, i in enumerate((*range(n), *range(begin, middle)))}
    scratch: Any = [((size,), dtype)] * together + [(t.shape, t.dtype) for t in whole.scratch]
    return site.into(fill, over=over, scratch=scratch, linker=None if together else whole.linker)


def _joined(n: int, *arrays: Array) -> list[Array] | None:
    """For each kind of n arrays the flat array that they are the pieces of, one after the other.

    Args:
        n: how many there are of each kind.
        arrays: those of all kinds, first the old ones, then the new ones.

    Returns:
        None unless the memory of each kind is in one piece, and the new arrays are where the old ones are.
    """
    half = len(arrays) // 2
    made: list[Array] = []
    for first in range(half, 2 * half, n):
        base = arrays[first].base
        if not isinstance(base, np.ndarray) or base.ndim != 1 or not base.flags.carray:
            return None
        start = at = _address(arrays[first])
        for old, new in zip(arrays[first - half : first - half + n], arrays[first : first + n], strict=True):
            lies = new.base is base and new.dtype == base.dtype and new.flags.c_contiguous
            if not lies or _address(new) != at or _address(old) != at:
                return None
            at += new.nbytes
        begin = (start - _address(base)) // base.itemsize
        made.append(base[begin : begin + (at - start) // base.itemsize])
    return made


def _address(x: Array) -> int:
    return int(x.__array_interface__["data"][0])
