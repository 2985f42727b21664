"""Maps of ai.onnx.ml: Python dictionaries to and from tensors. A sequence of maps is a list of dictionaries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.plugin import Array, Dim, MapType, SequenceType, TensorType, ValueType
from graphrt_onnx.ops._ml import given, ml, string_array

_CASTS = {"TO_FLOAT": "float32", "TO_INT64": "int64", "TO_STRING": "string"}


def _as_type(values: list[Any], dtype: str) -> Array:
    """A vector of the values; strings are read as numbers, numbers written as text."""
    if dtype == "string":
        return string_array([v if isinstance(v, str) else f"{float(v):f}" for v in values])
    numbers = [float(v) for v in values]
    return np.array(numbers, np.float64).astype(dtype)


@ml("CastMap", nondiff=True)
def cast_map(x: Any, *, cast_to: str = "TO_FLOAT", map_form: str = "DENSE", max_map: int = 1) -> Array:
    """The values of a map with integer keys, in the order of the keys.

    x: map(int64, string or float) -> y: float32, int64 or string [1, N]. DENSE: the N values there are; SPARSE: each
    value at the place of its key, N = ``max_map``, zeros elsewhere. Source: ONNX ML operator spec;
    what pads strings ("0.f") is onnxruntime's.
    """
    if cast_to not in _CASTS or map_form not in ("DENSE", "SPARSE"):
        raise ValueError(
            f"cast_to is one of {', '.join(_CASTS)}, map_form DENSE or SPARSE; not {cast_to!r}, {map_form!r}"
        )
    keys = sorted(int(k) for k in x)
    values = _as_type([x[k] for k in keys], _CASTS[cast_to])
    if map_form == "DENSE":
        return values.reshape(1, -1)
    if keys and (keys[0] < 0 or keys[-1] >= max_map):
        raise ValueError(
            f"the keys go from {keys[0]} to {keys[-1]}; a sparse map has keys from 0 to max_map-1 = {max_map - 1}"
        )
    out = np.full((1, max_map), "0.f", object) if cast_to == "TO_STRING" else np.zeros((1, max_map), values.dtype)
    out[0, keys] = values
    return out


@cast_map.infer
def _(cast_to: str, map_form: str, max_map: int) -> TensorType:
    return TensorType(_CASTS.get(cast_to), (1, max_map if map_form == "SPARSE" else None))


@cast_map.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    numbers: dict[int, Any] = {3: 1.5, 0: -2.0}
    for cast_to in _CASTS:
        yield (numbers,), {"cast_to": cast_to}
        yield (numbers,), {"cast_to": cast_to, "map_form": "SPARSE", "max_map": 5}
    yield ({1: "2.5", 0: "7"},), {}


@ml("DictVectorizer", nondiff=True)
def dict_vectorizer(
    x: Any, *, int64_vocabulary: tuple[int, ...] = (), string_vocabulary: tuple[str, ...] = ()
) -> Array:
    """The values of a map in the order of a vocabulary; zeros (or "") for the words it lacks.

    x: map(string or int64, number or string), or a list of N maps -> y: [1, words] or [N, words], the type of the
    values. Keys outside the vocabulary are passed over. Source: ONNX ML operator spec.
    """
    words = given(string_vocabulary, int64_vocabulary)
    if words is None:
        raise ValueError("one of int64_vocabulary and string_vocabulary is needed")
    maps = x if isinstance(x, (list, tuple)) else [x]
    example = next((v for m in maps for v in m.values()), np.float32(0))
    if isinstance(example, str):
        out = np.array([[m.get(w, "") for w in words] for m in maps], object)
    else:
        dtype = np.asarray(example).dtype
        dtype = np.dtype(np.float32) if isinstance(example, float) and not hasattr(example, "dtype") else dtype
        out = np.array([[m.get(w, 0) for w in words] for m in maps], dtype)
    return out.reshape(len(maps), len(words))


@dict_vectorizer.infer
def _(x: ValueType, int64_vocabulary: tuple[int, ...], string_vocabulary: tuple[str, ...]) -> TensorType:
    words = len(given(string_vocabulary, int64_vocabulary) or ())
    one = x.element if isinstance(x, SequenceType) else x
    dtype = one.value.dtype if isinstance(one, MapType) and isinstance(one.value, TensorType) else None
    rows: Dim = 1 if isinstance(x, MapType) else None
    return TensorType(dtype, (rows, words))


@dict_vectorizer.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield ({"a": 4.0, "c": 8.0},), {"string_vocabulary": ("a", "c", "b", "z")}
    yield ({2: np.int64(7)},), {"int64_vocabulary": (1, 2)}
    yield ([{"a": 1.0}, {}],), {"string_vocabulary": ("b", "a")}


@ml("ZipMap", outputs=("z",), nondiff=True)
def zip_map(x: Array, *, classlabels_int64s: tuple[int, ...] = (), classlabels_strings: tuple[str, ...] = ()) -> Any:
    """One map per row, from class label to the value in the label's column.

    x: float [N, C], or [C] for one row -> z: list of N dictionaries of Python floats. No gradient flows through a
    map: differentiate the tensor before it. Source: ONNX ML operator spec.
    """
    labels = given(classlabels_strings, classlabels_int64s)
    if labels is None:
        raise ValueError("one of classlabels_int64s and classlabels_strings is needed")
    if x.ndim not in (1, 2) or x.shape[-1] != len(labels):
        raise ValueError(f"x {x.shape} has a column for each of the {len(labels)} labels")
    rows = x.reshape(-1, len(labels)).tolist()
    return [dict(zip(labels, row, strict=True)) for row in rows]


@zip_map.infer
def _(x: TensorType, classlabels_strings: tuple[str, ...]) -> SequenceType:
    return SequenceType(MapType("string" if classlabels_strings else "int64", TensorType(x.dtype, ())))


@zip_map.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.uniform(size=(3, 2)).astype(np.float32)
    yield (x,), {"classlabels_strings": ("no", "yes")}
    yield (x[0],), {"classlabels_int64s": (0, 1)}
    yield (x[:0],), {"classlabels_int64s": (0, 1)}


OPS = (cast_map, dict_vectorizer, zip_map)
