"""Binary ops as they were before opset 7, with ``axis`` and ``broadcast`` attributes instead of NumPy's broadcasting.

Without ``broadcast`` both inputs have one shape. With it, b has one element, or its shape is a run of a's
dimensions: from ``axis`` on, or the last ones where ``axis`` is not given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.op import Array, Op, op, unbroadcast
from graphrt.ops import arithmetic, logic
from graphrt.ops._math import quiet
from graphrt.types import TensorType

_DOC = """{0} of opset 6: b is broadcast to a by attributes.

    a: [...]; b: the shape of a, or with ``broadcast=1`` one element or a run of the dimensions of a, from ``axis``
    on (default: the last ones) -> c: the shape of a.
    Value and derivative: those of {0} of opset 7.  Source: ONNX operator spec.
    """


def aligned_shape(a: Sequence[int], b: Sequence[int], axis: int | None, broadcast: int) -> tuple[int, ...]:
    """The shape b must be given so that NumPy broadcasts it to a.

    Raises:
        ValueError: the shapes do not fit by the rules of opset 6.
    """
    a, b = tuple(a), tuple(b)
    if not broadcast:
        if a != b:
            raise ValueError(f"shapes {a} and {b} differ; before opset 7 that needs the attribute broadcast=1")
        return b
    if all(n == 1 for n in b) and len(b) <= len(a):
        return ()
    start = len(a) - len(b) if axis is None else axis + len(a) if axis < 0 else axis
    run = a[start : start + len(b)] if start >= 0 else ()
    if len(run) != len(b) or any(m not in (1, n) for m, n in zip(b, run, strict=True)):
        where = "the last ones" if axis is None else f"from axis {axis} on"
        raise ValueError(f"the second shape {b} is no run of the dimensions of the first, {a}, {where}")
    return b + (1,) * (len(a) - start - len(b))


def _aligned(b: Array, a_like: Array, axis: int | None, broadcast: int) -> Array:
    return np.reshape(b, aligned_shape(a_like.shape, b.shape, axis, broadcast))


def _reduced(ct: Array, b_like: Array, axis: int | None, broadcast: int) -> Array:
    """The adjoint of `_aligned` and the broadcasting after it."""
    return np.reshape(unbroadcast(ct, _aligned(b_like, ct, axis, broadcast)), b_like.shape)


def _inferred(a: TensorType, b: TensorType, axis: int | None, broadcast: int, dtype: str | None) -> TensorType:
    if a.shape is not None and b.shape is not None and all(isinstance(d, int) for d in (*a.shape, *b.shape)):
        aligned_shape(a.shape, b.shape, axis, broadcast)  # type: ignore[arg-type]
    return TensorType(dtype, a.shape)


def _legacy(modern: Op, version: int) -> Op:
    """The op whose value is that of a modern one with b aligned; without derivatives."""

    def function(a: Array, b: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
        return modern(a, _aligned(b, a, axis, broadcast))

    function.__doc__ = _DOC.format(modern.op_type)
    made = op(modern.op_type, version=version, outputs="c", nondiff=bool(modern.nondiff))(function)

    @made.infer
    def _(a: TensorType, b: TensorType, *, axis: int | None, broadcast: int) -> TensorType:
        return _inferred(a, b, axis, broadcast, "bool" if modern.nondiff else a.dtype)

    return made


def _legacy_sum(modern: Op, sign: int) -> Op:
    made = _legacy(modern, 6)

    @made.vjp("a")
    def _(ct: Array) -> Array:
        return ct

    @made.vjp("b")
    def _(ct: Array, b_like: Array, *, axis: int | None, broadcast: int) -> Array:
        return sign * _reduced(ct, b_like, axis, broadcast)

    @made.jvp("a")
    def _(a_dot: Array) -> Array:
        return a_dot

    @made.jvp("b")
    def _(b_dot: Array, a_like: Array, *, axis: int | None, broadcast: int) -> Array:
        return np.broadcast_to(sign * _aligned(b_dot, a_like, axis, broadcast), a_like.shape)

    return made


def _legacy_product(modern: Op, da: Callable[[Array], Array], db: Callable[[Array, Array], Array]) -> Op:
    """``da(b)`` and ``db(a, b)`` are the local derivatives."""
    made = _legacy(modern, 6)

    @made.vjp("a")
    def _(ct: Array, b: Array, *, axis: int | None, broadcast: int) -> Array:
        with quiet():
            return ct * da(_aligned(b, ct, axis, broadcast))

    @made.vjp("b")
    def _(ct: Array, a: Array, b: Array, *, axis: int | None, broadcast: int) -> Array:
        with quiet():
            return _reduced(ct * db(a, _aligned(b, a, axis, broadcast)), b, axis, broadcast)

    @made.jvp("a")
    def _(a_dot: Array, b: Array, *, axis: int | None, broadcast: int) -> Array:
        with quiet():
            return a_dot * da(_aligned(b, a_dot, axis, broadcast))

    @made.jvp("b")
    def _(b_dot: Array, a: Array, b: Array, *, axis: int | None, broadcast: int) -> Array:
        with quiet():
            return _aligned(b_dot, a, axis, broadcast) * db(a, _aligned(b, a, axis, broadcast))

    return made


add_6 = _legacy_sum(arithmetic.add, 1)
sub_6 = _legacy_sum(arithmetic.sub, -1)
mul_6 = _legacy_product(arithmetic.mul, lambda b: b, lambda a, b: a)
div_6 = _legacy_product(arithmetic.div, np.reciprocal, lambda a, b: -(a / b) / b)
comparisons = tuple(_legacy(modern, 1) for modern in (logic.equal, logic.greater, logic.less))
connectives = tuple(_legacy(modern, 1) for modern in (logic.and_, logic.or_, logic.xor))


# ---- Pow -----------------------------------------------------------------------------------------------


@op("Pow", version=1, outputs="z")
def pow_1(x: Array, y: Array, *, axis: int | None = None, broadcast: int = 0) -> Array:
    """Power of opset 6: y is broadcast to x by attributes.

    x: float [...]; y: the shape of x, or with ``broadcast=1`` one element or a run of the dimensions of x, from
    ``axis`` on (default: the last ones) -> z: the shape of x.
    Value and derivative: those of Pow of opset 7.  Source: ONNX operator spec.
    """
    return arithmetic.pow_(x, _aligned(y, x, axis, broadcast))


@pow_1.vjp("x")
def _(ct: Array, x: Array, y: Array, *, axis: int | None, broadcast: int) -> Array:
    with quiet():
        return ct * arithmetic.dz_dx(x, _aligned(y, x, axis, broadcast))


@pow_1.vjp("y")
def _(ct: Array, x: Array, z: Array, y_like: Array, *, axis: int | None, broadcast: int) -> Array:
    with quiet():
        return _reduced(ct * arithmetic.dz_dy(x, z), y_like, axis, broadcast)


@pow_1.jvp("x")
def _(x_dot: Array, x: Array, y: Array, *, axis: int | None, broadcast: int) -> Array:
    with quiet():
        return x_dot * arithmetic.dz_dx(x, _aligned(y, x, axis, broadcast))


@pow_1.jvp("y")
def _(y_dot: Array, x: Array, z: Array, *, axis: int | None, broadcast: int) -> Array:
    with quiet():
        return _aligned(y_dot, x, axis, broadcast) * arithmetic.dz_dy(x, z)


@pow_1.infer
def _(x: TensorType, y: TensorType, *, axis: int | None, broadcast: int) -> TensorType:
    return _inferred(x, y, axis, broadcast, x.dtype)


# ---- examples ------------------------------------------------------------------------------------------


def _shapes() -> Iterator[tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]]:
    yield (2, 3), (2, 3), {}
    yield (), (), {}
    yield (0, 3), (0, 3), {}
    yield (2, 3, 4), (), {"broadcast": 1}
    yield (2, 3, 4), (1, 1), {"broadcast": 1}
    yield (2, 3, 4), (3, 4), {"broadcast": 1}
    yield (2, 3, 4), (2, 3), {"broadcast": 1, "axis": 0}
    yield (2, 3, 4), (3,), {"broadcast": 1, "axis": -2}


def _float_examples(rng: np.random.Generator) -> Iterator[Any]:
    for a, b, attributes in _shapes():
        yield (rng.uniform(0.5, 2, a), rng.uniform(0.5, 2, b)), attributes


def _integer_examples(rng: np.random.Generator) -> Iterator[Any]:
    for a, b, attributes in _shapes():
        yield (rng.integers(0, 3, a), rng.integers(0, 3, b)), attributes


def _bool_examples(rng: np.random.Generator) -> Iterator[Any]:
    for a, b, attributes in _shapes():
        yield (rng.integers(0, 2, a).astype(bool), rng.integers(0, 2, b).astype(bool)), attributes


for _ops, _examples in (
    ((add_6, sub_6, mul_6, div_6, pow_1), _float_examples),
    (comparisons, _integer_examples),
    (connectives, _bool_examples),
):
    for _op in _ops:
        _op.examples(_examples)

OPS = (add_6, sub_6, mul_6, div_6, pow_1, *comparisons, *connectives)
