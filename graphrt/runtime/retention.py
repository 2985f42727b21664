"""What to keep of the forward part for the backward part, and what to compute again.

As in Chen et al. 2016, "Training deep nets with sublinear memory cost", the forward part is cut into segments; what
crosses a cut is kept, and each segment is computed again when the backward part comes to it. Cuts are placed where the
least crosses them, for the size that segments may have: the shortest path over the positions of the forward part, which
are the lower sets of Kusumoto et al. 2019, "A graph theoretic framework of recomputation algorithms", in the order of
execution only (Kumar et al. 2019, "Efficient rematerialization for deep networks", bound what general graphs need). Of
the rest, what costs most operations for its memory is kept as well, as far as there is room; that leaves cheap ops to
be computed again where these suffice. Jain et al. 2020, "Checkmate", find the optimum of both by integer programming.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate

from graphrt.ir import Node
from graphrt.ir.dag import dependencies, needed_for, schedule
from graphrt.passes.rematerialize import backward_part, captured_values
from graphrt.records import dataclass
from graphrt.runtime.description import node_flops
from graphrt.runtime.footprint import Footprint, footprint
from graphrt.runtime.interpreter import Plan

SIZES, SHARES, PLANS, TRIED = 12, 10, 6, 2_000_000
"""How many sizes of segments are looked at, how many shares of what is kept for each, how many plans are made of those
that should do and how many of the lowest, and for how many nodes in all single changes are tried."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What is not kept for the backward part, and what that comes to by estimate."""

    dropped: frozenset[int]
    peak: int
    flops: float


class Forward:
    """What a plan does before its backward part, seen for its memory.

    Memory is counted in roots: a value that has memory of its own, with the views of it. They are numbered.

    Attributes:
        nodes: those to run, in their order.
        early: positions of those before the backward part.
        members: root to its values, as far as the forward part makes them.
        flops: operations of each node.
    """

    def __init__(self, plan: Plan):
        memory = footprint(plan)
        self.nodes = list(nodes_to_run(plan))
        late = backward_part(self.nodes)
        self.is_late = [i in late for i in range(len(self.nodes))]
        self.early = [i for i in range(len(self.nodes)) if i not in late]
        self.flops = [node_flops(plan, n) for n in self.nodes]
        self._find_roots(memory)
        self._find_candidates(plan)
        scratch = {o: n for step, n in zip(plan.steps, memory.scratch, strict=True) for o in step.node.outputs if n}
        self.scratch = [max((scratch.get(o, 0) for o in n.outputs), default=0) for n in self.nodes]

    def _find_roots(self, memory: Footprint) -> None:
        """Numbers the roots: their sizes and members, who makes and who reads them."""
        self.members: list[list[str]] = []
        self.size: list[int] = []
        self.made_at: list[int] = []
        self.root: dict[str, int] = {}
        self.makes: list[list[int]] = [[] for _ in self.nodes]
        for i, node in enumerate(self.nodes):
            for name in filter(None, node.outputs):
                place = memory.places.get(name)
                if place is None or place.kind == "kept" or (place.kind == "view" and place.of not in self.root):
                    continue  # inside of a fused node, or no memory of this run
                if place.kind == "view":
                    self.root[name] = self.root[place.of]
                else:
                    self.root[name] = len(self.size)
                    self.makes[i].append(len(self.size))
                    self.size.append(0 if place.kind == "weight" else place.nbytes)
                    self.made_at.append(i)
                    self.members.append([])
                if not self.is_late[i]:
                    self.members[self.root[name]].append(name)
        self.reads = [{self.root[name] for name in n.free_inputs() if name in self.root} for n in self.nodes]
        self.maker = {name: i for i in self.early for name in self.nodes[i].outputs if name in self.root}

    def _find_candidates(self, plan: Plan) -> None:
        """What may be computed again: not what leaves the run, nor what a subgraph reads by its name."""
        leaving = {*plan.graph.output_names, *plan.graph.state_updates.values()}
        self.leaving = {self.root[name] for name in leaving if name in self.root}
        fixed = self.leaving | {self.root[name] for name in captured_values(self.nodes) if name in self.root}
        roots = (r for i in self.early for r in self.makes[i])
        self.candidates = [r for r in roots if self.size[r] and r not in fixed]
        used = self.leaving.union(*(self.reads[i] for i in self.early))
        self.unused = {i for i in self.early if self.makes[i] and used.isdisjoint(self.makes[i])}

    # ---- estimates -----------------------------------------------------------------------------------

    def choice(self, dropped: frozenset[int]) -> Choice:
        """What it comes to if the backward part computes these roots again."""
        last: dict[int, int] = {}
        work: list[tuple[list[int], int, list[int]]] = []
        flops = 0.0
        done: set[int] = set()
        moved = {i for i in self.unused if dropped.issuperset(self.makes[i])}
        for i in range(len(self.nodes)):
            if i in moved:
                continue
            for j in sorted(self._missing(i, dropped, done)) if self.is_late[i] else ():
                done.add(j)
                flops += 0 if j in moved else self.flops[j]
                kept = [r for r in self.makes[j] if r not in dropped]
                beside = self.scratch[j] + sum(self.size[r] for r in kept)
                made = [~r for r in self.makes[j] if r in dropped]
                work.append((made, beside, [~r if r in dropped else r for r in self.reads[j]]))
            late = self.is_late[i]
            read = [~r if late and r in dropped else r for r in self.reads[i]]
            work.append((self.makes[i], self.scratch[i], read))
        for at, (made, _, read) in enumerate(work):
            last.update(dict.fromkeys(made, at))
            last.update(dict.fromkeys(read, at))
        last.update(dict.fromkeys(self.leaving, len(work)))
        return Choice(dropped, self._peak(work, last), flops)

    def _missing(self, i: int, dropped: frozenset[int], done: set[int]) -> set[int]:
        """Positions of the nodes that have to run again for a node of the backward part."""
        found: set[int] = set()
        waiting = [i]
        while waiting:
            for name in self.nodes[waiting.pop()].inputs:
                j = self.maker.get(name, -1)
                if j >= 0 and self.root[name] in dropped and j not in done and j not in found:
                    found.add(j)
                    waiting.append(j)
        return found

    def _peak(self, work: Sequence[tuple[list[int], int, list[int]]], last: dict[int, int]) -> int:
        held = peak = 0
        for at, (made, beside, read) in enumerate(work):
            held += sum(self.size[max(r, ~r)] for r in made)
            peak = max(peak, held + beside)
            held -= sum(self.size[max(r, ~r)] for r in {*made, *read} if last[r] == at)
        return peak

    # ---- choices -------------------------------------------------------------------------------------

    def attempts(self, share: float) -> Iterator[Choice]:
        """What to try: from the fewest operations on, each by estimate below the one before; then the lowest peaks.

        Args:
            share: of the plan's peak that there may be.
        """
        choices = list(self.choices())
        goal = share * self.choice(frozenset()).peak
        for _ in range(PLANS):
            fitting = [c for c in choices if c.peak <= goal]
            if not fitting:
                break
            chosen = self.with_more_kept(min(fitting, key=lambda c: c.flops), goal)
            yield chosen
            goal = 0.97 * min(goal, chosen.peak)
        if choices:
            choices.append(self.lowest(choices))
        yield from sorted(choices, key=lambda c: (c.peak, c.flops))[:PLANS]

    def choices(self) -> Iterator[Choice]:
        """Choices worth a look."""
        if not self.candidates:
            return
        total, size = sum(self.size[r] for r in self.candidates), float(max(self.size[r] for r in self.candidates))
        factor = (total / size) ** (1 / (SIZES - 1))
        seen: set[frozenset[int]] = set()
        for _ in range(SIZES):
            ranked = self._by_cost(self._between_cuts(size))
            for share in range(SHARES):
                dropped = frozenset(ranked[len(ranked) * share // SHARES :])
                if dropped and dropped not in seen:
                    seen.add(dropped)
                    yield self.choice(dropped)
            size *= factor

    def with_more_kept(self, choice: Choice, goal: float) -> Choice:
        """The choice with as much kept of what it drops, the most costly first, as stays below a peak."""
        ranked = self._by_cost(choice.dropped)
        best, low, high = choice, 0, len(ranked)
        while high - low > 1:
            middle = (low + high) // 2
            tried = self.choice(frozenset(ranked[middle:]))
            if tried.peak <= goal:
                low = middle
                best = min(best, tried, key=lambda c: c.flops)
            else:
                high = middle
        return best

    def lowest(self, choices: Iterable[Choice]) -> Choice:
        """The choice with the lowest peak, with single roots dropped or kept as long as that makes it lower."""
        best = min(choices, key=lambda c: c.peak)
        order = sorted(self.candidates, key=lambda r: -self.size[r])
        tries = TRIED // len(self.nodes)
        while tries > 0:
            before = best.peak
            for root in order[:tries]:
                best = min(best, self.choice(best.dropped ^ {root}), key=lambda c: c.peak)
            if best.peak == before:
                break
            tries -= len(order)
        return best

    def _by_cost(self, roots: Iterable[int]) -> list[int]:
        """From the most operations for their bytes to the fewest."""
        return sorted(roots, key=lambda r: (-self.flops[self.made_at[r]] / self.size[r], r))

    def _between_cuts(self, size: float) -> list[int]:
        """The candidates that no cut crosses and that are not of the last segment, for segments of at most a size."""
        order = {i: k for k, i in enumerate(self.early)}
        made = [order[self.made_at[r]] for r in self.candidates]
        read = self._last_reads(order)
        count = len(self.early)
        crossing, within = [0] * (count + 1), [0] * (count + 1)
        for root, first in zip(self.candidates, made, strict=True):
            crossing[first] += self.size[root]
            crossing[max(read.get(root, first), first)] -= self.size[root]
            within[first + 1] += self.size[root]
        cuts = cheapest_cuts(list(accumulate(crossing))[:count], list(accumulate(within)), size)
        final = cuts[-1] if cuts else -1
        crossed = {r for r, first in zip(self.candidates, made, strict=True)
                   if first > final or any(first <= c < read.get(r, first) for c in cuts)}  # fmt: skip
        return [r for r in self.candidates if r not in crossed]

    def _last_reads(self, order: dict[int, int]) -> dict[int, int]:
        """Root to where the forward part reads it last."""
        return {r: k for i, k in order.items() for r in self.reads[i]}


def cheapest_cuts(crossing: Sequence[int], before: Sequence[int], size: float) -> list[int]:
    """After which positions to cut, so that the least crosses the cuts in all and no segment is larger than a size.

    Args:
        crossing: the bytes that cross a cut after each position.
        before: the bytes made before each position, and before the end.
        size: what a segment may make, if it has more than one position.
    """
    count, least = len(crossing), 0
    cost, previous = [0], [0]  # of the cheapest cuts of which the last is before a position; where the one before it is
    near: deque[int] = deque([0])  # where the cut before the next one may be, from the cheapest on
    for i in range(1, count + 1):
        while least < i - 1 and before[i] - before[least] > size:
            if near[0] == least:
                near.popleft()
            least += 1
        previous.append(near[0])
        cost.append(cost[near[0]] + (crossing[i - 1] if i < count else 0))
        while near and cost[near[-1]] >= cost[i]:
            near.pop()
        near.append(i)
    cuts: list[int] = []
    at = previous[count]
    while at:
        cuts.append(at - 1)
        at = previous[at]
    return cuts[::-1]


def nodes_to_run(plan: Plan) -> Iterator[Node]:
    """The nodes of the graph that the plan runs, in its order, none fused with others."""
    graph, constants = plan.graph, plan.known.constants
    folded = [bool(n.outputs) and all(o in constants for o in n.outputs if o) for n in graph.nodes]
    needs = [() if is_folded else read for is_folded, read in zip(folded, dependencies(graph), strict=True)]
    wanted = needed_for(graph, [*graph.output_names, *graph.state_updates.values()], needs)
    return (graph.nodes[i] for i in schedule(graph) if i in wanted and not folded[i])
