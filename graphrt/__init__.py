"""graphrt: an interpreter over serialized op graphs that runs, differentiates and trains them.

The public names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graphrt import errors, models, optim
    from graphrt.dual import Dual
    from graphrt.errors import GraphrtError
    from graphrt.expressions import expression, grad
    from graphrt.io import load, save
    from graphrt.ir import Graph, Node, Value
    from graphrt.ir.builder import GraphBuilder
    from graphrt.runtime.session import Session
    from graphrt.train import Dataset, Trainer, load_data
    from graphrt.types import TensorType

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Dual",
    "Graph",
    "GraphBuilder",
    "GraphrtError",
    "Node",
    "Session",
    "TensorType",
    "Trainer",
    "Value",
    "__version__",
    "errors",
    "expression",
    "grad",
    "load",
    "load_data",
    "models",
    "optim",
    "save",
]

_HOMES = {
    "Dataset": "graphrt.train",
    "Dual": "graphrt.dual",
    "Graph": "graphrt.ir",
    "GraphBuilder": "graphrt.ir.builder",
    "GraphrtError": "graphrt.errors",
    "Node": "graphrt.ir",
    "Session": "graphrt.runtime.session",
    "TensorType": "graphrt.types",
    "Trainer": "graphrt.train",
    "Value": "graphrt.ir",
    "errors": "",
    "expression": "graphrt.expressions",
    "grad": "graphrt.expressions",
    "load": "graphrt.io",
    "load_data": "graphrt.train",
    "models": "",
    "optim": "",
    "save": "graphrt.io",
}
"""Public name to the module it lives in; "" for a module of this package."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'graphrt' has no attribute {name!r}")
    found = getattr(importlib.import_module(home), name) if home else importlib.import_module(f"graphrt.{name}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
