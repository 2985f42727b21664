"""Where the arrays of a run live: one arena for all that a plan knows the size of, laid out before the first run.

Two arrays share memory when no step needs both; an output takes over the memory of an input that nothing reads any
more where the kernel allows it (`graphrt.definitions.Into`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Hashable, Iterable, Sequence
from heapq import heappop, heappush
from itertools import accumulate
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphrt.errors import InputError
from graphrt.op import Array
from graphrt.records import dataclass, field
from graphrt.types import TensorType, numpy_dtype

ALIGNMENT = 64
"""Every array begins at a multiple of this many bytes: a cache line, a vector register."""

MOST_BY_SIZE = 4096
"""The most places that are laid out by size, which takes time proportional to their number squared."""


UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


def nbytes_of(t: TensorType) -> int:
    """The size in bytes of an array of a type whose dtype and dimensions are known."""
    return math.prod(t.shape or ()) * numpy_dtype(t.dtype or "float32").itemsize  # type: ignore[arg-type]


def parse_bytes(given: int | str) -> int:
    """A number of bytes: an integer, or text such as ``"64 MB"`` (a million each) or ``"64 MiB"`` (1024 * 1024).

    Raises:
        InputError: it is no such thing, or not above zero.

    >>> parse_bytes("64 MB"), parse_bytes("1.5KiB")
    (64000000, 1536)
    """
    text = str(given).replace("_", "").strip().lower()
    number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
    try:
        size = int(float(number) * UNITS[text[len(number) :].strip()])
    except (ValueError, KeyError, OverflowError):
        size = 0
    if size <= 0 or isinstance(given, bool):
        raise InputError(f"a limit of memory is a number of bytes above 0, or such as '64 MB', not {given!r}")
    return size


@dataclass(slots=True, eq=False)
class Tenant:
    """An array that needs a place from one step to another.

    Attributes:
        type: static.
        first, last: the steps that write it and read it last.
        over: tenants whose place it may take, of its own type, if they are not needed beyond ``first``.
        offset: where it is placed, by `lay_out`.
        in_place: whether it took the place of another.
    """

    type: TensorType
    first: int
    last: int
    over: tuple[Tenant, ...] = ()
    offset: int = -1
    in_place: bool = False

    @property
    def room(self) -> int:
        """Bytes it occupies."""
        return -(-nbytes_of(self.type) // ALIGNMENT) * ALIGNMENT


def lay_out(tenants: Iterable[Tenant]) -> int:
    """Gives each tenant an offset, so that no two that are needed at the same step overlap.

    A tenant takes the place of another first, where it may. Then the places are laid out in the order of time, each
    into the smallest gap that is large enough. Where that takes more than what is needed at once, and there are at
    most `MOST_BY_SIZE` of them, they are laid out from the largest to the smallest too, each as low as it can be, and
    the better of the two layouts is taken. Source: Pisarchyk and Lee 2020, "Efficient memory management for deep
    neural net inference", greedy by size.

    Args:
        tenants: in the order of their first steps.

    Returns:
        Bytes of the whole arena.
    """
    places = _places(tenants)
    offsets, nbytes = _by_time(places)
    if len(places) <= MOST_BY_SIZE and nbytes > 1.01 * _needed_at_once(places):
        other, size = _by_size(places)
        if size < nbytes:
            offsets, nbytes = other, size
    for place, offset in zip(places, offsets, strict=True):
        for tenant in place.tenants:
            tenant.offset = offset
    return nbytes


@dataclass(slots=True)
class _Place:
    """Room that tenants take one after the other, needed from the first step of one to the last step of another."""

    room: int
    first: int
    last: int
    tenants: list[Tenant]


def _places(tenants: Iterable[Tenant]) -> list[_Place]:
    """The tenants in places of their own, or in that of a tenant they may be written over."""
    places: list[_Place] = []
    place_of: dict[int, _Place] = {}  # of those whose place nobody has taken over yet
    for tenant in tenants:
        heir = next((t for t in tenant.over if t.first < t.last == tenant.first and id(t) in place_of), None)
        if heir is not None:
            place = place_of.pop(id(heir))
            place.tenants.append(tenant)
            place.last = tenant.last
            tenant.in_place = True
        else:
            places.append(place := _Place(tenant.room, tenant.first, tenant.last, [tenant]))
        place_of[id(tenant)] = place
    return places


def _needed_at_once(places: Iterable[_Place]) -> int:
    """The most bytes that any step needs: no layout takes less."""
    change: dict[int, int] = {}
    for p in places:
        change[p.first] = change.get(p.first, 0) + p.room
        change[p.last + 1] = change.get(p.last + 1, 0) - p.room
    return max(accumulate(change[step] for step in sorted(change)), default=0)


def _by_time(places: Sequence[_Place]) -> tuple[list[int], int]:
    """The offset of each place, and the end of the last one: in the order of time, the best fit for each."""
    free = _FreeList()
    ending: list[tuple[int, int, int]] = []
    offsets: list[int] = []
    for place in places:
        while ending and ending[0][0] < place.first:
            _, offset, room = heappop(ending)
            free.give(offset, room)
        offsets.append(free.take(place.room))
        heappush(ending, (place.last, offsets[-1], place.room))
    return offsets, free.end


def _by_size(places: Sequence[_Place]) -> tuple[list[int], int]:
    """As `_by_time`, but from the largest to the smallest, each at the lowest offset where it fits."""
    offsets = [0] * len(places)
    done = np.empty((4, len(places)), np.int64)  # offset, end, first and last step of those that are placed
    for n, i in enumerate(sorted(range(len(places)), key=lambda i: -places[i].room)):
        p = places[i]
        start, end, first, last = done[:, :n]
        beside = (first <= p.last) & (last >= p.first)
        gaps = np.concatenate([[0], np.maximum.accumulate(end[beside])])
        fits = np.append(start[beside] - gaps[:-1] >= p.room, True)
        offsets[i] = at = int(gaps[np.argmax(fits)])
        k = int(np.searchsorted(start, at, "right"))
        done[:, k + 1 : n + 1] = done[:, k:n]
        done[:, k] = at, at + p.room, p.first, p.last
    return offsets, max((o + p.room for o, p in zip(offsets, places, strict=True)), default=0)


@dataclass(slots=True)
class _FreeList:
    """The gaps of an arena that grows at its end."""

    end: int = 0
    gaps: list[tuple[int, int]] = field(default_factory=list)  # (offset, size), ascending, never adjacent

    def take(self, size: int) -> int:
        """The offset of the smallest gap that is large enough, or of new room at the end."""
        if not size:
            return 0
        fitting = [(gap, offset) for offset, gap in self.gaps if gap >= size]
        if fitting:
            gap, offset = min(fitting)
            self.gaps.remove((offset, gap))
            if gap > size:
                insort(self.gaps, (offset + size, gap - size))
            return offset
        offset = self.end
        if self.gaps and sum(self.gaps[-1]) == self.end:
            offset, _ = self.gaps.pop()
        self.end = offset + size
        return offset

    def give(self, offset: int, size: int) -> None:
        """Makes room free again, joined to the gaps beside it."""
        if not size:
            return
        i = bisect_left(self.gaps, (offset, 0))
        if i < len(self.gaps) and self.gaps[i][0] == offset + size:
            size += self.gaps.pop(i)[1]
        if i > 0 and sum(self.gaps[i - 1]) == offset:
            before, gap = self.gaps.pop(i - 1)
            offset, size = before, gap + size
        insort(self.gaps, (offset, size))


@dataclass(frozen=True, slots=True)
class Buffer:
    """A slot of a plan whose array lies in the arena."""

    slot: int
    offset: int
    type: TensorType


class Arena:
    """A piece of memory, and for each plan that has run in it the slots with their arrays in place."""

    def __init__(self, nbytes: int):
        raw = np.empty(nbytes + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        self.memory: Array = raw[start : start + nbytes]
        self._slots: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()

    def slots(
        self, key: Hashable, template: list[Any], buffers: Sequence[Buffer], lists: Sequence[int] = ()
    ) -> list[Any]:
        """The slots of a plan, those of its buffers filled, and those of ``lists`` with an empty list for what is kept
        with the arena; made on first use. Not to be changed."""
        found = self._slots.get(key)
        if found is None:
            found = self._slots[key] = template.copy()
            for b in buffers:
                found[b.slot] = self._array(b)
            for slot in lists:
                found[slot] = []
        return found

    def _array(self, b: Buffer) -> Array:
        dtype = numpy_dtype(b.type.dtype or "float32")
        part = self.memory[b.offset : b.offset + nbytes_of(b.type)]
        made: Array = np.ndarray(b.type.shape or (), dtype, part)  # type: ignore[arg-type]
        return made


class Memory:
    """The arenas that the runs of a session take turns in; a run within a run takes another one."""

    def __init__(self) -> None:
        self._free: list[Arena] = []

    def take(self, nbytes: int) -> Arena:
        """An arena of at least this size, for one run."""
        try:
            arena = self._free.pop()
        except IndexError:
            return Arena(nbytes)
        return arena if arena.memory.nbytes >= nbytes else Arena(nbytes)

    def give(self, arena: Arena) -> None:
        """The run is over."""
        self._free.append(arena)


def is_constant(x: Any) -> bool:
    """Whether nobody can write to an array: neither to it nor to that which it is a view of."""
    while isinstance(x, np.ndarray):
        if x.flags.writeable:
            return False
        x = x.base
    return True
