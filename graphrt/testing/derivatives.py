"""Checks of derivative rules: against finite differences, against each other, and on dual arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from graphrt.errors import NotDifferentiableError
from graphrt.testing.calls import Env, Point
from graphrt.testing.differences import mismatch
from graphrt.testing.trees import (
    describe,
    flat_like,
    has_float,
    inner,
    is_float,
    join,
    leaves,
    map_leaves,
    random_like,
    step,
)
from graphrt.testing.values import cast

_ADJOINT = {"float64": 1e-9, "float32": 2e-3, "float16": 5e-2}


def check_derivatives(point: Point, outputs: tuple[Any, ...], rtol: float, atol: float) -> None:
    """VJP and JVP of every differentiable input."""
    wrt = differentiable_inputs(point)
    if not wrt or not any(map(has_float, outputs)):
        return
    env = check_adjoint(point, outputs)
    if point.smooth:
        _check_against_differences(point, env, wrt, rtol, atol)
    if len(wrt) > 1 or any(len(list(leaves(env.dots[n]))) > 1 for n in wrt):
        _check_one_byflat_like(point, env, wrt)
    if len(outputs) > 1:
        _check_cotangents_alone(point, env, wrt)
    for dtype in (np.dtype(np.float32), np.dtype(np.float16)):
        narrow = point.at({n: cast(x, dtype) for n, x in point.inputs.items()})
        with point.guard(f"the value at {dtype}"), np.errstate(over="ignore"):
            narrow_outputs = narrow.value()
        with np.errstate(over="ignore" if dtype.itemsize == 2 else "warn"):
            check_adjoint(narrow, narrow_outputs, compare=False)


def differentiable_inputs(point: Point) -> tuple[str, ...]:
    """Inputs of this point through which a gradient flows; each must have a rule."""
    op, found = point.op, []
    for p in op.inputs:
        if p.name in op.nondiff or not has_float(point.inputs[p.name]):
            continue
        if not op.is_differentiable(p.name):
            raise point.fail(f"input {p.name} is float but has neither a derivative rule nor nondiff=")
        found.append(p.name)
    return tuple(found)


def check_adjoint(point: Point, outputs: tuple[Any, ...], compare: bool = True) -> Env:
    """Rules run silently, mutate nothing, give the right shapes and dtypes, and are each other's adjoint."""
    rng = np.random.default_rng(point.seed + 1)
    wrt = differentiable_inputs(point)
    dots = {n: random_like(point.inputs[n], rng) for n in wrt}
    cts = tuple(random_like(y, rng) if has_float(y) else None for y in outputs)
    env = Env(point, outputs, cts, dots)
    if not wrt or not any(map(has_float, outputs)):
        return env
    before = map_leaves(_copy, list(env.values().values()))
    y_dots = _jvp(point, wrt, env)
    _check_untouched(point, before, env, f"the JVP for {', '.join(wrt)}")
    kind = _narrowest(point, outputs)
    for group in _groups(point, wrt):
        given = _vjp(point, group, env)
        _check_untouched(point, before, env, f"the VJP for {', '.join(group)}")
        names = tuple(n for n in group if n in dots)
        alone = y_dots if set(names) == set(wrt) else _jvp(point, names, Env(point, outputs, cts, _only(dots, names)))
        if compare and kind in _ADJOINT:
            _compare_products(point, names, outputs, cts, alone, given, dots, _ADJOINT[kind])
    return env


def _check_untouched(point: Point, before: list[Any], env: Env, what: str) -> None:
    for old, new in zip(leaves(before), leaves(list(env.values().values())), strict=True):
        if not _same(old, new):
            raise point.fail(f"{what} changes one of its arguments: {describe(new)}")


def check_second_derivatives(point: Point, outputs: tuple[Any, ...], rtol: float, atol: float) -> None:
    """VJP rules run on dual arrays, and agree with finite differences of themselves."""
    wrt = differentiable_inputs(point)
    if (
        not wrt
        or _narrowest(point, outputs) != "float64"
        or not any(y.size for y in leaves(list(outputs)) if is_float(y))
    ):
        return
    rng = np.random.default_rng(point.seed + 2)
    dots = {n: random_like(point.inputs[n], rng) for n in wrt}
    cts = tuple(random_like(y, rng) if has_float(y) else None for y in outputs)
    ct_dots = tuple(random_like(c, rng) for c in cts)
    env = Env(point, outputs, cts, dots)
    with_dots = Env(point, tuple(_jvp(point, wrt, env)), ct_dots)
    moving = {**dots, **_dots_of_outputs(point, with_dots)}
    for group in _groups(point, wrt):
        if "rng" in point.op.derived(f"vjp[{','.join(group)}]").context:
            continue  # a rule that draws is not run on dual arrays
        what = f"the VJP for {', '.join(group)} on dual arrays"
        with point.guard(what):
            second = point.vjp_tangents(group, env, moving)

        def cotangents(h: float, group: tuple[str, ...] = group) -> Any:
            moved = point.at({n: step(x, dots[n], h) if n in dots else x for n, x in point.inputs.items()})
            at = Env(moved, moved.value(), tuple(step(c, d, h) for c, d in zip(cts, ct_dots, strict=True)))
            return _flat(moved.vjp(group, at), group, point.inputs)

        _compare(point, cotangents, _flat(second, group, point.inputs), rtol, atol, what)


def _dots_of_outputs(point: Point, env: Env) -> dict[str, Any]:
    named: dict[str, Any] = dict(env.named(env.outputs))
    if point.op.variadic_output:
        named["cts"] = env.cts
    else:
        named.update({f"ct_{n}": c for n, c in env.named(env.cts).items()})
        named["ct"] = env.cts[0]
    return {n: x for n, x in named.items() if x is not None and any(True for _ in leaves(x))}


# ---- calling rules, checking what comes back ------------------------------------------------------


def _groups(point: Point, wrt: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(point.op.vjp_group(n) for n in wrt))


def _only(dots: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {n: dots[n] for n in names}


def _vjp(point: Point, group: tuple[str, ...], env: Env) -> dict[str, Any]:
    what = f"the VJP for {', '.join(group)}"
    with point.guard(what):
        given = point.vjp(group, env)
    for name in group:
        _check_like(point, point.inputs[name], given[name], f"{what}: the cotangent of {name}")
    return given


def _jvp(point: Point, wrt: tuple[str, ...], env: Env) -> tuple[Any, ...]:
    what = f"the JVP for {', '.join(wrt)}"
    try:
        with point.guard(what):
            y_dots = point.jvp(wrt, env)
    except AssertionError as e:
        if isinstance(e.__cause__, NotDifferentiableError):
            raise point.fail(f"{what} fails on dual arrays; declare one with linear= or .jvp ({e.__cause__})") from e
        raise
    if len(y_dots) < len(env.outputs):
        raise point.fail(f"{what} gives {len(y_dots)} tangents for {len(env.outputs)} outputs")
    for i, (y, y_dot) in enumerate(zip(env.outputs, y_dots, strict=False)):
        if has_float(y):
            _check_like(point, y, y_dot, f"{what}: the tangent of output {i}")
    return tuple(d if has_float(y) else None for y, d in zip(env.outputs, y_dots, strict=False))


def _check_like(point: Point, x: Any, given: Any, what: str) -> None:
    """A cotangent or tangent is None (zero) or has the shape and dtype of what it belongs to, and is finite."""
    if given is None or x is None:
        return
    if isinstance(x, (tuple, list)):
        if len(given) != len(x):
            raise point.fail(f"{what} has {len(given)} members for {len(x)}")
        for i, (a, b) in enumerate(zip(x, given, strict=True)):
            _check_like(point, a, b, f"{what}[{i}]")
        return
    if not is_float(x):
        return
    if not isinstance(given, (np.ndarray, np.generic)):
        raise point.fail(f"{what} is a {type(given).__name__}, not an array")
    if given.shape != x.shape or given.dtype != x.dtype:
        raise point.fail(f"{what} is {describe(given)}; it belongs to {describe(x)}")
    limited = point.smooth or "kink" in point.label or len(point.op.inputs) == 1
    if limited and given.dtype.itemsize > 2 and np.isnan(given).any():
        raise point.fail(f"{what} is NaN: {given}")
    if "kink" in point.label and not np.isfinite(given).all():
        raise point.fail(f"{what} is not finite: {given}")


def _narrowest(point: Point, outputs: tuple[Any, ...]) -> str:
    floats = [y for y in (*leaves(list(point.inputs.values())), *leaves(list(outputs))) if is_float(y)]
    return str(min((x.dtype for x in floats), key=lambda d: d.itemsize, default=np.dtype(np.float64)))


# ---- comparisons ----------------------------------------------------------------------------------


def _compare_products(
    point: Point,
    names: tuple[str, ...],
    outputs: Any,
    cts: Any,
    y_dots: Any,
    given: Mapping[str, Any],
    dots: Any,
    tolerance: float,
) -> None:
    left, left_scale = inner(list(cts), list(y_dots))
    right, right_scale = 0.0, 0.0
    for n in names:
        product, scale = inner(given[n], dots[n])
        right, right_scale = right + product, right_scale + scale
    if not np.isfinite([left, right]).all():
        return  # extremes: IEEE has the last word
    _, floor = inner(list(cts), list(outputs))  # where a derivative cancels to nothing, what remains is rounding
    if abs(left - right) > tolerance * max(left_scale, right_scale, 1e-4 * floor):
        raise point.fail(
            f"VJP and JVP for {', '.join(names)} disagree: <ct, J v> = {left:.12g}, <Jt ct, v> = {right:.12g}"
        )


def _check_against_differences(point: Point, env: Env, wrt: tuple[str, ...], rtol: float, atol: float) -> None:
    if _narrowest(point, env.outputs) != "float64":
        return
    y_dots = point.jvp(wrt, env)

    def outputs(h: float) -> Any:
        moved = {n: step(x, env.dots[n], h) if n in env.dots else x for n, x in point.inputs.items()}
        return _floats(point.value(moved), env.outputs)

    _compare(point, outputs, _floats(y_dots, env.outputs), rtol, atol, f"the JVP for {', '.join(wrt)}")


def _compare(point: Point, function: Any, derivative: Any, rtol: float, atol: float, what: str) -> None:
    def quietly(h: float) -> Any:
        with np.errstate(all="ignore"):
            return function(h)

    with point.guard(f"finite differences of {what}"):
        found = mismatch(quietly, derivative, rtol, atol)
    if found is not None:
        worst, estimate = found
        raise point.fail(
            f"{what} is off by {worst:.3g} from finite differences:\n  rule:        {_short(derivative)}\n"
            f"  differences: {_short(estimate)}"
        )


def _check_one_byflat_like(point: Point, env: Env, wrt: tuple[str, ...]) -> None:
    """The tangents of single inputs (of single members of a variadic one) add up to that of all together."""
    all_dots = {n: env.dots[n] for n in wrt}
    cases = [({n: dots}, (n,)) for n in wrt for dots in _singles(all_dots[n])]
    if len(cases) > 4:
        return
    total = 0.0
    for dots, names in cases:
        total = total + _floats(_jvp(point, names, Env(point, env.outputs, env.cts, dots)), env.outputs)
    _check_sum(point, total, _floats(point.jvp(wrt, env), env.outputs), "JVPs with one tangent each")


def _singles(dots: Any) -> list[Any]:
    if not isinstance(dots, tuple):
        return [dots]
    return [tuple(d if i == j else None for j, d in enumerate(dots)) for i in range(len(dots)) if dots[i] is not None]


def _check_cotangents_alone(point: Point, env: Env, wrt: tuple[str, ...]) -> None:
    """The cotangents of single outputs, None for the others, add up to those of all together."""
    carrying = [i for i, c in enumerate(env.cts) if c is not None]
    for group in _groups(point, wrt):
        total = 0.0
        for i in carrying if len(carrying) <= 4 else ():
            cts = tuple(c if i == j else None for j, c in enumerate(env.cts))
            total = total + _flat(_vjp(point, group, Env(point, env.outputs, cts)), group, point.inputs)
        if 1 < len(carrying) <= 4:
            whole = _flat(point.vjp(group, env), group, point.inputs)
            _check_sum(point, total, whole, f"VJPs for {', '.join(group)} with one cotangent each")


def _check_sum(point: Point, total: Any, whole: Any, what: str) -> None:
    tolerance = _ADJOINT.get(_narrowest(point, ()), 1e-2)
    scale = max(float(np.max(np.abs(whole), initial=0.0)), float(np.max(np.abs(total), initial=0.0)))
    if scale and not np.max(np.abs(total - whole), initial=0.0) <= tolerance * scale:
        raise point.fail(f"{what} do not add up to the joint one: {_short(total)} instead of {_short(whole)}")


def _floats(values: tuple[Any, ...], pattern: tuple[Any, ...]) -> Any:
    """The float outputs as one flat float64 array; None where a float output stands counts as zeros."""
    return join([flat_like(v, y) for v, y in zip(values, pattern, strict=False) if has_float(y)])


def _flat(cotangents: Mapping[str, Any], group: tuple[str, ...], inputs: Mapping[str, Any]) -> Any:
    return join([flat_like(cotangents[n], inputs[n]) for n in group])


def _copy(x: Any) -> Any:
    return np.copy(x) if isinstance(x, np.ndarray) and 0 not in x.strides else x


def _same(a: Any, b: Any) -> bool:
    return a is b or not isinstance(b, np.ndarray) or a.tobytes() == b.tobytes()


def _short(x: Any) -> str:
    return np.array2string(np.asarray(x), precision=8, threshold=12)
