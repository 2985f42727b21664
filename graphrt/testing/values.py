"""Checks of an op's value: outputs, dtypes, purity, repeatability, layouts."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt.testing.calls import Point
from graphrt.testing.points import LAYOUTS, relaid
from graphrt.testing.trees import describe, leaves, map_leaves
from graphrt.types import UNKNOWN, SequenceType, TensorType, numpy_dtype

_DTYPE_ATTRIBUTES = {"to", "dtype", "output_dtype", "output_datatype", "stash_type"}


def check_value(point: Point) -> tuple[Any, ...]:
    """The outputs, after checking that they are as declared, repeat, and that no input changed."""
    before = map_leaves(_bytes, list(point.inputs.values()))
    with point.guard("the value"):
        outputs = point.value()
    _check_untouched(point, before, "the value")
    _check_outputs(point, outputs)
    with point.guard("the value, run again,"):
        again = point.value()
    if list(map(_bytes, leaves(list(outputs)))) != list(map(_bytes, leaves(list(again)))):
        raise point.fail("the value differs between two runs with the same inputs and the same rng")
    return outputs


def check_layouts(point: Point, outputs: tuple[Any, ...], first: int = 0) -> None:
    """Strided, reversed, transposed and read-only inputs give the same values."""
    names = tuple(LAYOUTS)
    every = len(names) if point.op.elementwise and first == 0 else 1
    for layout in (names[(first + i) % len(names)] for i in range(every)):
        inputs = {n: relaid(x, layout) for n, x in point.inputs.items()}
        with point.guard(f"the value on read-only arrays ({layout})"):
            found = point.value(inputs)
        for name, y, z in zip(_output_names(point), outputs, found, strict=False):
            _check_close(point, y, z, 1e-9, f"output {name} on {layout} inputs")


def check_narrow(point: Point, outputs: tuple[Any, ...]) -> None:
    """At float32 and float16 the outputs keep the dtype, and at float32 also the values."""
    if not any(x.dtype == np.float64 for x in leaves(list(point.inputs.values()))):
        return
    for dtype in (np.dtype(np.float32), np.dtype(np.float16)):
        narrow = point.at({n: cast(x, dtype) for n, x in point.inputs.items()})
        with point.guard(f"the value at {dtype}"), np.errstate(over="ignore" if dtype.itemsize == 2 else "warn"):
            found = narrow.value()
        declared = _declared_dtypes(narrow) if point.op._infer is not None else ()
        for i, (name, wide, y) in enumerate(zip(_output_names(point), outputs, found, strict=False)):
            _check_narrow_output(point, name, wide, y, dtype, declared[i] if i < len(declared) else None)


def _check_narrow_output(point: Point, name: str, wide: Any, y: Any, dtype: np.dtype[Any], declared: Any) -> None:
    if not isinstance(wide, (np.ndarray, np.generic)):
        return
    if declared is None and _DTYPE_ATTRIBUTES & set(point.attributes):
        return
    expected = dtype if wide.dtype == np.float64 else wide.dtype
    if declared is not None:
        expected = numpy_dtype(declared)
    if y.dtype != expected:
        raise point.fail(f"output {name} is {y.dtype} at {dtype} inputs; expected {expected}")
    if dtype == np.float32 and point.smooth and "rng" not in point.op.context and wide.dtype == np.float64:
        _check_close(point, wide, y, 2e-3, f"output {name} at float32")


def cast(tree: Any, dtype: np.dtype[Any]) -> Any:
    """The float64 arrays of a tree in another dtype."""
    return map_leaves(lambda x: x.astype(dtype) if getattr(x, "dtype", None) == np.float64 else x, tree)


def _declared_dtypes(point: Point) -> tuple[str | None, ...]:
    from_infer = infer_exact(point)
    return tuple(getattr(t, "dtype", None) for t in from_infer)


def infer_exact(point: Point) -> tuple[Any, ...]:
    """Output types from the exact types and values of the inputs."""
    types = [type_of(x) for x in point.node_inputs]
    with point.guard("infer with exact types"):
        return point.op.infer_types(types, point.attributes, point.node_inputs, point.n_outputs, point.opset)


def type_of(x: Any) -> Any:
    """The exact type of a value; an unknown one for what is not an array."""
    from_list = isinstance(x, (list, tuple))
    if from_list:
        return SequenceType(type_of(x[0]) if x and len({describe(e) for e in x}) == 1 else UNKNOWN)
    if x is None:
        return None
    return TensorType.of(x) if hasattr(x, "dtype") else UNKNOWN


def _check_outputs(point: Point, outputs: tuple[Any, ...]) -> None:
    op = point.op
    if not op.variadic_output and len(outputs) > len(op.outputs):
        raise point.fail(f"the value gives {len(outputs)} outputs; declared are {', '.join(op.outputs)}")
    for name, y in zip(_output_names(point), outputs, strict=False):
        if isinstance(y, (list, tuple, dict)) or y is None:
            continue  # a sequence, a map, an absent optional
        if not isinstance(y, (np.ndarray, np.generic)):
            raise point.fail(f"output {name} is a {type(y).__name__}, not an array")
        if op.elementwise:
            expected = np.broadcast_shapes(*(x.shape for x in leaves(list(point.inputs.values()))))
            if y.shape != expected:
                raise point.fail(f"output {name} has shape {y.shape}; the inputs broadcast to {expected}")


def _output_names(point: Point) -> tuple[str, ...]:
    if point.op.variadic_output:
        return tuple(f"{point.op.outputs[0]}[{i}]" for i in range(64))
    return point.op.outputs


def _check_untouched(point: Point, before: list[Any], what: str) -> None:
    for (name, x), old in zip(point.inputs.items(), before, strict=True):
        if map_leaves(_bytes, x) != old:
            raise point.fail(f"{what} changes its input {name}")


def _check_close(point: Point, y: Any, z: Any, rtol: float, what: str) -> None:
    for a, b in zip(leaves(y), leaves(z), strict=True):
        if not hasattr(a, "dtype") or a.dtype.kind not in "fiub":
            continue
        if a.shape != b.shape:
            raise point.fail(f"{what} has shape {b.shape}, not {a.shape}")
        wide, found = np.asarray(a, np.float64), np.asarray(b, np.float64)
        scale = float(np.max(np.abs(wide), initial=0.0, where=np.isfinite(wide)))
        if not np.allclose(found, wide, rtol=rtol, atol=rtol * max(scale, 1e-3), equal_nan=True):
            with np.errstate(all="ignore"):
                raise point.fail(f"{what} differs by {np.nanmax(np.abs(found - wide)):.3g}: {found} instead of {wide}")


def _bytes(x: Any) -> Any:
    if not hasattr(x, "dtype"):
        return repr(x)
    return repr(x.tolist()) if x.dtype.kind == "O" else (x.dtype.str, x.shape, x.tobytes())
