"""Calling an op's value and derived rules as the interpreter does: arguments by name, contexts supplied."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from graphrt.op import Example, Op, like
from graphrt.records import dataclass, field
from graphrt.testing.errors import OpCheckError
from graphrt.testing.trees import describe, map_leaves


@dataclass(frozen=True, slots=True)
class Point:
    """An op at one example: the arguments by name, and how to say where a failure happened."""

    op: Op
    inputs: Mapping[str, Any]
    attributes: Mapping[str, Any]
    smooth: bool = True
    label: str = ""
    seed: int = 0
    n_outputs: int = 1
    opset: int = 1

    @classmethod
    def of(cls, op: Op, example: Example, label: str, seed: int) -> Point:
        """An op at one of its examples; attributes left out take their defaults."""
        given = dict(example.attributes)
        n_outputs, opset = given.pop("n_outputs", len(op.outputs)), given.pop("opset", op.version)
        inputs = op.bind([_as_array(x) for x in example.inputs])
        return cls(op, inputs, {**op.defaults(), **given}, example.smooth, label, seed, n_outputs, opset)

    def at(self, inputs: Mapping[str, Any]) -> Point:
        """The same op and attributes at other inputs."""
        return replace(self, inputs=inputs)

    @property
    def node_inputs(self) -> tuple[Any, ...]:
        """Inputs as a node lists them: variadic ones spread."""
        flat: list[Any] = []
        for p in self.op.inputs:
            flat.extend(self.inputs[p.name] if p.variadic else [self.inputs[p.name]])
        return tuple(flat)

    def fail(self, what: str) -> OpCheckError:
        """An error that says which op, where it comes from, at which example, and what is wrong."""
        op = self.op
        at = ", ".join(f"{n}: {describe(x)}" for n, x in self.inputs.items())
        attributes = ", ".join(f"{k}={v!r}" for k, v in self.attributes.items())
        where = f"{self.label}: {at}" + (f"; {attributes}" if attributes else "")
        return OpCheckError(f"{name_of(op)}: {what}\n  at {where}")

    @contextmanager
    def guard(self, doing: str) -> Iterator[None]:
        """Turns anything raised inside (a warning too) into a failure of this op at this point."""
        try:
            yield
        except OpCheckError:
            raise
        except Exception as e:
            kind = "warns" if isinstance(e, Warning) else "raises"
            raise self.fail(f"{doing} {kind} {type(e).__name__}: {e}") from e

    # ---- calls -------------------------------------------------------------------------------------

    def value(self, inputs: Mapping[str, Any] | None = None) -> tuple[Any, ...]:
        """The outputs, always as a tuple."""
        inputs = self.inputs if inputs is None else inputs
        args = self.at(inputs).node_inputs if inputs is not self.inputs else self.node_inputs
        result = self.op.function(*args, **self.attributes, **self._context(self.op))
        return _outputs(self.op, result)

    def vjp(self, wrt: tuple[str, ...], env: Env) -> dict[str, Any]:
        """Cotangents of the inputs of one rule, by name."""
        derived = self.op.derived(f"vjp[{','.join(wrt)}]")
        return self._cotangents(wrt, self.call_derived(derived, env.values()))

    def jvp(self, wrt: tuple[str, ...], env: Env) -> tuple[Any, ...]:
        """Tangents of the outputs."""
        return self.call_derived(self.op.derived(f"jvp[{','.join(wrt)}]"), env.values())

    def vjp_tangents(self, wrt: tuple[str, ...], env: Env, dots: Mapping[str, Any]) -> dict[str, Any]:
        """How the cotangents change along ``dots``: the VJP rule run on dual arrays."""
        first = self.op.derived(f"vjp[{','.join(wrt)}]")
        moved = [p.name for p in first.inputs if dots.get(p.name) is not None]
        if not moved:
            return dict.fromkeys(wrt)
        second = first.derived(f"jvp[{','.join(moved)}]")
        return self._cotangents(
            wrt, self.call_derived(second, {**env.values(), **{f"{n}_dot": dots[n] for n in moved}})
        )

    def call_derived(self, derived: Op, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """Calls a derived op with the values it names."""
        args = [values.get(p.name) for p in derived.inputs]
        attributes = {a: self.attributes[a] for a in derived.attributes if a in self.attributes}
        return _outputs(derived, derived.function(*args, **attributes, **self._context(derived)))

    def _cotangents(self, wrt: tuple[str, ...], results: tuple[Any, ...]) -> dict[str, Any]:
        if self.op.param(wrt[-1]).variadic:
            at = len(wrt) - 1
            results = (*results[:at], tuple(results[at:]))
        if len(results) != len(wrt):
            raise self.fail(f"the VJP for {', '.join(wrt)} gives {len(results)} results")
        return dict(zip(wrt, results, strict=True))

    def _context(self, op: Op) -> dict[str, Any]:
        supply: dict[str, Any] = {"n_outputs": self.n_outputs, "opset": self.opset}
        context = {k: supply[k] for k in op.context if k in supply}
        if "rng" in op.context:
            context["rng"] = np.random.default_rng(self.seed)
        return context


@dataclass(frozen=True, slots=True)
class Env:
    """What derived ops may name: inputs, outputs, their likes, cotangents and tangents."""

    point: Point
    outputs: tuple[Any, ...]
    cts: tuple[Any, ...] = ()
    dots: Mapping[str, Any] = field(default_factory=dict)

    def values(self) -> dict[str, Any]:
        """Everything by the name a rule would use."""
        op = self.point.op
        known: dict[str, Any] = {**self.point.inputs, **self.named(self.outputs)}
        known.update({f"{n}_like": map_leaves(_like, x) for n, x in tuple(known.items())})
        known.update({f"{n}_dot": x for n, x in self.dots.items()})
        if self.cts:
            known.update(
                {"cts": self.cts} if op.variadic_output else {f"ct_{n}": c for n, c in self.named(self.cts).items()}
            )
            known["ct"] = self.cts[0]
        return known

    def named(self, outputs: tuple[Any, ...]) -> dict[str, Any]:
        """Outputs by name."""
        names = self.point.op.outputs
        if self.point.op.variadic_output:
            return {names[0]: tuple(outputs)}
        return dict(zip(names, (*outputs, *(None,) * (len(names) - len(outputs))), strict=True))


def name_of(op: Op) -> str:
    """Op, version and the module that defines it."""
    return f"op {op.qualified_name} (version {op.version}, {op.function.__module__}.{op.function.__name__})"


def _outputs(op: Op, result: Any) -> tuple[Any, ...]:
    if not op.many_outputs:
        if isinstance(result, tuple):
            raise OpCheckError(f"{name_of(op)}: returns a tuple and declares one output, {op.outputs[0]}")
        return (result,)
    if not isinstance(result, (tuple, list)):
        declared = ", ".join(op.outputs)
        got = type(result).__name__
        raise OpCheckError(f"{name_of(op)}: returns one {got} for the outputs {declared}; not a tuple")
    return tuple(result)


def _like(x: Any) -> Any:
    return like(x) if hasattr(x, "dtype") else None  # a map has no like


def _as_array(x: Any) -> Any:
    return x if x is None or isinstance(x, (list, tuple, dict, np.ndarray)) else np.asarray(x)
