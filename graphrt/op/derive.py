"""Derived ops: a rule as an op of the joint graph, such as ``MatMul.vjp[a]`` or ``Mul.jvp[a,b]``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphrt.errors import GraphError, NotDifferentiableError
from graphrt.op.rules import (
    Rule,
    jvp_from_derivative,
    sum_of_parts,
    value_at_duals,
    value_at_tangents,
    vjp_from_derivative,
)

if TYPE_CHECKING:
    from graphrt.op.core import Op


def derive(owner: Op, suffix: str) -> Op:
    """The op that a node ``OWNER.suffix`` calls; see `Op.derived`."""
    kind, _, rest = suffix.partition("[")
    if kind in ("vjp", "jvp") and rest == "*]":
        return _body_op(owner, kind, suffix)
    wrt = tuple(rest.removesuffix("]").split(","))
    if kind not in ("vjp", "jvp") or not rest.endswith("]") or not all(wrt):
        raise GraphError(f"{owner.op_type}.{suffix}: a derived op is written OP.vjp[input] or OP.jvp[input,...]")
    return _vjp_op(owner, wrt, suffix) if kind == "vjp" else _jvp_op(owner, wrt, suffix)


def _body_op(owner: Op, kind: str, suffix: str) -> Op:
    function = owner.body_vjp_rule if kind == "vjp" else owner.body_jvp_rule
    if owner.op_type.endswith(".vjp[*]") and kind == "jvp":
        function = owner.function  # the rule itself, to be run on dual arrays
    if function is None:
        raise NotDifferentiableError(f"op {owner.qualified_name} has subgraphs and no {kind} rule for them")
    own = tuple(p.name for p in owner.inputs) if "." in owner.op_type else ("inputs",)
    first = ("cts" if kind == "vjp" else "dots", *own)
    rule = Rule((), function, first, tuple(owner.attributes))
    return owner.with_rule(suffix, rule, ("*results",), spread=set(first))


def _vjp_op(owner: Op, wrt: tuple[str, ...], suffix: str) -> Op:
    if owner.vjp_group(wrt[0]) != wrt:
        raise NotDifferentiableError(f"op {owner.qualified_name} has no joint rule for inputs {', '.join(wrt)}")
    if wrt[0] in owner.vjp_rules:
        rule = owner.vjp_rules[wrt[0]]
    else:
        rule = vjp_from_derivative(owner.derivatives[wrt[0]], broadcasts=len(owner.inputs) > 1)
    variadic = owner.param(wrt[-1]).variadic
    return _rule_op(owner, suffix, rule, _marked(tuple(f"{w}_ct" for w in wrt), variadic))


def _jvp_op(owner: Op, wrt: tuple[str, ...], suffix: str) -> Op:
    rule = _jvp_rule(owner, wrt)
    return _rule_op(owner, suffix, rule, _marked(tuple(f"{o}_dot" for o in owner.outputs), owner.variadic_output))


def _rule_op(owner: Op, suffix: str, rule: Rule, outputs: tuple[str, ...]) -> Op:
    variadic = {p.name for p in owner.inputs if p.variadic} | ({owner.outputs[0]} if owner.variadic_output else set())
    spread = {*variadic, *(f"{n}_like" for n in variadic), *(f"{n}_dot" for n in variadic), "cts"}
    return owner.with_rule(suffix, rule, outputs, spread)


def _jvp_rule(owner: Op, wrt: tuple[str, ...]) -> Rule:
    """One rule for the tangents of all ``wrt`` together, from declared rules, linearity, or dual arrays."""
    parts: list[Rule] = []
    covered: set[str] = set()
    for name in wrt:
        if name in covered:
            continue
        part = owner.jvp_rules.get(name) or _linear_rule(owner, name)
        if part is None and name in owner.derivatives:
            out = owner.outputs[0] if len(owner.inputs) > 1 else None
            part = jvp_from_derivative(owner.derivatives[name], out)
        if part is None:
            return _dual_rule(owner, wrt)
        parts.append(part)
        covered.update(part.wrt)
    dots = [f"{w}_dot" for w in wrt]
    values = tuple(dict.fromkeys(dots + [v for p in parts for v in p.values]))
    attributes = tuple(dict.fromkeys(a for p in parts for a in p.attributes))
    if len(parts) == 1 and parts[0].values == values:
        return parts[0]
    needed = {v for p in parts for v in p.values if v not in p.skippable}
    skippable = tuple(v for p in parts for v in p.skippable if v not in needed)
    return Rule(wrt, sum_of_parts(parts, values), values, attributes, skippable)


def _linear_rule(owner: Op, name: str) -> Rule | None:
    group = next((g for g in owner.linear if name in g), None)
    if group is None:
        return None
    names = tuple(p.name for p in owner.inputs)
    held = tuple(n for n in names if n not in group)
    spread = len(group) > 1 or owner.param(name).variadic
    likes = tuple(f"{n}_like" for n in group) if spread else ()
    values = (*(f"{n}_dot" for n in group), *likes, *held)
    attributes = (*owner.attributes, *owner.context)
    return Rule(group, value_at_tangents(owner, group, values), values, attributes)


def _dual_rule(owner: Op, wrt: tuple[str, ...]) -> Rule:
    for name in wrt:
        if "." not in owner.op_type and not owner.is_differentiable(name):
            owner.vjp_group(name)  # raises, naming the op and the input
    if "rng" in owner.context:
        raise NotDifferentiableError(f"random op {owner.qualified_name} needs a jvp rule of its own")
    names = tuple(p.name for p in owner.inputs)
    values = (*(f"{w}_dot" for w in wrt), *names)
    return Rule(wrt, value_at_duals(owner, wrt, values), values, tuple(owner.attributes) + tuple(owner.context))


def _marked(outputs: tuple[str, ...], variadic: bool) -> tuple[str, ...]:
    """Output names, the last one with its star if it stands for any number of them."""
    return (*outputs[:-1], f"*{outputs[-1]}") if variadic else outputs
