"""Dual arrays: a value and its tangent carried through NumPy (forward mode by operator overloading)."""

import graphrt.dual.algebra
import graphrt.dual.creation
import graphrt.dual.functions
import graphrt.dual.selection
import graphrt.dual.ufuncs  # noqa: F401 (each fills the tables of array.py)
from graphrt.dual.array import Dual, next_level, tangent_of
from graphrt.dual.elementwise import elementary

__all__ = ["Dual", "elementary", "next_level", "tangent_of"]
