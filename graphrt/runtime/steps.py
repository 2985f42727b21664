"""The steps of a plan, and how those that follow each other become one call where their kernels have a linker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any

from graphrt.definitions import Kernel, Linker, View
from graphrt.ir import Node
from graphrt.records import dataclass, field
from graphrt.runtime.memory import Buffer
from graphrt.types import TensorType

ABSENT, CONTEXT_SLOT = 0, 1
MANY, FILLED = -1, -2
"""What `Step.output` is for a call that returns a tuple, and for one that writes into arrays it is given."""


@dataclass(slots=True)
class Step:
    """One call: ``slots[output] = call(*slots[inputs])``.

    ``output`` is the slot of a single output, or `MANY` when ``outputs`` lists several (an unwanted one goes to slot
    -1), or `FILLED`: then the arrays of ``outputs`` are among those that ``inputs`` lists after the node's own.
    ``fresh`` lists slot, shape and dtype of those that are made anew for each run. ``zeros`` gives the type of each
    output for which a derivative rule may say None: zero. ``kernel`` is what made the call, None if the op did.
    ``linker`` is what can make one call of this and its neighbors; ``members`` are the steps of such a call. ``view``
    is what made the call of a step that only gives views.
    """

    call: Callable[..., Any]
    inputs: tuple[int, ...]
    output: int
    outputs: tuple[int, ...]
    release: tuple[int, ...]
    node: Node
    zeros: tuple[TensorType | None, ...] = ()
    fresh: tuple[tuple[int, Any, Any], ...] = ()
    kernel: Kernel | None = None
    linker: Linker | None = None
    view: View | None = None
    members: tuple[Step, ...] = ()

    def given(self, slots: list[Any]) -> Iterator[tuple[str, Any]]:
        """The node's input names with what their slots hold; the run's context and captured values left out."""
        if self.members:
            return self.members[0].given(slots)
        own = self.inputs[1:] if self.inputs[:1] == (CONTEXT_SLOT,) else self.inputs
        return zip(self.node.inputs, (slots[i] for i in own), strict=False)

    def made(self, slots: list[Any]) -> Iterator[tuple[str, Any]]:
        """The node's output names with what their slots hold."""
        own = (self.output,) if self.output >= 0 else self.outputs
        return zip(self.node.outputs, (slots[i] for i in own), strict=True)

    def compiled(self) -> tuple[Callable[..., Any], Callable[[list[Any]], Any], bool, Step]:
        """For the loop: the call, what takes its arguments, whether there is more to do, the step."""
        take = itemgetter(*self.inputs) if len(self.inputs) > 1 else itemgetter(_only(self.inputs))
        more = self.output != FILLED or bool(self.fresh) or bool(self.release)
        return self.call, take, more, self


def _only(inputs: tuple[int, ...]) -> slice:
    return slice(inputs[0], inputs[0] + 1) if inputs else slice(0, 0)


class Stopped(Exception):
    """A linked step has done so many of its members, and cannot do the next one, which by itself says why."""

    def __init__(self, done: int):
        self.done = done


def link_steps(steps: Iterable[Step], slots: list[Any], buffers: Iterable[Buffer]) -> list[Step]:
    """The steps, where each run of those that a linker serves is one step.

    Steps between them that only give views go first, if what they view is there by then.

    Args:
        steps: in their order.
        slots: a plan's; one is added for each linked step.
        buffers: of the plan; where there are none, nothing is linked.
    """
    fixed = frozenset(b.slot for b in buffers)
    if not fixed:
        return list(steps)
    linked: list[Step] = []
    run, dense = _Run(), set(fixed)  # dense: slots of arrays without gaps
    for step in steps:
        if step.view is not None and step.output >= 0 and step.view.reshapes and step.inputs[0] in dense:
            dense.add(step.output)
        if not run.takes(step, dense):
            linked += run.steps(slots, fixed)
            run = _Run()
        if not run.add(step, fixed):
            linked.append(step)
    return linked + run.steps(slots, fixed)


@dataclass(slots=True)
class _Run:
    """Steps that are going to be one: those that are linked, the views between them, and slots that the former fill."""

    members: list[Step] = field(default_factory=list)
    views: list[Step] = field(default_factory=list)
    filled: set[int] = field(default_factory=set)

    def takes(self, step: Step, dense: Collection[int]) -> bool:
        """Whether a step may belong to it."""
        if not self.members or step.linker is not None:
            return not self.members or step.linker is self.members[0].linker
        if step.view is None or step.inputs[0] in self.filled:
            return False
        return not step.view.reshapes or step.inputs[0] in dense

    def add(self, step: Step, fixed: Collection[int]) -> bool:
        """Adds a step that belongs to it; False for one before its first member, which stays where it is."""
        if step.linker is not None:
            self.members.append(step)
            self.filled.update(slot for slot in step.outputs if slot not in fixed)
        elif self.members:
            self.views.append(step)
        return bool(self.members)

    def steps(self, slots: list[Any], fixed: Collection[int]) -> list[Step]:
        """The views, which then release nothing, and one step for the members."""
        if not self.members:
            return []
        early = [replace(step, release=()) for step in self.views]
        late = tuple(slot for step in self.views for slot in step.release)
        if len(self.members) == 1:
            (only,) = self.members
            return [*early, replace(only, release=only.release + late)]
        slots.append(None)
        return [*early, _linked(tuple(self.members), len(slots) - 1, fixed, late)]


def _linked(members: tuple[Step, ...], kept: int, fixed: Collection[int], late: tuple[int, ...]) -> Step:
    """One step for several; ``kept`` is the slot for what the linker keeps, ``late`` lists more slots to release."""
    linker: Any = members[0].linker
    inputs = tuple(dict.fromkeys(slot for step in members for slot in step.inputs))
    at = {slot: i for i, slot in enumerate(inputs)}
    moving = [i for slot, i in at.items() if slot not in fixed and slot != ABSENT]
    call = linker.link([step.call for step in members], [[at[slot] for slot in s.inputs] for s in members], moving)

    def run(*arrays: Any) -> None:
        done = call(*arrays)
        if done is not None:
            raise Stopped(done)

    release = (*(slot for step in members for slot in step.release), *late)
    fresh = tuple(array for step in members for array in step.fresh)
    return Step(run, (kept, *inputs), FILLED, (), release, members[0].node, (), fresh, None, linker, None, members)
