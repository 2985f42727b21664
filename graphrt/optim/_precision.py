"""Updates of half-precision parameters are computed in float32: epsilon and squared gradients do not fit in 16 bits.

What an update returns is given its own dtype again by `graphrt.definitions.optimizer`.
"""

from __future__ import annotations

import numpy as np

from graphrt.definitions import OptimizerDefinition
from graphrt.op import Array


def widen(w: Array, *others: Array) -> tuple[Array, ...]:
    """The arrays as they are, or as float32 where the first is narrower."""
    arrays = (w, *others)
    return arrays if w.dtype.itemsize >= 4 else tuple(a.astype(np.float32) for a in arrays)


def keep_wide(*definitions: OptimizerDefinition) -> None:
    """Makes the state of these optimizers start as zeros of the parameter's dtype, float32 where that is narrower."""
    for definition in definitions:
        for name in definition.state:
            definition.init(name)(_zeros)


def _zeros(w: Array) -> Array:
    return np.zeros(w.shape, w.dtype if w.dtype.itemsize >= 4 else np.float32)
