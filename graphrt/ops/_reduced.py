"""What reductions share: axis numbers, kept dimensions, accumulators, types and examples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from graphrt.op import Array, Example
from graphrt.types import Dim, TensorType

_HALF = ("float16", "bfloat16")


def axis_index(axis: int, ndim: int) -> int:
    """An axis number counted from the front.

    Raises:
        ValueError: the axis is out of range.
    """
    if not -ndim <= axis < ndim:
        raise ValueError(f"axis {axis} is out of range for a tensor of {ndim} dimensions")
    return int(axis) % ndim


def normalize_axes(axes: Any, ndim: int, noop: int = 0) -> tuple[int, ...]:
    """Axes counted from the front; absent or empty means all of them, or none of them with ``noop``.

    Raises:
        ValueError: an axis is out of range or named twice.
    """
    given = [] if axes is None else np.ravel(axes).tolist()
    if not given:
        return () if noop else tuple(range(ndim))
    found = tuple(axis_index(a, ndim) for a in given)
    if len(set(found)) != len(found):
        raise ValueError(f"axes {given} name one axis twice")
    return found


def accumulator(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype to add up in: float32 for 16-bit floats (which stop growing at 2048 ones), else the same."""
    return np.dtype(np.float32) if dtype.itemsize == 2 and dtype.name in _HALF else dtype


def widen(x: Array) -> Array:
    """The array in its accumulator's dtype; itself when that is the same."""
    return x.astype(np.float32) if x.dtype.itemsize == 2 and x.dtype.name in _HALF else x


def narrow(x: Array, dtype: np.dtype[Any]) -> Array:
    """The array in this dtype; itself when it has it."""
    if x.dtype == dtype:
        return x
    with np.errstate(over="ignore", invalid="ignore"):
        return x.astype(dtype)


def total(x: Array, axes: tuple[int, ...], keepdims: bool = True) -> Array:
    """Sum over axes in the array's own dtype; 16-bit floats are added up in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        return narrow(np.sum(x, axis=axes, keepdims=keepdims, dtype=accumulator(x.dtype)), x.dtype)


def keep(reduced: Array, data_like: Array, axes: Any) -> Array:
    """A reduced array with the reduced axes back as 1, so that it broadcasts against the data.

    Equal ranks mean that nothing was dropped: the axes were kept, or the reduction was over no axes.
    """
    if reduced.ndim == data_like.ndim:
        return reduced
    gone = normalize_axes(axes, data_like.ndim)
    return np.reshape(reduced, tuple(1 if i in gone else n for i, n in enumerate(data_like.shape)))


def collapse(x: Array, reduced_like: Array, axes: Any) -> Array:
    """Sum of an array of the data's shape down to the shape of the reduced value."""
    if x.shape == reduced_like.shape:
        return x
    return np.reshape(total(x, normalize_axes(axes, x.ndim)), reduced_like.shape)


# ---- types -------------------------------------------------------------------------------------------


def reduced_dims(shape: Sequence[Dim], axes: tuple[int, ...], keepdims: int) -> tuple[Dim, ...]:
    """The dims that a reduction leaves."""
    if keepdims:
        return tuple(1 if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def infer_by_attribute(data: TensorType, axes: Any, keepdims: int) -> TensorType:
    """Type of a reduction whose axes are an attribute."""
    if data.shape is None:
        return TensorType(data.dtype, None if keepdims or axes else ())
    return TensorType(data.dtype, reduced_dims(data.shape, normalize_axes(axes, len(data.shape)), keepdims))


def infer_by_input(
    data: TensorType, axes: TensorType | None, axes_value: Array | None, keepdims: int, noop_with_empty_axes: int
) -> TensorType:
    """Type of a reduction whose axes are an input, which may be unknown."""
    count = 0 if axes is None else np.size(axes_value) if axes_value is not None else (axes.shape or (None,))[0]
    if data.shape is None:
        return TensorType(data.dtype, () if count == 0 and not keepdims and not noop_with_empty_axes else None)
    if count == 0 or axes_value is not None:
        found = normalize_axes(axes_value, len(data.shape), noop_with_empty_axes)
        return TensorType(data.dtype, reduced_dims(data.shape, found, keepdims))
    if keepdims:
        return TensorType(data.dtype, tuple(1 if d == 1 else None for d in data.shape))
    if not isinstance(count, int):
        return TensorType(data.dtype, None if data.shape else ())
    if count > len(data.shape):
        raise ValueError(f"{count} axes to reduce, but the tensor has {len(data.shape)} dimensions")
    return TensorType(data.dtype, (None,) * (len(data.shape) - count))


# ---- examples ----------------------------------------------------------------------------------------

Draw: TypeAlias = "Callable[[np.random.Generator, tuple[int, ...]], Array]"


def _cases(draw: Draw, rng: np.random.Generator) -> Iterator[tuple[Array, tuple[int, ...] | None, dict[str, int]]]:
    yield draw(rng, (2, 3, 4)), (1,), {}
    yield draw(rng, (2, 3, 4)), (-1, 0), {"keepdims": 0}
    yield draw(rng, (2, 3)), None, {}
    yield draw(rng, (2, 1, 3)), None, {"keepdims": 0}
    yield draw(rng, ()), None, {}
    yield draw(rng, (0, 3)), (1,), {}
    yield draw(rng, (3, 2)).T[:, ::-1], (0,), {}


def examples_by_attribute(draw: Draw) -> Callable[[np.random.Generator], Iterator[Example]]:
    """Examples of a reduction whose axes are an attribute; ``draw(rng, shape)`` makes the data."""

    def examples(rng: np.random.Generator) -> Iterator[Example]:
        for data, axes, attributes in _cases(draw, rng):
            yield Example((data,), attributes if axes is None else {"axes": axes, **attributes})

    return examples


def examples_by_input(draw: Draw) -> Callable[[np.random.Generator], Iterator[Example]]:
    """Examples of a reduction whose axes are an input; ``draw(rng, shape)`` makes the data."""

    def examples(rng: np.random.Generator) -> Iterator[Example]:
        for data, axes, attributes in _cases(draw, rng):
            yield Example((data, None if axes is None else np.array(axes)), attributes)
        no_axes = np.zeros(0, np.int64)
        yield Example((draw(rng, (2, 3)), no_axes), {})
        yield Example((draw(rng, (2, 3)), no_axes), {"noop_with_empty_axes": 1})
        yield Example((draw(rng, (2, 3)), None), {"noop_with_empty_axes": 1, "keepdims": 0})

    return examples
