"""Builds graphs by writing Python: ``y = b.Tanh(x @ w + bias)``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from graphrt.errors import GraphError
from graphrt.ir.graph import OPSET, Graph, NameScope, Node, Value
from graphrt.records import dataclass
from graphrt.types import UNKNOWN, Dim, TensorType, ValueType, dtype_name, numpy_dtype


@dataclass(frozen=True, slots=True, eq=False)
class BuilderValue:
    """A value under construction; Python's operators make nodes: ``+ - * / ** @``, unary ``-``, ``abs``.

    A number or array on the other side of an operator becomes a ``Constant`` node of the value's dtype.
    """

    builder: GraphBuilder
    name: str
    dtype: str | None = None
    __array_ufunc__ = None  # so that ``array + value`` comes to __radd__ here

    def _binary(self, op_type: str, other: Any, swapped: bool = False) -> BuilderValue:
        right = self.builder.value(other, dtype=self.dtype)
        a, b = (right, self) if swapped else (self, right)
        made: BuilderValue = self.builder.op(op_type, a, b)
        return BuilderValue(self.builder, made.name, a.dtype)

    def __add__(self, other: Any) -> BuilderValue:
        return self._binary("Add", other)

    def __radd__(self, other: Any) -> BuilderValue:
        return self._binary("Add", other, swapped=True)

    def __sub__(self, other: Any) -> BuilderValue:
        return self._binary("Sub", other)

    def __rsub__(self, other: Any) -> BuilderValue:
        return self._binary("Sub", other, swapped=True)

    def __mul__(self, other: Any) -> BuilderValue:
        return self._binary("Mul", other)

    def __rmul__(self, other: Any) -> BuilderValue:
        return self._binary("Mul", other, swapped=True)

    def __truediv__(self, other: Any) -> BuilderValue:
        return self._binary("Div", other)

    def __rtruediv__(self, other: Any) -> BuilderValue:
        return self._binary("Div", other, swapped=True)

    def __pow__(self, other: Any) -> BuilderValue:
        return self._binary("Pow", other)

    def __rpow__(self, other: Any) -> BuilderValue:
        return self._binary("Pow", other, swapped=True)

    def __matmul__(self, other: Any) -> BuilderValue:
        return self._binary("MatMul", other)

    def __rmatmul__(self, other: Any) -> BuilderValue:
        return self._binary("MatMul", other, swapped=True)

    def __neg__(self) -> BuilderValue:
        return BuilderValue(self.builder, self.builder.op("Neg", self).name, self.dtype)

    def __abs__(self) -> BuilderValue:
        return BuilderValue(self.builder, self.builder.op("Abs", self).name, self.dtype)


class GraphBuilder:
    """Collects inputs, parameters and nodes, and makes a `Graph` of them.

    Any op is a method of its name; positional arguments are inputs, keywords are attributes:
    ``b.Softmax(x, axis=-1)``. Ops of another domain: ``b.domain("graphrt").Step(x)``, or `op` in full.

    Args:
        name: the graph's label.
        dtype: element type of literal numbers whose other operand's type is unknown.
        opset: version of the default domain.

    >>> b = GraphBuilder("line")
    >>> x = b.input("x", "float32", ["n"])
    >>> b.output(x * b.parameter("w", np.float32(2)) + b.Sin(x), "y")
    >>> print(b.build())
    graph line [onnx 24]
      input x: float32[n]
      initializer w: float32[]
      mul = Mul(x, w)
      sin = Sin(x)
      y = Add(mul, sin)
      output y: ?[...]
    """

    def __init__(self, name: str = "", *, dtype: str = "float32", opset: int = OPSET):
        self._name, self.dtype = name, dtype
        self._scope = NameScope()
        self._opsets: dict[str, int] = {"": opset}
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._nodes: list[Node] = []
        self._initializers: dict[str, np.ndarray[Any, Any]] = {}
        self._state_updates: dict[str, str] = {}
        self._renamed: dict[str, str] = {}

    @classmethod
    def extending(cls, graph: Graph) -> GraphBuilder:
        """A builder that starts from an existing graph's content; its outputs are dropped unless added again."""
        b = cls(graph.name)
        b._opsets = {"": OPSET} | dict(graph.opset_imports)
        b._scope = NameScope(graph.names())
        b._inputs, b._nodes = list(graph.inputs), list(graph.nodes)
        b._initializers, b._state_updates = dict(graph.initializers), dict(graph.state_updates)
        return b

    def input(self, name: str, dtype: str | None = None, shape: Sequence[Dim] | None = None) -> BuilderValue:
        """Adds an input; ``shape`` holds numbers, symbols (``"batch"``) or None."""
        kind: ValueType = TensorType(dtype, None if shape is None else tuple(shape))
        self._inputs.append(Value(self._scope.claim(name), kind))
        return BuilderValue(self, name, dtype)

    def parameter(self, name: str, array: Any) -> BuilderValue:
        """Adds an initializer: weights, or any array that is stored with the graph."""
        a = np.asarray(array)
        self._initializers[self._scope.claim(name)] = a
        return BuilderValue(self, name, dtype_name(a.dtype))

    def constant(self, array: Any, dtype: str | None = None, name: str = "constant") -> BuilderValue:
        """Adds a ``Constant`` node: an array that belongs to the model's meaning and is never trained."""
        a = np.asarray(array)
        if dtype is not None or (a.dtype.kind == "f" and not isinstance(array, (np.ndarray, np.generic))):
            a = a.astype(numpy_dtype(dtype or self.dtype))
        made: BuilderValue = self.op("Constant", name=name, value=a)
        return BuilderValue(self, made.name, dtype_name(a.dtype))

    def value(self, x: Any, dtype: str | None = None) -> BuilderValue:
        """A value from a `BuilderValue`, the name of an existing value, a number or an array."""
        if isinstance(x, BuilderValue):
            if x.builder is not self:
                raise GraphError(f"the value {x.name!r} belongs to another builder")
            return x if x.name not in self._renamed else BuilderValue(self, self._renamed[x.name], x.dtype)
        if isinstance(x, str):
            return BuilderValue(self, x)
        literal = isinstance(x, (int, float))
        return self.constant(x, dtype=(dtype or self.dtype) if literal else None)

    def op(
        self,
        op_type: str,
        *inputs: Any,
        domain: str = "",
        version: int | None = None,
        outputs: int | Sequence[str] = 1,
        name: str = "",
        **attributes: Any,
    ) -> Any:
        """Adds a node.

        Args:
            op_type, domain: the op.
            *inputs: values, numbers or arrays; None is an absent optional input.
            version: opset version of the domain, where the graph has not imported it yet (default 1).
            outputs: how many, or their names.
            name: base of the output's name.
            **attributes: the op's attributes; None leaves one out.

        Returns:
            A `BuilderValue`, or a tuple of them when ``outputs`` is not 1.
        """
        first = next((i for i in inputs if isinstance(i, BuilderValue)), None)
        dtype = first.dtype if first else None
        names = ["" if i is None else self.value(i, dtype).name for i in inputs]
        self._opsets.setdefault(domain, 1 if version is None else version)
        if isinstance(outputs, int):
            made = [self._scope.fresh(name or op_type.lower()) for _ in range(outputs)]
        else:
            made = [self._scope.claim(o) if o else "" for o in outputs]
        given = {k: v for k, v in attributes.items() if v is not None}
        self._nodes.append(Node(op_type, tuple(names), tuple(made), given, domain))
        values = tuple(BuilderValue(self, m) for m in made)
        return values[0] if len(values) == 1 else values

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[:1].isupper():
            raise AttributeError(f"a GraphBuilder has no {op_type!r}; ops are written in CamelCase: b.Sin(x)")
        return lambda *inputs, **options: self.op(op_type, *inputs, **options)

    def domain(self, domain: str) -> _Domain:
        """The ops of another domain as methods: ``b.domain("graphrt").Step(x)``."""
        return _Domain(self, domain)

    def output(self, value: Any, name: str | None = None, type: ValueType = UNKNOWN) -> None:
        """Declares an output, renamed to ``name`` if one is given."""
        v = self.value(value)
        final = v.name if name is None or name == v.name else self._rename(v.name, name)
        self._outputs.append(Value(final, type))

    def update(self, initializer: str, value: Any) -> None:
        """Declares that an initializer takes this value after each run."""
        self._state_updates[initializer] = self.value(value).name

    def build(self, **fields: Any) -> Graph:
        """The graph; ``fields`` sets further fields of `Graph` (metadata, …)."""
        made: Mapping[str, Any] = {
            "name": self._name,
            "opset_imports": self._opsets,
            "inputs": self._inputs,
            "outputs": self._outputs,
            "nodes": self._nodes,
            "initializers": self._initializers,
            "state_updates": self._state_updates,
        }
        return Graph(**{**made, **fields})

    def _rename(self, old: str, new: str) -> str:
        """Gives a node's output its final name; an input or a value that is an output already gets an Identity."""
        taken = {v.name for v in self._outputs} | set(self._initializers) | {v.name for v in self._inputs}
        at = next((i for i, n in enumerate(reversed(self._nodes)) if old in n.outputs), None)
        if at is None or old in taken:
            self.op("Identity", old, outputs=[new])
            return new
        self._scope.claim(new)
        self._renamed[old] = new
        swap = {old: new}
        self._state_updates = {k: swap.get(v, v) for k, v in self._state_updates.items()}
        for i, n in enumerate(self._nodes):
            if old in n.inputs or old in n.outputs:
                ins, outs = (tuple(swap.get(v, v) for v in vs) for vs in (n.inputs, n.outputs))
                self._nodes[i] = Node(n.op_type, ins, outs, n.attributes, n.domain, n.name)
        return new


@dataclass(frozen=True)
class _Domain:
    builder: GraphBuilder
    name: str

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        return lambda *inputs, **options: self.builder.op(op_type, *inputs, domain=self.name, **options)
