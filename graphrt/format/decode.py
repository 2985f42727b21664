"""The header's msgpack -> Graph, field by field in the order of the specification."""

from __future__ import annotations

import struct
from types import MappingProxyType
from typing import Any

import msgpack
import numpy as np

from graphrt.format.normal import PLURAL
from graphrt.format.reader import COST_ENTRY, COST_ITEM, Buffer, Reader
from graphrt.format.table import TensorEntry, read_array, read_dtype, read_rank, read_table
from graphrt.format.tensors import unpack
from graphrt.ir.graph import Attribute, Graph, Node, Value
from graphrt.types import Dim, MapType, OptionalType, SequenceType, TensorType, ValueType

_COST_NODE, _COST_TUPLE, _COST_VALUE, _COST_TYPE, _COST_GRAPH = 80, 40, 48, 48, 2500
_CACHED_TYPES = 4096
_SINGULAR = frozenset(PLURAL)


_KEY: dict[str, bytes] = {
    name: msgpack.packb(name)
    for name in (
        *("tensors", "graph", "name", "dtype", "shape"),
        *("opset_imports", "inputs", "outputs", "nodes", "initializers", "value_info", "state_updates"),
        *("metadata", "requires", "type", "op_type", "attributes", "domain", "key", "value"),
    )
}


class HeaderDecoder:
    """Reads one header.

    Args:
        reader: stands at the header's first byte.
        buffer: the whole file.
        data_start: position of the tensor section.
        file_size: bytes of the whole file.
    """

    def __init__(self, reader: Reader, buffer: Buffer, data_start: int, file_size: int):
        self._r = reader
        self._buffer, self._data_start, self._file_size = buffer, data_start, file_size
        self._used = 0
        self._depth = 0
        self._types: dict[tuple[Any, ...], TensorType] = {}
        self.table: list[TensorEntry] = []

    def header(self) -> Graph:
        """The graph; afterwards `table` lists its tensors."""
        r = self._r
        r.record("the header", 2)
        r.key(_KEY["tensors"])
        self.table = read_table(r, self._data_start, self._file_size)
        r.key(_KEY["graph"])
        graph = self._graph()
        if self._used != len(self.table):
            r.fail(f"{len(self.table) - self._used} tensors are used nowhere", self.table[self._used].at)
        r.end()
        return graph

    # -- tensors ----------------------------------------------------------------------------------

    def _tensor(self, initializer: bool = False) -> tuple[str, np.ndarray[Any, Any]]:
        at = self._r.pos
        index = self._r.integer("a tensor's number", 0)
        if index != self._used or index >= len(self.table):
            self._r.fail(
                f"tensor {index} is named where {self._used} of {len(self.table)} is due: "
                "each tensor is used once, in the order of the table",
                at,
            )
        self._used += 1
        entry = self.table[index]
        if entry.name and not initializer:
            self._r.fail(f"the tensor of an attribute has the name {entry.name[:80]!r}; its name must be empty", at)
        return entry.name, read_array(entry, self._buffer, self._data_start)

    # -- types ------------------------------------------------------------------------------------

    def _type(self, depth: int = 0) -> ValueType:
        r = self._r
        at = r.pos
        if depth > r.limits.max_type_depth:
            r.fail(f"types nest deeper than {r.limits.max_type_depth}", at)
        r.record("a type", 1)
        kind = r.string("a kind of type")
        if kind == "tensor":
            return self._tensor_type()
        r.spend(_COST_TYPE)
        if kind == "sequence":
            return SequenceType(self._type(depth + 1))
        if kind == "optional":
            return OptionalType(self._type(depth + 1))
        if kind == "map":
            r.record("a map type", 2)
            r.key(_KEY["key"])
            key = read_dtype(r)
            r.key(_KEY["value"])
            return MapType(key, self._type(depth + 1))
        raise r.error(f"no kind of type is named {kind[:80]!r}", at)

    def _tensor_type(self) -> TensorType:
        r = self._r
        r.record("a tensor type", 2)
        r.key(_KEY["dtype"])
        dtype = None if r.nil() else read_dtype(r)
        r.key(_KEY["shape"])
        shape = None if r.nil() else self._dims()
        known = self._types.get((dtype, shape))
        if known is None:
            if len(self._types) >= _CACHED_TYPES:
                self._types.clear()
            r.spend(_COST_TYPE + _COST_TUPLE + 16 * len(shape or ()))
            known = self._types[dtype, shape] = TensorType(dtype, shape)
        return known

    def _dims(self) -> tuple[Dim, ...]:
        return tuple([self._dim() for _ in range(read_rank(self._r))])

    def _dim(self) -> Dim:
        if self._r.nil():
            return None
        return self._r.string("a symbol") if self._r.is_string() else self._r.integer("a dimension", 0)

    # -- graph ------------------------------------------------------------------------------------

    def _names(self, what: str) -> tuple[str, ...]:
        r = self._r
        count = r.list_header(what)
        if not count:
            return ()
        r.spend(_COST_TUPLE)
        return tuple([r.string("a value's name") for _ in range(count)])

    def _values(self, what: str) -> tuple[Value, ...]:
        return tuple([self._value() for _ in range(self._r.list_header(what, item_bytes=12))])

    def _value(self) -> Value:
        r = self._r
        r.spend(_COST_VALUE)
        r.record("a value", 2)
        r.key(_KEY["name"])
        name = r.string("a value's name")
        r.key(_KEY["type"])
        return Value(name, self._type())

    def _texts(self, what: str) -> MappingProxyType[str, str]:
        return MappingProxyType(self._r.sorted_map(what, lambda: self._r.string(f"a value of {what}")))

    def _initializers(self) -> MappingProxyType[str, np.ndarray[Any, Any]]:
        r = self._r
        arrays: dict[str, np.ndarray[Any, Any]] = {}
        for _ in range(r.list_header("initializers")):
            at = r.pos
            r.spend(COST_ENTRY)
            name, array = self._tensor(initializer=True)
            if name in arrays:
                r.fail(f"the initializer {name[:80]!r} comes twice", at)
            arrays[name] = array
        return MappingProxyType(arrays)

    def _graph(self) -> Graph:
        r = self._r
        self._depth += 1
        if self._depth > r.limits.max_depth:
            r.fail(f"graphs lie deeper within graphs than {r.limits.max_depth}")
        r.spend(_COST_GRAPH if self._depth > 1 else 0)
        r.record("a graph", 10)
        r.key(_KEY["name"])
        name = r.string("a graph's name")
        r.key(_KEY["opset_imports"])
        opsets = r.sorted_map("opset_imports", lambda: r.integer("a version"))
        r.key(_KEY["inputs"])
        inputs = self._values("inputs")
        r.key(_KEY["outputs"])
        outputs = self._values("outputs")
        r.key(_KEY["nodes"])
        nodes = tuple([self._node() for _ in range(r.list_header("nodes", item_bytes=40))])
        r.key(_KEY["initializers"])
        arrays = self._initializers()
        r.key(_KEY["value_info"])
        value_info = r.sorted_map("value_info", self._type)
        texts = []
        for field in ("state_updates", "metadata", "requires"):
            r.key(_KEY[field])
            texts.append(self._texts(field))
        self._depth -= 1
        return Graph(
            name, MappingProxyType(opsets), inputs, outputs, nodes, arrays, MappingProxyType(value_info), *texts
        )

    def _node(self) -> Node:
        r = self._r
        r.spend(_COST_NODE)
        r.record("a node", 6)
        r.key(_KEY["op_type"])
        op_type = r.string("an op_type")
        r.key(_KEY["inputs"])
        inputs = self._names("inputs")
        r.key(_KEY["outputs"])
        outputs = self._names("outputs")
        r.key(_KEY["attributes"])
        attributes = r.sorted_map("attributes", self._attribute)
        r.key(_KEY["domain"])
        domain = r.string("a domain")
        r.key(_KEY["name"])
        return Node(op_type, inputs, outputs, attributes, domain, r.string("a node's name"))

    # -- attributes -------------------------------------------------------------------------------

    def _attribute(self) -> Attribute:
        r = self._r
        at = r.pos
        r.record("an attribute", 1)
        kind = r.string("a kind of attribute")
        if kind in _SINGULAR:
            return self._single(kind)
        if kind in ("ints", "floats"):
            return self._numbers(kind)
        if kind in ("strings", "bytes_list"):
            return self._packed(kind)
        if kind not in ("tensors", "graphs", "types"):
            r.fail(f"no kind of attribute is named {kind[:80]!r}", at)
        r.spend(_COST_TUPLE)
        count = self._nonempty(r.list_header(kind), kind, at)
        return tuple([self._single(kind[:-1]) for _ in range(count)])

    def _single(self, kind: str) -> Attribute:
        r = self._r
        if kind == "int":
            return r.integer("an int")
        if kind == "float":
            return r.floating("a float")
        if kind == "string":
            return r.string("a string")
        if kind == "bytes":
            return r.binary("bytes")[1]
        if kind == "tensor":
            return self._tensor()[1]
        return self._graph() if kind == "graph" else self._type()

    def _nonempty(self, count: int, kind: str, at: int) -> int:
        if not count:
            self._r.fail(f"an empty list of kind {kind}; empty lists are of kind ints", at)
        return count

    def _numbers(self, kind: str) -> tuple[Any, ...]:
        start, data = self._r.binary(kind, factor=4)
        count, rest = divmod(len(data), 8)
        if rest or (kind == "floats" and not count):
            self._r.fail(f"{kind} of {len(data)} bytes; 8 for each are due, and empty lists are of kind ints", start)
        return struct.unpack(f"<{count}{'q' if kind == 'ints' else 'd'}", data)

    def _packed(self, kind: str) -> tuple[Any, ...]:
        r = self._r
        at = r.pos
        if r.list_header(kind) != 2:
            r.fail(f"{kind} must be a count and packed bytes", at)
        count = self._nonempty(r.integer("a count", 0), kind, at)
        start, data = r.binary(kind)
        if count > len(data) // 8:
            r.fail(f"{count} packed elements do not fit in {len(data)} bytes", start)
        r.spend(count * COST_ITEM)

        def make(part: bytes) -> Any:
            value = part.decode("utf-8") if kind == "strings" else part
            r.spend(value.__sizeof__())
            return value

        return tuple(unpack(data, count, start, make))
