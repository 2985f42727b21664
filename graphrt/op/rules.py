"""Rules: what is declared beneath an op, and the rules that follow from a local derivative or from linearity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from graphrt.errors import PluginError
from graphrt.op.arrays import unbroadcast
from graphrt.op.schema import Array, Function
from graphrt.records import dataclass

if TYPE_CHECKING:
    from graphrt.op.core import Op


@dataclass(frozen=True, slots=True)
class Rule:
    """One derivative rule: which inputs it is for, the values it names (in call order), its attributes.

    ``skippable`` lists the values that may be None when shapes are known to agree.
    """

    wrt: tuple[str, ...]
    function: Function
    values: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    skippable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """Arguments at which `graphrt.testing.check_op` tries an op.

    ``smooth=False`` marks a point where finite differences mean nothing (a kink, a jump); values and the
    adjoint identity are still checked there.
    """

    inputs: tuple[Array, ...]
    attributes: Mapping[str, Any]
    smooth: bool = True


def vjp_from_derivative(rule: Rule, broadcasts: bool) -> Rule:
    """The VJP of an elementwise op: ct * dy/dx, summed over the axes along which x was broadcast."""
    function, n = rule.function, len(rule.values)
    if not broadcasts:

        def vjp(ct: Array, *values: Array, **attributes: Any) -> Array:
            return ct * function(*values, **attributes)

        return Rule(rule.wrt, vjp, ("ct", *rule.values), rule.attributes)

    target = f"{rule.wrt[0]}_like"
    values = ("ct", *rule.values) if target in rule.values else ("ct", *rule.values, target)
    at = values.index(target) - 1

    def vjp_broadcast(ct: Array, *values: Array, **attributes: Any) -> Array:
        return unbroadcast(ct * function(*values[:n], **attributes), values[at])

    skippable = () if target in rule.values else (target,)
    return Rule(rule.wrt, vjp_broadcast, values, rule.attributes, skippable)


def jvp_from_derivative(rule: Rule, broadcast_to: str | None) -> Rule:
    """The JVP of an elementwise op: x_dot * dy/dx, broadcast to the output ``broadcast_to`` if one is named."""
    function, n = rule.function, len(rule.values)

    def jvp(x_dot: Array, *values: Array, **attributes: Any) -> Array:
        y_dot = x_dot * function(*values[:n], **attributes)
        if len(values) == n or values[n] is None or y_dot.shape == values[n].shape:
            return y_dot
        return np.broadcast_to(y_dot, values[n].shape)

    extra = (f"{broadcast_to}_like",) if broadcast_to else ()
    return Rule(rule.wrt, jvp, (f"{rule.wrt[0]}_dot", *rule.values, *extra), rule.attributes, extra)


def sum_of_parts(parts: Sequence[Rule], values: tuple[str, ...]) -> Function:
    """The JVP of several inputs: what each part adds; ``values`` are the arguments of the whole, in order."""

    def jvp(*arrays: Array, **attributes: Any) -> Any:
        given = dict(zip(values, arrays, strict=True))
        total: Any = None
        for part in parts:
            picked = {a: attributes[a] for a in part.attributes if a in attributes}
            out = part.function(*(given.get(v) for v in part.values), **picked)
            total = out if total is None else _add(total, out)
        return total

    return jvp


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, (tuple, list)):
        return tuple(map(_add, a, b))
    return b if a is None else a if b is None else a + b


def value_at_tangents(owner: Op, group: tuple[str, ...], values: tuple[str, ...]) -> Function:
    """The JVP of a linear group: the value with the group's tangents in the group's places."""

    def jvp(*arrays: Array, **attributes: Any) -> Any:
        from graphrt.dual import lists  # nothing but tangents needs it

        given = dict(zip(values, arrays, strict=True))
        args: list[Array] = []
        for p in owner.inputs:
            if p.name not in group:
                args.extend(given[p.name] if p.variadic else [given[p.name]])
                continue
            dots, likes = given.get(f"{p.name}_dot"), given.get(f"{p.name}_like")
            if p.variadic:
                if likes is None:
                    raise PluginError(f"{owner.qualified_name}: the rule of a variadic input names its likes")
                args.extend(map(lists.tangent_or_zeros, dots or (None,) * len(likes), likes))
            else:
                args.append(lists.tangent_or_zeros(dots, likes))
        return owner.function(*args, **attributes)

    return jvp


def value_at_duals(owner: Op, wrt: tuple[str, ...], values: tuple[str, ...]) -> Function:
    """The JVP by running the value function itself on dual arrays."""

    def jvp(*arrays: Array, **attributes: Any) -> Any:
        from graphrt.dual import lists, next_level

        given = dict(zip(values, arrays, strict=True))
        level = next_level(*arrays)  # the arrays may be dual themselves: keep their perturbations apart from ours
        args: list[Array] = []
        for p in owner.inputs:
            xs, dots = given[p.name], given.get(f"{p.name}_dot") if p.name in wrt else None
            if p.variadic:
                dots = dots or (None,) * len(xs)
                members = tuple(lists.dual(x, d, level) for x, d in zip(xs, dots, strict=True))
                args.extend([members] if owner.grouped else members)
            else:
                args.append(lists.dual(xs, dots, level))
        result = owner.function(*args, **attributes)
        if isinstance(result, tuple) or (isinstance(result, list) and owner.many_outputs):
            return tuple(lists.tangent(r, level) for r in result)
        return lists.tangent(result, level)

    return jvp
