"""Slice, Gather, Scatter and friends beyond what the conformance kit tries."""

import itertools

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops.indexing import gather, gather_elements, gather_nd
from graphrt.ops.scatter import (
    scatter_9,
    scatter_elements,
    scatter_elements_11,
    scatter_nd,
    scatter_nd_11,
    tensor_scatter,
)
from graphrt.ops.slicing import compress, slice_, slice_1
from graphrt.ops.unique import non_zero, unique
from graphrt.types import TensorType

STRINGS = np.array([["a", "b", "c"], ["d", "e", "f"]], object)
REDUCE = {
    "none": lambda a, b: b,
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "max": max,
    "min": min,
}


def ints(*values):
    return np.array(values, np.int64)


def shape_of(op, shapes, attributes=(), values=(), dtype="int64"):
    types = [None if s is None else TensorType(dtype, s) for s in shapes]
    return op.infer_types(types, dict(attributes), [*values, *(None,) * (len(shapes) - len(values))])[0].shape


# ---- Slice, Compress ---------------------------------------------------------------------------------


def reference_slice(size, start, end, step):
    """The positions that the ONNX text describes: add the size to negatives, then clamp by the step's sign."""
    start, end = (v + size if v < 0 else v for v in (start, end))
    if step > 0:
        return list(range(min(max(start, 0), size), min(max(end, 0), size), step))
    return list(range(min(max(start, 0), size - 1), min(max(end, -1), size - 1), step))


def test_slice_clamps_as_the_specification_says():
    x = np.arange(4)
    bounds = (-(2**63), -6, -4, -1, 0, 2, 4, 7, 2**63 - 1)
    for start, end, step in itertools.product(bounds, bounds, (-3, -1, 1, 2)):
        found = slice_(x, ints(start), ints(end), None, ints(step)).tolist()
        assert found == reference_slice(4, start, end, step), (start, end, step)
        values = [None, ints(start), ints(end), None, ints(step)]
        assert shape_of(slice_, [(4,), (1,), (1,), None, (1,)], (), values) == (len(found),)


def test_slice_keeps_symbols_that_are_certain():
    def of(shape, start, end, axis, step=1):
        values = [None, ints(start), ints(end), ints(axis), ints(step)]
        return shape_of(slice_, [shape, (1,), (1,), (1,), (1,)], (), values)

    assert of(("n", 5), 0, 2**63 - 1, 0) == ("n", 5)
    assert of(("n", 5), -1, -(2**63), 0, -1) == ("n", 5)
    assert of(("n", 5), 1, 2**63 - 1, 0) == (None, 5)
    assert of(("n", 5), 1, -1, 1) == ("n", 3)
    assert of(("n", 5), 2, 2, 0) == (0, 5)
    assert shape_of(slice_, [("n", 5), (1,), (1,), (1,)], (), [None, None, None, ints(1)]) == ("n", None)
    assert shape_of(slice_, [("n", 5), (1,), (1,)]) == (None, 5), "without axes the first ones are sliced"
    assert shape_of(slice_1, [("n", 5)], {"starts": (1,), "ends": (99,), "axes": (-1,)}) == ("n", 4)


def test_slice_errors():
    with pytest.raises(ValueError, match="should not be 0"):
        slice_(np.zeros(3), ints(0), ints(1), None, ints(0))
    with pytest.raises(ValueError, match="1 starts, 2 ends"):
        slice_(np.zeros(3), ints(0), ints(1, 2))
    with pytest.raises(ValueError, match="axis 1 is out of range"):
        slice_1(np.zeros(3), starts=(0,), ends=(1,), axes=(1,))


def test_compress():
    assert compress(STRINGS, np.array([True, False, True]), axis=1).tolist() == [["a", "c"], ["d", "f"]]
    assert compress(STRINGS, np.array([False, True, False, True])).tolist() == ["b", "d"]
    assert shape_of(compress, [("n", 3), (2,)], {"axis": 1}, [None, np.array([True, True])]) == ("n", 2)
    with pytest.raises(ValueError, match="at most 2 elements"):
        compress(STRINGS, np.ones(3, bool), axis=0)


# ---- Gather ------------------------------------------------------------------------------------------


def test_gather_of_strings_and_bools():
    assert gather(STRINGS, ints(1, -1)).tolist() == STRINGS[[1, 1]].tolist()
    assert gather_elements(STRINGS, np.array([[1, 0, -1]])).tolist() == [["d", "b", "f"]]
    assert gather_nd(STRINGS, np.array([[0, 1], [-1, -1]])).tolist() == ["b", "f"]
    assert gather(STRINGS == "b", np.array(0), axis=1).tolist() == [False, False]


@pytest.mark.parametrize("bad", [3, -4])
@pytest.mark.parametrize(
    "call",
    [
        lambda x, i: gather(x, ints(0, i)),
        lambda x, i: gather_elements(x, np.array([[0, i]])),
        lambda x, i: gather_nd(x, np.array([[0], [i]])),
        lambda x, i: scatter_elements(x, np.array([[0, i]]), np.zeros((1, 2))),
        lambda x, i: scatter_nd(x, np.array([[i]]), np.zeros((1, 2))),
    ],
    ids=["Gather", "GatherElements", "GatherND", "ScatterElements", "ScatterND"],
)
def test_an_index_out_of_range_is_named(call, bad):
    with pytest.raises(ValueError, match=f"index {bad} is out of range for axis 0 of size 3"):
        call(np.zeros((3, 2)), bad)


def test_gather_types_keep_symbols():
    assert shape_of(gather, [("v", 8), ("n", "t")]) == ("n", "t", 8)
    assert shape_of(gather, [("n", "t", 8), ()], {"axis": 1}) == ("n", 8)
    assert shape_of(gather_elements, [("v", 8), ("n", 2)]) == ("n", 2)
    assert shape_of(gather_nd, [("n", "t", 8), ("n", "k", 1)], {"batch_dims": 1}) == ("n", "k", 8)
    assert shape_of(gather_nd, [("n", "t", 8), ("n", "k", None)]) is None
    with pytest.raises(TypeInferenceError, match="do not fit"):
        shape_of(gather_nd, [("n",), ("n", 2)])


def test_the_gradient_of_an_embedding_adds_up_repeated_rows():
    table, rows = np.zeros((1000, 4), np.float32), np.array([[7, 3, 7], [-1, 7, 3]], np.int32)
    ct = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    found = gather.derived("vjp[data]").function(ct, table, rows, axis=0)
    expected = np.zeros_like(table)
    for row, g in zip(rows.reshape(-1), ct.reshape(-1, 4), strict=True):
        expected[row] += g
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


# ---- Scatter -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", REDUCE)
def test_scatter_elements_against_a_loop(reduction):
    rng = np.random.default_rng(0)
    x, at, updates = rng.normal(size=(3, 4)), rng.integers(-4, 4, size=(2, 6)), rng.normal(size=(2, 6))
    expected = x.copy()
    for i, j in np.ndindex(at.shape):
        expected[i, at[i, j]] = REDUCE[reduction](expected[i, at[i, j]], updates[i, j])
    np.testing.assert_allclose(scatter_elements(x, at, updates, axis=1, reduction=reduction), expected)


@pytest.mark.parametrize("reduction", REDUCE)
def test_scatter_nd_against_a_loop(reduction):
    rng = np.random.default_rng(0)
    x, at, updates = rng.normal(size=(3, 2, 2)), rng.integers(-2, 2, size=(4, 2)), rng.normal(size=(4, 2))
    expected = x.copy()
    for i, j in np.ndindex(4, 2):
        place = (*at[i], j)
        expected[place] = REDUCE[reduction](expected[place], updates[i, j])
    np.testing.assert_allclose(scatter_nd(x, at, updates, reduction=reduction), expected)


def gradients(op, x, at, updates, ct, **attributes):
    y = op(x, at, updates, **attributes)
    at_defaults = {"axis": 0, **attributes}
    data, up = (op.derived(f"vjp[{n}]").function(ct, x, at, updates, y, **at_defaults) for n in ("data", "updates"))
    return data.tolist(), up.tolist()


def test_of_repeated_writes_the_last_takes_the_gradient():
    x, at, updates = np.zeros(3), ints(1, 1, 0), np.array([5.0, 6.0, 7.0])
    ct = np.array([1.0, 2.0, 3.0])
    assert scatter_elements(x, at, updates).tolist() == [7, 6, 0]
    assert gradients(scatter_elements, x, at, updates, ct, reduction="none") == ([0, 0, 3], [0, 2, 1])


def test_of_equal_extremes_the_data_then_the_first_update_takes_the_gradient():
    x, at, updates = np.array([1.0, 1.0, 9.0]), ints(0, 0, 1, 1, 2), np.array([1.0, 1.0, 4.0, 4.0, 3.0])
    ct = np.array([1.0, 2.0, 3.0])
    assert gradients(scatter_elements, x, at, updates, ct, reduction="max") == ([1, 0, 3], [0, 0, 2, 0, 0])
    assert gradients(scatter_elements, -x, at, -updates, ct, reduction="min") == ([1, 0, 3], [0, 0, 2, 0, 0])


def test_products_are_differentiated_at_zeros():
    x, at, updates = np.array([2.0, 3.0, 4.0]), ints(0, 0, 1, 1), np.array([0.0, 5.0, 0.0, 0.0])
    ct = np.ones(3)
    assert gradients(scatter_elements, x, at, updates, ct, reduction="mul") == ([0, 0, 1], [10, 0, 0, 0])


def test_many_factors_at_one_place():
    factors = np.linspace(0.9, 1.1, 1001)
    at = np.zeros(1001, np.int64)
    data, up = gradients(scatter_elements, np.array([2.0]), at, factors, np.ones(1), reduction="mul")
    np.testing.assert_allclose(data, [factors.prod()], rtol=1e-12)
    np.testing.assert_allclose(up, 2 * factors.prod() / factors, rtol=1e-12)


def test_scatter_of_strings_and_the_older_versions():
    at, updates = np.array([[1, 0, 1]]), np.array([["x", "y", "z"]], object)
    for op in (scatter_elements, scatter_elements_11, scatter_9):
        assert op(STRINGS, at, updates).tolist() == [["a", "y", "c"], ["x", "e", "z"]]
    assert scatter_nd_11(STRINGS, np.array([[1]]), updates).tolist() == [["a", "b", "c"], ["x", "y", "z"]]
    assert STRINGS[1, 0] == "d"


def test_scatter_errors():
    x = np.zeros((2, 2))
    with pytest.raises(ValueError, match="reduction 'sum' should be none, add, mul, max, min"):
        scatter_elements(x, np.zeros((1, 2), int), np.zeros((1, 2)), reduction="sum")
    with pytest.raises(ValueError, match="should have the same shape"):
        scatter_elements(x, np.zeros((1, 2), int), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"updates have shape \(1, 3\), expected \(1, 2\)"):
        scatter_nd(x, np.zeros((1, 1), int), np.zeros((1, 3)))
    with pytest.raises(ValueError, match="has only 2"):
        gather_elements(x, np.zeros((1, 3), int))
    with pytest.raises(TypeInferenceError, match="index tuples of length 3"):
        shape_of(scatter_nd, [("n", 2), ("k", 3), ("k",)])


def test_tensor_scatter():
    cache, update = np.zeros((2, 3, 1)), np.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    assert tensor_scatter(cache, update, ints(1, 0))[..., 0].tolist() == [[0, 1, 2], [3, 4, 0]]
    assert tensor_scatter(cache, update, ints(2, 5), mode="circular")[..., 0].tolist() == [[2, 0, 1], [4, 0, 3]]
    with pytest.raises(ValueError, match="leave axis 1 of size 3"):
        tensor_scatter(cache, update, ints(2, 0))
    with pytest.raises(ValueError, match="does not fit cache"):
        tensor_scatter(cache, np.zeros((2, 4, 1)))
    with pytest.raises(ValueError, match="batch axis 0"):
        tensor_scatter(cache, update, axis=0)


# ---- NonZero, Unique ---------------------------------------------------------------------------------


def test_non_zero_of_a_scalar_has_no_rows():
    assert non_zero(np.array(3.0)).shape == (0, 1)
    assert non_zero(np.array(0.0)).shape == (0, 0)
    assert non_zero(np.array([[0, 1], [1, 0]])).tolist() == [[0, 1], [1, 0]]


def test_unique_of_slices_in_order_of_occurrence():
    x = np.array([[3, 1], [0, 2], [3, 1]], np.float32)
    y, first, inverse, counts = unique(x, axis=0, sorted=0)
    assert (y.tolist(), first.tolist(), inverse.tolist(), counts.tolist()) == (
        [[3, 1], [0, 2]],
        [0, 1],
        [0, 1, 0],
        [2, 1],
    )
    assert unique(x, axis=0)[0].tolist() == [[0, 2], [3, 1]]
    assert {a.dtype for a in (first, inverse, counts)} == {np.dtype(np.int64)}


def test_unique_of_strings():
    words = np.array([["b", "a"], ["b", "a"], ["a", "c"]], object)
    assert unique(words)[0].tolist() == ["a", "b", "c"]
    assert unique(words, axis=0)[0].tolist() == [["a", "c"], ["b", "a"]]
    assert unique(words, axis=0, sorted=0)[2].tolist() == [0, 0, 1]
    assert unique(np.zeros((3, 0)), axis=0)[3].tolist() == [3]


def test_unique_of_no_slices():
    for x, axis in ((np.zeros(0), -1), (np.zeros((0, 2)), 0)):
        y, *places = unique(x, axis=axis)
        assert y.shape == x.shape
        assert [p.shape for p in places] == [(0,)] * 3
