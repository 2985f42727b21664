"""How this package makes ops: one elementwise function, dual-aware, with the derivative by each input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from graphrt.plugin import Array, op

DOMAIN = "graphrt.special"

special = partial(op, domain=DOMAIN, elementwise=True)
"""The decorator of every op here."""


def keeps_dtype(function: Callable[..., Array]) -> Callable[..., Array]:
    """SciPy computes half precision in single; this gives the result the dtype of the first argument."""

    def same_dtype(*args: Array) -> Array:
        return function(*args).astype(args[0].dtype, copy=False)

    return same_dtype
