"""Tree ensembles of ai.onnx.ml, versions 1, 3 and 5. Their derivative is 0: they are piecewise constant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.plugin import Array, Example, TensorType
from graphrt_onnx.ops._forest import (
    AGGREGATES,
    LEAF,
    MEMBER,
    MODE_NAMES,
    Forest,
    depth_of,
    index_of,
    remembered,
    table,
    weights_table,
)
from graphrt_onnx.ops._ml import (
    TRANSFORMS,
    given,
    labels_of,
    logistic,
    ml,
    quiet,
    result,
    rows_of,
    rows_type,
    transform,
)

# ---- TreeEnsemble, version 5 ---------------------------------------------------------------------------------


def _membership(mode: Array, values: Array | None) -> dict[int, Array]:
    """Node to its set; the sets stand one after another, each closed by a NaN, in the order of the nodes."""
    nodes = np.flatnonzero(mode == MEMBER)
    if nodes.size == 0:
        return {}
    values = np.ravel(values) if values is not None else np.zeros(0)
    ends = np.flatnonzero(np.isnan(values))
    if ends.size < nodes.size:
        raise ValueError(f"membership_values has {ends.size} sets for {nodes.size} nodes that test membership")
    return {int(n): s[~np.isnan(s)] for n, s in zip(nodes, np.split(values, ends + 1), strict=False)}


def _new_forest(
    leaf_targetids: Any, leaf_weights: Array, membership_values: Array | None, nodes_falseleafs: Any,
    nodes_falsenodeids: Any, nodes_featureids: Any, nodes_missing: Any, nodes_modes: Array, nodes_splits: Array,
    nodes_trueleafs: Any, nodes_truenodeids: Any, tree_roots: Any,
) -> Forest:  # fmt: skip
    """Leaves become nodes behind the inner ones."""
    n, leaves = nodes_modes.size, leaf_weights.size
    mode = np.concatenate([np.ravel(nodes_modes).astype(np.int64), np.full(leaves, LEAF)])
    own = np.arange(n, n + leaves)

    def children(ids: Any, are_leaves: Any, what: str) -> Array:
        at = table(ids, n, np.int64, what)
        at = np.where(table(are_leaves, n, bool, what), at + n, at)
        if np.any((at < 0) | (at >= n + leaves)):
            raise ValueError(f"{what} names a node that is not there")
        return np.concatenate([at, own])

    yes = children(nodes_truenodeids, nodes_trueleafs, "nodes_truenodeids")
    no = children(nodes_falsenodeids, nodes_falseleafs, "nodes_falsenodeids")
    nothing = np.zeros(leaves)
    missing = table(nodes_missing, n, bool, "nodes_missing_value_tracks_true", False)
    roots = np.asarray(tree_roots, np.int64)
    targets = table(leaf_targetids, leaves, np.int64, "leaf_targetids")
    weights = weights_table(n + leaves, own, targets, np.ravel(leaf_weights).astype(np.float64))
    return Forest(
        roots=roots, mode=mode, yes=yes, no=no,
        feature=np.concatenate([table(nodes_featureids, n, np.int64, "nodes_featureids"), nothing.astype(np.int64)]),
        split=np.concatenate([np.ravel(nodes_splits), nothing.astype(nodes_splits.dtype)]),
        missing_yes=np.concatenate([missing, nothing > 0]),
        members=_membership(mode, membership_values), depth=depth_of(roots, yes, no, mode),
        leaf_weights=weights[0], leaf_targets=weights[1],
    )  # fmt: skip


def _comparable(x: Array) -> Array:
    """Rows to compare with the thresholds: integers exactly, floats in their own type."""
    x = rows_of(x)
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def _zero_tangent(x_dot: Array, columns: int) -> Array:
    return np.zeros((1 if x_dot.ndim == 1 else x_dot.shape[0], columns), np.float32)


@ml("TreeEnsemble", version=5)
def tree_ensemble(
    x: Array, *, leaf_targetids: tuple[int, ...], leaf_weights: np.ndarray, nodes_falseleafs: tuple[int, ...],
    nodes_falsenodeids: tuple[int, ...], nodes_featureids: tuple[int, ...], nodes_modes: np.ndarray,
    nodes_splits: np.ndarray, nodes_trueleafs: tuple[int, ...], nodes_truenodeids: tuple[int, ...],
    tree_roots: tuple[int, ...], aggregate_function: int = 1, membership_values: np.ndarray | None = None,
    n_targets: int = 1, nodes_hitrates: np.ndarray | None = None,
    nodes_missing_value_tracks_true: tuple[int, ...] | None = None, post_transform: int = 0,
) -> Array:  # fmt: skip
    """Walks every tree and aggregates the weights of the leaves per target.

    x: float [N, F] -> y: [N, n_targets] in the dtype of x. Inner node i tests column ``nodes_featureids[i]`` against
    ``nodes_splits[i]`` by ``nodes_modes[i]`` (0 <=, 1 <, 2 >=, 3 >, 4 ==, 5 !=, 6 member of its set) and goes to the
    true or false node or leaf; NaN fails every test but !=, or passes where nodes_missing_value_tracks_true says so.
    aggregate_function: 0 average over the trees, 1 sum, 2 min, 3 max; a target that no leaf names is 0.
    The derivative is 0. Source: ONNX ML operator spec, version 5.
    """
    forest = remembered(
        _new_forest, leaf_targetids, leaf_weights, membership_values, nodes_falseleafs, nodes_falsenodeids,
        nodes_featureids, nodes_missing_value_tracks_true, nodes_modes, nodes_splits, nodes_trueleafs,
        nodes_truenodeids, tree_roots,
    )  # fmt: skip
    total, _ = forest.totals(_comparable(x), n_targets, AGGREGATES[aggregate_function])
    kind = TRANSFORMS[post_transform]
    with quiet():
        return (transform(total, kind) if n_targets > 1 or kind == "PROBIT" else total).astype(x.dtype, copy=False)


@tree_ensemble.vjp("x")
def _(ct: Array) -> None:
    return None


@tree_ensemble.jvp("x")
def _(x_dot: Array, n_targets: int) -> Array:
    return _zero_tangent(x_dot, n_targets).astype(x_dot.dtype, copy=False)


@tree_ensemble.infer
def _(x: TensorType, n_targets: int) -> TensorType:
    return TensorType(x.dtype, rows_type(x, "float32", n_targets).shape)


def _two_trees(dtype: Any) -> dict[str, Any]:
    """x0 <= 0.5 ? (x1 < -0.2 ? 1 : 2 for target 1) : 3; and x2 in {1, 2} ? 0.5 : -0.5."""
    return {
        "tree_roots": (0, 2), "nodes_featureids": (0, 1, 2), "nodes_modes": np.array([0, 1, 6], np.uint8),
        "nodes_splits": np.array([0.5, -0.2, 0], dtype), "nodes_truenodeids": (1, 0, 3), "nodes_trueleafs": (0, 1, 1),
        "nodes_falsenodeids": (2, 1, 4), "nodes_falseleafs": (1, 1, 1), "leaf_targetids": (0, 1, 0, 1, 0),
        "leaf_weights": np.array([1, 2, 3, 0.5, -0.5], dtype), "membership_values": np.array([1, 2, np.nan], dtype),
        "n_targets": 2,
    }  # fmt: skip


@tree_ensemble.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = np.concatenate([rng.normal(size=(6, 2)), rng.integers(0, 4, (6, 1))], axis=1)
    for aggregate in range(4):
        yield Example((x,), {**_two_trees(np.float64), "aggregate_function": aggregate}, smooth=False)
    for kind in (1, 2, 3):
        yield Example((x,), {**_two_trees(np.float64), "post_transform": kind}, smooth=False)
    x = x.copy()
    x[0, 0] = np.nan
    yield Example((x,), {**_two_trees(np.float64), "nodes_missing_value_tracks_true": (1, 0, 0)}, smooth=False)
    yield (np.zeros((0, 3)),), _two_trees(np.float64)


# ---- TreeEnsembleRegressor and TreeEnsembleClassifier, versions 1 and 3 --------------------------------------


def _old_forest(
    nodes_falsenodeids: Any, nodes_featureids: Any, nodes_missing: Any, nodes_modes: Any, nodes_nodeids: Any,
    nodes_treeids: Any, nodes_truenodeids: Any, nodes_values: Any, leaf_treeids: Any, leaf_nodeids: Any,
    leaf_ids: Any, leaf_weights: Any,
) -> Forest:  # fmt: skip
    """Nodes are named by (tree, node) pairs; a tree's root is its first node that is no node's child."""
    n = len(nodes_nodeids)
    modes = [MODE_NAMES.get(m) for m in nodes_modes]
    if None in modes:
        raise ValueError(f"nodes_modes knows {', '.join(MODE_NAMES)}, not {nodes_modes[modes.index(None)]!r}")
    mode = table(modes, n, np.int64, "nodes_modes")
    tree, node = (table(v, n, np.int64, "nodes_treeids") for v in (nodes_treeids, nodes_nodeids))
    own, inner = np.arange(n), np.flatnonzero(mode != LEAF)

    def children(ids: Any, what: str) -> Array:
        at, child = own.copy(), table(ids, n, np.int64, what)
        at[inner] = index_of(tree[inner], child[inner], tree, node, what)
        return at

    yes, no = children(nodes_truenodeids, "nodes_truenodeids"), children(nodes_falsenodeids, "nodes_falsenodeids")
    is_child = np.zeros(n, bool)
    is_child[yes[inner]] = is_child[no[inner]] = True
    candidates = np.flatnonzero(~is_child)
    _, first = np.unique(tree[candidates], return_index=True)
    roots = candidates[np.sort(first)]
    if roots.size < np.unique(tree).size:
        raise ValueError("the nodes of a tree form a cycle")
    m = len(leaf_weights)
    listed = "the list of leaf weights"
    leaf_tree, leaf_node, ids = (table(v, m, np.int64, listed) for v in (leaf_treeids, leaf_nodeids, leaf_ids))
    at = index_of(leaf_tree, leaf_node, tree, node, listed)
    keep = mode[at] == LEAF
    weights = weights_table(n, at[keep], ids[keep], np.asarray(leaf_weights, np.float64)[keep])
    values = nodes_values if isinstance(nodes_values, np.ndarray) else np.asarray(nodes_values, np.float32)
    return Forest(
        roots=roots, mode=mode, yes=yes, no=no, feature=table(nodes_featureids, n, np.int64, "nodes_featureids"),
        split=table(values, n, values.dtype, "nodes_values"), members={}, depth=depth_of(roots, yes, no, mode),
        missing_yes=table(nodes_missing, n, bool, "nodes_missing_value_tracks_true", False),
        leaf_weights=weights[0], leaf_targets=weights[1],
    )  # fmt: skip


def _base(base_values: Any, tensor: Array | None) -> Array | None:
    found = tensor if given(tensor) is not None else base_values
    return None if given(found) is None else np.asarray(found, np.float64).ravel()


def _regress(x: Array, forest: Forest, n_targets: int, aggregate: str, base: Array | None, kind: str) -> Array:
    if aggregate not in AGGREGATES:
        raise ValueError(f"aggregate_function is one of {', '.join(AGGREGATES)}, not {aggregate!r}")
    total, _ = forest.totals(_comparable(x), n_targets, aggregate)
    total = total if base is None else total + base
    return result(transform(total, kind) if n_targets > 1 or kind == "PROBIT" else total)


@ml("TreeEnsembleRegressor")
def tree_ensemble_regressor_1(
    x: Array, *, nodes_falsenodeids: tuple[int, ...], nodes_featureids: tuple[int, ...], nodes_modes: tuple[str, ...],
    nodes_nodeids: tuple[int, ...], nodes_treeids: tuple[int, ...], nodes_truenodeids: tuple[int, ...],
    nodes_values: tuple[float, ...], target_ids: tuple[int, ...], target_nodeids: tuple[int, ...],
    target_treeids: tuple[int, ...], target_weights: tuple[float, ...], aggregate_function: str = "SUM",
    base_values: tuple[float, ...] | None = None, n_targets: int = 1, nodes_hitrates: tuple[float, ...] | None = None,
    nodes_missing_value_tracks_true: tuple[int, ...] | None = None, post_transform: str = "NONE",
) -> Array:  # fmt: skip
    """Walks every tree, aggregates the leaves' weights per target, adds base_values, transforms.

    x: number [N, F] -> y: float32 [N, n_targets]. Node i of a tree tests column ``nodes_featureids[i]`` against
    ``nodes_values[i]`` by ``nodes_modes[i]`` (BRANCH_LEQ, LT, GTE, GT, EQ, NEQ, LEAF); NaN goes the false way (NEQ: the
    true way), or the true way where nodes_missing_value_tracks_true says so. AVERAGE divides by the number of trees; a
    target that no leaf names is 0. A single target is changed by PROBIT only. The derivative is 0.
    Source: ONNX ML operator spec, version 1; the single target as in onnxruntime.
    """
    forest = remembered(
        _old_forest, nodes_falsenodeids, nodes_featureids, nodes_missing_value_tracks_true, nodes_modes, nodes_nodeids,
        nodes_treeids, nodes_truenodeids, nodes_values, target_treeids, target_nodeids, target_ids, target_weights,
    )  # fmt: skip
    return _regress(x, forest, n_targets, aggregate_function, _base(base_values, None), post_transform)


@ml("TreeEnsembleRegressor", version=3)
def tree_ensemble_regressor_3(
    x: Array, *, nodes_falsenodeids: tuple[int, ...], nodes_featureids: tuple[int, ...], nodes_modes: tuple[str, ...],
    nodes_nodeids: tuple[int, ...], nodes_treeids: tuple[int, ...], nodes_truenodeids: tuple[int, ...],
    target_ids: tuple[int, ...], target_nodeids: tuple[int, ...], target_treeids: tuple[int, ...],
    aggregate_function: str = "SUM", base_values: tuple[float, ...] | None = None,
    base_values_as_tensor: np.ndarray | None = None, n_targets: int = 1,
    nodes_hitrates: tuple[float, ...] | None = None, nodes_hitrates_as_tensor: np.ndarray | None = None,
    nodes_missing_value_tracks_true: tuple[int, ...] | None = None, nodes_values: tuple[float, ...] | None = None,
    nodes_values_as_tensor: np.ndarray | None = None, post_transform: str = "NONE",
    target_weights: tuple[float, ...] | None = None, target_weights_as_tensor: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Version 1 with thresholds, weights and base values also as float64 tensors.

    x: number [N, F] -> y: float32 [N, n_targets]; see version 1. Source: ONNX ML operator spec, versions 3 and 5.
    """
    forest = remembered(
        _old_forest, nodes_falsenodeids, nodes_featureids, nodes_missing_value_tracks_true, nodes_modes, nodes_nodeids,
        nodes_treeids, nodes_truenodeids, _either(nodes_values_as_tensor, nodes_values, "nodes_values"), target_treeids,
        target_nodeids, target_ids, _either(target_weights_as_tensor, target_weights, "target_weights"),
    )  # fmt: skip
    base = _base(base_values, base_values_as_tensor)
    return _regress(x, forest, n_targets, aggregate_function, base, post_transform)


def _either(tensor: Any, values: Any, what: str) -> Any:
    found = given(tensor, values)
    if found is None:
        raise ValueError(f"one of {what} and {what}_as_tensor is needed")
    return found


def _classify(
    x: Array, forest: Forest, ints: Any, strings: Any, class_ids: Any, weights: Any, base: Array | None, kind: str
) -> tuple[Array, Array]:
    labels = given(strings, ints)
    classes = len(labels) if labels is not None else max(class_ids) + 1
    if classes > 2 or len(set(class_ids)) > 1:
        score, seen = forest.totals(_comparable(x), classes, "SUM")
        score = score if base is None else score + base
        index = np.argmax(score if base is not None else np.where(seen, score, -np.inf), axis=1)
        return _named(index, ints, strings), result(transform(score, kind))
    positive, own = min(weights) >= 0, max(class_ids)
    score = forest.totals(_comparable(x), own + 1, "SUM")[0][:, -1:]
    score = score if base is None else score + base[own if base.size > own else 0]
    index = (score[:, 0] > (0.5 if positive else 0)).astype(np.int64)
    if own and classes == 2:  # the weights are the second class's: the first class's score is 0
        return _named(index, ints, strings), result(transform(np.concatenate([0 * score, score], axis=1), kind))
    return _named(index, ints, strings), result(_one_score(score, kind, positive, classes))


def _one_score(score: Array, kind: str, positive: bool, classes: int) -> Array:
    """Two columns from a score for the second class whose weights were listed under the first."""
    if kind == "PROBIT" or classes < 2:
        return transform(score, kind) if kind == "PROBIT" else score
    if kind == "LOGISTIC":
        return np.concatenate([logistic(-score), logistic(score)], axis=1)
    if positive:
        return np.concatenate([1 - score, score], axis=1)
    return np.concatenate([-score, score], axis=1)


def _named(index: Array, ints: Any, strings: Any) -> Array:
    labels = given(strings, ints)
    if labels is not None and len(labels) == 1:  # one label: it, or its opposite
        ints, strings = (None, ("", labels[0])) if given(strings) is not None else ((0, labels[0]), None)
    return labels_of(index, ints, strings)


@ml("TreeEnsembleClassifier", outputs=("y", "z"))
def tree_ensemble_classifier_1(
    x: Array, *, class_ids: tuple[int, ...], class_nodeids: tuple[int, ...], class_treeids: tuple[int, ...],
    class_weights: tuple[float, ...], nodes_falsenodeids: tuple[int, ...], nodes_featureids: tuple[int, ...],
    nodes_modes: tuple[str, ...], nodes_nodeids: tuple[int, ...], nodes_treeids: tuple[int, ...],
    nodes_truenodeids: tuple[int, ...], nodes_values: tuple[float, ...], base_values: tuple[float, ...] | None = None,
    classlabels_int64s: tuple[int, ...] | None = None, classlabels_strings: tuple[str, ...] | None = None,
    nodes_hitrates: tuple[float, ...] | None = None, nodes_missing_value_tracks_true: tuple[int, ...] | None = None,
    post_transform: str = "NONE",
) -> tuple[Array, Array]:  # fmt: skip
    """Walks every tree, sums the leaves' weights per class; the label of the largest sum, and the sums transformed.

    x: number [N, F] -> y: int64 or string [N]; z: float32 [N, E]. Trees as in TreeEnsembleRegressor. Where all
    weights name one of two classes, their sum s is the second class's score: the second label if s > 0.5 where no
    weight is negative, else if s > 0. Named as the first: z = [1-s, s] where no weight is negative, else [-s, s]
    (LOGISTIC: of [-s, s]); as the second: z = [0, s], transformed. A class that no leaf spoke for is never the label.
    The derivative is 0. Source: ONNX ML operator spec, version 1; the two classes as in onnxruntime.
    """
    forest = remembered(
        _old_forest, nodes_falsenodeids, nodes_featureids, nodes_missing_value_tracks_true, nodes_modes, nodes_nodeids,
        nodes_treeids, nodes_truenodeids, nodes_values, class_treeids, class_nodeids, class_ids, class_weights,
    )  # fmt: skip
    base = _base(base_values, None)
    return _classify(x, forest, classlabels_int64s, classlabels_strings, class_ids, class_weights, base, post_transform)


@ml("TreeEnsembleClassifier", version=3, outputs=("y", "z"))
def tree_ensemble_classifier_3(
    x: Array, *, class_ids: tuple[int, ...], class_nodeids: tuple[int, ...], class_treeids: tuple[int, ...],
    nodes_falsenodeids: tuple[int, ...], nodes_featureids: tuple[int, ...], nodes_modes: tuple[str, ...],
    nodes_nodeids: tuple[int, ...], nodes_treeids: tuple[int, ...], nodes_truenodeids: tuple[int, ...],
    base_values: tuple[float, ...] | None = None, base_values_as_tensor: np.ndarray | None = None,
    class_weights: tuple[float, ...] | None = None, class_weights_as_tensor: np.ndarray | None = None,
    classlabels_int64s: tuple[int, ...] | None = None, classlabels_strings: tuple[str, ...] | None = None,
    nodes_hitrates: tuple[float, ...] | None = None, nodes_hitrates_as_tensor: np.ndarray | None = None,
    nodes_missing_value_tracks_true: tuple[int, ...] | None = None, nodes_values: tuple[float, ...] | None = None,
    nodes_values_as_tensor: np.ndarray | None = None, post_transform: str = "NONE",
) -> tuple[Array, Array]:  # fmt: skip
    """Version 1 with thresholds, weights and base values also as float64 tensors.

    x: number [N, F] -> y: int64 or string [N]; z: float32 [N, E]; see version 1.
    Source: ONNX ML operator spec, versions 3 and 5.
    """
    weights = _either(class_weights_as_tensor, class_weights, "class_weights")
    forest = remembered(
        _old_forest, nodes_falsenodeids, nodes_featureids, nodes_missing_value_tracks_true, nodes_modes, nodes_nodeids,
        nodes_treeids, nodes_truenodeids, _either(nodes_values_as_tensor, nodes_values, "nodes_values"), class_treeids,
        class_nodeids, class_ids, weights,
    )  # fmt: skip
    base = _base(base_values, base_values_as_tensor)
    return _classify(x, forest, classlabels_int64s, classlabels_strings, class_ids, weights, base, post_transform)


for _op in (tree_ensemble_regressor_1, tree_ensemble_regressor_3):

    @_op.vjp("x")
    def _(ct: Array) -> None:
        return None

    @_op.jvp("x")
    def _(x_dot: Array, n_targets: int) -> Array:
        return _zero_tangent(x_dot, n_targets)

    @_op.infer
    def _(x: TensorType, n_targets: int) -> TensorType:
        return rows_type(x, "float32", n_targets)


for _op in (tree_ensemble_classifier_1, tree_ensemble_classifier_3):

    @_op.vjp("x")
    def _(ct_z: Array | None) -> None:
        return None

    @_op.jvp("x")
    def _(x_dot: Array) -> Any:
        return None, None

    @_op.infer
    def _(
        x: TensorType, class_ids: tuple[int, ...], classlabels_int64s: tuple[int, ...] | None,
        classlabels_strings: tuple[str, ...] | None, post_transform: str,
    ) -> Any:  # fmt: skip
        labels = given(classlabels_strings, classlabels_int64s)
        columns = len(labels) if labels is not None else max(class_ids) + 1
        if columns <= 2 and set(class_ids) == {0} and post_transform == "PROBIT":
            columns = 1
        z = rows_type(x, "float32", columns)
        kind = "string" if given(classlabels_strings) is not None else "int64"
        return TensorType(kind, None if z.shape is None else z.shape[:1]), z


_TREES: dict[str, Any] = {
    "nodes_treeids": (0, 0, 0, 1, 1, 1), "nodes_nodeids": (0, 1, 2, 0, 1, 2), "nodes_featureids": (0, 0, 0, 1, 0, 0),
    "nodes_modes": ("BRANCH_LEQ", "LEAF", "LEAF", "BRANCH_GT", "LEAF", "LEAF"),
    "nodes_values": (0.5, 0, 0, -0.25, 0, 0),
    "nodes_truenodeids": (1, 0, 0, 1, 0, 0), "nodes_falsenodeids": (2, 0, 0, 2, 0, 0),
}  # fmt: skip


def _leaves(prefix: str, ids: tuple[int, ...], weights: tuple[float, ...]) -> dict[str, Any]:
    return {
        f"{prefix}_treeids": (0, 0, 1, 1), f"{prefix}_nodeids": (1, 2, 1, 2), f"{prefix}_ids": ids,
        f"{prefix}_weights": weights,
    }  # fmt: skip


@tree_ensemble_regressor_1.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(6, 2))
    both = {**_TREES, **_leaves("target", (0, 1, 0, 1), (1.0, 2.0, 3.0, -4.0)), "n_targets": 2}
    for aggregate in AGGREGATES:
        yield Example((x,), {**both, "aggregate_function": aggregate, "base_values": (0.5, 0.25)}, smooth=False)
    x[0, 0] = np.nan
    yield Example((x,), {**both, "nodes_missing_value_tracks_true": (1, 0, 0, 0, 0, 0)}, smooth=False)
    yield Example((x,), {**both, "post_transform": "SOFTMAX"}, smooth=False)
    yield (np.array([[0, 1], [1, -1]]),), {**_TREES, **_leaves("target", (0, 0, 0, 0), (1.0, 2.0, 3.0, -4.0))}


@tree_ensemble_regressor_3.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    values = {k: v for k, v in _TREES.items() if k != "nodes_values"}
    leaves = {k: v for k, v in _leaves("target", (0, 0, 0, 0), (0,) * 4).items() if k != "target_weights"}
    exact = {"nodes_values_as_tensor": np.array(_TREES["nodes_values"]), "base_values_as_tensor": np.array([0.1])}
    attributes = {**values, **leaves, **exact, "target_weights_as_tensor": np.array([1.0, 2.0, 3.0, -4.0])}
    yield Example((rng.normal(size=(6, 2)),), attributes, smooth=False)
    yield (np.zeros((0, 2)),), attributes


@tree_ensemble_classifier_1.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(6, 2))
    three = {**_TREES, **_leaves("class", (0, 1, 2, 1), (1.0, 2.0, 3.0, 4.0)), "classlabels_int64s": (5, 6, 7)}
    for kind in TRANSFORMS[:4]:
        yield Example((x,), {**three, "post_transform": kind, "base_values": (0.0, 0.5, 0.1)}, smooth=False)
        for own, weights in ((0, (0.1, 0.2, 0.3, 0.4)), (0, (0.1, -0.2, 0.3, -0.4)), (1, (0.1, 0.2, 0.3, 0.4))):
            two = {**_TREES, **_leaves("class", (own,) * 4, weights), "classlabels_strings": ("no", "yes")}
            yield Example((x,), {**two, "post_transform": kind}, smooth=False)
    yield (np.zeros((0, 2)),), three


@tree_ensemble_classifier_3.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    values = {k: v for k, v in _TREES.items() if k != "nodes_values"}
    leaves = {k: v for k, v in _leaves("class", (0, 1, 0, 1), (0,) * 4).items() if k != "class_weights"}
    exact = {"nodes_values_as_tensor": np.array(_TREES["nodes_values"]), "classlabels_int64s": (0, 1)}
    attributes = {**values, **leaves, **exact, "class_weights_as_tensor": np.array([1.0, 2.0, 3.0, 4.0])}
    yield Example((rng.normal(size=(6, 2)),), attributes, smooth=False)
    yield (np.array([[0, 1], [1, -1]]),), attributes


OPS = (
    tree_ensemble_regressor_1,
    tree_ensemble_regressor_3,
    tree_ensemble_classifier_1,
    tree_ensemble_classifier_3,
    tree_ensemble,
)
