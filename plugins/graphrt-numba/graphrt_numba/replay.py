"""Launches of compiled loops, noted once and replayed as one call.

The kernels here write nothing themselves: their fills launch loops (`graphrt_numba.team`), and what they launch depends
on where arrays are, not on what is in them. So a run of fills is called once with its launches noted, in the place of
arrays that may be elsewhere next time with stand-ins. The notes become a flat array of numbers: for each launch where
its loop is, and its arguments as compiled code takes them. A replay writes into it where arrays are now, and calls
`_replay`, which goes through it without Python, and while which no thread goes to sleep.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, errors, types

from graphrt.records import dataclass
from graphrt_numba.compiler import Loop, call, intrinsic, loop, type_of
from graphrt_numba.team import TEAM, Launch, expect, noted
from graphrt_numba.vectors import address

Array = Any
_HEAD = 4
"""Numbers of a launch before its arguments: where what unpacks them is, where the loop is, where its verdict is (0: it
has none), and where the next launch begins."""
_DATA = 4
"""Which of the numbers of an array says where its elements are; those before it are who owns it (nobody), and sizes."""


# ---- the compiled side -------------------------------------------------------------------------------------


@intrinsic  # type: ignore[untyped-decorator]
def _unpacked(context: Any, function: Any, numbers: Any, kinds: Any) -> Any:
    """Calls the loop at an address with the arguments that lie at another one, of types as `_packed` writes them."""
    if not isinstance(kinds, types.StringLiteral):
        raise errors.RequireLiteralValue("the types have to be written out")
    given = [type_of(kind) for kind in kinds.literal_value.split()]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at, values = args[1], []
        for t in given:
            model = context.data_model_manager[t]
            place = builder.inttoptr(at, model.get_data_type().as_pointer())
            values.append(model.load_from_data_pointer(builder, place, align=1))
            at = builder.add(at, ir.Constant(ir.IntType(64), 8 * _words(t)))
        kind = context.call_conv.get_function_type(types.none, given)
        packed = context.get_arg_packer(given).as_arguments(builder, values)
        places = [cgutils.alloca_once(builder, t.pointee) for t in kind.args[:2]]  # type: ignore[no-untyped-call]
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), [*places, *packed])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, kinds), build


@intrinsic  # type: ignore[untyped-decorator]
def _number_at(context: Any, at: Any) -> Any:
    """The int64 at an address."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), build


@cache
def _unpacker(kinds: tuple[str, ...]) -> Loop:
    """What calls a loop, given as an address, with arguments of these types at another; kept, as its code is in use."""
    name = f"unpack_{hashlib.sha256(' '.join(kinds).encode()).hexdigest()[:16]}"
    space: dict[str, Any] = {"unpacked": _unpacked, "__name__": __name__}
    exec(compile(f"def {name}(loop, numbers): unpacked(loop, numbers, {' '.join(kinds)!r})", "unpack", "exec"), space)
    return Loop(space[name])


@loop
def _replay(team: Array, launches: Array, count: int, busy: int) -> int:
    """Makes launches; how many, if one of them said that what follows it cannot be done, otherwise -1."""
    expect(team, busy)
    at, done = 0, -1
    for i in range(count):
        call(launches[at], (launches[at + 1], address(launches, at + _HEAD)))
        verdict = launches[at + 2]
        if verdict != 0 and _number_at(verdict) != 0:
            done = i + 1
            break
        at = launches[at + 3]
    expect(team, -busy)
    return done


_REPLAY = "int64*", "int64*", "int64", "int64"


# ---- the notes ---------------------------------------------------------------------------------------------


def _words(kind: Any) -> int:
    """How many numbers an argument of a type takes."""
    return 5 + 2 * kind.ndim if isinstance(kind, types.Array) else 1


_SCALARS = {"boolean": "bool_"}
"""NumPy's names of scalar types that numba calls otherwise."""


def _packed(kind: str, value: Any) -> list[int]:
    """An argument as numbers of 64 bits, as compiled code has it in memory."""
    t = type_of(kind)
    if isinstance(t, types.Array):
        return [0, 0, value.size, value.itemsize, _address(value), *value.shape, *value.strides]
    with np.errstate(over="ignore"):  # what is too large for the type is infinite, as where the loop is called
        number = getattr(np, _SCALARS.get(kind, kind))(value)
    return [*np.frombuffer(number.tobytes().ljust(8, b"\0"), np.int64).tolist()]


def _address(x: Array) -> int:
    """Where an array's elements begin."""
    return int(x.__array_interface__["data"][0])


@loop
def _number(at: int) -> int:
    """The int64 at an address."""
    return _number_at(at)


_number_in = _number.compiled("int64")
_FIRST_FIELD = object.__basicsize__
"""Where in an array's own memory it says where its elements begin, which is the first of its fields in NumPy's binary
interface; to ask it in Python takes a microsecond."""


def _stand_in(x: Array) -> Array:
    """An array of the same type and strides in memory of its own, which nobody is going to touch."""
    if not isinstance(x, np.ndarray):
        return x
    reach = sum((n - 1) * abs(s) for n, s in zip(x.shape, x.strides, strict=True)) + x.itemsize
    return np.ndarray(x.shape, x.dtype, np.empty(max(reach, 1), np.uint8), 0, x.strides)


def _extent(x: Array) -> tuple[int, int]:
    """Where an array without negative strides begins in memory, and where it ends."""
    begin = _address(x)
    return begin, begin + sum((n - 1) * s for n, s in zip(x.shape, x.strides, strict=True)) + x.itemsize


@dataclass(slots=True)
class Notes:
    """The launches of some fills, for arrays of which some may move.

    Attributes:
        numbers: what `_replay` goes through.
        count: how many launches there are.
        hands: how many threads are to be awake for them.
        ends: for each fill how many launches there are until its last one.
        moving: which arrays may move, their strides, and where their addresses are written: places among the numbers,
            and what is added.
        last: weak references to those whose addresses were written last.
        alive: what the addresses of other arrays belong to.
    """

    numbers: Array
    count: int
    hands: int
    ends: list[int]
    moving: list[tuple[int, tuple[int, ...], list[tuple[int, int]]]]
    last: list[Callable[[], Any]]
    alive: list[Any]

    def update(self, given: Sequence[Any]) -> bool:
        """Writes where the arrays are now; False if they lie in another way than those that were noted."""
        numbers, last = self.numbers, self.last
        for n, (i, strides, places) in enumerate(self.moving):
            x = given[i]
            if last[n]() is x:
                continue
            if type(x) is not np.ndarray or x.strides != strides:
                return False
            at = _number_in(id(x) + _FIRST_FIELD)
            for place, offset in places:
                numbers[place] = at + offset
            last[n] = weakref.ref(x)
        return True


def _nothing() -> None:
    """For no array."""


class Program:
    """Some fills as one call; see `graphrt.definitions.Linker.link`."""

    def __init__(
        self, fills: Sequence[Callable[..., Any]], places: Sequence[Sequence[int]], moving: Sequence[int]
    ) -> None:
        self._fills, self._places, self._moving = fills, places, moving
        self._run = _replay.compiled(*_REPLAY)

    def __call__(self, kept: list[Any], *given: Any) -> int | None:
        """See `graphrt.definitions.Linker`; ``kept`` holds notes, or how arrays lay for which there are none."""
        if not kept or (isinstance(kept[0], tuple) and kept[0] != self._strides(given)):
            kept[:] = [self._noted(given) or self._strides(given)]
        notes = kept[0]
        if not isinstance(notes, Notes) or not notes.update(given):
            return self._one_by_one(given)
        hands = notes.hands
        if hands and not TEAM.is_awake(hands):
            TEAM.wake(hands)
        done = self._run(TEAM.numbers, notes.numbers, notes.count, hands)
        return None if done < 0 else next(i for i, end in enumerate(notes.ends) if done <= end)

    def _strides(self, given: Sequence[Any]) -> tuple[Any, ...]:
        """How the arrays lie that may be others next time."""
        return tuple(x.strides if isinstance(x, np.ndarray) else None for x in (given[i] for i in self._moving))

    def _one_by_one(self, given: Sequence[Any]) -> int | None:
        """Calls the fills; what one raises, whoever is told that it stops has it raise again."""
        for n, (fill, places) in enumerate(zip(self._fills, self._places, strict=True)):
            try:
                fill(*[given[i] for i in places])
            except Exception:
                return n
        return None

    def _noted(self, given: Sequence[Any]) -> Notes | None:
        """The notes for arrays that lie like these; None where one of them lies in a way that cannot be noted."""
        if any(stride < 0 for x in given if isinstance(x, np.ndarray) for stride in x.strides):
            return None
        arrays = list(given)
        for i in self._moving:
            arrays[i] = _stand_in(given[i])
        ends: list[int] = []
        with noted() as launches:
            for fill, places in zip(self._fills, self._places, strict=True):
                try:
                    fill(*[arrays[i] for i in places])
                except Exception:
                    return None  # called by itself it raises that again
                ends.append(len(launches))
        there = [_extent(x) for x in arrays if isinstance(x, np.ndarray) and x.size]
        if not all(_is_lasting(x, there) for launch in launches for x in launch.given):
            return None
        return self._written(launches, arrays, given, ends)

    def _written(self, launches: list[Launch], arrays: Sequence[Any], given: Sequence[Any], ends: list[int]) -> Notes:
        numbers: list[int] = []
        data: list[tuple[int, int]] = []  # places of addresses, and these
        for launch in launches:
            start = len(numbers)
            unpack, run = _unpacker(launch.kinds).address("int64", "int64"), launch.loop.address(*launch.kinds)
            numbers += [unpack, run, 0, 0]
            if launch.verdict is not None:
                data.append((start + 2, _address(launch.verdict)))
            for kind, value in zip(launch.kinds, (*launch.bound, *launch.given), strict=True):
                if kind.endswith(("*", "]")):
                    data.append((len(numbers) + _DATA, _address(value)))
                numbers += _packed(kind, value)
            numbers[start + 3] = len(numbers)
        packed = np.array(numbers, np.int64)
        for place, at in data:
            packed[place] = at
        moving = []
        for i in self._moving:
            x = arrays[i]
            if isinstance(x, np.ndarray) and x.size:
                begin, end = _extent(x)
                places = [(place, at - begin) for place, at in data if begin <= at < end]
                moving.append((i, given[i].strides, places))
        hands = max((launch.hands for launch in launches), default=0)
        kept = [x for launch in launches for x in (*launch.bound, *launch.given) if _is_kept(x)]
        kept += [x for i, x in enumerate(arrays) if i not in self._moving]
        return Notes(packed, len(launches), hands, ends, moving, [_nothing] * len(moving), kept)


def _is_kept(x: Any) -> bool:
    """Whether an argument is an array that a kernel keeps, or the team's."""
    return isinstance(x, np.ndarray) and (not x.flags.writeable or x is TEAM.numbers)


def _is_lasting(x: Any, there: Sequence[tuple[int, int]]) -> bool:
    """Whether an argument is a number, or an array that is there as long as the notes are.

    What a fill has made on the way is not: it would be made anew for each run. What a kernel keeps is read-only.
    """
    if not isinstance(x, np.ndarray) or not x.size or _is_kept(x):
        return True
    at = _address(x)
    return any(begin <= at < end for begin, end in there)


class _Linker:
    """The linker of this package's kernels."""

    def link(
        self, fills: Sequence[Callable[..., Any]], places: Sequence[Sequence[int]], moving: Sequence[int]
    ) -> Program:
        """See `graphrt.definitions.Linker`."""
        return Program(fills, places, moving)

    def __repr__(self) -> str:
        return "graphrt-numba"


LINKER = _Linker()
