"""Sequences: lists of tensors as values, made, changed and read.

A sequence is a Python list, never changed once made. Its cotangent is a list of the same length, whose entries may be
None for zeros (see `graphrt.dual.lists`).
"""

from __future__ import annotations

import numpy as np

from graphrt.dual import lists
from graphrt.op import Array, op
from graphrt.ops._element_types import name_of_code
from graphrt.ops._sequences import common_type, element_type
from graphrt.types import UNKNOWN, SequenceType, TensorType


def _at(position: Array | None, n: int, most: int, default: int) -> int:
    """A position from the front, where ``n`` is the length and ``most`` the last place allowed."""
    if position is None:
        p = default
    elif position.size != 1:
        raise ValueError(f"position has {position.size} elements; it should have one")
    else:
        p = int(position.reshape(()))
    if not -n <= p <= most:
        raise ValueError(f"position {p} is outside [{-n}, {most}] for a sequence of {n}")
    return p + n if p < 0 else p


# ---- making and changing sequences ------------------------------------------------------------------------


@op("SequenceConstruct", version=11, outputs="output_sequence")
def sequence_construct(*inputs: Array) -> list[Array]:
    """The inputs as a sequence.  inputs: tensors of one dtype -> output_sequence: their list.

    Gradient: each input gets its entry of ct. Source: ONNX operator spec.
    """
    return list(inputs)


@sequence_construct.vjp("inputs")
def _(ct, inputs_like):
    return tuple(lists.tangent_or_zeros(ct, list(inputs_like)))


@sequence_construct.jvp("inputs")
def _(inputs_dot, inputs_like):
    return lists.tangent_or_zeros(list(inputs_dot), list(inputs_like))


@sequence_construct.infer
def _(inputs):
    return SequenceType(common_type(inputs))


@sequence_construct.examples
def _(rng):
    yield (rng.normal(size=(2, 3)), rng.normal(size=(1, 3)), rng.normal(size=())), {}
    yield (rng.normal(size=(0, 3)),), {}
    yield (np.arange(3), np.arange(2)), {}


@op("SequenceEmpty", version=11, outputs="output")
def sequence_empty(*, dtype: int = 1) -> list[Array]:
    """An empty sequence of tensors of the element type with code ``dtype`` (default float32). ONNX operator spec."""
    name_of_code(dtype)
    return []


@sequence_empty.infer
def _(dtype):
    return SequenceType(TensorType(name_of_code(dtype)))


@sequence_empty.examples
def _(rng):
    yield (), {}
    yield (), {"dtype": 7}


@op("SequenceInsert", version=11, outputs="output_sequence", nondiff="position")
def sequence_insert(input_sequence: list[Array], tensor: Array, position: Array = None) -> list[Array]:
    """The sequence with one more tensor.  input_sequence: n tensors; tensor: of their dtype; position: int [], in
    [-n, n], the place it takes (default n, the end) -> output_sequence: n + 1 tensors. Source: ONNX operator spec.
    """
    n = len(input_sequence)
    at = _at(position, n, n, n)
    return [*input_sequence[:at], tensor, *input_sequence[at:]]


@sequence_insert.vjp("input_sequence", "tensor")
def _(ct, tensor_like, position):
    n = len(ct) - 1
    at = _at(position, n, n, n)
    return [*ct[:at], *ct[at + 1 :]], lists.tangent_or_zeros(ct[at], tensor_like)


@sequence_insert.jvp("input_sequence", "tensor")
def _(input_sequence_dot, tensor_dot, input_sequence_like, tensor_like, position):
    before = lists.tangent_or_zeros(input_sequence_dot, input_sequence_like)
    return sequence_insert(before, lists.tangent_or_zeros(tensor_dot, tensor_like), position)


@sequence_insert.infer
def _(input_sequence, tensor):
    element = element_type(input_sequence)
    return SequenceType(element if element == UNKNOWN else common_type([element, tensor]))


@sequence_insert.examples
def _(rng):
    xs = [rng.normal(size=(2, 3)), rng.normal(size=4)]
    for p in (0, 1, 2, -1, -2):
        yield (xs, rng.normal(size=(1, 2)), np.array(p)), {}
    yield (xs, rng.normal(size=())), {}
    yield ([], rng.normal(size=3)), {}


@op("SequenceErase", version=11, outputs="output_sequence", nondiff="position")
def sequence_erase(input_sequence: list[Array], position: Array = None) -> list[Array]:
    """The sequence without one tensor.  input_sequence: n tensors; position: int [], in [-n, n - 1], which one
    (default the last) -> output_sequence: n - 1 tensors. Source: ONNX operator spec.
    """
    n = len(input_sequence)
    at = _at(position, n, n - 1, -1)
    return [*input_sequence[:at], *input_sequence[at + 1 :]]


@sequence_erase.vjp("input_sequence")
def _(ct, position):
    at = _at(position, len(ct) + 1, len(ct), -1)
    return [*ct[:at], None, *ct[at:]]


@sequence_erase.jvp("input_sequence")
def _(input_sequence_dot, position):
    return sequence_erase(input_sequence_dot, position)


@sequence_erase.infer
def _(input_sequence):
    return SequenceType(element_type(input_sequence))


@sequence_erase.examples
def _(rng):
    xs = [rng.normal(size=(2, 3)), rng.normal(size=4), rng.normal(size=())]
    for p in (0, 1, -1, -3):
        yield (xs, np.array(p)), {}
    yield (xs,), {}


# ---- reading sequences ------------------------------------------------------------------------------------


@op("SequenceAt", version=11, outputs="tensor", nondiff="position")
def sequence_at(input_sequence: list[Array], position: Array) -> Array:
    """One tensor of a sequence.  input_sequence: n tensors; position: int [], in [-n, n - 1] -> tensor.

    Gradient: ct at the position, zeros elsewhere. Source: ONNX operator spec.
    """
    n = len(input_sequence)
    return input_sequence[_at(position, n, n - 1, 0)]


@sequence_at.vjp("input_sequence")
def _(ct, input_sequence_like, position):
    n = len(input_sequence_like)
    at = _at(position, n, n - 1, 0)
    return [ct if i == at else None for i in range(n)]


@sequence_at.jvp("input_sequence")
def _(input_sequence_dot, input_sequence_like, position):
    return sequence_at(lists.tangent_or_zeros(input_sequence_dot, input_sequence_like), position)


@sequence_at.infer
def _(input_sequence):
    return element_type(input_sequence)


@sequence_at.examples
def _(rng):
    xs = [rng.normal(size=(2, 3)), rng.normal(size=4), rng.normal(size=())]
    for p in (0, 1, -1, -3):
        yield (xs, np.array(p)), {}
    yield ([np.arange(3)], np.array([0], np.int32)), {}


@op("SequenceLength", version=11, outputs="length", nondiff=True)
def sequence_length(input_sequence: list[Array]) -> Array:
    """How many tensors a sequence has.  -> length: int64 []. Source: ONNX operator spec."""
    return np.array(len(input_sequence), np.int64)


@sequence_length.infer
def _(input_sequence):
    element_type(input_sequence)
    return TensorType("int64", ())


@sequence_length.examples
def _(rng):
    yield ([rng.normal(size=2), rng.normal(size=3)],), {}
    yield ([],), {}


OPS = (
    sequence_construct,
    sequence_empty,
    sequence_insert,
    sequence_erase,
    sequence_at,
    sequence_length,
)
