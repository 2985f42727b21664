"""The built-in kernels, one file per family. Each does what the op's own function does, faster, where it serves.

A kernel is made for one node when its plan is made (`graphrt.definitions.Kernel`): shapes, dtypes and attributes are
known then, so the function that runs decides nothing. Every kernel is tested against its op's own function.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator

from graphrt.definitions import Kernel

FAMILIES = (
    "attention", "convolution", "elementwise", "layer_normalization", "losses", "matmul",
    "normalization", "optimizers", "pooling", "products", "recurrent", "reduction", "softmax",
)  # fmt: skip
"""The modules of this folder that define kernels, each in its tuple ``KERNELS``."""


def builtin_kernels() -> Iterator[Kernel]:
    """Every built-in kernel."""
    for family in FAMILIES:
        yield from importlib.import_module(f"graphrt.runtime.kernels.{family}").KERNELS
