"""Gives a graph that was frozen for one batch size a symbolic batch dimension."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphrt.definitions import graph_pass
from graphrt.errors import InputError, PassError
from graphrt.inference import Inferred, infer
from graphrt.ir import Graph, NameScope, Node, Value, format_node
from graphrt.records import dataclass, field
from graphrt.registry import Registry
from graphrt.types import Dim, TensorType, ValueType

_Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class DynamicBatch:
    """What `with_dynamic_batch` made.

    Attributes:
        graph: the graph with a symbol for the batch.
        rewritten: a line for each Reshape whose target was changed.
        obstacles: a line for each node that still ties the graph to the old batch size, and why; empty when any
            batch size runs.
    """

    graph: Graph
    rewritten: tuple[str, ...]
    obstacles: tuple[str, ...]


@graph_pass("dynamic_batch")
def dynamic_batch(graph: Graph, registry: Registry, *, name: str = "batch", size: int = 1) -> Graph:
    """Replaces the frozen leading dimension of the inputs by a symbol, all through the graph.

    Args:
        graph: any graph.
        registry: where ops are looked up.
        name: the symbol.
        size: the frozen batch size.

    Raises:
        InputError: no input has that leading dimension.
        PassError: a node ties the graph to its batch size; the message lists each such node.
    """
    found = with_dynamic_batch(graph, registry, name=name, size=size)
    if found.obstacles:
        raise PassError(f"graph {graph.name!r} cannot take another batch size:\n" + "\n".join(found.obstacles))
    return found.graph


def with_dynamic_batch(graph: Graph, registry: Registry, *, name: str = "batch", size: int = 1) -> DynamicBatch:
    """As the pass `dynamic_batch`, but reports obstacles instead of raising.

    A Reshape whose constant target holds the old batch size is rewritten where its input shows that this is right:
    the input's leading dimension is the batch (or a multiple of it), and the other dimensions account for all
    elements.

    Raises:
        InputError: no input has the leading dimension ``size``.
    """
    frozen = [v for v in graph.inputs if _leading(v.type) == size and v.name not in graph.initializers]
    if not frozen:
        shown = ", ".join(map(str, graph.inputs)) or "none"
        raise InputError(f"no input has the leading dimension {size}; the inputs are: {shown}")
    inputs = tuple(Value(v.name, _with_leading(v.type, name)) if v in frozen else v for v in graph.inputs)
    free = tuple(Value(v.name, _forgetting(v.type, size)) for v in graph.outputs)
    info = {k: t for k, t in graph.value_info.items() if _leading(t) is None or isinstance(_leading(t), str)}
    work = _Work(graph.replace(inputs=inputs, outputs=free, value_info=info), registry, name, size)
    work.rewrite_reshapes()
    return work.result(graph)


def _leading(t: ValueType | None) -> Dim:
    return t.shape[0] if isinstance(t, TensorType) and t.shape else None


def _with_leading(t: ValueType, dim: Dim) -> ValueType:
    return TensorType(t.dtype, (dim, *t.shape[1:])) if isinstance(t, TensorType) and t.shape else t


def _forgetting(t: ValueType, size: int) -> ValueType:
    return _with_leading(t, None) if _leading(t) == size else t


@dataclass
class _Work:
    """The graph so far, and what was found on the way."""

    graph: Graph
    registry: Registry
    name: str
    size: int
    rewritten: list[str] = field(default_factory=list)
    obstacles: dict[str, str] = field(default_factory=dict)

    def rewrite_reshapes(self) -> None:
        """Rewrites Reshapes until no more can be; each makes the types behind it known."""
        settled: set[str] = set()
        while True:
            known = self.infer()
            found = 0
            for i, node in enumerate(self.graph.nodes):
                if node.op_type != "Reshape" or node.domain or node.outputs[0] in settled:
                    continue
                data = known.type(node.inputs[0])
                factor = self.factor(_leading(data))
                target = _target(node, self.graph, known)
                if factor is None or target is None or not isinstance(data, TensorType) or data.shape is None:
                    continue
                settled.add(node.outputs[0])
                found += self.rewrite(i, node, data.shape, factor, target)
                if found:
                    break
            if not found:
                return

    def infer(self) -> Inferred:
        """Types of all values; what does not fit is an obstacle."""
        self.obstacles.clear()

        def note(node: Node, error: Exception) -> None:
            self.obstacles[format_node(node)] = str(error).splitlines()[0]

        return infer(self.graph, self.registry, on_error=note)

    def factor(self, dim: Dim) -> int | None:
        """k where a dimension is k times the batch, else None."""
        if dim == self.name:
            return 1
        if isinstance(dim, str) and dim.startswith(f"{self.name}*"):
            return int(dim.removeprefix(f"{self.name}*"))
        return None

    def rewrite(self, index: int, node: Node, shape: tuple[Dim, ...], factor: int, target: list[int]) -> bool:
        """Frees one Reshape from the batch size; whether it was changed, or its result's type became known."""
        rest = [d for d in shape[1:] if isinstance(d, int)]
        if len(rest) < len(shape) - 1 or not target or target[0] in (0, -1):
            return False
        per_item = factor * math.prod(rest)  # elements of one example
        zero_copies = not node.attributes.get("allowzero", 0)
        inner = [shape[i] if d == 0 and zero_copies and i < len(shape) else d for i, d in enumerate(target)][1:]
        if -1 in target[1:]:
            others = math.prod(d for d in inner if isinstance(d, int) and d != -1)
            copies = target[0] == self.size and factor == 1 and zero_copies and per_item % max(others, 1) == 0
            return copies and self.replace(
                index, node, [0, *target[1:]], 1, [-1 if d == -1 else d for d in inner], per_item
            )
        count = math.prod(d for d in inner if isinstance(d, int))
        if not count or per_item % count or target[0] != self.size * (per_item // count):
            return False
        multiple = per_item // count
        copies = multiple == factor == 1 and zero_copies
        return self.replace(index, node, [0 if copies else -1, *target[1:]], multiple, inner, per_item)

    def replace(
        self, index: int, node: Node, target: list[int], multiple: int, inner: list[Dim], per_item: int
    ) -> bool:
        """Puts the new target in place and declares the result's type."""
        attributes, initializers, inputs = dict(node.attributes), dict(self.graph.initializers), node.inputs
        if len(inputs) > 1:
            fresh = NameScope(self.graph.names()).fresh(f"{inputs[1]}.{self.name}")
            initializers[fresh] = np.array(target, np.int64)
            inputs = (inputs[0], fresh)
        else:
            attributes["shape"] = tuple(target)
        made = Node(node.op_type, inputs, node.outputs, attributes, node.domain, node.name)
        others = math.prod(d for d in inner if isinstance(d, int) and d != -1)
        dims = tuple(per_item // max(others, 1) if d == -1 else d for d in inner)
        symbol = self.name if multiple == 1 else f"{self.name}*{multiple}"
        info = dict(self.graph.value_info) | {node.outputs[0]: TensorType(None, (symbol, *dims))}
        nodes = list(self.graph.nodes)
        nodes[index] = made
        self.graph = self.graph.replace(nodes=tuple(nodes), initializers=initializers, value_info=info)
        self.rewritten.append(f"{format_node(node)}: target shape is now {target}")
        return True

    def result(self, original: Graph) -> DynamicBatch:
        """The graph with what is known of its outputs; obstacles are what is left."""
        known = self.infer()
        for node in self.graph.nodes:
            self.note_pinned(node, known)
        outputs = []
        for before, v in zip(original.outputs, self.graph.outputs, strict=True):
            found = _leading(known.type(v.name))
            keeps = isinstance(found, str) or found is None
            outputs.append(
                Value(v.name, _with_leading(v.type, self.name if found is None else found)) if keeps else before
            )
            if not keeps and _leading(before.type) == self.size:
                self.obstacles[f"output {before}"] = f"its leading dimension stays {found} whatever the batch"
        info = {k: t for k, t in self.graph.value_info.items() if not isinstance(t, TensorType) or t.dtype is not None}
        lines = tuple(f"{where}\n    {why}" for where, why in self.obstacles.items())
        graph = self.graph.replace(
            outputs=tuple(outputs), value_info=info, initializers=self.used_initializers(original)
        )
        return DynamicBatch(graph, tuple(self.rewritten), lines)

    def used_initializers(self, original: Graph) -> dict[str, _Array]:
        """The initializers without the targets that no node reads any more."""
        before = {name for n in original.nodes for name in n.free_inputs()}
        now = {name for n in self.graph.nodes for name in n.free_inputs()}
        return {k: a for k, a in self.graph.initializers.items() if k in now or k not in before}

    def note_pinned(self, node: Node, known: Inferred) -> None:
        """Notes a node that mixes the batch with a fixed size."""
        if node.domain or node.op_type not in ("Reshape", "Concat"):
            return
        leading = [_leading(known.type(i)) for i in node.inputs if i]
        grows = any(self.factor(d) is not None for d in leading)
        if node.op_type == "Concat" and node.attributes.get("axis", 1) != 0 and grows and self.size in leading:
            name = next(i for i in node.inputs if _leading(known.type(i)) == self.size)
            self.obstacles[format_node(node)] = (
                f"{name!r} has the leading dimension {self.size}: expand it to the batch first"
            )
        if node.op_type == "Reshape" and self.factor(leading[0]) is not None:
            target = _target(node, self.graph, known)
            if target and target[0] not in (0, -1) and -1 not in target:
                self.obstacles[format_node(node)] = (
                    f"its target {target} is fixed, and its input {known.type(node.inputs[0])} grows with the batch"
                )


def _target(node: Node, graph: Graph, known: Inferred) -> list[int] | None:
    """The constant target shape of a Reshape."""
    if len(node.inputs) < 2:
        shape = node.attributes.get("shape")
        return list(shape) if isinstance(shape, tuple) else None
    found = known.constants.get(node.inputs[1], graph.initializers.get(node.inputs[1]))
    return [int(d) for d in found.ravel()] if found is not None and found.dtype.kind in "iu" else None
