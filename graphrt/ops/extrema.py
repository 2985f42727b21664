"""Max, Min, Sum and Mean of any number of tensors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, Op, op, unbroadcast
from graphrt.ops._axes import same_dim
from graphrt.ops._math import const, quiet
from graphrt.types import TensorType

Arrays = tuple[Array, ...]


def _require_equal_shapes(arrays: Arrays) -> None:
    shapes = dict.fromkeys(a.shape for a in arrays)
    if len(shapes) > 1:
        raise ValueError(f"before opset 8 all inputs have one shape, not {', '.join(map(str, shapes))}")


# ---- Max and Min ---------------------------------------------------------------------------------------


def _winners(data: Arrays, loses: Callable[[Array, Array], Array], extreme: Array) -> list[Array]:
    """For each member, where it is the first that equals the extreme (NaN counts as equal)."""
    masks, free = [], np.ones(extreme.shape, bool)
    with quiet():
        for x in data:
            won = free & ~loses(x, extreme)
            free = free & ~won
            masks.append(won)
    return masks


def _scatter(ct: Array, masks: list[Array], likes: Arrays) -> list[Array]:
    zero = const(0, ct)
    return [unbroadcast(np.where(won, ct, zero), x) for won, x in zip(masks, likes, strict=True)]


def _gather(dots: tuple[Array | None, ...], masks: list[Array]) -> Array:
    total: Any = None
    for dot, won in zip(dots, masks, strict=True):
        if dot is not None:
            part = np.where(won, dot, const(0, dot))
            total = part if total is None else total + part
    return total


def _declare_max_rules(max_op: Op) -> Op:
    @max_op.vjp("data_0")
    def _(ct: Array, data_0: Arrays, max: Array) -> list[Array]:
        return _scatter(ct, _winners(data_0, np.less, max), data_0)

    @max_op.jvp("data_0")
    def _(data_0_dot: tuple[Array | None, ...], data_0: Arrays, max: Array) -> Array:
        return _gather(data_0_dot, _winners(data_0, np.less, max))

    return max_op


def _declare_min_rules(min_op: Op) -> Op:
    @min_op.vjp("data_0")
    def _(ct: Array, data_0: Arrays, min: Array) -> list[Array]:
        return _scatter(ct, _winners(data_0, np.greater, min), data_0)

    @min_op.jvp("data_0")
    def _(data_0_dot: tuple[Array | None, ...], data_0: Arrays, min: Array) -> Array:
        return _gather(data_0_dot, _winners(data_0, np.greater, min))

    return min_op


@_declare_max_rules
@op("Max", version=8, elementwise=True, outputs="max")
def max_(*data_0: Array) -> Array:
    """Elementwise maximum.  data_0: number [...], one or more, broadcast together -> max: their dtype.

    NaN wins.  Derivative: 1 for the input that is the maximum; of equals the first takes it all.
    Source: ONNX operator spec.
    """
    with quiet():
        return functools.reduce(np.maximum, data_0)


@_declare_max_rules
@op("Max", version=6, outputs="max")
def max_6(*data_0: Array) -> Array:
    """As Max of opset 8, for inputs of one shape.

    Source: ONNX operator spec.
    """
    _require_equal_shapes(data_0)
    return max_(*data_0)


@_declare_min_rules
@op("Min", version=8, elementwise=True, outputs="min")
def min_(*data_0: Array) -> Array:
    """Elementwise minimum.  data_0: number [...], one or more, broadcast together -> min: their dtype.

    NaN wins.  Derivative: 1 for the input that is the minimum; of equals the first takes it all.
    Source: ONNX operator spec.
    """
    with quiet():
        return functools.reduce(np.minimum, data_0)


@_declare_min_rules
@op("Min", version=6, outputs="min")
def min_6(*data_0: Array) -> Array:
    """As Min of opset 8, for inputs of one shape.

    Source: ONNX operator spec.
    """
    _require_equal_shapes(data_0)
    return min_(*data_0)


# ---- Sum and Mean --------------------------------------------------------------------------------------


def _vjp_sum(ct: Array, data_0_like: Arrays) -> list[Array]:
    return [unbroadcast(ct, x) for x in data_0_like]


def _vjp_mean(ct: Array, data_0_like: Arrays) -> list[Array]:
    share = ct / len(data_0_like)
    return [unbroadcast(share, x) for x in data_0_like]


@op("Sum", version=8, elementwise=True, outputs="sum", linear="data_0")
def sum_(*data_0: Array) -> Array:
    """Elementwise sum.  data_0: float [...], one or more, broadcast together -> sum: their dtype.

    Source: ONNX operator spec.
    """
    with quiet():
        return functools.reduce(np.add, data_0)


@op("Sum", version=6, outputs="sum", linear="data_0")
def sum_6(*data_0: Array) -> Array:
    """As Sum of opset 8, for inputs of one shape.

    Source: ONNX operator spec.
    """
    _require_equal_shapes(data_0)
    return sum_(*data_0)


@op("Mean", version=8, elementwise=True, outputs="mean", linear="data_0")
def mean(*data_0: Array) -> Array:
    """Elementwise mean.  data_0: float [...], n of them, broadcast together -> mean: their dtype.

    Value: the sum divided by n.  Source: ONNX operator spec.
    """
    with quiet():
        return functools.reduce(np.add, data_0) / len(data_0)


@op("Mean", version=6, outputs="mean", linear="data_0")
def mean_6(*data_0: Array) -> Array:
    """As Mean of opset 8, for inputs of one shape.

    Source: ONNX operator spec.
    """
    _require_equal_shapes(data_0)
    return mean(*data_0)


for _op in (sum_, sum_6):
    _op.vjp("data_0")(_vjp_sum)
for _op in (mean, mean_6):
    _op.vjp("data_0")(_vjp_mean)


def _examples(rng: np.random.Generator) -> Iterator[Any]:
    a, b, c = (rng.permutation(6).reshape(2, 3) + rng.uniform(0, 0.4, (2, 3)) + shift for shift in (0, 0.45, -0.45))
    yield (a, b, c), {}
    yield (a,), {}
    yield (a[0, 0], b[0, 0]), {}
    yield (np.zeros((0, 2)), np.zeros((0, 2))), {}


def _broadcasting_examples(rng: np.random.Generator) -> Iterator[Any]:
    yield from _examples(rng)
    yield (rng.uniform(-1, 1, (2, 1, 3)), np.array([[-0.5], [0.5]]), np.array(0.1)), {}


def _tied_examples(rng: np.random.Generator) -> Iterator[Any]:
    yield from _examples(rng)
    x = np.array([1.0, 2.0, 3.0])
    yield Example((x, x[::-1], x), {}, smooth=False)


def _broadcasting_tied_examples(rng: np.random.Generator) -> Iterator[Any]:
    yield from _tied_examples(rng)
    yield (rng.uniform(-1, 1, (2, 1, 3)), np.array([[-0.5], [0.5]])), {}
    yield Example((np.zeros((2, 2)), np.zeros(2), np.zeros(())), {}, smooth=False)


def _infer_one_shape(data_0: tuple[TensorType, ...]) -> TensorType:
    shapes = [t.shape for t in data_0 if t.shape is not None]
    if len({len(s) for s in shapes}) > 1:
        raise ValueError(f"before opset 8 all inputs have one shape, not {', '.join(map(str, data_0))}")
    dims = [functools.reduce(lambda a, b: same_dim(a, b, "dimension"), ds) for ds in zip(*shapes, strict=True)]
    dtype = next((t.dtype for t in data_0 if t.dtype is not None), None)
    return TensorType(dtype, tuple(dims) if shapes else None)


for _op in (max_6, min_6, sum_6, mean_6):
    _op.infer(_infer_one_shape)
for _op in (max_, min_):
    _op.examples(_broadcasting_tied_examples)
for _op in (max_6, min_6):
    _op.examples(_tied_examples)
for _op in (sum_, mean):
    _op.examples(_broadcasting_examples)
for _op in (sum_6, mean_6):
    _op.examples(_examples)

OPS = (max_, max_6, min_, min_6, sum_, sum_6, mean, mean_6)
