"""Graph -> the header's msgpack: one spelling for one graph."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import msgpack
import numpy as np

from graphrt.errors import GraphrtError, SaveError
from graphrt.format.limits import DEFAULT_LIMITS
from graphrt.format.normal import INT64, attribute_kind, sorted_keys
from graphrt.format.table import padded
from graphrt.format.tensors import array_dtype, pack_bytes, pack_strings, raw_size
from graphrt.ir.graph import Graph, Node, Value
from graphrt.types import DTYPES, Dim, MapType, OptionalType, SequenceType, TensorType, ValueType


class Stored(NamedTuple):
    """A tensor that a header refers to: its name in the table, the array, its size in the file in bytes."""

    name: str
    array: np.ndarray[Any, Any]
    nbytes: int


class HeaderEncoder:
    """Packs one graph; `tensors` then lists what it refers to, in order."""

    def __init__(self, graph: Graph):
        self._packer = msgpack.Packer(autoreset=False)
        self._depth = 0
        self.tensors: list[Stored] = []
        self._graph(graph)
        self._body = self._packer.bytes()

    def header(self, digests: Iterable[bytes]) -> bytes:
        """The header with the tensors' digests (32 bytes each, in the order of `tensors`)."""
        p = msgpack.Packer(autoreset=False)
        p.pack_map_header(2)
        p.pack("tensors")
        p.pack_array_header(len(self.tensors))
        offset = 0
        for tensor, digest in zip(self.tensors, digests, strict=True):
            p.pack({
                "name": tensor.name,
                "dtype": array_dtype(tensor.array),
                "shape": [int(n) for n in tensor.array.shape],
                "offset": offset,
                "nbytes": tensor.nbytes,
                "digest": digest,
            })  # fmt: skip
            offset += padded(tensor.nbytes)
        p.pack("graph")
        result: bytes = p.bytes() + self._body
        return result

    # -- leaves -----------------------------------------------------------------------------------

    def _string(self, value: Any, what: str) -> None:
        if not isinstance(value, str):
            raise SaveError(f"{what} is {value!r}; a str is due")
        try:
            self._packer.pack(str(value))
        except UnicodeEncodeError as e:
            raise SaveError(f"{what} {value!r} holds a lone surrogate and has no UTF-8 form") from e

    def _sorted_map(self, mapping: Mapping[str, Any], what: str, pack: Callable[[Any], None]) -> None:
        self._packer.pack_map_header(len(mapping))
        for key in sorted_keys(mapping, what):
            self._string(key, f"a key of {what}")
            pack(mapping[key])

    def _texts(self, mapping: Mapping[str, str], what: str) -> None:
        self._sorted_map(mapping, what, lambda text: self._string(text, f"a value of {what}"))

    def _int(self, value: Any, what: str) -> None:
        if not isinstance(value, (int, np.integer)) or int(value) not in INT64:
            raise SaveError(f"{what} is {value!r}; an int of 64 bits is due")
        self._packer.pack(int(value))

    def _tensor(self, array: Any, name: str, what: str) -> None:
        if not isinstance(array, (np.ndarray, np.generic)):
            raise SaveError(f"{what} is of type {type(array).__name__}; a NumPy array is due")
        array = np.asarray(array)
        try:
            stored = Stored(name, array, raw_size(array))
        except SaveError as e:
            raise SaveError(f"{what}: {e}") from e
        self._packer.pack(len(self.tensors))
        self.tensors.append(stored)

    # -- types ------------------------------------------------------------------------------------

    def _type(self, value_type: ValueType, depth: int = 0) -> None:
        p = self._packer
        if depth > DEFAULT_LIMITS.max_type_depth:
            raise SaveError(f"a type nests deeper than {DEFAULT_LIMITS.max_type_depth}")
        p.pack_map_header(1)
        if isinstance(value_type, TensorType):
            p.pack("tensor")
            self._tensor_type(value_type)
        elif isinstance(value_type, SequenceType):
            p.pack("sequence")
            self._type(value_type.element, depth + 1)
        elif isinstance(value_type, OptionalType):
            p.pack("optional")
            self._type(value_type.element, depth + 1)
        elif isinstance(value_type, MapType):
            if value_type.key not in DTYPES:
                raise SaveError(f"the keys of a map type are of {value_type.key!r}, which is no element type")
            p.pack("map")
            p.pack_map_header(2)
            p.pack("key")
            p.pack(value_type.key)
            p.pack("value")
            self._type(value_type.value, depth + 1)
        else:
            raise SaveError(f"{value_type!r} is not the type of a value")

    def _tensor_type(self, value_type: TensorType) -> None:
        p = self._packer
        p.pack_map_header(2)
        p.pack("dtype")
        p.pack(value_type.dtype)
        p.pack("shape")
        if value_type.shape is None:
            p.pack(None)
            return
        if len(value_type.shape) > DEFAULT_LIMITS.max_rank:
            raise SaveError(f"a type has more than {DEFAULT_LIMITS.max_rank} dimensions")
        p.pack_array_header(len(value_type.shape))
        for dim in value_type.shape:
            self._dim(dim)

    def _dim(self, dim: Dim) -> None:
        if dim is None:
            self._packer.pack(None)
        elif isinstance(dim, str):
            self._string(dim, "a symbol")
        else:
            self._int(dim, "a dimension")

    # -- graph ------------------------------------------------------------------------------------

    def _names(self, names: tuple[str, ...]) -> None:
        self._packer.pack_array_header(len(names))
        for name in names:
            self._string(name, "a value's name")

    def _values(self, values: tuple[Value, ...]) -> None:
        p = self._packer
        p.pack_array_header(len(values))
        for value in values:
            if not isinstance(value, Value):
                raise SaveError(f"an input or output is {value!r}; a Value is due")
            p.pack_map_header(2)
            p.pack("name")
            self._string(value.name, "a value's name")
            p.pack("type")
            self._type(value.type)

    def _initializers(self, arrays: Mapping[str, Any]) -> None:
        self._packer.pack_array_header(len(arrays))
        for name, array in arrays.items():
            if not isinstance(name, str):
                raise SaveError(f"an initializer's name is {name!r}; a str is due")
            self._tensor(array, name, f"the initializer {name!r}")

    def _graph(self, graph: Graph) -> None:
        p = self._packer
        self._depth += 1
        if self._depth > DEFAULT_LIMITS.max_depth:
            raise SaveError(f"graphs lie deeper within graphs than {DEFAULT_LIMITS.max_depth}")
        p.pack_map_header(10)
        p.pack("name")
        self._string(graph.name, "a graph's name")
        p.pack("opset_imports")
        self._sorted_map(graph.opset_imports, "opset_imports", lambda v: self._int(v, "a version"))
        p.pack("inputs")
        self._values(graph.inputs)
        p.pack("outputs")
        self._values(graph.outputs)
        p.pack("nodes")
        p.pack_array_header(len(graph.nodes))
        for node in graph.nodes:
            if not isinstance(node, Node):
                raise SaveError(f"a node is {node!r}; a Node is due")
            self._node(node)
        p.pack("initializers")
        self._initializers(graph.initializers)
        p.pack("value_info")
        self._sorted_map(graph.value_info, "value_info", self._type)
        for field in ("state_updates", "metadata", "requires"):
            p.pack(field)
            self._texts(getattr(graph, field), field)
        self._depth -= 1

    def _node(self, node: Node) -> None:
        p = self._packer
        p.pack_map_header(6)
        p.pack("op_type")
        self._string(node.op_type, "an op_type")
        p.pack("inputs")
        self._names(node.inputs)
        p.pack("outputs")
        self._names(node.outputs)
        p.pack("attributes")
        try:
            self._sorted_map(node.attributes, "attributes", self._attribute)
        except GraphrtError as e:
            raise SaveError(f"node {node.label!r} ({node.qualified_op}): {e}") from e
        p.pack("domain")
        self._string(node.domain, "a domain")
        p.pack("name")
        self._string(node.name, "a node's name")

    def _attribute(self, value: Any) -> None:
        p = self._packer
        kind, value = attribute_kind(value)
        p.pack_map_header(1)
        p.pack(kind)
        if kind in ("int", "float", "bytes"):
            p.pack(value)
        elif kind == "ints":
            p.pack(struct.pack(f"<{len(value)}q", *value))
        elif kind == "floats":
            p.pack(struct.pack(f"<{len(value)}d", *value))
        elif kind in ("strings", "bytes_list"):
            packed = pack_strings(value) if kind == "strings" else pack_bytes(value)
            p.pack([len(value), packed])
        elif kind in ("tensors", "graphs", "types"):
            p.pack_array_header(len(value))
            for item in value:
                self._object(kind[:-1], item)
        else:
            self._object(kind, value)

    def _object(self, kind: str, value: Any) -> None:
        if kind == "string":
            self._string(value, "a string")
        elif kind == "tensor":
            self._tensor(value, "", "a tensor")
        elif kind == "graph":
            self._graph(value)
        else:
            self._type(value)
