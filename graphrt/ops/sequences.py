"""Sequences and optionals: lists of tensors as values, made, changed, read, mapped; and values that may be absent.

A sequence is a Python list, never changed once made; an empty optional is None. The cotangent of a sequence is a list
of the same length, whose entries may be None for zeros (see `graphrt.dual.lists`); an optional's is its element's.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.dual import lists
from graphrt.ir import Graph, Node, Value
from graphrt.op import Array, op
from graphrt.ops._axes import normalize_axis
from graphrt.ops._element_types import name_of_code
from graphrt.types import UNKNOWN, Dim, OptionalType, SequenceType, TensorType, ValueType

# ---- types -------------------------------------------------------------------------------------------------


def _common(types: Sequence[ValueType | None]) -> ValueType:
    """What is known of a value that has one of these types."""
    known = [t for t in types if isinstance(t, TensorType)]
    if not known or len(known) != len(types):
        return UNKNOWN
    dtypes = {t.dtype for t in known}
    if len(dtypes - {None}) > 1:
        raise ValueError(f"tensors of one sequence have one dtype, not {', '.join(sorted(map(str, dtypes)))}")
    shapes = {t.shape for t in known}
    shape: Any = None
    if None not in shapes and len({len(s) for s in shapes if s is not None}) == 1:
        shape = tuple(ds[0] if len(set(ds)) == 1 else None for ds in zip(*shapes, strict=True))  # type: ignore[arg-type]
    return TensorType(next(iter(dtypes)) if len(dtypes) == 1 else None, shape)


def _element(sequence: ValueType | None, what: str = "input_sequence") -> ValueType:
    """The type of a sequence's members."""
    if isinstance(sequence, SequenceType):
        return sequence.element
    if sequence not in (None, UNKNOWN):
        raise ValueError(f"{what} is {sequence}; it should be a sequence")
    return UNKNOWN


def _with_axis(t: TensorType, axis: int, dim: Dim) -> TensorType:
    if t.shape is None:
        return t
    at = normalize_axis(axis, len(t.shape))
    return TensorType(t.dtype, (*t.shape[:at], dim, *t.shape[at + 1 :]))


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
    return SequenceType(_common(inputs))


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
    element = _element(input_sequence)
    return SequenceType(element if element == UNKNOWN else _common([element, tensor]))


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
    return SequenceType(_element(input_sequence))


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
    return _element(input_sequence)


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
    _element(input_sequence)
    return TensorType("int64", ())


@sequence_length.examples
def _(rng):
    yield ([rng.normal(size=2), rng.normal(size=3)],), {}
    yield ([],), {}


@op("ConcatFromSequence", version=11, outputs="concat_result")
def concat_from_sequence(input_sequence: list[Array], *, axis: int, new_axis: int = 0) -> Array:
    """Joins the tensors of a sequence along an axis, or with ``new_axis`` stacks them along a new one.

    input_sequence: one or more tensors, shapes equal except (without ``new_axis``) along ``axis`` -> concat_result.
    Gradient: each tensor gets its part of ct. Source: ONNX operator spec.
    """
    if not input_sequence:
        raise ValueError("the sequence is empty, so its shape is not known; join at least one tensor")
    return (np.stack if new_axis else np.concatenate)(input_sequence, axis=axis)  # type: ignore[operator]


@concat_from_sequence.vjp("input_sequence")
def _(ct, input_sequence_like, axis, new_axis):
    if new_axis:
        return list(np.moveaxis(ct, axis, 0))
    return np.split(ct, np.cumsum([x.shape[axis] for x in input_sequence_like])[:-1], axis=axis)


@concat_from_sequence.jvp("input_sequence")
def _(input_sequence_dot, input_sequence_like, axis, new_axis):
    dots = lists.tangent_or_zeros(input_sequence_dot, input_sequence_like)
    return concat_from_sequence(dots, axis=axis, new_axis=new_axis)


@concat_from_sequence.infer
def _(input_sequence, axis, new_axis):
    element = _element(input_sequence)
    if not isinstance(element, TensorType) or element.shape is None:
        return TensorType(getattr(element, "dtype", None))
    if not new_axis:
        return _with_axis(element, axis, None)
    at = normalize_axis(axis, len(element.shape) + 1)
    return TensorType(element.dtype, (*element.shape[:at], None, *element.shape[at:]))


@concat_from_sequence.examples
def _(rng):
    yield ([rng.normal(size=(2, n)) for n in (1, 0, 3)],), {"axis": 1}
    yield ([rng.normal(size=(n, 2)) for n in (1, 2)],), {"axis": -2, "new_axis": 0}
    for axis in (0, 1, -1, -3):
        yield ([rng.normal(size=(2, 3)) for _ in range(2)],), {"axis": axis, "new_axis": 1}
    yield ([rng.normal(size=()) for _ in range(3)],), {"axis": 0, "new_axis": 1}
    yield ([np.arange(3)],), {"axis": 0}


@op("SplitToSequence", version=11, outputs="output_sequence", nondiff="split")
def split_to_sequence(input: Array, split: Array = None, *, axis: int = 0, keepdims: int = 1) -> list[Array]:
    """Cuts a tensor along an axis into a sequence.

    input: any dtype [...]; split: int [], the size of each part (of all but the last, where it does not divide), or
    int [k], the size of each. Without it the parts are of size 1, and ``keepdims=0`` drops the axis from them.
    -> output_sequence: the parts, in order. Gradient: joins the entries of ct. Source: ONNX operator spec.
    """
    at = normalize_axis(axis, input.ndim)
    if split is None and not keepdims:
        return list(np.moveaxis(input, at, 0))
    return _cut(input, _sizes(split, input.shape[at]), at)


def _cut(x: Array, sizes: Sequence[int], axis: int) -> list[Array]:
    ends = np.cumsum(sizes, dtype=np.int64)
    return [x[(slice(None),) * axis + (slice(e - n, e),)] for n, e in zip(sizes, ends.tolist(), strict=True)]


def _sizes(split: Array | None, dim: int) -> list[int]:
    if split is None or split.ndim == 0:
        size = 1 if split is None else int(split)
        if size < 1:
            raise ValueError(f"split is {size}; parts have a size of 1 or more")
        return [min(size, dim - i) for i in range(0, dim, size)]
    sizes = [int(n) for n in split]
    if sum(sizes) != dim or min(sizes, default=0) < 0:
        raise ValueError(f"split sizes {sizes} should be 0 or more and add up to {dim}, the size of the axis")
    return sizes


@split_to_sequence.vjp("input")
def _(ct, input_like, split, axis, keepdims):
    parts = split_to_sequence(input_like, split, axis=axis, keepdims=keepdims)
    if not parts:
        return np.zeros(input_like.shape, input_like.dtype)
    join = np.stack if split is None and not keepdims else np.concatenate
    return join(lists.tangent_or_zeros(ct, parts), axis=axis)  # type: ignore[operator]


@split_to_sequence.jvp("input")
def _(input_dot, split, axis, keepdims):
    return split_to_sequence(input_dot, split, axis=axis, keepdims=keepdims)


@split_to_sequence.infer
def _(input, split, split_value, axis, keepdims):
    if input.shape is None:
        return SequenceType(TensorType(input.dtype))
    at = normalize_axis(axis, len(input.shape))
    if split is None and not keepdims:
        return SequenceType(TensorType(input.dtype, (*input.shape[:at], *input.shape[at + 1 :])))
    dim = input.shape[at]
    sizes: list[int | None] = [1] if split is None else [None]
    if split_value is not None and isinstance(dim, int):
        sizes = [*_sizes(split_value, dim)]
    return SequenceType(_with_axis(input, at, sizes[0] if len(set(sizes)) == 1 else None))


@split_to_sequence.examples
def _(rng):
    x = rng.normal(size=(4, 5))
    yield (x,), {}
    for keepdims in (0, 1):
        yield (x,), {"axis": -1, "keepdims": keepdims}
        yield (x, np.array(2)), {"axis": 1, "keepdims": keepdims}
    yield (x, np.array([1, 0, 4], np.int32)), {"axis": 1}
    yield (np.arange(4), np.array([2, 2])), {}
    yield (rng.normal(size=(0, 2)),), {}


# ---- SequenceMap -------------------------------------------------------------------------------------------


@op("SequenceMap", version=17, outputs="*out_sequence")
def sequence_map(input_sequence: list[Array], *additional_inputs: Any, body: Graph) -> tuple[Any, ...]:
    """Runs a subgraph on each member of a sequence.  input_sequence: n tensors; additional_inputs: sequences of n
    (read member by member) or tensors (given to each run) -> for each output of the subgraph a sequence of n.

    Derivative: through each run; a tensor's cotangents are summed over the runs. Source: ONNX operator spec.
    """
    results = [body(*xs) for xs in _samples((input_sequence, *additional_inputs))]  # type: ignore[operator]
    return _columns(results, body)


def _samples(inputs: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """The subgraph's inputs, run by run; None instead of a list is None in each run."""
    n = len(inputs[0])
    wrong = [len(x) for x in inputs if isinstance(x, list) and len(x) != n]
    if wrong:
        raise ValueError(f"the sequences have different lengths: {n} and {wrong[0]}")
    return (tuple(x[i] if isinstance(x, list) else x for x in inputs) for i in range(n))


def _columns(rows: Sequence[Sequence[Any]], body: Any) -> tuple[list[Any], ...]:
    return tuple([row[k] for row in rows] for k in range(body.n_outputs))


@sequence_map.body_vjp
def _(cts: Sequence[Any], inputs: Sequence[Any], *, body: Any) -> tuple[Any, ...]:
    back = []
    for i, xs in enumerate(_samples(inputs)):
        _, pullback = body.vjp(*xs)
        back.append(pullback([None if ct is None else ct[i] for ct in cts]))
    columns = [[row[k] for row in back] for k in range(len(inputs))]
    return tuple(
        c if isinstance(x, list) else functools.reduce(lists.add, c, None) for x, c in zip(inputs, columns, strict=True)
    )


@sequence_map.body_jvp
def _(dots: Sequence[Any], inputs: Sequence[Any], *, body: Any) -> tuple[Any, ...]:
    rows = []
    for i, xs in enumerate(_samples(inputs)):
        here = [d[i] if isinstance(d, list) else d for d in dots]
        rows.append(body.jvp(xs, here)[1])
    return _columns(rows, body)


@sequence_map.infer
def _(input_sequence, body):
    _element(input_sequence)
    return tuple(SequenceType(v.type) for v in body.outputs)


@sequence_map.examples
def _(rng):
    kind = TensorType("float64", (None,))
    nodes = (Node("Mul", ("part", "other"), ("p",)), Node("Add", ("p", "v"), ("q",)), Node("Sin", ("q",), ("r",)))
    inputs = tuple(Value(n, kind) for n in ("part", "other", "v"))
    body = Graph("body", inputs=inputs, outputs=(Value("q", kind), Value("r", kind)), nodes=nodes)
    draw = rng.normal
    parts, others = [draw(size=2), draw(size=3)], [draw(size=2), draw(size=1)]
    yield (parts, others, draw(size=1)), {"body": body, "n_outputs": 2}
    yield ([], [], draw(size=1)), {"body": body, "n_outputs": 2}


# ---- optionals ---------------------------------------------------------------------------------------------


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
    draw: Callable[..., Any] = rng.normal
    yield (draw(size=(2, 3)), draw(size=(2, 3)), draw(size=(2, 3))), {}
    yield ([draw(size=2), draw(size=())], [draw(size=2), draw(size=())]), {}
    yield (draw(size=3),), {}


OPS = (
    sequence_construct,
    sequence_empty,
    sequence_insert,
    sequence_erase,
    sequence_at,
    sequence_length,
    concat_from_sequence,
    split_to_sequence,
    sequence_map,
    optional,
    optional_get_element,
    optional_has_element,
    accumulate,
)
