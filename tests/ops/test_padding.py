"""Pad against a plain description, mode by mode."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.op import like
from graphrt.ops.padding import pad, pad_2
from graphrt.types import TensorType


def ints(*values):
    return np.array(values, np.int64)


def walk(mode, size, i):
    """Which element position i of the padded axis repeats, found by walking from the nearest edge."""
    if mode == "edge":
        return min(max(i, 0), size - 1)
    if mode == "wrap":
        return i % size
    while not 0 <= i < size:
        i = (-i if i < 0 else 2 * (size - 1) - i) if size > 1 else 0
    return i


@pytest.mark.parametrize("mode", ["edge", "wrap", "reflect"])
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_borders_repeat_what_they_should(mode, size):
    x = np.arange(size)
    for before in range(8):
        for after in range(8):
            expected = [walk(mode, size, i) for i in range(-before, size + after)]
            assert pad(x, ints(before, after), mode=mode).tolist() == expected


@pytest.mark.parametrize("mode", ["constant", "edge", "wrap", "reflect"])
def test_the_gradient_counts_how_often_an_element_is_repeated(mode):
    x, pads = np.arange(1.0, 4.0), ints(5, 4)
    y = pad(x, pads, mode=mode)
    ct = pad.derived("vjp[data]").function(np.ones_like(y), like(x), pads, None, mode=mode)
    assert ct.tolist() == [np.count_nonzero(y == v) for v in x]


def test_negative_pads_crop_before_the_border_is_made():
    x = np.arange(5)
    assert pad(x, ints(-1, 2), mode="edge").tolist() == [1, 2, 3, 4, 4, 4]
    assert pad(x, ints(2, -2), mode="reflect").tolist() == [2, 1, 0, 1, 2]
    assert pad(x, ints(-2, -3)).tolist() == []
    assert pad(x, ints(-7, 4)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="crop more than there is"):
        pad(x, ints(-3, -3))


def test_strings_bools_and_the_default_constant():
    assert pad(np.array(["a"], object), ints(1, 1)).tolist() == ["", "a", ""]
    assert pad(np.array(["a"], object), ints(0, 1), np.array("z", object)).tolist() == ["a", "z"]
    assert pad(np.array([True]), ints(1, 0)).tolist() == [False, True]
    assert pad(np.array([7], np.int32), ints(1, 0), np.array(3, np.int32)).dtype == np.int32


def test_axes_and_the_old_form():
    x = np.ones((1, 2))
    assert pad(x, ints(1, 0), None, ints(-1)).shape == (1, 3)
    assert pad_2(x, pads=(0, 1, 0, 0), value=5.0).tolist() == [[5, 1, 1]]
    assert pad_2(x.astype(np.float16), pads=(0, 1, 0, 0), value=5.0).dtype == np.float16


def test_errors():
    x = np.ones((1, 2))
    with pytest.raises(ValueError, match="3 pads for 2 axes"):
        pad(x, ints(1, 2, 3))
    with pytest.raises(ValueError, match="mode 'mirror' should be one of"):
        pad(x, ints(0, 0, 0, 0), mode="mirror")
    with pytest.raises(ValueError, match="no elements to repeat"):
        pad(np.ones(0), ints(1, 0), mode="edge")


def test_types():
    def of(shape, pads, axes=None):
        types = [TensorType("float32", shape), TensorType("int64", (4,)), None, axes and TensorType.of(ints(*axes))]
        return pad.infer_types(types, {}, [None, pads, None, axes and ints(*axes)])[0].shape

    assert of(("n", 4), ints(0, 1, 0, 2)) == ("n", 7)
    assert of(("n", 4), ints(1, 0, 0, 0)) == (None, 4)
    assert of(("n", 4), None) == (None, None)
    assert of(("n", "c", 4, 4), None, (2, 3)) == ("n", "c", None, None)
    with pytest.raises(TypeInferenceError, match="crop more"):
        of(("n", 2), ints(0, -3, 0, 0))
