"""Cross entropy of softmax scores ``[n, c]`` with one label each, unweighted: the form that training runs."""

from __future__ import annotations

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.types import TensorType


def _serves(site: KernelSite) -> bool:
    if not site.is_float("scores") or site.inputs.get("weights") is not None:
        return False
    shape, labels = site.shape("scores"), site.inputs["labels"]
    plain = site.attributes["ignore_index"] is None and site.attributes["reduction"] in ("mean", "sum")
    integers = isinstance(labels, TensorType) and labels.dtype in ("int64", "int32")
    return len(shape) == 2 and shape[0] > 0 and shape[1] > 0 and plain and integers


@kernel("SoftmaxCrossEntropyLoss")
def cross_entropy_of_matrix(site: KernelSite) -> Into | None:
    """mean or sum of logsumexp(scores) - scores[label]."""
    if not _serves(site) or site.outputs[0] is None or site.outputs[1] is not None:
        return None
    n, classes = site.shape("scores")
    rows = np.arange(n) * classes
    average = site.attributes["reduction"] == "mean"

    def fill(scores: Array, labels: Array, weights: None, loss: Array, log_prob: None, shifted: Array) -> None:
        check_labels(labels, classes)
        np.subtract(scores, np.maximum.reduce(scores, 1, keepdims=True), shifted)
        picked = shifted.reshape(-1).take(rows + labels)
        total = np.add.reduce(np.exp(shifted, shifted), 1)
        np.log(total, total)
        np.subtract(total, picked, total)
        summed = np.add.reduce(total)
        loss[...] = summed / n if average else summed

    return site.into(fill, scratch=[((n, classes), site.inputs["scores"].dtype)])


@kernel("SoftmaxCrossEntropyLoss.vjp[scores]")
def cross_entropy_cotangent_of_matrix(site: KernelSite) -> Into | None:
    """ct (softmax(scores) - onehot(label)), divided by n for the mean."""
    if not _serves(site) or site.inputs.get("ct") is None or site.inputs.get("ct_log_prob") is not None:
        return None
    n, classes = site.shape("scores")
    rows = np.arange(n) * classes
    average = site.attributes["reduction"] == "mean"

    def fill(ct: Array, ct_log_prob: None, scores: Array, labels: Array, weights: None, p: Array) -> None:
        check_labels(labels, classes)
        np.subtract(scores, np.maximum.reduce(scores, 1, keepdims=True), p)
        np.exp(p, p)
        np.divide(p, np.add.reduce(p, 1, keepdims=True), p)
        p.reshape(-1)[rows + labels] -= 1
        np.multiply(p, ct / n if average else ct, p)

    return site.into(fill, over={0: (2,)})


def check_labels(labels: Array, classes: int) -> None:
    """Raises ValueError unless each label, int64 or int32, is the number of a class."""
    if np.maximum.reduce(labels.view(_UNSIGNED[labels.itemsize])) >= classes:  # a negative one is very large
        low, high = np.minimum.reduce(labels), np.maximum.reduce(labels)
        raise ValueError(f"labels go from {low} to {high}; there are {classes} classes, 0 to {classes - 1}")


_UNSIGNED = {4: np.uint32, 8: np.uint64}

KERNELS = (cross_entropy_of_matrix, cross_entropy_cotangent_of_matrix)
