"""Classical learning problems, trained from a graph, each with what it must reach."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphrt import optim
from graphrt.ir.builder import GraphBuilder
from graphrt.plots import classify, decision_boundary
from graphrt.train import Trainer

XOR_X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
XOR_Y = np.array([[0], [1], [1], [0]], "float32")


def network(sizes, activation="Tanh", seed=0, features=None):
    """A dense network of logits; ``features`` maps the input through more nodes first."""
    rng = np.random.default_rng(seed)
    b = GraphBuilder("net")
    h = b.input("x", "float32", ["batch", 2])
    if features:
        h = features(b, h)
    for i, (n, m) in enumerate(itertools.pairwise(sizes)):
        w = b.parameter(f"w{i}", (rng.normal(size=(n, m)) * np.sqrt(2 / n)).astype("float32"))
        h = h @ w + b.parameter(f"b{i}", np.zeros(m, "float32"))
        if i < len(sizes) - 2:
            h = b.op(activation, h)
    b.output(h, "logits")
    return b.build()


def train_xor(sizes):
    trainer = Trainer(network(sizes), "binary_cross_entropy_with_logits", optim.Adam(0.05))
    trainer.fit({"x": XOR_X, "y": XOR_Y}, epochs=400, batch_size=4, progress=False)
    return np.mean((trainer.predict({"x": XOR_X})["logits"] > 0) == (XOR_Y > 0.5))


def test_two_layers_learn_xor():
    assert train_xor([2, 4, 1]) == 1.0


def test_a_perceptron_cannot_learn_xor():
    """No line separates XOR: at most three of the four points are right."""
    assert train_xor([2, 1]) <= 0.75


def polynomial(b, x, degree=3):
    """All monomials of two variables up to a degree, without the constant."""
    x1, x2 = b.Split(x, axis=1, num_outputs=2, outputs=2)
    terms = [x1 ** float(i) * x2 ** float(n - i) for n in range(1, degree + 1) for i in range(n + 1)]
    return b.Concat(*terms, axis=1)


def test_logistic_regression_on_polynomial_features(tmp_path):
    """A circle is a line in the space of squares."""
    rng = np.random.default_rng(0)
    points = rng.uniform(-1.5, 1.5, size=(400, 2)).astype("float32")
    labels = (np.hypot(*points.T) < 1).astype("float32")[:, None]
    graph = network([9, 1], features=polynomial)
    trainer = Trainer(graph, "binary_cross_entropy_with_logits", optim.Adam(0.1), l2=1e-3)
    trainer.fit({"x": points, "y": labels}, epochs=60, batch_size=100, progress=False)
    trained = trainer.graph()
    assert np.mean(classify(trained, points) == labels[:, 0]) >= 0.97
    regions = decision_boundary(trained, points, labels[:, 0].astype(int), tmp_path / "circle.png")
    assert (tmp_path / "circle.png").read_bytes().startswith(b"\x89PNG")
    assert regions[100, 100] == 1
    assert regions[0, 0] == 0


def spirals(classes, n=150, noise=0.05):
    """Interleaved spiral arms, one a class."""
    rng = np.random.default_rng(1)
    radius = np.tile(np.sqrt(rng.uniform(0.02, 1, n)), classes)
    label = np.repeat(np.arange(classes), n)
    angle = 2.2 * radius * np.pi + 2 * np.pi * label / classes
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1) + rng.normal(size=(n * classes, 2)) * noise
    return points.astype("float32"), label


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("hidden", [[32], [24, 24]])
def test_the_plane_is_classified_by_one_and_two_hidden_layers(classes, hidden, tmp_path):
    points, labels = spirals(classes, noise=0.02)
    trainer = Trainer(network([2, *hidden, classes]), "softmax_cross_entropy", optim.Adam(0.03), ["accuracy"], l2=1e-4)
    trainer.fit({"x": points, "y": labels}, epochs=150, batch_size=100, progress=False)
    assert trainer.evaluate({"x": points, "y": labels})["accuracy"] >= 0.9
    picture = tmp_path / "plane.svg"
    regions = decision_boundary(trainer.graph(), points, labels, picture, resolution=60)
    assert set(np.unique(regions)) == set(range(classes))
    assert "<svg" in picture.read_text()
