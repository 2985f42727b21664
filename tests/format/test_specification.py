"""What the specification shows is true, and other readers of msgpack and JSON see the same."""

import json
import re
import tracemalloc
from pathlib import Path

import jsonschema
import msgpack
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from graphrt.format import dumps, from_json, load, save, to_json
from graphrt.ir.graph import Graph
from graphrt.types import DTYPES

from .strategies import graphs

SCHEMAS = Path(__file__).parents[2] / "schemas"
SPECIFICATION = (SCHEMAS / "README.md").read_text()
SCHEMA = json.loads((SCHEMAS / "graph.schema.json").read_text())


def test_the_example_reads_and_fits_the_schema():
    (example,) = re.findall(r"```json\n(.*?)```", SPECIFICATION, re.DOTALL)
    jsonschema.validate(json.loads(example), SCHEMA)
    graph = from_json(example)
    assert graph.nodes[0].attributes == {"alpha": 0.5, "transB": 1}
    np.testing.assert_array_equal(graph.initializers["w"], np.array([[0.25, -1.0]], np.float32))


def test_element_types_are_listed():
    (listed,) = re.findall(r"MUST be one of `(.*?)`", SPECIFICATION, re.DOTALL)
    assert sorted(listed.split()) == sorted(DTYPES) == sorted(SCHEMA["$defs"]["dtype"]["enum"])


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(graphs())
def test_any_msgpack_reader_sees_the_header(graph):
    data = dumps(graph)
    header = msgpack.unpackb(data[64 : 64 + int.from_bytes(data[16:24], "little")], strict_map_key=True)
    assert list(header) == ["tensors", "graph"]
    assert header["graph"]["name"] == graph.name
    names = [header["tensors"][i]["name"] for i in header["graph"]["initializers"]]
    assert names == list(graph.initializers)
    assert list(header["graph"]["metadata"].items()) == sorted(graph.metadata.items())


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        ('{"dtype": "float32", "data": 2}', np.float32(2)),
        ('{"dtype": "float32", "shape": [2, 2], "data": [1, 2.5, -3, 1e3]}', np.array([[1, 2.5], [-3, 1e3]], "f4")),
        ('{"dtype": "float64", "data": [[1], ["NaN"], ["-Infinity"]]}', np.array([[1], [np.nan], [-np.inf]])),
        ('{"dtype": "int64", "data": [9007199254740993, -1]}', np.array([9007199254740993, -1])),
        ('{"dtype": "uint64", "data": [18446744073709551615]}', np.array([2**64 - 1], "u8")),
        ('{"dtype": "bool", "data": [[true, false]]}', np.array([[True, False]])),
        ('{"dtype": "string", "data": ["a", "\\u00e9"]}', np.array(["a", "é"], object)),
        ('{"dtype": "int8", "data": [[], []]}', np.zeros((2, 0), "i1")),
        ('{"dtype": "int8", "shape": [0, 3], "data": []}', np.zeros((0, 3), "i1")),
        ('{"dtype": "float16", "shape": [1], "base64": "ADw="}', np.array([1], "f2")),
    ],
)
def test_tensors_by_hand(tensor, expected):
    text = '{"initializers": {"w": %s}, "opset_imports": {}, "graphrt": 1}' % tensor  # noqa: UP031
    found = from_json(text).initializers["w"]
    np.testing.assert_array_equal(found, expected, strict=True)
    assert not found.flags.writeable


def test_small_floats_are_written_short():
    text = to_json(Graph(initializers={"w": np.array([0.1, 1e-7, 16777216], np.float32)}))
    assert '"data": [0.1, 1e-07, 16777216.0]' in text


def test_reading_a_text_file_takes_memory_for_its_size_only(tmp_path):
    save(Graph("small"), tmp_path / "a.json")
    tracemalloc.start()
    load(tmp_path / "a.json")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
