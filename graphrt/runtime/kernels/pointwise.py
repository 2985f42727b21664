"""Activations of straight pieces, Swish, powers, choices and ones: few passes, in blocks where there are several."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.definitions import Into, KernelSite, kernel
from graphrt.op import Array
from graphrt.runtime.kernels._blocks import elementwise, parts_of
from graphrt.runtime.threads import share
from graphrt.types import TensorType, numpy_dtype


def _of_x(site: KernelSite, compute: Any, scratch: int = 0, over: tuple[int, ...] = ()) -> Into | None:
    if not site.is_float("x"):
        return None
    return elementwise(site, compute, site.shape("x"), site.inputs["x"].dtype, scratch, over)


@kernel("Clip")
def clip(site: KernelSite) -> Into | None:
    """One pass with both bounds; an absent one is infinite."""
    given = [n for n in ("min", "max") if site.inputs.get(n) is not None]
    if not site.is_float("input", *given) or any(math.prod(site.shape(n)) != 1 for n in given):
        return None
    dtype = numpy_dtype(site.inputs["input"].dtype)
    least, most = (dtype.type(site.attributes.get(n, end)) for n, end in (("min", -np.inf), ("max", np.inf)))
    parts = parts_of(math.prod(site.shape("input")), dtype.itemsize)

    def fill(x: Array, *rest: Array) -> None:
        *bounds, y = rest  # before opset 11 they are attributes
        low, high = (
            own if b is None else b.reshape(()) for own, b in zip((least, most), bounds or (None, None), strict=True)
        )
        if len(parts) == 1:
            x.clip(low, high, y)
            return
        flat, made = x.reshape(-1), y.reshape(-1)

        def work(i: int, pieces: list[slice]) -> None:
            for piece in pieces:
                flat[piece].clip(low, high, made[piece])

        share(work, parts)

    return site.into(fill, over={0: (0,)})


@kernel("HardSigmoid")
def hard_sigmoid(site: KernelSite) -> Into | None:
    """max(0, min(1, alpha x + beta))."""
    alpha, beta = site.attributes["alpha"], site.attributes["beta"]

    def compute(x: Array, y: Array) -> None:
        np.multiply(x, alpha, y)
        np.add(y, beta, y)
        y.clip(0, 1, y)

    return _of_x(site, compute, over=(0,))


def _hard_swish(x: Array, y: Array) -> None:
    np.multiply(x, 1 / 6, y)
    np.add(y, 0.5, y)
    y.clip(0, 1, y)
    np.multiply(y, x, y)


@kernel("HardSwish")
def hard_swish(site: KernelSite) -> Into | None:
    """x max(0, min(1, x / 6 + 1 / 2))."""
    return _of_x(site, _hard_swish)


@kernel("Swish")
def swish(site: KernelSite) -> Into | None:
    """x / (1 + exp(-alpha x))."""
    alpha = site.attributes["alpha"]

    def compute(x: Array, y: Array) -> None:
        np.multiply(x, -alpha, y)
        np.exp(y, y)
        np.add(y, 1, y)
        np.divide(x, y, y)

    return _of_x(site, compute)


@kernel("LeakyRelu")
def leaky_relu(site: KernelSite) -> Into | None:
    """The larger of x and alpha x, for 0 < alpha < 1."""
    alpha = site.attributes["alpha"]

    def compute(x: Array, y: Array) -> None:
        np.multiply(x, alpha, y)
        np.maximum(x, y, out=y)

    return _of_x(site, compute) if 0 < alpha < 1 else None


@kernel("Pow")
def power(site: KernelSite) -> Into | None:
    """Squares, cubes and square roots by what they are."""
    if not site.is_float("x", "y") or "broadcast" in site.attributes:
        return None
    if math.prod(site.shape("y")) != 1 or len(site.shape("y")) > len(site.shape("x")):
        return site.into(np.power, over={0: (0, 1)})

    def fill(x: Array, exponent: Array, y: Array) -> None:
        n = float(exponent.reshape(()))
        if n == 2:
            np.multiply(x, x, y)
        elif n == 3:
            np.multiply(np.multiply(x, x), x, y)
        elif n == 0.5:
            np.sqrt(x, y)
        else:
            np.power(x, exponent, y)

    return site.into(fill, over={0: (0,)})


@kernel("Where")
def where(site: KernelSite) -> Into | None:
    """By the bits of the numbers, which takes no jumps; one array copied over the other where operands broadcast."""
    types = [site.inputs[n] for n in ("condition", "x", "y")]
    result = site.outputs[0]
    if not all(isinstance(t, TensorType) and t.is_static for t in (*types, result)) or types[1].dtype != types[2].dtype:
        return None
    if types[1].dtype == "string":
        return None
    shapes = [t.shape for t in types]
    whole = shapes[0] == result.shape and all(s == result.shape or math.prod(s) == 1 for s in shapes[1:])  # type: ignore[union-attr]
    if not whole or types[1].dtype not in _BITS or not math.prod(shapes[0]):
        return site.into(_copied_where)
    return _selected(site, shapes, types[1].dtype)


_BITS = {"float32": "int32", "float64": "int64"}


def _copied_where(condition: Array, x: Array, y: Array, output: Array) -> None:
    np.copyto(output, y)
    np.copyto(output, x, where=condition)


def _selected(site: KernelSite, shapes: list[tuple[int, ...]], dtype: str) -> Into | None:
    """``y ^ ((x ^ y) & mask)``, the mask being all ones where the condition holds; x and y may be single numbers."""
    count, bits = math.prod(shapes[0]), _BITS[dtype]
    parts = parts_of(count, numpy_dtype(dtype).itemsize)

    def of(x: Array) -> Array:
        return x.reshape(() if x.size == 1 else -1).view(bits)

    def fill(condition: Array, x: Array, y: Array, output: Array, *masks: Array) -> None:
        holds, made, (xs, ys) = condition.reshape(-1).view(np.int8), output.reshape(-1).view(bits), map(of, (x, y))

        def work(i: int, pieces: list[slice]) -> None:
            for at in pieces:
                mask, to = masks[i][: at.stop - at.start], made[at]
                one, other = (a[at] if a.ndim else a for a in (xs, ys))
                np.copyto(mask, holds[at])
                np.negative(mask, mask)
                np.bitwise_xor(one, other, to)
                np.bitwise_and(to, mask, to)
                np.bitwise_xor(to, other, to)

        share(work, parts)

    length = max(piece.stop - piece.start for part in parts for piece in part)
    return site.into(fill, over={0: (1,)}, scratch=[((length,), bits)] * len(parts))


@kernel("OnesLike", domain="graphrt")
def ones(site: KernelSite) -> Into | None:
    """Writes the ones, into memory it is given."""
    return site.into(lambda x, y: y.fill(1)) if site.is_float("x") else None


KERNELS = (clip, hard_sigmoid, hard_swish, swish, leaky_relu, power, where, ones)
