"""A machine for groups of single numbers: it is compiled once, and each group is a tape of instructions for it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

from graphrt.runtime.formulas import FOLDS, OPERANDS, SETTINGS, formula
from graphrt.runtime.kernels import _scalar_functions
from graphrt_numba.compiler import Loop, helper
from graphrt_numba.scalars import FIELDS

_OWN = ("erf", "hypot", "normal_cdf", "gelu", "gelu_slope")
"""Functions that Python does not take from the C library, as numba does: the last bit could differ."""


def _operands(op_type: str) -> list[str]:
    """The texts of an instruction's operands, those that are attributes of the op last."""
    count = 2 if op_type in FOLDS else OPERANDS[op_type] + len(SETTINGS[op_type])
    return [f"r[code[at + {k + 1}]]" for k in range(count)]


def _text(op_type: str) -> str:
    operands = _operands(op_type)
    settings = SETTINGS.get(op_type, ())
    return formula(op_type, operands, dict(zip(settings, operands[len(operands) - len(settings) :], strict=True)))


_TEXTS = {op: text for op in sorted({*OPERANDS, *FOLDS}) if not any(f"{f}(" in (text := _text(op)) for f in _OWN)}

INSTRUCTIONS = {op_type: i for i, op_type in enumerate(_TEXTS)}
"""Op types to their instructions. Those of `FOLDS` take two operands."""


@cache
def machine() -> Loop:
    """The loop that does one instruction after the other.

    It takes the number of instructions, the tape (uint32, `FIELDS` numbers for each), and the registers (float64): an
    instruction writes the register of its own number, so operands lie behind those.
    """
    functions = Path(_scalar_functions.__file__).read_bytes()
    text = "\n".join(_lines())
    name = f"machine_{hashlib.sha256(functions + text.encode()).hexdigest()[:16]}"
    space: dict[str, Any] = {**vars(_scalar_functions), "ZERO": 0.0, "ONE": 1.0}
    space |= {name: function for name, (function, _) in _scalar_functions.ELEMENTARY.items()}
    for composed, function in _scalar_functions.COMPOSED.items():
        if composed not in _OWN:
            space[composed] = helper(FunctionType(function.__code__, space, composed))
    exec(compile(f"def {name}{text}", "tape", "exec"), space)
    return Loop(space[name])


def _lines() -> Iterator[str]:
    """The text of the function after its name."""
    yield "(count, code, r):"
    yield " for i in range(count):"
    yield f"  at = {FIELDS} * i"
    yield "  which = code[at]"
    yield "  y = ZERO"
    for i, text in enumerate(_TEXTS.values()):
        yield f"  {'elif' if i else 'if'} which == {i}: y = {text}"
    yield "  r[i] = y"
