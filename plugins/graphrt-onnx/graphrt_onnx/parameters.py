"""Parameters, constants and running statistics are told apart, so that exactly the parameters can be trained.

After this, a float initializer of the graph that is no running statistic is a parameter:

- a weight in a Constant node, or in a subgraph, becomes an initializer of the graph, with its name;
- a float initializer that is no weight (a scalar operand, an exponent, a bound, a scale of a resize, …) becomes a
  Constant node, with its name; export turns it back;
- an initializer that is also an input is a parameter where the format demanded the input (before IR version 4), or
  where every initializer of the model is listed so and it is used as a weight; export lists it again;
- weights of zeros or of ones that PyTorch's exporter wrote once, because they are equal as long as nothing is trained,
  become separate initializers again, each with its name (or, where that is lost, with a number after the first's).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from onnx import ModelProto

from graphrt.plugin import Graph, Node
from graphrt.registry import Registry
from graphrt.types import DTYPES, dtype_name
from graphrt_onnx.notes import LAYOUT, Notes
from graphrt_onnx.roles import Role, roles_of
from graphrt_onnx.tensors import Array

KIND = "pkg.torch.export.graph_signature.InputSpec.kind"
"""Where PyTorch's exporter notes whether an initializer was a PARAMETER, a BUFFER or a constant."""

FOLDED = "pkg.onnxscript.optimizer.folded_from"
"""Where PyTorch's optimizer notes which values it computed an initializer from: a text such as ``['arange', 'w']``."""

_MADE_UP = frozenset(["arange", "eye", "full", "linspace", "ones", "scalar_tensor", "zeros"])
"""Ops that begin a computation, as PyTorch's exporter names their values (``arange``, ``arange_1``, …)."""
_NORMALIZATIONS = frozenset(["InstanceNormalization", "GroupNormalization"])

_DOMAINS = frozenset({"", "ai.onnx.ml", "ai.onnx.preview.training", "ai.onnx.training", "com.microsoft"})


def sort_out_weights(graph: Graph, registry: Registry, model: ModelProto, notes: Notes) -> Graph:
    """Applies the rules of this module to a graph as it was read."""
    graph = _separated(_untied(graph), notes)
    roles = roles_of(graph, registry)
    inputs = _true_inputs(graph, roles, model.ir_version)
    graph = graph.replace(inputs=tuple(v for v in graph.inputs if v.name in inputs))
    in_nodes_only = not any(
        _is_float(a) and a.size > 1 and roles.get(k, Role.UNUSED) >= Role.OPERAND for k, a in graph.initializers.items()
    )
    raised = _raise_constants(graph, roles, Role.OPERAND if in_nodes_only else Role.WEIGHT)
    graph, roles = raised, roles if raised is graph else roles_of(raised, registry)
    judge = _Judge(graph, roles, notes, model.producer_name)
    demoted = [k for k, a in graph.initializers.items() if k not in inputs and judge.is_constant(k, a)]
    layout = _layout(graph, notes, demoted, model)
    constants = tuple(Node("Constant", (), (k,), {"value": graph.initializers[k]}) for k in demoted)
    kept = {k: a for k, a in graph.initializers.items() if k not in set(demoted)}
    metadata = dict(graph.metadata) | ({LAYOUT: json.dumps(layout, sort_keys=True)} if layout else {})
    return graph.replace(nodes=constants + graph.nodes, initializers=kept, metadata=metadata)


def _true_inputs(graph: Graph, roles: Mapping[str, Role], ir_version: int) -> set[str]:
    """Names of the inputs that a caller feeds, without the weights that are merely listed among them."""
    names = set(graph.input_names)
    listed = names & graph.initializers.keys()
    if ir_version < 4:
        return names - listed
    if listed == graph.initializers.keys():
        return names - {n for n in listed if roles.get(n, Role.UNUSED) in (Role.WEIGHT, Role.STATISTIC)}
    return names


def _is_float(array: Array) -> bool:
    return DTYPES[dtype_name(array.dtype)].kind in "fc"


def _is_uniform(array: Array) -> bool:
    """Whether all its numbers are equal: it cannot be told from a placeholder, or from another of its shape."""
    return bool(array.size and (array == array.flat[0]).all())


def _untied(graph: Graph) -> Graph:
    """Gives every Identity of a uniform initializer an initializer of its own; what is tied for good is not uniform."""
    given = graph.initializers
    copies = {
        n.outputs[0]: given[n.inputs[0]]
        for n in graph.nodes
        if n.op_type == "Identity" and not n.domain and n.inputs[0] in given and n.outputs[0] not in graph.output_names
        if n.inputs[0] not in graph.input_names and _is_float(given[n.inputs[0]]) and _is_uniform(given[n.inputs[0]])
    }
    if not copies:
        return graph
    nodes = tuple(n for n in graph.nodes if not (n.outputs and n.outputs[0] in copies))
    info = {k: v for k, v in graph.value_info.items() if k not in copies}
    return graph.replace(nodes=nodes, initializers={**given, **copies}, value_info=info)


def _separated(graph: Graph, notes: Notes) -> Graph:
    """Gives each reader of a uniform parameter its own, as `_untied` does, where the exporter let them share a name."""
    names = graph.names()
    shared = {
        k
        for k, a in graph.initializers.items()
        if notes.property(k, KIND) == "PARAMETER" and a.size > 1 and _is_float(a) and _is_uniform(a)
    }
    copies: dict[str, Array] = {}
    met: set[str] = set()
    nodes = []
    for node in graph.nodes:
        own = list(node.inputs)
        for i, name in enumerate(own):
            if name in met & shared:
                own[i] = _fresh(name, names | copies.keys())
                copies[own[i]] = graph.initializers[name]
            met.add(name)
        nodes.append(node if tuple(own) == node.inputs else replace(node, inputs=tuple(own)))
    return graph.replace(nodes=nodes, initializers={**graph.initializers, **copies}) if copies else graph


def _fresh(name: str, taken: Collection[str]) -> str:
    n = 1
    while f"{name}_{n}" in taken:
        n += 1
    return f"{name}_{n}"


class _Judge:
    """Tells which float initializers are neither to be trained nor running statistics."""

    def __init__(self, graph: Graph, roles: Mapping[str, Role], notes: Notes, producer: str):
        self.roles, self.notes = roles, notes
        self.kinds_noted = any(notes.property(k, KIND) for k in graph.initializers)
        self.names_are_attributes = producer == "pytorch" and not self.kinds_noted
        readers = [(name, n.op_type) for n in graph.nodes for name in n.free_inputs()]
        others = {name for name, op_type in readers if op_type not in _NORMALIZATIONS}
        self.only_normalize = {name for name, _ in readers} - others

    def is_constant(self, name: str, array: Array) -> bool:
        """Whether this one is."""
        if not _is_float(array):
            return False
        role = self.roles.get(name, Role.UNUSED)
        if role is Role.STATISTIC:
            return False
        kind = self.notes.property(name, KIND)
        if kind:
            return kind != "PARAMETER"
        if self.kinds_noted and (array.ndim == 0 or self._is_placeholder(name, array) or self._is_made_up(name)):
            return True
        if role in (Role.STATE, Role.OPERAND) and self.names_are_attributes and ":" not in name and "/" not in name:
            return _is_mask(array)  # an attribute of a module is a parameter: a temperature, a learned initial state
        return role < Role.OPERAND or (role is Role.OPERAND and array.size <= 1) or _is_mask(array)

    def _is_placeholder(self, name: str, array: Array) -> bool:
        """A scale of ones or a bias of zeros, for a normalization that has none."""
        return name in self.only_normalize and _is_uniform(array)

    def _is_made_up(self, name: str) -> bool:
        """It was computed when the model was exported, and not from a parameter of a layer."""
        sources = re.findall(r"'([^']+)'", self.notes.property(name, FOLDED))
        return not any("." in s for s in sources) and any(re.sub(r"_\d+$", "", s) in _MADE_UP for s in sources)


def _is_mask(array: Array) -> bool:
    """Whether it only blocks: two values at most, one of them minus infinity or as good as that."""
    if array.dtype.kind not in "fV" or not array.size:
        return False
    low, high = float(array.min()), float(array.max())
    return low <= -1e4 and bool(np.all((array == array.dtype.type(low)) | (array == array.dtype.type(high))))


def _layout(graph: Graph, notes: Notes, demoted: list[str], model: ModelProto) -> dict[str, Any]:
    layout: dict[str, Any] = {}
    if notes.order.get("inputs", []) != list(graph.input_names):
        layout["inputs"] = notes.order["inputs"]
    if demoted:
        layout["initializers"] = notes.order["initializers"]
    domains = sorted(
        {e.domain for e in model.opset_import} - _DOMAINS - {"ai.onnx"} - {f.domain for f in model.functions}
    )
    if domains:
        layout["domains"] = domains
    return layout


def _raise_constants(graph: Graph, roles: Mapping[str, Role], least: Role) -> Graph:
    """Makes initializers of the weights that lie in Constant nodes and in subgraphs.

    Args:
        graph: the outermost graph.
        roles: of its values.
        least: the role from which on a tensor of several elements counts as a weight. Where the model keeps its
            weights in initializers (``Role.WEIGHT``), a uniform constant is a placeholder, such as the scale of a
            normalization that has none.
    """
    mover = _Mover(graph)
    nodes = []
    for node in graph.nodes:
        value = None if node.outputs and node.outputs[0] in graph.output_names else _constant(node)
        if (
            value is not None
            and value.size > 1
            and roles.get(node.outputs[0], Role.UNUSED) >= least
            and (least is Role.OPERAND or not _is_uniform(value))
        ):
            mover.raised[node.outputs[0]] = value
        else:
            nodes.append(mover.node(node))
    if not mover.raised:
        return graph
    info = {k: v for k, v in graph.value_info.items() if k not in mover.raised}
    return graph.replace(nodes=tuple(nodes), initializers={**graph.initializers, **mover.raised}, value_info=info)


def _constant(node: Node) -> Array | None:
    value = node.attributes.get("value") if node.op_type == "Constant" and not node.domain else None
    return value if value is not None and not isinstance(value, (int, float, str)) and _is_float(value) else None  # type: ignore[arg-type,return-value]


class _Mover:
    """Moves weights out of subgraphs; a body then captures them by name.

    Attributes:
        raised: the weights moved so far.
    """

    def __init__(self, graph: Graph):
        self.raised: dict[str, Array] = {}
        self.opsets = graph.opset_imports
        self.defined = Counter(graph.names())
        for body in _bodies(graph):
            self.defined.update(body.names() - set(body.captured()))

    def node(self, node: Node) -> Node:
        """The node with lighter subgraphs."""
        if not any(node.subgraphs()):
            return node
        attributes: dict[str, Any] = {}
        for key, value in node.attributes.items():
            if isinstance(value, tuple):
                attributes[key] = tuple(self._lighter(v) if isinstance(v, Graph) else v for v in value)
            else:
                attributes[key] = self._lighter(value) if isinstance(value, Graph) else value
        return Node(node.op_type, node.inputs, node.outputs, attributes, node.domain, node.name)

    def _lighter(self, body: Graph) -> Graph:
        roles = roles_of(body.replace(opset_imports=self.opsets), _NO_OPS)
        weights = {k: a for k, a in body.initializers.items() if k not in body.input_names and _is_float(a)}
        weights |= {n.outputs[0]: v for n in body.nodes if (v := _constant(n)) is not None}
        moved = {
            k: self._outer_name(k)
            for k, a in weights.items()
            if roles.get(k, Role.UNUSED) is Role.WEIGHT and a.size > 1 and k not in body.output_names
        }
        self.raised.update((new, weights[old]) for old, new in moved.items())
        nodes = [self.node(n) for n in body.nodes if not (n.outputs and n.outputs[0] in moved)]
        kept = {k: a for k, a in body.initializers.items() if k not in moved}
        info = {k: v for k, v in body.value_info.items() if k not in moved}
        renamed = {old: new for old, new in moved.items() if old != new}
        return _reading(body.replace(nodes=tuple(nodes), initializers=kept, value_info=info), renamed)

    def _outer_name(self, name: str) -> str:
        """The name itself, or a fresh one when another graph defines it too."""
        found, n = name, 0
        while self.defined[found] > (found == name):
            n += 1
            found = f"{name}_{n}"
        self.defined[found] = 2
        return found


def _bodies(graph: Graph) -> Iterator[Graph]:
    """Every subgraph, at any depth."""
    waiting = [g for n in graph.nodes for g in n.subgraphs()]
    while waiting:
        body = waiting.pop()
        yield body
        waiting += [g for n in body.nodes for g in n.subgraphs()]


def _reading(graph: Graph, names: Mapping[str, str]) -> Graph:
    """The graph with its nodes, also those of its subgraphs, reading other outer values."""
    if not names:
        return graph

    def attribute(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(attribute, value))
        return _reading(value, names) if isinstance(value, Graph) else value

    nodes = []
    for n in graph.nodes:
        attributes = {k: attribute(v) for k, v in n.attributes.items()}
        nodes.append(Node(n.op_type, tuple(names.get(i, i) for i in n.inputs), n.outputs, attributes, n.domain, n.name))
    return graph.replace(nodes=tuple(nodes))


_NO_OPS = Registry.of()
"""Roles in a body are read off the table alone."""
