"""Small helpers on arrays that rules are written with."""

from __future__ import annotations

import numpy as np

from graphrt.op.schema import Array


def like(x: Array) -> Array:
    """Shape and dtype of an array, as a read-only array of zeros that owns one element of memory.

    >>> like(np.ones((2, 3), "float32")).strides
    (0, 0)

    A list gives the list of its arrays' likes; None gives None.
    """
    if x is None or isinstance(x, list):
        return x if x is None else [like(e) for e in x]
    return np.broadcast_to(np.zeros((), x.dtype), x.shape)


def unbroadcast(ct: Array, x_like: Array | None) -> Array:
    """Sums a cotangent over the axes along which ``x`` was broadcast: the adjoint of broadcasting.

    Args:
        ct: float [...]; cotangent of a value that ``x`` was broadcast to.
        x_like: an array with the shape of ``x``; None leaves ``ct`` as it is.

    Returns:
        float, the shape of ``x_like``, the dtype of ``ct``.
    """
    if x_like is None or ct.shape == x_like.shape:
        return ct
    extra = ct.ndim - x_like.ndim
    axes = [*range(extra), *(extra + i for i, n in enumerate(x_like.shape) if n == 1 and ct.shape[extra + i] != 1)]
    summed = np.sum(ct, axis=tuple(axes), dtype=ct.dtype) if axes else ct
    return np.reshape(np.broadcast_to(summed, x_like.shape) if summed.size == 1 else summed, x_like.shape)
