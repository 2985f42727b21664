"""Linear models of ai.onnx.ml."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.plugin import Array, Example, TensorType
from graphrt_onnx.ops._ml import (
    back,
    constants,
    given,
    labels_of,
    logistic,
    ml,
    result,
    rows_of,
    rows_type,
    transform,
    transform_slope,
    working,
)

_UNTOUCHED = ("LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO")


def _weights(coefficients: tuple[float, ...], outputs: int, dtype: Any) -> Array:
    """[outputs, F]."""
    if outputs < 1 or len(coefficients) % outputs:
        raise ValueError(f"{len(coefficients)} coefficients do not divide into {outputs} outputs")
    return constants(coefficients, dtype).reshape(outputs, -1)


def _scores(x: Array, weights: Array, intercepts: tuple[float, ...] | None) -> Array:
    if x.shape[1] != weights.shape[1]:
        raise ValueError(f"x has {x.shape[1]} columns, the coefficients are for {weights.shape[1]}")
    scores = np.matmul(x, weights.T)
    return scores if given(intercepts) is None else scores + constants(intercepts, scores.dtype)


# ---- LinearRegressor -----------------------------------------------------------------------------------------


def _regressor_kind(post_transform: str, targets: int) -> str:
    """A single target passes all transforms but PROBIT unchanged."""
    return "NONE" if targets == 1 and post_transform in _UNTOUCHED else post_transform


@ml("LinearRegressor")
def linear_regressor(
    x: Array, *, coefficients: tuple[float, ...], intercepts: tuple[float, ...] | None = None,
    post_transform: str = "NONE", targets: int = 1,
) -> Array:  # fmt: skip
    """y = transform(x W^T + b).

    x: number [N, F] or [F]; coefficients: W, row after row, [targets, F]; intercepts: b [targets] -> y: float32
    [N, targets]. With a single target only PROBIT transforms. dy/dx = J W, with J the transform's Jacobian.
    Source: ONNX ML operator spec; the single target as in onnxruntime.
    """
    wide = rows_of(working(x))
    scores = _scores(wide, _weights(coefficients, targets, wide.dtype), intercepts)
    return result(transform(scores, _regressor_kind(post_transform, targets)))


@linear_regressor.vjp("x")
def _(
    ct: Array, x: Array, coefficients: tuple[float, ...], intercepts: tuple[float, ...] | None, post_transform: str,
    targets: int,
) -> Array:  # fmt: skip
    wide, kind = rows_of(working(x)), _regressor_kind(post_transform, targets)
    weights = _weights(coefficients, targets, wide.dtype)
    ct = transform_slope(ct.astype(wide.dtype, copy=False), _scores(wide, weights, intercepts), kind)
    return back(np.matmul(ct, weights).reshape(x.shape), x)


@linear_regressor.jvp("x")
def _(
    x_dot: Array, x: Array, coefficients: tuple[float, ...], intercepts: tuple[float, ...] | None,
    post_transform: str, targets: int,
) -> Array:  # fmt: skip
    wide, kind = rows_of(working(x)), _regressor_kind(post_transform, targets)
    weights = _weights(coefficients, targets, wide.dtype)
    dot = np.matmul(rows_of(working(x_dot)), weights.T)
    return result(transform_slope(dot, _scores(wide, weights, intercepts), kind))


@linear_regressor.infer
def _(x: TensorType, targets: int) -> TensorType:
    return rows_type(x, "float32", targets)


@linear_regressor.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    w = tuple(rng.uniform(0.1, 0.3, size=6).tolist())
    x = rng.uniform(0.1, 0.5, size=(4, 3))
    yield (x,), {"coefficients": w[:3]}
    yield (x[0],), {"coefficients": w[:3], "post_transform": "LOGISTIC"}
    for kind in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
        yield (x,), {"coefficients": w, "intercepts": (0.1, 0.2), "targets": 2, "post_transform": kind}
    yield (np.array([[1, 2, 3]]),), {"coefficients": w[:3], "intercepts": (1.0,)}
    yield (np.zeros((0, 3)),), {"coefficients": w, "targets": 2}


# ---- LinearClassifier ----------------------------------------------------------------------------------------


def _class_count(ints: Any, strings: Any, intercepts: Any, coefficients: Any, features: int) -> int:
    if given(intercepts) is not None:
        return len(intercepts)
    return max(1, len(coefficients) // max(features, 1) if features else len(given(strings, ints) or (0,)))


def _final(scores: Array, kind: str, two: bool) -> Array:
    """The scores as they are shown; a single score with two labels becomes two columns."""
    if not two:
        return scores if scores.shape[1] == 1 and kind in _UNTOUCHED else transform(scores, kind)
    if kind == "LOGISTIC":
        return np.concatenate([logistic(-scores), logistic(scores)], axis=1)
    shown = transform(scores, kind) if kind == "PROBIT" else scores
    return np.concatenate([1 - shown, shown], axis=1)


def _final_jvp(dot: Array, scores: Array, kind: str, two: bool) -> Array:
    if not two:
        return dot if scores.shape[1] == 1 and kind in _UNTOUCHED else transform_slope(dot, scores, kind)
    slope = transform_slope(dot, scores, kind) if kind in ("LOGISTIC", "PROBIT") else dot
    return np.concatenate([-slope, slope], axis=1)


def _final_vjp(ct: Array, scores: Array, kind: str, two: bool) -> Array:
    if not two:
        return _final_jvp(ct, scores, kind, two)
    ct = ct[:, 1:] - ct[:, :1]
    return transform_slope(ct, scores, kind) if kind in ("LOGISTIC", "PROBIT") else ct


@ml("LinearClassifier", outputs=("y", "z"))
def linear_classifier(
    x: Array, *, coefficients: tuple[float, ...], intercepts: tuple[float, ...] | None = None,
    classlabels_ints: tuple[int, ...] | None = None, classlabels_strings: tuple[str, ...] | None = None,
    multi_class: int = 0, post_transform: str = "NONE",
) -> tuple[Array, Array]:  # fmt: skip
    """Scores s = x W^T + b, the label of the largest, and the transformed scores.

    x: number [N, F] or [F]; coefficients: W, row after row, [E, F]; intercepts: b [E] -> y: int64 or string [N];
    z: float32 [N, E]. One score s with two labels: the second label where s > 0, and z = [1-s, s] (LOGISTIC:
    [1/(1+e^s), 1/(1+e^-s)]). ``multi_class`` changes nothing. Ties go to the first label. z is differentiable.
    Source: ONNX ML operator spec; the two columns as in onnxruntime.
    """
    wide = rows_of(working(x))
    count = _class_count(classlabels_ints, classlabels_strings, intercepts, coefficients, wide.shape[1])
    labels = given(classlabels_strings, classlabels_ints)
    scores = _scores(wide, _weights(coefficients, count, wide.dtype), intercepts)
    index = np.argmax(scores, axis=1) if count > 1 else (scores[:, 0] > 0).astype(np.int64)
    if labels is not None and len(labels) < max(count, 2):
        raise ValueError(f"{len(labels)} labels for {max(count, 2)} classes")
    z = result(_final(scores, post_transform, count == 1 and labels is not None))
    return labels_of(index, classlabels_ints, classlabels_strings), z


@linear_classifier.vjp("x")
def _(
    ct_z: Array | None, x: Array, coefficients: tuple[float, ...], intercepts: tuple[float, ...] | None,
    classlabels_ints: tuple[int, ...] | None, classlabels_strings: tuple[str, ...] | None, post_transform: str,
) -> Array | None:  # fmt: skip
    if ct_z is None:
        return None
    wide = rows_of(working(x))
    count = _class_count(classlabels_ints, classlabels_strings, intercepts, coefficients, wide.shape[1])
    weights = _weights(coefficients, count, wide.dtype)
    two = count == 1 and given(classlabels_strings, classlabels_ints) is not None
    ct = _final_vjp(ct_z.astype(wide.dtype, copy=False), _scores(wide, weights, intercepts), post_transform, two)
    return back(np.matmul(ct, weights).reshape(x.shape), x)


@linear_classifier.jvp("x")
def _(
    x_dot: Array, x: Array, coefficients: tuple[float, ...], intercepts: tuple[float, ...] | None,
    classlabels_ints: tuple[int, ...] | None, classlabels_strings: tuple[str, ...] | None, post_transform: str,
) -> Any:  # fmt: skip
    wide = rows_of(working(x))
    count = _class_count(classlabels_ints, classlabels_strings, intercepts, coefficients, wide.shape[1])
    weights = _weights(coefficients, count, wide.dtype)
    two = count == 1 and given(classlabels_strings, classlabels_ints) is not None
    dot = np.matmul(rows_of(working(x_dot)), weights.T)
    return None, result(_final_jvp(dot, _scores(wide, weights, intercepts), post_transform, two))


@linear_classifier.infer
def _(
    x: TensorType, coefficients: tuple[float, ...], intercepts: tuple[float, ...] | None,
    classlabels_ints: tuple[int, ...] | None, classlabels_strings: tuple[str, ...] | None,
) -> Any:  # fmt: skip
    labels = given(classlabels_strings, classlabels_ints)
    columns: int | None = None if given(intercepts) is None else len(intercepts or ())
    if columns is None and x.shape and isinstance(x.shape[-1], int):
        columns = _class_count(classlabels_ints, classlabels_strings, intercepts, coefficients, x.shape[-1])
    columns = 2 if columns == 1 and labels is not None else columns
    z = rows_type(x, "float32", columns)
    kind = "string" if given(classlabels_strings) is not None else "int64"
    return TensorType(kind, None if z.shape is None else z.shape[:1]), z


@linear_classifier.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    w = tuple(rng.uniform(0.1, 0.3, size=9).tolist())
    x = rng.uniform(0.1, 0.5, size=(4, 3))
    for kind in ("NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"):
        many = {"coefficients": w, "intercepts": (0.1, 0.2, 0.15), "post_transform": kind}
        yield (x,), {**many, "classlabels_ints": (3, 4, 5)}
        yield (
            (x,),
            {"coefficients": w[:3], "intercepts": (0.1,), "classlabels_strings": ("n", "y"), "post_transform": kind},
        )
        yield (x,), {"coefficients": w[:3], "intercepts": (0.1,), "post_transform": kind}
    yield (x[0],), {"coefficients": w, "classlabels_strings": ("a", "b", "c")}
    yield (np.array([[1, 2, 3]]),), {"coefficients": w, "intercepts": (0.0, 0.0, 0.0)}
    yield Example((np.zeros((0, 3)),), {"coefficients": w, "intercepts": (0.0, 0.0, 0.0)})


OPS = (linear_regressor, linear_classifier)
