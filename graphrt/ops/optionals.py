"""Optionals: values that may be absent; and the sum of cotangents of values that may be no tensors.

An empty optional is None. The cotangent of an optional is that of its element.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from graphrt.dual import lists
from graphrt.op import Array, op
from graphrt.types import UNKNOWN, OptionalType, TensorType, ValueType


@op("Optional", version=15, outputs="output")
def optional(input: Any = None, *, type: ValueType | None = None) -> Any:
    """A value as an optional, or the empty optional of ``type`` when there is no input. Derivative: the identity.

    input: tensor or sequence -> output: the same, or None. Source: ONNX operator spec.
    """
    return input


@op("OptionalGetElement", version=15, outputs="output")
def optional_get_element(input: Any) -> Any:
    """The value in an optional; a tensor or sequence is its own (since opset 18). Derivative: the identity.

    Raises ValueError when the optional is empty. Source: ONNX operator spec.
    """
    if input is None:
        raise ValueError("the optional is empty; ask OptionalHasElement first")
    return input


for _op in (optional, optional_get_element):

    @_op.vjp("input")
    def _(ct):
        return ct

    @_op.jvp("input")
    def _(input_dot):
        return input_dot


@optional.infer
def _(input, type):
    return OptionalType(input if input is not None else type if type is not None else UNKNOWN)


@optional_get_element.infer
def _(input):
    return input.element if isinstance(input, OptionalType) else input


@op("OptionalHasElement", version=15, outputs="output", nondiff=True)
def optional_has_element(input: Any = None) -> Array:
    """Whether there is a value: true unless the input is an empty optional or absent.  -> output: bool [].

    Source: ONNX operator spec.
    """
    return np.array(input is not None)


@optional_has_element.infer
def _():
    return TensorType("bool", ())


@optional.examples
def _(rng):
    yield from _some(rng)
    yield (), {"type": TensorType("float32", (2,))}


@optional_get_element.examples
def _some(rng):
    yield (rng.normal(size=(2, 3)),), {}
    yield ([rng.normal(size=2), rng.normal(size=())],), {}


@optional_has_element.examples
def _(rng):
    yield from _some(rng)
    yield (None,), {}
    yield (), {}


# ---- cotangents of any kind of value -----------------------------------------------------------------------


@op("Accumulate", domain="graphrt")
def accumulate(*parts: Any) -> Any:
    """The sum of cotangents of one value: tensors of one shape, sequences of one length, entry by entry; None counts
    as zeros. Differentiation writes it where a value with several users is not known to be a tensor.
    """
    return functools.reduce(lists.add, parts, None)


@accumulate.vjp("parts")
def _(ct, parts_like):
    return tuple(ct for _ in parts_like)


@accumulate.jvp("parts")
def _(parts_dot, parts_like):
    return lists.tangent_or_zeros(functools.reduce(lists.add, parts_dot, None), next(iter(parts_like), None))


@accumulate.infer
def _(parts):
    return next((p for p in parts if p not in (None, UNKNOWN)), UNKNOWN)


@accumulate.examples
def _(rng):
    draw = rng.normal
    yield (draw(size=(2, 3)), draw(size=(2, 3)), draw(size=(2, 3))), {}
    yield ([draw(size=2), draw(size=())], [draw(size=2), draw(size=())]), {}
    yield (draw(size=3),), {}


OPS = (optional, optional_get_element, optional_has_element, accumulate)
