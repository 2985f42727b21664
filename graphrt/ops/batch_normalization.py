"""BatchNormalization in its several schema versions: inference with given statistics, training with the batch's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np

from graphrt.ir import NameScope, Node
from graphrt.op import Array, op, unbroadcast
from graphrt.ops._math import quiet
from graphrt.ops._standardize import Standardized, standardize, standardize_tangent
from graphrt.ops._windows import wide
from graphrt.types import TensorType, is_differentiable

Ints: TypeAlias = tuple[int, ...]


def _per_channel(p: Array, x: Array) -> Array:
    """A parameter [C] (or [C, *S], statistics per position) in a shape that broadcasts against x [N, C, *S]."""
    if x.ndim == 1 or (p.ndim > 1 and p.shape == x.shape[1:]):
        return p.reshape(1, *p.shape[1:]) if x.ndim == 1 else p[None]
    if p.shape != x.shape[1:2]:
        raise ValueError(f"a parameter of shape {p.shape} does not fit the {x.shape[1]} channels of x {x.shape}")
    return p.reshape(-1, *(1,) * (x.ndim - 2))


def _axes(p: Array, x: Array) -> Ints:
    return (0,) if x.ndim == 1 or p.ndim > 1 else (0, *range(2, x.ndim))


def _sum_like(ct: Array, p: Array, x: Array) -> Array:
    """Sums [N, C, *S] to the shape and dtype of the parameter p."""
    return unbroadcast(ct, _per_channel(p, x)).reshape(p.shape).astype(p.dtype, copy=False)


def _batch(x: Array, p: Array, epsilon: float) -> tuple[Standardized, Ints, int]:
    axes = _axes(p, x)
    return standardize(wide(x), axes, epsilon), axes, max(math.prod(x.shape[a] for a in axes), 1)


def _inference(x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float) -> Array:
    scale, b, mean, var = (wide(_per_channel(p, x)) for p in (scale, b, mean, var))
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = scale / np.sqrt(var + epsilon)
        return ((wide(x) - mean) * factor + b).astype(x.dtype, copy=False)


def _training(
    x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float, momentum: float
) -> tuple[Array, ...]:
    """y, running mean and variance, the batch's mean and variance."""
    stats, _, _ = _batch(x, mean, epsilon)
    y = stats.xhat * wide(_per_channel(scale, x)) + wide(_per_channel(b, x))
    batch = [s.reshape(p.shape) for s, p in ((stats.mean, mean), (stats.var, var))]
    running = [
        (wide(p) * momentum + s * (1 - momentum)).astype(p.dtype, copy=False)
        for p, s in zip((mean, var), batch, strict=True)
    ]
    return (y.astype(x.dtype, copy=False), *running, *(s.astype(mean.dtype, copy=False) for s in batch))


def _inference_vjp(
    ct: Array | None, x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float
) -> tuple[Any, ...]:
    """Cotangents of x, scale, b, mean, var."""
    if ct is None:
        return (None,) * 5
    s, m, v = (wide(_per_channel(p, x)) for p in (scale, mean, var))
    inv, ct = 1 / np.sqrt(v + epsilon), wide(ct)
    along_scale = ct * ((wide(x) - m) * inv)
    x_ct = ct * (s * inv)
    return (
        x_ct.astype(x.dtype, copy=False),
        _sum_like(along_scale, scale, x),
        _sum_like(ct, b, x),
        _sum_like(-x_ct, mean, x),
        _sum_like(along_scale * (s * inv * inv / -2), var, x),
    )


def _training_vjp(
    ct: Array | None, ct_running: tuple[Array | None, Array | None], ct_saved: tuple[Array | None, Array | None],
    x: Array, scale: Array, b: Array, mean: Array, var: Array, epsilon: float, momentum: float,
) -> tuple[Any, ...]:  # fmt: skip
    """Cotangents of x, scale, b, mean, var from those of all outputs."""
    stats, axes, count = _batch(x, mean, epsilon)
    ct = np.zeros(x.shape, stats.xhat.dtype) if ct is None else wide(ct)
    x_ct = standardize_tangent(ct * wide(_per_channel(scale, x)), stats.xhat, stats.inv, axes)
    through_mean, through_var = (_through_batch(r, s, momentum) for r, s in zip(ct_running, ct_saved, strict=True))
    if through_mean is not None:
        x_ct = x_ct + _per_channel(through_mean, x) / count
    if through_var is not None:
        x_ct = x_ct + _per_channel(through_var, x) * (stats.xhat / stats.inv) * (2 / count)
    back = [None if c is None else (wide(c) * momentum).astype(c.dtype, copy=False) for c in ct_running]
    return (
        x_ct.astype(x.dtype, copy=False), _sum_like(ct * stats.xhat, scale, x), _sum_like(ct, b, x), *back,
    )  # fmt: skip


def _through_batch(ct_running: Array | None, ct_saved: Array | None, momentum: float) -> Array | None:
    parts = [] if ct_running is None else [wide(ct_running) * (1 - momentum)]
    parts += [] if ct_saved is None else [wide(ct_saved)]
    return sum(parts[1:], parts[0]) if parts else None


def _inference_jvp(dots: Any, x: Array, scale: Array, mean: Array, var: Array, epsilon: float) -> Array:
    x_dot, scale_dot, b_dot, mean_dot, var_dot = (None if d is None else wide(d) for d in dots)
    s, m, v = (wide(_per_channel(p, x)) for p in (scale, mean, var))
    inv = 1 / np.sqrt(v + epsilon)
    y_dot = np.zeros(x.shape, inv.dtype) if x_dot is None else x_dot * (s * inv)
    centered = wide(x) - m
    for dot, factor in (
        (scale_dot, centered * inv), (b_dot, 1), (mean_dot, -s * inv), (var_dot, centered * (s * inv**3 / -2)),
    ):  # fmt: skip
        if dot is not None:
            y_dot = y_dot + _per_channel(dot, x) * factor
    return y_dot.astype(x.dtype, copy=False)


def _training_jvp(dots: Any, x: Array, scale: Array, mean: Array, epsilon: float, momentum: float) -> tuple[Array, ...]:
    x_dot, scale_dot, b_dot, *running_dots = (None if d is None else wide(d) for d in dots)
    stats, axes, _ = _batch(x, mean, epsilon)
    v = np.zeros(x.shape, stats.xhat.dtype) if x_dot is None else x_dot
    y_dot = standardize_tangent(v, stats.xhat, stats.inv, axes) * wide(_per_channel(scale, x))
    if scale_dot is not None:
        y_dot = y_dot + _per_channel(scale_dot, x) * stats.xhat
    if b_dot is not None:
        y_dot = y_dot + _per_channel(b_dot, x)
    count = max(math.prod(x.shape[a] for a in axes), 1)
    batch = [np.sum(v, axis=axes) / count, np.sum(v * (stats.xhat / stats.inv), axis=axes) * (2 / count)]
    batch = [d.reshape(mean.shape) for d in batch]
    running = [
        d * (1 - momentum) + (0 if given is None else given * momentum)
        for d, given in zip(batch, running_dots, strict=True)
    ]
    return (y_dot.astype(x.dtype, copy=False), *(d.astype(mean.dtype, copy=False) for d in (*running, *batch)))


def _types(x: TensorType, scale: TensorType, mean: TensorType, n_outputs: int) -> tuple[TensorType, ...]:
    if not is_differentiable(x.dtype):
        raise ValueError(f"x is {x.dtype}; batch normalization takes floats")
    if x.shape is not None and scale.shape is not None and len(x.shape) > 1 and len(scale.shape) == 1:
        c, s = x.shape[1], scale.shape[0]
        if isinstance(c, int) and isinstance(s, int) and c != s:
            raise ValueError(f"x has {c} channels, scale has {s} entries")
    shape = mean.shape if mean.shape is not None else scale.shape
    return (x, *(TensorType(mean.dtype, shape) for _ in range(n_outputs - 1)))


def _draw(rng: np.random.Generator, *shape: int) -> tuple[Array, ...]:
    c = shape[1] if len(shape) > 1 else 1
    draw = rng.normal
    return draw(size=shape), draw(size=c), draw(size=c), draw(size=c), rng.uniform(0.5, 2, c)


# ---- opset 14 and later ------------------------------------------------------------------------------------


@op("BatchNormalization", version=14, outputs=("y", "running_mean", "running_var"))
def batch_normalization(
    x: Array, scale: Array, b: Array, input_mean: Array, input_var: Array, *,
    epsilon: float = 1e-5, momentum: float = 0.9, training_mode: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    """Normalizes each channel to zero mean and unit variance, then scales and shifts it.

    x: float [N, C, *S] (or [N], one channel); scale, b, input_mean, input_var: float [C] -> y: float like x;
    running_mean, running_var: float [C], None unless ``training_mode``.
    y = (x - mean) / sqrt(var + epsilon) * scale + b with the given statistics, or in training the batch's own over
    N and S (var divides by their number); running = input * momentum + batch * (1 - momentum).
    In training dy/dx goes through mean and var too: inv * scale * (ct - <ct> - xhat <ct xhat>).
    16-bit floats are computed in float32. Source: ONNX operator spec; Ioffe and Szegedy 2015.
    """
    with quiet():
        if training_mode:
            return _training(x, scale, b, input_mean, input_var, epsilon, momentum)[:3]
        return _inference(x, scale, b, input_mean, input_var, epsilon), None, None


@batch_normalization.vjp("x", "scale", "b", "input_mean", "input_var")
def _(
    ct: Array | None, ct_running_mean: Array | None, ct_running_var: Array | None, x: Array, scale: Array,
    b_like: Array, input_mean: Array, input_var: Array, epsilon: float, momentum: float, training_mode: int,
) -> Any:  # fmt: skip
    with quiet():
        given = x, scale, b_like, input_mean, input_var, epsilon
        if training_mode:
            return _training_vjp(ct, (ct_running_mean, ct_running_var), (None, None), *given, momentum)
        return _inference_vjp(ct, *given)


@batch_normalization.jvp("x", "scale", "b", "input_mean", "input_var")
def _(
    x_dot: Array | None, scale_dot: Array | None, b_dot: Array | None, input_mean_dot: Array | None,
    input_var_dot: Array | None, x: Array, scale: Array, input_mean: Array, input_var: Array, epsilon: float,
    momentum: float, training_mode: int,
) -> Any:  # fmt: skip
    with quiet():
        dots = x_dot, scale_dot, b_dot, input_mean_dot, input_var_dot
        if training_mode:
            return _training_jvp(dots, x, scale, input_mean, epsilon, momentum)[:3]
        return _inference_jvp(dots, x, scale, input_mean, input_var, epsilon), None, None


@batch_normalization.infer
def _(x: TensorType, scale: TensorType, input_mean: TensorType, n_outputs: int) -> Any:
    return _types(x, scale, input_mean, n_outputs)


@batch_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for shape in ((3, 2, 4, 3), (4, 3), (2, 3, 5), (5,)):
        yield _draw(rng, *shape), {}
        yield _draw(rng, *shape), {"training_mode": 1, "momentum": 0.7, "epsilon": 1e-3}
    yield _draw(rng, 0, 2, 3), {}


@batch_normalization.mode
def _(node: Node, training: bool, scope: NameScope) -> Any:
    """In training the node also gives the next running statistics, if the statistics are the graph's own."""
    attributes = {**node.attributes, "training_mode": int(training)}
    return _switched(node, training, scope, attributes)


def _switched(
    node: Node, training: bool, scope: NameScope, attributes: dict[str, Any]
) -> tuple[list[Node], dict[str, str]]:
    """The node in another mode, and the updates of its running mean and variance."""
    outputs = node.outputs[:1]
    if training:
        named = (*node.outputs[1:3], "", "")[:2]
        outputs += tuple(o or scope.fresh(f"{i}.next") for o, i in zip(named, node.inputs[3:5], strict=True))
    same = dict(node.attributes) == attributes and node.outputs == outputs
    made = node if same else Node(node.op_type, node.inputs, outputs, attributes, node.domain, node.name)
    return [made], dict(zip(node.inputs[3:5], outputs[1:], strict=True)) if training else {}


# ---- opsets 6 to 13 ----------------------------------------------------------------------------------------

_FIVE = ("y", "running_mean", "running_var", "saved_mean", "saved_var")


@op("BatchNormalization", version=7, outputs=_FIVE)
def batch_normalization_7(
    x: Array, scale: Array, b: Array, input_mean: Array, input_var: Array, *,
    epsilon: float = 1e-5, momentum: float = 0.9, spatial: int = 1, n_outputs: int = 1,
) -> tuple[Array, ...]:  # fmt: skip
    """`BatchNormalization` of opsets 7 to 13: a node that names more than one output trains.

    As version 14, with two more outputs saved_mean, saved_var: float [C], the batch's own statistics.
    ``spatial=0`` (before opset 9) takes parameters [C, *S] and normalizes each position over N alone.
    Source: ONNX operator spec.
    """
    with quiet():
        if n_outputs > 1:
            return _training(x, scale, b, input_mean, input_var, epsilon, momentum)
        return _inference(x, scale, b, input_mean, input_var, epsilon), None, None, None, None


@batch_normalization_7.vjp("x", "scale", "b", "input_mean", "input_var")
def _(
    ct: Array | None, ct_running_mean: Array | None, ct_running_var: Array | None, ct_saved_mean: Array | None,
    ct_saved_var: Array | None, x: Array, scale: Array, b_like: Array, input_mean: Array, input_var: Array,
    epsilon: float, momentum: float, n_outputs: int,
) -> Any:  # fmt: skip
    with quiet():
        given = x, scale, b_like, input_mean, input_var, epsilon
        if n_outputs > 1:
            saved = ct_saved_mean, ct_saved_var
            return _training_vjp(ct, (ct_running_mean, ct_running_var), saved, *given, momentum)
        return _inference_vjp(ct, *given)


@batch_normalization_7.jvp("x", "scale", "b", "input_mean", "input_var")
def _(
    x_dot: Array | None, scale_dot: Array | None, b_dot: Array | None, input_mean_dot: Array | None,
    input_var_dot: Array | None, x: Array, scale: Array, input_mean: Array, input_var: Array, epsilon: float,
    momentum: float, n_outputs: int,
) -> Any:  # fmt: skip
    with quiet():
        dots = x_dot, scale_dot, b_dot, input_mean_dot, input_var_dot
        if n_outputs > 1:
            return _training_jvp(dots, x, scale, input_mean, epsilon, momentum)
        return _inference_jvp(dots, x, scale, input_mean, input_var, epsilon), None, None, None, None


@batch_normalization_7.infer
def _(x: TensorType, scale: TensorType, input_mean: TensorType, n_outputs: int) -> Any:
    return _types(x, scale, input_mean, n_outputs)


@batch_normalization_7.mode
def _(node: Node, training: bool, scope: NameScope) -> Any:
    return _switched(node, training, scope, dict(node.attributes))


@batch_normalization_7.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield _draw(rng, 3, 2, 4, 3), {}
    yield _draw(rng, 3, 2, 4, 3), {"n_outputs": 1, "epsilon": 0.1}
    x = rng.normal(size=(4, 2, 3))
    p = [rng.normal(size=(2, 3)) for _ in range(3)]
    yield (x, *p, rng.uniform(0.5, 2, (2, 3))), {"spatial": 0}
    yield (x, *p, rng.uniform(0.5, 2, (2, 3))), {"spatial": 0, "n_outputs": 1}


@op("BatchNormalization", version=6, outputs=_FIVE)
def batch_normalization_6(
    x: Array, scale: Array, b: Array, input_mean: Array, input_var: Array, *,
    epsilon: float = 1e-5, is_test: int = 0, momentum: float = 0.9, spatial: int = 1,
) -> tuple[Array, ...]:  # fmt: skip
    """`BatchNormalization` of opset 6: trains unless ``is_test``; else as version 7. Source: ONNX operator spec."""
    with quiet():
        if is_test:
            return _inference(x, scale, b, input_mean, input_var, epsilon), None, None, None, None
        return _training(x, scale, b, input_mean, input_var, epsilon, momentum)


@batch_normalization_6.vjp("x", "scale", "b", "input_mean", "input_var")
def _(
    ct: Array | None, ct_running_mean: Array | None, ct_running_var: Array | None, ct_saved_mean: Array | None,
    ct_saved_var: Array | None, x: Array, scale: Array, b_like: Array, input_mean: Array, input_var: Array,
    epsilon: float, is_test: int, momentum: float,
) -> Any:  # fmt: skip
    with quiet():
        given = x, scale, b_like, input_mean, input_var, epsilon
        if is_test:
            return _inference_vjp(ct, *given)
        saved = ct_saved_mean, ct_saved_var
        return _training_vjp(ct, (ct_running_mean, ct_running_var), saved, *given, momentum)


@batch_normalization_6.jvp("x", "scale", "b", "input_mean", "input_var")
def _(
    x_dot: Array | None, scale_dot: Array | None, b_dot: Array | None, input_mean_dot: Array | None,
    input_var_dot: Array | None, x: Array, scale: Array, input_mean: Array, input_var: Array, epsilon: float,
    is_test: int, momentum: float,
) -> Any:  # fmt: skip
    with quiet():
        dots = x_dot, scale_dot, b_dot, input_mean_dot, input_var_dot
        if is_test:
            return _inference_jvp(dots, x, scale, input_mean, input_var, epsilon), None, None, None, None
        return _training_jvp(dots, x, scale, input_mean, epsilon, momentum)


@batch_normalization_6.infer
def _(x: TensorType, scale: TensorType, input_mean: TensorType, n_outputs: int) -> Any:
    return _types(x, scale, input_mean, n_outputs)


@batch_normalization_6.mode
def _(node: Node, training: bool, scope: NameScope) -> Any:
    attributes = {**node.attributes, "is_test": int(not training)}
    return _switched(node, training, scope, attributes)


@batch_normalization_6.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield _draw(rng, 3, 2, 4, 3), {"is_test": 1}
    yield _draw(rng, 3, 2, 4, 3), {"momentum": 0.6}


OPS = (batch_normalization, batch_normalization_7, batch_normalization_6)
