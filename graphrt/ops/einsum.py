"""Einstein summation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from graphrt.op import Array, Example, op
from graphrt.ops._reduced import narrow, widen
from graphrt.records import dataclass
from graphrt.types import Dim, TensorType, broadcast_dims

Labels = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Equation:
    """An einsum equation with its ellipses written out: one number per axis of each operand and of the output."""

    operands: tuple[Labels, ...]
    output: Labels


@op("Einsum", version=12)
def einsum(*inputs: Array, equation: str) -> Array:
    """Sum of products of operands over the indices that the output does not name.

    *inputs: number, one term of the equation each -> y: the same dtype. A repeated index in a term is a diagonal;
    ``...`` stands for axes that broadcast; without ``->`` the output has the ellipsis, then the indices that occur
    once, in ASCII order (upper case first). 16-bit floats are multiplied in float32. Derivative for an operand: the
    einsum of the cotangent with the other operands, spread over indices that occur in that operand alone and put on
    its diagonals. Source: ONNX operator specification.
    """
    terms = parse(equation, tuple(x.ndim for x in inputs))
    return _contract(inputs, terms.operands, terms.output)


@einsum.vjp("inputs")
def _(ct: Array, inputs: tuple[Array, ...], equation: str) -> tuple[Array, ...]:
    terms = parse(equation, tuple(x.ndim for x in inputs))
    return tuple(_cotangent(ct, inputs, terms, at) for at in range(len(inputs)))


@einsum.jvp("inputs")
def _(inputs_dot: tuple[Array | None, ...], inputs: tuple[Array, ...], equation: str) -> Array:
    terms = parse(equation, tuple(x.ndim for x in inputs))
    parts = [
        _contract((*inputs[:i], dot, *inputs[i + 1 :]), terms.operands, terms.output)
        for i, dot in enumerate(inputs_dot)
        if dot is not None
    ]
    return sum(parts[1:], parts[0])


def _contract(inputs: Sequence[Array], operands: Sequence[Labels], output: Labels) -> Array:
    args: list[Any] = [arg for x, labels in zip(inputs, operands, strict=True) for arg in (widen(x), labels)]
    with np.errstate(over="ignore", invalid="ignore"):
        return narrow(np.einsum(*args, output, optimize=len(inputs) > 1), inputs[0].dtype)


def _cotangent(ct: Array, inputs: tuple[Array, ...], terms: Equation, at: int) -> Array:
    x, labels = inputs[at], terms.operands[at]
    others = [i for i in range(len(inputs)) if i != at]
    sizes = dict(zip(labels, x.shape, strict=True))
    elsewhere = {label for term in (terms.output, *(terms.operands[i] for i in others)) for label in term}
    distinct = tuple(dict.fromkeys(labels))
    # An index along which this operand was broadcast is summed; one that occurs here alone is spread.
    wide = _sizes(inputs, terms)
    kept = tuple(n for n in distinct if n in elsewhere and sizes[n] == wide[n])
    term_labels = [terms.output, *(terms.operands[i] for i in others)]
    part = _contract([ct, *(inputs[i] for i in others)], term_labels, kept)
    spread = np.reshape(part, tuple(sizes[n] if n in kept else 1 for n in distinct))
    full = np.broadcast_to(spread, tuple(sizes[n] for n in distinct))
    if len(distinct) == len(labels):
        return full
    out = np.zeros(x.shape, ct.dtype, like=full)
    grid = dict(zip(distinct, np.ogrid[tuple(slice(0, sizes[n]) for n in distinct)], strict=True))
    out[tuple(grid[n] for n in labels)] = full
    return out


def _sizes(inputs: Sequence[Array], terms: Equation) -> dict[int, int]:
    wide: dict[int, int] = {}
    for x, labels in zip(inputs, terms.operands, strict=True):
        for label, n in zip(labels, x.shape, strict=True):
            wide[label] = n if wide.get(label, 1) == 1 else wide[label]
    return wide


@lru_cache(maxsize=512)
def parse(equation: str, ranks: tuple[int, ...]) -> Equation:
    """The equation for operands of these ranks.

    Raises:
        ValueError: the equation is malformed or does not fit the operands.
    """
    left, arrow, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"the equation {equation!r} has {len(terms)} terms, there are {len(ranks)} inputs")
    widths = [_ellipsis_width(term, rank, equation) for term, rank in zip(terms, ranks, strict=True)]
    width = max(widths)
    operands = tuple(_labels(term, n) for term, n in zip(terms, widths, strict=True))
    if not arrow:
        text = left.replace(",", "").replace(".", "")
        right = "..." + "".join(sorted(c for c in set(text) if text.count(c) == 1))
    _check_term(right, equation)
    output = _labels(right, width)
    named = {label for term in operands for label in term}
    if len(set(output)) != len(output) or not set(output) <= named:
        raise ValueError(f"the output of the equation {equation!r} repeats an index, or names one that no input has")
    return _numbered(operands, output)


def _check_term(term: str, equation: str) -> str:
    letters = term.replace("...", "", 1)
    if letters and not (letters.isascii() and letters.isalpha()):
        raise ValueError(f"the term {term!r} of the equation {equation!r} is not letters with at most one '...'")
    return letters


def _ellipsis_width(term: str, rank: int, equation: str) -> int:
    width = rank - len(_check_term(term, equation))
    if width < 0 or (width > 0 and "..." not in term):
        raise ValueError(f"the term {term!r} of the equation {equation!r} does not fit an input of {rank} dimensions")
    return width


def _labels(term: str, width: int) -> Labels:
    """Code points for letters; negative numbers for the axes of an ellipsis, aligned at its right end."""
    head, dots, tail = term.partition("...")
    middle = range(-width, 0) if dots else range(0)
    return (*map(ord, head), *middle, *map(ord, tail))


def _numbered(operands: tuple[Labels, ...], output: Labels) -> Equation:
    """The same labels as small numbers, as NumPy's einsum takes them."""
    number = {label: i for i, label in enumerate(dict.fromkeys(label for term in operands for label in term))}
    return Equation(tuple(tuple(number[n] for n in term) for term in operands), tuple(number[n] for n in output))


@einsum.infer
def _(inputs: tuple[TensorType, ...], equation: str) -> TensorType:
    dtype = next((t.dtype for t in inputs if t.dtype is not None), None)
    if any(t.shape is None for t in inputs):
        return TensorType(dtype, None)
    terms = parse(equation, tuple(len(t.shape or ()) for t in inputs))
    dims: dict[int, Dim] = {}
    for t, labels in zip(inputs, terms.operands, strict=True):
        for label, d in zip(labels, t.shape or (), strict=True):
            dims[label] = broadcast_dims(dims[label], d) if label in dims else d
    return TensorType(dtype, tuple(dims[label] for label in terms.output))


@einsum.examples
def _(rng: np.random.Generator) -> Any:
    cases: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
        ("ij,jk->ik", ((2, 3), (3, 4))),
        ("ij,jk", ((2, 3), (3, 4))),
        ("i,i->", ((3,), (3,))),
        ("ii->i", ((3, 3),)),
        ("ii", ((3, 3),)),
        ("iij->j", ((3, 3, 2),)),
        ("ij->ji", ((2, 3),)),
        ("ij->", ((2, 3),)),
        ("ij,k->k", ((2, 3), (4,))),
        ("i,jj->i", ((2,), (3, 3))),
        ("...ij,...jk->...ik", ((2, 1, 2, 3), (4, 3, 2))),
        ("...ii->...i", ((2, 3, 3),)),
        ("... , i...", ((2,), (3, 2))),
        ("...i->i", ((2, 3, 4),)),
        ("bA, Ac -> c b", ((2, 3), (3, 4))),
        ("ab,bc,cd->ad", ((2, 3), (3, 2), (2, 2))),
        (",ij->ij", ((), (2, 3))),
        ("ij,jk->ik", ((0, 3), (3, 4))),
        ("ij,jk->ik", ((2, 0), (0, 4))),
    ]
    for equation, shapes in cases:
        yield Example(tuple(rng.normal(size=s) for s in shapes), {"equation": equation})


OPS = (einsum,)
