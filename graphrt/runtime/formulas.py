"""Elementwise ops as formulas: what is computed for one element.

A formula is Python text in which ``{0}``, ``{1}``, ... stand for a node's inputs, and ``{alpha}`` for an attribute.
Whoever evaluates it brings the functions that it calls, the numbers ``ZERO`` and ``ONE``, and ``F``, which makes a
number of the element type: `graphrt.runtime.kernels.scalars` for single numbers, kernels that compile loops for arrays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from graphrt.runtime.fusion import ALIASES

_SLOPES = {
    "Abs[x]": ("abs({0})", "sign({1})"),
    "Acos[input]": ("acos({0})", "-(ONE / sqrt((ONE - {1}) * (ONE + {1})))"),
    "Acosh[input]": ("acosh({0})", "(ONE / (sqrt({1} - ONE) * sqrt({1} + ONE)))"),
    "Asin[input]": ("asin({0})", "(ONE / sqrt((ONE - {1}) * (ONE + {1})))"),
    "Asinh[input]": ("asinh({0})", "(ONE / hypot({1}, ONE))"),
    "Atan[input]": ("atan({0})", "(ONE / (ONE + {1} * {1}))"),
    "Atanh[input]": ("atanh({0})", "(ONE / ((ONE - {1}) * (ONE + {1})))"),
    "Cos[input]": ("cos({0})", "-sin({1})"),
    "Cosh[input]": ("cosh({0})", "sinh({1})"),
    "Erf[input]": ("erf({0})", "erf_slope({1})"),
    "Exp[input]": ("exp({0})", "{1}"),
    "HardSigmoid[x]": ("hard_sigmoid({0}, {alpha}, {beta})", "hard_sigmoid_slope({1}, {alpha})"),
    "HardSwish[x]": ("hard_swish({0})", "hard_swish_slope({1})"),
    "LeakyRelu[x]": ("choose({0} < ZERO, {alpha} * {0}, {0})", "choose({1} > ZERO, ONE, {alpha})"),
    "Log[input]": ("log({0})", "(ONE / {1})"),
    "Reciprocal[x]": ("ONE / {0}", "(-{1} * {1})"),
    "Relu[x]": ("maximum({0}, ZERO)", "choose({1} > ZERO, ONE, ZERO)"),
    "Sigmoid[x]": ("sigmoid({0})", "({1} * (ONE - {1}))"),
    "Sin[input]": ("sin({0})", "cos({1})"),
    "Sinh[input]": ("sinh({0})", "cosh({1})"),
    "Softplus[x]": ("softplus({0})", "-expm1_negative(-{1})"),
    "Sqrt[x]": ("sqrt({0})", "(ONE / ({1} + {1}))"),
    "Swish[x]": ("swish({0}, {alpha})", "swish_slope({1}, {alpha})"),
    "Tan[input]": ("tan({0})", "(ONE + {1} * {1})"),
    "Tanh[input]": ("tanh({0})", "((ONE - {1}) * (ONE + {1}))"),
}
"""Op with its input to its value, and to the slope by the input or the output, whichever the op's rule names."""

_GELUS = {"none": ("gelu({0})", "gelu_slope({1})"), "tanh": ("gelu_tanh({0})", "gelu_tanh_slope({1})")}

_POWER_SLOPES = {
    "x": "choose({2} == ZERO, ZERO, {2} * power({1}, choose({2} == ZERO, ONE, {2} - ONE)))",
    "y": "choose({1} > ZERO, {2} * log(choose({1} > ZERO, {1}, ONE)), ZERO)",
}

FILLS = {"OnesLike": "ONE", "ZerosLike": "ZERO"}
"""What depends on nothing but the type of its input; of the domain ``graphrt``."""

_FORMULAS = {
    "Add": "{0} + {1}",
    "Sub": "{0} - {1}",
    "Mul": "{0} * {1}",
    "Div": "{0} / {1}",
    "Pow": "power({0}, {1})",
    "Neg": "-{0}",
    "Neg.vjp[x]": "-{0}",
    "Neg.jvp[x]": "-{0}",
    "Sub.vjp[b]": "-{0}",
    "Mul.vjp[a]": "{0} * {1}",
    "Mul.vjp[b]": "{0} * {1}",
    "Div.vjp[a]": "{0} / {1}",
    "Div.vjp[b]": "{0} * (-{2} / {1})",
    "Div.jvp[a]": "{0} / {1}",
    "Div.jvp[b]": "{0} * (-{2} / {1})",
    "Div.jvp[a,b]": "{0} / {2} + {1} * (-{3} / {2})",
    "Add.jvp[a,b]": "{0} + {1}",
    "Sub.jvp[a,b]": "{0} - {1}",
    "Mul.jvp[a]": "{0} * {1}",
    "Mul.jvp[b]": "{0} * {1}",
    "Mul.jvp[a,b]": "{0} * {2} + {1} * {3}",
}
_FORMULAS |= dict.fromkeys(ALIASES, "{0}") | FILLS
for _name, (_value, _slope) in _SLOPES.items():
    _op, _, _input = _name.rstrip("]").partition("[")
    _FORMULAS |= {_op: _value} | {f"{_op}.{mode}[{_input}]": f"{{0}} * {_slope}" for mode in ("vjp", "jvp")}
for _input, _slope in _POWER_SLOPES.items():
    _FORMULAS |= {f"Pow.{mode}[{_input}]": f"{{0}} * {_slope}" for mode in ("vjp", "jvp")}

FOLDS = {"Sum": "{0} + {1}", "Max": "maximum({0}, {1})", "Min": "minimum({0}, {1})"}
"""Ops of any number of inputs, taken from the left two by two."""

_CLIPS = frozenset({"Clip", "Clip.vjp[input]"})
_SEVERAL = _CLIPS | {"Gelu", "Gelu.vjp[x]", "Gelu.jvp[x]"}

_FIELDS = {op: tuple(dict.fromkeys(re.findall(r"{(\w+)}", text))) for op, text in _FORMULAS.items()}
OPERANDS = {op: max((int(f) + 1 for f in fields if f.isdigit()), default=0) for op, fields in _FIELDS.items()}
"""Op type to the number of its inputs that its formula reads; they are the first ones."""
SETTINGS = {op: tuple(f for f in fields if not f.isdigit()) for op, fields in _FIELDS.items()}
"""Op type to the attributes that its formula takes."""

OPS = frozenset({*_FORMULAS, *FOLDS, *_SEVERAL})
"""The op types that have a formula; but for `FILLS` of the default domain."""


def takes_attributes(op_type: str) -> bool:
    """Whether `formula` reads a node's attributes."""
    return op_type in _SEVERAL or bool(SETTINGS.get(op_type))


def formula(op_type: str, operands: Sequence[str], attributes: Mapping[str, Any]) -> str:
    """The formula of a node.

    Args:
        op_type: one of `OPS`.
        operands: the texts of the node's inputs; empty where one is absent.
        attributes: with the defaults filled in; those that are strings of text already are taken as they are.
    """
    if op_type in FOLDS:
        return reduce(lambda a, b: f"({FOLDS[op_type].format(a, b)})", operands)
    if op_type == "Clip":
        return _clipped(operands[0], *_bounds(operands[1:], attributes))
    if op_type == "Clip.vjp[input]":
        return _cut(operands[0], operands[1], *_bounds(operands[2:], attributes))
    if op_type.startswith("Gelu"):
        value, slope = _GELUS[attributes["approximate"]]
        return (f"{{0}} * {slope}" if "." in op_type else value).format(*operands)
    settings = {k: _constant(attributes[k]) for k in SETTINGS[op_type]}
    return _FORMULAS[op_type].format(*operands, **settings)


def _constant(value: Any) -> str:
    return value if isinstance(value, str) else f"F({value!r})"


def _bounds(operands: Sequence[str], attributes: Mapping[str, Any]) -> tuple[str, str]:
    """The texts of the bounds, empty where there is none; before opset 11 they are attributes."""
    if "min" in attributes:
        return _constant(attributes["min"]), _constant(attributes["max"])
    low, high, *_ = (*operands, "", "")
    return low, high


def _clipped(x: str, low: str, high: str) -> str:
    raised = f"maximum({x}, {low})" if low else x
    return f"minimum({raised}, {high})" if high else raised


def _cut(ct: str, x: str, low: str, high: str) -> str:
    """0 where a bound was taken, else the cotangent."""
    beyond = [f"({x} < {low})"] * bool(low) + [f"({x} > {high})"] * bool(high)
    if low and high:
        beyond.append(f"({low} > {high})")
    return f"choose({' | '.join(beyond)}, ZERO, {ct})" if beyond else ct
