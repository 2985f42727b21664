"""Cast by the tables of the ONNX operator spec."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops import casts
from graphrt.types import TensorType, numpy_dtype

CODE = {"float32": 1, "uint8": 2, "int8": 3, "int64": 7, "string": 8, "bool": 9, "float16": 10, "bfloat16": 16}
FLOAT8 = {"float8e4m3fn": 17, "float8e4m3fnuz": 18, "float8e5m2": 19, "float8e5m2fnuz": 20}
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize(
    ("x", "to", "expected"),
    [
        (np.array([200, -200, 3], np.int16), "int8", [-56, 56, 3]),
        (np.array([1.9, -1.9]), "int64", [1, -1]),
        (np.array([0.0, -0.0, 0.1, NAN]), "bool", [False, False, True, True]),
        (np.array([True, False]), "float32", [1.0, 0.0]),
        (np.array([1e6, -1e6, 1.0]), "float16", [INF, -INF, 1.0]),
        (np.array(["3.14", "1e-5", "1E8", "INF", "+inf", "-INF"], object), "float32", None),
        (np.array(["15", "-2"], object), "int64", [15, -2]),
        (np.array(["15.7", "-2"], object), "int64", [15, -2]),
        (np.array(["0", "2"], object), "bool", [False, True]),
        (np.array([3.25, -2.0], np.float32), "string", ["3.25", "-2.0"]),
    ],
)
def test_cast(x, to, expected):
    got = casts.cast(x, to=CODE[to])
    assert got.dtype == (object if to == "string" else np.dtype(to))
    if expected is None:
        expected = np.array([3.14, 1e-5, 1e8, INF, INF, -INF], np.float32).tolist()
    assert got.tolist() == expected


def test_large_whole_numbers_in_strings_are_exact():
    text = np.array(["9007199254740993", str(2**63 - 1)], object)
    assert casts.cast(text, to=CODE["int64"]).tolist() == [2**53 + 1, 2**63 - 1]


def test_a_string_that_is_no_number_is_refused():
    with pytest.raises(ValueError, match="hello"):
        casts.cast(np.array(["hello"], object), to=CODE["float32"])


def float8(cast_op, name, values, **attributes):
    pytest.importorskip("ml_dtypes")
    return casts.cast_6(cast_op(np.array(values, np.float32), to=FLOAT8[name], **attributes), to=1).tolist()


@pytest.mark.parametrize(
    ("name", "largest", "infinity", "uz"),
    [
        ("float8e4m3fn", 448.0, NAN, False),
        ("float8e4m3fnuz", 240.0, NAN, True),
        ("float8e5m2", 57344.0, INF, False),
        ("float8e5m2fnuz", 57344.0, NAN, True),
    ],
)
def test_float8_tables(name, largest, infinity, uz):
    x = [0.0, NAN, INF, -INF, 1e6, -1e6, 2.0]
    np.testing.assert_array_equal(float8(casts.cast, name, x), [0, NAN, largest, -largest, largest, -largest, 2])
    np.testing.assert_array_equal(
        float8(casts.cast, name, x, saturate=0), [0, NAN, infinity, -infinity, infinity, -infinity, 2]
    )
    before = NAN if uz else largest
    np.testing.assert_array_equal(float8(casts.cast_19, name, x)[2:4], [before, -before])


@pytest.mark.parametrize(
    ("round_mode", "saturate", "expected"),
    [
        ("up", 1, [0, 127, 128, 128, 128, 254, 255]),
        ("down", 1, [0, 127, 127, 127, 128, 254, 255]),
        ("nearest", 1, [0, 127, 127, 128, 128, 254, 255]),
        ("nearest", 0, [255, 127, 127, 128, 128, 255, 255]),
    ],
)
def test_float8e8m0_rounds_to_powers_of_two(round_mode, saturate, expected):
    pytest.importorskip("ml_dtypes")
    x = np.array([0.0, 1.0, 1.2, 1.5, 2.0, INF, NAN], np.float32)
    got = casts.cast(x, to=24, round_mode=round_mode, saturate=saturate)
    assert got.view(np.uint8).tolist() == expected


def test_narrow_integers_drop_high_bits():
    pytest.importorskip("ml_dtypes")
    assert casts.cast(np.array([7.9, -9.0, 8.0]), to=22).astype(int).tolist() == [7, 7, -8]


def test_unknown_codes_and_modes():
    with pytest.raises(ValueError, match="99"):
        casts.cast(np.zeros(1), to=99)
    with pytest.raises(ValueError, match="round_mode is one of up, down, nearest, not 'sideways'"):
        casts.cast(np.zeros(1), to=1, round_mode="sideways")


def test_cotangents_come_back_in_the_dtype_of_the_input():
    back = casts.cast.derived("vjp[input]")(np.ones(3, np.float16), np.zeros(3, np.float64))
    assert back.dtype == np.float64
    like = casts.cast_like.derived("vjp[input]")(np.ones(3), np.zeros(3, np.float32))
    assert like.dtype == np.float32


def test_types_are_known_without_the_type_of_the_input():
    assert casts.cast.infer_types([TensorType(None, ("n",))], {"to": 7}) == (TensorType("int64", ("n",)),)
    types = [TensorType("float32", ("n",)), TensorType("bool", None)]
    assert casts.cast_like.infer_types(types, {}) == (TensorType("bool", ("n",)),)


def test_bit_cast():
    x = np.array([1.0, -0.0], np.float32)
    bits = casts.bit_cast(x, to=6)
    assert bits.tolist() == [0x3F800000, -(2**31)]
    assert casts.bit_cast(bits, to=1).tobytes() == x.tobytes()
    with pytest.raises(ValueError, match="float32 has 32 bits and int64 has 64"):
        casts.bit_cast(x, to=7)
    with pytest.raises(ValueError, match="strings have no bits"):
        casts.bit_cast(x, to=8)
    with pytest.raises(TypeInferenceError, match="float32 has 32 bits"):
        casts.bit_cast.infer_types([TensorType("float32", (2,))], {"to": 7})


def test_bfloat16_round_trip():
    pytest.importorskip("ml_dtypes")
    x = np.array([1.0, 1.00390625, 3.0e38], np.float32)
    narrow = casts.cast(x, to=CODE["bfloat16"])
    assert narrow.dtype == numpy_dtype("bfloat16")
    assert casts.cast(narrow, to=1)[0] == 1.0
    assert casts.cast(narrow[:1], to=CODE["string"]).tolist() == ["1.0"]
