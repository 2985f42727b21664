"""The interpreter: a plan, the context of a run, and the flat loop that walks the one with the other.

Invariants of a plan: steps are in an order of execution; every value lives in a slot (slot 0 is None, for
absent inputs; slot 1 holds the `RunContext`; slot -1 takes outputs nobody wants); an array that a kernel writes into
has its place in the arena, or is made anew before its step if it leaves the run; any other is released by the last
step that reads it. Steps that overwrite weights come last, when everything else is done.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrt.errors import ExecutionError, GraphrtError, NonFiniteError, NotDifferentiableError, PluginError
from graphrt.inference import Inferred
from graphrt.ir import Graph, format_neighborhood
from graphrt.records import dataclass, field
from graphrt.runtime.memory import Buffer, Memory, Tenant, is_constant
from graphrt.runtime.steps import ABSENT, CONTEXT_SLOT, MANY, Step, Stopped, link_steps
from graphrt.runtime.threads import single_blas
from graphrt.types import ValueType, numpy_dtype

if TYPE_CHECKING:
    from graphrt.registry import Registry
    from graphrt.runtime.description import PlanDescription
    from graphrt.runtime.recomputation import Recomputation


@dataclass(slots=True)
class Preparation:
    """What depends on weights alone: computed by the first steps of a plan, and kept until one of the weights changes.

    Attributes:
        steps: how many there are.
        weights: the slots of the weights that they read.
        made: the slots that they fill.
        last: the weights of the last time, and what was made of them; None before the first.
        overwrites: how often weights had been written over by then, in all sessions; None if none of these can be.
    """

    steps: int
    weights: tuple[int, ...]
    made: tuple[int, ...]
    last: tuple[list[Any], list[Any]] | None = None
    overwrites: int | None = None

    def recall(self, slots: list[Any]) -> bool:
        """Fills the slots, if the weights are the very arrays that they were, and were not written to."""
        if self.last is None or self.overwrites not in (None, _Overwrites.count):
            return False
        weights, made = self.last
        if any(slots[i] is not w for i, w in zip(self.weights, weights, strict=True)):
            return False
        for slot, value in zip(self.made, made, strict=True):
            slots[slot] = value
        return True

    def remember(self, slots: list[Any]) -> None:
        """Keeps what the slots hold, made read-only."""
        made = [slots[i] for i in self.made]
        for x in made:
            if isinstance(x, np.ndarray):
                x.flags.writeable = False
        weights = [slots[i] for i in self.weights]
        self.last, self.overwrites = (weights, made), None if all(map(is_constant, weights)) else _Overwrites.count


class _Overwrites:
    """How often a run has written over weights, in any session: another one may hold views of them."""

    count = 0


@dataclass(slots=True, eq=False, weakref_slot=True)
class Plan:
    """Steps and slots for one graph; see the module's text for the invariants.

    Attributes:
        graph: what is computed.
        steps: the flat list that the interpreter walks.
        slots: initial content: constants in place, None elsewhere.
        feeds: value name to slot, for inputs and initializers the steps read.
        fetches: output name to slot.
        updates: initializer to the slot of its next value, for those that are not overwritten.
        known: what is known of each value.
        places: the values that lie in the arena.
        buffers: the slots of these, and of the kernels' scratch arrays.
        nbytes: the size of the arena.
        overwritten: initializer to the slot for the array that holds it, which the last steps write to.
        overwriting: how many steps these are.
        preparation: what the first steps do, where these depend on weights alone.
        slot_of: value name to slot.
        registry: where ops and kernels were looked up.
        single_blas: whether the BLAS keeps to one thread, because kernels share work out among others.
        recomputation: what is computed twice to stay within a limit of memory, and what that costs.
        prepared: the weights that the first steps read, where these depend on weights alone.
        links: the slots for what linked steps keep with an arena.
        is_linked: whether all steps but those that depend on weights alone are linked or views: they compute nothing
            with NumPy.
        programs: the steps as the loop takes them: those that depend on weights alone, the others, those that overwrite
            weights; where there is an arena, steps that a linker serves are one.
    """

    graph: Graph
    steps: list[Step]
    slots: list[Any]
    feeds: dict[str, int]
    fetches: dict[str, int]
    updates: dict[str, int]
    known: Inferred
    places: Mapping[str, Tenant] = field(default_factory=dict)
    buffers: tuple[Buffer, ...] = ()
    nbytes: int = 0
    overwritten: dict[str, int] = field(default_factory=dict)
    overwriting: int = 0
    preparation: Preparation | None = None
    slot_of: dict[str, int] = field(default_factory=dict)
    registry: Registry | None = None
    single_blas: bool = False
    recomputation: Recomputation | None = None
    prepared: frozenset[str] = field(init=False)
    links: tuple[int, ...] = field(init=False)
    is_linked: bool = field(init=False)
    programs: tuple[list[Any], list[Any], list[Any]] = field(init=False)

    def __post_init__(self) -> None:
        first = self.preparation.steps if self.preparation else 0
        read = self.preparation.weights if self.preparation else ()
        self.prepared = frozenset(name for name, slot in self.feeds.items() if slot in read)
        last = len(self.steps) - self.overwriting
        parts = [self.steps[:first], self.steps[first:last], self.steps[last:]]
        linked = [parts[0], *(link_steps(part, self.slots, self.buffers) for part in parts[1:])]
        self.links = tuple(step.inputs[0] for part in linked for step in part if step.members)
        self.is_linked = all(step.members or step.view for part in linked[1:] for step in part)
        self.programs = tuple([step.compiled() for step in part] for part in linked)  # type: ignore[assignment]

    @property
    def types(self) -> Mapping[str, ValueType]:
        """The type of each value, as far as known."""
        return self.known.types

    def describe(self) -> PlanDescription:
        """What the plan does, step by step, as data; its ``text()`` is what printing the plan shows."""
        from graphrt.runtime.description import describe  # no run needs it

        return describe(self)

    def text(self) -> str:
        """What the plan does as a table; see `graphrt.runtime.description.PlanDescription`."""
        return self.describe().text()

    def __str__(self) -> str:
        return self.text()


Watch = Callable[[Plan, Step, list[Any]], None]


BeforeUpdate = Callable[[Callable[[str], Any], Collection[str]], None]


@dataclass(slots=True)
class RunContext:
    """One run's random state, watcher and memory.

    Args:
        seed, step, worker: together with a node's key they determine what the node draws.
        watch: called after each step with the plan, the step and the slots.
        call: which nodes with subgraphs, and which calls of these, the run is within.
        memory: where the plan's arena is.
        before_update: called when all is computed but the steps that overwrite weights: with a function that reads a
            value by name (None if it is gone), and the names of those weights. If it raises, nothing is changed.
    """

    seed: int = 0
    step: int = 0
    worker: int = 0
    watch: Watch | None = None
    call: tuple[int, ...] = ()
    memory: Memory = field(default_factory=Memory)
    before_update: BeforeUpdate | None = None

    def generator(self, key: int) -> np.random.Generator:
        """The generator of the node with this key, the same for the same seed, step and worker."""
        return np.random.default_rng([self.seed, key, self.step, self.worker, *self.call])

    def within(self, key: int) -> RunContext:
        """The context of a run within this one: its random ops draw numbers of their own."""
        return RunContext(self.seed, self.step, self.worker, self.watch, (*self.call, key), self.memory)

    def failed(self, plan: Plan, step: Step, slots: list[Any], cause: Exception) -> None:
        """Raises an ExecutionError that shows the node that failed and what it was given.

        What a subgraph within the node has raised with its own node's name passes as it is.
        """
        if isinstance(cause, (ExecutionError, NonFiniteError, NotDifferentiableError)):
            raise cause
        given = ", ".join(f"{name or '_'}: {_describe(x)}" for name, x in step.given(slots))
        kind = "" if isinstance(cause, (GraphrtError, ValueError)) else f"{type(cause).__name__}: "
        raise ExecutionError(
            f"node {step.node.label!r} ({step.node.qualified_op}) failed: {kind}{cause}\n"
            f"  inputs: {given}\n{format_neighborhood(plan.graph, step.node)}"
        ) from cause


def execute(
    plan: Plan, given: Mapping[str, Any], context: RunContext, weights: Mapping[str, Any] | None = None
) -> list[Any]:
    """Walks the steps of a plan: the interpreter.

    Args:
        plan: what to do.
        given: an array for every name in ``plan.feeds``.
        context: what random ops draw from, and the rest that belongs to a run.
        weights: for every name in ``plan.overwritten`` the array that holds it, to be written to.

    Returns:
        The slots, of which those of the outputs and state updates are filled.

    Raises:
        ExecutionError: an op failed.
    """
    arena = context.memory.take(plan.nbytes) if plan.buffers else None
    slots = (plan.slots if arena is None else arena.slots(plan, plan.slots, plan.buffers, plan.links)).copy()
    slots[CONTEXT_SLOT] = context
    for name, slot in plan.feeds.items():
        slots[slot] = given[name]
    for name, slot in plan.overwritten.items():
        slots[slot] = (weights or {})[name]
    slots.append(None)  # slot -1 takes the outputs nobody wants
    first, main, late = plan.programs
    try:
        is_ready = plan.preparation is None or plan.preparation.recall(slots)
        calls_numpy = not (is_ready and plan.is_linked)
        # infinities and NaNs are values; to stop at one is an observer's choice
        quiet = np.errstate(all="ignore") if calls_numpy or context.before_update else nullcontext()
        with quiet, single_blas() if calls_numpy and plan.single_blas else nullcontext():
            if plan.preparation is not None and not is_ready:
                _walk(plan, first, slots, context)
                plan.preparation.remember(slots)
            _walk(plan, main, slots, context)
            if context.before_update is not None:
                context.before_update(lambda name: slots[plan.slot_of.get(name, ABSENT)], plan.overwritten)
            if late:
                _Overwrites.count += 1
                _walk(plan, late, slots, context)
    finally:
        if arena is not None:
            context.memory.give(arena)
    return slots


def _walk(plan: Plan, program: list[Any], slots: list[Any], context: RunContext) -> None:
    """The loop. A failure is told with the step; what a watcher raises passes as it is."""
    watch, empty, watching = context.watch, np.empty, False
    step: Any = None
    done = -1
    try:
        for call, take, more, step in program:
            if not more and watch is None:
                call(*take(slots))
                continue
            for slot, shape, dtype in step.fresh:
                slots[slot] = empty(shape, dtype)
            result = call(*take(slots))
            if step.output >= 0:
                slots[step.output] = _zero(step, 0) if result is None else result
            elif step.output == MANY:
                _store(step, result, slots)
            result = None  # so that nothing but its slot keeps a value alive
            if watch is not None:
                watching = True
                watch(plan, step, slots)
                watching = False
            for slot in step.release:
                slots[slot] = None
    except Stopped as e:
        done = e.done
    except Exception as e:
        if watching:
            raise
        context.failed(plan, step, slots, e)
    if done >= 0:  # the member that comes next says why, or it can go on
        here = next(i for i, (*_, other) in enumerate(program) if other is step)
        members = [member.compiled() for member in step.members[done:]]
        _walk(plan, [*members, *program[here + 1 :]], slots, context)


def _store(step: Step, result: Any, slots: list[Any]) -> None:
    """Puts the several outputs of a call into their slots."""
    if not isinstance(result, (tuple, list)) or len(result) < len(step.outputs):
        raise _not_the_outputs(step, result)
    for slot, value in zip(step.outputs, result, strict=False):
        slots[slot] = value
    if step.zeros:
        for i, slot in enumerate(step.outputs):
            if slots[slot] is None:
                slots[slot] = _zero(step, i)
    slots[-1] = None


def _zero(step: Step, index: int) -> Any:
    """What None stands for as a derivative: zeros, where the type of the value is known."""
    t = step.zeros[index] if index < len(step.zeros) else None
    return None if t is None else np.zeros(t.shape or (), numpy_dtype(t.dtype or "float32"))


def _not_the_outputs(step: Step, result: Any) -> PluginError:
    if isinstance(result, (tuple, list)):
        return PluginError(f"the op's function returned {len(result)} outputs, the node has {len(step.outputs)}")
    return PluginError(f"an op with several outputs returns a tuple of them, not one {type(result).__name__}")


def _describe(x: Any) -> str:
    return f"{x.dtype}{list(x.shape)}" if hasattr(x, "dtype") else type(x).__name__
