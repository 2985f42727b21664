"""Losses on class labels: cross entropy of softmax scores, and of log-probabilities.

Both compute l = -w log p(label) per sample, where w is the class weight of the label (1 without weights) and 0 for
ignored samples; the mean is sum(l) / sum(w). Classes are axis 1; labels have the scores' shape without that axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import accumulator, narrow, widen
from graphrt.ops.reduction_norms import log_sum_exp
from graphrt.types import Dim, TensorType

# ---- softmax cross entropy ---------------------------------------------------------------------------


@op("SoftmaxCrossEntropyLoss", version=12, outputs=("output", "log_prob"), nondiff="labels")
def softmax_cross_entropy_loss(
    scores: Array,
    labels: Array,
    weights: Array = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
    n_outputs: int = 1,
) -> tuple[Array, Array | None]:
    """Cross entropy between the softmax of scores and class labels.

    scores: float [n, c, ...], labels: int [n, ...], weights: float [c] or absent -> output: the scores' dtype, [] or
    [n, ...] with reduction "none"; log_prob: like scores, computed only if asked for.
    Value: l = w (logsumexp(scores) - scores[label]); the mean of no samples is NaN, its gradient 0.
    Derivatives: w (softmax - onehot), from the scores alone; for weights, the sums of l / w by class.
    Source: ONNX operator specification.
    """
    index, w = _samples(labels, weights, ignore_index, scores)
    x = widen(scores)
    lse = log_sum_exp(x, (1,))
    with np.errstate(over="ignore", invalid="ignore"):
        losses = _clean(lse[:, 0] - x[_at_label(index)], labels, ignore_index)
        loss = narrow(_reduce(losses * w, w, reduction), scores.dtype)
        return loss, narrow(x - lse, scores.dtype) if n_outputs > 1 else None


@softmax_cross_entropy_loss.vjp("scores")
def _(
    ct: Array,
    ct_log_prob: Array,
    scores: Array,
    labels: Array,
    weights: Array,
    ignore_index: int | None,
    reduction: str,
) -> Array:
    index, w = _samples(labels, weights, ignore_index, scores)
    softmax = _softmax(scores)
    grad: Any = None
    if ct is not None:
        share = np.expand_dims(_share(widen(ct), w, reduction), 1)
        hot = np.zeros(scores.shape, softmax.dtype, like=share)
        hot[_at_label(index)] = share[:, 0]
        grad = softmax * share - hot
    if ct_log_prob is not None:
        through = widen(ct_log_prob)
        through = through - softmax * np.sum(through, axis=1, keepdims=True)
        grad = through if grad is None else grad + through
    return narrow(grad, scores.dtype)


@softmax_cross_entropy_loss.jvp("scores")
def _(
    scores_dot: Array,
    scores: Array,
    labels: Array,
    weights: Array,
    ignore_index: int | None,
    reduction: str,
    n_outputs: int,
) -> tuple[Array, Array | None]:
    index, w = _samples(labels, weights, ignore_index, scores)
    dot = widen(scores_dot)
    mean_dot = np.sum(_softmax(scores) * dot, axis=1, keepdims=True)
    loss_dot = narrow(_reduce((mean_dot[:, 0] - dot[_at_label(index)]) * w, w, reduction), scores.dtype)
    return loss_dot, narrow(dot - mean_dot, scores.dtype) if n_outputs > 1 else None


@softmax_cross_entropy_loss.vjp("weights")
def _(
    ct: Array, scores: Array, labels: Array, weights: Array, ignore_index: int | None, reduction: str
) -> Array | None:
    if ct is None:
        return None
    index, w = _samples(labels, weights, ignore_index, scores)
    losses = _label_losses(scores, index, labels, ignore_index)
    return _weights_cotangent(ct, losses, index, w, labels, weights, ignore_index, reduction)


@softmax_cross_entropy_loss.jvp("weights")
def _(
    weights_dot: Array, scores: Array, labels: Array, weights: Array, ignore_index: int | None, reduction: str
) -> tuple[Array, None]:
    index, w = _samples(labels, weights, ignore_index, scores)
    _, w_dot = _samples(labels, weights_dot, ignore_index, scores)
    losses = _label_losses(scores, index, labels, ignore_index)
    return narrow(_reduce_dot(losses, w, w_dot, reduction), scores.dtype), None


def _softmax(scores: Array) -> Array:
    x = widen(scores)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return np.exp(x - log_sum_exp(x, (1,)))


def _label_losses(scores: Array, index: Array, labels: Array, ignore_index: int | None) -> Array:
    x = widen(scores)
    with np.errstate(over="ignore", invalid="ignore"):
        return _clean(log_sum_exp(x, (1,))[:, 0] - x[_at_label(index)], labels, ignore_index)


# ---- negative log-likelihood -------------------------------------------------------------------------


@op("NegativeLogLikelihoodLoss", version=12, outputs="loss", linear="input", nondiff="target")
def negative_log_likelihood_loss(
    input: Array, target: Array, weight: Array = None, *, ignore_index: int | None = None, reduction: str = "mean"
) -> Array:
    """Negative log-likelihood of class labels, from log-probabilities.

    input: float [n, c, ...], target: int [n, ...], weight: float [c] or absent -> loss: the input's dtype, [] or
    [n, ...] with reduction "none". Value: l = -w input[label]; the mean of no samples is NaN, its gradient 0.
    Derivatives: -w at the label; for weight, the sums of l / w by class. Source: ONNX operator specification.
    """
    index, w = _samples(target, weight, ignore_index, input)
    losses = _clean(-widen(input[_at_label(index)]), target, ignore_index)
    return narrow(_reduce(losses * w, w, reduction), input.dtype)


@negative_log_likelihood_loss.vjp("input")
def _(ct: Array, input_like: Array, target: Array, weight: Array, ignore_index: int | None, reduction: str) -> Array:
    index, w = _samples(target, weight, ignore_index, input_like)
    share = narrow(_share(widen(ct), w, reduction), input_like.dtype)
    out = np.zeros(input_like.shape, input_like.dtype, like=share)
    out[_at_label(index)] = -share
    return out


@negative_log_likelihood_loss.vjp("weight")
def _(ct: Array, input: Array, target: Array, weight: Array, ignore_index: int | None, reduction: str) -> Array:
    index, w = _samples(target, weight, ignore_index, input)
    losses = _clean(-widen(input[_at_label(index)]), target, ignore_index)
    return _weights_cotangent(ct, losses, index, w, target, weight, ignore_index, reduction)


@negative_log_likelihood_loss.jvp("weight")
def _(weight_dot: Array, input: Array, target: Array, weight: Array, ignore_index: int | None, reduction: str) -> Array:
    index, w = _samples(target, weight, ignore_index, input)
    _, w_dot = _samples(target, weight_dot, ignore_index, input)
    losses = _clean(-widen(input[_at_label(index)]), target, ignore_index)
    return narrow(_reduce_dot(losses, w, w_dot, reduction), input.dtype)


# ---- shared ------------------------------------------------------------------------------------------


def _samples(labels: Array, weights: Array | None, ignore_index: int | None, scores_like: Array) -> tuple[Array, Array]:
    """Per sample: the label (0 where ignored), and the weight (0 where ignored)."""
    shape, classes = scores_like.shape, scores_like.shape[1] if scores_like.ndim > 1 else 0
    if len(shape) < 2 or labels.shape != (shape[0], *shape[2:]):
        raise ValueError(f"labels of shape {list(labels.shape)} do not fit scores of shape {list(shape)}: [n, c, ...]")
    if weights is not None and weights.shape != (classes,):
        raise ValueError(f"{classes} classes need {classes} weights, not an array of shape {list(weights.shape)}")
    used = _used(labels, ignore_index)
    index = labels if used is None else np.where(used, labels, 0)
    wrong = (index < 0) | (index >= classes) if used is None else used & ((index < 0) | (index >= classes))
    if wrong.any():
        raise ValueError(f"label {index[wrong][0]} is not one of the classes 0 to {classes - 1}")
    if weights is None:
        w = np.ones(labels.shape, accumulator(scores_like.dtype))
    else:
        w = widen(weights)[index]
    return index, w if used is None else w * used


def _used(labels: Array, ignore_index: int | None) -> Array | None:
    return None if ignore_index is None else labels != ignore_index


def _clean(losses: Array, labels: Array, ignore_index: int | None) -> Array:
    """0 for ignored samples, whatever their scores: 0 times infinity would not be."""
    used = _used(labels, ignore_index)
    return losses if used is None else np.where(used, losses, np.zeros((), losses.dtype))


def _at_label(index: Array) -> tuple[Array, ...]:
    """Index arrays that pick, for each sample, the entry of its label on axis 1: [n, c, ...] -> [n, ...]."""
    grid = np.ogrid[tuple(slice(0, n) for n in index.shape)]
    return (grid[0], index, *grid[1:])


def _reduce(losses: Array, w: Array, reduction: str) -> Array:
    if reduction == "none":
        return losses
    if reduction == "sum":
        return np.sum(losses)
    if reduction == "mean":
        with np.errstate(invalid="ignore"):  # the mean of no sample at all is 0 / 0
            return np.sum(losses) / np.sum(w)
    raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")


def _share(ct: Array, w: Array, reduction: str) -> Array:
    """What a unit of one sample's unweighted loss is worth."""
    return ct * w / _nonzero(np.sum(w)) if reduction == "mean" else ct * w


def _nonzero(whole: Array) -> Array:
    return np.where(whole == 0, np.ones((), whole.dtype), whole)


def _weights_cotangent(
    ct: Array,
    losses: Array,
    index: Array,
    w: Array,
    labels: Array,
    weights: Array,
    ignore_index: int | None,
    reduction: str,
) -> Array:
    """Sums over the samples of each class; ``losses`` are unweighted. The mean S / W adds -(S / W) / W a sample."""
    per_sample = losses
    if reduction == "mean":
        whole = _nonzero(np.sum(w))
        per_sample = (losses - np.sum(losses * w) / whole) / whole
    per_sample = widen(ct) * per_sample
    per_sample = _clean(per_sample, labels, ignore_index)
    out = np.zeros(weights.shape, per_sample.dtype, like=per_sample)
    np.add.at(out, index, per_sample)
    return narrow(out, weights.dtype)


def _reduce_dot(losses: Array, w: Array, w_dot: Array, reduction: str) -> Array:
    if reduction != "mean":
        return _reduce(losses * w_dot, w, reduction)
    whole = _nonzero(np.sum(w))
    return (np.sum(losses * w_dot) - np.sum(losses * w) / whole * np.sum(w_dot)) / whole


def _loss_type(scores: TensorType, labels: TensorType, weights: TensorType | None, reduction: str) -> TensorType:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    samples = labels.shape
    if scores.shape is not None:
        if len(scores.shape) < 2:
            raise ValueError(f"scores are [n, c, ...], not {scores}")
        expected = (scores.shape[0], *scores.shape[2:])
        if samples is not None and len(samples) != len(expected):
            raise ValueError(f"labels {labels} do not fit scores {scores}")
        samples = tuple(map(_same, expected, samples)) if samples is not None else expected
        if weights is not None and weights.shape is not None:
            _same(scores.shape[1], weights.shape[0] if len(weights.shape) == 1 else -1)
    return TensorType(scores.dtype, samples if reduction == "none" else ())


def _same(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int):
        if a != b:
            raise ValueError(f"labels or weights do not fit the scores: dimensions {a} and {b} differ")
        return a
    return a if isinstance(a, int) or b is None else b


@softmax_cross_entropy_loss.infer
def _(scores: TensorType, labels: TensorType, weights: TensorType | None, reduction: str, n_outputs: int) -> Any:
    loss = _loss_type(scores, labels, weights, reduction)
    return (loss, scores) if n_outputs > 1 else loss


@negative_log_likelihood_loss.infer
def _(input: TensorType, target: TensorType, weight: TensorType | None, reduction: str) -> TensorType:
    return _loss_type(input, target, weight, reduction)


@softmax_cross_entropy_loss.examples
@negative_log_likelihood_loss.examples
def _(rng: np.random.Generator) -> Any:
    x, labels, weights = rng.normal(size=(4, 3)), np.array([2, 0, 1, 2]), np.array([0.5, 1.5, 2.0])
    for reduction in ("mean", "sum", "none"):
        yield Example((x, labels, None), {"reduction": reduction})
        yield Example((x, labels, weights), {"reduction": reduction, "n_outputs": 1})
        yield Example((x, labels, weights), {"reduction": reduction, "ignore_index": 1})
        pixels = rng.integers(0, 3, (2, 2, 3))
        pixels[0, 0, 0] = -1
        yield Example((rng.normal(size=(2, 3, 2, 3)), pixels, weights), {"reduction": reduction, "ignore_index": -1})
        yield Example((x, labels.astype(np.int32), None), {"reduction": reduction, "ignore_index": 2})
    yield Example((np.zeros((0, 3)), np.zeros(0, np.int64), None), {"reduction": "none"})


OPS = (softmax_cross_entropy_loss, negative_log_likelihood_loss)
