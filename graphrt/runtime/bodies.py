"""Subgraphs as functions: the bodies of If, Loop, Scan and their kin, run and differentiated.

A body is planned when first called with inputs of given dtypes and ranks (their sizes may differ from call
to call). `BoundBody` is a body closed over the outer values it captures; ops and their rules call it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from graphrt.autodiff import forward, reverse
from graphrt.autodiff.linearize import split_at
from graphrt.dual import Dual, lists, next_level
from graphrt.errors import GraphError
from graphrt.inference import Inferred
from graphrt.ir import Graph, Value
from graphrt.op import Array
from graphrt.records import dataclass, field
from graphrt.registry import Registry
from graphrt.runtime.interpreter import Plan, RunContext, execute
from graphrt.types import UNKNOWN, SequenceType, TensorType, ValueType, carries_gradient, dtype_name

Planner = Callable[..., Plan]
Pullback = Callable[[Sequence[Array | None]], tuple[Array | None, ...]]
_T = TypeVar("_T")


@dataclass
class Body:
    """A subgraph with the means to plan it.

    Attributes:
        graph: the subgraph, with the opset imports that hold for it.
        captured: outer values that any body of the node reads, in the node's order.
        registry, outer, plan: what planning needs.
    """

    graph: Graph
    captured: tuple[str, ...]
    registry: Registry
    outer: Inferred
    plan: Planner
    _plans: dict[Any, Any] = field(default_factory=dict)

    @property
    def reads(self) -> tuple[str, ...]:
        """The captured values that this body itself reads."""
        return self._once("reads", self.graph.captured)

    def closed_graph(self, types: Mapping[str, ValueType]) -> Graph:
        """The body with what it captures as further inputs, of these types."""
        names = (*self.graph.input_names, *self.reads)
        return self.graph.replace(
            inputs=tuple(Value(n, types.get(n, UNKNOWN)) for n in names), value_info={}, state_updates={}
        )

    def known(self) -> Mapping[str, ValueType]:
        """What is known of the body's values from declarations alone."""
        types = {v.name: v.type for v in self.graph.inputs} | {n: self.outer.type(n) for n in self.reads}
        return self.forward_plan(types).types

    def forward_plan(self, types: Mapping[str, ValueType]) -> Plan:
        """The plan of the body itself."""
        return self._once(
            ("run", *types.values()), lambda: self.plan(self.closed_graph(types), self.registry, inputs=types)
        )

    def reverse_plans(self, types: Mapping[str, ValueType]) -> tuple[Any, Any, Plan, Plan]:
        """The joint graph, its split, and the plans of both halves."""

        def make() -> tuple[Any, Any, Plan, Plan]:
            graph = self.closed_graph(types)
            wrt = tuple(n for n in graph.input_names if carries_gradient(types.get(n, UNKNOWN)))
            known = self.plan(graph, self.registry, inputs=types).types
            of = tuple(dict.fromkeys(o for o in graph.output_names if carries_gradient(known.get(o, UNKNOWN))))
            joint = reverse(graph, self.registry, of, wrt)
            split = split_at(joint.graph, tuple(joint.seeds.values()))
            first = self.plan(split.first, self.registry, inputs=types)
            return joint, split, first, self.plan(split.second, self.registry)

        return self._once(("vjp", *types.values()), make)

    def jvp_plan(self, types: Mapping[str, ValueType], wrt: tuple[str, ...]) -> tuple[Any, Plan]:
        """The joint graph for tangents of some inputs and captured values, and its plan."""

        def make() -> tuple[Any, Plan]:
            graph = self.closed_graph(types)
            known = self.plan(graph, self.registry, inputs=types).types
            of = tuple(dict.fromkeys(o for o in graph.output_names if carries_gradient(known.get(o, UNKNOWN))))
            joint = forward(graph, self.registry, of, wrt, keep_outputs=True)
            return joint, self.plan(joint.graph, self.registry, inputs=types)

        return self._once(("jvp", wrt, *types.values()), make)

    def _once(self, key: Any, make: Callable[[], _T]) -> _T:
        if key not in self._plans:
            self._plans[key] = make()
        found: _T = self._plans[key]
        return found


class BoundBody:
    """A body as a function of its inputs, closed over the outer values it captures.

    Args:
        body: the subgraph.
        outer: the captured values by name.
        context: of the run around it; each call draws its own random numbers.
        outer_dots: tangents of captured values, for `jvp`.
    """

    def __init__(
        self,
        body: Body,
        outer: Mapping[str, Array],
        context: RunContext,
        outer_dots: Mapping[str, Array] | None = None,
    ):
        self.body = body
        self.outer = {n: outer[n] for n in body.reads}
        self.outer_dots = {n: d for n, d in (outer_dots or {}).items() if n in self.outer}
        self.context = context
        self.captured_cts: dict[str, Array] = {}
        self._calls = 0

    @property
    def n_inputs(self) -> int:
        """How many inputs the subgraph declares."""
        return len(self.body.graph.inputs)

    @property
    def n_outputs(self) -> int:
        """How many outputs the subgraph declares."""
        return len(self.body.graph.outputs)

    def output_type(self, index: int) -> TensorType:
        """What is known of an output's type before the body has run."""
        value = self.body.graph.outputs[index]
        found = value.type if value.type != UNKNOWN else self.body.known().get(value.name, UNKNOWN)
        return found if isinstance(found, TensorType) else TensorType()

    def __call__(self, *arrays: Array) -> tuple[Any, ...]:
        given = self._given(arrays)
        plan = self.body.forward_plan(_types(given))
        slots = execute(plan, self._feeds(plan, given), self._next_context())
        return tuple(slots[plan.fetches[o]] for o in self.body.graph.output_names)

    def vjp(self, *arrays: Array) -> tuple[tuple[Any, ...], Pullback]:
        """Runs the body; returns its outputs and the pullback of their cotangents to its inputs'.

        What comes back to captured values is added up in ``captured_cts``.
        """
        given = self._given(arrays)
        joint, split, first, second = self.body.reverse_plans(_types(given))
        context = self._next_context()
        slots = execute(first, self._feeds(first, given), context)
        early = {n: slots[s] for n, s in first.fetches.items()}
        outputs = tuple(early[o] for o in self.body.graph.output_names)
        residuals = {r: early[r] if r in early else given[r] for r in split.residuals}

        def pullback(cts: Sequence[Array | None]) -> tuple[Array | None, ...]:
            by_name: dict[str, Array] = {}
            for o, ct in zip(self.body.graph.output_names, cts, strict=True):
                if ct is not None and o in joint.seeds:
                    by_name[o] = lists.add(by_name.get(o), ct)
            seeds = {s: lists.tangent_or_zeros(by_name.get(o), early[o]) for o, s in joint.seeds.items()}
            late = execute(second, self._feeds(second, residuals | seeds), context)
            found = {
                w: late[second.fetches[g]] if g in second.fetches else early[g]
                for w, g in joint.gradients.items()
                if w in joint.reached
            }
            for name in self.outer:
                if name in found:
                    self.captured_cts[name] = lists.add(self.captured_cts.get(name), found[name])
            return tuple(found.get(n) for n in self.body.graph.input_names)

        return outputs, pullback

    def jvp(self, arrays: Sequence[Array], dots: Sequence[Array | None]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Runs the body with tangents of its inputs (None: zero); returns outputs and their tangents."""
        names = self.body.graph.input_names
        tangents = {n: d for n, d in zip(names, dots, strict=True) if d is not None} | self.outer_dots
        given = self._given(arrays)
        joint, plan = self.body.jvp_plan(_types(given), tuple(tangents))
        seeds = {s: tangents[w] for w, s in joint.seeds.items()}
        slots = execute(plan, self._feeds(plan, given | seeds), self._next_context())
        outputs = self.body.graph.output_names
        return (
            tuple(slots[plan.fetches[o]] for o in outputs),
            tuple(slots[plan.fetches[joint.tangents[o]]] if o in joint.tangents else None for o in outputs),
        )

    def _given(self, arrays: Sequence[Array]) -> dict[str, Array]:
        names = self.body.graph.input_names
        if len(arrays) != len(names):
            raise GraphError(
                f"the subgraph {self.body.graph.name!r} has {len(names)} inputs ({', '.join(names) or 'none'}), "
                f"its node gives {len(arrays)}"
            )
        return {**dict(zip(names, arrays, strict=True)), **self.outer}

    def _feeds(self, plan: Plan, given: Mapping[str, Array]) -> dict[str, Array]:
        weights = self.body.graph.initializers
        return {n: given[n] if n in given else weights[n] for n in plan.feeds}

    def _next_context(self) -> RunContext:
        self._calls += 1
        return self.context.within(self._calls)


def body_caller(
    function: Callable[..., Any],
    op_type: str,
    bodies: Mapping[str, Any],
    attributes: Mapping[str, Any],
    captured: tuple[str, ...],
    count: int,
    segments: Sequence[int] | None,
) -> Callable[..., Any]:
    """The call of a node with subgraphs: ``call(context, *inputs, *captured)``.

    Args:
        function: the op's value, or its rule when ``op_type`` ends in ``.vjp[*]`` or ``.jvp[*]``.
        op_type: tells which.
        bodies: attribute name to `Body` or tuple of them.
        attributes: the other attributes.
        captured: names of the captured values, as the call gets them.
        count: how many inputs the node has.
        segments: for rules, how many of the inputs are cotangents (tangents), and how many the op's own; for the
            JVP of a VJP, tangents first, then as for that.
    """

    def bind(outer: Mapping[str, Array], context: RunContext, dots: Mapping[str, Array]) -> dict[str, Any]:
        return {
            k: tuple(BoundBody(b, outer, context, dots) for b in v)
            if isinstance(v, tuple)
            else BoundBody(v, outer, context, dots)
            for k, v in bodies.items()
        }

    def call(context: RunContext, *arrays: Array) -> Any:
        outer = dict(zip(captured, arrays[count:], strict=True))
        return run(op_type, segments or (), arrays[:count], outer, context)

    def run(
        kind: str, sizes: Sequence[int], given: Sequence[Any], outer: Mapping[str, Any], context: RunContext
    ) -> Any:
        if not sizes:
            return function(*given, **attributes, **bind(outer, context, {}))
        lead, rest = given[: sizes[0]], given[sizes[0] :]
        if kind.endswith(".vjp[*].jvp[*]"):
            level = next_level(*given, *outer.values())
            own = _dualized(rest, lead[: len(rest)], level)
            held = dict(zip(outer, _dualized(tuple(outer.values()), lead[len(rest) :], level), strict=True))
            results = run(kind.removesuffix(".jvp[*]"), sizes[1:], own, held, context)
            return tuple(lists.tangent(r, level) for r in results)
        if kind.endswith(".jvp[*]"):
            dots = {n: d for n, d in zip(captured, lead[len(rest) :], strict=True) if d is not None}
            return function(lead[: len(rest)], rest, **attributes, **bind(outer, context, dots))
        bound = bind(outer, context, {})
        input_cts = function(lead, rest, **attributes, **bound)
        captured_cts = _gather(bound)
        total = [*input_cts, *(captured_cts.get(n) for n in captured)]
        return tuple(
            lists.zeros(x) if ct is None and _carries(x) else ct
            for ct, x in zip(total, (*rest, *outer.values()), strict=True)
        )

    return call


def _dualized(arrays: Sequence[Any], dots: Sequence[Any], level: int) -> tuple[Any, ...]:
    return tuple(lists.dual(x, d, level) for x, d in zip(arrays, dots, strict=True))


def _gather(bound: Mapping[str, Any]) -> dict[str, Array]:
    """The cotangents of captured values, summed over the bodies."""
    total: dict[str, Array] = {}
    for value in bound.values():
        for body in value if isinstance(value, tuple) else (value,):
            for name, ct in body.captured_cts.items():
                total[name] = lists.add(total.get(name), ct)
    return total


def _carries(x: Any) -> bool:
    if isinstance(x, list):
        return any(map(_carries, x)) or not x
    return hasattr(x, "dtype") and x.dtype.kind in "fc"


def _types(given: Mapping[str, Any]) -> dict[str, ValueType]:
    """Dtype and rank of each array; the sizes are left open, they may differ from call to call."""
    return {n: _type(x) for n, x in given.items()}


def _type(x: Any) -> ValueType:
    if isinstance(x, list):
        return SequenceType(TensorType(dtype_name(x[0].dtype)) if x and hasattr(x[0], "dtype") else UNKNOWN)
    if isinstance(x, (np.ndarray, np.generic, Dual)):
        return _tensor_type(x.dtype, x.ndim)
    return UNKNOWN


@lru_cache(maxsize=1024)
def _tensor_type(dtype: Any, rank: int) -> TensorType:
    """One object for each type: equal keys of plans are then recognized by identity, trip after trip."""
    return TensorType(dtype_name(dtype), (None,) * rank)
