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
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba.extending
import numba.misc.appdirs
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import caching, cgutils, config, errors, types
from numba.np import arrayobj

njit: Any = numba.njit
intrinsic: Any = numba.extending.intrinsic
arrays: Any = arrayobj
settings: Any = config
folders: Any = numba.misc.appdirs
OPTIONS = {"nogil": True, "error_model": "numpy"}
ANY_ORDER = {"reassoc", "nsz"}
"""What `fastmath` allows where sums may be taken in any order."""
LOCAL = 512
"""How many elements the arrays that `local` makes have."""
SHORT = 16
"""How many numbers `move` copies."""


def inline(function: Callable[..., Any]) -> Any:
    """Decorator: a function that becomes part of the loops that call it."""
    return njit(forceinline=True, **OPTIONS)(function)


def helper(function: Callable[..., Any]) -> Any:
    """Decorator: a function that loops call, and that becomes part of them where the compiler thinks so."""
    return njit(**OPTIONS)(function)


def summing(function: Callable[..., Any]) -> Any:
    """Decorator: as `inline`, for a function whose own sums may be taken in any order, so that vectors take them."""
    return njit(forceinline=True, fastmath=ANY_ORDER, **OPTIONS)(function)


class Loop:
    """A function to be compiled for types that are known later; made by the decorators `loop` and `reduction`.

    Attributes:
        dispatcher: the function as other compiled functions call it.
    """

    def __init__(self, function: Callable[..., Any], **options: Any):
        self.dispatcher = njit(**OPTIONS, **options)(function)
        if _folder() is not None:
            self.dispatcher._cache = _Cache(function)  # type: ignore[no-untyped-call]
        self._compiled: dict[tuple[str, ...], Callable[..., Any]] = {}

    def compiled(self, *arguments: str) -> Callable[..., Any]:
        """The function for arguments of these types, compiled now or before.

        Args:
            arguments: ``"float32"`` or ``"int64"`` for a number, ``"float32*"`` for a flat array, ``"float32**"`` for a
                matrix, ``"float32[4]"`` for an array of four axes that lies anyhow.

        Returns:
            What takes exactly such arguments; arrays must lie as said, which is not checked.
        """
        if arguments not in self._compiled:
            signature = tuple(map(type_of, arguments))
            self.dispatcher.compile(signature)
            self._compiled[arguments] = self.dispatcher.overloads[signature].entry_point
        return self._compiled[arguments]

    def address(self, *arguments: str) -> int:
        """Where the function compiled for arguments of these types is in memory; see `call`."""
        self.compiled(*arguments)
        found = self.dispatcher.overloads[tuple(map(type_of, arguments))]
        return int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


def loop(function: Callable[..., Any]) -> Loop:
    """Decorator: makes a `Loop`."""
    return Loop(function)


def reduction(function: Callable[..., Any]) -> Loop:
    """Decorator: makes a `Loop` whose own sums may be taken in any order, as vector instructions need it."""
    return Loop(function, fastmath=ANY_ORDER)


def type_of(name: str) -> Any:
    """numba's type for a name as `Loop.compiled` takes it."""
    word, _, axes = name.rstrip("]").partition("[")
    scalar = getattr(types, word.rstrip("*"))
    if axes:
        return types.Array(scalar, int(axes), "A")
    return types.Array(scalar, name.count("*"), "C") if name.endswith("*") else scalar


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


@intrinsic  # type: ignore[untyped-decorator]
def copy(context: Any, to: Any, to_at: Any, source: Any, source_at: Any, count: Any) -> Any:
    """``to[to_at : to_at + count] = source[source_at : source_at + count]`` of flat arrays, quick for few elements.

    Nothing is checked; the count may be 0, and the elements must not overlap.
    """
    long = types.int64

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        to, to_at, source, source_at, count = args
        there, here = (
            builder.gep(arrays.make_array(kind)(context, builder, array).data, [at])
            for kind, array, at in ((sig.args[0], to, to_at), (sig.args[2], source, source_at))
        )
        size = context.get_constant(types.intp, sig.args[0].dtype.bitwidth // 8)
        cgutils.raw_memcpy(builder, there, here, count, size)  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(to, long, source, long, long), build


@intrinsic  # type: ignore[untyped-decorator]
def call(context: Any, address: Any, arguments: Any) -> Any:
    """Calls a `Loop` by its address, with a tuple of arguments: so it need not become part of the one that calls it.

    The address is an argument of the loop that calls, as compiled code is kept for other processes.
    """

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kinds = list(arguments.types)
        kind = context.call_conv.get_function_type(types.none, kinds)
        given = cgutils.unpack_tuple(builder, args[1], len(kinds))  # type: ignore[no-untyped-call]
        given = context.get_arg_packer(kinds).as_arguments(builder, given)
        places = [cgutils.alloca_once(builder, t.pointee) for t in kind.args[:2]]  # type: ignore[no-untyped-call]
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [*places, *given])
        return context.get_dummy_value()

    return types.void(types.int64, arguments), build


@intrinsic  # type: ignore[untyped-decorator]
def move(context: Any, x: Any, at: Any, y: Any, to: Any) -> Any:
    """Copies `SHORT` float32 numbers from element ``at`` of a flat array on to another one, from element ``to`` on.

    For rows too short for a loop or for a call of memcpy to be worth its beginning.
    """

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        row = ir.VectorType(ir.FloatType(), SHORT).as_pointer()

        def pointer(kind: Any, array: Any, first: Any) -> Any:
            return builder.bitcast(builder.gep(arrays.make_array(kind)(context, builder, array).data, [first]), row)

        builder.store(builder.load(pointer(x, *args[:2]), align=4), pointer(y, *args[2:]), align=4)
        return context.get_dummy_value()

    return types.void(x, types.int64, y, types.int64), build


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

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """None where nothing is kept that can be read; a damaged file raises anything."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps what was compiled, if it can: it runs all the same."""
        with suppress(Exception):
            super().save_overload(sig, data)
