"""`Dual`: an array and its tangent, carried through NumPy together.

Each `Dual` has a level. Where duals of several levels meet, the highest level is being differentiated and the
lower ones are constants to it, so a dual whose value and tangent are duals gives second derivatives without
mixing up the perturbations. What to do for each NumPy function stands in tables, which the other files of this
folder fill; a function in none of them raises `NotDifferentiableError`, so a tangent is never lost unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphrt.errors import NotDifferentiableError

Array: TypeAlias = Any
Handler: TypeAlias = Callable[..., Any]

UFUNCS: dict[tuple[Any, str], Handler] = {}
"""(ufunc, method) to ``handler(ufunc, args, kwargs)``; the method is ``"__call__"``, ``"reduce"``, ..."""

FUNCTIONS: dict[Any, Handler] = {}
"""NumPy function to ``handler(function, args, kwargs, instance)``; ``instance`` is the argument of ``like=``."""

MODULES: dict[str, Handler] = {}
"""Name of a NumPy module to the handler of all its functions that are not in `FUNCTIONS`."""


def _method(name: str) -> Callable[..., Any]:
    def method(self: Dual, *args: Any, **kwargs: Any) -> Any:
        return getattr(np, name)(self, *args, **kwargs)

    method.__name__, method.__doc__ = name, f"As `numpy.{name}`."
    return method


class Dual(np.lib.mixins.NDArrayOperatorsMixin):
    """A value and its tangent: forward mode by operator overloading.

    Behaves as a float (or complex) array in NumPy functions, operators, indexing and item assignment. Comparisons
    and integer results act on the value and are plain arrays.

    Args:
        value: float or complex [...]; integers become float64.
        tangent: broadcasts to the shape of ``value``, is cast to its dtype.
        level: which differentiation the tangent belongs to; by default one above what the parts carry.

    >>> x = Dual(3.0, 1.0)
    >>> np.sin(x) + x**2
    Dual(9.14112, tangent=5.01001)
    >>> np.max(Dual([1.0, 5.0], [10.0, 20.0]))
    Dual(5, tangent=20)
    """

    __slots__ = ("level", "tangent", "value")
    __array_priority__ = 1000.0
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: Any, tangent: Any, level: int | None = None):
        self.value = _as_inexact(value)
        tangent = tangent if hasattr(tangent, "dtype") else np.asarray(tangent)[()]
        if tangent.dtype != self.value.dtype:
            tangent = tangent.astype(self.value.dtype)
        if tangent.shape != self.value.shape:
            tangent = np.copy(np.broadcast_to(tangent, self.value.shape))
        self.tangent = tangent
        self.level = 1 + max(level_of(self.value), level_of(tangent)) if level is None else level

    # ---- NumPy's two doors -------------------------------------------------------------------------

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        where = kwargs.pop("where", True) if method == "__call__" else True
        if where is not True and out is None:
            raise NotDifferentiableError(f"np.{ufunc.__name__}(where=...) of dual arrays needs out= as well")
        if not any(isinstance(a, Dual) for a in args):
            result = getattr(ufunc, method)(*args, **kwargs)
        elif handler := UFUNCS.get((ufunc, method)):
            result = handler(ufunc, args, kwargs)
        else:
            dot = "" if method == "__call__" else f".{method}"
            raise NotDifferentiableError(f"np.{ufunc.__name__}{dot} has no derivative for dual arrays")
        return result if out is None else _store_all(out, result, where, ufunc.__name__)

    def __array_function__(self, function: Any, types: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        handler = FUNCTIONS.get(function) or MODULES.get(function.__module__)
        if handler is None:
            name = f"{function.__module__}.{function.__name__}"
            raise NotDifferentiableError(f"{name} has no derivative for dual arrays")
        if kwargs.get("out") is not None:
            out, rest = kwargs["out"], {k: v for k, v in kwargs.items() if k != "out"}
            return _store_all((out,), function(*args, **rest), True, function.__name__)
        return handler(function, args, kwargs, self)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise NotDifferentiableError(
            "a dual array cannot become a plain array: its tangent would be lost. Use NumPy functions and operators; "
            "allocate results with np.zeros_like(x) or np.zeros(shape, dtype, like=x), and take .value on purpose"
        )

    # ---- as an array -------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.value.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self.value.size  # type: ignore[no-any-return]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype  # type: ignore[no-any-return]

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        return self.size * self.itemsize

    @property
    def T(self) -> Any:
        return np.transpose(self)

    @property
    def mT(self) -> Any:
        return np.swapaxes(self, -1, -2)

    @property
    def real(self) -> Any:
        return np.real(self)

    @property
    def imag(self) -> Any:
        return np.imag(self)

    def __getitem__(self, index: Any) -> Dual:
        return make(self.value[index], self.tangent[index], self.level)

    def __setitem__(self, index: Any, x: Any) -> None:
        if level_of(x) > self.level:
            raise NotDifferentiableError(
                "a dual array of a lower level cannot take a dual of a higher one; allocate it with like= the higher"
            )
        self.value[index] = value_at(x, self.level)
        self.tangent[index] = x.tangent if level_of(x) == self.level else 0

    def __len__(self) -> int:
        return len(self.value)

    def __iter__(self) -> Iterator[Dual]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        raise NotDifferentiableError("float(x) of a dual array would lose its tangent; take x.value on purpose")

    def __repr__(self) -> str:
        return f"Dual({_text(self.value)}, tangent={_text(self.tangent)})"

    def astype(self, dtype: Any, **kwargs: Any) -> Any:
        """As `numpy.ndarray.astype`; an integer or bool type gives a plain array."""
        value = self.value.astype(dtype, **kwargs)
        return make(value, self.tangent.astype(dtype, **kwargs), self.level) if is_inexact(value.dtype) else value

    def reshape(self, *shape: Any, **kwargs: Any) -> Any:
        return np.reshape(self, shape[0] if len(shape) == 1 else shape, **kwargs)

    def transpose(self, *axes: Any) -> Any:
        return np.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)

    def flatten(self) -> Any:
        return np.copy(np.ravel(self))

    def conj(self) -> Any:
        return np.conjugate(self)

    def fill(self, x: Any) -> None:
        self[...] = x

    all = _method("all")
    any = _method("any")
    argmax = _method("argmax")
    argmin = _method("argmin")
    argsort = _method("argsort")
    clip = _method("clip")
    copy = _method("copy")
    cumprod = _method("cumprod")
    cumsum = _method("cumsum")
    diagonal = _method("diagonal")
    dot = _method("dot")
    max = _method("max")
    mean = _method("mean")
    min = _method("min")
    nonzero = _method("nonzero")
    prod = _method("prod")
    ravel = _method("ravel")
    repeat = _method("repeat")
    round = _method("round")
    squeeze = _method("squeeze")
    std = _method("std")
    sum = _method("sum")
    swapaxes = _method("swapaxes")
    take = _method("take")
    trace = _method("trace")
    var = _method("var")


# ---- helpers for the tables -----------------------------------------------------------------------


def tangent_of(x: Any, level: int | None = None) -> Any:
    """The tangent of a dual array (of this level, if one is given); zeros for any other array."""
    if isinstance(x, Dual) and level in (None, x.level):
        return x.tangent
    return np.zeros_like(x)


def next_level(*arrays: Any) -> int:
    """A level above every dual among the arrays: for a differentiation of a function of all of them.

    >>> inner = Dual(2.0, 1.0)
    >>> x = Dual(5.0, 1.0, next_level(inner))
    >>> (x * inner).tangent
    Dual(2, tangent=1)
    """
    return 1 + top_level(arrays)


def make(value: Any, tangent: Any, level: int) -> Dual:
    """A `Dual` of parts that are arrays already; fits the tangent to the value's shape and dtype."""
    if tangent.dtype != value.dtype:
        tangent = tangent.astype(value.dtype)
    if tangent.shape != value.shape:
        tangent = np.copy(np.broadcast_to(tangent, value.shape))
    result = Dual.__new__(Dual)
    result.value, result.tangent, result.level = value, tangent, level
    return result


def level_of(x: Any) -> int:
    """The level of a dual; 0 for anything else."""
    return x.level if isinstance(x, Dual) else 0


def value_at(x: Any, level: int) -> Any:
    """What ``x`` is to a differentiation at ``level``: the value of a dual of that level, else ``x`` itself."""
    return x.value if isinstance(x, Dual) and x.level == level else x


def is_inexact(dtype: np.dtype[Any]) -> bool:
    """Whether elements vary smoothly (floats, complex numbers, the floats of ``ml_dtypes``)."""
    return dtype.kind not in "iubOSUT"


def duals_in(tree: Any) -> Iterator[Dual]:
    """Every dual in nested lists, tuples and dictionaries."""
    if isinstance(tree, Dual):
        yield tree
    elif isinstance(tree, (list, tuple)):
        for x in tree:
            yield from duals_in(x)
    elif isinstance(tree, dict):
        for x in tree.values():
            yield from duals_in(x)


def top_level(tree: Any) -> int:
    """The highest level of any dual in ``tree``; 0 without duals."""
    return max((d.level for d in duals_in(tree)), default=0)


def map_tree(function: Callable[[Any], Any], tree: Any) -> Any:
    """Applies a function to each leaf of nested lists, tuples and dictionaries."""
    if isinstance(tree, (list, tuple)):
        items: Iterable[Any] = (map_tree(function, x) for x in tree)
        return list(items) if isinstance(tree, list) else tuple(items)
    if isinstance(tree, dict):
        return {k: map_tree(function, x) for k, x in tree.items()}
    return function(tree)


def values_at(tree: Any, level: int) -> Any:
    """`value_at` of every leaf."""
    return map_tree(lambda x: value_at(x, level), tree)


def _as_inexact(x: Any) -> Any:
    x = x if hasattr(x, "dtype") else np.asarray(x)[()]
    return x if is_inexact(x.dtype) else x.astype(np.float64)


def _store_all(out: Any, result: Any, where: Any, name: str) -> Any:
    if not isinstance(result, tuple):
        return _store(out[0], result, where, name)
    return tuple(r if o is None else _store(o, r, where, name) for o, r in zip(out, result, strict=True))


def _store(out: Any, result: Any, where: Any, name: str) -> Any:
    if level_of(result) > level_of(out):
        raise NotDifferentiableError(
            f"np.{name} cannot write a dual array into a plain one (out= or an in-place operator): the tangent would "
            "be lost. Write x = x + y, or allocate with np.zeros_like of the differentiable input"
        )
    base = out
    while isinstance(base, Dual):
        base = base.value
    if not isinstance(base, np.ndarray):  # a scalar: `x += y` binds a new one, as in NumPy
        return result
    out[...] = result if where is True else np.where(where, result, out)
    return out


def _text(x: Any) -> str:
    if isinstance(x, Dual):
        return repr(x)
    return f"{x:.6g}" if np.ndim(x) == 0 else np.array2string(x, precision=6, separator=", ", threshold=20)
