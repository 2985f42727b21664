"""Resize: nearest neighbours are copied, mixtures are products with banded matrices, one axis after the other.

What is read for each output depends on scales and sizes, which are inputs; it is worked out when they change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.definitions import Into, Kernel, KernelSite
from graphrt.op import Array
from graphrt.ops._resizing import How, Table, apply_tables, resize_tables
from graphrt.ops.resize import legacy_tables
from graphrt.types import TensorType, numpy_dtype

Move = Callable[[Array, Array], None]
"""Fills an array with another one, resized along an axis."""
Shape = tuple[int, ...]
BAND = 32
"""Outputs of a part of a banded matrix."""


def _resize(op_type: str) -> Kernel:
    def make(site: KernelSite) -> Into | None:
        result = site.outputs[0]
        if not site.is_float("x") or not isinstance(result, TensorType) or not result.is_static:
            return None
        a, x = site.attributes, site.shape("x")
        y: Shape = result.shape  # type: ignore[assignment]
        tables = _tables(a)
        axes = [i for i, (n, m) in enumerate(zip(x, y, strict=True)) if n != m]
        if tables is None or not axes or 0 in x or 0 in y:
            return None
        shapes = _shapes(x, y, axes if math.prod(x) > math.prod(y) else axes[::-1])
        dtype, kept = numpy_dtype(site.inputs["x"].dtype), _Kept(tables)

        def fill(x: Array, *rest: Array) -> None:
            given, y, between = rest[: -len(shapes)], rest[-len(shapes)], rest[len(rest) - len(shapes) + 1 :]
            found = kept.of(x.shape, given)
            by_axis = {t.axis: t for t in found}
            if sorted(by_axis) != axes:  # a scale that is not the ratio of the sizes
                np.copyto(y, apply_tables(x, found, 0.0))
                return
            for (axis, _), to in zip(shapes, (*between, y), strict=True):
                kept.move(by_axis[axis], dtype)(*_as_lines(axis, x, to))
                x = to

        return site.into(fill, scratch=[(shape, dtype.name) for _, shape in shapes[:-1]])

    return Kernel(f"{op_type.lower()}_by_axis", op_type, make)


def _tables(a: Any) -> Callable[..., list[Table]] | None:
    """What makes the tables of an op with these attributes, of the input's shape and the op's other inputs."""
    if "coordinate_transformation_mode" not in a:
        return (lambda shape, scales: legacy_tables(shape, scales, a["mode"])) if set(a) == {"mode"} else None
    names = "mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a", "exclude_outside", "antialias"
    how = How(*(a[n] for n in names))
    if how.coordinates == "tf_crop_and_resize":
        return None
    return lambda shape, roi, scales, sizes: resize_tables(
        shape, roi, scales, sizes, a["axes"], a["keep_aspect_ratio_policy"], how
    )


def _shapes(x: Shape, y: Shape, order: Sequence[int]) -> list[tuple[int, Shape]]:
    """Each axis in turn, and the shape that is there when it has been resized."""
    made, now = [], list(x)
    for axis in order:
        now[axis] = y[axis]
        made.append((axis, tuple(now)))
    return made


def _as_lines(axis: int, *arrays: Array) -> list[Array]:
    """Arrays as [outer, axis, inner]; or [outer, axis], where it is the last one."""
    rest = (-1,) if axis < arrays[0].ndim - 1 else ()
    return [a.reshape(math.prod(a.shape[:axis]), a.shape[axis], *rest) for a in arrays]


class _Kept:
    """The tables for the last inputs there were, and what moves elements as they say."""

    def __init__(self, tables: Callable[..., list[Table]]):
        self._tables = tables
        self._last: tuple[Any, list[Table], dict[int, Move]] = None, [], {}

    def of(self, shape: Shape, given: Sequence[Array | None]) -> list[Table]:
        """The tables for the op's other inputs."""
        key = [None if g is None else g.tobytes() for g in given]
        if self._last[0] != key:
            self._last = key, self._tables(shape, *given), {}
        return self._last[1]

    def move(self, table: Table, dtype: Any) -> Move:
        """What resizes along the axis of a table."""
        moves = self._last[2]
        if table.axis not in moves:
            index, weight = table.index, table.weight
            moves[table.axis] = _nearest(index[:, 0]) if weight is None else _mixed(table.size, index, weight, dtype)
        return moves[table.axis]


def _nearest(index: Array) -> Move:
    times = max(1, int(np.sum(index == index[0])))
    if np.array_equal(index, np.arange(len(index)) // times):

        def repeat(x: Array, y: Array) -> None:
            for i in range(times):
                np.copyto(y[:, i::times], x[:, : len(range(i, len(index), times))])

        return repeat
    return lambda x, y: x.take(index, 1, y, "clip")


def _mixed(size: int, index: Array, weight: Array, dtype: Any) -> Move:
    """Products with the parts of the matrix [inputs, outputs] around its band."""
    count = len(index)
    matrix = np.zeros((size, count), dtype)
    np.add.at(matrix, (index, np.arange(count)[:, None]), weight)
    parts = []
    for first in range(0, count, BAND):
        outputs = slice(first, min(first + BAND, count))
        read = index[outputs]
        inputs = slice(int(read.min()), int(read.max()) + 1)
        parts.append((inputs, outputs, np.ascontiguousarray(matrix[inputs, outputs])))

    def mix(x: Array, y: Array) -> None:
        for inputs, outputs, part in parts:
            if x.ndim == 2:
                np.matmul(x[:, inputs], part, y[:, outputs])
            else:
                np.matmul(part.T, x[:, inputs], y[:, outputs])

    return mix


KERNELS = (_resize("Resize"), _resize("Upsample"))
