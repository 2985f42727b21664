"""Who may write to which array: what a run borrows, what its caller may keep, and weights that a session overwrites."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from graphrt.op import Array

Arrays = dict[str, Any]


def lent(x: Any) -> Any:
    """An array as a run gets it: read-only, and so is every view of it that an op may return."""
    if isinstance(x, np.ndarray):
        if not x.flags.writeable:
            return x
        view = x.view()
        view.setflags(write=False)
        return view
    return [lent(e) for e in x] if isinstance(x, list) else x


class Lending:
    """Weights as runs get them: `lent`, and the very view of before as long as the array is the same."""

    def __init__(self) -> None:
        self._views: dict[str, tuple[Any, Any]] = {}

    def of(self, name: str, x: Any) -> Any:
        """The weight of this name, which is x now."""
        held = self._views.get(name)
        if held is not None and held[0] is x:
            return held[1]
        view = lent(x)
        if view is x or not isinstance(x, np.ndarray):
            self._views.pop(name, None)
        else:
            self._views[name] = x, view
        return view


def frozen(x: Any) -> Any:
    """An array made read-only: weights are replaced, never written to, so a run may borrow them as they are."""
    if isinstance(x, np.ndarray):
        x.flags.writeable = False
    return x


def owned(x: Any, taken: set[int]) -> Any:
    """A result that its receiver may keep and write to: what is lent, or taken already, is copied.

    Args:
        x: what an op returned.
        taken: identities of the memory of what was given away before; added to.
    """
    if isinstance(x, (list, tuple)):
        return [owned(e, taken) for e in x]
    if isinstance(x, np.generic):
        return np.asarray(x)
    if not isinstance(x, np.ndarray):
        return x
    root = x
    while isinstance(root.base, np.ndarray):
        root = root.base
    if not x.flags.writeable or id(root) in taken:
        return x.copy()
    taken.add(id(root))
    return x


def copied(x: Any) -> Any:
    """An array, or a list of arrays, in memory of its own."""
    return [copied(e) for e in x] if isinstance(x, list) else x.copy() if isinstance(x, np.ndarray) else x


class OwnWeights:
    """The arrays of weights that a session overwrites: its own copies, the small ones side by side in their order."""

    SMALL = 1 << 16
    """Bytes that an array has at most to lie beside others: more than what `graphrt.runtime.update_groups` groups."""

    def __init__(self) -> None:
        self._own: dict[str, tuple[Array, Array]] = {}  # the array, and the view of it that is the parameter
        self._order: tuple[str, ...] = ()

    def writable(self, names: Iterable[str], parameters: Arrays) -> Arrays:
        """The arrays that hold these parameters now; one that is not the session's own is replaced by a copy."""
        order = tuple(names)
        arrays: Arrays = {}
        if order == self._order:
            for name in order:
                arrays[name], view = self._own[name]
                if parameters[name] is not view:
                    break
            else:
                return arrays
        self._take(order, parameters)
        return {name: self._own[name][0] for name in order}

    def _take(self, order: tuple[str, ...], parameters: Arrays) -> None:
        """Makes these parameters the session's own."""
        self._order = order
        small: dict[Any, list[str]] = {}
        for name in order:
            held = parameters[name]
            if held.nbytes <= self.SMALL:
                small.setdefault(held.dtype, []).append(name)
            elif name not in self._own or held is not self._own[name][1]:
                self._keep(name, np.array(held, order="C"), parameters)
        for dtype, names in small.items():
            memory, at = np.empty(sum(parameters[name].size for name in names), dtype), 0
            for name in names:
                held = parameters[name]
                own = memory[at : at + held.size].reshape(held.shape)
                own[...] = held
                self._keep(name, own, parameters)
                at += held.size

    def _keep(self, name: str, own: Array, parameters: Arrays) -> None:
        parameters[name] = view = lent(own)
        self._own[name] = own, view

    def release(self, names: Iterable[str]) -> None:
        """Forgets the arrays of parameters that live elsewhere now."""
        for name in names:
            if self._own.pop(name, None) is not None:
                self._order = ()
