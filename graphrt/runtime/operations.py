"""Counts arithmetic: of a value, of its reverse-mode gradient, of its symbolic derivative written out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphrt.autodiff import reverse
from graphrt.autodiff.reverse import differentiable_inputs
from graphrt.errors import InputError
from graphrt.ir import Graph, Node
from graphrt.op import Op
from graphrt.records import dataclass
from graphrt.registry import Registry
from graphrt.runtime.observers import Recorder
from graphrt.runtime.session import Session


@dataclass(frozen=True)
class OperationCount:
    """How many elementary operations (``+ - * / ^`` and function evaluations, one per number) each way takes.

    Attributes:
        value: the value alone, common subexpressions evaluated once.
        reverse: value and whole gradient by reverse mode, intermediates shared.
        symbolic: the derivative's formulas written out in full, nothing shared, without the value.
    """

    value: int
    reverse: int
    symbolic: int

    def __str__(self) -> str:
        return (
            f"operations: value {self.value}; value and gradient by reverse mode {self.reverse}; "
            f"symbolic derivative written out {self.symbolic}"
        )


class _Counter:
    """Stands for one number and counts the NumPy operations it takes part in."""

    __array_priority__ = 1000

    def __init__(self, tally: list[int]):
        self.tally = tally
        self.shape: tuple[int, ...] = ()
        self.ndim, self.size, self.dtype = 0, 1, np.dtype(np.float64)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> _Counter:
        self.tally[0] += 1
        return self

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> _Counter:
        if function.__name__ not in ("zeros_like", "ones_like", "broadcast_to", "reshape"):
            self.tally[0] += 1
        return self

    def astype(self, *args: Any, **kwargs: Any) -> _Counter:
        """Conversions are free."""
        return self

    def __getattr__(self, name: str) -> Any:
        raise InputError(f"operations can be counted for elementwise scalar graphs only (asked for .{name})")

    def _ufunc(self, *_: Any) -> _Counter:
        self.tally[0] += 1
        return self

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _ufunc
    __pow__ = __rpow__ = __neg__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = _ufunc


def count_operations(
    graph: Graph,
    inputs: Mapping[str, Any],
    of: str | None = None,
    wrt: Sequence[str] | None = None,
    registry: Registry | None = None,
) -> OperationCount:
    """Counts the elementary operations of a scalar graph of elementwise ops.

    A value node is one operation. A derivative rule is what it computes, counted by running it on an object
    that counts; its product with the cotangent is one more (none when the cotangent is the seed, 1).

    Args:
        graph, inputs, of, wrt: as for `Session.value_and_grad`; ``wrt`` defaults to the inputs.
        registry: where ops are looked up.

    Raises:
        InputError: the graph has values that are not scalars.
    """
    session = Session(graph, registry=registry)
    of = of or graph.output_names[0]
    wrt = tuple(wrt or graph.input_names)
    recorder = Recorder()
    watched = Session(graph, registry=session.registry, observers=[recorder])
    watched.value_and_grad(inputs, of, wrt)
    if any(np.size(v) != 1 for v in recorder.values.values()):
        raise InputError("operations can be counted for graphs of scalars only")
    return _count(session, of, wrt)


def _count(session: Session, of: str, wrt: Sequence[str]) -> OperationCount:
    graph, registry = session.graph, session.registry
    joint = reverse(graph, registry, [of], wrt, keep_outputs=False, seed_ones=True)
    in_value = {o for n in graph.nodes for o in n.outputs}
    value = sum(1 for n in joint.graph.nodes if n.outputs[0] in in_value and n.op_type != "Constant")
    backward = 0
    seeds = set(joint.seeds.values())
    for n in joint.graph.nodes:
        if n.outputs[0] in in_value or n.op_type in ("Like", "ZerosLike", "OnesLike"):
            continue
        if n.op_type == "Sum":
            backward += len(n.inputs) - 1
        else:
            backward += _rule_cost(registry.op_of(n, graph), n) - (n.inputs[0] in seeds)
    tree: dict[str, int] = dict.fromkeys([*graph.input_names, *graph.initializers], 0)
    slope: dict[str, int] = dict.fromkeys(wrt, 0)
    for i in session.execution_order():
        node = graph.nodes[i]
        found = registry.op_of(node, graph)
        name = node.outputs[0]
        tree[name] = 0 if node.op_type == "Constant" else 1 + sum(tree[v] for v in node.inputs)
        terms = [
            _symbolic_term(found, node, p, tree, slope, set(wrt))
            for p in differentiable_inputs(found, node.inputs, slope)
        ]
        if terms:
            slope[name] = sum(terms) + len(terms) - 1
    return OperationCount(value, value + max(backward, 0), slope.get(of, 0))


def _rule_cost(derived: Op, node: Node) -> int:
    tally = [0]
    arguments = [
        _Counter(tally) if name and not p.name.endswith("_like") else None
        for p, name in zip(derived.inputs, node.inputs, strict=False)
    ]
    arguments += [None] * (len(derived.inputs) - len(arguments))
    attributes = {k: v for k, v in node.attributes.items() if k in derived.attributes}
    defaults = {k: s.default for k, s in derived.attributes.items() if not s.required}
    derived.function(*arguments, **{**defaults, **attributes})
    return tally[0]


def _symbolic_term(
    found: Op, node: Node, name: str, tree: Mapping[str, int], slope: Mapping[str, int], leaves: set[str]
) -> int:
    """The size of (local derivative) * (derivative of the input), both written out."""
    derived = found.derived(f"vjp[{name}]")
    bound = found.bind(node.inputs) | {found.outputs[0]: node.outputs[0]}
    named = [bound[p.name] for p in derived.inputs if p.name in bound]
    stand_in = Node(derived.op_type, tuple(p.name for p in derived.inputs), node.outputs, node.attributes, node.domain)
    local = _rule_cost(derived, stand_in) - 1 + sum(tree[v] for v in named if isinstance(v, str))
    inner = bound[name]
    return local if inner in leaves else local + 1 + slope[inner]
