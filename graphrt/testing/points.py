"""Where an op is tried: its declared examples, and generated points for elementwise ops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphrt.op import Example, Op
from graphrt.testing.calls import Point
from graphrt.testing.trees import map_leaves

_DEFAULT_RANGE = (-2.0, 2.0)
_SHAPES: dict[str, tuple[tuple[int, ...], ...]] = {
    "equal shapes": ((2, 3),),
    "broadcast shapes": ((2, 3), (3,), (2, 1)),
    "broadcast shapes, first smaller": ((3, 1), (1, 4), (2, 1, 4)),
    "0-d": ((),),
    "0-d and 1-d": ((), (3,)),
    "empty": ((0, 3), (1, 3)),
}


def examples(op: Op, seed: int) -> list[Point]:
    """The op's own examples, then generated ones where the op is elementwise."""
    rng = np.random.default_rng(seed)
    declared = [Point.of(op, e, f"example {i}", seed) for i, e in enumerate(op.draw_examples(rng))]
    return declared + list(generated(op, rng, seed))


def at_kinks(op: Op, seed: int) -> Iterator[Point]:
    """Points with one input at a declared kink."""
    rng = np.random.default_rng(seed)
    for kink in op.kinks if _can_generate(op) else ():
        for p in op.inputs:
            low, high = op.ranges.get(p.name, _DEFAULT_RANGE)
            if low <= kink <= high:
                yield _special(op, rng, seed, p.name, np.full((2, 3), float(kink)), f"{p.name} at the kink {kink}")


def at_extremes(op: Op, seed: int) -> Iterator[Point]:
    """Points with one input huge and tiny, where its range is not limited."""
    rng = np.random.default_rng(seed)
    extremes = np.array([1e4, -1e4, 300.0, -300.0, 1e-30, 0.0])
    for p in op.inputs if _can_generate(op) else ():
        if p.name not in op.ranges:
            yield _special(op, rng, seed, p.name, extremes, f"{p.name} at extremes up to ±1e4")


def _special(op: Op, rng: np.random.Generator, seed: int, name: str, values: Any, label: str) -> Point:
    shapes = [values.shape] * len(op.inputs)
    inputs = [values if p.name == name else _draw(op, p.name, s, rng) for p, s in zip(op.inputs, shapes, strict=True)]
    return Point.of(op, Example(tuple(inputs), {}, smooth=False), label, seed)


def _can_generate(op: Op) -> bool:
    """Whether random float64 arrays are arguments: no input is restricted to something else, no attribute required."""
    floats = not op.nondiff or all(p.name in op.ranges for p in op.inputs if p.name in op.nondiff)
    return op.elementwise and bool(op.inputs) and floats and not any(a.required for a in op.attributes.values())


def generated(op: Op, rng: np.random.Generator, seed: int) -> Iterator[Point]:
    """Points of several shapes for an elementwise op; none for another."""
    if not _can_generate(op):
        return
    names = [p.name for p in op.inputs]
    counts = {len(names)} | {len([p for p in op.inputs if not p.optional])}
    if op.inputs[-1].variadic:
        counts = {len(names), len(names) + 1, len(names) + 2}
    for label, shapes in _SHAPES.items():
        for n in sorted(counts):
            if (n == 1 and len(shapes) > 1 and label != "empty") or n == 0:
                continue
            inputs = [
                _draw(op, names[min(i, len(names) - 1)], shapes[i % len(shapes)], rng) for i in range(n)
            ]  # fmt: skip
            yield Point.of(op, Example(tuple(inputs), {}), f"generated, {label}", seed)


def _draw(op: Op, name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    low, high = op.ranges.get(name, _DEFAULT_RANGE)
    x = np.asarray(rng.uniform(low, high, shape))
    for kink in op.kinks:
        near = np.abs(x - kink) < 0.02 * (high - low)
        away = np.where((x >= kink) & (kink < high) | (kink <= low), 0.05, -0.05) * (high - low)
        x = np.where(near, kink + away, x)
    return x


# ---- other layouts of the same arrays -------------------------------------------------------------


def _every_second(x: Any) -> Any:
    base = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    every_second: Any = (..., *(slice(None, None, 2) for _ in x.shape))
    view = base[every_second]
    view[...] = x
    return view


def _reversed(x: Any) -> Any:
    backwards: Any = (..., *(slice(None, None, -1) for _ in x.shape))
    return np.array(x[backwards])[backwards]


def _transposed(x: Any) -> Any:
    return np.array(x.T, order="C").T


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "strided": _every_second,
    "negative strides": _reversed,
    "transposed": _transposed,
}


def relaid(tree: Any, layout: str) -> Any:
    """The same arrays in another memory layout, read-only."""

    def change(x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        view = LAYOUTS[layout](x)
        view.flags.writeable = False
        return view

    return map_leaves(change, tree)
