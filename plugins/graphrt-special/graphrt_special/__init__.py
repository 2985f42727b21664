"""Special functions as graphrt ops, in the domain ``graphrt.special``."""

from __future__ import annotations

from collections.abc import Iterable

from graphrt.plugin import Op, hookimpl
from graphrt_special import bessel, error, gamma, other

OPS: tuple[Op, ...] = (*gamma.OPS, *error.OPS, *bessel.OPS, *other.OPS)


@hookimpl
def graphrt_register_ops() -> Iterable[Op]:
    """All ops of this package."""
    return OPS
