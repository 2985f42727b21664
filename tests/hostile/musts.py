"""Each MUST of ``schemas/README.md``: files that break it, and what the error says.

Bytes are containers, str are JSON texts. A builder is called when its test runs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeAlias

from .builders import (
    attribute,
    file,
    flipped,
    graph,
    header,
    node,
    one_tensor,
    pad,
    seal,
    spliced,
    tensor,
    text,
    text_attribute,
    text_tensor,
)

Case: TypeAlias = tuple[str, Callable[[], bytes | str], str]
"""Number of the MUST, what builds the file, a pattern that the error's message matches."""


def _nested_graphs(levels: int) -> dict[str, Any]:
    body = graph()
    for _ in range(levels - 1):
        body = attribute({"graph": body})
    return body


def _nested_type(levels: int) -> dict[str, Any]:
    value_type: dict[str, Any] = {"tensor": {"dtype": None, "shape": None}}
    for _ in range(levels):
        value_type = {"optional": value_type}
    return value_type


def _text_graphs(levels: int) -> str:
    return text_attribute('{"graph": {"nodes": [{"op_type": "If", "attributes": {"a": ' * levels + "0")


def _strings(*offsets: int, data: bytes = b"") -> bytes:
    packed = struct.pack(f"<{len(offsets)}Q", *offsets) + data
    return one_tensor(packed, dtype="string", shape=[len(offsets) - 1])


def _two_tensors(second: int, total: int = 128) -> bytes:
    rows = [tensor(b"ab", name="a"), tensor(b"ab", name="b", offset=second)]
    return file(graph(initializers=[0, 1]), rows, pad(b"ab") * (total // 64))


CONTAINER: list[Case] = [
    ("M1", lambda: b"", "not a .grt file"),
    ("M1", lambda: b"PK\x03\x04" + file()[4:], "byte 0: not a .grt file"),
    ("M1", lambda: file().replace(b"\r\n", b"\n", 1), "line ends of this file were translated"),
    ("M1", lambda: file()[:40], "ends within its first 64 bytes"),
    ("M2", lambda: seal(header(), version=2), "byte 8: container version 2.*upgrade"),
    ("M3", lambda: file()[:16] + struct.pack("<Q", 2**40) + file()[24:], "byte 16: a header of .* the limit is"),
    ("M3", lambda: file()[:16] + struct.pack("<Q", 2**20) + file()[24:], "byte 16: .* does not fit in the file"),
    ("M4", lambda: file()[:-1], "byte 24: the file is cut short"),
    ("M4", lambda: file() + b"\0", "byte 24: the file has bytes after its end"),
    ("M5", lambda: flipped(file(), 70), "byte 32: the header is damaged"),
    ("M5", lambda: flipped(file(), 40), "byte 32: the header is damaged"),
    ("M6", lambda: flipped(file(graph(name="x")), len(file(graph(name="x"))) - 1), "padding must be zero"),
    ("M6", lambda: flipped(one_tensor(), -1 + len(one_tensor())), "padding must be zero"),
    ("M7", lambda: one_tensor(digest=bytes(32)), "tensor 'w' is damaged"),
    ("M7", lambda: one_tensor(digest=bytes(31)), "a digest has 32 bytes, not 31"),
]

ENCODING: list[Case] = [
    ("M8", lambda: file(graph(name=None)), "a graph's name expected, found nil"),
    ("M8", lambda: file(graph(name=1.5)), "a graph's name expected, found a float"),
    ("M8", lambda: spliced(b"\xa4text", b"\xc7\x04\x01text"), "found an extension type"),
    ("M8", lambda: spliced(b"\xa4text", b"\xd6\xfftext"), "found an extension type"),
    ("M8", lambda: spliced(b"\xa4text", b"\xc3"), "found a boolean"),
    ("M8", lambda: spliced(b"\xa4text", b"\xc1"), "found the reserved byte"),
    ("M8", lambda: spliced(b"\xa3key", b"\x01"), "a key of metadata expected, found an integer"),
    ("M8", lambda: file(attribute({"int": 2**63})), "must lie from"),
    ("M8", lambda: file(attribute({"float": 1})), "a float expected, found an integer"),
    ("M9", lambda: spliced(b"\xa4text", b"\xd9\x04text"), "4 is not in its shortest encoding"),
    ("M9", lambda: spliced(b"\xa4text", b"\xda\x00\x04text"), "not in its shortest encoding"),
    ("M9", lambda: spliced(b"\xa0\x18", b"\xa0\xcc\x18"), "24 is not in its shortest encoding"),
    ("M9", lambda: spliced(b"\xa0\x18", b"\xa0\xd0\x18"), "24 is not in its shortest encoding"),
    ("M9", lambda: spliced(b"\xa0\x18", b"\xa0\xd1\xff\xf0"), "-16 is not in its shortest encoding"),
    ("M9", lambda: spliced(b"\xa5nodes\x90", b"\xa5nodes\xdc\x00\x00"), "not in its shortest encoding"),
    ("M9", lambda: spliced(b"\x81\xa3key", b"\xde\x00\x01\xa3key"), "not in its shortest encoding"),
    ("M10", lambda: spliced(b"text", b"t\xffxt"), "is not UTF-8"),
    ("M10", lambda: spliced(b"text", b"\xed\xa0\x80t"), "is not UTF-8"),
    ("M11", lambda: spliced(b"\xa5nodes", b"\xa5nodez"), "the key 'nodes' is due here"),
    ("M11", lambda: file({k: v for k, v in graph().items() if k != "requires"}), "a graph has 9 fields; .* exactly 10"),
    ("M11", lambda: file(graph() | {"code": "import os"}), "a graph has 11 fields"),
    ("M11", lambda: file(graph(nodes=[node(inputs=1)])), "inputs expected, found an integer"),
    ("M12", lambda: file(graph(metadata={"b": "", "a": ""})), "key 'a' of metadata is out of order"),
    ("M12", lambda: file(attribute({"graph": graph(requires={"b": "", "a": ""})})), "out of order"),
    ("M12", lambda: seal(header(graph(metadata={"a": "", "b": ""})).replace(b"\xa1b", b"\xa1a")), "'a'.* comes twice"),
    ("M13", lambda: spliced(b"\xa4text", b"\xdb\xff\xff\xff\xfftext"), "of 4294967295 bytes, but the header has"),
    ("M13", lambda: spliced(b"\xa5nodes\x90", b"\xa5nodes\xdd\x00\xff\xff\xff"), "nodes of 16777215 entries, but"),
    ("M13", lambda: spliced(b"\xa5nodes\x90", b"\xa5nodes\xdd\x7f\xff\xff\xff"), "the limit is 16777216"),
    ("M13", lambda: seal(header()[:-3]), "the header ends where|is due here|bytes, but the header has"),
    ("M14", lambda: seal(header() + b"\xc0"), "1 bytes of the header are left over"),
    ("M15", lambda: file(graph(nodes=[node(inputs=[f"{i:04x}" for i in range(900_000)])])), "more memory than"),
]

TENSORS: list[Case] = [
    ("M16", lambda: one_tensor(dtype="float128"), "no element type is named 'float128'"),
    ("M16", lambda: one_tensor(dtype="object"), "no element type is named 'object'"),
    ("M17", lambda: one_tensor(shape=[1] * 65), "65 dimensions; the limit is 64"),
    ("M17", lambda: one_tensor(shape=[-3]), "a dimension is -3"),
    ("M17", lambda: one_tensor(shape=[2**62, 2**62, 0], nbytes=0), "too many elements"),
    ("M18", lambda: one_tensor(shape=[4]), r"uint8\[4\] takes 4 bytes; the table says 3"),
    ("M18", lambda: one_tensor(dtype="float32"), r"float32\[3\] takes 12 bytes; the table says 3"),
    ("M18", lambda: one_tensor(dtype="string", shape=[5]), "5 strings need at least 48 bytes"),
    ("M19", lambda: _two_tensors(0), "offset 0 overlaps the one before: offset 64 is due"),
    ("M19", lambda: _two_tensors(2), "offset 2 overlaps"),
    ("M19", lambda: _two_tensors(128, 192), "offset 128 leaves a gap: offset 64 is due"),
    ("M19", lambda: one_tensor(offset=64), "leaves a gap"),
    ("M19", lambda: one_tensor(offset=-64), "an offset is -64"),
    ("M20", lambda: _two_tensors(64, 64), "the tensor lies outside the file"),
    ("M20", lambda: one_tensor(shape=[2**40], nbytes=2**40), "the tensor lies outside the file"),
    ("M20", lambda: _two_tensors(64, 192), "its tensors end at"),
    ("M20", lambda: file(data=bytes(64)), "its tensors end at"),
    ("M21", lambda: file(graph(), [tensor(b"ab")], pad(b"ab")), "1 tensors are used nowhere"),
    ("M21", lambda: file(graph(initializers=[0, 0]), [tensor(b"ab")], pad(b"ab")), "tensor 0 is named where 1 of 1"),
    ("M21", lambda: file(graph(initializers=[5])), "tensor 5 is named where 0 of 0"),
    ("M22", lambda: file(attribute({"tensor": 0}), [tensor(b"ab")], pad(b"ab")), "name 'w'; its name must be empty"),
    ("M23", lambda: file(graph(initializers=[0, 1]), [tensor(b""), tensor(b"")]), "initializer 'w' comes twice"),
    ("M24", lambda: _strings(1, 1, data=b"a"), "offsets of packed elements must ascend"),
    ("M24", lambda: _strings(0, 2, 1, data=b"a"), "must ascend"),
    ("M24", lambda: _strings(0, 1, data=b"abc"), "must ascend"),
    ("M24", lambda: _strings(0, 2**63, data=b"abc"), "must ascend"),
    ("M24", lambda: _strings(0, 1, data=b"\xff"), "packed string 0 is not UTF-8"),
    ("M25", lambda: one_tensor(b"\0\1\2", dtype="bool"), "bytes of a bool tensor are 0 or 1"),
]

GRAPHS: list[Case] = [
    ("M26", lambda: file(_nested_graphs(33)), "deeper within graphs than 32"),
    ("M26", lambda: file(_nested_graphs(200)), "deeper within graphs than 32"),
    ("M27", lambda: file(graph(value_info={"x": _nested_type(17)})), "types nest deeper than 16"),
    ("M28", lambda: file(graph(value_info={"x": {"list": 1}})), "no kind of type is named 'list'"),
    ("M28", lambda: file(graph(value_info={"x": {"tensor": {"dtype": "f4", "shape": None}}})), "no element type"),
    ("M28", lambda: file(graph(value_info={"x": {"tensor": {"dtype": None, "shape": [-1]}}})), "a dimension is -1"),
    ("M28", lambda: file(graph(value_info={"x": {"tensor": {"dtype": None, "shape": [1] * 65}}})), "65 dimensions"),
    ("M29", lambda: file(attribute({"code": "import os"})), "no kind of attribute is named 'code'"),
    ("M29", lambda: file(attribute({})), "an attribute has 0 fields"),
    ("M29", lambda: file(attribute({"int": 1, "ints": b""})), "an attribute has 2 fields"),
    ("M30", lambda: file(attribute({"ints": b"1234567"})), "ints of 7 bytes; 8 for each"),
    ("M30", lambda: file(attribute({"strings": [2**40, b""]})), "1099511627776 packed elements do not fit"),
    ("M30", lambda: file(attribute({"strings": [1, struct.pack("<2Q", 0, 5)]})), "must ascend"),
    ("M30", lambda: file(attribute({"bytes_list": [1]})), "must be a count and packed bytes"),
    ("M31", lambda: file(attribute({"floats": b""})), "empty lists are of kind ints"),
    ("M31", lambda: file(attribute({"graphs": []})), "empty lists are of kind ints"),
    ("M31", lambda: file(attribute({"strings": [0, bytes(8)]})), "empty lists are of kind ints"),
]

JSON: list[Case] = [
    ("M32", lambda: "", "byte 0: line 1, column 1"),
    ("M32", lambda: "{", "a key of a graph must be a string, found the end"),
    ("M32", lambda: text() + "x", "after the end of the graph"),
    ("M32", lambda: "[" * 100_000, "line 1, column 1: '{' expected"),
    ("M32", lambda: '{"graphrt":' * 50_000, "graphrt must be a number"),
    ("M32", lambda: '{"graphrt": 1, "name" "x"}', "':' expected in a key of a graph|':' expected in a graph"),
    ("M32", lambda: text_attribute("NaN"), "an attribute must be a number, found 'NaN"),
    ("M32", lambda: text_attribute('"a\nb"'), r"line 1, column \d+: a string: Invalid control character"),
    ("M32", lambda: text_attribute('"a'), "Unterminated string"),
    ("M32", lambda: text_attribute("1 // one"), "expected in attributes"),
    ("M33", lambda: '{"graphrt": 1, "graphrt": 1}', "the key 'graphrt' of a graph comes twice"),
    ("M33", lambda: text_tensor('{"dtype": "int8", "data": 1, "data": 2}'), "comes twice"),
    ("M34", lambda: text(code="import os"), "a graph has no key 'code'; there are"),
    ("M34", lambda: text(nodes=[{"op_type": "A", "type": "B"}]), "a node has no key 'type'"),
    ("M34", lambda: "{}", "the graph lacks the key 'graphrt'"),
    ("M34", lambda: '{"graphrt": 1}', "the graph lacks the key 'opset_imports'"),
    ("M34", lambda: text(nodes=[{}]), "a node lacks the key 'op_type'"),
    ("M34", lambda: text(inputs=[{}]), "a value lacks the key 'name'"),
    ("M34", lambda: text(graphrt=2), "version 2 of the text form"),
    ("M35", lambda: text_attribute("9" * 5000), "more than 400 digits"),
    ("M35", lambda: text_attribute(str(2**63)), "must fit in 64 bits"),
    ("M35", lambda: text_attribute("1e999"), "beyond the range of float64"),
    ("M35", lambda: text(opset_imports={"": 1.5}), "must be a whole number"),
    ("M36", lambda: text_attribute('"\\ud800"'), "holds a lone surrogate"),
    ("M37", lambda: text_attribute("[1, 1.0]"), "mixes int and float"),
    ("M37", lambda: text_attribute("[" * 5000), "holds lists; use a tensor"),
    ("M37", lambda: text_attribute("true"), "write 1 or 0"),
    ("M37", lambda: text_attribute('{"float": "7ff0000000000000"}'), "16 hexadecimal digits of a NaN"),
    ("M37", lambda: text_attribute("{}"), "exactly one of the keys"),
    ("M37", lambda: text_attribute('{"float": "NaN", "type": {}}'), "exactly one key"),
    ("M38", lambda: text_tensor("{}"), "a tensor needs dtype"),
    ("M38", lambda: text_tensor('{"data": [1], "dtype": "int8"}'), "dtype comes before its data"),
    ("M38", lambda: text_tensor('{"dtype": "int8", "data": [1], "base64": ""}'), "both data and base64"),
    ("M38", lambda: text_tensor('{"dtype": "int8", "data": [[1], [1, 2]]}'), "lists are ragged"),
    ("M38", lambda: text_tensor('{"dtype": "int8", "data": [1, [2]]}'), "lists are ragged"),
    ("M38", lambda: text_tensor('{"dtype": "int8", "data": [[], 1]}'), "lists are ragged"),
    ("M38", lambda: text_tensor('{"dtype": "int8", "shape": [3], "data": [1]}'), r"data is of shape \[1\]"),
    ("M38", lambda: text_tensor('{"dtype": "int8", "data": ' + "[" * 100_000), "lists nest deeper than 64"),
    ("M39", lambda: text_tensor('{"dtype": "int8", "data": 128}'), "128 is not a whole number of int8"),
    ("M39", lambda: text_tensor('{"dtype": "uint4", "data": -1}'), "not a whole number of uint4"),
    ("M39", lambda: text_tensor('{"dtype": "int8", "data": 1.0}'), "not a whole number"),
    ("M39", lambda: text_tensor('{"dtype": "float32", "data": 1e39}'), "beyond the range of float32"),
    ("M39", lambda: text_tensor('{"dtype": "float32", "data": "x"}'), "NaN, Infinity or -Infinity"),
    ("M39", lambda: text_tensor('{"dtype": "bool", "data": 1}'), "must be true or false"),
    ("M39", lambda: text_tensor('{"dtype": "complex64", "data": 1}'), "written as base64"),
    ("M40", lambda: text_tensor('{"dtype": "int8", "shape": [1], "base64": "?"}'), "is not base64"),
    ("M40", lambda: text_tensor('{"dtype": "int8", "shape": [1], "base64": "AB=="}'), "only spelling"),
    ("M40", lambda: text_tensor('{"dtype": "int8", "shape": [2], "base64": "AA=="}'), "takes 2 bytes; there are 1"),
    ("M40", lambda: text_tensor('{"dtype": "string", "shape": [1000000000000], "base64": "AA=="}'), "need 80"),
    ("M41", lambda: text(value_info={"x": {"sequence": {}, "dtype": "int8"}}), "exclude each other"),
    ("M41", lambda: text(value_info={"x": {"map": {"key": "int64"}}}), "needs both key and value"),
    ("M17", lambda: text_tensor('{"dtype": "int8", "shape": [' + "0," * 64 + '0], "data": []}'), "65 dimensions"),
    ("M17", lambda: text_tensor(f'{{"dtype": "int8", "shape": [0, {2**62}, {2**62}], "data": []}}'), "line 1, column"),
    ("M26", lambda: _text_graphs(32), "deeper within graphs than 32"),
    ("M26", lambda: _text_graphs(20_000), "deeper within graphs than 32"),
    ("M27", lambda: text(value_info={"x": "@"}).replace('"@"', '{"optional": ' * 9000), "types nest deeper than 16"),
    ("M41", lambda: text(value_info={"x": {"shape": [-1]}}), "a dimension must lie from 0"),
]

CASES = CONTAINER + ENCODING + TENSORS + GRAPHS + JSON
"""All of them."""
