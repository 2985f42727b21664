"""Arguments of an op as trees: an array, None, a tuple (a variadic input) or a list (a sequence) of these."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np


def leaves(tree: Any) -> Iterator[Any]:
    """Every array in the tree."""
    if isinstance(tree, (tuple, list)):
        for x in tree:
            yield from leaves(x)
    elif tree is not None and not isinstance(tree, dict):  # a map is no array
        yield tree


def map_leaves(function: Callable[[Any], Any], tree: Any) -> Any:
    """A tree of the same form with the function applied to each array."""
    if isinstance(tree, (tuple, list)):
        return type(tree)(map_leaves(function, x) for x in tree)
    return None if tree is None else function(tree)


def is_float(x: Any) -> bool:
    """Whether an array can carry a derivative that finite differences can see."""
    dtype = getattr(x, "dtype", None)
    return dtype is not None and dtype.kind == "f"


def has_float(tree: Any) -> bool:
    """Whether any array of the tree is of a float dtype."""
    return any(is_float(x) for x in leaves(tree))


def random_like(tree: Any, rng: np.random.Generator) -> Any:
    """Random arrays of the shapes and dtypes of the float arrays; None for the others.

    Magnitudes are between 0.5 and 1.5, so that no element's derivative hides behind a small factor.
    """

    def draw(x: Any) -> Any:
        if not is_float(x):
            return None
        size = np.shape(x)
        return np.asarray(rng.uniform(0.5, 1.5, size) * rng.choice([-1.0, 1.0], size)).astype(x.dtype)

    return map_leaves(draw, tree)


def step(tree: Any, direction: Any, h: float) -> Any:
    """``tree + h * direction`` where there is a direction."""
    if isinstance(tree, (tuple, list)):
        return type(tree)(step(x, d, h) for x, d in zip(tree, direction, strict=True))
    return tree if direction is None else tree + tree.dtype.type(h) * direction


def inner(a: Any, b: Any) -> tuple[float, float]:
    """The inner product of two trees, and the sum of the magnitudes of its terms."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        parts = [inner(x, y) for x, y in zip(a, b, strict=True)]
        return sum(p[0] for p in parts), sum(p[1] for p in parts)
    if a is None or b is None or not is_float(a) or not is_float(b):
        return 0.0, 0.0
    with np.errstate(all="ignore"):
        terms = np.asarray(a, np.float64) * np.asarray(b, np.float64)
        return float(np.sum(terms)), float(np.sum(np.abs(terms)))


def flat_like(x: Any, pattern: Any) -> Any:
    """The float entries as one float64 vector, laid out by ``pattern``; zeros where ``x`` has None."""
    if isinstance(pattern, (tuple, list)):
        members = x if x is not None else [None] * len(pattern)
        return join([flat_like(a, p) for a, p in zip(members, pattern, strict=True)])
    if not is_float(pattern):
        return np.zeros(0)
    return np.zeros(pattern.size) if x is None else np.ravel(np.asarray(x, np.float64))


def join(parts: Sequence[Any]) -> Any:
    """Vectors one after another."""
    return np.concatenate([np.zeros(0), *parts])


def describe(x: Any) -> str:
    """``float64[2, 3]`` of an array; lists and tuples in their brackets."""
    if isinstance(x, (tuple, list)):
        text = ", ".join(map(describe, x))
        return f"({text})" if isinstance(x, tuple) else f"[{text}]"
    if x is None:
        return "absent"
    if not hasattr(x, "dtype"):
        return type(x).__name__
    values = f"={x.tolist()}" if x.size <= 4 and x.dtype.kind in "iub" else ""
    return f"{x.dtype}{list(x.shape)}{values}"
