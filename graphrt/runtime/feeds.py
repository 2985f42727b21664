"""Checks what a caller feeds against what a graph declares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphrt.errors import InputError
from graphrt.ir import Graph, Value
from graphrt.types import (
    DTYPES,
    MapType,
    OptionalType,
    SequenceType,
    TensorType,
    ValueType,
    dtype_name,
    numpy_dtype,
)


def check_feeds(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays to run with, by input name.

    Python numbers and lists become arrays of the declared dtype; arrays must have it already. A symbolic
    dimension must have one size wherever it occurs.

    Raises:
        InputError: an input is missing or unknown, or an array's dtype or shape is not what is declared.
    """
    declared = {v.name: v for v in graph.inputs}
    for name in feeds:
        if name not in declared:
            raise InputError(f"the graph has no input {name!r}; its inputs are: {_listed(graph.inputs)}")
    symbols: dict[str, tuple[int, str]] = {}
    checked: dict[str, Any] = {}
    for name, value in declared.items():
        if name in feeds:
            checked[name] = check_feed(value, feeds[name], symbols)
        elif name not in graph.initializers:
            raise InputError(f"the input {value} is missing; given: {', '.join(feeds) or 'nothing'}")
    return checked


def check_feed(value: Value, given: Any, symbols: dict[str, tuple[int, str]] | None = None) -> Any:
    """One input's array, checked against its declared type.

    Args:
        value: the declaration.
        given: what the caller passed.
        symbols: sizes of symbolic dimensions seen so far, and at which input; added to.

    Raises:
        InputError: it does not fit.
    """
    declared = value.type
    if not isinstance(declared, TensorType):
        return _check_container(value, declared, given)
    array = np.asarray(given) if isinstance(given, np.ndarray) else _to_array(value, given, declared.dtype)
    name = dtype_name(array.dtype)
    if declared.dtype is not None and name != declared.dtype:
        raise InputError(
            f"input {value.name!r}: expected {declared}, got {name}{list(array.shape)}; "
            f"convert it: x.astype({declared.dtype!r})"
        )
    _check_shape(value, declared, array.shape, symbols if symbols is not None else {})
    return array


def _to_array(value: Value, given: Any, dtype: str | None) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(given)
    except ValueError as e:
        raise InputError(f"input {value.name!r}: not an array: {e}") from None
    if dtype is None or isinstance(given, np.generic):
        return array
    wanted = DTYPES[dtype].kind
    if array.dtype.kind in "OUS" and wanted != "s":
        raise InputError(f"input {value.name!r}: expected {value.type}, got {type(given).__name__} {given!r:.60}")
    exact = array.astype(numpy_dtype(dtype))
    if wanted in "iub" and not np.array_equal(exact, array):
        raise InputError(f"input {value.name!r}: expected {value.type}, and {given!r:.60} does not fit {dtype}")
    return exact


def _check_shape(
    value: Value, declared: TensorType, shape: tuple[int, ...], symbols: dict[str, tuple[int, str]]
) -> None:
    if declared.shape is None:
        return
    got = f"{declared.dtype or ''}{list(shape)}"
    if len(shape) != len(declared.shape):
        raise InputError(
            f"input {value.name!r}: expected {declared} ({len(declared.shape)} dimensions), "
            f"got {got} ({len(shape)} dimensions)"
        )
    for axis, (want, have) in enumerate(zip(declared.shape, shape, strict=True)):
        if isinstance(want, int) and want != have:
            raise InputError(
                f"input {value.name!r}: expected {declared}, got {got}: dimension {axis} is {have}, not {want}"
            )
        if isinstance(want, str):
            size, where = symbols.setdefault(want, (have, value.name))
            if size != have:
                raise InputError(
                    f"input {value.name!r}: expected {declared}, got {got}: "
                    f"{want!r} is {have} here and {size} in input {where!r}"
                )


def _check_container(value: Value, declared: ValueType, given: Any) -> Any:
    if isinstance(declared, OptionalType):
        return None if given is None else check_feed(Value(value.name, declared.element), given)
    if isinstance(declared, SequenceType):
        if not isinstance(given, (list, tuple)):
            raise InputError(f"input {value.name!r}: expected {declared}: a list, got {type(given).__name__}")
        return [check_feed(Value(f"{value.name}[{i}]", declared.element), g) for i, g in enumerate(given)]
    if isinstance(declared, MapType) and not isinstance(given, (dict, list)):
        raise InputError(f"input {value.name!r}: expected {declared}: a dict, got {type(given).__name__}")
    return given


def signature(feeds: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a plan depends on: each array's name, dtype and shape."""
    return tuple((k, x.dtype, x.shape) if isinstance(x, np.ndarray) else (k, None, None) for k, x in feeds.items())


PlainTypes = dict[str, tuple[Any, tuple[int, ...]] | None]


def plain_types(feeds: Mapping[str, Any]) -> PlainTypes:
    """The dtype and shape of each array, None for anything else: what `have_types` compares with."""
    return {k: (x.dtype, x.shape) if type(x) is np.ndarray else None for k, x in feeds.items()}


def have_types(feeds: Mapping[str, Any], types: PlainTypes) -> bool:
    """Whether these are arrays of the very names, dtypes and shapes; quicker than to compare signatures."""
    if len(feeds) != len(types):
        return False
    for name, x in feeds.items():
        known = types.get(name)
        if known is None or type(x) is not np.ndarray or x.dtype is not known[0] or x.shape != known[1]:
            return False
    return True


def types_of(graph: Graph, feeds: Mapping[str, Any]) -> dict[str, ValueType]:
    """The exact types of what is fed, and the declared ones of the rest."""
    types = {v.name: v.type for v in graph.inputs}
    types.update((k, TensorType.of(x)) for k, x in feeds.items() if isinstance(x, np.ndarray))
    return types


def _listed(values: tuple[Value, ...]) -> str:
    return ", ".join(map(str, values)) or "none"
