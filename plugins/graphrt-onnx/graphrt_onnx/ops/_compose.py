"""Ops that are made of other ops: their derivative rules are put together from the parts' rules.

The value function of such an op is plain code that calls its parts through `call`. Run on arrays it computes the
value. Run on traced values it also notes the calls, and `composed` makes the op's rules from that: the VJP runs the
function once more and then walks the calls backwards; the JVP sends tangents along. Nothing but the inputs is kept.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphrt.ops.arithmetic import add, div, mul, sub
from graphrt.plugin import Array, Op, like


class Traced:
    """A value inside a composed op while its derivative is made."""

    __slots__ = ("trace", "value")

    def __init__(self, value: Array, trace: _Reverse | _Forward):
        self.value, self.trace = value, trace

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape."""
        return tuple(self.value.shape)

    @property
    def ndim(self) -> int:
        """The array's rank."""
        return len(self.value.shape)

    @property
    def size(self) -> int:
        """The array's number of elements."""
        return int(self.value.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The array's dtype."""
        dtype: np.dtype[Any] = self.value.dtype
        return dtype

    def __add__(self, other: Any) -> Any:
        return call(add, self, self._operand(other))

    def __radd__(self, other: Any) -> Any:
        return call(add, self._operand(other), self)

    def __sub__(self, other: Any) -> Any:
        return call(sub, self, self._operand(other))

    def __rsub__(self, other: Any) -> Any:
        return call(sub, self._operand(other), self)

    def __mul__(self, other: Any) -> Any:
        return call(mul, self, self._operand(other))

    def __rmul__(self, other: Any) -> Any:
        return call(mul, self._operand(other), self)

    def __truediv__(self, other: Any) -> Any:
        return call(div, self, self._operand(other))

    def _operand(self, other: Any) -> Any:
        return np.asarray(other, self.dtype) if isinstance(other, (int, float)) else other

    __array_ufunc__ = None  # array + Traced comes to us


def plain(x: Any) -> Any:
    """The array of a value, traced or not."""
    return x.value if isinstance(x, Traced) else x


def call(part: Op, *args: Any, n_outputs: int = 1, **attributes: Any) -> Any:
    """Calls an op on arrays or traced values; absent inputs are None. A tuple where it has several outputs."""
    trace = next((a.trace for a in args if isinstance(a, Traced)), None)
    if trace is None:
        context = {"n_outputs": n_outputs} if "n_outputs" in part.context else {}
        return part.function(*args, **attributes, **context)
    return trace.call(part, args, attributes, n_outputs)


class _Call:
    """One call of a part: its bound arguments and results, and how to call its rules."""

    def __init__(self, part: Op, args: Sequence[Any], attributes: dict[str, Any], n_outputs: int):
        self.part, self.attributes = part, {**part.defaults(), **attributes}
        self.context = {"n_outputs": n_outputs}
        self.traced = part.bind(list(args))
        values = [plain(a) for a in args]
        self.bound = part.bind(values)
        result = part.function(*values, **attributes, **self._picked(part))
        self.single = not isinstance(result, (tuple, list))
        self.results: tuple[Any, ...] = (result,) if self.single else tuple(result)

    def rule(self, suffix: str, more: dict[str, Any]) -> tuple[Any, ...]:
        """Runs a derived op on what it names."""
        derived = self.part.derived(suffix)
        outputs = self.part.outputs
        named: dict[str, Any] = dict(zip(outputs, self.results, strict=False))
        if self.part.variadic_output:
            named = {outputs[0]: self.results}
        known = {**self.bound, **named, **more}
        known.update({f"{n}_like": _likes(v) for n, v in {**self.bound, **named}.items()})
        args = [known.get(p.name) for p in derived.inputs]
        attributes = {a: self.attributes[a] for a in derived.attributes}
        result = derived.function(*args, **attributes, **self._picked(derived))
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)

    def _picked(self, op: Op) -> dict[str, Any]:
        return {k: v for k, v in self.context.items() if k in op.context}

    def moving(self) -> list[str]:
        """Inputs that are traced and through which a gradient flows."""
        names = []
        for name, x in self.traced.items():
            members = x if isinstance(x, tuple) else (x,)
            if name not in self.part.nondiff and any(isinstance(m, Traced) for m in members):
                names.append(name)
        return names


def _likes(x: Any) -> Any:
    if isinstance(x, (tuple, list)):
        return tuple(map(_likes, x))
    return like(x) if hasattr(x, "dtype") else None


class _Reverse:
    """Notes calls, then carries cotangents back."""

    def __init__(self) -> None:
        self.calls: list[tuple[_Call, tuple[Any, ...]]] = []

    def call(self, part: Op, args: Sequence[Any], attributes: dict[str, Any], n_outputs: int) -> Any:
        made = _Call(part, args, attributes, n_outputs)
        outs = tuple(None if r is None else Traced(r, self) for r in made.results)
        self.calls.append((made, outs))
        return outs[0] if made.single else outs

    def back(self, cts: dict[int, Any]) -> dict[int, Any]:
        """Cotangents of all values, from those of the results; keyed by the identity of the traced value."""
        for made, outs in reversed(self.calls):
            given = [cts.get(id(o)) if o is not None else None for o in outs]
            if all(g is None for g in given):
                continue
            more: dict[str, Any] = {"ct": given[0], "cts": tuple(given)}
            more.update({f"ct_{n}": g for n, g in zip(made.part.outputs, given, strict=False)})
            done: set[str] = set()
            for name in made.moving():
                if name in done:
                    continue
                group = made.part.vjp_group(name)
                done.update(group)
                found = made.rule(f"vjp[{','.join(group)}]", more)
                self._collect(made, group, found, cts)
        return cts

    def _collect(self, made: _Call, group: tuple[str, ...], found: tuple[Any, ...], cts: dict[int, Any]) -> None:
        targets = [made.traced[n] for n in group[:-1]]
        last = made.traced[group[-1]]
        targets += list(last) if isinstance(last, tuple) else [last]
        for target, ct in zip(targets, found, strict=True):
            if isinstance(target, Traced) and ct is not None:
                held = cts.get(id(target))
                cts[id(target)] = ct if held is None else held + ct


class _Forward:
    """Carries tangents along with the calls."""

    def __init__(self) -> None:
        self.dots: dict[int, Any] = {}
        self.held: list[Traced] = []  # keeps identities taken

    def trace(self, value: Any, dot: Any) -> Traced:
        made = Traced(value, self)
        self.held.append(made)
        if dot is not None:
            self.dots[id(made)] = dot
        return made

    def call(self, part: Op, args: Sequence[Any], attributes: dict[str, Any], n_outputs: int) -> Any:
        made = _Call(part, args, attributes, n_outputs)
        dots: dict[str, Any] = {}
        for name in made.moving():
            x = made.traced[name]
            found = tuple(map(self._dot, x)) if isinstance(x, tuple) else self._dot(x)
            if found is not None and not (isinstance(found, tuple) and all(f is None for f in found)):
                dots[name] = found
        results: Sequence[Any] = [None] * len(made.results)
        if dots:
            results = made.rule(f"jvp[{','.join(dots)}]", {f"{n}_dot": d for n, d in dots.items()})
        outs = tuple(None if r is None else self.trace(r, d) for r, d in zip(made.results, results, strict=False))
        return outs[0] if made.single else outs

    def _dot(self, x: Any) -> Any:
        return self.dots.get(id(x)) if isinstance(x, Traced) else None


def composed(target: Op, *wrt: str) -> Op:
    """Declares the VJP and the JVP of an op whose value function is made of `call`s.

    Args:
        target: the op; its function calls its parts with `call` (or with + - * / on their results).
        wrt: the inputs to differentiate by, in the op's order.
    """
    inputs, attributes = tuple(p.name for p in target.inputs), tuple(target.attributes)
    cotangents = ("ct", *(f"ct_{o}" for o in target.outputs[1:]))
    variadic = target.inputs[-1].variadic

    def spread(values: Sequence[Any]) -> list[Any]:
        return [*values[:-1], *values[-1]] if variadic else list(values)

    def run(traced: Sequence[Any], given: dict[str, Any]) -> tuple[Any, ...]:
        result = target.function(*spread(traced), **given)
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)

    def vjp(*values: Any, **given: Any) -> Any:
        cts, values = values[: len(cotangents)], values[len(cotangents) :]
        trace = _Reverse()
        traced = [_traced(v, trace) if n in wrt else v for n, v in zip(inputs, values, strict=True)]
        results = run(traced, given)
        start: dict[int, Any] = {}
        for r, ct in zip(results, cts, strict=False):
            if isinstance(r, Traced) and ct is not None:
                start[id(r)] = ct if id(r) not in start else start[id(r)] + ct
        found = trace.back(start)
        out: list[Any] = []
        for n, t in zip(inputs, traced, strict=True):
            if n in wrt:
                out += [found.get(id(m)) for m in t] if isinstance(t, tuple) else [found.get(id(t))]
        return tuple(out) if len(wrt) > 1 or target.param(wrt[-1]).variadic else out[0]

    def jvp(*values: Any, **given: Any) -> Any:
        dots, values = dict(zip(wrt, values[: len(wrt)], strict=True)), values[len(wrt) :]
        trace = _Forward()
        traced: list[Any] = []
        for n, v in zip(inputs, values, strict=True):
            dot = dots.get(n)
            if isinstance(v, tuple):
                traced.append(tuple(trace.trace(m, d) for m, d in zip(v, dot or (None,) * len(v), strict=True)))
            else:
                traced.append(v if v is None or n not in wrt else trace.trace(v, dot))
        results = tuple(_tangent(trace, r) for r in run(traced, given))
        return results if len(target.outputs) > 1 else results[0]

    vjp.parameters = (*cotangents, *inputs, *attributes)  # type: ignore[attr-defined]
    jvp.parameters = (*(f"{w}_dot" for w in wrt), *inputs, *attributes)  # type: ignore[attr-defined]
    target.vjp(*wrt)(vjp)
    target.jvp(*wrt)(jvp)
    return target


def _traced(value: Any, trace: _Reverse) -> Any:
    if isinstance(value, tuple):
        return tuple(Traced(m, trace) for m in value)
    return None if value is None else Traced(value, trace)


def _tangent(trace: _Forward, result: Any) -> Any:
    if not isinstance(result, Traced) or result.dtype.kind not in "fc":
        return None
    dot = trace.dots.get(id(result))
    return np.zeros(result.shape, result.dtype) if dot is None else dot


def renamed(base: Op, op_type: str, domain: str, version: int = 1) -> Op:
    """An op under another name: the same function, rules and examples."""
    made = copy.copy(base)
    made.op_type, made.domain, made.version, made._derived = op_type, domain, version, {}
    return made


__all__ = ["Traced", "call", "composed", "plain", "renamed"]
