"""Parts of files, good by default, from which bad ones are made: no binary is kept that a script can make."""

from __future__ import annotations

import hashlib
import json
import struct
from typing import Any

import msgpack

MAGIC = b"\x89GRT\r\n\x1a\n"


def pad(data: bytes) -> bytes:
    """The bytes filled up with zeros to a multiple of 64."""
    return data + bytes(-len(data) % 64)


def seal(header: bytes, data: bytes = b"", *, version: int = 1, extra: int = 0) -> bytes:
    """A container around header bytes and a tensor section, its prefix in agreement with them."""
    size = 64 + len(pad(header)) + len(data) + extra
    digest = hashlib.sha256(header).digest()
    return struct.pack("<8sQQQ32s", MAGIC, version, len(header), size, digest) + pad(header) + data


def graph(**changes: Any) -> dict[str, Any]:
    """The header's form of an empty graph, with some fields changed."""
    fields: dict[str, Any] = {
        "name": "",
        "opset_imports": {"": 24},
        "inputs": [],
        "outputs": [],
        "nodes": [],
        "initializers": [],
        "value_info": {},
        "state_updates": {},
        "metadata": {},
        "requires": {},
    }
    assert changes.keys() <= fields.keys()
    return fields | changes


def node(**changes: Any) -> dict[str, Any]:
    """The header's form of a node."""
    return {"op_type": "Relu", "inputs": ["x"], "outputs": ["y"], "attributes": {}, "domain": "", "name": ""} | changes


def attribute(value: Any) -> dict[str, Any]:
    """The header's form of a graph with one node that has one attribute."""
    return graph(nodes=[node(attributes={"a": value})])


def tensor(data: bytes, **changes: Any) -> dict[str, Any]:
    """A row of the tensor table for bytes at the start of the tensor section."""
    digest = hashlib.sha256(data).digest()
    row = {"name": "w", "dtype": "uint8", "shape": [len(data)], "offset": 0, "nbytes": len(data), "digest": digest}
    return row | changes


def header(body: dict[str, Any] | None = None, tensors: list[Any] | None = None) -> bytes:
    """A packed header."""
    packed: bytes = msgpack.packb({"tensors": tensors or [], "graph": graph() if body is None else body})
    return packed


def file(body: dict[str, Any] | None = None, tensors: list[Any] | None = None, data: bytes = b"") -> bytes:
    """A whole file."""
    return seal(header(body, tensors), data)


def one_tensor(data: bytes = b"abc", **changes: Any) -> bytes:
    """A file with one initializer, whose row in the table has some fields changed."""
    return file(graph(initializers=[0]), [tensor(data, **changes)], pad(data))


def flipped(data: bytes, at: int) -> bytes:
    """The bytes with every bit of one of them inverted."""
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


def spliced(old: bytes, new: bytes, data: bytes | None = None) -> bytes:
    """A file in whose header some bytes are replaced once."""
    packed = header(graph(metadata={"key": "text"}), []) if data is None else data
    assert packed.count(old) == 1, (old, packed)
    return seal(packed.replace(old, new))


def text(**changes: Any) -> str:
    """The JSON text of a small graph, with some keys changed."""
    return json.dumps({"graphrt": 1, "opset_imports": {"": 24}} | changes)


def text_attribute(value: str) -> str:
    """JSON text of a graph with one node, whose one attribute is this JSON."""
    return text(nodes=[{"op_type": "Op", "attributes": {"a": "@"}}]).replace('"@"', value)


def text_tensor(value: str) -> str:
    """JSON text of a graph with one initializer, which is this JSON."""
    return text(initializers={"w": "@"}).replace('"@"', value)
