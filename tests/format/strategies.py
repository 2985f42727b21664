"""Random graphs for hypothesis: every element type, kind of attribute, odd names, bodies within nodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import strategies as st

from graphrt.ir.graph import Graph, Node, Value
from graphrt.types import DTYPES, MapType, OptionalType, SequenceType, TensorType, numpy_dtype

INT64 = st.integers(-(2**63), 2**63 - 1) | st.integers(-200, 300)
TEXT = st.text(st.characters(codec="utf-8"), max_size=6)
NAMES = TEXT | st.sampled_from(["x", "w", "/model/layers.0/MatMul_output_0", "é" * 20, "n" * 300, "\x00", '"\\'])
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan])
DIMS = st.none() | st.integers(0, 9) | st.just(2**62) | NAMES


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of every element type with random bits, in every layout NumPy has."""
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    count = math.prod(shape)
    if dtype.kind == "s":
        strings = np.empty(count, dtype=object)
        strings[:] = draw(st.lists(NAMES, min_size=count, max_size=count))
        return strings.reshape(shape)
    data = draw(st.binary(min_size=count * dtype.bits // 8, max_size=count * dtype.bits // 8))
    if dtype.kind == "b":
        data = bytes(b & 1 for b in data)
    array = np.frombuffer(data, numpy_dtype(dtype.name)).reshape(shape)
    layout = draw(st.sampled_from(["plain", "transposed", "reversed", "big-endian"]))
    if layout == "transposed":
        return array.T
    if layout == "reversed":
        return array[::-1] if array.ndim else array
    if layout == "big-endian" and not dtype.ml_dtypes:
        return array.view(array.dtype.newbyteorder(">"))
    return array


TENSOR_TYPES = st.builds(
    TensorType,
    st.none() | st.sampled_from(sorted(DTYPES)),
    st.none() | st.lists(DIMS, max_size=4).map(tuple),
)
VALUE_TYPES = st.recursive(
    TENSOR_TYPES,
    lambda inner: (
        st.builds(SequenceType, inner)
        | st.builds(OptionalType, inner)
        | st.builds(MapType, st.sampled_from(["int64", "string"]), inner)
    ),
    max_leaves=3,
)
VALUES = st.builds(Value, NAMES, VALUE_TYPES)


def attributes(depth: int) -> st.SearchStrategy[Any]:
    """One attribute of any kind; bodies nest at most ``depth`` deep."""
    kinds = [INT64, FLOATS, TEXT, st.binary(max_size=5), arrays(), VALUE_TYPES]
    if depth:
        kinds.append(graphs(depth - 1))
    lists = [st.lists(kind, max_size=3).map(tuple) for kind in kinds]
    return st.one_of(*kinds, *lists)


def nodes(depth: int) -> st.SearchStrategy[Node]:
    """Nodes of any op, known or not."""
    names = st.lists(NAMES, max_size=3).map(tuple)
    return st.builds(
        Node, NAMES, names, names, st.dictionaries(NAMES, attributes(depth), max_size=3), st.just("") | NAMES, NAMES
    )


def graphs(depth: int = 1) -> st.SearchStrategy[Graph]:
    """Graphs whose parts need not fit together: the format stores any."""
    texts = st.dictionaries(NAMES, TEXT, max_size=2)
    values = st.lists(VALUES, max_size=2).map(tuple)
    return st.builds(
        Graph,
        NAMES,
        st.dictionaries(NAMES, INT64, max_size=2),
        values,
        values,
        st.lists(nodes(depth), max_size=3).map(tuple),
        st.dictionaries(NAMES, arrays(), max_size=3),
        st.dictionaries(NAMES, VALUE_TYPES, max_size=2),
        texts,
        texts,
        texts,
    )
