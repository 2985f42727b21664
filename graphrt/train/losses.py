"""The built-in losses: pieces of graph that end in one number.

``prediction`` is the model's output for a batch, ``target`` what it should have been; both average over the batch.
"""

from __future__ import annotations

from typing import Any

from graphrt.definitions import Loss, loss


@loss("softmax_cross_entropy", target_dtype="int64", target_rank=-1)
def softmax_cross_entropy(b: Any, prediction: Any, target: Any) -> Any:
    """Cross entropy of class scores (logits): ``-log softmax(prediction)[target]``, averaged.

    prediction: float [n, c, ...]; target: int64 [n, ...], class numbers.
    """
    return b.SoftmaxCrossEntropyLoss(prediction, target)


@loss("cross_entropy", target_dtype="int64", target_rank=-1)
def cross_entropy(b: Any, prediction: Any, target: Any) -> Any:
    """Cross entropy of class probabilities: ``-log max(prediction, tiny)[target]``, averaged; tiny = 1e-7.

    For models that end in Softmax; from scores, ``softmax_cross_entropy`` is more accurate.
    prediction: float [n, c, ...]; target: int64 [n, ...], class numbers.
    """
    tiny = b.value(1e-7, prediction.dtype)
    return b.NegativeLogLikelihoodLoss(b.Log(b.Max(prediction, tiny)), target)


@loss("negative_log_likelihood", target_dtype="int64", target_rank=-1)
def negative_log_likelihood(b: Any, prediction: Any, target: Any) -> Any:
    """``-prediction[target]``, averaged, for models that end in LogSoftmax.

    prediction: float [n, c, ...], log-probabilities; target: int64 [n, ...], class numbers.
    """
    return b.NegativeLogLikelihoodLoss(prediction, target)


@loss("binary_cross_entropy")
def binary_cross_entropy(b: Any, prediction: Any, target: Any) -> Any:
    """``-(t log p + (1 - t) log(1 - p))``, averaged. prediction: float [n, ...] in [0, 1]; target: alike."""
    return b.domain("graphrt").BinaryCrossEntropy(prediction, target)


@loss("binary_cross_entropy_with_logits")
def binary_cross_entropy_with_logits(b: Any, prediction: Any, target: Any) -> Any:
    """Binary cross entropy of sigmoid(prediction), averaged. prediction: float [n, ...]; target: alike, in [0, 1]."""
    return b.domain("graphrt").BinaryCrossEntropyWithLogits(prediction, target)


@loss("mean_squared_error")
def mean_squared_error(b: Any, prediction: Any, target: Any) -> Any:
    """``(prediction - target)^2``, averaged. prediction, target: float [n, ...]."""
    return b.domain("graphrt").MeanSquaredError(prediction, target)


@loss("mean_absolute_error")
def mean_absolute_error(b: Any, prediction: Any, target: Any) -> Any:
    """``|prediction - target|``, averaged. prediction, target: float [n, ...]."""
    return b.domain("graphrt").MeanAbsoluteError(prediction, target)


@loss("huber")
def huber(b: Any, prediction: Any, target: Any) -> Any:
    """Quadratic for errors below 1 and linear above, averaged. prediction, target: float [n, ...]."""
    return b.domain("graphrt").Huber(prediction, target)


@loss("hinge")
def hinge(b: Any, prediction: Any, target: Any) -> Any:
    """``max(0, 1 - target * prediction)``, averaged. prediction: float [n, ...], scores; target: alike, -1 or 1."""
    return b.domain("graphrt").Hinge(prediction, target)


LOSSES: tuple[Loss, ...] = (
    softmax_cross_entropy,
    cross_entropy,
    negative_log_likelihood,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    mean_squared_error,
    mean_absolute_error,
    huber,
    hinge,
)
"""Every built-in loss."""
