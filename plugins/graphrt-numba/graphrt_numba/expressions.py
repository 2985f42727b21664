"""Elementwise ops as expressions: what a loop computes for one element.

An expression is Python text in which ``{0}``, ``{1}``, ... stand for a node's inputs, and ``{alpha}`` for an attribute;
the functions it calls are those of `graphrt_numba.functions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

_SLOPES = {
    "Abs[x]": ("abs({0})", "sign({1})"),
    "Erf[input]": ("erf({0})", "erf_slope({1})"),
    "Exp[input]": ("exp({0})", "{1}"),
    "HardSigmoid[x]": ("hard_sigmoid({0}, {alpha}, {beta})", "hard_sigmoid_slope({1}, {alpha})"),
    "HardSwish[x]": ("hard_swish({0})", "hard_swish_slope({1})"),
    "LeakyRelu[x]": ("choose({0} < ZERO, {alpha} * {0}, {0})", "choose({1} > ZERO, ONE, {alpha})"),
    "Log[input]": ("log({0})", "(ONE / {1})"),
    "Reciprocal[x]": ("ONE / {0}", "(-{1} * {1})"),
    "Relu[x]": ("maximum({0}, ZERO)", "choose({1} > ZERO, ONE, ZERO)"),
    "Sigmoid[x]": ("sigmoid({0})", "({1} * (ONE - {1}))"),
    "Softplus[x]": ("softplus({0})", "-expm1_negative(-{1})"),
    "Sqrt[x]": ("sqrt({0})", "(ONE / ({1} + {1}))"),
    "Swish[x]": ("swish({0}, {alpha})", "swish_slope({1}, {alpha})"),
    "Tanh[input]": ("tanh({0})", "((ONE - {1}) * (ONE + {1}))"),
}
"""Op with its input to its value, and to the slope by the input or the output, whichever the op's rule names."""

_GELUS = {"none": ("gelu({0})", "gelu_slope({1})"), "tanh": ("gelu_tanh({0})", "gelu_tanh_slope({1})")}

_EXPRESSIONS = {
    "Add": "{0} + {1}",
    "Sub": "{0} - {1}",
    "Mul": "{0} * {1}",
    "Div": "{0} / {1}",
    "Neg": "-{0}",
    "Neg.vjp[x]": "-{0}",
    "Neg.jvp[x]": "-{0}",
    "Sub.vjp[b]": "-{0}",
    "Mul.vjp[a]": "{0} * {1}",
    "Mul.vjp[b]": "{0} * {1}",
    "Div.vjp[a]": "{0} / {1}",
    "Div.vjp[b]": "{0} * (-{2} / {1})",
    "Add.jvp[a,b]": "{0} + {1}",
    "Sub.jvp[a,b]": "{0} - {1}",
    "Mul.jvp[a]": "{0} * {1}",
    "Mul.jvp[b]": "{0} * {1}",
    "Mul.jvp[a,b]": "{0} * {2} + {1} * {3}",
}
for _name, (_value, _slope) in _SLOPES.items():
    _op, _, _input = _name.rstrip("]").partition("[")
    _EXPRESSIONS |= {_op: _value} | {f"{_op}.{mode}[{_input}]": f"{{0}} * {_slope}" for mode in ("vjp", "jvp")}

_FOLDS = {"Sum": "{0} + {1}", "Max": "maximum({0}, {1})", "Min": "minimum({0}, {1})"}
"""Ops of any number of inputs, taken from the left two by two."""

OPS = frozenset({*_EXPRESSIONS, *_FOLDS, "Gelu", "Gelu.vjp[x]", "Gelu.jvp[x]", "Clip", "Clip.vjp[input]"})
"""The op types that have an expression; all of the default domain."""


def expression(op_type: str, operands: Sequence[str], attributes: Mapping[str, Any]) -> str:
    """The expression of a node.

    Args:
        op_type: one of `OPS`.
        operands: the texts of the node's inputs; empty where one is absent.
        attributes: with the defaults filled in.
    """
    if op_type in _FOLDS:
        return reduce(lambda a, b: f"({_FOLDS[op_type].format(a, b)})", operands)
    if op_type == "Clip":
        return _clipped(operands[0], *_bounds(operands[1:], attributes))
    if op_type == "Clip.vjp[input]":
        return _cut(operands[0], operands[1], *_bounds(operands[2:], attributes))
    if op_type.startswith("Gelu"):
        value, slope = _GELUS[attributes["approximate"]]
        text = f"{{0}} * {slope}" if "." in op_type else value
    else:
        text = _EXPRESSIONS[op_type]
    return text.format(*operands, **{k: f"F({v!r})" for k, v in attributes.items()})


def _bounds(operands: Sequence[str], attributes: Mapping[str, Any]) -> tuple[str, str]:
    """The texts of the bounds, empty where there is none; before opset 11 they are attributes."""
    if "min" in attributes:
        return f"F({attributes['min']!r})", f"F({attributes['max']!r})"
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
