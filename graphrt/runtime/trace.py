"""The table a teacher draws: node, expression, value, local derivatives, accumulated derivative.

It is read off the joint graph: the interpreter runs it with a recorder, and each row shows what the rules
that really ran have computed. `count_operations` compares the arithmetic of a value, of reverse mode that
shares intermediates, and of the symbolic derivative written out in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphrt.autodiff import forward, reverse
from graphrt.autodiff.reverse import differentiable_inputs
from graphrt.errors import GraphrtError, InputError
from graphrt.ir import Graph, Node
from graphrt.op import Op, like
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.runtime.observers import Recorder
from graphrt.runtime.session import Session
from graphrt.types import carries_gradient

_INFIX = {"Add": "+", "Sub": "-", "Mul": "*", "Div": "/", "Pow": "^", "MatMul": "@"}


@dataclass(frozen=True)
class Row:
    """One line of a trace.

    Attributes:
        name: the value's name.
        expression: how it is made from earlier ones; empty for inputs and parameters.
        value: what it was.
        local: input value to d(this)/d(input), for ops that are elementwise; others have no such number.
        derivative: reverse mode: d(output)/d(this), summed over all paths. Forward mode: d(this)/dt along the
            direction. None where none was needed.
    """

    name: str
    expression: str
    value: Any
    local: Mapping[str, Any]
    derivative: Any


@dataclass(frozen=True)
class Trace:
    """All rows in the order of execution, and what they are about."""

    mode: str
    of: str
    wrt: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def gradient(self) -> dict[str, Any]:
        """Reverse mode: the derivative of the output by each ``wrt`` value."""
        return {r.name: r.derivative for r in self.rows if r.name in self.wrt}

    def __str__(self) -> str:
        symbol = f"d {self.of}/d node" if self.mode == "reverse" else "d node/dt"
        table = [("node", "expression", "value", "local derivative", symbol)]
        table += [
            (r.name, r.expression, _show(r.value), _show_local(r), "" if r.derivative is None else _show(r.derivative))
            for r in self.rows
        ]
        widths = [max(len(line[i]) for line in table) for i in range(5)]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in table]
        return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def trace(
    graph: Graph,
    inputs: Mapping[str, Any] | None = None,
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    *,
    mode: str = "reverse",
    direction: Mapping[str, Any] | None = None,
    registry: Registry | None = None,
) -> Trace:
    """Runs a graph with its derivative and tabulates every value.

    Args:
        graph: what to trace.
        inputs: as for `Session.run`.
        of: the value to differentiate (default: the only output); one number in reverse mode.
        wrt: inputs and initializers (default: all float inputs and the trainable set).
        mode: ``"reverse"`` or ``"forward"``.
        direction: forward mode: the tangent of each ``wrt`` value (default: ones for the first, zeros for
            the rest: the derivative with respect to the first).
        registry: where ops are looked up.

    Raises:
        InputError: an unknown mode, or as for `Session.value_and_grad`.
    """
    session = Session(graph, registry=registry)
    of = graph.output_names[0] if of is None and len(graph.outputs) == 1 else of
    if of is None:
        raise InputError(f"name of=: the graph has the outputs {', '.join(graph.output_names) or 'none'}")
    if wrt is None:
        wrt = [*(v.name for v in graph.inputs if carries_gradient(v.type)), *session.trainable()]
    if mode == "reverse":
        values, derivatives = _run_reverse(session, inputs or {}, of, wrt)
    elif mode == "forward":
        values, derivatives = _run_forward(session, inputs or {}, of, wrt, direction)
    else:
        raise InputError(f"mode is 'reverse' or 'forward', not {mode!r}")
    constants = constants_of(graph)
    leaves = [n for n in dict.fromkeys([*graph.input_names, *graph.initializers]) if n in values]
    rows = [Row(n, "", values[n], {}, derivatives.get(n)) for n in leaves]
    for i in session.execution_order():
        node = graph.nodes[i]
        for output in node.outputs:
            if output in values and node.op_type != "Constant":
                local = _local_derivatives(session, node, values, constants)
                rows.append(Row(output, infix(node, constants), values[output], local, derivatives.get(output)))
    return Trace(mode, of, tuple(wrt), tuple(rows))


def _run_reverse(
    session: Session, inputs: Mapping[str, Any], of: str, wrt: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    joint = reverse(session.graph, session.registry, [of], wrt, keep_outputs=False, seed_ones=True)
    recorder = Recorder()
    value, _ = Session(session.graph, registry=session.registry, observers=[recorder]).value_and_grad(inputs, of, wrt)
    found = dict(recorder.values)
    found.setdefault(joint.seeds[of], np.ones_like(value))
    derivatives = {v: found[ct] for v, ct in joint.cotangents.items() if ct in found}
    return found, derivatives


def _run_forward(
    session: Session, inputs: Mapping[str, Any], of: str, wrt: Sequence[str], direction: Mapping[str, Any] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    joint = forward(session.graph, session.registry, [of], wrt)
    recorder = Recorder()
    watched = Session(session.graph, registry=session.registry, observers=[recorder])
    given = {w: np.asarray(inputs.get(w, watched.parameters.get(w)), dtype=None) for w in wrt}
    seeds = {w: np.full(x.shape, float(i == 0)) for i, (w, x) in enumerate(given.items())}
    seeds |= {k: np.asarray(v) for k, v in (direction or {}).items()}
    watched.jvp(inputs, seeds, [of])
    found = dict(recorder.values)
    return found, {v: found.get(t, seeds.get(v)) for v, t in joint.all_tangents.items()}


def constants_of(graph: Graph) -> dict[str, Any]:
    """The values of ``Constant`` nodes."""
    return {
        n.outputs[0]: n.attributes["value"] for n in graph.nodes if n.op_type == "Constant" and "value" in n.attributes
    }


def infix(node: Node, constants: Mapping[str, Any]) -> str:
    """A node as mathematics: ``x * y``, ``sin(x)``; constants of one element are written out."""
    names = [_operand(i, constants) for i in node.inputs]
    if node.op_type in _INFIX and not node.domain and len(names) == 2:
        return f"{names[0]} {_INFIX[node.op_type]} {names[1]}"
    if node.op_type == "Neg" and len(names) == 1:
        return f"-{names[0]}"
    extras = [f"{k}={v}" for k, v in sorted(node.attributes.items()) if isinstance(v, (int, float, str))]
    return f"{node.op_type.lower() if len(names) == 1 else node.op_type}({', '.join([*names, *extras])})"


def _operand(name: str, constants: Mapping[str, Any]) -> str:
    if name in constants and np.size(constants[name]) == 1:
        return f"{np.asarray(constants[name]).item():g}"
    return name or "_"


def _local_derivatives(
    session: Session, node: Node, values: Mapping[str, Any], constants: Mapping[str, Any]
) -> dict[str, Any]:
    """d(output)/d(input) of an elementwise node with one output, by its own rules with cotangent one."""
    try:
        found = session.registry.op_of(node, session.graph)
    except GraphrtError:
        return {}
    arrays = [values.get(i, constants.get(i)) for i in node.inputs]
    if not found.elementwise or len(node.outputs) != 1 or any(a is None for a in arrays):
        return {}
    bound = found.bind(node.inputs)
    local: dict[str, Any] = {}
    for name in differentiable_inputs(found, node.inputs, values.keys() - constants.keys()):
        if isinstance(bound[name], str) and found.is_differentiable(name):
            y = np.asarray(values[node.outputs[0]])
            one = call_rule(found, node, name, arrays, y, np.ones_like(y))
            local[bound[name]] = local[bound[name]] + one if bound[name] in local else one
    return local


def call_rule(found: Op, node: Node, name: str, arrays: Sequence[Any], y: Any, ct: Any) -> Any:
    """The VJP rule of one input, called with arrays: the sum over broadcasting is left out."""
    derived = found.derived(f"vjp[{','.join(found.vjp_group(name))}]")
    given: dict[str, Any] = {**found.bind(arrays), found.outputs[0]: y, "ct": ct}
    given |= {f"{k}_like": like(np.broadcast_to(np.asarray(v), np.shape(y))) for k, v in given.items() if v is not None}
    attributes = {**found.defaults(), **node.attributes}
    return derived.function(
        *(given.get(p.name) for p in derived.inputs), **{k: attributes[k] for k in derived.attributes}
    )


def _show(x: Any) -> str:
    a = np.asarray(x)
    if a.size == 1:
        return f"{a.item():.8g}" if a.dtype.kind in "fiu" else str(a.item())
    if a.size <= 6:
        return np.array2string(a, precision=5, separator=", ").replace("\n", "")
    if a.dtype.kind not in "fiu":
        return f"{a.dtype}{list(a.shape)}"
    return f"{a.dtype}{list(a.shape)} |.|={np.linalg.norm(a.astype(np.float64)):.5g}"


def _show_local(row: Row) -> str:
    return ", ".join(f"d/d{k} = {_show(v)}" for k, v in row.local.items())
