"""The interpreter: a plan, the context of a run, and the flat loop that walks the one with the other.

Invariants of a plan: steps are in an order of execution; every value lives in a slot (slot 0 is None, for
absent inputs; slot 1 holds the `RunContext`; slot -1 takes outputs nobody wants); a slot is released by the
last step that reads it, unless it holds an output or a state update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphrt.errors import ExecutionError, GraphrtError, NonFiniteError, NotDifferentiableError, PluginError
from graphrt.inference import Inferred
from graphrt.ir import Graph, Node, format_neighborhood
from graphrt.types import TensorType, ValueType, numpy_dtype

ABSENT, CONTEXT_SLOT = 0, 1


@dataclass(slots=True)
class Step:
    """One call: ``slots[output] = call(*slots[inputs])``.

    ``output`` is the slot of a single output, or -1 when ``outputs`` lists several; an unwanted output goes
    to slot -1. ``zeros`` gives dtype and shape of each output for which a derivative rule may say None: zero.
    """

    call: Callable[..., Any]
    inputs: tuple[int, ...]
    output: int
    outputs: tuple[int, ...]
    release: tuple[int, ...]
    node: Node
    zeros: tuple[TensorType | None, ...] = ()

    def given(self, slots: list[Any]) -> Iterator[tuple[str, Any]]:
        """The node's input names with what their slots hold; the run's context and captured values left out."""
        own = self.inputs[1:] if self.inputs[:1] == (CONTEXT_SLOT,) else self.inputs
        return zip(self.node.inputs, (slots[i] for i in own), strict=False)

    def made(self, slots: list[Any]) -> Iterator[tuple[str, Any]]:
        """The node's output names with what their slots hold."""
        own = (self.output,) if self.output >= 0 else self.outputs
        return zip(self.node.outputs, (slots[i] for i in own), strict=True)


@dataclass(slots=True)
class Plan:
    """Steps and slots for one graph; see the module's text for the invariants.

    Attributes:
        graph: what is computed.
        steps: the flat list that the interpreter walks.
        slots: initial content: constants in place, None elsewhere.
        feeds: value name to slot, for inputs and initializers the steps read.
        fetches: output name to slot.
        updates: initializer to the slot of its next value.
        known: what is known of each value.
    """

    graph: Graph
    steps: list[Step]
    slots: list[Any]
    feeds: dict[str, int]
    fetches: dict[str, int]
    updates: dict[str, int]
    known: Inferred

    @property
    def types(self) -> Mapping[str, ValueType]:
        """The type of each value, as far as known."""
        return self.known.types


Watch = Callable[[Plan, Step, list[Any]], None]


@dataclass(slots=True)
class RunContext:
    """One run's random state and watcher.

    Args:
        seed, step, worker: together with a node's key they determine what the node draws.
        call: which nodes with subgraphs, and which calls of these, the run is within.
        watch: called after each step with the plan, the step and the slots.
    """

    seed: int = 0
    step: int = 0
    worker: int = 0
    watch: Watch | None = None
    call: tuple[int, ...] = ()

    def generator(self, key: int) -> np.random.Generator:
        """The generator of the node with this key, the same for the same seed, step and worker."""
        return np.random.default_rng([self.seed, key, self.step, self.worker, *self.call])

    def within(self, key: int) -> RunContext:
        """The context of a run within this one: its random ops draw numbers of their own."""
        return RunContext(self.seed, self.step, self.worker, self.watch, (*self.call, key))

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


def execute(plan: Plan, given: Mapping[str, Any], context: RunContext) -> list[Any]:
    """Walks the steps of a plan: the interpreter.

    Args:
        plan: what to do.
        given: an array for every name in ``plan.feeds``.
        context: what random ops draw from.

    Returns:
        The slots, of which those of the outputs and state updates are filled.

    Raises:
        ExecutionError: an op failed.
    """
    slots = plan.slots.copy()
    slots[CONTEXT_SLOT] = context
    for name, slot in plan.feeds.items():
        slots[slot] = given[name]
    slots.append(None)  # slot -1 takes the outputs nobody wants
    watch = context.watch
    with np.errstate(all="ignore"):  # infinities and NaNs are values; to stop at one is an observer's choice
        for step in plan.steps:
            try:
                result = step.call(*[slots[i] for i in step.inputs])
                if step.output >= 0:
                    slots[step.output] = _zero(step, 0) if result is None else result
                else:
                    if not isinstance(result, (tuple, list)) or len(result) < len(step.outputs):
                        raise _not_the_outputs(step, result)
                    for slot, value in zip(step.outputs, result, strict=False):
                        slots[slot] = value
                    if step.zeros:
                        for i, slot in enumerate(step.outputs):
                            if slots[slot] is None:
                                slots[slot] = _zero(step, i)
                    result = value = slots[-1] = None  # so that nothing but its slot keeps a value alive
            except Exception as e:
                context.failed(plan, step, slots, e)
            if watch is not None:
                watch(plan, step, slots)
            for slot in step.release:
                slots[slot] = None
    return slots


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
