"""NumPy functions on dual arrays: linear ones by a list, the others by composition of simpler ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.dual.array import FUNCTIONS, MODULES, level_of, map_tree, top_level, values_at
from graphrt.dual.ufuncs import linear, multilinear, value_only, zip_duals
from graphrt.errors import NotDifferentiableError

Args = Sequence[Any]
Kwargs = dict[str, Any]

LINEAR = """
    array_split astype broadcast_to compress copy cumsum cumulative_sum delete diag diagflat diagonal diff dsplit
    expand_dims extract flip fliplr flipud hsplit imag matrix_transpose mean moveaxis ravel real repeat reshape
    resize roll rollaxis rot90 split squeeze swapaxes take take_along_axis tile trace transpose tril triu
    unstack vsplit
    lib.stride_tricks.sliding_window_view linalg.diagonal linalg.matrix_transpose linalg.trace
"""
MULTILINEAR = """
    convolve correlate cross dot einsum inner kron outer tensordot vdot
    linalg.cross linalg.matmul linalg.outer linalg.tensordot linalg.vecdot
"""
VALUE_ONLY = """
    all allclose any argmax argmin argsort argwhere around array_equal array_equiv argpartition count_nonzero digitize
    fix flatnonzero iscomplex iscomplexobj isclose isneginf isposinf isreal isrealobj lexsort may_share_memory
    min_scalar_type ndim nonzero result_type round searchsorted shape shares_memory size can_cast common_type
    nanargmax nanargmin
"""
JOINT = {
    "append": (0, 1), "atleast_1d": None, "atleast_2d": None, "atleast_3d": None, "block": (0,),
    "broadcast_arrays": None, "column_stack": (0,), "concatenate": (0,), "dstack": (0,), "hstack": (0,),
    "insert": (0, 2), "meshgrid": None, "select": (1, 2), "stack": (0,), "vstack": (0,),
}  # fmt: skip
"""Functions linear in several arguments together, and which (None: all positional ones)."""


def implements(*functions: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: what a NumPy function does to dual arrays, written with the function's own signature."""

    def register(implementation: Callable[..., Any]) -> Callable[..., Any]:
        def handler(function: Any, args: Args, kwargs: Kwargs, instance: Any) -> Any:
            try:
                return implementation(*args, **kwargs)
            except TypeError as e:
                if implementation.__name__ not in str(e):
                    raise
                raise NotDifferentiableError(f"np.{function.__name__} on dual arrays: {e}") from e

        FUNCTIONS.update(dict.fromkeys(functions, handler))
        return implementation

    return register


def _joint(places: tuple[int, ...] | None) -> Callable[..., Any]:
    def handler(function: Any, args: Args, kwargs: Kwargs, instance: Any) -> Any:
        level = top_level((args, kwargs))
        if top_level(kwargs) == level:
            raise NotDifferentiableError(f"np.{function.__name__}: pass dual arrays by position")
        tangents = [map_tree(lambda x: joint_tangent(x, level), a) if places is None or i in places else a
                    for i, a in enumerate(values_or_tangents(args, level, places))]  # fmt: skip
        return zip_duals(function(*values_at(tuple(args), level), **kwargs), function(*tangents, **kwargs), level)

    return handler


def values_or_tangents(args: Args, level: int, places: tuple[int, ...] | None) -> list[Any]:
    """The arguments, with those outside ``places`` as values."""
    return [a if places is None or i in places else values_at(a, level) for i, a in enumerate(args)]


def joint_tangent(x: Any, level: int) -> Any:
    """The tangent of a dual of this level; zeros for an array or number that is constant to it."""
    if level_of(x) == level:
        return x.tangent
    return x if x is None else 0 if isinstance(x, (bool, int, float, complex)) else np.zeros_like(x)


def _named(path: str) -> Any:
    place: Any = np
    for part in path.split("."):
        place = getattr(place, part, None)
    return place


for _names, _handler in ((LINEAR, linear), (MULTILINEAR, multilinear), (VALUE_ONLY, value_only)):
    FUNCTIONS.update({f: _handler for f in map(_named, _names.split()) if f is not None})
FUNCTIONS.update({_named(name): _joint(places) for name, places in JOINT.items()})
MODULES["numpy.fft"] = linear
