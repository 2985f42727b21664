"""Categories of ai.onnx.ml: strings, integers and floats mapped to each other and to one-hot rows.

A mapping of numbers looks up the distinct keys with one binary search for the whole array; strings go through a
dictionary once per distinct value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from graphrt.plugin import Array, Dim, TensorType
from graphrt_onnx.ops._ml import constants, given, ml, string_array


def find(x: Array, keys: Sequence[Any]) -> Array:
    """Where each element stands among the keys, the last place when a key repeats; -1 when it is none of them.

    NaN finds NaN.
    """
    if x.dtype.kind == "O" or (len(keys) and isinstance(keys[0], str)):
        places = {k: i for i, k in enumerate(keys)}
        flat = [places.get(v, -1) for v in np.ravel(x).tolist()]
        return np.array(flat, np.int64).reshape(x.shape)
    table = np.asarray(keys, x.dtype)
    if table.size == 0:
        return np.full(x.shape, -1, np.int64)
    order = np.argsort(table, kind="stable")  # NaN goes last
    ordered = table[order]
    at = np.searchsorted(ordered, x, side="right") - 1
    at = np.maximum(at, 0)
    same = ordered[at] == x
    if x.dtype.kind == "f":
        same |= np.isnan(ordered[at]) & np.isnan(x)
    return np.where(same, order[at], -1)


def pick(place: Array, values: Array, default: Any) -> Array:
    """The values at the places; the default where the place is -1."""
    table = np.concatenate([values, np.asarray(default, values.dtype).reshape(1)])
    return np.asarray(table[place])


def _wanted(ok: bool, text: str) -> None:
    if not ok:
        raise ValueError(text)


# ---- CategoryMapper ------------------------------------------------------------------------------------------


@ml("CategoryMapper", nondiff=True)
def category_mapper(
    x: Array, *, cats_int64s: tuple[int, ...], cats_strings: tuple[str, ...], default_int64: int = -1,
    default_string: str = "_Unused",
) -> Array:  # fmt: skip
    """Strings to integers, or integers to strings, by two lists of equal length.

    x: string [...] -> y: int64 [...], or x: int64 [...] -> y: string [...]; what is not in the list becomes the
    default. Source: ONNX ML operator spec.
    """
    _wanted(len(cats_int64s) == len(cats_strings), "cats_int64s and cats_strings have equal length")
    if x.dtype.kind == "O":
        return pick(find(x, cats_strings), constants(cats_int64s, np.int64), default_int64)
    return pick(find(x, cats_int64s), string_array(cats_strings), default_string)


@category_mapper.infer
def _(x: TensorType) -> TensorType:
    return TensorType({"string": "int64", "int64": "string"}.get(x.dtype or ""), x.shape)


@category_mapper.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    both = {"cats_int64s": (4, 2), "cats_strings": ("cat", "dog")}
    yield (string_array(["dog", "cow", "cat"]),), both
    yield (np.array([[2, 4], [5, 2]]),), {**both, "default_string": "none"}
    yield (np.array(2),), both
    yield (np.zeros((0, 2), np.int64),), both


# ---- LabelEncoder --------------------------------------------------------------------------------------------


@ml("LabelEncoder", nondiff=True)
def label_encoder_1(
    x: Array, *, classes_strings: tuple[str, ...] = (), default_int64: int = -1, default_string: str = "_Unused"
) -> Array:
    """Strings to their places in a list, or places to strings.

    x: string [...] -> y: int64 [...], or x: int64 [...] -> y: string [...]; what is not there becomes the default.
    Source: ONNX ML operator spec, version 1.
    """
    if x.dtype.kind == "O":
        return pick(find(x, classes_strings), np.arange(len(classes_strings)), default_int64)
    inside = (x >= 0) & (x < len(classes_strings))
    return pick(np.where(inside, x, -1), string_array(classes_strings), default_string)


@label_encoder_1.infer
def _(x: TensorType) -> TensorType:
    return TensorType({"string": "int64", "int64": "string"}.get(x.dtype or ""), x.shape)


@label_encoder_1.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (string_array(["b", "z", "a"]),), {"classes_strings": ("a", "b")}
    yield (np.array([[1, 0], [2, -1]]),), {"classes_strings": ("a", "b"), "default_string": "?"}


def _keys(ints: Any, floats: Any, strings: Any, tensor: Any = None) -> Sequence[Any]:
    keys = given(tensor, ints, floats, strings)
    _wanted(keys is not None, "one of the keys_* attributes is needed")
    return keys if isinstance(keys, tuple) else tuple(keys.ravel().tolist())


def _values(
    ints: Any, floats: Any, strings: Any, tensor: Any, default_int64: int, default_float: float,
    default_string: str, default_tensor: Any,
) -> tuple[Array, Any]:  # fmt: skip
    """The values as an array, and the default for what has no key."""
    if given(tensor) is not None:
        values = tensor.ravel()
        fallback = "_Unused" if values.dtype.kind == "O" else -1 if values.dtype.kind == "i" else -0.0
        return values, fallback if default_tensor is None else default_tensor.ravel()[0]
    for found, dtype, default in ((ints, np.int64, default_int64), (floats, np.float32, default_float)):
        if given(found) is not None:
            return constants(found, dtype), default if default_tensor is None else default_tensor.ravel()[0]
    _wanted(given(strings) is not None, "one of the values_* attributes is needed")
    return string_array(strings), default_string if default_tensor is None else default_tensor.ravel()[0]


def _encode(x: Array, keys: Sequence[Any], values: tuple[Array, Any]) -> Array:
    _wanted(len(keys) == len(values[0]), f"there are {len(keys)} keys and {len(values[0])} values")
    kind = "O" if isinstance(keys[0], str) else "if"
    _wanted(x.dtype.kind in kind, f"x is {x.dtype}, the keys are {'strings' if kind == 'O' else 'numbers'}")
    return pick(find(x, keys), *values)


@ml("LabelEncoder", version=2, nondiff=True)
def label_encoder_2(
    x: Array, *, keys_int64s: tuple[int, ...] = (), keys_floats: tuple[float, ...] = (),
    keys_strings: tuple[str, ...] = (), values_int64s: tuple[int, ...] = (), values_floats: tuple[float, ...] = (),
    values_strings: tuple[str, ...] = (), default_int64: int = -1, default_float: float = -0.0,
    default_string: str = "_Unused",
) -> Array:  # fmt: skip
    """Maps each element by a list of keys and a list of values.

    x: string, int64 or float [...], of the keys' kind -> y: string, int64 or float32 [...], of the values' kind.
    What has no key becomes the default; NaN matches NaN; the last of equal keys counts.
    Source: ONNX ML operator spec, version 2.
    """
    values = _values(
        values_int64s, values_floats, values_strings, None, default_int64, default_float, default_string, None
    )
    return _encode(x, _keys(keys_int64s, keys_floats, keys_strings), values)


@label_encoder_2.infer
def _(
    x: TensorType, values_int64s: tuple[int, ...], values_floats: tuple[float, ...], values_strings: tuple[str, ...]
) -> TensorType:
    return TensorType("int64" if values_int64s else "float32" if values_floats else "string", x.shape)


@label_encoder_2.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    words = string_array(["Dori", "Amy", "Sally"])
    yield (words,), {"keys_strings": ("Amy", "Sally"), "values_int64s": (5, 6)}
    yield (words,), {"keys_strings": ("Amy", "Sally"), "values_floats": (0.5, 1.5), "default_float": 9.0}
    yield (np.array([[3, 1], [2, 1]]),), {"keys_int64s": (1, 2, 1), "values_strings": ("a", "b", "c")}
    yield (np.array([np.nan, 2.0]),), {"keys_floats": (np.nan,), "values_int64s": (7,)}


@ml("LabelEncoder", version=4, nondiff=True)
def label_encoder_4(
    x: Array, *, keys_int64s: tuple[int, ...] = (), keys_floats: tuple[float, ...] = (),
    keys_strings: tuple[str, ...] = (), keys_tensor: np.ndarray | None = None, values_int64s: tuple[int, ...] = (),
    values_floats: tuple[float, ...] = (), values_strings: tuple[str, ...] = (),
    values_tensor: np.ndarray | None = None, default_int64: int = -1, default_float: float = -0.0,
    default_string: str = "_Unused", default_tensor: np.ndarray | None = None,
) -> Array:  # fmt: skip
    """Maps each element by a list of keys and a list of values, each also possible as a tensor.

    x: string, integer or float [...], of the keys' kind -> y: [...] in the type of the values (string, int64,
    float32, or the tensor's). What has no key becomes the default (-1, -0.0, "_Unused" where none is given); NaN
    matches NaN; the last of equal keys counts. Source: ONNX ML operator spec, version 4.
    """
    values = _values(
        values_int64s, values_floats, values_strings, values_tensor, default_int64, default_float, default_string,
        default_tensor,
    )  # fmt: skip
    return _encode(x, _keys(keys_int64s, keys_floats, keys_strings, keys_tensor), values)


@label_encoder_4.infer
def _(
    x: TensorType, values_int64s: tuple[int, ...], values_floats: tuple[float, ...], values_strings: tuple[str, ...],
    values_tensor: np.ndarray | None,
) -> TensorType:  # fmt: skip
    if values_tensor is not None:
        return TensorType(TensorType.of(values_tensor).dtype, x.shape)
    return TensorType("int64" if values_int64s else "float32" if values_floats else "string", x.shape)


@label_encoder_4.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    keys, values = np.array([1, 2, 3], np.int32), np.array([0.5, 1.5, 2.5])
    yield (np.array([2, 9], np.int32),), {"keys_tensor": keys, "values_tensor": values}
    yield (
        (np.array([[2.0, 9.0]]),),
        {"keys_tensor": values, "values_strings": ("a", "b", "c"), "default_tensor": string_array(["?"])},
    )
    yield (
        (string_array(["x", "y"]),),
        {
            "keys_tensor": string_array(["y"]),
            "values_tensor": np.array([4], np.int16),
            "default_tensor": np.array([7], np.int16),
        },
    )
    yield (np.array(np.nan),), {"keys_floats": (np.nan, 1.0), "values_int64s": (7, 8)}


# ---- OneHotEncoder -------------------------------------------------------------------------------------------


@ml("OneHotEncoder", nondiff=True)
def one_hot_encoder(
    x: Array, *, cats_int64s: tuple[int, ...] = (), cats_strings: tuple[str, ...] = (), zeros: int = 1
) -> Array:
    """A row of zeros with a one at the category's place, per element.

    x: string [...], or number [...] (read as whole numbers) -> y: float32 [..., categories]. What is no category
    gives zeros, or an error where ``zeros`` is 0. Source: ONNX ML operator spec.
    """
    cats: Sequence[Any] = cats_strings if x.dtype.kind == "O" else cats_int64s
    _wanted(len(cats) > 0, f"x is {x.dtype}: cats_{'strings' if x.dtype.kind == 'O' else 'int64s'} is needed")
    place = find(x if x.dtype.kind == "O" else x.astype(np.int64), cats)
    if not zeros and np.any(place < 0):
        raise ValueError(f"x holds {x[place < 0].ravel()[0]!r}, which is none of the categories, and zeros is 0")
    return (place[..., None] == np.arange(len(cats))).astype(np.float32)


@one_hot_encoder.infer
def _(x: TensorType, cats_int64s: tuple[int, ...], cats_strings: tuple[str, ...]) -> TensorType:
    count: Dim = None
    if x.dtype is not None:
        count = len(cats_strings if x.dtype == "string" else cats_int64s)
    return TensorType("float32", None if x.shape is None else (*x.shape, count))


@one_hot_encoder.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([[3, 1], [2, 9]]),), {"cats_int64s": (1, 2, 3)}
    yield (string_array(["b", "a"]),), {"cats_strings": ("a", "b"), "zeros": 0}
    yield (np.array([1.0, 2.0]),), {"cats_int64s": (1, 2, 3)}
    yield (np.zeros((0, 2), np.int64),), {"cats_int64s": (1,)}


OPS = (category_mapper, label_encoder_1, label_encoder_2, label_encoder_4, one_hot_encoder)
