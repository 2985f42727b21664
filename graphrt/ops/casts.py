"""Cast, CastLike and BitCast: the same values, or the same bits, in another element type."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Example, Op, op
from graphrt.ops._element_types import dtype_of_code, name_of_code
from graphrt.ops._math import quiet
from graphrt.types import DTYPES, TensorType, dtype_name, numpy_dtype

_ROUND_MODES = ("up", "down", "nearest")
_LARGEST = {"float8e4m3fn": 448.0, "float8e4m3fnuz": 240.0, "float8e5m2": 57344.0, "float8e5m2fnuz": 57344.0}
_CODES = {"float32": 1, "int8": 3, "int32": 6, "int64": 7, "string": 8, "bool": 9, "float16": 10, "float64": 11}


# ---- conversion ----------------------------------------------------------------------------------------


def convert(x: Array, to: str, saturate: int = 1, round_mode: str = "up", opset: int = 24) -> Array:
    """The values of an array as another element type, by ONNX's rules.

    Args:
        x: any dtype [...].
        to: an element type's name.
        saturate: whether values out of the range of an 8-bit float become its largest value, not NaN or infinity.
        round_mode: for float8e8m0: "up" (away from zero), "down" or "nearest" (halves up).
        opset: from 24 on, infinity saturates in the "fnuz" types as well; before, it becomes NaN.

    Raises:
        ValueError: no such rounding mode; a string that is no number.
    """
    if round_mode not in _ROUND_MODES:
        raise ValueError(f"attribute round_mode is one of {', '.join(_ROUND_MODES)}, not {round_mode!r}")
    source, target = dtype_name(x.dtype), numpy_dtype(to)
    if source == to:
        return x
    with quiet():
        if source == "string":
            return _parse(x, to, target)
        if to == "string":
            return (x.astype(np.float32) if DTYPES[source].ml_dtypes else x).astype(str).astype(object)
        if to == "float8e8m0":
            return _to_power_of_two(x, saturate, round_mode).view(target)
        if to in _LARGEST and saturate:
            return _saturated(x, _LARGEST[to], keeps_inf=opset >= 24 or not to.endswith("uz")).astype(target)
        if to in ("int2", "uint2", "int4", "uint4") and DTYPES[source].kind == "f":
            x = x.astype(np.int64)  # as for wider integers: cut off the fraction, then the high bits
        return x.astype(target)


def _parse(x: Array, to: str, target: np.dtype[Any]) -> Array:
    """Numbers from strings: plain or scientific notation; INF and NaN in any case."""
    texts = np.asarray(x, object)
    if DTYPES[to].kind in "iu":
        try:
            return texts.astype(np.uint64 if to == "uint64" else np.int64).astype(target)
        except ValueError:
            pass  # some are not written as whole numbers: by way of float
    numbers = texts.astype(np.float64)
    return numbers != 0 if to == "bool" else numbers.astype(target)


def _saturated(x: Array, largest: float, keeps_inf: bool) -> Array:
    x = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    y = np.clip(x, -largest, largest)
    return y if keeps_inf else np.where(np.isinf(x), np.float32(np.nan), y)


def _to_power_of_two(x: Array, saturate: int, round_mode: str) -> Array:
    """The bits of float8e8m0, an exponent: 2**(bits - 127), 255 for NaN. The sign is ignored."""
    fraction, exponent = np.frexp(np.abs(x.astype(np.float64)))  # fraction in [0.5, 1)
    up = {"up": fraction > 0.5, "nearest": fraction >= 0.75, "down": False}[round_mode]
    bits = np.where(fraction == 0, -1, exponent + 126 + up)
    bits = np.where(np.isinf(fraction), 255, bits)
    bits = np.clip(bits, 0, 254) if saturate else np.where((bits < 0) | (bits > 254), 255, bits)
    return np.where(np.isnan(fraction), 255, bits).astype(np.uint8)


# ---- Cast ----------------------------------------------------------------------------------------------


def _declare_rules(cast_op: Op) -> Op:
    @cast_op.vjp("input")
    def _(ct: Array, input_like: Array) -> Array:
        with quiet():
            return ct.astype(input_like.dtype)

    @cast_op.jvp("input")
    def _(input_dot: Array, output_like: Array) -> Array:
        with quiet():
            return input_dot.astype(output_like.dtype)

    return cast_op


def _declare_cast(cast_op: Op) -> Op:
    @cast_op.infer
    def _(input: TensorType, *, to: int) -> TensorType:
        return TensorType(name_of_code(to), input.shape)

    @cast_op.examples
    def _(rng: np.random.Generator) -> Iterator[Any]:
        x = rng.uniform(-3, 3, (2, 3))
        yield (x,), {"to": _CODES["float64"]}
        yield Example((x,), {"to": _CODES["float32"]}, smooth=False)  # rounding hides finite differences
        for to in ("float16", "int8", "int64", "bool", "string"):
            yield Example((x,), {"to": _CODES[to]}, smooth=False)
        yield (np.array([200, -200, 3]),), {"to": _CODES["int8"]}
        yield (np.array([True, False]),), {"to": _CODES["float32"]}
        yield (np.array(["3.14", "1e-5", "-INF", "NaN"], object),), {"to": _CODES["float32"]}
        yield (np.zeros((0, 2)),), {"to": _CODES["int32"]}

    return _declare_rules(cast_op)


@_declare_cast
@op("Cast", version=24, elementwise=True, outputs="output")
def cast(input: Array, *, to: int, saturate: int = 1, round_mode: str = "up") -> Array:
    """The same values in another element type.  input: any dtype [...] -> output: the type with code ``to``.

    Value: nearest float (infinity out of range, or the largest value in 8-bit floats with ``saturate``); integers
    drop the fraction and then the high bits; bool is "not zero"; strings are decimal numbers, INF or NaN.
    ``round_mode`` is for float8e8m0 only.
    Derivative: 1 between floats (the cotangent is cast back); none to or from integers, bools and strings.
    Source: ONNX operator spec.
    """
    return convert(input, name_of_code(to), saturate, round_mode)


@_declare_cast
@op("Cast", version=19, elementwise=True, outputs="output")
def cast_19(input: Array, *, to: int, saturate: int = 1) -> Array:
    """As Cast of opset 24, without round_mode; infinity becomes NaN in the "fnuz" floats.

    Source: ONNX operator spec.
    """
    return convert(input, name_of_code(to), saturate, opset=19)


@_declare_cast
@op("Cast", version=6, elementwise=True, outputs="output")
def cast_6(input: Array, *, to: int) -> Array:
    """As Cast of opset 24, without round_mode and saturate.

    Source: ONNX operator spec.
    """
    return convert(input, name_of_code(to), opset=6)


# ---- CastLike ------------------------------------------------------------------------------------------


def _declare_cast_like(cast_op: Op) -> Op:
    @cast_op.infer
    def _(input: TensorType, target_type: TensorType) -> TensorType:
        return TensorType(target_type.dtype, input.shape)

    @cast_op.examples
    def _(rng: np.random.Generator) -> Iterator[Any]:
        x = rng.uniform(-3, 3, (2, 3))
        yield (x, np.zeros(5)), {}
        yield Example((x, np.zeros((), np.float32)), {}, smooth=False)
        yield Example((x, np.zeros((0, 2), np.int32)), {}, smooth=False)
        yield (np.array(["7", "-INF"], object), np.zeros(1, np.float32)), {}

    return _declare_rules(cast_op)


@_declare_cast_like
@op("CastLike", version=24, outputs="output", nondiff="target_type")
def cast_like(input: Array, target_type: Array, *, saturate: int = 1, round_mode: str = "up") -> Array:
    """The values of one tensor in the element type of another.

    input: any dtype [...]; target_type: any dtype, any shape -> output: as input, the dtype of target_type.
    Value and derivative: those of Cast.  Source: ONNX operator spec.
    """
    return convert(input, dtype_name(target_type.dtype), saturate, round_mode)


@_declare_cast_like
@op("CastLike", version=19, outputs="output", nondiff="target_type")
def cast_like_19(input: Array, target_type: Array, *, saturate: int = 1) -> Array:
    """As CastLike of opset 24, without round_mode; infinity becomes NaN in the "fnuz" floats.

    Source: ONNX operator spec.
    """
    return convert(input, dtype_name(target_type.dtype), saturate, opset=19)


@_declare_cast_like
@op("CastLike", version=15, outputs="output", nondiff="target_type")
def cast_like_15(input: Array, target_type: Array) -> Array:
    """As CastLike of opset 24, without round_mode and saturate.

    Source: ONNX operator spec.
    """
    return convert(input, dtype_name(target_type.dtype), opset=15)


# ---- BitCast -------------------------------------------------------------------------------------------


@op("BitCast", version=26, elementwise=True, outputs="output", nondiff=True)
def bit_cast(input: Array, *, to: int) -> Array:
    """The same bits read as another element type of the same width.

    input: any dtype but string [...] -> output: the type with code ``to``, the same shape.
    No derivative: bits do not vary smoothly.  Source: ONNX operator spec.
    """
    _require_same_width(dtype_name(input.dtype), name_of_code(to))
    return input.view(dtype_of_code(to))


def _require_same_width(source: str, target: str) -> None:
    if "string" in (source, target):
        raise ValueError("strings have no bits to read as another element type")
    if _width(source) != _width(target):
        raise ValueError(f"{source} has {_width(source)} bits and {target} has {_width(target)}; they should be equal")


def _width(name: str) -> int:
    narrow = {"int4": 4, "uint4": 4, "float4e2m1": 4, "int2": 2, "uint2": 2}  # though a byte each in memory
    return narrow.get(name, DTYPES[name].bits)


@bit_cast.infer
def _(input: TensorType, *, to: int) -> TensorType:
    if input.dtype is not None:
        _require_same_width(input.dtype, name_of_code(to))
    return TensorType(name_of_code(to), input.shape)


@bit_cast.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[1.0, -2.5]], np.float32),), {"to": _CODES["int32"]}
    yield (np.array(3, np.int64),), {"to": _CODES["float64"]}
    yield (np.arange(6, dtype=np.uint8)[::2],), {"to": _CODES["int8"]}


OPS = (cast, cast_19, cast_6, cast_like, cast_like_19, cast_like_15, bit_cast)
