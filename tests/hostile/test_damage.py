"""No damage goes unnoticed, and none raises anything but FormatError."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphrt.errors import FormatError
from graphrt.format import Limits, dumps, from_json, loads, to_json
from graphrt.ir.graph import Graph, Node, Value
from graphrt.types import SequenceType, TensorType

from .builders import MAGIC, seal


def small_graph() -> Graph:
    """A graph with something of everything."""
    body = Graph("body", nodes=(Node("Add", ("h", "x"), ("h2",)),), initializers={"c": np.arange(3, dtype=np.int8)})
    attributes = {"i": -7, "f": 0.5, "s": "é", "is": (1, 300), "ss": ("a", "bc"), "g": body}
    node = Node("Op", ("x", "", "w"), ("y",), attributes)
    return Graph(
        "small",
        inputs=(Value("x", TensorType("float32", ("batch", 2, None))),),
        outputs=(Value("y"),),
        nodes=(node,),
        initializers={"w": np.ones((2, 3), np.float32), "t": np.array(["p", "qr"], object), "b": np.array([True])},
        value_info={"h": SequenceType(TensorType())},
        metadata={"author": "nobody"},
    )


def refused(data: bytes) -> None:
    with pytest.raises(FormatError, match="byte") as caught:
        loads(data)
    assert caught.value.offset is not None


@pytest.mark.parametrize("mask", [0x01, 0x80, 0xFF])
def test_every_flipped_byte_is_noticed(mask):
    data = dumps(small_graph())
    for at in range(len(data)):
        refused(data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :])


def test_every_truncation_is_noticed():
    data = dumps(small_graph())
    for end in range(len(data)):
        refused(data[:end])


def test_appended_bytes_are_noticed():
    data = dumps(small_graph())
    for more in (b"\0", bytes(64), b"x", data):
        refused(data + more)


def test_header_damage_behind_a_good_digest_is_refused_or_another_valid_file():
    """Every single-byte change of the header, its digest made right again, still has one spelling."""
    data = dumps(small_graph())
    size = int.from_bytes(data[16:24], "little")
    tensors = data[64 + size + -size % 64 :]
    header = data[64 : 64 + size]
    generator = random.Random(0)
    accepted = 0
    for at in range(size):
        for value in {0x00, 0xC0, 0xFF, header[at] ^ 1, generator.randrange(256)} - {header[at]}:
            changed = seal(header[:at] + bytes([value]) + header[at + 1 :], tensors)
            try:
                graph = loads(changed)
            except FormatError as e:
                assert e.offset is not None
                continue
            accepted += 1
            assert dumps(graph) == changed
    assert 0 < accepted < size * 2


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage):
    refused(garbage)
    refused(MAGIC + garbage)
    refused(seal(garbage))
    refused(seal(b"\x82\xa7tensors\x90\xa5graph\x8a" + garbage))


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(st.text(max_size=60))
def test_garbage_text_is_refused(garbage):
    for text in (garbage, '{"graphrt": 1, ' + garbage, '{"graphrt": 1, "opset_imports": {}, "nodes": [' + garbage):
        with pytest.raises(FormatError, match=r"line \d+, column \d+"):
            from_json(text)


def test_every_cut_and_changed_character_of_a_text_is_refused_or_reads():
    text = to_json(small_graph())
    for at in range(len(text.rstrip())):
        with pytest.raises(FormatError, match="line"):
            from_json(text[:at])
        for char in '0"]}{,:x\ud800':
            try:
                from_json(text[:at] + char + text[at + 1 :])
            except FormatError as e:
                assert e.offset is not None


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(max_header=64, max_json=64), "the limit is 64"),
        (Limits(max_items=2), r"the limit is 2|has more than 2 entries"),
        (Limits(max_depth=1), "deeper within graphs than 1"),
        (Limits(max_rank=1), "dimensions; the limit is 1"),
        (Limits(max_type_depth=0), "types nest deeper than 0"),
        (Limits(max_string=3), "the limit is 3"),
        (Limits(memory_base=0, memory_factor=0), "more memory than the limits allow"),
    ],
)
def test_limits_are_the_callers(limits, message):
    with pytest.raises(FormatError, match=message):
        loads(dumps(small_graph()), limits=limits)
    with pytest.raises(FormatError, match=message):
        from_json(to_json(small_graph()), limits=limits)


def test_number_of_tensors_is_limited():
    with pytest.raises(FormatError, match="4 tensors; the limit is 1"):
        loads(dumps(small_graph()), limits=Limits(max_tensors=1))
