"""Dual arrays: a value and its tangent carried through NumPy (forward mode by operator overloading).

What to do for each NumPy function is read when a public name is first used, except `elementary`, which needs none of
it: plain arrays go through functions that it has made without.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graphrt.dual.elementwise import elementary

if TYPE_CHECKING:
    from graphrt.dual.array import Dual, next_level, tangent_of

__all__ = ["Dual", "elementary", "next_level", "tangent_of"]

_TABLES = "algebra", "creation", "functions", "selection", "ufuncs"
"""The modules that fill the tables of `graphrt.dual.array`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'graphrt.dual' has no attribute {name!r}")
    for table in _TABLES:
        importlib.import_module(f"graphrt.dual.{table}")
    globals()[name] = found = getattr(importlib.import_module("graphrt.dual.array"), name)
    return found
