"""The steps of a plan, and how those that follow each other become one call where their kernels have a linker."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from graphrt.definitions import Kernel, Linker
from graphrt.ir import Node
from graphrt.records import dataclass
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
    ``linker`` is what can make one call of this and its neighbours; ``members`` are the steps of such a call.
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
    members: tuple[Step, ...] = ()

    def given(self, slots: list[Any]) -> Iterator[tuple[str, Any]]:
        """The node's input names with what their slots hold; the run's context and captured values left out."""
        own = self.inputs[1:] if self.members or self.inputs[:1] == (CONTEXT_SLOT,) else self.inputs
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


def link_steps(steps: Sequence[Step], slots: list[Any], buffers: Iterable[Buffer]) -> list[Step]:
    """The steps, where each run of those that a linker serves is one step.

    Args:
        steps: in their order.
        slots: a plan's; one is added for each linked step.
        buffers: of the plan.
    """
    linked: list[Step] = []
    fixed = {b.slot for b in buffers}
    for linker, group in groupby(steps, lambda step: step.linker):
        members = tuple(group)
        if linker is None or len(members) < 2 or not fixed:
            linked += members
        else:
            slots.append(None)
            linked.append(_linked(linker, members, len(slots) - 1, fixed))
    return linked


def _linked(linker: Linker, members: tuple[Step, ...], kept: int, fixed: Collection[int]) -> Step:
    """One step for several; ``kept`` is the slot for what the linker keeps."""
    inputs = tuple(dict.fromkeys(slot for step in members for slot in step.inputs))
    at = {slot: i for i, slot in enumerate(inputs)}
    moving = [i for slot, i in at.items() if slot not in fixed and slot != ABSENT]
    call = linker.link([step.call for step in members], [[at[slot] for slot in s.inputs] for s in members], moving)

    def run(*arrays: Any) -> None:
        done = call(*arrays)
        if done is not None:
            raise Stopped(done)

    release = tuple(slot for step in members for slot in step.release)
    fresh = tuple(array for step in members for array in step.fresh)
    return Step(run, (kept, *inputs), FILLED, (), release, members[0].node, (), fresh, None, linker, members)
