"""Losses that compare two tensors of one shape, element by element (domain ``graphrt``).

Each takes input and target of the same shape, because a silent broadcast of [n, 1] against [n] is a bug, not a
wish; a target of integers or booleans is taken as numbers. ``reduction`` is "mean" (of no elements: 0), "sum" or
"none"; 16-bit floats are computed in float32. A rule is the local derivative times each element's share of the
cotangent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import accumulator, narrow, widen
from graphrt.types import Dim, TensorType

_EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}

# ---- binary cross entropy ----------------------------------------------------------------------------


@op("BinaryCrossEntropy", domain="graphrt")
def binary_cross_entropy(input: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Cross entropy between probabilities and targets in [0, 1].

    input: float [...], target: the same shape -> y: the input's dtype, [] or [...] with reduction "none".
    Value: -(t log p + (1 - t) log(1 - p)), p clipped to [eps, 1 - eps] with the dtype's eps.
    Derivatives: (p - t) / (p (1 - p)) and log(1 - p) - log p, both at the clipped p: a wrong probability of exactly
    0 or 1 still gets a (finite) gradient.
    """
    p, t = _clipped(input), _numbers(target, input)
    return _reduce(-(t * np.log(p) + (1 - t) * np.log1p(-p)), input.dtype, reduction)


@binary_cross_entropy.vjp("input")
def _(ct: Array, input: Array, target: Array, reduction: str) -> Array:
    return _spread(ct, _bce_slope(input, target), input.dtype, reduction)


@binary_cross_entropy.vjp("target")
def _(ct: Array, input: Array, target_like: Array, reduction: str) -> Array:
    return _spread(ct, -_logit(input), target_like.dtype, reduction)


@binary_cross_entropy.jvp("input")
def _(input_dot: Array, input: Array, target: Array, reduction: str) -> Array:
    return _reduce(input_dot * _bce_slope(input, target), input.dtype, reduction)


@binary_cross_entropy.jvp("target")
def _(target_dot: Array, input: Array, reduction: str) -> Array:
    return _reduce(-target_dot * _logit(input), input.dtype, reduction)


def _clipped(input: Array) -> Array:
    x, eps = widen(input), _EPS.get(input.dtype.name) or float(np.finfo(input.dtype).eps)
    return np.clip(x, eps, 1 - eps)


def _bce_slope(input: Array, target: Array) -> Array:
    p = _clipped(input)
    return (p - _numbers(target, input)) / (p * (1 - p))


def _logit(input: Array) -> Array:
    p = _clipped(input)
    return np.log(p) - np.log1p(-p)


@op("BinaryCrossEntropyWithLogits", domain="graphrt")
def binary_cross_entropy_with_logits(input: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Cross entropy between sigmoid(input) and targets in [0, 1].

    input: float [...], target: the same shape -> y: the input's dtype, [] or [...] with reduction "none".
    Value: max(x, 0) - x t + log1p(exp(-|x|)), which no logit overflows. Derivatives: sigmoid(x) - t and -x.
    """
    x, t = widen(input), _numbers(target, input)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return _reduce(np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))), input.dtype, reduction)


@binary_cross_entropy_with_logits.vjp("input")
def _(ct: Array, input: Array, target: Array, reduction: str) -> Array:
    return _spread(ct, _sigmoid(widen(input)) - _numbers(target, input), input.dtype, reduction)


@binary_cross_entropy_with_logits.vjp("target")
def _(ct: Array, input: Array, target_like: Array, reduction: str) -> Array:
    return _spread(ct, -widen(input), target_like.dtype, reduction)


@binary_cross_entropy_with_logits.jvp("input")
def _(input_dot: Array, input: Array, target: Array, reduction: str) -> Array:
    return _reduce(input_dot * (_sigmoid(widen(input)) - _numbers(target, input)), input.dtype, reduction)


@binary_cross_entropy_with_logits.jvp("target")
def _(target_dot: Array, input: Array, reduction: str) -> Array:
    return _reduce(-target_dot * widen(input), input.dtype, reduction)


def _sigmoid(x: Array) -> Array:
    with np.errstate(under="ignore"):
        e = np.exp(-np.abs(x))
        return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


# ---- regression: losses of the difference ------------------------------------------------------------


@op("MeanSquaredError", domain="graphrt")
def mean_squared_error(input: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Squared difference, averaged by default.

    input: float [...], target: the same shape -> y: the input's dtype, [] or [...] with reduction "none".
    Value: d² with d = input - target. Derivatives: 2 d and -2 d.
    """
    d = _difference(input, target)
    with np.errstate(over="ignore", under="ignore"):
        return _reduce(d * d, input.dtype, reduction)


@mean_squared_error.vjp("input")
def _(ct: Array, input: Array, target: Array, reduction: str) -> Array:
    return _spread(ct, 2 * _difference(input, target), input.dtype, reduction)


@mean_squared_error.vjp("target")
def _(ct: Array, input: Array, target: Array, reduction: str) -> Array:
    return _spread(ct, -2 * _difference(input, target), target.dtype, reduction)


@mean_squared_error.jvp("input", "target")
def _(input_dot: Array, target_dot: Array, input: Array, target: Array, reduction: str) -> Array:
    return _reduce(_minus(input_dot, target_dot) * 2 * _difference(input, target), input.dtype, reduction)


@op("MeanAbsoluteError", domain="graphrt")
def mean_absolute_error(input: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Absolute difference, averaged by default.

    input: float [...], target: the same shape -> y: the input's dtype, [] or [...] with reduction "none".
    Value: |d| with d = input - target. Derivatives: sign(d) and -sign(d), 0 where d = 0.
    """
    return _reduce(np.abs(_difference(input, target)), input.dtype, reduction)


@mean_absolute_error.vjp("input")
def _(ct: Array, input: Array, target: Array, reduction: str) -> Array:
    return _spread(ct, np.sign(_difference(input, target)), input.dtype, reduction)


@mean_absolute_error.vjp("target")
def _(ct: Array, input: Array, target: Array, reduction: str) -> Array:
    return _spread(ct, -np.sign(_difference(input, target)), target.dtype, reduction)


@mean_absolute_error.jvp("input", "target")
def _(input_dot: Array, target_dot: Array, input: Array, target: Array, reduction: str) -> Array:
    return _reduce(_minus(input_dot, target_dot) * np.sign(_difference(input, target)), input.dtype, reduction)


@op("Huber", domain="graphrt")
def huber(input: Array, target: Array, *, delta: float = 1.0, reduction: str = "mean") -> Array:
    """Squared near 0, linear beyond ``delta``.

    input: float [...], target: the same shape -> y: the input's dtype, [] or [...] with reduction "none".
    Value: d²/2 where |d| <= delta, else delta (|d| - delta/2), with d = input - target.
    Derivatives: clip(d, -delta, delta) and its negative. Source: Huber, Annals of Mathematical Statistics 35, 1964.
    """
    if not delta > 0:
        raise ValueError(f"delta is positive, not {delta}")
    size = np.abs(_difference(input, target))
    near = np.minimum(size, delta)  # near (size - near / 2) is both branches at once
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        return _reduce(near * (size - near / 2), input.dtype, reduction)


@huber.vjp("input")
def _(ct: Array, input: Array, target: Array, delta: float, reduction: str) -> Array:
    return _spread(ct, np.clip(_difference(input, target), -delta, delta), input.dtype, reduction)


@huber.vjp("target")
def _(ct: Array, input: Array, target: Array, delta: float, reduction: str) -> Array:
    return _spread(ct, -np.clip(_difference(input, target), -delta, delta), target.dtype, reduction)


@huber.jvp("input", "target")
def _(input_dot: Array, target_dot: Array, input: Array, target: Array, delta: float, reduction: str) -> Array:
    slope = np.clip(_difference(input, target), -delta, delta)
    return _reduce(_minus(input_dot, target_dot) * slope, input.dtype, reduction)


def _difference(input: Array, target: Array) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        return widen(input) - _numbers(target, input)


def _minus(input_dot: Array | None, target_dot: Array | None) -> Array:
    if target_dot is None:
        return widen(input_dot)
    return -widen(target_dot) if input_dot is None else widen(input_dot) - widen(target_dot)


# ---- classification by sign --------------------------------------------------------------------------


@op("Hinge", domain="graphrt", nondiff="target")
def hinge(input: Array, target: Array, *, reduction: str = "mean") -> Array:
    """Hinge loss of scores against labels -1 and +1.

    input: float [...], target: number, the same shape, each -1 or +1 -> y: the input's dtype, [] or [...] with
    reduction "none". Value: max(0, 1 - t x). Derivative: -t where t x < 1, else 0 (at the kink t x = 1 too); labels
    carry no gradient.
    """
    t = _numbers(target, input)
    if not np.all(np.abs(t) == 1):
        raise ValueError("labels of the hinge loss are -1 or +1; map labels y of 0 and 1 to 2 y - 1")
    return _reduce(np.maximum(1 - t * widen(input), 0), input.dtype, reduction)


@hinge.vjp("input")
def _(ct: Array, input: Array, target: Array, reduction: str) -> Array:
    return _spread(ct, _hinge_slope(input, target), input.dtype, reduction)


@hinge.jvp("input")
def _(input_dot: Array, input: Array, target: Array, reduction: str) -> Array:
    return _reduce(input_dot * _hinge_slope(input, target), input.dtype, reduction)


def _hinge_slope(input: Array, target: Array) -> Array:
    t = _numbers(target, input)
    return np.where(t * widen(input) < 1, -t, np.zeros((), t.dtype))


# ---- shared ------------------------------------------------------------------------------------------


def _numbers(target: Array, input: Array) -> Array:
    """The target in the dtype that the input is computed in."""
    if target.shape != input.shape:
        raise ValueError(
            f"input {list(input.shape)} and target {list(target.shape)} differ in shape; reshape one to the other"
        )
    return narrow(target, accumulator(input.dtype))


def _reduce(losses: Array, dtype: np.dtype[Any], reduction: str) -> Array:
    if reduction == "none":
        return narrow(losses, dtype)
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    with np.errstate(over="ignore", invalid="ignore"):
        whole = np.sum(losses)
        return narrow(whole / max(losses.size, 1) if reduction == "mean" else whole, dtype)


def _spread(ct: Array, slope: Array, dtype: np.dtype[Any], reduction: str) -> Array:
    share = widen(ct) / max(slope.size, 1) if reduction == "mean" else widen(ct)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        return narrow(share * slope, dtype)


def _infer(input: TensorType, target: TensorType, reduction: str) -> TensorType:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction is 'mean', 'sum' or 'none', not {reduction!r}")
    shape = input.shape if input.shape is not None else target.shape
    if input.shape is not None and target.shape is not None:
        if len(input.shape) != len(target.shape):
            raise ValueError(f"input {input} and target {target} differ in shape; reshape one to the other")
        shape = tuple(_same(a, b) for a, b in zip(input.shape, target.shape, strict=True))
    return TensorType(input.dtype, shape if reduction == "none" else ())


def _same(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise ValueError(f"input and target differ in a dimension: {a} and {b}; reshape one to the other")
    return a if isinstance(a, int) or b is None else b if isinstance(b, int) or a is None else a


def _examples(draw: Callable[[np.random.Generator, Any], tuple[Array, Array]], **attributes: Any) -> Any:
    def examples(rng: np.random.Generator) -> Any:
        for reduction in ("mean", "sum", "none"):
            for shape in [(3, 2), (), (0, 2)]:
                yield Example(draw(rng, shape), {"reduction": reduction, **attributes})
        x, t = draw(rng, (4,))
        yield Example((x[::-1], t[::-1]), {})

    return examples


def _probabilities(rng: np.random.Generator, shape: Any) -> tuple[Array, Array]:
    return rng.uniform(0.1, 0.9, size=shape), rng.uniform(0.1, 0.9, size=shape)


def _normal(rng: np.random.Generator, shape: Any) -> tuple[Array, Array]:
    return 2 * rng.normal(size=shape), rng.normal(size=shape)


def _labels(rng: np.random.Generator, shape: Any) -> tuple[Array, Array]:
    return 2 * rng.normal(size=shape), rng.choice([-1.0, 1.0], size=shape)


binary_cross_entropy.examples(_examples(_probabilities))
binary_cross_entropy_with_logits.examples(_examples(_normal))
mean_squared_error.examples(_examples(_normal))
mean_absolute_error.examples(_examples(_normal))
huber.examples(_examples(_normal, delta=1.5))
hinge.examples(_examples(_labels))

OPS = (
    binary_cross_entropy, binary_cross_entropy_with_logits, mean_squared_error, mean_absolute_error, huber, hinge,
)  # fmt: skip

for _op in OPS:
    _op.infer(_infer)
