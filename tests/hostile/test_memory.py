"""A hostile file costs little memory; a good one is never refused for its cost."""

from __future__ import annotations

import json
import struct
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
import numpy as np
import pytest

from graphrt.errors import FormatError
from graphrt.format import Limits, dumps, from_json, loads
from graphrt.ir.graph import Graph, Node, Value
from graphrt.types import TensorType

from .builders import attribute, graph, header, node, pad, seal, tensor, text, text_attribute, text_tensor

MIB = 1 << 20


def cost(read: Callable[[Any], Any], data: Any) -> tuple[int, bool]:
    """Peak bytes that reading allocates, and whether the data was read."""
    tracemalloc.start()
    try:
        result = read(data)
    except FormatError:
        result = None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak, result is not None


SIZE = MIB // 4
SCALED = Limits(memory_base=MIB)
"""Bombs are a quarter of a megabyte, to be quick: the law is the same for each size."""


def bound(size: int) -> int:
    """Peak bytes that a hostile file of this size may cost under the scaled limits, caches and copies included."""
    return SCALED.memory_base + (SCALED.memory_factor + 1) * size + 3 * MIB // 4


def filled(make: Callable[[int], Any], size: int = SIZE) -> bytes:
    """A header of about this many bytes, by the size of 100 parts."""
    each = (len(header(make(200))) - len(header(make(100)))) / 100
    return header(make(int(size / each)))


def bare(i: int) -> dict[str, Any]:
    return {"op_type": "", "inputs": [], "outputs": [], "attributes": {}, "domain": "", "name": ""}


UNKNOWN = {"tensor": {"dtype": None, "shape": None}}
BOMBS: dict[str, Callable[[int], Any]] = {
    "bare nodes": lambda n: graph(nodes=[bare(i) for i in range(n)]),
    "nodes with an attribute": lambda n: graph(nodes=[node(attributes={"": {"int": 1}}) for _ in range(n)]),
    "nodes with a type": lambda n: graph(nodes=[node(attributes={"": {"type": UNKNOWN}}) for _ in range(n)]),
    "nodes with a list": lambda n: graph(nodes=[node(attributes={"": {"ints": b""}}) for _ in range(n)]),
    "graphs in a list": lambda n: attribute({"graphs": [graph(opset_imports={}) for _ in range(n)]}),
    "absent names": lambda n: graph(nodes=[node(inputs=[""] * n)]),
    "short names": lambda n: graph(nodes=[node(inputs=[f"{i:x}" for i in range(n)])]),
    "wide short names": lambda n: graph(nodes=[node(inputs=[chr(0x10000 + i % 60000) for i in range(n)])]),
    "values": lambda n: graph(inputs=[{"name": "", "type": UNKNOWN} for _ in range(n)]),
    "value types": lambda n: graph(value_info={f"{i:06}": UNKNOWN for i in range(n)}),
    "metadata": lambda n: graph(metadata={f"{i:06}": "" for i in range(n)}),
    "versions": lambda n: graph(opset_imports={f"{i:06}": 300 + i for i in range(n)}),
    "big dimensions": lambda n: graph(
        value_info={f"{i:04}": {"tensor": {"dtype": None, "shape": [1000 + i] * 60}} for i in range(n)}
    ),
    "types in a list": lambda n: attribute({"types": [UNKNOWN] * n}),
    "wide text": lambda n: graph(metadata={"a": "𝄞" + "a" * n}),
    "ints": lambda n: attribute({"ints": struct.pack(f"<{n}q", *range(1000, 1000 + n))}),
    "floats": lambda n: attribute({"floats": struct.pack(f"<{n}d", *range(n))}),
    "strings": lambda n: attribute({"strings": [n, bytes(8 * n + 8)]}),
    "two letters": lambda n: attribute(
        {"strings": [n, struct.pack(f"<{n + 1}Q", *range(0, 2 * n + 2, 2)) + b"ab" * n]}
    ),
    "bytes": lambda n: attribute({"bytes_list": [n, struct.pack(f"<{n + 1}Q", *range(0, 2 * n + 2, 2)) + b"ab" * n]}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_header_costs_a_base_and_four_times_its_size(name):
    packed = filled(BOMBS[name])
    peak, _ = cost(lambda data: loads(data, limits=SCALED), seal(packed))
    assert peak < bound(len(packed))


@pytest.mark.parametrize("name", ["short names", "two letters"])
def test_a_header_of_1_mb_costs_at_most_16(name):
    peak, _ = cost(loads, seal(filled(BOMBS[name], MIB)))
    assert peak < 16 * MIB


def test_many_empty_tensors_cost_little():
    count = 9000
    rows = [tensor(b"", name=f"{i}") for i in range(count)]
    packed = header(graph(initializers=list(range(count))), rows)
    peak, read = cost(loads, seal(packed))
    assert read
    assert peak < 4 * len(packed) + MIB


def test_string_tensors_cost_what_they_hold():
    count = 100_000
    packed = struct.pack(f"<{count + 1}Q", *range(0, 2 * count + 2, 2)) + b"ab" * count
    row = tensor(packed, dtype="string", shape=[count])
    data = seal(header(graph(initializers=[0]), [row]), pad(packed))
    peak, read = cost(loads, data)
    assert read
    assert peak < 16 * MIB


NESTED_BOMB = b"\x82\xa7tensors" + b"\x91" * MIB
MAP_BOMB = b"\x82\xa7tensors\x90\xa5graph" + b"\x81\xa0" * (MIB // 2)
COUNT_BOMB = b"\x82\xa7tensors\xdd\x00\xff\xff\xff" + bytes(100)


@pytest.mark.parametrize("packed", [NESTED_BOMB, MAP_BOMB, COUNT_BOMB, msgpack.packb([[]] * MIB), bytes(MIB)])
def test_untyped_bombs_cost_nothing(packed):
    peak, read = cost(loads, seal(packed))
    assert not read
    assert peak < MIB


TEXT_BOMBS: dict[str, Callable[[int], str]] = {
    "nested": lambda n: "[" * n,
    "nested data": lambda n: text_tensor('{"dtype": "int8", "data": ' + "[" * n),
    "empty nodes": lambda n: text(nodes=[{"op_type": ""}] * (n // 17)),
    "named nodes": lambda n: text(nodes=[{"op_type": f"{i}"} for i in range(n // 22)]),
    "attributes": lambda n: text(nodes=[{"op_type": "", "attributes": {"": 1}}] * (n // 38)),
    "empty values": lambda n: text(inputs=[{"name": ""}] * (n // 14)),
    "types": lambda n: text(value_info={f"{i}": {} for i in range(n // 13)}),
    "keys": lambda n: text(metadata={f"{i}": "" for i in range(n // 13)}),
    "empty lists": lambda n: text_tensor('{"dtype": "int8", "data": [' + "[]," * (n // 3) + "[]]}"),
    "doubles": lambda n: text_tensor('{"dtype": "float64", "data": [' + "1," * (n // 2) + "1]}"),
    "bytes": lambda n: text_tensor('{"dtype": "int8", "data": [' + "1," * (n // 2) + "1]}"),
    "strings": lambda n: text_tensor('{"dtype": "string", "data": [' + '"ab",' * (n // 5) + '"ab"]}'),
    "ints": lambda n: text_attribute("[" + "1234," * (n // 5) + "1]"),
    "wide text": lambda n: text_attribute('"𝄞' + "a" * n + '"'),
    "empty tensors": lambda n: text_attribute("[" + '{"tensor":{"dtype":"int8","data":[]}},' * (n // 38) + "1]"),
}


@pytest.mark.parametrize("name", TEXT_BOMBS)
def test_a_text_costs_a_base_and_four_times_its_size(name):
    bomb = TEXT_BOMBS[name](SIZE)
    assert 0.8 * SIZE < len(bomb) < 1.2 * SIZE
    peak, _ = cost(lambda data: from_json(data, limits=SCALED), bomb)
    assert peak < bound(len(bomb))


@pytest.mark.parametrize("name", ["doubles", "empty nodes"])
def test_a_text_of_1_mb_costs_at_most_16(name):
    peak, _ = cost(lambda data: from_json(data.decode()), TEXT_BOMBS[name](MIB).encode())
    assert peak < 16 * MIB


def chain(count: int, name: str) -> Graph:
    """A long graph with a type for every value."""
    value_type = TensorType("float32", ("batch", 64))
    return Graph(
        inputs=(Value(name.format(0), value_type),),
        nodes=tuple(
            Node("Add", (name.format(i), name.format(max(0, i - 7))), (name.format(i + 1),)) for i in range(count)
        ),
        value_info={name.format(i): value_type for i in range(count)},
    )


@pytest.mark.parametrize("name", ["v{}", "/model/layers.{}/MatMul_output_0"])
def test_long_graphs_are_never_refused_for_their_cost(name):
    """The budget's base covers what does not grow with the graph; the rest must do for graphs of any length."""
    data = dumps(chain(8_000, name))
    assert len(loads(data, limits=Limits(memory_base=1 << 17)).nodes) == 8_000


def test_big_attributes_are_never_refused_for_their_cost():
    count = 100_000
    attributes = {
        "ids": tuple(range(count)),
        "values": tuple(np.linspace(0, 1, count).tolist()),
        "names": tuple(f"t{i}" for i in range(count)),
    }
    big = Graph(nodes=(Node("Trees", attributes=attributes),))
    assert loads(dumps(big)).nodes[0].attributes["ids"] == attributes["ids"]


def test_big_lists_of_numbers_in_text_are_read():
    values = np.round(np.random.default_rng(0).random(100_000), 3)
    found = from_json(text(initializers={"w": {"dtype": "float32", "data": json.loads(json.dumps(values.tolist()))}}))
    np.testing.assert_array_equal(found.initializers["w"], values.astype(np.float32))
