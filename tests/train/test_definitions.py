"""Metrics and initializers, each against another way to compute the same; and that nothing costs time to import."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphrt.errors import InputError
from graphrt.manager import get_registry
from graphrt.train import metrics
from graphrt.train.initializers import fans
from graphrt.train.metrics import MetricTotals

TABLE = get_registry().table("initializers")
VARIANCE = {
    "uniform": lambda i, o: 0.05**2 / 3,
    "normal": lambda i, o: 0.05**2,
    "glorot_uniform": lambda i, o: 2 / (i + o),
    "glorot_normal": lambda i, o: 2 / (i + o),
    "he_uniform": lambda i, o: 2 / i,
    "he_normal": lambda i, o: 2 / i,
    "lecun_uniform": lambda i, o: 1 / i,
    "lecun_normal": lambda i, o: 1 / i,
    "zeros": lambda i, o: 0,
    "ones": lambda i, o: 0,
    "orthogonal": lambda i, o: 1 / max(i, o),
}


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_initializers_have_their_variance_shape_and_dtype(name, dtype):
    for shape in [(120, 300), (300, 120)]:
        a = TABLE[name](np.random.default_rng(0), shape, dtype)
        assert a.shape == shape and a.dtype == dtype and a.flags.c_contiguous
        assert np.var(a, dtype=np.float64) == pytest.approx(VARIANCE[name](*shape), rel=0.03)
        again = TABLE[name](np.random.default_rng(0), shape, dtype)
        np.testing.assert_array_equal(a, again)


@pytest.mark.parametrize("name", [n for n in TABLE if n != "orthogonal"])
def test_initializers_make_any_shape(name):
    for shape in [(), (3,), (0, 2), (4, 3, 2, 2)]:
        assert TABLE[name](np.random.default_rng(0), shape).shape == shape


def test_orthogonal_weights_are_orthonormal():
    for shape in [(3, 7), (7, 3), (4, 2, 3)]:
        m = TABLE["orthogonal"](np.random.default_rng(1), shape, "float64").reshape(shape[0], -1)
        small = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
        np.testing.assert_allclose(small, np.eye(min(m.shape)), atol=1e-12)
    with pytest.raises(InputError, match="rank 2 or more"):
        TABLE["orthogonal"](np.random.default_rng(1), (3,))


def test_fans_of_a_convolution_count_its_window():
    assert fans((16, 3, 5, 5)) == (75, 400)
    assert fans((784, 128)) == (784, 128)


@given(st.integers(0, 1000), st.integers(2, 5), st.integers(1, 30))
def test_classification_metrics_by_counting(seed, classes, n):
    rng = np.random.default_rng(seed)
    p, t = rng.normal(size=(n, classes)), rng.integers(0, classes, n)
    chosen = [max(range(classes), key=row.__getitem__) for row in p]
    assert metrics.accuracy.function(p, t).tolist() == [float(c == k) for c, k in zip(chosen, t, strict=True)]
    scores = []
    for c in {*chosen, *t.tolist()}:
        tp = sum(a == c == b for a, b in zip(chosen, t, strict=True))
        fp = sum(a == c != b for a, b in zip(chosen, t, strict=True))
        fn = sum(b == c != a for a, b in zip(chosen, t, strict=True))
        scores.append(tp / (tp + (fp + fn) / 2))
    assert metrics.f1.function(p, t) == pytest.approx(np.mean(scores))


@given(st.integers(0, 1000), st.integers(2, 30))
def test_auc_is_the_chance_that_a_positive_scores_higher(seed, n):
    rng = np.random.default_rng(seed)
    p, t = np.round(rng.normal(size=n), 1), rng.integers(0, 2, n)
    pairs = [(a > b) + (a == b) / 2 for a in p[t == 1] for b in p[t == 0]]
    got = float(metrics.auc.function(p[:, None], t))
    assert math.isnan(got) if not pairs else got == pytest.approx(np.mean(pairs))


def test_top5_counts_the_targets_among_the_five_best():
    p = np.tile(np.arange(10.0), (10, 1))
    assert metrics.top5_accuracy.function(p, np.arange(10)).tolist() == [0.0] * 5 + [1.0] * 5


def test_regression_metrics():
    p, t = np.array([[1.0], [3.0], [2.0]]), np.array([1.0, 1.0, 4.0])
    assert metrics.mean_squared_error.function(p, t).tolist() == [0, 4, 4]
    assert metrics.mean_absolute_error.function(p, t).tolist() == [0, 2, 2]
    assert metrics.root_mean_squared_error.function(p, t) == pytest.approx(math.sqrt(8 / 3))
    assert metrics.r2.function(p, t) == pytest.approx(1 - 8 / 6)
    assert math.isnan(metrics.r2.function(p, np.ones(3)))
    assert metrics.r2.function(t, t) == 1


def test_binary_metrics():
    assert metrics.binary_accuracy.function(np.array([[0.2], [0.7]]), np.array([0, 0])).tolist() == [1, 0]
    assert metrics.accuracy.function(np.array([[0.2], [0.7]]), np.array([[0], [1]])).tolist() == [1, 1]
    assert metrics.sign_accuracy.function(np.array([-0.2, 0.7]), np.array([-1, 1])).tolist() == [1, 1]


@pytest.mark.parametrize("m", metrics.METRICS, ids=lambda m: m.name)
def test_totals_over_batches_are_those_over_everything(m):
    rng = np.random.default_rng(0)
    labels = m.name in ("accuracy", "top5_accuracy", "f1")
    p, t = rng.uniform(size=(23, 7) if labels else 23), rng.integers(0, 7 if labels else 2, 23)
    whole, parts = MetricTotals([m]), MetricTotals([m])
    whole.add(1.5, 23, p, t)
    for a, b in [(0, 10), (10, 11), (11, 23)]:
        parts.add(1.5, b - a, p[a:b], t[a:b])
    assert parts.result() == pytest.approx(whole.result())
    assert list(whole.result()) == ["loss", m.name]
    assert all(math.isnan(v) for v in MetricTotals([m]).result().values())


def test_importing_is_cheap():
    code = """
import sys, graphrt.optim, graphrt.train, graphrt.train.losses, graphrt.train.metrics, graphrt.train.initializers
import graphrt.train.callbacks, graphrt.train.data
heavy = {"networkx", "rich", "pluggy", "csv.reader"} & set(sys.modules)
assert not heavy, heavy
import graphrt.train.trainer
assert "rich" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
