"""How much memory the run of a plan takes: where each value lives, and how many bytes are held at each step.

It is told from types before anything runs. What is not known then counts nothing: values without a known shape, what an
op's own function takes only while it runs, and the runs of subgraphs.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from graphrt.ir import Node
from graphrt.records import dataclass
from graphrt.runtime.memory import Tenant, nbytes_of
from graphrt.types import TensorType

if TYPE_CHECKING:
    from graphrt.runtime.interpreter import Plan

IN_ORDER = frozenset({"Reshape", "Flatten"})
"""Ops whose own function returns its first input with another shape: a view where its elements lie in their order."""

VIEWING = IN_ORDER | {"Identity", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Split", "Expand"}
"""Ops whose own function returns its first input, or a view of it."""

OUT_OF_ORDER = frozenset({"Transpose", "Slice", "Split", "Expand", "Concat"})
"""Of these and `VIEWING_BACK`, those after whose work the elements may lie in another order than theirs."""

VIEWING_BACK = IN_ORDER | {"Identity", "Squeeze", "Unsqueeze", "Transpose", "Concat"}
"""Ops whose reverse rule returns the cotangent, or views of it."""

PASSING_BACK = frozenset({"Add", "Sum"})
"""Ops whose reverse rule returns the very cotangent for an input of its type."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lives.

    Attributes:
        kind: ``"arena"``: at ``offset`` there, written over the value ``of`` if one is named; ``"weight"``: over the
            weight ``of``; ``"view"``: it shares the memory of the value ``of``; ``"new"``: made anew in each run;
            ``"kept"``: made when the weights have changed, and kept for later runs.
        nbytes: its size.
        offset: in the arena; else -1.
        of: another value, or none.
    """

    kind: str
    nbytes: int
    offset: int = -1
    of: str = ""

    def __str__(self) -> str:
        if self.kind == "arena":
            return f"arena {self.offset}" + (f", over {self.of}" if self.of else "")
        return {"weight": f"over {self.of}", "view": f"view of {self.of}"}.get(self.kind, self.kind)


@dataclass(frozen=True, slots=True)
class Footprint:
    """The memory of a plan's runs, beside inputs, weights and constants.

    Attributes:
        places: where each value lives that a step makes.
        held: for each step, the bytes of all values that are needed while it runs, and of its scratch arrays.
        scratch: for each step, the bytes of these.
        peak: the most that a run takes at once: the arena, and what is made beside it.
    """

    places: dict[str, Place]
    held: tuple[int, ...]
    scratch: tuple[int, ...]
    peak: int


def footprint(plan: Plan) -> Footprint:
    """What the runs of a plan take."""
    places = dict(_places(plan))
    scratch = tuple(_scratch(plan))
    beside = _held(len(plan.steps), _lives_beside(plan, places))
    inside = _held(len(plan.steps), ((t.first + t.in_place, t.last + 1, t.room) for t in plan.places.values()))
    held = tuple(map(sum, zip(beside, inside, scratch, strict=True)))
    return Footprint(places, held, scratch, plan.nbytes + max(beside, default=0))


def static_bytes(kind: Any) -> int:
    """The size of a value of this type; 0 where it is not known."""
    return nbytes_of(kind) if isinstance(kind, TensorType) and kind.is_static else 0


def _places(plan: Plan) -> Iterator[tuple[str, Place]]:
    """Each value that a step makes, with its place."""
    old_of = {plan.graph.state_updates[w]: w for w in plan.overwritten}
    prepared = plan.preparation.steps if plan.preparation else 0
    scattered: set[str] = set()  # views whose elements may not lie in their order
    for i, step in enumerate(plan.steps):
        node, fresh = step.node, {slot for slot, *_ in step.fresh}
        source = next(filter(None, node.inputs), "")
        for name in filter(None, node.outputs):
            size, tenant = static_bytes(plan.types.get(name)), plan.places.get(name)
            if tenant is not None:
                yield name, Place("arena", size, tenant.offset, _overwritten(plan, node, tenant))
            elif name in old_of:
                yield name, Place("weight", size, of=old_of[name])
            elif plan.slot_of[name] not in fresh and source and _is_view(plan, node, source, name, scattered):
                yield name, Place("view", size, of=source)
                if source in scattered or node.op_type.partition(".")[0] in OUT_OF_ORDER:
                    scattered.add(name)
            else:
                yield name, Place("kept" if i < prepared else "new", size)


def _is_view(plan: Plan, node: Node, source: str, name: str, scattered: Container[str]) -> bool:
    """Whether an op's own function makes a value that is its first input, or a view of it."""
    base, _, rule = node.op_type.partition(".")
    if base in IN_ORDER and source in scattered:
        return False
    if not rule:
        return base in VIEWING
    passed = base in PASSING_BACK and plan.types.get(source) == plan.types.get(name)
    return rule.startswith("vjp") and (base in VIEWING_BACK or passed)


def _overwritten(plan: Plan, node: Node, tenant: Tenant) -> str:
    """The input whose place an output has taken, if it has."""
    if not tenant.in_place:
        return ""
    before = ((i, plan.places[i]) for i in node.inputs if i in plan.places)
    return next(i for i, t in before if (t.offset, t.last, t.type) == (tenant.offset, tenant.first, tenant.type))


def _scratch(plan: Plan) -> Iterator[int]:
    """For each step, the bytes of its scratch arrays."""
    named = set(plan.slot_of.values())
    size = {b.slot: nbytes_of(b.type) for b in plan.buffers if b.slot not in named}
    return (sum(size.get(slot, 0) for slot in step.inputs) for step in plan.steps)


def _lives_beside(plan: Plan, places: Mapping[str, Place]) -> Iterator[tuple[int, int, int]]:
    """For each array outside the arena: its first step, the first when it is gone again, its bytes."""
    name_of = {slot: name for name, slot in plan.slot_of.items()}
    gone = {name_of[slot]: i + 1 for i, step in enumerate(plan.steps) for slot in step.release}
    root: dict[str, str] = {}
    life: dict[str, tuple[int, int, int]] = {}
    for i, step in enumerate(plan.steps):
        for name in filter(None, step.node.outputs):
            place, end = places[name], gone.get(name, len(plan.steps))
            if place.kind in ("new", "kept"):
                root[name], life[name] = name, (i, end, place.nbytes)
            elif place.kind == "view" and place.of in root:
                root[name] = whole = root[place.of]
                first, last, size = life[whole]
                life[whole] = first, max(last, end), size
    return iter(life.values())


def _held(steps: int, lives: Iterable[tuple[int, int, int]]) -> list[int]:
    """For each step, the sum of the bytes of what lives then, from ``(first step, first when gone, bytes)``."""
    change = [0] * (steps + 1)
    for first, end, size in lives:
        change[first] += size
        change[end] -= size
    return list(accumulate(change))[:steps]
