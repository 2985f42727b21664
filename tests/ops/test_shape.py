"""Shape ops beyond what the conformance kit tries: versions, symbols, strings, errors."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.op import like
from graphrt.ops.arrange import depth_to_space, reverse_sequence, space_to_depth, tile, transpose, trilu
from graphrt.ops.identity import identity, like_op, shape_of, size_of, zeros_like
from graphrt.ops.joining import concat, split, split_2, split_13
from graphrt.ops.shape import expand, flatten, reshape
from graphrt.ops.squeezing import squeeze, squeeze_1, unsqueeze, unsqueeze_1
from graphrt.types import SequenceType, TensorType

INT = "int64"
UNRANKED = TensorType("float32")


def ints(*values):
    return np.array(values, np.int64)


def inferred(op, types, attributes=(), values=(), n_outputs=1):
    """The shapes that an op infers for float32 inputs of the given shapes; None is an absent input."""
    given = [t if t is None or isinstance(t, TensorType) else TensorType("float32", t) for t in types]
    padded = [*values, *(None,) * (len(types) - len(values))]
    found = op.infer_types(given, dict(attributes), padded, n_outputs)
    return [t.shape for t in found] if n_outputs > 1 else found[0].shape


def constant(*values):
    return TensorType.of(ints(*values))


@pytest.mark.parametrize(
    ("shape", "wanted", "expected"),
    [
        (("batch", 3, 4), (0, -1), ("batch", 12)),
        (("batch", 3, 4), (-1, 12), ("batch", 12)),
        (("batch", 3, 4), (-1, 4), (None, 4)),
        (("batch", "time", 8), (0, 0, 2, -1), ("batch", "time", 2, 4)),
        (("batch", "time", 8), (0, -1, 8), ("batch", "time", 8)),
        (("batch", "time"), (-1,), (None,)),
        ((None, 3), (0, 3), (None, 3)),
        (UNRANKED, (0, -1, 7), (None, None, 7)),
        ((2, 6), (3, -1), (3, 4)),
        (("batch", 0), (-1, 5), (0, 5)),
    ],
)
def test_reshape_keeps_what_is_certain_of_symbols(shape, wanted, expected):
    assert inferred(reshape, [shape, constant(*wanted)], values=[None, ints(*wanted)]) == expected


def test_reshape_without_a_constant_shape_knows_the_rank():
    assert inferred(reshape, [("n", 3), TensorType(INT, (4,))]) == (None,) * 4
    assert inferred(reshape, [("n", 3), TensorType(INT, ("r",))]) is None


def test_reshape_cancels_copied_dimensions_of_an_empty_batch():
    assert reshape(np.zeros((0, 3, 4)), ints(0, -1)).shape == (0, 12)
    assert reshape(np.zeros((0, 3)), ints(3, 0), allowzero=1).shape == (3, 0)


@pytest.mark.parametrize(
    ("wanted", "attributes", "message"),
    [
        ((-1, -1), {}, "at most one -1"),
        ((-2, 3), {}, "at most one -1"),
        ((0, -1), {"allowzero": 1}, "no -1 beside an explicit 0"),
        ((4, -1), {}, "6 elements do not divide"),
        ((2, 3, 0), {}, "copies dimension 2 of a tensor of rank 2"),
    ],
)
def test_reshape_says_what_is_wrong_with_a_shape(wanted, attributes, message):
    with pytest.raises(ValueError, match=message):
        reshape(np.zeros((2, 3)), ints(*wanted), **attributes)
    with pytest.raises(TypeInferenceError, match=message):
        inferred(reshape, [(2, 3), constant(*wanted)], attributes, [None, ints(*wanted)])


def test_reshape_infer_refuses_another_number_of_elements():
    with pytest.raises(TypeInferenceError, match=r"6 elements .* do not fit"):
        inferred(reshape, [(2, 3), constant(4)], values=[None, ints(4)])


def test_squeeze_and_unsqueeze_by_attribute_and_by_input_agree():
    x = np.arange(6.0).reshape(1, 2, 1, 3)
    assert squeeze(x, ints(-2)).shape == squeeze_1(x, axes=(-2,)).shape == (1, 2, 3)
    assert unsqueeze(x, ints(-1, 0)).shape == unsqueeze_1(x, axes=(-1, 0)).shape == (1, 1, 2, 1, 3, 1)
    assert squeeze(x, ints()).shape == x.shape, "no axes named is not the same as axes absent"


def test_squeeze_errors_and_symbols():
    with pytest.raises(ValueError, match="axis 1 cannot be squeezed: its size is 2"):
        squeeze(np.zeros((1, 2)), ints(1))
    with pytest.raises(ValueError, match="axis 3 is out of range"):
        squeeze(np.zeros((1, 2)), ints(3))
    with pytest.raises(ValueError, match="same axis twice"):
        unsqueeze(np.zeros(2), ints(0, -3))
    assert inferred(squeeze, [(1, "n", 1), None]) is None, "n may be 1 as well"
    assert inferred(squeeze, [(1, "n", 1), constant(0)], values=[None, ints(0)]) == ("n", 1)
    assert inferred(squeeze_1, [("b", "n")], {"axes": (0,)}) == ("n",)
    assert inferred(unsqueeze, [("n",), constant(0, 2)], values=[None, ints(0, 2)]) == (1, "n", 1)
    assert inferred(unsqueeze, [("n",), TensorType(INT, (2,))]) == (None,) * 3


def test_flatten_expand_tile_transpose_keep_symbols():
    assert inferred(flatten, [("n", 3, 4)], {"axis": 1}) == ("n", 12)
    assert inferred(flatten, [(1, "n", 2)], {"axis": 2}) == ("n", 2)
    assert inferred(flatten, [("n", "m", 2)], {"axis": -1}) == (None, 2)
    assert inferred(expand, [("n", 1), constant(1, 5)], values=[None, ints(1, 5)]) == ("n", 5)
    assert inferred(tile, [("n", 2), constant(1, 3)], values=[None, ints(1, 3)]) == ("n", 6)
    assert inferred(tile, [("n", 2), constant(2, 0)], values=[None, ints(2, 0)]) == (None, 0)
    assert inferred(transpose, [("n", "t", 4)], {"perm": (1, 2, 0)}) == ("t", 4, "n")
    assert inferred(transpose, [UNRANKED], {"perm": (1, 0)}) == (None, None)


def test_expand_broadcasts_both_ways():
    assert expand(np.zeros((3, 1)), ints(2, 1, 4)).shape == (2, 3, 4)
    assert expand(np.zeros((2, 3)), ints(1)).shape == (2, 3)


def test_shape_clamps_and_size_counts():
    x = np.zeros((2, 3, 4), bool)
    np.testing.assert_array_equal(shape_of(x, start=-99, end=2), [2, 3])
    assert shape_of(x, start=2, end=1).shape == (0,)
    assert shape_of(x).dtype == size_of(x).dtype == np.int64
    assert size_of(x) == 24


def test_identity_passes_sequences():
    t = SequenceType(TensorType("float32", ("n",)))
    assert identity.infer_types([t], {}) == (t,)
    assert identity([1, 2]) == [1, 2]


def test_like_owns_nothing_and_zeros_like_knows_strings():
    x = np.ones((1000, 1000), np.float16)
    assert like_op(x).strides == (0, 0)
    assert like_op(x).dtype == np.float16
    assert zeros_like(np.array(["a", "b"], object)).tolist() == ["", ""]


STRINGS = np.array([["a", "b", "c"], ["d", "e", "f"]], object)


@pytest.mark.parametrize("x", [STRINGS, STRINGS == "b"], ids=["strings", "bools"])
def test_strings_and_bools_pass(x):
    assert reshape(x, ints(3, -1)).shape == (3, 2)
    assert transpose(x).tolist() == [list(row) for row in zip(*x.tolist(), strict=True)]
    assert concat(x, x, axis=0).tolist() == x.tolist() * 2
    assert [p.tolist() for p in split(x, axis=1, n_outputs=3)] == [[[r[i]] for r in x.tolist()] for i in range(3)]
    assert tile(x, ints(1, 2)).tolist() == [r * 2 for r in x.tolist()]
    assert expand(x, ints(2, 1, 1)).shape == (2, 2, 3)
    assert reverse_sequence(x, ints(2, 1, 2))[:, 0].tolist() == [x[1, 0], x[0, 0]]
    assert {transpose(x).dtype, concat(x, x, axis=0).dtype, tile(x, ints(1, 2)).dtype} == {x.dtype}


def test_concat_infers_sums_and_the_better_known_dimension():
    assert inferred(concat, [("n", 2), (4, 3)], {"axis": 1}) == (4, 5)
    assert inferred(concat, [("n", 2), ("n", 3)], {"axis": 0 - 1}) == ("n", 5)
    assert inferred(concat, [("n", 2), (None, 2)], {"axis": 0}) == (None, 2)
    assert inferred(concat, [("n", 2), UNRANKED], {"axis": 0}) == (None, 2)
    with pytest.raises(TypeInferenceError, match="axis 0: 4 and 5 should be equal"):
        inferred(concat, [(4, 2), (5, 3)], {"axis": 1})


def test_split_sizes_by_version():
    x = np.arange(7.0)
    assert [p.size for p in split(x, num_outputs=3, n_outputs=3)] == [3, 3, 1]
    assert [p.size for p in split_2(x, split=(3, 4), n_outputs=2)] == [3, 4]
    with pytest.raises(ValueError, match="does not divide into 2 parts"):
        split_13(x, n_outputs=2)
    with pytest.raises(ValueError, match="add up to 7"):
        split(x, ints(3, 3), n_outputs=2)
    with pytest.raises(ValueError, match="num_outputs is 3, but the node has 2"):
        split(x, num_outputs=3, n_outputs=2)
    assert inferred(split, [("n", 6), None], {"axis": 1}, n_outputs=2) == [("n", 3), ("n", 3)]
    assert inferred(split, [(4, "m"), constant(1, 2)], {"axis": 1}, [None, ints(1, 2)], 2) == [(4, 1), (4, 2)]


def test_split_gradient_fills_unused_parts_with_zeros():
    back = split.derived("vjp[input]").function
    x_like = like(np.zeros((2, 5), np.float32))
    found = back(x_like, ints(2, 3), (None, np.ones((2, 3), np.float32)), axis=-1)
    np.testing.assert_array_equal(found, [[0, 0, 1, 1, 1]] * 2)
    assert found.dtype == np.float32


def test_depth_to_space_numbers_channels_by_mode():
    x = np.arange(8.0).reshape(1, 8, 1, 1)
    assert depth_to_space(x, blocksize=2)[0, :, 0, 0].tolist() == [0, 1]
    assert depth_to_space(x, blocksize=2, mode="CRD")[0, :, 0, 0].tolist() == [0, 4]
    for mode in ("DCR", "CRD"):
        there = depth_to_space(x, blocksize=2, mode=mode)
        np.testing.assert_array_equal(space_to_depth(there, blocksize=2, mode=mode), x)
    assert inferred(depth_to_space, [("n", 8, "h", 5)], {"blocksize": 2}) == ("n", 2, None, 10)
    with pytest.raises(ValueError, match="6 channels do not divide by 4"):
        depth_to_space(np.zeros((1, 6, 2, 2)), blocksize=2)
    with pytest.raises(ValueError, match="mode 'XYZ'"):
        space_to_depth(x, blocksize=1, mode="XYZ")


def test_trilu_and_reverse_sequence_errors():
    with pytest.raises(ValueError, match="rank 2 or more"):
        trilu(np.zeros(3))
    with pytest.raises(ValueError, match="0 and 1 in either order"):
        reverse_sequence(np.zeros((2, 2, 2)), ints(1, 1), time_axis=2)
    with pytest.raises(ValueError, match=r"should be in \[0, 2\]"):
        reverse_sequence(np.zeros((2, 2)), ints(1, 3))
    with pytest.raises(ValueError, match="does not order the axes"):
        transpose(np.zeros((2, 2)), perm=(0,))
    with pytest.raises(ValueError, match="one per axis"):
        tile(np.zeros((2, 2)), ints(2))
