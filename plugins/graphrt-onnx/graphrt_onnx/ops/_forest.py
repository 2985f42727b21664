"""A tree ensemble as arrays: every row walks every tree, all of them one level at a time.

State is the node each (row, tree) pair stands at. A leaf points to itself, so that pairs which have arrived stay;
after as many steps as the deepest tree has levels all have.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphrt.plugin import Array

LEQ, LT, GTE, GT, EQ, NEQ, MEMBER, LEAF = range(8)
MODE_NAMES = {
    "BRANCH_LEQ": LEQ, "BRANCH_LT": LT, "BRANCH_GTE": GTE, "BRANCH_GT": GT, "BRANCH_EQ": EQ, "BRANCH_NEQ": NEQ,
    "BRANCH_MEMBER": MEMBER, "LEAF": LEAF,
}  # fmt: skip
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_PAIRS_AT_ONCE = 1 << 20  # (row, tree) pairs walked together: bounds the memory
_KEPT = 16  # ensembles remembered between calls


@dataclass(frozen=True, eq=False)
class Forest:
    """Trees, and the weights at their leaves.

    Attributes:
        roots: [T], the node each tree starts at.
        mode, feature, split, yes, no, missing_yes: [nodes].
        members: node to the sorted values it tests membership of, for nodes of mode MEMBER.
        depth: the most steps from a root to a leaf.
        leaf_weights: nodes [L, W], to the weights at each node, filled up with zeros.
        leaf_targets: [nodes, W], the target of each weight; -1 where there is none.
    """

    roots: Array
    mode: Array
    feature: Array
    split: Array
    yes: Array
    no: Array
    missing_yes: Array
    members: dict[int, Array]
    depth: int
    leaf_weights: Array
    leaf_targets: Array

    def leaves(self, x: Array) -> Array:
        """[N, T]: the leaf each row reaches in each tree."""
        if self.feature.size and x.shape[1] <= int(self.feature.max()):
            raise ValueError(f"x has {x.shape[1]} columns; the trees ask for column {int(self.feature.max())}")
        at = np.broadcast_to(self.roots, (x.shape[0], self.roots.size))
        rows = np.arange(x.shape[0])[:, None]
        only = np.unique(self.mode[self.mode != LEAF])
        for _ in range(self.depth):
            value = x[rows, self.feature[at]]
            yes = self._test(value, at, only)
            if self.missing_yes.any():
                yes = yes | (np.isnan(value) & self.missing_yes[at])
            at = np.where(yes, self.yes[at], self.no[at])
        return at

    def _test(self, value: Array, at: Array, modes: Array) -> Array:
        split = self.split[at]
        if modes.size == 1 and modes[0] != MEMBER:
            return _COMPARE[int(modes[0])](value, split)
        mode, yes = self.mode[at], np.zeros(at.shape, bool)
        for m in modes.tolist():
            if m == MEMBER:
                for node, values in self.members.items():
                    yes |= (at == node) & np.isin(value, values)
            else:
                yes |= (mode == m) & _COMPARE[m](value, split)
        return yes

    def totals(self, x: Array, n_targets: int, aggregate: str) -> tuple[Array, Array]:
        """Aggregated weights [N, targets] in float64, and which of them any leaf spoke for."""
        step = max(1, _PAIRS_AT_ONCE // max(1, self.roots.size))
        parts = [self._totals(x[i : i + step], n_targets, aggregate) for i in range(0, x.shape[0], step)]
        if not parts:
            return np.zeros((0, n_targets)), np.zeros((0, n_targets), bool)
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _totals(self, x: Array, n_targets: int, aggregate: str) -> tuple[Array, Array]:
        leaf = self.leaves(x)
        weights, targets = self.leaf_weights[leaf], self.leaf_targets[leaf]  # [N, T, W]
        spoken = targets >= 0
        cell = (np.arange(x.shape[0])[:, None, None] * n_targets + targets)[spoken]
        weights, size = weights[spoken], x.shape[0] * n_targets
        seen = np.bincount(cell, minlength=size) > 0
        if aggregate in ("SUM", "AVERAGE"):
            total = np.bincount(cell, weights, size)
            total = total / self.roots.size if aggregate == "AVERAGE" else total
        else:
            worst, better = (np.inf, np.minimum) if aggregate == "MIN" else (-np.inf, np.maximum)
            total = np.full(size, worst)
            better.at(total, cell, weights)
            total = np.where(seen, total, 0)
        return total.reshape(-1, n_targets), seen.reshape(-1, n_targets)


_COMPARE: dict[int, Callable[[Array, Array], Array]] = {
    LEQ: np.less_equal, LT: np.less, GTE: np.greater_equal, GT: np.greater, EQ: np.equal, NEQ: np.not_equal,
}  # fmt: skip


def depth_of(roots: Array, yes: Array, no: Array, mode: Array) -> int:
    """The most steps from a root to a leaf.

    Raises:
        ValueError: a tree has a cycle.
    """
    level, depth = np.unique(roots), 0
    while True:
        level = level[mode[level] != LEAF]
        if level.size == 0:
            return depth
        if depth > mode.size:
            raise ValueError("the nodes of a tree form a cycle")
        level, depth = np.unique(np.concatenate([yes[level], no[level]])), depth + 1


def weights_table(nodes: int, leaf: Array, target: Array, weight: Array) -> tuple[Array, Array]:
    """Weights listed by leaf, as tables [nodes, most per leaf]: the weights, and their targets or -1."""
    count = np.bincount(leaf, minlength=nodes)
    order = np.argsort(leaf, kind="stable")
    place = np.arange(leaf.size) - np.repeat(np.cumsum(count) - count, count)
    width = int(count.max(initial=1)) or 1
    weights, targets = np.zeros((nodes, width), np.float64), np.full((nodes, width), -1, np.int64)
    weights[leaf[order], place] = weight[order]
    targets[leaf[order], place] = target[order]
    return weights, targets


def index_of(tree: Array, node: Array, of_tree: Array, of_node: Array, what: str) -> Array:
    """Places of the (tree, node) pairs in a list of such pairs.

    Raises:
        ValueError: a pair is not in the list.
    """
    low = int(min(of_node.min(initial=0), node.min(initial=0)))
    span = int(max(of_node.max(initial=0), node.max(initial=0))) - low + 1
    known, wanted = of_tree * span + (of_node - low), tree * span + (node - low)
    order = np.argsort(known, kind="stable")
    at = np.minimum(np.searchsorted(known[order], wanted), max(known.size - 1, 0))
    if wanted.size and (known.size == 0 or np.any(known[order][at] != wanted)):
        raise ValueError(f"{what} names a node that no tree has")
    return order[at]


_remembered: OrderedDict[tuple[int, ...], tuple[tuple[Any, ...], Any]] = OrderedDict()


def remembered(make: Callable[..., Any], *attributes: Any) -> Any:
    """``make(*attributes)``, made once for the same attribute objects (tuples and arrays of a frozen node).

    They are told apart by identity: hashing lists of 100,000 nodes at every call would cost more than small batches.
    """
    key = (id(make), *map(id, attributes))
    found = _remembered.get(key)
    if found is None:
        found = _remembered[key] = (attributes, make(*attributes))  # holding them keeps their ids taken
        while len(_remembered) > _KEPT:
            _remembered.popitem(last=False)
    return found[1]


def table(values: Sequence[Any] | Array | None, size: int, dtype: Any, what: str, default: Any = None) -> Array:
    """One attribute as an array with one entry per node.

    Raises:
        ValueError: it has another length.
    """
    if (values is None or len(values) == 0) and default is not None:
        return np.full(size, default, dtype)
    found = np.asarray(values if values is not None else (), dtype)
    if found.shape != (size,):
        raise ValueError(f"{what} has {found.size} entries for {size} nodes")
    return found
