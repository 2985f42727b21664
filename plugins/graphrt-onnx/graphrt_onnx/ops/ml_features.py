"""Features of ai.onnx.ml: select, concatenate, fill in, scale, normalize, threshold columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.plugin import Array, Example, TensorType
from graphrt_onnx.ops._ml import back, constants, given, ml, quiet, result, working, working_dtype


def _dims(x: TensorType) -> int | None:
    return None if x.shape is None else len(x.shape)


# ---- ArrayFeatureExtractor -----------------------------------------------------------------------------------


@ml("ArrayFeatureExtractor", outputs=("z",), linear="x", nondiff="y")
def array_feature_extractor(x: Array, y: Array) -> Array:
    """Picks columns: z[..., j] = x[..., y[j]].

    x: any [..., C], y: int64 indices (of any shape, read as one row) -> z: [..., K]; a vector gives [1, K].
    Negative indices count from the end. The derivative adds cotangents back to the columns they came from.
    Source: ONNX ML operator spec.
    """
    if x.ndim < 1 or y.size < 1:
        raise ValueError(f"x {x.shape} has an axis to pick from, and y {y.shape} at least one index")
    if np.any((y < -x.shape[-1]) | (y >= x.shape[-1])):
        raise ValueError(f"indices {y.ravel().tolist()[:8]} do not all lie within {x.shape[-1]} columns")
    z = x[..., y.ravel()]
    return z.reshape(1, -1) if x.ndim == 1 else z


@array_feature_extractor.vjp("x")
def _(ct: Array, x_like: Array, y: Array) -> Array:
    total = np.zeros(x_like.shape, ct.dtype, like=ct)
    columns: Any = (..., y.ravel())
    np.add.at(total, columns, ct.reshape(*x_like.shape[:-1], y.size))
    return total


@array_feature_extractor.infer
def _(x: TensorType, y: TensorType) -> TensorType:
    if x.shape is None:
        return TensorType(x.dtype)
    count = None
    if y.shape is not None and all(isinstance(n, int) for n in y.shape):
        count = int(np.prod([n for n in y.shape if isinstance(n, int)], dtype=np.int64))
    return TensorType(x.dtype, (*(x.shape[:-1] if len(x.shape) > 1 else (1,)), count))


@array_feature_extractor.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(3, 4)), np.array([[0, 3, 0]])), {}
    yield (rng.normal(size=4), np.array([1, 2])), {}
    yield (rng.normal(size=(2, 3, 4)), np.array([2, 2, 1])), {}
    yield (rng.normal(size=(0, 4)), np.array([1])), {}
    yield (np.array([["a", "b"]], object), np.array([1])), {}


# ---- Binarizer -----------------------------------------------------------------------------------------------


@ml("Binarizer", elementwise=True, kinks=(0.0,))
def binarizer(x: Array, *, threshold: float = 0.0) -> Array:
    """1 where x is above the threshold, else 0.

    x: number [...] -> y: the dtype of x [...]. The derivative is 0 (at the threshold too).
    Source: ONNX ML operator spec.
    """
    return (x > x.dtype.type(threshold)).astype(x.dtype)


@binarizer.derivative("x")
def _(x: Array) -> Array:
    return np.zeros_like(x)


@binarizer.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(3, 2)),), {"threshold": 0.3}
    yield (np.array([-1, 0, 2]),), {"threshold": 1.0}


# ---- FeatureVectorizer ---------------------------------------------------------------------------------------


def _widths(xs: tuple[Any, ...], inputdimensions: tuple[int, ...]) -> list[int]:
    if inputdimensions and len(inputdimensions) != len(xs):
        raise ValueError(f"inputdimensions has {len(inputdimensions)} entries for {len(xs)} inputs")
    return list(inputdimensions) or [x.shape[-1] for x in xs]


@ml("FeatureVectorizer", outputs=("y",), linear="xs")
def feature_vectorizer(*xs: Array, inputdimensions: tuple[int, ...] = ()) -> Array:
    """Tables side by side.

    xs: number [N, C_i], or [C_i] for one row; -> y: float32 [N, sum of inputdimensions]. An input is cut, or
    filled up with zeros, to its entry in ``inputdimensions`` (absent: its own width).
    Source: ONNX ML operator spec.
    """
    tables = [x.reshape(1, -1) if x.ndim == 1 else x for x in xs]
    if any(t.ndim != 2 or t.shape[0] != tables[0].shape[0] for t in tables):
        raise ValueError(f"the inputs are [N, C] with one N; they have shapes {', '.join(str(x.shape) for x in xs)}")
    parts = []
    for t, width in zip(tables, _widths(tuple(tables), inputdimensions), strict=True):
        missing = width - t.shape[1]
        parts.append(result(working(t[:, :width])))
        if missing > 0:
            parts.append(np.zeros((t.shape[0], missing), np.float32))
    return np.concatenate(parts, axis=1)


@feature_vectorizer.vjp("xs")
def _(ct: Array, xs_like: tuple[Array, ...], inputdimensions: tuple[int, ...]) -> tuple[Array, ...]:
    at, cts = 0, []
    for x, width in zip(xs_like, _widths(xs_like, inputdimensions), strict=True):
        own = x.shape[-1]
        piece = ct[:, at : at + min(width, own)]
        if own > width:
            piece = np.concatenate([piece, np.zeros((piece.shape[0], own - width), ct.dtype)], axis=1)
        cts.append(back(piece.reshape(x.shape), x))
        at += width
    return tuple(cts)


@feature_vectorizer.infer
def _(xs: tuple[TensorType, ...], inputdimensions: tuple[int, ...]) -> TensorType:
    rows = next((x.shape[0] if len(x.shape) == 2 else 1 for x in xs if x.shape is not None), None)
    widths: Any = inputdimensions or [None if not x.shape else x.shape[-1] for x in xs]
    known = all(isinstance(w, int) for w in widths)
    return TensorType("float32", (rows, sum(widths) if known else None))


@feature_vectorizer.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = rng.normal(size=(3, 2)), rng.normal(size=(3, 4))
    yield (a, b), {"inputdimensions": (2, 4)}
    yield (a, b), {"inputdimensions": (3, 2)}
    yield (a,), {}
    yield (np.array([1, 2]), np.array([3])), {"inputdimensions": (2, 1)}
    yield (rng.normal(size=(0, 2)),), {"inputdimensions": (2,)}


# ---- Imputer -------------------------------------------------------------------------------------------------


def _is_missing(x: Array, replaced_float: float, replaced_int: int) -> Array:
    if x.dtype.kind != "f":
        return x == replaced_int
    return np.isnan(x) if np.isnan(replaced_float) else x == x.dtype.type(replaced_float)


@ml("Imputer")
def imputer(
    x: Array, *, imputed_value_floats: tuple[float, ...] | None = None,
    imputed_value_int64s: tuple[int, ...] | None = None, replaced_value_float: float = 0.0,
    replaced_value_int64: int = 0,
) -> Array:  # fmt: skip
    """Replaces one value (or NaN) by another, per column.

    x: number [..., F] -> y: like x. The new values have F entries or 1; the float attributes serve float inputs, the
    int64 ones integer inputs. dy/dx is 1 where x stays, 0 where it is replaced. Source: ONNX ML operator spec.
    """
    values = imputed_value_floats if x.dtype.kind == "f" else imputed_value_int64s
    if given(values) is None:
        kind = "imputed_value_floats" if x.dtype.kind == "f" else "imputed_value_int64s"
        raise ValueError(f"x is {x.dtype}: the attribute {kind} is needed")
    new = constants(values, x.dtype)
    if new.size != 1 and (x.ndim == 0 or new.size != x.shape[-1]):
        raise ValueError(f"{new.size} new values for x {x.shape}: one, or one per column")
    return np.where(_is_missing(x, replaced_value_float, replaced_value_int64), new if x.ndim else new[0], x)


@imputer.vjp("x")
def _(ct: Array, x: Array, replaced_value_float: float, replaced_value_int64: int) -> Array:
    return np.where(_is_missing(x, replaced_value_float, replaced_value_int64), ct.dtype.type(0), ct)


@imputer.jvp("x")
def _(x_dot: Array, x: Array, replaced_value_float: float, replaced_value_int64: int) -> Array:
    return np.where(_is_missing(x, replaced_value_float, replaced_value_int64), x_dot.dtype.type(0), x_dot)


imputer.infer(lambda x: x)


@imputer.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(3, 2))
    yield (x,), {"imputed_value_floats": (1.0,), "replaced_value_float": 9.0}
    gaps = np.where(rng.uniform(size=(3, 2)) < 0.5, 7.0, x)
    yield Example((gaps,), {"imputed_value_floats": (1.0, 2.0), "replaced_value_float": 7.0}, smooth=False)
    yield (np.array([[1, 2], [2, 3]]),), {"imputed_value_int64s": (5, 6), "replaced_value_int64": 2}
    yield (np.zeros((0, 2)),), {"imputed_value_floats": (1.0,)}


# ---- Scaler --------------------------------------------------------------------------------------------------


def _per_column(values: Any, default: float, x_like: Array, name: str) -> Array:
    column = constants(values if given(values) is not None else (default,), working_dtype(x_like))
    if column.size != 1 and (x_like.ndim == 0 or column.size != x_like.shape[-1]):
        raise ValueError(f"{name} has {column.size} entries for x {x_like.shape}: one, or one per column")
    return column if x_like.ndim else column[0]


@ml("Scaler")
def scaler(x: Array, *, offset: tuple[float, ...] | None = None, scale: tuple[float, ...] | None = None) -> Array:
    """y = (x - offset) scale, per column or by one number each.

    x: number [..., F] -> y: float32 [..., F]. Absent: offset 0, scale 1. dy/dx = scale.
    Source: ONNX ML operator spec.
    """
    return result((working(x) - _per_column(offset, 0, x, "offset")) * _per_column(scale, 1, x, "scale"))


@scaler.vjp("x")
def _(ct: Array, x_like: Array, scale: tuple[float, ...] | None) -> Array:
    return back(ct * _per_column(scale, 1, x_like, "scale"), x_like)


@scaler.jvp("x")
def _(x_dot: Array, scale: tuple[float, ...] | None) -> Array:
    return result(x_dot * _per_column(scale, 1, x_dot, "scale"))


@scaler.infer
def _(x: TensorType) -> TensorType:
    return TensorType("float32", x.shape)


@scaler.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(3, 2)),), {"offset": (1.0, 2.0), "scale": (0.5, 3.0)}
    yield (rng.normal(size=(2, 3, 2)),), {"offset": (1.0,), "scale": (2.0,)}
    yield (rng.normal(size=2),), {}
    yield (np.array([[1, 2]]),), {"offset": (1.0, 0.0), "scale": (0.5, 2.0)}
    yield (np.zeros((0, 2)),), {"scale": (2.0, 1.0)}


# ---- Normalizer ----------------------------------------------------------------------------------------------


def _divisor(x: Array, norm: str) -> Array:
    """The norm of each row [..., 1], 1 where it is zero."""
    if norm == "L1":
        size = np.sum(np.abs(x), axis=-1, keepdims=True)
    elif norm == "L2":
        size = np.sqrt(np.sum(x * x, axis=-1, keepdims=True))
    elif norm == "MAX":
        size = np.max(x, axis=-1, keepdims=True)
    else:
        raise ValueError(f"norm is MAX, L1 or L2, not {norm!r}")
    return np.where(size == 0, size.dtype.type(1), size)


def _divisor_slope(x: Array, divisor: Array, norm: str) -> Array:
    """The derivative of the divisor by each element of its row."""
    if norm == "L1":
        return np.sign(x)
    if norm == "L2":
        return x / divisor
    first = np.arange(x.shape[-1]) == np.argmax(x, axis=-1)[..., None]
    return first.astype(x.dtype)


@ml("Normalizer")
def normalizer(x: Array, *, norm: str = "MAX") -> Array:
    """Divides each row by its norm: its largest element (MAX), the sum of magnitudes (L1) or the length (L2).

    x: number [N, C] or [C] -> y: float32, the shape of x. A row of norm 0 stays as it is. With d the norm,
    dy_i/dx_j = [i = j]/d - x_i d_j/d^2, where d_j = dd/dx_j: sign(x_j) for L1, x_j/d for L2, 1 at the first largest
    element for MAX. Source: ONNX ML operator spec.
    """
    x = working(x)
    if x.size == 0:
        return result(x)
    with quiet():
        return result(x / _divisor(x, norm))


@normalizer.vjp("x")
def _(ct: Array, x: Array, norm: str) -> Array:
    if x.size == 0:
        return back(ct, x)
    w = working(x)
    with quiet():
        d = _divisor(w, norm)
        inner = np.sum(ct * w, axis=-1, keepdims=True) / (d * d)
        return back(ct / d - _varies(w, norm) * inner * _divisor_slope(w, d, norm), x)


@normalizer.jvp("x")
def _(x_dot: Array, x: Array, norm: str) -> Array:
    if x.size == 0:
        return result(x_dot)
    w = working(x)
    with quiet():
        d = _divisor(w, norm)
        d_dot = np.sum(_varies(w, norm) * _divisor_slope(w, d, norm) * x_dot, axis=-1, keepdims=True)
        return result(x_dot / d - w * d_dot / (d * d))


def _varies(x: Array, norm: str) -> Array:
    """0 for rows of norm 0, whose divisor is the constant 1; else 1."""
    zero = np.max(x, axis=-1, keepdims=True) == 0 if norm == "MAX" else np.all(x == 0, axis=-1, keepdims=True)
    return np.where(zero, x.dtype.type(0), x.dtype.type(1))


@normalizer.infer
def _(x: TensorType) -> TensorType:
    return TensorType("float32", x.shape)


@normalizer.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.uniform(0.3, 2, size=(3, 4)) * rng.choice([-1, 1], size=(3, 4))
    for norm in ("MAX", "L1", "L2"):
        yield (np.abs(x) if norm == "MAX" else x,), {"norm": norm}
        yield (np.array([1.0, 2.0, 4.0]),), {"norm": norm}
        yield Example((np.zeros((2, 3)),), {"norm": norm}, smooth=False)
        yield (np.zeros((0, 3)),), {"norm": norm}
    yield (np.array([[1, 2], [3, -4]]),), {"norm": "L2"}


OPS = (array_feature_extractor, binarizer, feature_vectorizer, imputer, scaler, normalizer)
