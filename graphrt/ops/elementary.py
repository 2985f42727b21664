"""Elementary functions of one variable: roots, exponentials, trigonometric and hyperbolic functions, erf."""

from __future__ import annotations

import math

import numpy as np

from graphrt.op import Array, op
from graphrt.ops import _math
from graphrt.ops._math import const, quiet


@op("Exp", version=6, elementwise=True, outputs="output")
def exp(input: Array) -> Array:
    """Exponential.  input: float [...] -> output: the same.

    Derivative: output.  Source: ONNX operator spec.
    """
    with quiet():
        return np.exp(input)


@exp.derivative("input")
def _(output: Array) -> Array:
    return output


@op("Log", version=6, elementwise=True, outputs="output", ranges={"input": (0.2, 3.0)})
def log(input: Array) -> Array:
    """Natural logarithm.  input: float [...] -> output: the same; log(0) is -inf, below 0 it is NaN.

    Derivative: 1 / input.  Source: ONNX operator spec.
    """
    with quiet():
        return np.log(input)


@log.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.reciprocal(input)


@op("Sqrt", version=6, elementwise=True, ranges={"x": (0.2, 3.0)})
def sqrt(x: Array) -> Array:
    """Square root.  x: float [...] -> y: the same; NaN below 0.

    Derivative: 1 / (2 y), which is infinite at 0.  Source: ONNX operator spec.
    """
    with quiet():
        return np.sqrt(x)


@sqrt.derivative("x")
def _(y: Array) -> Array:
    with quiet():
        return np.reciprocal(y + y)


@op("Sin", version=7, elementwise=True, outputs="output")
def sin(input: Array) -> Array:
    """Sine.  input: float [...], radians -> output: the same.

    Derivative: cos(input).  Source: ONNX operator spec.
    """
    with quiet():
        return np.sin(input)


@sin.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.cos(input)


@op("Cos", version=7, elementwise=True, outputs="output")
def cos(input: Array) -> Array:
    """Cosine.  input: float [...], radians -> output: the same.

    Derivative: -sin(input).  Source: ONNX operator spec.
    """
    with quiet():
        return np.cos(input)


@cos.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return -np.sin(input)


@op("Tan", version=7, elementwise=True, outputs="output", ranges={"input": (-1.2, 1.2)})
def tan(input: Array) -> Array:
    """Tangent.  input: float [...], radians -> output: the same.

    Derivative: 1 + output**2.  Source: ONNX operator spec.
    """
    with quiet():
        return np.tan(input)


@tan.derivative("input")
def _(output: Array) -> Array:
    with quiet():
        return 1 + output * output


@op("Asin", version=7, elementwise=True, outputs="output", ranges={"input": (-0.8, 0.8)})
def asin(input: Array) -> Array:
    """Arc sine.  input: float [...] in [-1, 1] -> output: the same, in [-pi/2, pi/2]; NaN outside.

    Derivative: 1 / sqrt(1 - input**2).  Source: ONNX operator spec.
    """
    with quiet():
        return np.arcsin(input)


@asin.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.reciprocal(np.sqrt((1 - input) * (1 + input)))


@op("Acos", version=7, elementwise=True, outputs="output", ranges={"input": (-0.8, 0.8)})
def acos(input: Array) -> Array:
    """Arc cosine.  input: float [...] in [-1, 1] -> output: the same, in [0, pi]; NaN outside.

    Derivative: -1 / sqrt(1 - input**2).  Source: ONNX operator spec.
    """
    with quiet():
        return np.arccos(input)


@acos.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return -np.reciprocal(np.sqrt((1 - input) * (1 + input)))


@op("Atan", version=7, elementwise=True, outputs="output")
def atan(input: Array) -> Array:
    """Arc tangent.  input: float [...] -> output: the same, in [-pi/2, pi/2].

    Derivative: 1 / (1 + input**2).  Source: ONNX operator spec.
    """
    return np.arctan(input)


@atan.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.reciprocal(1 + input * input)


@op("Sinh", version=9, elementwise=True, outputs="output")
def sinh(input: Array) -> Array:
    """Hyperbolic sine.  input: float [...] -> output: the same.

    Derivative: cosh(input).  Source: ONNX operator spec.
    """
    with quiet():
        return np.sinh(input)


@sinh.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.cosh(input)


@op("Cosh", version=9, elementwise=True, outputs="output")
def cosh(input: Array) -> Array:
    """Hyperbolic cosine.  input: float [...] -> output: the same.

    Derivative: sinh(input).  Source: ONNX operator spec.
    """
    with quiet():
        return np.cosh(input)


@cosh.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.sinh(input)


@op("Asinh", version=9, elementwise=True, outputs="output")
def asinh(input: Array) -> Array:
    """Inverse hyperbolic sine.  input: float [...] -> output: the same.

    Derivative: 1 / sqrt(1 + input**2).  Source: ONNX operator spec.
    """
    return np.arcsinh(input)


@asinh.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.reciprocal(np.hypot(input, const(1, input)))


@op("Acosh", version=9, elementwise=True, outputs="output", ranges={"input": (1.2, 3.0)})
def acosh(input: Array) -> Array:
    """Inverse hyperbolic cosine.  input: float [...] >= 1 -> output: the same; NaN below 1.

    Derivative: 1 / sqrt(input**2 - 1).  Source: ONNX operator spec.
    """
    with quiet():
        return np.arccosh(input)


@acosh.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.reciprocal(np.sqrt(input - 1) * np.sqrt(input + 1))


@op("Atanh", version=9, elementwise=True, outputs="output", ranges={"input": (-0.8, 0.8)})
def atanh(input: Array) -> Array:
    """Inverse hyperbolic tangent.  input: float [...] in [-1, 1] -> output: the same; NaN outside.

    Derivative: 1 / (1 - input**2).  Source: ONNX operator spec.
    """
    with quiet():
        return np.arctanh(input)


@atanh.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return np.reciprocal((1 - input) * (1 + input))


@op("Erf", version=9, elementwise=True, outputs="output")
def erf(input: Array) -> Array:
    """Error function.  input: number [...] -> output: the same.

    Value: 2/sqrt(pi) times the integral of exp(-t*t) from 0 to input, by Cody's rational approximations.
    Derivative: 2/sqrt(pi) * exp(-input**2).  Source: ONNX operator spec.
    """
    return _math.erf(input)


@erf.derivative("input")
def _(input: Array) -> Array:
    with quiet():
        return const(2 / math.sqrt(math.pi), input) * np.exp(-input * input)


OPS = (exp, log, sqrt, sin, cos, tan, asin, acos, atan, sinh, cosh, asinh, acosh, atanh, erf)
