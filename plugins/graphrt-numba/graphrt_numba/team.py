"""Threads that share out compiled work without Python: quick to start, as they watch for work for a moment.

A job is a compiled function and how often to call it: for part 0, 1, 2, ... Whoever is free takes the next part, the
caller too, so a job never waits for a thread that is late. A thread that has found nothing to do for `PATIENCE` looks
goes to sleep in Python and is woken for the next job (which takes 50,000 ns and more, in which the caller has begun
alone). There is one team in a process; if two threads want it at a time, one of them does all its parts itself.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from queue import SimpleQueue
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types

from graphrt.records import dataclass
from graphrt_numba.compiler import Loop, arrays, call, helper, intrinsic, loop

Array = Any
PATIENCE = 50_000
"""How often a thread looks for work before it goes to sleep; about 1,000,000 ns."""
_BUSY, _OPEN, _JOB, _FUNCTION, _DATA, _PARTS, _HANDS, _NEXT, _INSIDE, _EXPECTED = 0, 8, 16, 17, 18, 19, 20, 24, 32, 40
"""Where the numbers of a team are: what many write to is on lines of the cache of its own."""

_index = ir.IntType(64)


# ---- what Python cannot say --------------------------------------------------------------------------------


def _place(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.gep(arrays.make_array(sig.args[0])(context, builder, args[0]).data, [args[1]])


@intrinsic  # type: ignore[untyped-decorator]
def _read(context: Any, x: Any, at: Any) -> Any:
    """``x[at]``, as it is now."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_place(context, builder, sig, args), "seq_cst", 8)

    return types.int64(x, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def _write(context: Any, x: Any, at: Any, value: Any) -> Any:
    """``x[at] = value``, seen by all threads after what was written before it."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _place(context, builder, sig, args), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(x, types.int64, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def _add(context: Any, x: Any, at: Any, value: Any) -> Any:
    """``x[at] += value`` by one thread at a time; what was there before."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", _place(context, builder, sig, args), args[2], "seq_cst")

    return types.int64(x, types.int64, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def _exchange(context: Any, x: Any, at: Any, value: Any) -> Any:
    """``x[at] = value``; what was there before."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.atomic_rmw("xchg", _place(context, builder, sig, args), args[2], "seq_cst")

    return types.int64(x, types.int64, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def _pause(context: Any) -> Any:
    """Tells the processor that this thread is waiting in a loop."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if builder.module.triple.startswith(("x86_64", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])  # type: ignore[no-untyped-call]
        return context.get_dummy_value()

    return types.void(), build


@intrinsic  # type: ignore[untyped-decorator]
def _call(context: Any, function: Any, data: Any, part: Any) -> Any:
    """Calls the function at an address, as `share` makes them."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.VoidType(), [_index, _index])
        builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def share(context: Any, team: Any, hands: Any, parts: Any, work: Any, arguments: Any) -> Any:
    """Calls ``work(part, *arguments)`` for the parts 0, 1, ... of a job, at the same time as far as threads are free.

    Args:
        context: numba's.
        team: the numbers of `Team`, an argument of the loop.
        hands: how many threads may help.
        parts: how many parts there are.
        work: a function made by `helper`, that raises nothing, and may be called at the same time for different parts.
        arguments: a tuple.
    """
    called = context.resolve_function_type(work, (types.int64, *arguments.types), {})
    offered = types.void(team, types.int64, types.int64, types.int64, types.int64)
    context.resolve_function_type(types.Dispatcher(_offer), offered.args, {})

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def of(dispatcher: Any, signature: Any) -> Any:
            found = dispatcher.overloads[signature.args]
            context.add_linking_libs([found.library])
            return found.fndesc

        kind = ir.FunctionType(ir.VoidType(), [_index, _index])
        name = context.mangler(f"graphrt_part_{work.dispatcher.py_func.__name__}", called.args)
        part_of = ir.Function(builder.module, kind, builder.module.get_unique_name(name))
        part_of.linkage = "internal"
        inner = ir.IRBuilder(part_of.append_basic_block("entry"))
        held = args[4].type
        values = inner.load(inner.inttoptr(part_of.args[0], held.as_pointer()))
        given = [part_of.args[1], *cgutils.unpack_tuple(inner, values, len(arguments.types))]  # type: ignore[no-untyped-call]
        context.call_internal_no_propagate(inner, of(work.dispatcher, called), called, given)
        inner.ret_void()

        data = cgutils.alloca_once_value(builder, args[4])  # type: ignore[no-untyped-call]
        numbers = [builder.ptrtoint(p, _index) for p in (part_of, data)]
        context.call_internal_no_propagate(builder, of(_offer, offered), offered, [*args[:3], *numbers])
        return context.get_dummy_value()

    return types.void(team, types.int64, types.int64, work, arguments), build


# ---- the two sides -----------------------------------------------------------------------------------------


@helper
def _offer(team: Array, hands: int, parts: int, function: int, data: int) -> None:
    """Does a job with whoever comes to help."""
    if hands < 1 or parts < 2 or _exchange(team, _BUSY, 1) != 0:
        for part in range(parts):
            _call(function, data, part)
        return
    team[_FUNCTION], team[_DATA], team[_PARTS], team[_HANDS] = function, data, parts, hands
    team[_JOB] += 1
    _write(team, _NEXT, 0)
    _write(team, _OPEN, 1)
    part = _add(team, _NEXT, 1)
    while part < parts:
        _call(function, data, part)
        part = _add(team, _NEXT, 1)
    _write(team, _OPEN, 0)
    while _read(team, _INSIDE) > 0:
        _pause()
    _write(team, _BUSY, 0)


@helper
def expect(team: Array, more: int) -> None:
    """Says that so many more callers are about to have jobs, or fewer: while there is one, threads do not sleep."""
    _add(team, _EXPECTED, more)


@loop
def _help(team: Array, me: int, patience: int) -> None:
    """Helps with one job after another, until there was none for a while."""
    done, looked = -1, 0
    while looked < patience or _read(team, _EXPECTED) > 0:
        looked += 1
        if _read(team, _OPEN) and _read(team, _JOB) != done:
            _add(team, _INSIDE, 1)
            if _read(team, _OPEN):  # from now on the caller waits
                done = _read(team, _JOB)
                if me < _read(team, _HANDS):
                    parts, function, data = _read(team, _PARTS), _read(team, _FUNCTION), _read(team, _DATA)
                    part = _add(team, _NEXT, 1)
                    while part < parts:
                        _call(function, data, part)
                        part = _add(team, _NEXT, 1)
                    looked = 0
            _add(team, _INSIDE, -1)
        _pause()


@cache
def _sharing(arguments: tuple[str, ...]) -> Loop:
    """What calls a loop at an address for all parts of its rows, given to it with arguments of these types.

    Of what is ``"float32**"`` each part gets a row.
    """
    names = [f"a{i}" for i in range(len(arguments))]
    given = [f"{name}[part]" if "**" in t else name for name, t in zip(names, arguments, strict=True)]
    text = f"""
def part(part, bounds, loop, {", ".join(names)}):
    call(loop, (bounds[part], bounds[part + 1], {", ".join(given)}))

def shared(team, hands, bounds, loop, {", ".join(names)}):
    share(team, hands, bounds.size - 1, part, (bounds, loop, {", ".join(names)}))
"""
    space: dict[str, Any] = {"call": call, "share": share, "__name__": __name__}
    exec(compile(text, "shared", "exec"), space)
    space["part"] = helper(space["part"])
    return Loop(space["shared"])


_HELP = "int64*", "int64", "int64"


@dataclass(frozen=True)
class Launch:
    """A call of a compiled loop.

    Attributes:
        loop: the loop, and the types of its arguments.
        kinds: these.
        hands: how many threads are to be awake beside the caller's.
        bound: the first arguments, which are the same in every call.
        given: the others.
        verdict: an array that the loop sets to another number than 0 where what follows cannot be done; or None.
    """

    loop: Loop
    kinds: tuple[str, ...]
    hands: int
    bound: tuple[Any, ...]
    given: tuple[Any, ...]
    verdict: Array | None = None


class _Here(threading.local):
    """What holds for the calling thread: where it notes its launches instead of making them."""

    launches: list[Launch] | None = None


_here = _Here()


@contextmanager
def noted() -> Iterator[list[Launch]]:
    """Gives a list that takes the launches of this thread, which are not made meanwhile."""
    before, _here.launches = _here.launches, []
    try:
        yield _here.launches
    finally:
        _here.launches = before


def alone(
    loop: Loop, kinds: Sequence[str], *first: Any, explain: Callable[..., None] | None = None
) -> Callable[..., None]:
    """A function that calls a loop with ``(*first, ...)``; while launches are `noted`, it notes that.

    With ``explain`` the last argument is an array ``int64 [1]`` for the loop's verdict: 0 if all is well. If it is not,
    ``explain`` is called with the same arguments but the last, and raises.
    """
    run, kinds = loop.compiled(*kinds), tuple(kinds)

    def call(*arguments: Any) -> None:
        if _here.launches is not None:
            verdict = None if explain is None else arguments[-1]
            _here.launches.append(Launch(loop, kinds, 0, first, arguments, verdict))
            return
        run(*first, *arguments)
        if explain is not None and arguments[-1][0]:
            explain(*first, *arguments[:-1])

    return call


class Team:
    """The threads.

    Attributes:
        numbers: what compiled code needs of it.
    """

    def __init__(self) -> None:
        self.numbers = np.zeros(48, np.int64)
        self._lock = threading.Lock()
        self._gates: list[SimpleQueue[None]] = []
        self._started: set[int] = set()
        self._asleep: list[bool] = []

    def reset(self) -> None:
        """In a child process: all threads have to be started again."""
        self.numbers[:] = 0
        self._lock = threading.Lock()
        self._started.clear()
        self._gates = [SimpleQueue() for _ in self._gates]
        self._asleep[:] = [True] * len(self._gates)

    def shares(
        self, loop: Loop, arguments: Sequence[str], bounds: Array, hands: int | None = None
    ) -> Callable[..., None]:
        """A function that runs a loop for all rows; see `graphrt_numba.sharing.by_rows`.

        ``hands`` is how many threads are to be awake beside the caller's: as many as there are further parts, or more
        where the loop itself shares out work.
        """
        address = loop.address("int64", "int64", *(t.replace("**", "*") for t in arguments))
        hands = len(bounds) - 2 if hands is None else hands
        kinds = "int64*", "int64", "int64*", "int64", *arguments
        return self.calls(_sharing(tuple(arguments)), kinds, hands, bounds, address)

    def calls(self, loop: Loop, kinds: Sequence[str], hands: int, *first: Any) -> Callable[..., None]:
        """A function that calls a loop with ``(numbers, hands, *first, ...)`` when so many threads are awake, or about
        to be; while launches are `noted`, it notes that."""
        run, kinds, bound, asleep = loop.compiled(*kinds), tuple(kinds), (self.numbers, hands, *first), self._asleep
        if hands >= 1:
            self._appoint(hands)

        def call(*arguments: Any) -> None:
            if _here.launches is not None:
                _here.launches.append(Launch(loop, kinds, hands, bound, arguments))
                return
            if hands and True in asleep[:hands]:
                self.wake(hands)
            run(*bound, *arguments)

        return call

    def _appoint(self, hands: int) -> None:
        """Sees to it that there are so many threads, asleep as they may be."""
        _help.compiled(*_HELP)
        with self._lock:
            for _ in range(len(self._gates), hands):
                self._gates.append(SimpleQueue())
                self._asleep.append(True)

    def is_awake(self, hands: int) -> bool:
        """Whether so many threads are."""
        return True not in self._asleep[:hands]

    def wake(self, hands: int) -> None:
        """Begins to wake those of so many threads that sleep."""
        with self._lock:
            for i in range(hands):
                if not self._asleep[i]:
                    continue
                self._asleep[i] = False
                if i in self._started:
                    self._gates[i].put(None)
                else:
                    self._started.add(i)
                    threading.Thread(target=self._serve, args=(i, self._gates[i]), name="graphrt", daemon=True).start()

    def _serve(self, me: int, gate: SimpleQueue[None]) -> None:
        help_ = _help.compiled(*_HELP)
        while True:
            help_(self.numbers, me, PATIENCE)
            self._asleep[me] = True
            if self.numbers[_OPEN] and self._asleep[me]:  # this began before anyone could know
                self._asleep[me] = False
            else:
                gate.get()


TEAM = Team()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TEAM.reset)
