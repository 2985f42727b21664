"""Pooling against loops over every window."""

import itertools

import numpy as np
import pytest

from graphrt.ops.global_pooling import global_average_pool, global_lp_pool, global_max_pool, max_unpool
from graphrt.ops.image import center_crop_pad, col2im, max_roi_pool
from graphrt.ops.pooling import average_pool, lp_pool, max_pool
from graphrt.ops.regions import roi_align, roi_align_10
from graphrt.types import TensorType


def rule(op, suffix, **given):
    """Calls a derived op with values and attributes by name."""
    derived = op.derived(suffix)
    attributes = {n: given.get(n, op.attributes[n].default) for n in derived.attributes}
    values = [given.get(p.name, given.get(p.name.removesuffix("_like"))) for p in derived.inputs]
    return derived.function(*values, **attributes)


def windows(x, out, kernel, strides, dilations, begin):
    """Output index to (values, positions) of the window's elements inside x [H, W]."""
    for o in np.ndindex(*out):
        positions = []
        for t in np.ndindex(*kernel):
            at = tuple(i * s - b + k * d for i, s, b, k, d in zip(o, strides, begin, t, dilations, strict=True))
            if all(0 <= a < n for a, n in zip(at, x.shape, strict=True)):
                positions.append(at)
        yield o, [x[p] for p in positions], positions


CASES = [
    {"kernel_shape": (2, 3)},
    {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 0, 1, 2)},
    {"kernel_shape": (2, 2), "dilations": (2, 1), "strides": (3, 2), "ceil_mode": 1},
    {"kernel_shape": (3, 2), "strides": (2, 3), "pads": (1, 1, 1, 1), "ceil_mode": 1},
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_windows_one_by_one(case):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(7, 8))
    kernel, strides = case["kernel_shape"], case.get("strides", (1, 1))
    dilations, begin = case.get("dilations", (1, 1)), case.get("pads", (0,) * 4)[:2]
    largest, indices = max_pool(x[None, None], n_outputs=2, **case)
    mean = average_pool(x[None, None], **case)[0, 0]
    norm = lp_pool(x[None, None], p=3, **case)[0, 0]
    out = largest.shape[2:]
    for o, values, positions in windows(x, out, kernel, strides, dilations, begin):
        assert largest[0, 0][o] == max(values)
        assert indices[0, 0][o] == np.ravel_multi_index(positions[int(np.argmax(values))], x.shape)
        np.testing.assert_allclose(mean[o], np.mean(values))
        np.testing.assert_allclose(norm[o], np.sum(np.abs(values) ** 3) ** (1 / 3))


def test_ceil_mode_adds_the_last_window_but_none_in_the_padding():
    x = np.arange(1.0, 6).reshape(1, 1, 5)
    assert max_pool(x, kernel_shape=(2,), strides=(2,))[0].shape == (1, 1, 2)
    y, _ = max_pool(x, kernel_shape=(2,), strides=(2,), ceil_mode=1)
    np.testing.assert_array_equal(y, [[[2, 4, 5]]])
    y, _ = max_pool(x[:, :, :4], kernel_shape=(1,), strides=(3,), pads=(0, 3), ceil_mode=1)
    np.testing.assert_array_equal(y, [[[1, 4]]])  # a third window would start behind the last element


def test_counting_the_padding_stops_where_it_ends():
    x = np.ones((1, 1, 4))
    attributes = {"kernel_shape": (3,), "strides": (2,), "pads": (0, 1), "ceil_mode": 1}
    np.testing.assert_allclose(average_pool(x, count_include_pad=1, **attributes), [[[1, 2 / 3]]])
    attributes = {"kernel_shape": (3,), "strides": (2,), "pads": (1, 0), "ceil_mode": 1}
    np.testing.assert_allclose(average_pool(x, count_include_pad=1, **attributes), [[[2 / 3, 1]]])
    attributes = {"kernel_shape": (4,), "strides": (3,), "ceil_mode": 1}
    np.testing.assert_allclose(average_pool(np.ones((1, 1, 6)), count_include_pad=1, **attributes), [[[1, 1]]])


def test_ties_go_to_the_first_in_window_order():
    x = np.zeros((1, 1, 3, 3))
    y, indices = max_pool(x, kernel_shape=(2, 2), n_outputs=2)
    np.testing.assert_array_equal(indices[0, 0], [[0, 1], [3, 4]])
    x_ct = rule(max_pool, "vjp[x]", ct=np.ones((1, 1, 2, 2)), x=x, y=y, kernel_shape=(2, 2))
    np.testing.assert_array_equal(x_ct[0, 0], [[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    g = rule(global_max_pool, "vjp[x]", ct=np.ones((1, 1, 1, 1)), x=x)
    assert g.sum() == 1 and g[0, 0, 0, 0] == 1


def test_padding_never_wins():
    x = np.full((1, 1, 2, 2), -np.inf)
    y, indices = max_pool(x, kernel_shape=(2, 2), pads=(1, 1, 0, 0), n_outputs=2)
    np.testing.assert_array_equal(indices[0, 0], [[0, 0], [0, 0]])
    x_ct = rule(max_pool, "vjp[x]", ct=np.ones((1, 1, 2, 2)), x=x, y=y, kernel_shape=(2, 2), pads=(1, 1, 0, 0))
    assert x_ct.sum() == 4
    y, _ = max_pool(np.full((1, 1, 2), -100, np.int8), kernel_shape=(2,), pads=(1, 1))
    np.testing.assert_array_equal(y, np.full((1, 1, 3), -100, np.int8))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, np.float32])
def test_max_pool_keeps_its_dtype(dtype):
    y, indices = max_pool(np.arange(6).reshape(1, 1, 6).astype(dtype), kernel_shape=(2,), n_outputs=2)
    assert y.dtype == dtype and indices.dtype == np.int64


def test_column_major_indices():
    x = np.arange(12.0).reshape(1, 1, 3, 4)
    _, rows = max_pool(x, kernel_shape=(3, 4), n_outputs=2)
    _, columns = max_pool(-x, kernel_shape=(2, 2), pads=(0, 0, 0, 0), strides=(1, 2), storage_order=1, n_outputs=2)
    assert rows.item() == 11
    np.testing.assert_array_equal(columns[0, 0], [[0, 6], [1, 7]])


def test_unpool_undoes_pooling_of_separate_windows():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 3, 4, 6))
    y, indices = max_pool(x, kernel_shape=(2, 2), strides=(2, 2), n_outputs=2)
    back = max_unpool(y, indices, kernel_shape=(2, 2), strides=(2, 2))
    assert back.shape == x.shape
    np.testing.assert_array_equal(back, np.where(np.isin(x, y), x, 0))
    larger = max_unpool(y, indices, np.array([2, 3, 5, 7]), kernel_shape=(2, 2), strides=(2, 2))
    np.testing.assert_array_equal(larger[:, :, :4, :6], back)


def test_lp_norms_neither_overflow_nor_divide_by_zero():
    x = np.array([[[3e30, 4e30, 0, 0, 3e-30, 4e-30]]], np.float32)
    y = lp_pool(x, kernel_shape=(2,), strides=(2,))
    np.testing.assert_allclose(y[0, 0], [5e30, 0, 5e-30], rtol=1e-6)
    x_ct = rule(lp_pool, "vjp[x]", ct=np.ones_like(y), x=x, y=y, kernel_shape=(2,), strides=(2,), p=2)
    np.testing.assert_allclose(x_ct[0, 0], [0.6, 0.8, 0, 0, 0.6, 0.8], rtol=1e-6)
    np.testing.assert_allclose(global_lp_pool(x[..., :2]), [[[5e30]]], rtol=1e-6)


def test_global_pools():
    x = np.arange(24.0).reshape(2, 3, 2, 2)
    np.testing.assert_array_equal(global_average_pool(x)[..., 0, 0], [[1.5, 5.5, 9.5], [13.5, 17.5, 21.5]])
    np.testing.assert_array_equal(global_max_pool(x)[..., 0, 0], x[..., 1, 1])
    assert global_average_pool(np.full((1, 1, 100, 100), 60000, np.float16)).item() == 60000


def test_windows_of_types():
    x = TensorType("float32", ("n", 3, "h", 9))
    (y,) = average_pool.infer_types([x], {"kernel_shape": (3, 3), "strides": (1, 2), "pads": (1, 1, 1, 1)})
    assert y.shape == ("n", 3, "h", 5)
    y, indices = max_pool.infer_types([x], {"kernel_shape": (2, 2)}, n_outputs=2)
    assert y.shape == ("n", 3, None, 8) and indices == TensorType("int64", y.shape)


def test_pooling_needs_channels():
    with pytest.raises(ValueError, match="rank 1"):
        max_pool(np.zeros(4), kernel_shape=(2,))
    with pytest.raises(ValueError, match="spanning 5 positions"):
        average_pool(np.zeros((1, 1, 4)), kernel_shape=(5,))


# ---- regions and rearrangements --------------------------------------------------------------------------


def test_roi_align_of_a_plane_reads_the_plane():
    """Bilinear interpolation reproduces a linear image, so a bin's mean is the plane at its center."""
    i, j = np.mgrid[0:8.0, 0:9]
    x = (2 * i + 3 * j)[None, None]
    rois = np.array([[1.5, 2.0, 5.5, 6.0]])
    y = roi_align(x, rois, np.array([0]), output_height=2, output_width=2, sampling_ratio=3)
    expected = [[2 * (r - 0.5) + 3 * (c - 0.5) for c in (2.5, 4.5)] for r in (3, 5)]
    np.testing.assert_allclose(y[0, 0], expected)
    y = roi_align_10(x, rois, np.array([0]), output_height=2, output_width=2, sampling_ratio=3)
    np.testing.assert_allclose(y[0, 0], np.array(expected) + 2.5)


def test_roi_align_rejects_images_that_are_not_there():
    with pytest.raises(ValueError, match="batch_indices must lie"):
        roi_align(np.zeros((1, 1, 4, 4)), np.zeros((1, 4)), np.array([1]))


def test_absurd_regions_neither_hang_nor_crash():
    x, first = np.ones((1, 1, 4, 4)), np.array([0])
    for far in (1e12, np.inf):
        with pytest.raises(ValueError, match="a region spans"):
            roi_align(x, np.array([[0, 0, far, 2]]), first)
    assert roi_align(x, np.array([[0, 0, 1e12, 2]]), first, sampling_ratio=2).shape == (1, 1, 1, 1)
    assert roi_align(x, np.full((1, 4), np.nan), first).item() == 0
    assert max_roi_pool(x, np.array([[0, np.nan, -np.inf, np.inf, 1e30]]), pooled_shape=(1, 1)).item() == 1


def test_max_roi_pool_by_hand():
    x = np.arange(36.0).reshape(1, 1, 6, 6)
    y = max_roi_pool(x, np.array([[0, 1, 1, 4, 3], [0, 4, 4, 9, 9]], float), pooled_shape=(2, 2))
    np.testing.assert_array_equal(y[0, 0], [[14, 16], [20, 22]])
    np.testing.assert_array_equal(y[1, 0], [[35, 0], [0, 0]])  # bins off the image are empty


def test_col2im_counts_overlaps():
    image = col2im(np.ones((1, 4, 6)), np.array([3, 4]), np.array([2, 2]))
    np.testing.assert_array_equal(image[0, 0], np.outer([1, 2, 1], [1, 2, 2, 1]))


def test_center_crop_and_pad():
    x = np.arange(1.0, 6)
    np.testing.assert_array_equal(center_crop_pad(x, np.array([2])), [2, 3])
    np.testing.assert_array_equal(center_crop_pad(x, np.array([8])), [0, 1, 2, 3, 4, 5, 0, 0])
    for n, m in itertools.product((3, 4), (6, 7)):
        x = np.arange(1.0, n + 1)
        np.testing.assert_array_equal(center_crop_pad(center_crop_pad(x, np.array([m])), np.array([n])), x)
