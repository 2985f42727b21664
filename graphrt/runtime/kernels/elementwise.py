"""Elementwise ops: NumPy's own loops for the plain ones, approximations in cache-sized blocks for the others.

In the cache a NumPy pass costs a fraction of one through memory, and its exp and tanh no more than three or four plain
passes. So the error function and its relatives are written as one of these two of a polynomial: the argument of the
logistic function that gives the normal distribution function is x times a smooth even function of x.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphrt.definitions import Into, Kernel, KernelSite, View, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._blocks import elementwise, parts_of, summed_to

Function = Callable[..., Any]


# ---- plain ufuncs ------------------------------------------------------------------------------------------

_UFUNCS: dict[str, tuple[np.ufunc, tuple[str, ...]]] = {
    "Add": (np.add, ("a", "b")), "Sub": (np.subtract, ("a", "b")), "Mul": (np.multiply, ("a", "b")),
    "Div": (np.divide, ("a", "b")), "Neg": (np.negative, ("x",)), "Abs": (np.absolute, ("x",)),
    "Reciprocal": (np.reciprocal, ("x",)), "Sqrt": (np.sqrt, ("x",)), "Exp": (np.exp, ("input",)),
    "Log": (np.log, ("input",)), "Sin": (np.sin, ("input",)), "Cos": (np.cos, ("input",)),
    "Tanh": (np.tanh, ("input",)),
}  # fmt: skip
"""Op to the ufunc that is its whole value on floats, and the names of its inputs."""


def _plain(op_type: str, ufunc: np.ufunc, names: tuple[str, ...]) -> Kernel:
    def make(site: KernelSite) -> Into | None:
        if not site.is_float(*names) or "broadcast" in site.attributes:
            return None
        return site.into(ufunc, over={0: tuple(range(len(names)))})

    return Kernel(f"plain_{op_type.lower()}", op_type, make)


# ---- cotangents of what was broadcast ----------------------------------------------------------------------


def _linear_cotangent(op_type: str, name: str) -> Kernel:
    """The cotangent of a term: summed over what it was broadcast along."""

    def make(site: KernelSite) -> Into | View | None:
        if "broadcast" in site.attributes:  # an op of opset 6
            return None
        like = site.inputs.get(f"{name}_like")
        if like is None or site.inputs["ct"] == like:
            return View(lambda ct, like=None: ct, reshapes=True)
        total = _summed(site, f"{name}_like")
        return None if total is None else site.into(lambda ct, like, y: total(ct, y))

    return Kernel(f"{op_type.lower()}_cotangent_{name}", f"{op_type}.vjp[{name}]", make)


def _summed(site: KernelSite, like: str) -> Function | None:
    """What sums a cotangent ``ct`` to the shape of an input."""
    if not site.is_float("ct", like):
        return None
    return summed_to(site.shape("ct"), site.shape(like), site.inputs["ct"].dtype)


def _factor_cotangent(name: str, other: str) -> Kernel:
    """The cotangent of a factor: ct times the other, summed over what it was broadcast along."""

    def make(site: KernelSite) -> Into | None:
        if "broadcast" in site.attributes or not site.is_float("ct", other):
            return None
        shape, like = site.shape("ct"), site.inputs.get(f"{name}_like")
        if len(site.shape(other)) > len(shape):
            return None
        if like is None or site.inputs["ct"] == like:
            return site.into(lambda ct, factor, like, y: np.multiply(ct, factor, y), over={0: (0, 1)})
        total = _summed(site, f"{name}_like")
        if total is None:
            return None

        def fill(ct: Array, factor: Array, like: Array, y: Array, product: Array) -> None:
            total(np.multiply(ct, factor, product), y)

        return site.into(fill, scratch=[(shape, site.inputs["ct"].dtype)])

    return Kernel(f"mul_cotangent_{name}", f"Mul.vjp[{name}]", make)


# ---- blocks ------------------------------------------------------------------------------------------------


def _in_blocks(
    compute: Function, scratch: int, *names: str, over: tuple[int, ...] = ()
) -> Callable[[KernelSite], Into | None]:
    def make(site: KernelSite) -> Into | None:
        if not site.is_float(*names) or any(site.shape(n) != site.shape(names[0]) for n in names):
            return None
        return elementwise(site, compute, site.shape(names[0]), site.inputs[names[0]].dtype, scratch, over)

    return make


def _sigmoid(x: Array, y: Array) -> None:
    np.negative(x, y)
    np.exp(y, y)
    np.add(y, 1, y)
    np.reciprocal(y, y)


def _sigmoid_cotangent(ct: Array, y: Array, x_ct: Array) -> None:
    np.subtract(1, y, x_ct)
    np.multiply(x_ct, y, x_ct)
    np.multiply(x_ct, ct, x_ct)


def _tanh_cotangent(ct: Array, output: Array, x_ct: Array) -> None:
    np.multiply(output, output, x_ct)
    np.subtract(1, x_ct, x_ct)
    np.multiply(x_ct, ct, x_ct)


def _relu_cotangent(ct: Array, y: Array, x_ct: Array) -> None:
    np.multiply(ct, np.greater(y, 0), x_ct)


@kernel("Relu")
def relu(site: KernelSite) -> Into | None:
    """The larger of x and a zero that lies in the cache: NumPy is slower with a scalar."""
    if not site.is_float("x"):
        return None
    shape, dtype = site.shape("x"), np.dtype(site.inputs["x"].dtype)
    size = math.prod(shape)
    zeros = np.zeros(parts_of(size, dtype.itemsize)[0][0].stop, dtype)
    zeros = zeros.reshape(shape) if zeros.size == size else zeros

    def compute(x: Array, y: Array) -> None:
        np.maximum(x, zeros if x.shape == zeros.shape else zeros[: x.size], out=y)

    return elementwise(site, compute, shape, dtype, over=(0,))


# ---- the normal distribution function and its relatives ----------------------------------------------------

# Highest power first. Fitted by linear programming in float64 (largest error of the results: 4e-8 for x Phi(x), 8e-8
# relative for erf), made to run off to the right infinity beyond the interval of the fit.
_PHI = (-2.32067291e-07, -8.56029142e-06, -0.000127245127, -0.000885245608, 0.000261596633, 0.145334141, -1.59576909)
"""Phi(x) = 1 / (1 + exp(x R(-x**2 / 2))) to the accuracy of float32."""
_ERF = (1.41652495e-07, -5.66890062e-06, 8.76915177e-05, -0.000620118928, -0.000191153986, 0.102768712, 1.12837926)
"""erf(x) = tanh(x T(x**2)) to the accuracy of float32."""


def _polynomial(coefficients: Sequence[float], z: Array, y: Array) -> None:
    np.multiply(z, coefficients[0], y)
    np.add(y, coefficients[1], y)
    for c in coefficients[2:]:
        np.multiply(y, z, y)
        np.add(y, c, y)


def _exponent(x: Array, m: Array) -> None:
    """-x**2 / 2."""
    np.multiply(x, -0.5, m)
    np.multiply(m, x, m)


def _one_over_phi(x: Array, m: Array, y: Array) -> None:
    _polynomial(_PHI, m, y)
    np.multiply(y, x, y)
    np.exp(y, y)
    np.add(y, 1, y)


def _erf(x: Array, y: Array, z: Array) -> None:
    np.multiply(x, x, z)
    _polynomial(_ERF, z, y)
    np.multiply(y, x, y)
    np.tanh(y, y)


def _gelu(x: Array, y: Array, m: Array) -> None:
    _exponent(x, m)
    _one_over_phi(x, m, y)
    np.divide(x, y, y)


def _gelu_cotangent(ct: Array, x: Array, x_ct: Array, m: Array) -> None:
    _exponent(x, m)
    _one_over_phi(x, m, x_ct)
    np.reciprocal(x_ct, x_ct)
    np.exp(m, m)
    np.multiply(m, 1 / math.sqrt(2 * math.pi), m)
    np.multiply(m, x, m)
    np.add(x_ct, m, x_ct)
    np.multiply(x_ct, ct, x_ct)


_STEEP, _CUBIC = -2 * math.sqrt(2 / math.pi), 0.044715


def _one_over_tanh_phi(x: Array, y: Array) -> None:
    """1 + exp(-2 sqrt(2/pi) (x + 0.044715 x**3))."""
    np.multiply(x, x, y)
    np.multiply(y, _STEEP * _CUBIC, y)
    np.add(y, _STEEP, y)
    np.multiply(y, x, y)
    np.exp(y, y)
    np.add(y, 1, y)


def _gelu_tanh(x: Array, y: Array) -> None:
    _one_over_tanh_phi(x, y)
    np.divide(x, y, y)


def _gelu_tanh_cotangent(ct: Array, x: Array, x_ct: Array, s: Array, t: Array) -> None:
    _one_over_tanh_phi(x, s)
    np.reciprocal(s, s)
    np.subtract(1, s, x_ct)
    np.multiply(x_ct, s, x_ct)
    np.multiply(x_ct, x, x_ct)
    np.multiply(x, x, t)
    np.multiply(t, -3 * _STEEP * _CUBIC, t)
    np.add(t, -_STEEP, t)
    np.multiply(x_ct, t, x_ct)
    np.add(x_ct, s, x_ct)
    np.multiply(x_ct, ct, x_ct)


def _single(site: KernelSite, name: str) -> bool:
    return site.is_float(name) and site.inputs[name].dtype == "float32"


@kernel("Erf")
def erf(site: KernelSite) -> Into | None:
    """tanh of an odd polynomial; float32."""
    return _in_blocks(_erf, 1, "input")(site) if _single(site, "input") else None


@kernel("Gelu")
def gelu(site: KernelSite) -> Into | None:
    """x over 1 + exp of an odd polynomial; the exact form in float32 only."""
    if site.attributes["approximate"] == "tanh":
        return _in_blocks(_gelu_tanh, 0, "x")(site)
    return _in_blocks(_gelu, 1, "x")(site) if _single(site, "x") else None


@kernel("Gelu.vjp[x]")
def gelu_cotangent(site: KernelSite) -> Into | None:
    """ct (Phi(x) + x phi(x)); the exact form in float32 only."""
    if site.attributes["approximate"] == "tanh":
        return _in_blocks(_gelu_tanh_cotangent, 2, "ct", "x")(site)
    return _in_blocks(_gelu_cotangent, 1, "ct", "x")(site) if _single(site, "x") else None


KERNELS = (
    *(_plain(op_type, ufunc, names) for op_type, (ufunc, names) in _UFUNCS.items()),
    _linear_cotangent("Add", "a"), _linear_cotangent("Add", "b"), _linear_cotangent("Sub", "a"),
    _factor_cotangent("a", "b"), _factor_cotangent("b", "a"),
    relu, kernel("Relu.vjp[x]", name="relu_cotangent")(_in_blocks(_relu_cotangent, 0, "ct", "y", over=(0, 1))),
    kernel("Sigmoid", name="sigmoid")(_in_blocks(_sigmoid, 0, "x", over=(0,))),
    kernel("Sigmoid.vjp[x]", name="sigmoid_cotangent")(_in_blocks(_sigmoid_cotangent, 0, "ct", "y")),
    kernel("Tanh.vjp[input]", name="tanh_cotangent")(_in_blocks(_tanh_cotangent, 0, "ct", "output")),
    erf, gelu, gelu_cotangent,
)  # fmt: skip
