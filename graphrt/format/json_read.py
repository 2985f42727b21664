"""JSON text -> Graph."""

from __future__ import annotations

from typing import Any

from graphrt.errors import FormatError
from graphrt.format.json_parse import JsonReader
from graphrt.format.json_tensor import read_base64, read_dtype, read_float, read_tensor
from graphrt.format.json_write import JSON_VERSION
from graphrt.format.limits import DEFAULT_LIMITS, Limits
from graphrt.format.normal import PLURAL
from graphrt.ir.graph import Graph, Node, Value
from graphrt.types import UNKNOWN, Dim, MapType, OptionalType, SequenceType, TensorType, ValueType

_GRAPH_KEYS = (
    "name",
    "opset_imports",
    "requires",
    "metadata",
    "inputs",
    "outputs",
    "nodes",
    "initializers",
    "value_info",
    "state_updates",
)
_NODE_KEYS = ("op_type", "domain", "name", "inputs", "outputs", "attributes")
_TYPE_KEYS = ("dtype", "shape", "sequence", "optional", "map")
_ATTRIBUTE_KEYS = ("float", "bytes", "tensor", "graph", "type")


def from_json(text: str, *, limits: Limits | None = None) -> Graph:
    """Reads a graph from JSON text; see `schemas/README.md`.

    Args:
        text: the JSON text. Keys may come in any order, and keys whose value is empty may be left out.
        limits: bounds on what reading may cost; default: `Limits()`.

    Raises:
        FormatError: the text is not JSON or not a graph; names byte, line, column and reason.
    """
    limits = limits or DEFAULT_LIMITS
    if len(text) > limits.max_json:
        reason = f"a JSON text of {len(text)} characters; the limit is {limits.max_json}"
        raise FormatError(reason, offset=limits.max_json)
    reader = JsonReader(text, limits)
    try:
        graph = _GraphReader(reader).graph(1)
        reader.end()
    except (RecursionError, MemoryError) as e:
        raise FormatError(f"the text cannot be decoded here: {e or type(e).__name__}", offset=0) from e
    return graph


class _GraphReader:
    def __init__(self, reader: JsonReader):
        self._r = reader

    def graph(self, depth: int) -> Graph:
        r = self._r
        at = r.pos
        if depth > r.limits.max_depth:
            r.fail(f"graphs lie deeper within graphs than {r.limits.max_depth}", at)
        r.spend(2500 if depth > 1 else 0)
        fields: dict[str, Any] = {"opset_imports": {}}
        known = ("graphrt", *_GRAPH_KEYS) if depth == 1 else _GRAPH_KEYS
        given = set()
        for key in r.fields("a graph", known):
            given.add(key)
            if key == "graphrt":
                self._version()
            else:
                fields[key] = self._graph_field(key, depth)
        for key in ("graphrt", "opset_imports"):
            if depth == 1 and key not in given:
                r.fail(f"the graph lacks the key {key!r}", at)
        return Graph(**fields)

    def _version(self) -> None:
        at = self._r.pos
        version = self._r.integer("graphrt")
        if version != JSON_VERSION:
            self._r.fail(f"version {version} of the text form; this graphrt reads version {JSON_VERSION}", at)

    def _graph_field(self, key: str, depth: int) -> Any:
        r = self._r
        if key == "name":
            return r.string("a graph's name")
        if key == "opset_imports":
            return {k: r.integer("a version") for k in r.fields(key)}
        if key in ("inputs", "outputs"):
            return tuple([self._value() for _ in r.items(key)])
        if key == "nodes":
            return tuple([self._node(depth) for _ in r.items(key)])
        if key == "initializers":
            return {k: read_tensor(r) for k in r.fields(key)}
        if key == "value_info":
            return {k: self._type() for k in r.fields(key)}
        return {k: r.string(f"a value of {key}") for k in r.fields(key)}

    def _value(self) -> Value:
        r = self._r
        at = r.pos
        r.spend(64)
        name: str | None = None
        value_type: ValueType = UNKNOWN
        for key in r.fields("a value", ("name", "type")):
            if key == "name":
                name = r.string("a value's name")
            else:
                value_type = self._type()
        if name is None:
            r.fail("a value lacks the key 'name'", at)
        return Value(name, value_type)

    def _node(self, depth: int) -> Node:
        r = self._r
        at = r.pos
        r.spend(120)
        fields: dict[str, Any] = {}
        for key in r.fields("a node", _NODE_KEYS):
            if key in ("inputs", "outputs"):
                fields[key] = tuple([r.string("a value's name") for _ in r.items(key)])
            elif key == "attributes":
                fields[key] = {k: self._attribute(depth)[1] for k in r.fields(key)}
            else:
                fields[key] = r.string(key)
        if "op_type" not in fields:
            r.fail("a node lacks the key 'op_type'", at)
        return Node(**fields)

    # -- types ------------------------------------------------------------------------------------

    def _type(self, depth: int = 0) -> ValueType:
        r = self._r
        at = r.pos
        if depth > r.limits.max_type_depth:
            r.fail(f"types nest deeper than {r.limits.max_type_depth}", at)
        r.spend(64)
        parts: dict[str, Any] = {}
        for key in r.fields("a type", _TYPE_KEYS):
            if key == "dtype":
                parts[key] = read_dtype(r)
            elif key == "shape":
                parts[key] = self._shape()
            elif key == "map":
                parts[key] = self._map(depth)
            else:
                make = SequenceType if key == "sequence" else OptionalType
                parts[key] = make(self._type(depth + 1))
        if parts.keys() <= {"dtype", "shape"}:
            return TensorType(**parts)
        if len(parts) > 1:
            r.fail(f"a type has the keys {' and '.join(parts)}, which exclude each other", at)
        nested: ValueType = parts.popitem()[1]
        return nested

    def _map(self, depth: int) -> MapType:
        r = self._r
        at = r.pos
        parts: dict[str, Any] = {}
        for key in r.fields("a map type", ("key", "value")):
            parts[key] = read_dtype(r, "key") if key == "key" else self._type(depth + 1)
        if len(parts) != 2:
            r.fail("a map type needs both key and value", at)
        return MapType(**parts)

    def _shape(self) -> tuple[Dim, ...]:
        at = self._r.pos
        shape = tuple([self._dim() for _ in self._r.items("shape")])
        if len(shape) > self._r.limits.max_rank:
            self._r.fail(f"{len(shape)} dimensions; the limit is {self._r.limits.max_rank}", at)
        return shape

    def _dim(self) -> Dim:
        first = self._r.peek()
        if first == "n":
            return self._r.word("a dimension", {"null": None})
        return self._r.string("a symbol") if first == '"' else self._r.integer("a dimension", 0)

    # -- attributes -------------------------------------------------------------------------------

    def _attribute(self, depth: int) -> tuple[str, Any]:
        """The kind of an attribute and its value."""
        r = self._r
        first = r.peek()
        if first == "[":
            return self._list(depth)
        if first == '"':
            return "string", r.string("a string")
        if first == "{":
            return self._tagged(depth)
        at = r.pos
        if first in ("t", "f"):
            r.fail("an attribute cannot be true or false: write 1 or 0", at)
        value = r.number("an attribute")
        r.spend(32)
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            r.fail("an int attribute must fit in 64 bits", at)
        return ("int" if isinstance(value, int) else "float"), value

    def _list(self, depth: int) -> tuple[str, Any]:
        r = self._r
        values: list[Any] = []
        kind = None
        for _ in r.items("a list attribute"):
            at = r.pos
            if r.peek() == "[":
                r.fail("a list attribute holds lists; use a tensor", at)
            found, value = self._attribute(depth)
            kind = found if kind is None else kind
            if found != kind:
                r.fail(f"a list attribute mixes {kind} and {found}; its elements must be of one kind", at)
            values.append(value)
        return PLURAL[kind or "int"], tuple(values)

    def _tagged(self, depth: int) -> tuple[str, Any]:
        r = self._r
        at = r.pos
        result: tuple[str, Any] | None = None
        for key in r.fields("an attribute", _ATTRIBUTE_KEYS):
            if result is not None:
                r.fail("an attribute has exactly one key", at)
            if key == "float":
                result = key, read_float(r)
            elif key == "bytes":
                result = key, read_base64(r, "bytes")
            elif key == "tensor":
                result = key, read_tensor(r)
            elif key == "graph":
                result = key, self.graph(depth + 1)
            else:
                result = key, self._type()
        if result is None:
            r.fail(f"an attribute has exactly one of the keys {', '.join(_ATTRIBUTE_KEYS)}", at)
        return result
