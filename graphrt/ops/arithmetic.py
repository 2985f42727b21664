"""Arithmetic: sums, products, quotients, powers, remainders."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op, unbroadcast
from graphrt.ops._math import astype_of, const, quiet


@op("Add", version=7, outputs="c", elementwise=True, linear=(("a", "b"),))
def add(a: Array, b: Array) -> Array:
    """Sum.  a, b: number [...], broadcast together -> c: their dtype.

    Value: a + b.  Source: ONNX operator spec.
    """
    with quiet():
        return np.add(a, b)


@add.vjp("a")
def _(ct: Array, a_like: Array) -> Array:
    return unbroadcast(ct, a_like)


@add.vjp("b")
def _(ct: Array, b_like: Array) -> Array:
    return unbroadcast(ct, b_like)


@op("Sub", version=7, outputs="c", elementwise=True, linear=(("a", "b"),))
def sub(a: Array, b: Array) -> Array:
    """Difference.  a, b: number [...], broadcast together -> c: their dtype.

    Value: a - b.  Source: ONNX operator spec.
    """
    with quiet():
        return np.subtract(a, b)


@sub.vjp("a")
def _(ct: Array, a_like: Array) -> Array:
    return unbroadcast(ct, a_like)


@sub.vjp("b")
def _(ct: Array, b_like: Array) -> Array:
    return -unbroadcast(ct, b_like)


@op("Mul", version=7, outputs="c", elementwise=True, linear=("a", "b"))
def mul(a: Array, b: Array) -> Array:
    """Product.  a, b: number [...], broadcast together -> c: their dtype.

    Value: a * b.  Source: ONNX operator spec.
    """
    with quiet():
        return np.multiply(a, b)


@mul.derivative("a")
def _(b: Array) -> Array:
    return b


@mul.derivative("b")
def _(a: Array) -> Array:
    return a


@op("Div", version=7, outputs="c", elementwise=True, linear=("a",), ranges={"b": (0.5, 2.0)})
def div(a: Array, b: Array) -> Array:
    """Quotient.  a, b: number [...], broadcast together -> c: their dtype.

    Value: a / b; between integers it is rounded toward zero, and division by the integer 0 gives 0.
    Source: ONNX operator spec (which leaves x / 0 between integers open).
    """
    with quiet():
        if np.issubdtype(a.dtype, np.integer):
            return np.floor_divide(a - np.fmod(a, b), b)
        return np.divide(a, b)


@div.vjp("a")
def _(ct: Array, b: Array, a_like: Array) -> Array:
    with quiet():
        return unbroadcast(ct / b, a_like)


@div.derivative("b")
def _(b: Array, c: Array) -> Array:
    with quiet():
        return -c / b


@div.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([-7, 7, -7, 7, 0]), np.array([2, 2, -2, -2, 3])), {}
    yield (np.array([[250], [7]], np.uint8), np.array([3, 0, 255], np.uint8)), {}
    yield (rng.uniform(-2, 2, (2, 1, 3)), np.array([[-0.5], [1.5]])), {}


@op("Neg", version=6, elementwise=True, linear="x")
def neg(x: Array) -> Array:
    """Negative.  x: signed number [...] -> y: the same.

    Value: -x.  Source: ONNX operator spec.
    """
    return np.negative(x)


@neg.vjp("x")
def _(ct: Array) -> Array:
    return -ct


@op("Abs", version=6, elementwise=True, kinks=(0.0,))
def abs_(x: Array) -> Array:
    """Absolute value.  x: number [...] -> y: the same.

    Value: |x|.  Derivative: sign(x); at the kink x = 0 it is 0.  Source: ONNX operator spec.
    """
    return np.abs(x)


@abs_.derivative("x")
def _(x: Array) -> Array:
    with quiet():
        return np.sign(x)


@op("Reciprocal", version=6, elementwise=True, ranges={"x": (0.3, 2.0)})
def reciprocal(x: Array) -> Array:
    """Reciprocal.  x: float [...] -> y: the same.

    Value: 1 / x.  Derivative: -y**2.  Source: ONNX operator spec.
    """
    with quiet():
        return np.reciprocal(x)


@reciprocal.derivative("x")
def _(y: Array) -> Array:
    with quiet():
        return -y * y


@op("Mod", version=10, outputs="c", elementwise=True, ranges={"a": (0.2, 0.9), "b": (1.1, 1.9)})
def mod(a: Array, b: Array, *, fmod: int = 0) -> Array:
    """Remainder of a division.  a, b: number [...], broadcast together -> c: their dtype.

    Value: ``fmod=0``: a - floor(a/b) * b, with the sign of b;  ``fmod=1``: a - trunc(a/b) * b, with the sign
    of a.  A remainder modulo the integer 0 is 0, modulo the float 0 it is NaN.
    Derivative: 1 for a; -floor(a/b), or -trunc(a/b), for b; at the jumps these are the one-sided values.
    Source: ONNX operator spec, opset 28, whose ``fmod=0`` on floats older opsets do not have.
    """
    if fmod not in (0, 1):
        raise ValueError(f"attribute fmod is 0 or 1, not {fmod}")
    with quiet():
        return np.fmod(a, b) if fmod else np.mod(a, b)


@mod.vjp("a")
def _(ct: Array, a_like: Array) -> Array:
    return unbroadcast(ct, a_like)


@mod.jvp("a")
def _(a_dot: Array, c_like: Array) -> Array:
    return np.broadcast_to(a_dot, c_like.shape)


@mod.derivative("b")
def _(a: Array, b: Array, *, fmod: int) -> Array:
    with quiet():
        quotient = a / b
        return -(np.trunc(quotient) if fmod else np.floor(quotient))


@mod.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = np.array([-4.3, 7.2, 5.0, 4.3, -7.2, 8.0]), np.array([2.1, -3.4, 8.0, -2.1, 3.4, 5.0])
    for fmod in (0, 1):
        yield (a, b), {"fmod": fmod}
        yield (a[:, None], b[:2]), {"fmod": fmod}
        yield (np.array([-4, 7, 5, 4, -7, 8]), np.array([2, -3, 8, -2, 3, 0])), {"fmod": fmod}


@op("Pow", version=7, elementwise=True, ranges={"x": (0.3, 2.0), "y": (-2.0, 2.0)}, outputs="z")
def pow_(x: Array, y: Array) -> Array:
    """Power.  x: number [...], y: number [...], broadcast together; dtypes may differ -> z: the dtype of x.

    Value: x**y; an integer base with a negative exponent gives the power rounded toward zero (0 for base 0).
    Derivative: y * x**(y-1) for x, and 0 where y = 0, even at x = 0;  z * log(x) for y, and 0 where x <= 0
    (at 0 that is the limit for y > 0; a negative base has no real derivative there).
    Source: ONNX operator spec.
    """
    if np.issubdtype(x.dtype, np.integer) and np.issubdtype(y.dtype, np.integer):
        return _integer_power(x, y)
    with quiet():
        return astype_of(np.power(x, y), x)


def _integer_power(x: Array, y: Array) -> Array:
    # modulo 2**64 and then cut down is the power modulo the width of x: NumPy's wrap-around
    wide = np.uint64 if np.issubdtype(x.dtype, np.unsignedinteger) else np.int64
    power = np.power(x.astype(wide), np.maximum(y, 0).astype(wide)).astype(x.dtype)
    if np.issubdtype(y.dtype, np.unsignedinteger) or not np.any(y < 0):
        return power
    inverse = np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y & 1), 0)).astype(x.dtype)
    return np.where(y < 0, inverse, power)


def dz_dx(x: Array, y: Array) -> Array:
    """The derivative of a power by its base."""
    with quiet():
        return np.where(y == 0, const(0, x), astype_of(y * np.power(x, np.where(y == 0, const(1, y), y - 1)), x))


def dz_dy(x: Array, z: Array) -> Array:
    """The derivative of a power z by its exponent."""
    with quiet():
        return np.where(x > 0, z * np.log(np.where(x > 0, x, const(1, x))), const(0, z))


@pow_.vjp("x")
def _(ct: Array, x: Array, y: Array) -> Array:
    with quiet():
        return unbroadcast(ct * dz_dx(x, y), x)


@pow_.vjp("y")
def _(ct: Array, x: Array, z: Array, y_like: Array) -> Array:
    with quiet():
        return astype_of(unbroadcast(ct * dz_dy(x, z), y_like), y_like)


@pow_.jvp("x")
def _(x_dot: Array, x: Array, y: Array) -> Array:
    with quiet():
        return x_dot * dz_dx(x, y)


@pow_.jvp("y")
def _(y_dot: Array, x: Array, z: Array) -> Array:
    with quiet():
        return astype_of(y_dot, z) * dz_dy(x, z)


@pow_.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    base = rng.uniform(0.5, 2, (2, 3))
    yield (base, np.array([[2.0], [-1.0]])), {}
    yield (-base, np.array([1, 2, 3])), {}
    yield (np.array([2, -3, 1, -1, 0, 7]), np.array([3, 3, -2, -3, 0, -1])), {}
    yield Example((np.array([0.0, 0.0, 0.0, -2.0]), np.array([0.0, 1.0, 2.0, 3.0])), {}, smooth=False)


OPS = (add, sub, mul, div, neg, abs_, reciprocal, mod, pow_)
