"""Formulas over the registered ops: ``"x*y + sin(x)"`` as a graph, and its gradient at a point."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from graphrt.errors import ExpressionError, InputError, UnknownOpError
from graphrt.ir import Graph, Value
from graphrt.ir.expression import Function, parse_expression
from graphrt.manager import get_registry
from graphrt.op import Op
from graphrt.registry import Registry
from graphrt.runtime.session import Session
from graphrt.types import TensorType, dtype_name, is_differentiable

ALIASES = {
    "ln": "log",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "maximum": "max",
    "minimum": "min",
}
"""Further names of functions, to the lower-case name of the op each stands for."""


def function_names(registry: Registry) -> Mapping[str, Function]:
    """What may be called in a formula: each registered op by its lower-case name, and `ALIASES`.

    Where domains share a name, ONNX's own comes first, then ``graphrt``, then the others in alphabetical
    order. Ops that take graphs (If, Loop, …) or give any number of outputs cannot be written as functions.
    An op is imported when its function is asked for.
    """
    return _Functions(registry)


class _Functions(Mapping[str, Function]):
    def __init__(self, registry: Registry):
        self._registry = registry
        self._ops: dict[str, list[tuple[str, str]]] = {}
        for domain, op_type in sorted(registry.op_names(), key=lambda name: (name[0] not in ("", "graphrt"), name)):
            self._ops.setdefault(op_type.lower(), []).append((domain, op_type))
        for alias, name in ALIASES.items():
            if name in self._ops:
                self._ops.setdefault(alias, self._ops[name])

    def __getitem__(self, name: str) -> Function:
        for domain, op_type in self._ops[name]:
            with suppress(UnknownOpError):  # its plug-in fails
                o = self._registry.find_op(op_type, domain)
                takes_graphs = any(a.kind in ("graph", "graphs") for a in o.attributes.values())
                if not takes_graphs and not o.variadic_output:
                    return _function(o)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self._ops if name in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _function(o: Op) -> Function:
    least = sum(not p.optional and not p.variadic for p in o.inputs)
    variadic = [p for p in o.inputs if p.variadic]
    kinds = {name: spec.kind for name, spec in o.attributes.items()}
    return Function(o.op_type, o.domain, o.version, least or len(variadic), None if variadic else len(o.inputs), kinds)


def expression(text: str, *, dtype: str = "float64", registry: Registry | None = None) -> Graph:
    """Reads a formula as a graph; see `graphrt.ir.expression` for the grammar.

    Args:
        text: e.g. ``"x*y + sin(x)"``: names are scalar inputs, functions are registered ops in any case.
        dtype: element type of inputs and numbers.
        registry: where functions are looked up (default: what is installed).

    Returns:
        A graph with the names as inputs, in order of first appearance, and one output.

    Raises:
        ExpressionError: the text is no formula; shows the column.
    """
    return parse_expression(text, function_names(get_registry() if registry is None else registry), dtype=dtype)


def grad(
    formula: str | Graph,
    at: Mapping[str, Any],
    *,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    mode: str = "reverse",
) -> tuple[Any, dict[str, Any]]:
    """The value of a formula (or of a graph) and its gradient at a point.

    Args:
        formula: e.g. ``"x*y + sin(x)"``, or a graph.
        at: input name to number or array. An array's shape becomes the shape of a formula's input.
        of: the value to differentiate (default: the only output).
        wrt: inputs and initializers (default: the inputs that are floats).
        mode: ``"reverse"`` or ``"forward"``; they agree up to rounding.

    Returns:
        The value (one element), and name to derivative: float, the shape of the input or initializer.

    Raises:
        ExpressionError: the text is no formula.
        InputError: an input is missing or unknown, or the value has more than one element.

    >>> value, gradient = grad("x*y + x^2", {"x": 3, "y": 2})
    >>> float(value), {name: float(g) for name, g in gradient.items()}
    (15.0, {'x': 8.0, 'y': 3.0})
    """
    graph = with_shapes(expression(formula), at) if isinstance(formula, str) else formula
    return gradient_of(Session(graph), at, of=of, wrt=wrt, mode=mode)


def gradient_of(
    session: Session, at: Mapping[str, Any], *, of: str | None, wrt: Sequence[str] | None, mode: str
) -> tuple[Any, dict[str, Any]]:
    """What `grad` returns, for a session."""
    names = float_inputs(session.graph) if wrt is None else list(wrt)
    if mode == "reverse":
        return session.value_and_grad(at, of=of, wrt=names)
    if mode != "forward":
        raise InputError(f"mode is 'reverse' or 'forward', not {mode!r}")
    if of is None and len(session.graph.outputs) != 1:
        raise InputError(f"name of=: the graph has the outputs {', '.join(session.graph.output_names) or 'none'}")
    of = session.graph.output_names[0] if of is None else of
    step = session.step
    value = session.run(at, [of])[of]
    if np.size(value) != 1:
        raise InputError(f"a gradient is of one number, and {of!r} has shape {list(np.shape(value))}: sum it first")
    gradient = {}
    for name in names:
        session.step = step
        columns = session.jacobian(at, of=of, wrt=name, mode="forward")
        gradient[name] = columns.reshape(columns.shape[np.ndim(value) :])
    return value, gradient


def float_inputs(graph: Graph) -> list[str]:
    """The inputs that a gradient can be taken with respect to."""
    return [v.name for v in graph.inputs if isinstance(v.type, TensorType) and is_differentiable(v.type.dtype)]


def with_shapes(graph: Graph, at: Mapping[str, Any]) -> Graph:
    """A formula's graph whose inputs have the shapes of the arrays it will be fed."""
    if all(np.ndim(a) == 0 for a in at.values()):
        return graph
    inputs = tuple(
        Value(v.name, TensorType(v.type.dtype, np.shape(at[v.name])))
        if v.name in at and isinstance(v.type, TensorType)
        else v
        for v in graph.inputs
    )
    return graph.replace(inputs=inputs, outputs=tuple(Value(v.name) for v in graph.outputs))


def evaluate(text: str, *, registry: Registry | None = None) -> float:
    """The number that a formula without names stands for, such as ``"pi/2"``.

    Raises:
        ExpressionError: the text is no formula, or has names in it.
    """
    graph = expression(text, registry=registry)
    if graph.inputs:
        raise ExpressionError(f"{text!r} is not a number: nothing says what {graph.inputs[0].name} is")
    (value,) = Session(graph, registry=registry).run().values()
    if np.ndim(value) or dtype_name(value.dtype) == "string":
        raise ExpressionError(f"{text!r} is not a number")
    return float(value)
