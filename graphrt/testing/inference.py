"""Checks of type inference: it agrees with the values, however much is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphrt.testing.calls import Point
from graphrt.testing.values import infer_exact, type_of
from graphrt.types import UNKNOWN, Dim, TensorType, dtype_name


def check_infer(point: Point, outputs: tuple[Any, ...]) -> None:
    """Exact types first, then symbols, unknown dimensions, unknown ranks and unknown dtypes."""
    _check_types(point, infer_exact(point), outputs, {}, "with exact types")
    for how, types, values, sizes in _weaker(point):
        with point.guard(f"infer {how}"):
            found = point.op.infer_types(types, point.attributes, values, point.n_outputs, point.opset)
        _check_types(point, found, outputs, sizes, how)


def _weaker(point: Point) -> Iterator[tuple[str, list[Any], list[Any], dict[str, int]]]:
    inputs = point.node_inputs
    exact = [type_of(x) for x in inputs]
    nothing: list[Any] = [None] * len(inputs)
    known = [x if getattr(x, "dtype", np.dtype(float)).kind in "iub" else None for x in inputs]

    sizes: dict[str, int] = {}

    def own_symbol(size: int) -> Dim:
        name = f"d{len(sizes)}"
        sizes[name] = size
        return name

    yield "with exact types and no constants", exact, nothing, {}
    yield "with a symbol for each dimension", _with_dims(exact, own_symbol), known, sizes
    of_size = {f"n{n}": n for t in exact if isinstance(t, TensorType) for n in t.shape or () if isinstance(n, int)}
    yield "with a symbol for each size", _with_dims(exact, lambda n: f"n{n}" if n != 1 else 1), known, of_size
    yield "with unknown dimensions", _with_dims(exact, lambda n: None), nothing, {}
    yield (
        "with unknown dimensions and dtypes",
        [_without_dtype(t) for t in _with_dims(exact, lambda n: None)],
        known,
        {},
    )
    yield "with unknown ranks", [_without_shape(t) for t in exact], nothing, {}
    yield "with unknown types", [t and UNKNOWN for t in exact], nothing, {}
    for i in range(min(len(inputs), 4) if len(inputs) > 1 else 0):
        one = [_without_shape(t) if i == j else t for j, t in enumerate(exact)]
        yield f"with the rank of input {i} unknown", one, [None if i == j else v for j, v in enumerate(known)], {}


def _with_dims(types: list[Any], dim: Callable[[int], Dim]) -> list[Any]:
    return [TensorType(t.dtype, tuple(map(dim, t.shape))) if _has_shape(t) else t for t in types]


def _has_shape(t: Any) -> bool:
    return isinstance(t, TensorType) and t.shape is not None


def _without_dtype(t: Any) -> Any:
    return TensorType(None, t.shape) if isinstance(t, TensorType) else t


def _without_shape(t: Any) -> Any:
    return TensorType(t.dtype, None) if isinstance(t, TensorType) else t


def _check_types(
    point: Point, found: tuple[Any, ...], outputs: tuple[Any, ...], sizes: dict[str, int], how: str
) -> None:
    if len(found) > max(len(outputs), point.n_outputs, len(point.op.outputs)):
        raise point.fail(f"infer {how} gives {len(found)} types for {len(outputs)} outputs")
    for i, (t, y) in enumerate(zip(found, outputs, strict=False)):
        if not isinstance(t, TensorType) or y is None:
            continue
        if not hasattr(y, "dtype"):
            if t != UNKNOWN:
                raise point.fail(f"infer {how} says {t} for output {i}, which is a {type(y).__name__}")
            continue
        wrong_shape = t.shape is not None and (
            len(t.shape) != y.ndim or any(not _fits(d, n, sizes) for d, n in zip(t.shape, y.shape, strict=True))
        )
        if wrong_shape or t.dtype not in (None, dtype_name(y.dtype)):
            known = f" where {sizes}" if sizes else ""
            raise point.fail(f"infer {how} says {t}{known} for output {i}, but the value is {TensorType.of(y)}")


def _fits(dim: Dim, size: int, sizes: dict[str, int]) -> bool:
    return sizes.get(dim, size) == size if isinstance(dim, str) else dim in (None, size)
