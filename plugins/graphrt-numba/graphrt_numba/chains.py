"""Chains of elementwise ops as one loop each."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

from graphrt_numba import functions
from graphrt_numba.compiler import LOCAL, Loop, local

Varies = tuple[bool, ...]
"""Along which axes an operand has as many elements as the result; along the others it has one."""


@cache
def chain_loop(statements: tuple[str, ...], inputs: tuple[Varies, ...], outputs: tuple[str, ...]) -> Loop:
    """The loop that computes some values from others, element by element.

    What it computes is gathered in small arrays on the stack before it is written, so the outputs may lie in the memory
    of any inputs, and the compiler has nothing to check before it uses vector instructions. The loop takes the first
    row and the one after the last, the length of each axis, the inputs and the outputs. Rows are all the axes but the
    last; of a single axis they are pieces of `LOCAL` elements.

    Args:
        statements: ``name = expression``, in order; the inputs are called x0, x1, ...
        inputs: of each along which axes it varies; all have as many.
        outputs: the names of what is written.
    """
    text = "\n".join(_lines(statements, dict(enumerate(inputs)), outputs))
    name = f"chain_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    space = {**vars(functions), "local": local}
    exec(compile(f"def {name}{text}", "chain", "exec"), space)
    return Loop(space[name])


def _lines(statements: Sequence[str], inputs: Mapping[int, Varies], outputs: Sequence[str]) -> Iterator[str]:
    """The text of the function after its name."""
    axes = range(len(inputs[0]))
    arrays = [*(f"in{i}" for i in inputs), *(f"out{i}" for i in range(len(outputs)))]
    streams = {i for i, varies in inputs.items() if varies[-1]}
    yield f"({', '.join(['first', 'last', *(f'n{a}' for a in axes), *arrays])}):"
    yield from (f" block{i} = local(out{i}, 1)" for i in range(len(outputs)))
    yield " for row in range(first, last):"
    if len(axes) == 1:
        yield f"  begin, end = row * {LOCAL}, min(row * {LOCAL} + {LOCAL}, n0)"
    else:
        yield f"  begin, end = row * n{axes[-1]}, row * n{axes[-1]} + n{axes[-1]}"
        yield "  rest = row"
        for axis in reversed(axes[1:-1]):
            yield f"  i{axis}, rest = rest % n{axis}, rest // n{axis}"
        yield "  i0 = rest"
    for i, varies in inputs.items():
        if not varies[-1]:
            yield f"  x{i} = in{i}[{_offset(varies)}]"
        elif not all(varies):
            yield f"  shift{i} = ({_offset(varies)}) * n{axes[-1]} - begin"
    yield f"  for start in range(begin, end, {LOCAL}):"
    yield f"   stop = min(start + {LOCAL}, end)"
    for i in streams:
        shift = "" if all(inputs[i]) else f" + shift{i}"
        yield f"   part{i} = in{i}[start{shift}:stop{shift}]"
    yield "   for i in range(stop - start):"
    yield from (f"    x{i} = part{i}[i]" for i in streams)
    yield from (f"    {s}" for s in statements)
    yield from (f"    block{i}[i] = {name}" for i, name in enumerate(outputs))
    for i in range(len(outputs)):
        yield f"   to{i} = out{i}[start:stop]"
        yield "   for i in range(stop - start):"
        yield f"    to{i}[i] = block{i}[i]"


def _offset(varies: Varies) -> str:
    """The position of an operand's row among its rows."""
    text = "0"
    for axis, it in enumerate(varies[:-1]):
        if it:
            text = f"i{axis}" if text == "0" else f"({text}) * n{axis} + i{axis}"
    return text


def rows_of(dims: Sequence[int]) -> int:
    """How many rows a loop over axes of these lengths has."""
    return math.prod(dims[:-1]) if len(dims) > 1 else -(-dims[0] // LOCAL)
