"""The built-in metrics, and the exact average of metrics over many batches.

Class labels are whole numbers; scores may be probabilities or logits wherever only their order counts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphrt.definitions import Metric, metric
from graphrt.op import Array


@metric("accuracy")
def accuracy(prediction: Array, target: Array) -> Array:
    """The part of examples whose class of highest score is the target.

    prediction: [n, c, ...], scores; target: int [n, ...] -> float64 [n]. With one score per example ([n] or [n, 1])
    the classes are 0 and 1, told apart at a probability of 0.5; for logits use ``sign_accuracy``.
    """
    if prediction.ndim < 2 or prediction.shape[1] == 1:
        return binary_accuracy.function(prediction, target)
    return _per_example(np.argmax(prediction, axis=1) == target)


@metric("top5_accuracy")
def top5_accuracy(prediction: Array, target: Array) -> Array:
    """The part of examples whose target is among the five highest scores. [n, c], int [n] -> float64 [n]."""
    own = np.take_along_axis(prediction, np.asarray(target, np.int64)[:, None], axis=1)
    return _per_example(np.sum(prediction > own, axis=1) < 5)


@metric("binary_accuracy")
def binary_accuracy(prediction: Array, target: Array) -> Array:
    """The part of elements on the right side of 0.5. prediction: probabilities [n, ...]; target: 0 or 1, alike."""
    return _per_example((_as(prediction, target) >= 0.5) == (target >= 0.5))


@metric("sign_accuracy")
def sign_accuracy(prediction: Array, target: Array) -> Array:
    """The part of elements of the right sign. prediction: logits [n, ...]; target: 0 or 1, or -1 or 1, alike."""
    return _per_example((_as(prediction, target) > 0) == (target > 0))


@metric("mean_squared_error", higher_is_better=False)
def mean_squared_error(prediction: Array, target: Array) -> Array:
    """Squared difference, averaged. prediction, target: [n, ...] -> float64 [n]."""
    return _per_example(_error(prediction, target) ** 2)


@metric("mean_absolute_error", higher_is_better=False)
def mean_absolute_error(prediction: Array, target: Array) -> Array:
    """Absolute difference, averaged. prediction, target: [n, ...] -> float64 [n]."""
    return _per_example(np.abs(_error(prediction, target)))


@metric("root_mean_squared_error", higher_is_better=False, whole=True)
def root_mean_squared_error(prediction: Array, target: Array) -> Array:
    """Root of the mean squared difference over all examples."""
    return np.sqrt(np.mean(_error(prediction, target) ** 2))


@metric("r2", whole=True)
def r2(prediction: Array, target: Array) -> Array:
    """1 - (squared error) / (squared deviation of the targets from their mean); NaN for constant targets."""
    residual = np.sum(_error(prediction, target) ** 2)
    t = np.asarray(target, np.float64)
    total = np.sum((t - np.mean(t, axis=0)) ** 2)
    return 1 - residual / total if total else np.asarray(np.nan)


@metric("f1", whole=True)
def f1(prediction: Array, target: Array) -> Array:
    """F1 score, averaged over the classes that occur (macro): 2 tp / (2 tp + fp + fn)."""
    chosen = np.argmax(prediction, axis=1) if prediction.ndim > 1 and prediction.shape[1] > 1 else None
    chosen = (_as(prediction, target) >= 0.5).astype(np.int64) if chosen is None else chosen
    t = np.asarray(target, np.int64)
    scores = []
    for c in np.union1d(chosen, t):
        hit, either = np.sum((chosen == c) & (t == c)), np.sum(chosen == c) + np.sum(t == c)
        scores.append(2 * hit / either)
    return np.mean(scores)


@metric("auc", whole=True)
def auc(prediction: Array, target: Array) -> Array:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    prediction: scores [n] or [n, 1]; target: 0 or 1, alike. NaN when one class is missing.
    """
    scores, positive = np.ravel(prediction), np.ravel(target) > 0
    n, p = int(np.sum(~positive)), int(np.sum(positive))
    if not n or not p:
        return np.asarray(np.nan)
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return (np.sum(ranks[positive]) - p * (p + 1) / 2) / (n * p)


METRICS: tuple[Metric, ...] = (
    accuracy,
    top5_accuracy,
    binary_accuracy,
    sign_accuracy,
    mean_squared_error,
    mean_absolute_error,
    root_mean_squared_error,
    r2,
    f1,
    auc,
)
"""Every built-in metric."""


class MetricTotals:
    """Averages the loss and metrics over batches exactly: weighted by the number of examples in each.

    Predictions and targets are kept only for the metrics that need them all at once.
    """

    def __init__(self, metrics: Sequence[Metric]):
        self.metrics = tuple(metrics)
        self.count = 0
        self._sums = [0.0] * (1 + len(self.metrics))
        self._parts: list[tuple[Array, Array]] = []
        self._keeps = any(m.whole for m in self.metrics)

    def add(self, loss: float, n: int, prediction: Array | None = None, target: Array | None = None) -> None:
        """One batch of ``n`` examples with its mean loss."""
        self.count += n
        self._sums[0] += loss * n
        for i, m in enumerate(self.metrics, 1):
            if not m.whole:
                self._sums[i] += float(np.mean(m.function(prediction, target))) * n
        if self._keeps:
            self._parts.append((prediction, target))

    def result(self) -> dict[str, float]:
        """``{"loss": ..., metric name: ...}`` over everything added; NaN when that is nothing."""
        if not self.count:
            return dict.fromkeys(["loss", *(m.name for m in self.metrics)], float("nan"))
        out = {"loss": self._sums[0] / self.count}
        whole = [np.concatenate(column) for column in zip(*self._parts, strict=True)] if self._keeps else []
        for i, m in enumerate(self.metrics, 1):
            out[m.name] = float(m.function(*whole)) if m.whole else self._sums[i] / self.count
        return out


def _per_example(x: Array) -> Array:
    """float64 [n]: the mean over all axes but the first."""
    return np.mean(np.reshape(x, (len(x), -1)), axis=1, dtype=np.float64) if x.ndim > 1 else x.astype(np.float64)


def _as(prediction: Array, target: Array) -> Array:
    """The prediction in the target's shape: ``[n, 1]`` against ``[n]``."""
    same = prediction.shape == target.shape
    return prediction if same else np.reshape(prediction, target.shape)


def _error(prediction: Array, target: Array) -> Array:
    return np.asarray(_as(prediction, target), np.float64) - target
