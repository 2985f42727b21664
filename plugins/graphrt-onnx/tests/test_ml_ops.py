"""ai.onnx.ml: every op through the kit, hand-made numbers, slopes by differences, and onnxruntime where installed."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_onnx.ops import ml_categories, ml_features, ml_linear, ml_maps, ml_svm, ml_trees

from graphrt.testing import check_op

MODULES = (ml_features, ml_categories, ml_maps, ml_linear, ml_svm, ml_trees)
OPS = {(o.op_type, o.version): o for m in MODULES for o in m.OPS}
NEWEST = {o.op_type: o for o in sorted(OPS.values(), key=lambda o: o.version)}


@pytest.mark.parametrize("op", OPS.values(), ids=lambda o: f"{o.op_type}-{o.version}")
def test_op(op):
    check_op(op)


def words(*values):
    return np.array(values, object)


# ---- numbers by hand -----------------------------------------------------------------------------------------


def test_normalizer_of_hand_numbers():
    x = np.array([[3.0, -4.0], [0.0, 0.0], [-1.0, -2.0]], np.float32)
    run = NEWEST["Normalizer"]
    np.testing.assert_allclose(run(x, norm="L2"), [[0.6, -0.8], [0, 0], [-(5**-0.5), -2 * 5**-0.5]], rtol=1e-6)
    np.testing.assert_allclose(run(x, norm="L1"), [[3 / 7, -4 / 7], [0, 0], [-1 / 3, -2 / 3]], rtol=1e-6)
    np.testing.assert_allclose(run(x, norm="MAX"), [[1, -4 / 3], [0, 0], [1, 2]], rtol=1e-6)
    with pytest.raises(ValueError, match="MAX, L1 or L2"):
        run(x, norm="L3")


def test_results_are_float32_for_every_input_type():
    for dtype in (np.float32, np.float64, np.int64, np.int32):
        x = np.array([[1, 2]], dtype)
        assert NEWEST["Scaler"](x, scale=(2.0,)).dtype == np.float32
        assert NEWEST["LinearRegressor"](x, coefficients=(1.0, 2.0)).tolist() == [[5.0]]


def test_imputer_replaces_nan_per_column():
    x = np.array([[np.nan, 1.0], [2.0, np.nan]], np.float32)
    y = NEWEST["Imputer"](x, imputed_value_floats=(7.0, 8.0), replaced_value_float=float("nan"))
    assert y.tolist() == [[7, 1], [2, 8]]
    with pytest.raises(ValueError, match="imputed_value_int64s is needed"):
        NEWEST["Imputer"](np.array([[1]]), imputed_value_floats=(1.0,))


def test_label_encoders():
    assert OPS["LabelEncoder", 1](words("b", "q"), classes_strings=("a", "b")).tolist() == [1, -1]
    assert OPS["LabelEncoder", 1](np.array([1, 7]), classes_strings=("a", "b")).tolist() == ["b", "_Unused"]
    by_float = OPS["LabelEncoder", 2](
        np.array([np.nan, 1.5, 2.0], np.float32), keys_floats=(1.5, float("nan")), values_strings=("x", "nan")
    )
    assert by_float.tolist() == ["nan", "x", "_Unused"]
    last = OPS["LabelEncoder", 4](np.array([1, 2]), keys_int64s=(1, 1), values_int64s=(5, 6))
    assert last.tolist() == [6, -1]
    with pytest.raises(ValueError, match="2 keys and 1 values"):
        OPS["LabelEncoder", 4](np.array([1]), keys_int64s=(1, 2), values_int64s=(5,))
    with pytest.raises(ValueError, match="the keys are strings"):
        OPS["LabelEncoder", 4](np.array([1]), keys_strings=("a",), values_int64s=(5,))


def test_maps():
    assert NEWEST["CastMap"]({3: 1.5, 0: -2.0}, map_form="SPARSE", max_map=5).tolist() == [[-2, 0, 0, 1.5, 0]]
    assert NEWEST["CastMap"]({3: 1.5, 0: -2.0}, cast_to="TO_INT64").tolist() == [[-2, 1]]
    with pytest.raises(ValueError, match="keys from 0 to max_map-1 = 1"):
        NEWEST["CastMap"]({3: 1.5}, map_form="SPARSE", max_map=2)
    assert NEWEST["DictVectorizer"]({"a": 4.0, "c": 8.0}, string_vocabulary=("a", "c", "b", "z")).tolist() == [
        [4, 8, 0, 0]
    ]
    x = np.array([[0.25, 0.75]], np.float32)
    assert NEWEST["ZipMap"](x, classlabels_strings=("n", "y")) == [{"n": 0.25, "y": 0.75}]
    with pytest.raises(ValueError, match="3 labels"):
        NEWEST["ZipMap"](x, classlabels_int64s=(0, 1, 2))


def test_one_hot():
    run = NEWEST["OneHotEncoder"]
    assert run(np.array([[2, 9]]), cats_int64s=(1, 2)).tolist() == [[[0, 1], [0, 0]]]
    with pytest.raises(ValueError, match="none of the categories"):
        run(np.array([[2, 9]]), cats_int64s=(1, 2), zeros=0)


def test_a_single_score_becomes_two_columns():
    x = np.array([[1.0, 2.0], [-3.0, 1.0]], np.float32)
    y, z = NEWEST["LinearClassifier"](x, coefficients=(0.5, 0.25), intercepts=(0.1,), classlabels_strings=("n", "y"))
    assert y.tolist() == ["y", "n"]
    np.testing.assert_allclose(z, [[-0.1, 1.1], [2.15, -1.15]], rtol=1e-6)
    _, z = NEWEST["LinearClassifier"](
        x, coefficients=(0.5, 0.25), intercepts=(0.1,), classlabels_ints=(0, 1), post_transform="LOGISTIC"
    )
    np.testing.assert_allclose(z.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(z[:, 1], 1 / (1 + np.exp([-1.1, 1.15])), rtol=1e-6)
    with pytest.raises(ValueError, match="coefficients are for 2"):
        NEWEST["LinearClassifier"](x[:, :1], coefficients=(0.5, 0.25), intercepts=(0.1,))


def test_scores_at_extremes():
    x = np.array([[1e4], [-1e4]], np.float32)
    for kind in ("LOGISTIC", "SOFTMAX"):
        _, z = NEWEST["LinearClassifier"](x, coefficients=(1.0, -1.0), intercepts=(0.0, 0.0), post_transform=kind)
        assert z.tolist() == [[1, 0], [0, 1]]


def test_probit_is_the_normal_quantile():
    from statistics import NormalDist

    p = np.array([[0.01], [0.3], [0.5], [0.9], [0.999]], np.float32)
    y = NEWEST["LinearRegressor"](p, coefficients=(1.0,), post_transform="PROBIT")
    expected = [[NormalDist().inv_cdf(float(v))] for v in p[:, 0]]
    np.testing.assert_allclose(y, expected, atol=6e-3)


# ---- support vector machines ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_svm_kernels_by_loops(kind):
    rng = np.random.default_rng(1)
    x, vectors, weights = rng.normal(size=(3, 2)), rng.normal(size=(4, 2)), rng.normal(size=4)
    gamma, shift, degree = 0.5, 0.3, 3.0
    expected = np.zeros((3, 1))
    for n in range(3):
        for j in range(4):
            dot = sum(x[n, f] * vectors[j, f] for f in range(2))
            k = {
                "LINEAR": dot, "POLY": (gamma * dot + shift) ** degree, "SIGMOID": np.tanh(gamma * dot + shift),
                "RBF": np.exp(-gamma * sum((x[n, f] - vectors[j, f]) ** 2 for f in range(2))),
            }[kind]  # fmt: skip
            expected[n, 0] += weights[j] * k
    y = NEWEST["SVMRegressor"](
        x, coefficients=tuple(weights), rho=(0.25,), support_vectors=tuple(vectors.ravel()), n_supports=4,
        kernel_type=kind, kernel_params=(gamma, shift, degree),
    )  # fmt: skip
    np.testing.assert_allclose(y, expected + 0.25, rtol=1e-5)


def test_rbf_far_from_the_origin_keeps_its_digits():
    x = np.array([[10000.0, 10000.0]], np.float32)
    y = NEWEST["SVMRegressor"](
        x, coefficients=(1.0,), rho=(0.0,), support_vectors=(10001.0, 10000.0), n_supports=1, kernel_type="RBF",
        kernel_params=(0.5, 0.0, 0.0),
    )  # fmt: skip
    np.testing.assert_allclose(y, [[np.exp(-0.5)]], rtol=1e-6)


def test_svm_probabilities_solve_their_equations():
    """Two classes: the coupling gives back the pairwise probability, to the iteration's tolerance."""
    rng = np.random.default_rng(0)
    x, vectors = rng.normal(size=(5, 2)), rng.normal(size=(4, 2))
    model = {"coefficients": (1.0, -0.5, 0.7, -1.2), "rho": (0.1,), "support_vectors": tuple(vectors.ravel())}
    model |= {"vectors_per_class": (2, 2), "classlabels_ints": (0, 1)}
    _, raw = NEWEST["SVMClassifier"](x, **model)
    _, p = NEWEST["SVMClassifier"](x, **model, prob_a=(-1.5,), prob_b=(0.2,))
    np.testing.assert_allclose(p[:, 0], 1 / (1 + np.exp(-1.5 * raw[:, 1] * -1 * -1 + 0.2)), atol=5e-3)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)


# ---- trees ---------------------------------------------------------------------------------------------------


def random_forest(rng, trees, depth, features, targets, prefix):
    """A forest in the attributes of version 1, and the same as nested tuples."""
    a = {
        k: [] for k in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing")
    }
    leaves = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    modes = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
    nested = []
    for t in range(trees):
        count = 0

        def grow(level, t=t):
            nonlocal count
            node, count = count, count + 1
            at = len(a["nodeids"])
            for k, v in zip(a, (t, node, 0, "LEAF", 0.0, 0, 0, 0), strict=True):
                a[k].append(v)
            if level == 0 or (level < depth and rng.uniform() < 0.2):
                weight, target = float(np.float32(rng.normal())), int(rng.integers(targets))
                for k, v in zip(leaves, (t, node, target, weight), strict=True):
                    leaves[k].append(v)
                return weight, target
            feature, mode, value = (
                int(rng.integers(features)),
                str(rng.choice(modes)),
                float(np.float32(round(rng.normal(), 1))),
            )
            missing = int(rng.integers(2))
            yes_id, yes = count, grow(level - 1)
            no_id, no = count, grow(level - 1)
            for k, v in zip(a, (t, node, feature, mode, value, yes_id, no_id, missing), strict=True):
                a[k][at] = v
            return feature, mode, value, missing, yes, no

        nested.append(grow(depth))
    a["missing_value_tracks_true"] = a.pop("missing")
    attributes = {f"nodes_{k}": tuple(v) for k, v in a.items()} | {f"{prefix}_{k}": tuple(v) for k, v in leaves.items()}
    return attributes, nested


COMPARE = {
    "BRANCH_LEQ": lambda a, b: a <= b, "BRANCH_LT": lambda a, b: a < b, "BRANCH_GTE": lambda a, b: a >= b,
    "BRANCH_GT": lambda a, b: a > b, "BRANCH_EQ": lambda a, b: a == b, "BRANCH_NEQ": lambda a, b: a != b,
}  # fmt: skip


def walk(tree, row):
    while len(tree) > 2:
        feature, mode, value, missing, yes, no = tree
        v = row[feature]
        tree = yes if (np.isnan(v) and missing) or COMPARE[mode](v, value) else no
    return tree


@pytest.mark.parametrize("seed", range(6))
def test_trees_by_walking_each_row(seed):
    rng = np.random.default_rng(seed)
    attributes, nested = random_forest(rng, 4, 4, 3, 2, "target")
    x = np.round(rng.normal(size=(9, 3)), 1).astype(np.float32)
    x[rng.uniform(size=x.shape) < 0.2] = np.nan
    found = [[walk(t, row) for t in nested] for row in x]
    reduce = {"SUM": sum, "MIN": min, "MAX": max, "AVERAGE": lambda v: sum(v) / 4}
    for aggregate, f in reduce.items():
        hits = [[[w for w, k in row if k == t] for t in range(2)] for row in found]
        expected = [[f(v) if v else 0.0 for v in row] for row in hits]
        y = NEWEST["TreeEnsembleRegressor"](x, **attributes, n_targets=2, aggregate_function=aggregate)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


def test_many_rows_are_walked_in_parts(monkeypatch):
    from graphrt_onnx.ops import _forest

    rng = np.random.default_rng(0)
    attributes, _ = random_forest(rng, 3, 3, 2, 1, "target")
    x = rng.normal(size=(50, 2))
    whole = NEWEST["TreeEnsembleRegressor"](x, **attributes)
    monkeypatch.setattr(_forest, "_PAIRS_AT_ONCE", 10)
    assert np.array_equal(NEWEST["TreeEnsembleRegressor"](x, **attributes), whole)


def test_a_cycle_is_refused():
    attributes = {
        "nodes_treeids": (0, 0, 0), "nodes_nodeids": (0, 1, 2), "nodes_featureids": (0, 0, 0),
        "nodes_modes": ("BRANCH_LEQ", "BRANCH_LEQ", "LEAF"), "nodes_values": (0.0, 0.0, 0.0),
        "nodes_truenodeids": (1, 1, 0), "nodes_falsenodeids": (2, 2, 0), "target_treeids": (0,), "target_nodeids": (2,),
        "target_ids": (0,), "target_weights": (1.0,),
    }  # fmt: skip
    with pytest.raises(ValueError, match="cycle"):
        NEWEST["TreeEnsembleRegressor"](np.zeros((1, 1)), **attributes)
    lost = {**attributes, "nodes_truenodeids": (1, 9, 0)}
    with pytest.raises(ValueError, match="no tree has"):
        NEWEST["TreeEnsembleRegressor"](np.zeros((1, 1)), **lost)


def test_too_few_columns_are_named():
    attributes, _ = random_forest(np.random.default_rng(0), 2, 3, 5, 1, "target")
    with pytest.raises(ValueError, match="the trees ask for column"):
        NEWEST["TreeEnsembleRegressor"](np.zeros((1, 1)), **attributes)


# ---- slopes: the results are float32, so the kit leaves finite differences to us -----------------------------


@pytest.mark.parametrize(
    ("name", "attributes", "output"),
    [
        ("Scaler", {"offset": (1.0, 2.0), "scale": (0.5, 3.0)}, 0),
        *[("Normalizer", {"norm": n}, 0) for n in ("MAX", "L1", "L2")],
        *[("LinearRegressor", {"coefficients": (0.2, 0.1, 0.1, 0.3), "targets": 2, "post_transform": k}, 0)
          for k in ("NONE", "LOGISTIC", "SOFTMAX", "PROBIT")],
        *[("LinearClassifier", {"coefficients": (0.3, 0.2), "intercepts": (0.1,), "classlabels_ints": (0, 1),
                                "post_transform": k}, 1) for k in ("NONE", "LOGISTIC")],
        *[("SVMRegressor", {"coefficients": (0.5, -0.3), "support_vectors": (0.1, 0.4, 1.0, -0.2), "n_supports": 2,
                            "kernel_type": k, "kernel_params": (0.7, 0.3, 3.0)}, 0)
          for k in ("LINEAR", "POLY", "RBF", "SIGMOID")],
    ],
)  # fmt: skip
def test_slopes(name, attributes, output):
    op = NEWEST[name]
    rng = np.random.default_rng(3)
    x, dot = rng.uniform(0.5, 1.5, (3, 2)), rng.normal(size=(3, 2))

    def value(h):
        y = op(x + h * dot, **attributes)
        return np.asarray(y[output] if isinstance(y, tuple) else y, np.float64)

    slope = (value(1e-3) - value(-1e-3)) / 2e-3
    jvp = op.derived("jvp[x]")
    given = {**op.defaults(), **attributes}
    known = {"x": x, "x_dot": dot, "x_like": x}
    found = jvp.function(*(known[p.name] for p in jvp.inputs), **{a: given[a] for a in jvp.attributes})
    found = found[output] if isinstance(found, tuple) else found
    np.testing.assert_allclose(found, slope, rtol=3e-3, atol=3e-4)


# ---- against onnxruntime -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run():
    ort = pytest.importorskip("onnxruntime")
    helper = pytest.importorskip("onnx").helper

    def run(op_type, x, attributes, outputs=1, version=1):
        kinds = {"float32": 1, "int64": 7, "int32": 6, "float64": 11}
        inputs = [helper.make_tensor_value_info("x", kinds[str(x.dtype)], list(x.shape))]
        names = [f"y{i}" for i in range(outputs)]
        node = helper.make_node(op_type, ["x"], names, domain="ai.onnx.ml", **attributes)
        onnx = pytest.importorskip("onnx")
        graph = helper.make_graph([node], "g", inputs, [onnx.ValueInfoProto(name=n) for n in names])
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", version)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        options = ort.SessionOptions()
        options.log_severity_level = 4
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return session.run(None, {"x": x})

    return run


@pytest.mark.parametrize("seed", range(8))
def test_trees_like_onnxruntime(run, seed):
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(3, 5))
    attributes, _ = random_forest(rng, 3, 3, 4, classes, "class")
    attributes |= {"classlabels_int64s": tuple(range(10, 10 + classes)), "post_transform": "SOFTMAX"}
    x = np.round(rng.normal(size=(7, 4)), 1).astype(np.float32)
    y, z = run("TreeEnsembleClassifier", x, attributes, 2)
    found = OPS["TreeEnsembleClassifier", 1](x, **attributes)
    np.testing.assert_array_equal(found[0], y)
    np.testing.assert_allclose(found[1], z, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(8))
def test_svm_like_onnxruntime(run, seed):
    rng = np.random.default_rng(seed)
    sizes = tuple(int(n) for n in rng.integers(1, 4, int(rng.integers(2, 5))))
    k, v = len(sizes), sum(sizes)

    def draw(n):
        return tuple(rng.normal(size=n).astype(np.float32).tolist())

    attributes = {"coefficients": draw((k - 1) * v), "rho": draw(k * (k - 1) // 2), "support_vectors": draw(v * 3)}
    attributes |= {"vectors_per_class": sizes, "classlabels_ints": tuple(range(k)), "kernel_type": "RBF"}
    attributes |= {"kernel_params": (0.5, 0.0, 3.0)}
    if seed % 2:
        attributes |= {"prob_a": draw(k * (k - 1) // 2), "prob_b": draw(k * (k - 1) // 2)}
    x = rng.normal(size=(5, 3)).astype(np.float32)
    y, z = run("SVMClassifier", x, attributes, 2)
    found = NEWEST["SVMClassifier"](x, **attributes)
    np.testing.assert_array_equal(found[0], y)
    np.testing.assert_allclose(found[1], z, rtol=1e-3, atol=1e-5)
