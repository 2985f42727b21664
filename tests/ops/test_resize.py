"""Resizing and sampling against interpolation written out, and images whose answer is known."""

import numpy as np
import pytest

from graphrt.ops.grid_sample import affine_grid, grid_sample
from graphrt.ops.resize import resize, resize_10, upsample, upsample_1, upsample_7
from graphrt.types import TensorType


def row(*values):
    return np.array(values, float)


def scales(*values):
    return np.array(values, np.float32)


# ---- Resize ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("half_pixel", [0, 0.25, 0.75, 1.25, 1.75, 2]),
        ("asymmetric", [0, 0.5, 1, 1.5, 2, 2]),
        ("align_corners", [0, 0.4, 0.8, 1.2, 1.6, 2]),
        ("pytorch_half_pixel", [0, 0.25, 0.75, 1.25, 1.75, 2]),
    ],
)
def test_linear_positions(where, expected):
    y = resize(row(0, 1, 2), None, scales(2), mode="linear", coordinate_transformation_mode=where)
    np.testing.assert_allclose(y, expected)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [("round_prefer_floor", [0, 0, 1]), ("round_prefer_ceil", [0, 1, 2]), ("floor", [0, 0, 1]), ("ceil", [0, 1, 2])],
)
def test_nearest_rounds_halves_as_told(rounding, expected):
    x = row(0, 1, 2)
    y = resize(x, None, scales(1.999999), nearest_mode=rounding, coordinate_transformation_mode="asymmetric")
    np.testing.assert_array_equal(y[[0, 1, 3]], expected)


def test_a_scale_of_a_third_means_every_third():
    x = np.arange(30.0)
    y = resize(x, None, scales(1 / 3), nearest_mode="floor", coordinate_transformation_mode="asymmetric")
    np.testing.assert_array_equal(y, x[::3])
    assert resize(x, None, scales(0.7)).shape == (21,)


def test_cubic_reproduces_a_parabola_inside():
    """Keys' kernel with a = -1/2 is exact for quadratics away from the edges."""
    x = np.arange(12.0) ** 2
    y = resize(x, None, scales(2), mode="cubic", cubic_coeff_a=-0.5)
    positions = (np.arange(24) + 0.5) / 2 - 0.5
    np.testing.assert_allclose(y[6:-6], positions[6:-6] ** 2, rtol=1e-12)


def test_antialias_averages_what_it_drops():
    x = np.tile(row(0, 1), 8)
    plain = resize(x, None, scales(0.25), mode="linear", coordinate_transformation_mode="asymmetric")
    smooth = resize(x, None, scales(0.25), mode="linear", antialias=1)
    np.testing.assert_array_equal(plain, 0)
    np.testing.assert_allclose(smooth[1:-1], 0.5)
    same = resize(x, None, scales(2), mode="linear", antialias=1)
    np.testing.assert_allclose(same, resize(x, None, scales(2), mode="linear"))


def test_exclude_outside_keeps_weights_summing_to_one():
    for mode in ("linear", "cubic"):
        y = resize(np.ones((1, 5)), None, scales(1, 2.3), mode=mode, exclude_outside=1)
        np.testing.assert_allclose(y, 1)


def test_crop_and_resize():
    y = resize(
        np.arange(5.0), row(0.25, 1.25), None, np.array([5]), mode="linear", extrapolation_value=-1.0,
        coordinate_transformation_mode="tf_crop_and_resize",
    )  # fmt: skip
    np.testing.assert_allclose(y, [1, 2, 3, 4, -1])


def test_aspect_ratio_policies():
    x = np.zeros((3, 10, 20))
    sizes, axes = np.array([15, 25]), (1, 2)
    assert resize(x, None, None, sizes, axes=axes).shape == (3, 15, 25)
    assert resize(x, None, None, sizes, axes=axes, keep_aspect_ratio_policy="not_larger").shape == (3, 13, 25)
    assert resize(x, None, None, sizes, axes=axes, keep_aspect_ratio_policy="not_smaller").shape == (3, 15, 30)


def test_integers_are_rounded_and_any_type_can_take_the_nearest():
    y = resize(np.array([0, 255], np.uint8), None, scales(2), mode="linear")
    np.testing.assert_array_equal(y, np.array([0, 64, 191, 255], np.uint8))
    words = np.array(["a", "b"], object)
    assert resize(words, None, scales(2)).tolist() == ["a", "a", "b", "b"]
    cubic = resize(np.array([0, 0, 255, 255], np.uint8), None, scales(2), mode="cubic")
    assert cubic.min() == 0 and cubic.max() == 255  # overshoot saturates


def test_older_versions():
    x = np.arange(6.0).reshape(1, 1, 2, 3)
    doubled = x.repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_array_equal(resize_10(x, scales(1, 1, 2, 2)), doubled)
    np.testing.assert_array_equal(upsample(x, scales(1, 1, 2, 2)), doubled)
    np.testing.assert_array_equal(upsample_7(x, scales=(1.0, 1.0, 2.0, 2.0)), doubled)
    np.testing.assert_array_equal(upsample_1(x, height_scale=2.0, width_scale=2.0), doubled)
    smooth = upsample(row(0, 2), scales(2), mode="linear")
    np.testing.assert_allclose(smooth, [0, 1, 2, 2])


def test_the_adjoint_of_a_long_axis_needs_no_matrix():
    n = 3000
    ct = np.random.default_rng(0).normal(size=2 * n)
    attributes = {
        "antialias": 0, "axes": None, "coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.75,
        "exclude_outside": 0, "keep_aspect_ratio_policy": "stretch", "mode": "linear", "nearest_mode": "floor",
    }  # fmt: skip
    back = resize.derived("vjp[x]").function(ct, np.zeros(n), None, scales(2), None, **attributes)
    v = np.random.default_rng(1).normal(size=n)
    np.testing.assert_allclose(np.vdot(back, v), np.vdot(ct, resize(v, None, scales(2), mode="linear")), rtol=1e-10)


def test_resized_types():
    x = TensorType("float32", ("n", 3, 4, "w"))
    (y,) = resize.infer_types([x, None, TensorType("float32", (4,))], {}, [None, None, scales(1, 1, 2.5, 2)])
    assert y.shape == ("n", 3, 10, None)
    (y,) = resize.infer_types([x, None, None, TensorType("int64", (2,))], {"axes": (2, 3)}, [None, None, None, None])
    assert y.shape == ("n", 3, None, None)
    (y,) = resize.infer_types(
        [x, None, None, TensorType("int64", (2,))], {"axes": (2, 3)}, [None] * 3 + [np.array([7, 8])]
    )
    assert y.shape == ("n", 3, 7, 8)


@pytest.mark.parametrize(
    ("arguments", "attributes", "message"),
    [
        ((None, scales(2), np.array([4])), {}, "exactly one of scales and sizes"),
        ((None, None, None), {}, "exactly one of scales and sizes"),
        ((None, scales(2, 2)), {}, "2 scales or sizes for 1 axes"),
        ((None, scales(0)), {}, "must be positive"),
        ((None, scales(2)), {"mode": "sinc"}, "mode 'sinc' is unknown"),
        ((None, scales(2)), {"coordinate_transformation_mode": "half"}, "'half' is unknown"),
        ((None, scales(2)), {"coordinate_transformation_mode": "tf_crop_and_resize"}, "needs a roi of 2"),
    ],
)
def test_resize_says_what_does_not_fit(arguments, attributes, message):
    with pytest.raises(ValueError, match=message):
        resize(row(1, 2), *arguments, **attributes)


# ---- GridSample, AffineGrid --------------------------------------------------------------------------------


@pytest.mark.parametrize("align", [0, 1])
def test_the_identity_map_gives_the_image_back(align):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    theta = np.tile(np.eye(2, 3), (2, 1, 1))
    grid = affine_grid(theta, np.array(x.shape), align_corners=align)
    for mode in ("nearest", "linear", "cubic"):
        np.testing.assert_allclose(grid_sample(x, grid, mode=mode, align_corners=align), x, atol=1e-12)
    volume = np.random.default_rng(1).normal(size=(1, 2, 3, 4, 2))
    grid = affine_grid(np.eye(3, 4)[None], np.array(volume.shape), align_corners=align)
    np.testing.assert_allclose(grid_sample(volume, grid, align_corners=align), volume, atol=1e-12)


def test_a_shift_by_one_pixel():
    x = np.arange(1.0, 5).reshape(1, 1, 1, 4)
    theta = np.array([[[1, 0, 0.5], [0, 1, 0]]])  # half of the width 2 is one pixel of four
    grid = affine_grid(theta, np.array(x.shape))
    for padding, last in (("zeros", 0), ("border", 4), ("reflection", 4)):
        np.testing.assert_allclose(grid_sample(x, grid, padding_mode=padding)[0, 0, 0], [2, 3, 4, last])


def test_reflection_goes_on_till_it_is_inside():
    x = np.arange(3.0).reshape(1, 1, 3)
    positions = np.arange(-7.0, 8)

    def sampled(align):
        grid = positions - 1 if align else (positions + 0.5) * 2 / 3 - 1
        return grid_sample(x, grid.reshape(1, -1, 1), padding_mode="reflection", align_corners=align)[0, 0]

    np.testing.assert_allclose(sampled(1), [abs((p + 2) % 4 - 2) for p in positions])
    np.testing.assert_allclose(sampled(0), [min(p % 6, 5 - p % 6) for p in positions], atol=1e-12)


def test_positions_that_are_no_numbers_or_far_away_count_as_outside():
    grid = np.array([np.nan, np.inf, -np.inf, 1e30, 0.0]).reshape(1, 5, 1)
    y = grid_sample(np.ones((1, 1, 3)), grid)
    np.testing.assert_array_equal(y[0, 0], [0, 0, 0, 0, 1])


def test_grid_sample_checks_its_grid():
    with pytest.raises(ValueError, match="3 coordinates for 2 spatial axes"):
        grid_sample(np.zeros((1, 1, 4, 4)), np.zeros((1, 2, 2, 3)))
    with pytest.raises(ValueError, match="padding_mode 'wrap'"):
        grid_sample(np.zeros((1, 1, 4)), np.zeros((1, 2, 1)), padding_mode="wrap")
