"""Writes the derivative nodes of a joint graph: one node calls one rule of one op."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any

from graphrt.inference import Inferred
from graphrt.ir import OPSET, Graph, NameScope, Node
from graphrt.ir.rules import captured_by, rng_key
from graphrt.op import Op
from graphrt.registry import Registry
from graphrt.types import UNKNOWN, TensorType, ValueType

DOMAIN = "graphrt"


class RuleWriter:
    """Collects derivative nodes, with names that the graph does not use yet."""

    def __init__(self, graph: Graph, registry: Registry, known: Inferred, scope: NameScope):
        self.graph, self.registry, self.known, self.scope = graph, registry, known, scope
        self.nodes: list[Node] = []
        self._likes: dict[str, Node] = {}
        self._extended: dict[int, Node] = {}
        self._opsets = dict(graph.opset_imports)

    @property
    def opset_imports(self) -> dict[str, int]:
        """What the joint graph imports."""
        return self._opsets

    def add(self, op_type: str, inputs: Sequence[str], output: str, domain: str = "", **attributes: Any) -> str:
        """Adds a node with one output, whose final name is returned."""
        self._opsets.setdefault(domain, 1 if domain else OPSET)
        name = self.scope.fresh(output)
        self.nodes.append(Node(op_type, tuple(inputs), (name,), attributes, domain))
        return name

    def sum(self, parts: Sequence[str], output: str, kind: ValueType) -> str:
        """The sum of cotangents of a value of this type."""
        if isinstance(kind, TensorType) and kind != UNKNOWN:
            return self.add("Sum", parts, output)
        return self.add("Accumulate", parts, output, DOMAIN)

    def zeros_like(self, value: str) -> str:
        """Zeros with the shape and dtype of a value."""
        return self.add("ZerosLike", [value], f"{value}.zero", DOMAIN)

    def ones_like(self, value: str) -> str:
        """Ones with the shape and dtype of a value: the seed of its gradient."""
        return self.add("OnesLike", [value], f"{value}.seed", DOMAIN)

    def like(self, value: str) -> str:
        """Shape and dtype of a value, without its memory; shared among all rules that ask."""
        if value not in self._likes:
            self._opsets.setdefault(DOMAIN, 1)
            self._likes[value] = Node("Like", (value,), (self.scope.fresh(f"{value}.like"),), {}, DOMAIN)
        return self._likes[value].outputs[0]

    def joined(self, before: Iterable[Node]) -> Iterator[Node]:
        """The nodes of the joint graph: ``before``, then what was written.

        Each `like` comes right after the value it looks at, so that the value is not kept for it.
        """
        waiting = dict(self._likes)
        nodes = [self._extended.get(id(n), n) for n in (*before, *self.nodes)]
        produced = {o for n in nodes for o in n.outputs}
        for value in [v for v in waiting if v not in produced]:
            yield waiting.pop(value)
        for node in nodes:
            yield node
            for output in node.outputs:
                if output in waiting:
                    yield waiting.pop(output)

    def vjp(
        self, found: Op, node: Node, group: tuple[str, ...], cts: Sequence[str | None], live: set[str]
    ) -> list[tuple[str, str]]:
        """Adds the node that calls the VJP rule of some inputs.

        Args:
            found: the op of ``node``.
            group: its inputs, as the rule covers them.
            cts: the cotangent of each output; None where nothing comes back.
            live: values whose cotangents are wanted.

        Returns:
            (input value, its cotangent contribution) pairs.
        """
        derived = found.derived(f"vjp[{','.join(group)}]")
        bound = found.bind(node.inputs)
        targets: list[str] = []
        for name in group:
            values = bound[name]
            targets += values if isinstance(values, tuple) else [values or ""]
        outputs = tuple(self.scope.fresh(f"{t}.ct") if t and t in live else "" for t in targets)
        ct_names = _cotangent_names(found, cts)
        agree = _same_shape(self.known, [*node.outputs[:1], *targets[:1]])
        self._call(derived, found, node, ct_names, outputs, targets, derived.skippable if agree else frozenset())
        return [(t, o) for t, o in zip(targets, outputs, strict=True) if o]

    def jvp(self, found: Op, node: Node, wrt: tuple[str, ...], dots: dict[str, str], outputs: Sequence[str]) -> None:
        """Adds the node that calls the JVP of some inputs.

        Args:
            found: the op of ``node``.
            wrt: its inputs that have tangents.
            dots: value name to tangent name.
            outputs: names of the output tangents; ``""`` where none is wanted.
        """
        derived = found.derived(f"jvp[{','.join(wrt)}]")
        bound = found.bind(node.inputs, _segments(node))
        tangents: dict[str, str | tuple[str, ...]] = {}
        for name in wrt:
            values = bound[name]
            single = not isinstance(values, tuple)
            found_dots = tuple(dots.get(v, "") for v in ((values,) if single else values))
            tangents[f"{name}_dot"] = found_dots[0] if single else found_dots
        agree = bool(derived.skippable) and _same_shape(self.known, [*node.outputs[:1], *node.inputs])
        drop = derived.skippable if agree else frozenset()
        self._call(derived, found, node, tangents, tuple(outputs), node.outputs, drop)

    def body_vjp(self, node: Node, cts: Sequence[str | None], live: Container[str]) -> list[tuple[str, str]]:
        """Adds the node that calls the VJP of an op with subgraphs; as `vjp`, with what the subgraphs capture."""
        targets = (*node.inputs, *captured_by(node))
        outputs = tuple(self.scope.fresh(f"{t}.ct") if t and t in live else "" for t in targets)
        arguments = (*(c or "" for c in cts), *node.inputs)
        attributes = {**node.attributes, "segments": (len(cts), len(node.inputs)), "rng_key": rng_key(node)}
        attributes["of"] = targets
        self.nodes.append(Node(f"{node.op_type}.vjp[*]", arguments, outputs, attributes, node.domain, node.name))
        return [(t, o) for t, o in zip(targets, outputs, strict=True) if o]

    def body_jvp(self, node: Node, dots: Mapping[str, str], outputs: Sequence[str]) -> None:
        """Adds the node that calls the JVP of an op with subgraphs; as `jvp`, with what the subgraphs capture."""
        captured = captured_by(node)
        tangents = tuple(dots.get(v, "") for v in (*node.inputs, *captured))
        own: Any = node.attributes.get("segments", (len(node.inputs),))
        attributes = {**node.attributes, "segments": (len(tangents), *own), "rng_key": rng_key(node)}
        attributes["of"] = node.outputs
        arguments = (*tangents, *node.inputs)
        self.nodes.append(Node(f"{node.op_type}.jvp[*]", arguments, tuple(outputs), attributes, node.domain, node.name))

    def _call(
        self,
        derived: Op,
        found: Op,
        node: Node,
        extra: dict[str, str | tuple[str, ...]],
        outputs: tuple[str, ...],
        of: Sequence[str],
        drop: frozenset[str],
    ) -> None:
        self._name_outputs(found, node, derived)
        outputs_bound = _bind_outputs(found, self._extended.get(id(node), node))
        bound: dict[str, Any] = found.bind(node.inputs, _segments(node)) | outputs_bound
        arguments: list[str] = []
        segments: list[int] = []
        for param in derived.inputs:
            chunk = self._argument(param.name, bound, extra, drop)
            arguments += chunk
            segments.append(len(chunk))
        attributes: dict[str, Any] = {k: v for k, v in node.attributes.items() if k in derived.attributes}
        attributes["of"] = tuple(of)
        if sum(p.variadic for p in derived.inputs) > 1:
            attributes["segments"] = tuple(segments)
        if "n_outputs" in derived.context:
            attributes["n_outputs"] = node.attributes.get("n_outputs", len(node.outputs))
        if "rng" in derived.context:
            attributes["rng_key"] = rng_key(node)
        self.nodes.append(Node(derived.op_type, tuple(arguments), outputs, attributes, node.domain, node.name))

    def _name_outputs(self, found: Op, node: Node, derived: Op) -> None:
        """Names the outputs that a rule reads and the node leaves out."""
        if found.variadic_output:
            return
        names = self._extended.get(id(node), node).outputs
        names += ("",) * (len(found.outputs) - len(names))
        read = {p.name.removesuffix("_like") for p in derived.inputs}
        missing = [i for i, o in enumerate(found.outputs) if o in read and not names[i]]
        if missing:
            made = {i: self.scope.fresh(f"{node.label}.{found.outputs[i]}") for i in missing}
            most = max(len(node.outputs), *(i + 1 for i in missing))
            outputs = tuple(made.get(i, n) for i, n in enumerate(names))[:most]
            self._extended[id(node)] = Node(node.op_type, node.inputs, outputs, node.attributes, node.domain, node.name)

    def _argument(
        self, name: str, bound: dict[str, Any], extra: dict[str, str | tuple[str, ...]], drop: frozenset[str]
    ) -> list[str]:
        if name in drop:
            return [""]
        if name in extra:
            value: Any = extra[name]
        elif name in bound:
            value = bound[name]
        elif name.endswith("_like") and name[:-5] in bound:
            base = bound[name[:-5]]
            if isinstance(base, tuple):
                return [self.like(v) if v else "" for v in base]
            value = self.like(base) if base else ""
        else:
            value = ""
        return list(value) if isinstance(value, tuple) else [value or ""]


def _segments(node: Node) -> Any:
    return node.attributes.get("segments")


def _bind_outputs(found: Op, node: Node) -> dict[str, Any]:
    if found.variadic_output:
        fixed = len(found.outputs) - 1
        return dict(zip(found.outputs[:-1], node.outputs, strict=False)) | {found.outputs[-1]: node.outputs[fixed:]}
    padded = node.outputs + ("",) * (len(found.outputs) - len(node.outputs))
    return dict(zip(found.outputs, padded, strict=True))


def _cotangent_names(found: Op, cts: Sequence[str | None]) -> dict[str, str | tuple[str, ...]]:
    names = tuple(c or "" for c in cts)
    if found.variadic_output:
        return {"cts": names}
    padded = names + ("",) * (len(found.outputs) - len(names))
    return {"ct": padded[0], **{f"ct_{o}": c for o, c in zip(found.outputs, padded, strict=True)}}


def _same_shape(known: Inferred, values: Sequence[str]) -> bool:
    """Whether all these values surely have one shape (known ranks, equal numbers or symbols)."""
    shapes = [_shape(known.type(v)) for v in values if v]
    return bool(shapes) and shapes[0] is not None and None not in shapes[0] and all(s == shapes[0] for s in shapes)


def _shape(t: ValueType) -> tuple[Any, ...] | None:
    return t.shape if isinstance(t, TensorType) else None
