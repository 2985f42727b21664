"""Staying within a limit of memory: the same training to the bit, and a report that says what it cost."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphrt.optim as optim
from graphrt.errors import InputError
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.runtime.footprint import footprint
from graphrt.runtime.retention import cheapest_cuts
from graphrt.runtime.session import Session
from graphrt.train.step import training_graph

rng = np.random.default_rng(0)


def parameter(b, name, *shape):
    return b.parameter(name, (rng.normal(size=shape) / np.prod(shape[1:] or (4,)) ** 0.5).astype("float32"))


def dense(b, x, name, n, m):
    return b.Add(b.MatMul(x, parameter(b, f"{name}.w", n, m)), parameter(b, f"{name}.b", m))


def mlp(b):
    """Deep and narrow, with dropout."""
    x = b.input("x", "float32", ["batch", 16])
    for i in range(12):
        x = b.Tanh(dense(b, x, f"layer{i}", 16, 16))
        x = b.Dropout(x, b.constant(np.float32(0.2))) if i % 3 == 0 else x
    return dense(b, x, "last", 16, 4), (64, 16)


def cnn(b):
    """Residual blocks with batch normalization and pooling."""
    x = b.input("x", "float32", ["batch", 4, 8, 8])
    for i in range(4):
        y = x
        for j in "ab":
            y = b.Conv(y, parameter(b, f"k{i}{j}", 4, 4, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
            w = [b.parameter(f"{n}{i}{j}", np.full(4, v, "float32")) for n, v in zip("shmv", (1, 0, 0, 1), strict=True)]
            y = b.Relu(b.BatchNormalization(y, *w))
        x = b.Add(x, y)
    x = b.MaxPool(x, kernel_shape=[2, 2], strides=[2, 2])
    return dense(b, b.Flatten(x), "last", 64, 4), (8, 4, 8, 8)


def transformer(b, d=16, heads=2, tokens=8):
    """Three encoder layers with dropout on the attention."""
    x = b.input("x", "float32", ["batch", tokens, d])

    def norm(x, name):
        return b.LayerNormalization(x, parameter(b, f"{name}.s", d), parameter(b, f"{name}.b", d), axis=-1)

    def split(x, name, *perm):
        y = b.Reshape(dense(b, x, name, d, d), b.constant(np.array([0, 0, heads, d // heads])))
        return b.Transpose(y, perm=list(perm))

    for i in range(3):
        q, k, v = (
            split(x, f"{i}{n}", *p) for n, p in zip("qkv", ((0, 2, 1, 3), (0, 2, 3, 1), (0, 2, 1, 3)), strict=True)
        )
        mixed = b.MatMul(b.Dropout(b.Softmax(b.MatMul(q, k), axis=-1), b.constant(np.float32(0.1))), v)
        mixed = b.Reshape(b.Transpose(mixed, perm=[0, 2, 1, 3]), b.constant(np.array([0, 0, d])))
        x = norm(b.Add(x, dense(b, mixed, f"{i}o", d, d)), f"{i}n")
        x = norm(b.Add(x, dense(b, b.Gelu(dense(b, x, f"{i}f", d, 4 * d)), f"{i}g", 4 * d, d)), f"{i}m")
    return dense(b, b.ReduceMean(x, b.constant(np.array([1])), keepdims=0), "last", d, 4), (6, tokens, d)


def step_of(model):
    """The graph of a training step, and what to feed it."""
    b = GraphBuilder("net", opset=20)
    scores, shape = model(b)
    b.output(scores, "scores")
    step = training_graph(b.build(), get_registry(), "softmax_cross_entropy", optim.SGD(0.1, momentum=0.9))
    feeds = {"x": rng.normal(size=shape).astype("float32"), "target": rng.integers(0, 4, shape[0])}
    return step.graph, {**feeds, step.learning_rate: np.float32(0.1), step.step: np.int64(1)}


def run(graph, feeds, steps=2, **options):
    session = Session(graph, seed=5, in_place=True, **options)
    outputs = [session.run(feeds) for _ in range(steps)]
    return session, outputs


def least(graph, feeds):
    """The least that a limit of one byte is told to need."""
    with pytest.raises(InputError) as caught:
        run(graph, feeds, memory_limit=1)
    return int(
        re.search(r"and ([\d,]+) at least where values are computed again", str(caught.value))[1].replace(",", "")
    )


@pytest.mark.parametrize("model", [mlp, cnn, transformer])
def test_a_training_within_a_limit_is_the_same_to_the_bit(model):
    graph, feeds = step_of(model)
    free, expected = run(graph, feeds)
    plan = free.last_plan
    before, lowest = footprint(plan).peak, least(graph, feeds)
    assert lowest < 0.8 * before
    for limit in (before, (before + lowest) // 2, int(1.02 * lowest)):
        limited, found = run(graph, feeds, memory_limit=limit)
        for a, b in zip(expected, found, strict=True):
            assert all(np.array_equal(a[name], b[name]) for name in a)
        assert free.parameters.keys() == limited.parameters.keys()
        for name, a in free.parameters.items():
            assert np.array_equal(a, limited.parameters[name]), name
        changed = limited.last_plan
        assert footprint(changed).peak <= limit
        cost = changed.recomputation
        if limit == before:
            assert cost is None
            continue
        assert (cost.limit, cost.before, cost.peak) == (limit, before, footprint(changed).peak)
        assert 0 < cost.again <= cost.of
        told, told_before = changed.describe(), plan.describe()
        assert cost.flops == pytest.approx(told.flops - told_before.flops)
        assert told.text().endswith(str(cost)) and f"{cost.again} of {cost.of} nodes" in str(cost)


def test_the_error_says_the_limit_what_a_run_takes_and_the_least():
    graph, feeds = step_of(mlp)
    before = footprint(Session(graph, in_place=True).plan(feeds)).peak
    with pytest.raises(InputError, match=rf"limit of memory is 1,000 bytes; a run of 'net.step' takes {before:,}, and"):
        run(graph, feeds, memory_limit="1 kB")


def test_without_a_backward_part_there_is_nothing_to_compute_again():
    b = GraphBuilder("wide")
    x = b.input("x", "float32", [1000])
    b.output(b.Add(b.Exp(x), b.Sin(x)), "y")
    feeds = {"x": np.ones(1000, "float32")}
    with pytest.raises(InputError, match=r"takes ([\d,]+), and \1 at least"):
        Session(b.build(), memory_limit=1000).run(feeds)
    assert Session(b.build(), memory_limit="1 MB").run(feeds)["y"].shape == (1000,)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=8), st.integers(1, 60))
@settings(max_examples=150, deadline=None)
def test_cuts_are_the_cheapest_of_all(positions, size):
    """Compared to all sets of cuts whose segments are single positions or not larger than the size."""
    crossing, made = zip(*positions, strict=True)
    before = list(itertools.accumulate(made, initial=0))
    count = len(crossing)

    def fits(cuts):
        ends = [-1, *cuts, count - 1]
        return all(b - a <= 1 or before[b + 1] - before[a + 1] <= size for a, b in itertools.pairwise(ends))

    every = (c for k in range(count) for c in itertools.combinations(range(count - 1), k))
    best = min(sum(crossing[i] for i in cuts) for cuts in every if fits(cuts))
    found = cheapest_cuts(crossing, before, size)
    assert found == sorted(set(found))
    assert fits([c for c in found if c < count - 1])
    assert sum(crossing[i] for i in found) == best
