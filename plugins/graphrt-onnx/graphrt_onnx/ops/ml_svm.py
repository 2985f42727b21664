"""Support vector machines of ai.onnx.ml.

All kernel values of a batch are one matrix [N, V]; the decisions between pairs of classes are one product of it
with a matrix [pairs, V] that holds each pair's coefficients.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from graphrt.plugin import Array, Example, TensorType
from graphrt_onnx.ops._ml import (
    back,
    constants,
    given,
    labels_of,
    logistic,
    ml,
    quiet,
    result,
    rows_of,
    rows_type,
    transform,
    transform_slope,
    working,
)

KERNELS = ("LINEAR", "POLY", "RBF", "SIGMOID")


class Kernel(NamedTuple):
    """A kernel and its parameters."""

    kind: str
    gamma: float
    coef0: float
    degree: float

    @classmethod
    def of(cls, kind: str, params: tuple[float, ...] | None) -> Kernel:
        """From the attributes kernel_type and kernel_params (gamma, coef0, degree)."""
        if kind not in KERNELS:
            raise ValueError(f"kernel_type is one of {', '.join(KERNELS)}, not {kind!r}")
        return cls(kind, *(given(params) or (0.0, 0.0, 0.0))[:3])

    def values(self, x: Array, vectors: Array) -> Array:
        """k(x_n, v_j): [N, V]."""
        if self.kind == "RBF":
            wide, far = x.astype(np.float64, copy=False), vectors.astype(np.float64, copy=False)  # the sum cancels
            squares = np.sum(wide * wide, axis=1)[:, None] + np.sum(far * far, axis=1) - 2 * np.matmul(wide, far.T)
            return np.exp(-self.gamma * np.maximum(squares, 0)).astype(x.dtype, copy=False)
        products = np.matmul(x, vectors.T)
        if self.kind == "LINEAR":
            return products
        scaled = self.gamma * products + self.coef0
        return np.tanh(scaled) if self.kind == "SIGMOID" else scaled**self.degree

    def slopes(self, x: Array, vectors: Array, values: Array) -> tuple[Array, Array | None]:
        """Factors a [N, V] and b with dk(x, v)/dx = a v + b x; b is None where it is 0."""
        if self.kind == "LINEAR":
            return np.ones_like(values), None
        if self.kind == "RBF":
            a = 2 * self.gamma * values
            return a, -a
        if self.kind == "SIGMOID":
            return self.gamma * (1 - values * values), None
        scaled = self.gamma * np.matmul(x, vectors.T) + self.coef0
        return self.gamma * self.degree * scaled ** (self.degree - 1), None


class Machine(NamedTuple):
    """Decisions = k(x, vectors) weights^T + rho."""

    kernel: Kernel
    vectors: Array
    weights: Array
    rho: Array

    def decisions(self, x: Array) -> Array:
        """[N, D]."""
        if x.shape[1] != self.vectors.shape[1]:
            raise ValueError(f"x has {x.shape[1]} columns, the model is for {self.vectors.shape[1]}")
        return np.matmul(self.kernel.values(x, self.vectors), self.weights.T) + self.rho

    def jvp(self, x_dot: Array, x: Array) -> Array:
        """Tangents of the decisions."""
        a, b = self.kernel.slopes(x, self.vectors, self.kernel.values(x, self.vectors))
        dot = a * np.matmul(x_dot, self.vectors.T)
        if b is not None:
            dot = dot + b * np.sum(x * x_dot, axis=1, keepdims=True)
        return np.matmul(dot, self.weights.T)

    def vjp(self, ct: Array, x: Array) -> Array:
        """The cotangent of x."""
        a, b = self.kernel.slopes(x, self.vectors, self.kernel.values(x, self.vectors))
        ct = np.matmul(ct, self.weights)
        x_ct = np.matmul(ct * a, self.vectors)
        return x_ct if b is None else x_ct + np.sum(ct * b, axis=1, keepdims=True) * x


# ---- SVMRegressor --------------------------------------------------------------------------------------------


def _regressor(
    coefficients: tuple[float, ...], rho: tuple[float, ...] | None, support_vectors: tuple[float, ...] | None,
    n_supports: int, kernel_type: str, kernel_params: tuple[float, ...] | None, dtype: Any,
) -> Machine:  # fmt: skip
    bias = constants((rho or (0.0,))[:1], dtype)
    weights = constants(coefficients, dtype)
    if n_supports <= 0:  # a linear model: the coefficients are the only vector
        return Machine(Kernel.of("LINEAR", None), weights[None], np.ones((1, 1), dtype), bias)
    vectors = constants(support_vectors or (), dtype).reshape(n_supports, -1)
    return Machine(Kernel.of(kernel_type, kernel_params), vectors, weights[None, :n_supports], bias)


def _shown(post_transform: str) -> str:
    return post_transform if post_transform == "PROBIT" else "NONE"


@ml("SVMRegressor")
def svm_regressor(
    x: Array, *, coefficients: tuple[float, ...], rho: tuple[float, ...] | None = None,
    support_vectors: tuple[float, ...] | None = None, n_supports: int = 0, one_class: int = 0,
    kernel_type: str = "LINEAR", kernel_params: tuple[float, ...] | None = None, post_transform: str = "NONE",
) -> Array:  # fmt: skip
    """y = sum_j c_j k(x, v_j) + rho; its sign (1 or -1) if ``one_class``.

    x: number [N, F] or [F] -> y: float32 [N, 1]. Kernels: LINEAR x v, POLY (gamma x v + coef0)^degree, RBF
    exp(-gamma |x - v|^2), SIGMOID tanh(gamma x v + coef0), kernel_params = (gamma, coef0, degree). Without support
    vectors y = c x + rho. Of the transforms only PROBIT changes a single score. The sign has derivative 0.
    Source: ONNX ML operator spec; Chang and Lin, LIBSVM (2011).
    """
    wide = rows_of(working(x))
    machine = _regressor(
        coefficients, rho, support_vectors, n_supports, kernel_type, kernel_params, wide.dtype
    )  # fmt: skip
    y = machine.decisions(wide)
    if one_class:
        return np.where(y > 0, np.float32(1), np.float32(-1))
    return result(transform(y, _shown(post_transform)))


@svm_regressor.vjp("x")
def _(
    ct: Array, x: Array, coefficients: tuple[float, ...], rho: tuple[float, ...] | None,
    support_vectors: tuple[float, ...] | None, n_supports: int, one_class: int, kernel_type: str,
    kernel_params: tuple[float, ...] | None, post_transform: str,
) -> Array | None:  # fmt: skip
    if one_class:
        return None
    wide = rows_of(working(x))
    machine = _regressor(coefficients, rho, support_vectors, n_supports, kernel_type, kernel_params, wide.dtype)
    ct = ct.astype(wide.dtype, copy=False)
    if post_transform == "PROBIT":
        ct = transform_slope(ct, machine.decisions(wide), post_transform)
    return back(machine.vjp(ct, wide).reshape(x.shape), x)


@svm_regressor.jvp("x")
def _(
    x_dot: Array, x: Array, coefficients: tuple[float, ...], rho: tuple[float, ...] | None,
    support_vectors: tuple[float, ...] | None, n_supports: int, one_class: int, kernel_type: str,
    kernel_params: tuple[float, ...] | None, post_transform: str,
) -> Array | None:  # fmt: skip
    if one_class:
        return None
    wide = rows_of(working(x))
    machine = _regressor(coefficients, rho, support_vectors, n_supports, kernel_type, kernel_params, wide.dtype)
    dot = machine.jvp(rows_of(working(x_dot)), wide)
    if post_transform == "PROBIT":
        dot = transform_slope(dot, machine.decisions(wide), post_transform)
    return result(dot)


@svm_regressor.infer
def _(x: TensorType) -> TensorType:
    return rows_type(x, "float32", 1)


@svm_regressor.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(4, 3))
    model: dict[str, Any] = {"coefficients": (0.5, -0.3), "rho": (0.2,), "n_supports": 2}
    model["support_vectors"] = tuple(rng.normal(size=6).tolist())
    for kind in KERNELS:
        yield (x,), {**model, "kernel_type": kind, "kernel_params": (0.4, 0.3, 3.0)}
    yield Example((x,), {**model, "one_class": 1}, smooth=False)
    yield (x[0] / 10,), {"coefficients": (0.1, 0.2, 0.3), "rho": (0.4,), "post_transform": "PROBIT"}
    yield (np.array([[1, 2, 3]]),), {"coefficients": (0.5, 0.2, 0.1)}
    yield (np.zeros((0, 3)),), model


# ---- SVMClassifier -------------------------------------------------------------------------------------------


def _pairs(k: int) -> tuple[Array, Array]:
    """The classes i < j of each pair, in order."""
    return np.triu_indices(k, 1)


def _classifier(
    coefficients: tuple[float, ...], rho: tuple[float, ...], support_vectors: tuple[float, ...] | None,
    vectors_per_class: tuple[int, ...] | None, kernel_type: str, kernel_params: tuple[float, ...] | None,
    labels: int, dtype: Any,
) -> Machine:  # fmt: skip
    """One decision per pair of classes; of a linear model one per class."""
    count = sum(vectors_per_class or ())
    if not count:
        weights = constants(coefficients, dtype).reshape(max(labels, 1), -1)
        return Machine(Kernel.of("LINEAR", None), weights, np.eye(len(weights), dtype=dtype), constants(rho[:1], dtype))
    sizes = np.asarray(vectors_per_class)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    of_class = constants(coefficients, dtype).reshape(-1, count)  # [classes - 1, V]
    i, j = _pairs(len(sizes))
    zero = of_class.dtype.type(0)
    weights = np.where(owner == i[:, None], of_class[j - 1], zero) + np.where(owner == j[:, None], of_class[i], zero)
    vectors = constants(support_vectors or (), dtype).reshape(count, -1)
    return Machine(Kernel.of(kernel_type, kernel_params), vectors, weights, constants(rho, dtype))


def _votes(decisions: Array, k: int) -> Array:
    """[N, k]: how many pairs each class wins."""
    i, j = _pairs(k)
    first, second = np.eye(k)[i], np.eye(k)[j]
    won = decisions > 0
    return np.matmul(won, first) + np.matmul(~won, second)


class Coupling(NamedTuple):
    """Pairwise probabilities r [N, k, k] (r_ij of class i against j) with the slopes to the decisions, and Q."""

    r: Array
    slope: Array
    q: Array


def _coupling(decisions: Array, prob_a: tuple[float, ...], prob_b: tuple[float, ...], k: int) -> Coupling:
    a, b = constants(prob_a, decisions.dtype), constants(prob_b, decisions.dtype)
    raw = logistic(-(decisions * a + b))
    low = decisions.dtype.type(1e-7)
    inside = (raw > low) & (raw < 1 - low)
    slope = np.where(inside, -a * raw * (1 - raw), decisions.dtype.type(0))
    return _coupled(np.clip(raw, low, 1 - low), slope, k)


def _coupled(p: Array, slope: Array, k: int) -> Coupling:
    i, j = _pairs(k)
    first, second = np.eye(k, dtype=p.dtype)[i], np.eye(k, dtype=p.dtype)[j]
    r = np.einsum("np,pi,pj->nij", p, first, second) + np.einsum("np,pi,pj->nji", 1 - p, first, second)
    off = -r * np.swapaxes(r, 1, 2)
    eye = np.eye(k, dtype=p.dtype)
    return Coupling(r, slope, off + eye * np.sum(r * r, axis=1)[:, None, :])


def _class_probabilities(q: Array) -> Array:
    """The iteration of Wu, Lin and Weng with its early stop, each row until it has converged."""
    n, k, _ = q.shape
    p = np.full((n, k), 1 / k, q.dtype)
    running = np.ones((n, 1), bool)
    for _ in range(max(100, k)):
        qp = np.matmul(q, p[:, :, None])[:, :, 0]
        pqp = np.sum(p * qp, axis=1, keepdims=True)
        running = running & (np.max(np.abs(qp - pqp), axis=1, keepdims=True) >= 0.005 / k)
        if not np.any(running):
            break
        moved = p
        for t in range(k):
            at = q[:, t, t][:, None]
            diff = (pqp - qp[:, t : t + 1]) / at
            pqp = (pqp + diff * (diff * at + 2 * qp[:, t : t + 1])) / (1 + diff) ** 2
            moved = (moved + diff * np.eye(k, dtype=q.dtype)[t]) / (1 + diff)
            qp = (qp + diff * q[:, t]) / (1 + diff)
        p = np.where(running, moved, p)
    return p


def _kkt(q: Array) -> Array:
    """[[Q, 1], [1, 0]]: the optimality conditions of min p Q p with sum p = 1."""
    n, k, _ = q.shape
    ones = np.ones((n, k, 1), q.dtype)
    top = np.concatenate([q, ones], axis=2)
    return np.concatenate(
        [top, np.concatenate([np.swapaxes(ones, 1, 2), np.zeros((n, 1, 1), q.dtype)], axis=2)], axis=1
    )


def _probabilities_jvp(dot: Array, c: Coupling, p: Array) -> Array:
    k = p.shape[1]
    p_dot = dot * c.slope
    i, j = _pairs(k)
    first, second = np.eye(k, dtype=p.dtype)[i], np.eye(k, dtype=p.dtype)[j]
    r_dot = np.einsum("np,pi,pj->nij", p_dot, first, second) - np.einsum("np,pi,pj->nji", p_dot, first, second)
    off = -(r_dot * np.swapaxes(c.r, 1, 2) + c.r * np.swapaxes(r_dot, 1, 2))
    q_dot = off + np.eye(k, dtype=p.dtype) * np.sum(2 * c.r * r_dot, axis=1)[:, None, :]
    right = -np.matmul(q_dot, p[:, :, None])
    right = np.concatenate([right, np.zeros_like(right[:, :1])], axis=1)
    return np.linalg.solve(_kkt(c.q), right)[:, :k, 0]


def _probabilities_vjp(ct: Array, c: Coupling, p: Array) -> Array:
    k = p.shape[1]
    right = np.concatenate([ct, np.zeros_like(ct[:, :1])], axis=1)[:, :, None]
    weight = np.linalg.solve(_kkt(c.q), right)[:, :k]
    q_ct = -weight * p[:, None, :]
    diagonal = np.sum(q_ct * np.eye(k, dtype=p.dtype), axis=2)
    off = (q_ct + np.swapaxes(q_ct, 1, 2)) * (1 - np.eye(k, dtype=p.dtype))
    r_ct = 2 * c.r * diagonal[:, None, :] - off * np.swapaxes(c.r, 1, 2)
    i, j = _pairs(k)
    return (r_ct[:, i, j] - r_ct[:, j, i]) * c.slope


def _columns(s: Array, kind: str) -> Array:
    """A single decision s as two columns."""
    if kind == "LOGISTIC":
        return np.concatenate([logistic(-s), logistic(s)], axis=1)
    s = transform(s, _shown(kind))
    return np.concatenate([-s if kind == "NONE" else 1 - s, s], axis=1)


@ml("SVMClassifier", outputs=("y", "z"))
def svm_classifier(
    x: Array, *, coefficients: tuple[float, ...], rho: tuple[float, ...],
    support_vectors: tuple[float, ...] | None = None, vectors_per_class: tuple[int, ...] | None = None,
    classlabels_ints: tuple[int, ...] | None = None, classlabels_strings: tuple[str, ...] | None = None,
    prob_a: tuple[float, ...] | None = None, prob_b: tuple[float, ...] | None = None, kernel_type: str = "LINEAR",
    kernel_params: tuple[float, ...] | None = None, post_transform: str = "NONE",
) -> tuple[Array, Array]:  # fmt: skip
    """One decision d per pair of classes; the class that wins most pairs; scores or probabilities.

    x: number [N, F] or [F] -> y: int64 or string [N]; z: float32 [N, k] probabilities if prob_a and prob_b are
    given, else the decisions [N, k(k-1)/2] (of two classes: [-d, d]; LOGISTIC: of both), through the transform.
    d_ij = sum of c_v k(x, v) over both classes' vectors + rho, i wins if d_ij > 0, the first of equal counts wins.
    Probabilities couple r_ij = 1/(1 + exp(a d + b)) (Wu, Lin and Weng 2004; stops at 0.005/k); their derivative is
    that of the exact solution. Without vectors_per_class a linear model with one score per class, of which the
    largest wins. z is differentiable. Source: ONNX ML operator spec; LIBSVM.
    """
    wide = rows_of(working(x))
    labels = given(classlabels_strings, classlabels_ints) or ()
    machine = _classifier(
        coefficients, rho, support_vectors, vectors_per_class, kernel_type, kernel_params, len(labels), wide.dtype
    )
    d = machine.decisions(wide)
    k = len(vectors_per_class or ())
    index = np.argmax(_votes(d, k) if k else d, axis=1)
    y = labels_of(index, classlabels_ints, classlabels_strings)
    if k and given(prob_a) is not None:
        p = _class_probabilities(_coupling(d, prob_a or (), prob_b or (), k).q)
        return y, result(transform(p, post_transform))
    if d.shape[1] == 1:
        return y, result(_columns(d, post_transform) if k else transform(d, _shown(post_transform)))
    return y, result(transform(d, post_transform))


@svm_classifier.vjp("x")
def _(
    ct_z: Array | None, x: Array, coefficients: tuple[float, ...], rho: tuple[float, ...],
    support_vectors: tuple[float, ...] | None, vectors_per_class: tuple[int, ...] | None,
    classlabels_ints: tuple[int, ...] | None, classlabels_strings: tuple[str, ...] | None,
    prob_a: tuple[float, ...] | None, prob_b: tuple[float, ...] | None, kernel_type: str,
    kernel_params: tuple[float, ...] | None, post_transform: str,
) -> Array | None:  # fmt: skip
    if ct_z is None:
        return None
    wide = rows_of(working(x))
    labels = given(classlabels_strings, classlabels_ints) or ()
    machine = _classifier(
        coefficients, rho, support_vectors, vectors_per_class, kernel_type, kernel_params, len(labels), wide.dtype
    )
    d, k, ct = machine.decisions(wide), len(vectors_per_class or ()), ct_z.astype(wide.dtype, copy=False)
    if k and given(prob_a) is not None:
        coupling = _coupling(d, prob_a or (), prob_b or (), k)
        p = _class_probabilities(coupling.q)
        d_ct = _probabilities_vjp(transform_slope(ct, p, post_transform), coupling, p)
    elif d.shape[1] == 1:
        kind = post_transform if k and post_transform == "LOGISTIC" else _shown(post_transform)
        with quiet():
            d_ct = transform_slope(ct[:, 1:] - ct[:, :1] if k else ct, d, kind)
    else:
        d_ct = transform_slope(ct, d, post_transform)
    return back(machine.vjp(d_ct, wide).reshape(x.shape), x)


@svm_classifier.jvp("x")
def _(
    x_dot: Array, x: Array, coefficients: tuple[float, ...], rho: tuple[float, ...],
    support_vectors: tuple[float, ...] | None, vectors_per_class: tuple[int, ...] | None,
    classlabels_ints: tuple[int, ...] | None, classlabels_strings: tuple[str, ...] | None,
    prob_a: tuple[float, ...] | None, prob_b: tuple[float, ...] | None, kernel_type: str,
    kernel_params: tuple[float, ...] | None, post_transform: str,
) -> Any:  # fmt: skip
    wide = rows_of(working(x))
    labels = given(classlabels_strings, classlabels_ints) or ()
    machine = _classifier(
        coefficients, rho, support_vectors, vectors_per_class, kernel_type, kernel_params, len(labels), wide.dtype
    )
    d, k, dot = machine.decisions(wide), len(vectors_per_class or ()), machine.jvp(rows_of(working(x_dot)), wide)
    if k and given(prob_a) is not None:
        coupling = _coupling(d, prob_a or (), prob_b or (), k)
        p = _class_probabilities(coupling.q)
        return None, result(transform_slope(_probabilities_jvp(dot, coupling, p), p, post_transform))
    if d.shape[1] == 1:
        kind = post_transform if k and post_transform == "LOGISTIC" else _shown(post_transform)
        with quiet():
            dot = transform_slope(dot, d, kind)
        return None, result(np.concatenate([-dot, dot], axis=1) if k else dot)
    return None, result(transform_slope(dot, d, post_transform))


@svm_classifier.infer
def _(
    x: TensorType, vectors_per_class: tuple[int, ...] | None, classlabels_ints: tuple[int, ...] | None,
    classlabels_strings: tuple[str, ...] | None, prob_a: tuple[float, ...] | None,
) -> Any:  # fmt: skip
    k = len(vectors_per_class or ())
    columns = max(len(given(classlabels_strings, classlabels_ints) or ()), 1)
    if k:
        columns = k if given(prob_a) is not None or k == 2 else k * (k - 1) // 2
    z = rows_type(x, "float32", columns)
    kind = "string" if given(classlabels_strings) is not None else "int64"
    return TensorType(kind, None if z.shape is None else z.shape[:1]), z


@svm_classifier.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(4, 3))

    def draw(n: int) -> tuple[float, ...]:
        return tuple(rng.normal(size=n).tolist())

    two: dict[str, Any] = {
        "coefficients": draw(4),
        "rho": (0.1,),
        "support_vectors": draw(12),
        "vectors_per_class": (2, 2),
    }
    two["classlabels_ints"] = (5, 6)
    three: dict[str, Any] = {"coefficients": draw(8), "rho": draw(3), "support_vectors": draw(12)}
    three |= {"vectors_per_class": (2, 1, 1), "classlabels_strings": ("a", "b", "c")}
    for kind in KERNELS:
        kernel: dict[str, Any] = {"kernel_type": kind, "kernel_params": (0.4, 0.3, 3.0)}
        yield (x,), {**two, **kernel}
        yield (x,), {**three, **kernel, "prob_a": (-1.0, -0.5, -0.7), "prob_b": (0.1, 0.0, -0.1)}
    for kind in ("LOGISTIC", "SOFTMAX"):
        yield (x,), {**two, "post_transform": kind}
        yield (x,), {**three, "post_transform": kind}
        yield (x,), {**two, "prob_a": (-1.0,), "prob_b": (0.2,), "post_transform": kind}
    yield (x[0],), {"coefficients": draw(6), "rho": (0.3,), "classlabels_ints": (5, 6)}
    yield (np.zeros((0, 3)),), two
    yield (np.array([[1, 0, 2]]),), three


OPS = (svm_regressor, svm_classifier)
