"""Same graph, same bytes, in both forms."""

import json
import struct
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from graphrt.errors import SaveError
from graphrt.format import dumps, from_json, loads, to_json
from graphrt.ir.compare import same_graph
from graphrt.ir.graph import Graph, Node
from graphrt.types import DTYPES, numpy_dtype

from .strategies import graphs

SCHEMA = json.loads((Path(__file__).parents[2] / "schemas" / "graph.schema.json").read_text())
RANDOM = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@RANDOM
@given(graphs())
def test_container_gives_back_the_graph_and_its_bytes(graph):
    data = dumps(graph)
    back = loads(data)
    assert same_graph(graph, back) == []
    assert dumps(back) == data
    assert len(data) % 64 == 0


@RANDOM
@given(graphs())
def test_json_gives_back_the_graph_and_its_text(graph):
    text = to_json(graph)
    back = from_json(text)
    assert same_graph(graph, back) == []
    assert to_json(back) == text
    assert dumps(back) == dumps(graph)


@RANDOM
@given(graphs())
def test_json_fits_its_schema(graph):
    jsonschema.validate(json.loads(to_json(graph)), SCHEMA)


def test_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def attribute_after_both(value):
    graph = Graph(nodes=(Node("Op", attributes={"a": value}),))
    first, second = loads(dumps(graph)), from_json(to_json(graph))
    assert same_graph(first, second) == []
    return first.nodes[0].attributes["a"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1),
        (1, 1),
        (1.0, 1.0),
        (np.float32(0.5), 0.5),
        (np.int8(-3), -3),
        ([1, 2], (1, 2)),
        ((), ()),
        ((True, 2), (1, 2)),
        ((np.float64(1.0),), (1.0,)),
        (bytearray(b"ab"), b"ab"),
        (np.str_("s"), "s"),
    ],
)
def test_attributes_become_plain(value, expected):
    found = attribute_after_both(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("bits", [0x7FF8000000000000, 0xFFF8000000000000, 0x7FF8000000000001, 0x8000000000000000])
def test_attribute_floats_keep_their_bits(bits):
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    assert struct.pack("<d", attribute_after_both(value)) == struct.pack("<d", value)
    assert struct.pack("<d", attribute_after_both((value, 1.0))[0]) == struct.pack("<d", value)


@pytest.mark.parametrize("name", sorted(set(DTYPES) - {"string"}))
def test_every_bit_pattern_of_small_types_survives(name):
    bits = DTYPES[name].bits
    count = 2 if name == "bool" else 256
    raw = np.arange(count * bits // 8, dtype=np.uint8).repeat(2)
    array = raw.view(numpy_dtype(name))
    graph = Graph(initializers={"w": array, "few": array[:3]})
    for back in (loads(dumps(graph)), from_json(to_json(graph))):
        assert same_graph(graph, back) == []


def test_odd_layouts_are_stored_row_major_and_little_endian():
    array = np.arange(24, dtype=">i4").reshape(2, 3, 4)[::-1, :, ::2].T
    back = loads(dumps(Graph(initializers={"w": array}))).initializers["w"]
    np.testing.assert_array_equal(back, array)
    assert back.dtype == np.dtype("<i4")
    assert back.flags.c_contiguous


def test_order_of_unordered_mappings_does_not_matter_but_that_of_initializers_does():
    one, two = np.ones(1), np.zeros(2)
    ab = Graph(metadata={"a": "1", "b": "2"}, initializers={"a": one, "b": two})
    assert dumps(ab) == dumps(ab.replace(metadata={"b": "2", "a": "1"}))
    assert dumps(ab) != dumps(ab.replace(initializers={"b": two, "a": one}))
    assert list(loads(dumps(ab.replace(initializers={"b": two, "a": one}))).initializers) == ["b", "a"]


def test_strings_come_back_as_objects():
    given_strings = np.array([["a", "é"], ["", "𝄞"]])
    back = loads(dumps(Graph(initializers={"s": given_strings}))).initializers["s"]
    assert back.dtype == object
    assert back.tolist() == given_strings.tolist()
    assert not back.flags.writeable


def deep(levels):
    graph = Graph()
    for _ in range(levels - 1):
        graph = Graph(nodes=(Node("If", attributes={"then_branch": graph}),))
    return graph


def test_graphs_nest_as_deep_as_the_limit_and_no_deeper():
    graph = deep(32)
    assert same_graph(graph, loads(dumps(graph))) == []
    assert same_graph(graph, from_json(to_json(graph))) == []
    for save in (dumps, to_json):
        with pytest.raises(SaveError, match="deeper within graphs than 32"):
            save(deep(33))


@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (Graph(nodes=(Node("Op", attributes={"a": (1, 2.0)}),)), "node 'Op'.*mixes float and int"),
        (Graph(nodes=(Node("Op", attributes={"a": ((1,), (2,))}),)), "holds lists; use a tensor"),
        (Graph(nodes=(Node("Op", attributes={"a": 2**63}),)), "does not fit in 64 bits"),
        (Graph(nodes=(Node("Op", attributes={"a": None}),)), "holds NoneType"),
        (Graph(name="\ud800"), "lone surrogate"),
        (Graph(name=3), "a graph's name is 3; a str is due"),
        (Graph(opset_imports={"": 2**70}), "an int of 64 bits is due"),
        (Graph(initializers={"w": [1, 2]}), "initializer 'w' is of type list; a NumPy array is due"),
        (Graph(initializers={"w": np.array("2020", "M8[D]")}), "initializer 'w': arrays of dtype"),
        (Graph(initializers={"w": np.array([b"x"])}), "arrays of bytes cannot be saved"),
        (Graph(initializers={"w": np.array([1, None], object)}), "is 1, which is not a str"),
        (Graph(initializers={"w": np.array(["\udfff"], object)}), "lone surrogate"),
        (Graph(inputs=("x",)), "input"),
    ],
)
@pytest.mark.parametrize("save", [dumps, to_json])
def test_what_the_format_cannot_hold_is_a_save_error(graph, message, save):
    with pytest.raises(SaveError, match=message):
        save(graph)
