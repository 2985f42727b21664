"""What a plan does, step by step, as data and as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrt.ir import Graph, Node
from graphrt.records import dataclass
from graphrt.runtime.flops import count_flops
from graphrt.runtime.footprint import Footprint, Place, footprint
from graphrt.runtime.fusion import Group
from graphrt.types import UNKNOWN, TensorType

if TYPE_CHECKING:
    from graphrt.runtime.interpreter import Plan
    from graphrt.runtime.recomputation import Recomputation

MOST_NAMED = 24
"""How many members of a group are named."""

REFERENCE = "reference"
"""What stands for the kernel where an op's own function is called."""


@dataclass(frozen=True, slots=True)
class Output:
    """A value that a step makes: its type as text, and where it lives."""

    name: str
    type: str
    place: Place


@dataclass(frozen=True, slots=True)
class StepDescription:
    """One step of a plan.

    Attributes:
        op: the op with its domain, and those that are fused in it.
        inputs: names of the values that it reads; ``""`` where absent.
        outputs: what it makes; an output that nobody wants is left out.
        kernel, plugin: what does the work, and the plug-in that brought it; `REFERENCE` and ``""`` where that is the
            op's own function.
        scratch: bytes that the kernel works in.
        held: bytes of all values that are needed while the step runs, the scratch among them.
        flops: floating-point operations, see `graphrt.runtime.flops`.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    kernel: str
    plugin: str
    scratch: int
    held: int
    flops: float


@dataclass(frozen=True, slots=True)
class PlanDescription:
    """A plan, told; all numbers but the operations are bytes.

    Attributes:
        name: of the graph.
        steps: in their order.
        arena: the size of the arena.
        peak: the most that a run takes at once beside inputs, weights and constants.
        constants: what is computed when the plan is made, or read from the graph then.
        flops: of all steps.
        recomputation: what a limit of memory has cost, if there is one that asked for any.
    """

    name: str
    steps: tuple[StepDescription, ...]
    arena: int
    peak: int
    constants: int
    flops: float
    recomputation: Recomputation | None = None

    def facts(self) -> dict[str, Any]:
        """The same as dictionaries, lists, numbers and strings."""
        return asdict(self)

    def text(self) -> str:
        """A table with a line for each output of each step, then the totals. The same plan gives the same text."""
        rows: list[tuple[str, ...]] = [("step", "node", "kernel", "output", "place", "held", "operations")]
        for i, step in enumerate(self.steps):
            rows += _rows(i, step)
        lines = [f"plan of {self.name or 'a graph'}: {len(self.steps)} steps", *_aligned(rows)]
        lines.append(f"arena: {self.arena:,} bytes; constants: {self.constants:,} bytes")
        lines.append(f"peak: {self.peak:,} bytes, {self.peak - self.arena:,} of them beside the arena")
        lines.append(f"operations: {self.flops:,.0f}")
        if self.recomputation is not None:
            lines.append(str(self.recomputation))
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()


def describe(plan: Plan) -> PlanDescription:
    """What a plan does."""
    memory = footprint(plan)
    steps = tuple(_describe(plan, i, memory) for i in range(len(plan.steps)))
    constants = sum(map(_constant_bytes, plan.slots))
    flops = sum(s.flops for s in steps)
    return PlanDescription(plan.graph.name, steps, plan.nbytes, memory.peak, constants, flops, plan.recomputation)


def node_flops(plan: Plan, node: Node) -> float:
    """Floating-point operations of a node, from the types that a plan knows."""
    if fused := _fused(node):
        return sum(node_flops(plan, n) for n in fused)
    read = [plan.types.get(i) if i else None for i in node.inputs]
    made = [plan.types.get(o) for o in node.outputs if o]
    return count_flops(node, [_static(t) for t in read], [_static(t) for t in made])


def _fused(node: Node) -> tuple[Node, ...]:
    """The nodes that a node stands for, if it does."""
    body = node.attributes.get("body") if isinstance(node, Group) else None
    return body.nodes if isinstance(body, Graph) else ()


def _op_types(nodes: Sequence[Node]) -> str:
    """The op types of nodes, the middle ones left out if they are many."""
    names = [n.op_type for n in nodes]
    if len(names) > MOST_NAMED:
        names[MOST_NAMED // 2 : -MOST_NAMED // 2] = [f"... {len(names) - MOST_NAMED} more ..."]
    return " ".join(names)


def _static(kind: Any) -> TensorType | None:
    return kind if isinstance(kind, TensorType) and kind.is_static else None


def _describe(plan: Plan, index: int, memory: Footprint) -> StepDescription:
    step = plan.steps[index]
    node, kernel = step.node, step.kernel
    fused = _fused(node)
    return StepDescription(
        node.qualified_op + (f"[{_op_types(fused)}]" if fused else ""),
        node.inputs,
        tuple(Output(o, str(plan.types.get(o, UNKNOWN)), memory.places[o]) for o in node.outputs if o),
        kernel.name if kernel else REFERENCE,
        plan.registry.plugin_of("kernels", kernel) if plan.registry and kernel else "",
        memory.scratch[index],
        memory.held[index],
        node_flops(plan, node),
    )


def _constant_bytes(x: Any) -> int:
    """The memory of an array; an axis along which it is broadcast takes none."""
    if not isinstance(x, np.ndarray) or not x.size:
        return 0
    return x.itemsize * int(np.prod([n for n, stride in zip(x.shape, x.strides, strict=True) if stride]))


def _rows(index: int, step: StepDescription) -> Iterator[tuple[str, ...]]:
    """A line for the step and its first output, and one for each other output."""
    node = f"{step.op}({', '.join(i or '_' for i in step.inputs)})"
    kernel = f"{step.kernel} ({step.plugin})" if step.plugin else step.kernel
    outputs = [(f"{o.name}: {o.type}", str(o.place)) for o in step.outputs] or [("", "")]
    yield str(index), node, kernel, *outputs[0], f"{step.held:,}", f"{step.flops:,.0f}"
    for output in outputs[1:]:
        yield "", "", "", *output, "", ""


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The rows in columns, the first and the last two aligned to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    right = {0, len(widths) - 2, len(widths) - 1}
    for row in rows:
        cells = (c.rjust(w) if i in right else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()
