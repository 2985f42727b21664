"""Compiles loops with numba, and keeps what was compiled on disk.

Loops are plain functions of flat, contiguous arrays and numbers. They are compiled for given types when a plan is made,
run without the interpreter's lock, and never start threads. The cache lies in a folder of the user's (or in
``NUMBA_CACHE_DIR``), so that it also works where the installation cannot be written to; what another version of this
package or of numba has left there is not used.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numba.extending
import numba.misc.appdirs
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import caching, config, errors, types
from numba.np import arrayobj

njit: Any = numba.njit
intrinsic: Any = numba.extending.intrinsic
arrays: Any = arrayobj
settings: Any = config
folders: Any = numba.misc.appdirs
OPTIONS = {"nogil": True, "error_model": "numpy"}
LOCAL = 512
"""How many elements the arrays that `local` makes have."""


def inline(function: Callable[..., Any]) -> Any:
    """Decorator: a function that becomes part of the loops that call it."""
    return njit(forceinline=True, **OPTIONS)(function)


def helper(function: Callable[..., Any]) -> Any:
    """Decorator: a function that loops call, and that becomes part of them where the compiler thinks so."""
    return njit(**OPTIONS)(function)


class Loop:
    """A function to be compiled for types that are known later; made by the decorators `loop` and `reduction`."""

    def __init__(self, function: Callable[..., Any], **options: Any):
        self._dispatcher = njit(**OPTIONS, **options)(function)
        if _folder() is not None:
            self._dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
        self._compiled: dict[tuple[str, ...], Callable[..., Any]] = {}

    def compiled(self, *arguments: str) -> Callable[..., Any]:
        """The function for arguments of these types, compiled now or before.

        Args:
            arguments: ``"float32"`` or ``"int64"`` for a number, ``"float32*"`` for a flat array.

        Returns:
            What takes exactly such arguments; arrays must be contiguous, which is not checked.
        """
        if arguments not in self._compiled:
            signature = tuple(map(_type, arguments))
            try:
                self._dispatcher.compile(signature)
            except Exception:  # a damaged file of the cache raises anything
                self._dispatcher._cache = caching.NullCache()
                self._dispatcher.compile(signature)
            self._compiled[arguments] = self._dispatcher.overloads[signature].entry_point
        return self._compiled[arguments]


def loop(function: Callable[..., Any]) -> Loop:
    """Decorator: makes a `Loop`."""
    return Loop(function)


def reduction(function: Callable[..., Any]) -> Loop:
    """Decorator: makes a `Loop` whose own sums may be taken in any order, as vector instructions need it."""
    return Loop(function, fastmath={"reassoc", "nsz"})


def _type(name: str) -> Any:
    scalar = getattr(types, name.rstrip("*"))
    return types.Array(scalar, 1, "C") if name.endswith("*") else scalar


# ---- what Python cannot say --------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]
def fma(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""
    return types.float32(types.float32, types.float32, types.float32), lambda _, builder, sig, args: builder.fma(*args)


@intrinsic  # type: ignore[untyped-decorator]
def bits(context: Any, x: Any) -> Any:
    """The bits of a float32 as an int32."""
    return types.int32(types.float32), lambda _, builder, sig, args: builder.bitcast(args[0], ir.IntType(32))


@intrinsic  # type: ignore[untyped-decorator]
def from_bits(context: Any, i: Any) -> Any:
    """The float32 of these bits; of a wider integer the lowest 32."""

    def build(_: Any, builder: Any, sig: Any, args: Any) -> Any:
        whole = builder.trunc(args[0], ir.IntType(32)) if args[0].type.width > 32 else args[0]
        return builder.bitcast(whole, ir.FloatType())

    return types.float32(i), build


@intrinsic  # type: ignore[untyped-decorator]
def local(context: Any, like: Any, pieces: Any) -> Any:
    """A new array on the stack, which the compiler knows to share memory with no other.

    It has the dtype of the array ``like``, and ``pieces`` (a number written out) times `LOCAL` elements.
    """
    if not isinstance(pieces, types.IntegerLiteral):
        raise errors.RequireLiteralValue("local takes the number of pieces written out")
    made, count = types.Array(like.dtype, 1, "C"), LOCAL * pieces.literal_value

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        element = context.get_data_type(like.dtype)
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(element, count))
        memory.align = 64
        array = arrays.make_array(made)(context, builder)
        size, stride = (context.get_constant(types.intp, n) for n in (count, context.get_abi_sizeof(element)))
        data = builder.bitcast(memory, element.as_pointer())
        arrays.populate_array(array, data, [size], [stride], stride, None)
        return array._getvalue()

    return made(like, pieces), build


# ---- the cache ---------------------------------------------------------------------------------------------


@cache
def _folder() -> str | None:
    """Where compiled code is kept; None if nothing can be written there."""
    base = settings.CACHE_DIR or folders.AppDirs("graphrt-numba", appauthor=False).user_cache_dir
    try:
        os.makedirs(base, exist_ok=True)
        tempfile.TemporaryFile(dir=base).close()
    except OSError:
        return None
    return str(base)


@cache
def _stamp() -> str:
    """A digest of this package's sources: a loop depends on the functions it calls."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(p.read_bytes() for p in sources)).hexdigest()


class _Locator(caching._CacheLocator):
    def get_cache_path(self) -> str:
        return _folder() or ""

    def get_source_stamp(self) -> str:
        return _stamp()

    def get_disambiguator(self) -> str:
        return _stamp()[:8]

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator:
        return cls()


class _Implementation(caching.CompileResultCacheImpl):
    _locator_classes = [_Locator]  # type: ignore[list-item]  # noqa: RUF012


class _Cache(caching.FunctionCache):
    _impl_class = _Implementation
