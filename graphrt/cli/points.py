"""Formulas, and points to evaluate a graph at, as they are written on a command line."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from graphrt.cli.inputs import read_array, read_arrays, read_graph
from graphrt.cli.usage import UsageError
from graphrt.errors import ExpressionError
from graphrt.expressions import evaluate, expression
from graphrt.ir import Graph

_FILE = re.compile(r".*\.[A-Za-z][A-Za-z0-9_]*")


def read_formula_or_graph(text: str) -> tuple[Graph, bool]:
    """A formula's graph and True, or a file's graph and False.

    A text that names an existing file, or that ends like a file name (a point and letters, which no formula
    does), is a file.
    """
    if text == "-" or os.path.isfile(text) or _FILE.fullmatch(text.strip()):
        return read_graph(text if text == "-" else text.strip()), False
    return expression(text), True


def read_point(items: Iterable[str]) -> dict[str, Any]:
    """Inputs from ``name=value`` items: a number, a JSON list, a formula such as ``pi/2``, or a ``.npy`` file.

    Raises:
        UsageError: an item is none of these, or a name comes twice.
    """
    point: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name, text = name.strip(), text.strip()
        if not equals or not name or not text:
            raise UsageError(f"{item!r}: write NAME=VALUE, such as x=3, x=pi/2 or x=[1,2]")
        if name in point:
            raise UsageError(f"{name!r} is given twice")
        point[name] = _read_value(name, text)
    return point


def _read_value(name: str, text: str) -> Any:
    if text == "-" or text.lower().endswith(".npy"):
        return read_array(text)
    if text[0] in "[{":
        try:
            return _as_list(json.loads(text))
        except (ValueError, RecursionError) as e:
            raise UsageError(f"{name}={text}: not a JSON list of numbers: {e}") from None
    try:
        return float(text) if not re.fullmatch(r"[+-]?\d{1,18}", text) else int(text)
    except ValueError:
        pass
    try:
        return evaluate(text)
    except ExpressionError as e:
        raise UsageError(f"the value of {name} is not a number: {e}") from None


def _as_list(value: Any) -> list[Any]:
    if not isinstance(value, list) or np.asarray(value).dtype.kind not in "fiub":
        raise ValueError("its elements must be numbers, and its rows of one length")
    return value


def read_inputs(items: Sequence[str], data: str | None) -> dict[str, Any]:
    """Arrays to run a model with: those of an ``.npz`` file, then ``name=value`` items."""
    return {**({} if data is None else read_arrays(data)), **read_point(items)}
