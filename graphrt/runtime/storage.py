"""Decides, for each value of a plan, where its array lives: in the arena, made anew, over a weight, or up to its op."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from graphrt.definitions import Into, Kernel, View
from graphrt.inference import Inferred
from graphrt.ir import Graph, Node
from graphrt.op import Op
from graphrt.records import dataclass, field
from graphrt.runtime.memory import Tenant, lay_out
from graphrt.types import TensorType


@dataclass(frozen=True, slots=True)
class Work:
    """A node and what does its work: its op, a function or what a kernel made, the slots that it takes, the kernel."""

    node: Node
    op: Op
    call: Callable[..., Any] | Into | View
    inputs: tuple[int, ...]
    kernel: Kernel | None = None


@dataclass(slots=True)
class Storage:
    """Where the values of a plan live.

    Attributes:
        works: in their order of execution; first those that depend on weights alone, last those that overwrite weights.
        preparing: how many of the first there are.
        overwriting: how many of the last.
        overwritten: the weights.
        places: value to its place in the arena, of ``nbytes`` bytes.
        fresh: step to the values that leave the run, which are made anew before it.
        scratch: step to the places of its scratch arrays.
        released: step to the values outside the arena that are not needed after it.
    """

    works: list[Work]
    preparing: int = 0
    overwriting: int = 0
    overwritten: tuple[str, ...] = ()
    nbytes: int = 0
    places: dict[str, Tenant] = field(default_factory=dict)
    fresh: dict[int, list[tuple[str, TensorType]]] = field(default_factory=dict)
    scratch: dict[int, list[Tenant]] = field(default_factory=dict)
    released: dict[int, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reuse:
    """What may be used again.

    Attributes:
        values: the memory of values that nothing reads any more, for outputs.
        weights: the memory of weights, for those that replace them.
        results: what depends on weights alone, in later runs.
    """

    values: bool
    weights: bool
    results: bool


def assign_storage(graph: Graph, works: list[Work], known: Inferred, reuse: Reuse) -> Storage:
    """Finds a place for every value.

    An op's own function may return its input or a view of it, so its inputs and outputs count as sharing memory, unless
    their dtypes differ. What shares memory with an output of the graph or a state update never lies in the arena.

    Args:
        graph: what is run.
        works: one for each node to run, in order.
        known: types of the values.
        reuse: what may be written over.
    """
    produced = {o for w in works for o in w.node.outputs if o}
    leaving = {*graph.output_names, *graph.state_updates.values()}
    shared = _Classes()
    candidates = produced | (set(graph.state_updates) if reuse.weights else set())
    for w in works:
        if not isinstance(w.call, Into):
            for x, y in _aliases(w.node, known, candidates):
                shared.join(x, y)
    storage = Storage(works)
    if reuse.weights:
        _put_overwriting_last(graph, storage, known, shared)
    if reuse.results:
        _put_preparing_first(graph, storage, known)
    prepared = {o for w in storage.works[: storage.preparing] for o in w.node.outputs}
    held = {shared.of(name) for name in leaving | prepared}
    last = {name: i for i, w in enumerate(storage.works) for name in (*w.node.outputs, *w.node.free_inputs()) if name}
    last_of_class: dict[str, int] = {}
    for name, i in last.items():
        found = shared.of(name)
        last_of_class[found] = max(last_of_class.get(found, 0), i)
    updates = {graph.state_updates[n] for n in storage.overwritten}
    tenants: list[Tenant] = []
    for i, w in enumerate(storage.works):
        if isinstance(w.call, Into):
            for k, (o, t) in enumerate(zip(w.node.outputs, w.call.outputs, strict=False)):
                if not o or t is None or o in updates:
                    continue
                if shared.of(o) in held:
                    storage.fresh.setdefault(i, []).append((o, t))
                else:
                    over = tuple(_overwritable(w.node, w.call, k, storage.places, shared)) if reuse.values else ()
                    storage.places[o] = tenant = Tenant(t, i, last_of_class[shared.of(o)], over)
                    tenants.append(tenant)
            for t in w.call.scratch:
                storage.scratch.setdefault(i, []).append(tenant := Tenant(t, i, i))
                tenants.append(tenant)
    for name, i in last.items():
        if name in produced and name not in leaving and name not in prepared and name not in storage.places:
            storage.released.setdefault(i, []).append(name)
    storage.nbytes = lay_out(tenants)
    return storage


def _aliases(node: Node, known: Inferred, candidates: set[str]) -> Iterator[tuple[str, str]]:
    """Pairs of values of one node that may share memory."""
    first: dict[str | None, str] = {}
    for name in (*node.free_inputs(), *node.outputs):
        if name in candidates:
            t = known.types.get(name)
            yield name, first.setdefault(t.dtype if isinstance(t, TensorType) else None, name)
    if None in first:  # of what is not known anything may be
        yield from ((first[None], name) for name in first.values())


def _overwritable(node: Node, call: Into, output: int, places: dict[str, Tenant], shared: _Classes) -> Iterator[Tenant]:
    """The places of inputs that an output may take, if they are not needed any more."""
    names = [n for n in node.free_inputs() if n] if output in call.over else []
    for i in call.over.get(output, ()):
        name = node.inputs[i] if i < len(node.inputs) else ""
        place = places.get(name)
        if place is None or place.type != call.outputs[output]:
            continue
        if all(n == name or shared.of(n) != shared.of(name) for n in names):
            yield place


def _put_overwriting_last(graph: Graph, storage: Storage, known: Inferred, shared: _Classes) -> None:
    """Finds the steps that write new weights over old ones, and moves them to the end.

    Such a step has no output but new weights that nothing reads, and a kernel that allows it; and neither an output of
    the graph nor what another such step reads shares memory with the old weights.
    """
    old_of = {new: old for old, new in graph.state_updates.items()}
    read = {name for w in storage.works for name in w.node.free_inputs()}.union(graph.output_names)
    outside = {shared.of(n) for n in (*graph.output_names, *graph.state_updates.values())}
    candidates = [
        w
        for w in storage.works
        if isinstance(w.call, Into)
        and all(
            o in old_of
            and o not in read
            and shared.of(old_of[o]) not in outside
            and _may_overwrite(w.node, w.call, k, old_of[o], known)
            for k, o in enumerate(w.node.outputs)
            if o
        )
    ]
    readers = Counter(shared.of(name) for w in candidates for name in set(w.node.free_inputs()))
    last = [w for w in candidates if all(readers[shared.of(old_of[o])] == 1 for o in w.node.outputs if o)]
    moved = set(map(id, last))
    storage.works = [w for w in storage.works if id(w) not in moved] + last
    storage.overwriting = len(last)
    storage.overwritten = tuple(old_of[o] for w in last for o in w.node.outputs if o)


def _put_preparing_first(graph: Graph, storage: Storage, known: Inferred) -> None:
    """Finds the steps that depend on nothing but initializers that the run does not change; moves them to the front."""
    steady = set(graph.initializers).union(known.constants) - set(graph.state_updates) - set(graph.input_names)
    first: list[Work] = []
    rest: list[Work] = []
    for w in storage.works:
        read = w.node.free_inputs()
        fixed = steady.issuperset(read) and not any(w.node.subgraphs()) and "rng" not in w.op.context
        (first if fixed else rest).append(w)
        if fixed:
            steady.update(w.node.outputs)
    storage.works, storage.preparing = first + rest, len(first)


def _may_overwrite(node: Node, call: Into, output: int, old: str, known: Inferred) -> bool:
    places = call.over.get(output, ())
    return known.types.get(old) == call.outputs[output] and any(node.inputs[i : i + 1] == (old,) for i in places)


class _Classes:
    """Values in classes of those that may share memory (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The value that stands for the class of a value."""
        root = name
        while (above := self._parent.get(root, root)) != root:
            root = above
        while name != root:
            self._parent[name], name = root, self._parent.get(name, name)
        return root

    def join(self, a: str, b: str) -> None:
        """The two may share memory."""
        self._parent[self.of(a)] = self.of(b)
