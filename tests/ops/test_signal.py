"""Fourier transforms and their weights against the defining sums."""

import numpy as np
import pytest

from graphrt.errors import TypeInferenceError
from graphrt.ops.signal import dft, dft_17, stft
from graphrt.ops.spectral_weights import blackman_window, hamming_window, hann_window, mel_weight_matrix
from graphrt.types import TensorType

FLOAT64, INT32 = 11, 6


def pairs(z):
    return np.stack([z.real, z.imag], -1)


def matrix(n, inverse=False):
    """The matrix of the transform of length n."""
    k = np.arange(n)
    angle = 2j * np.pi * np.outer(k, k) / n
    return np.exp(angle) / n if inverse else np.exp(-angle)


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("inverse", [0, 1])
def test_dft_is_the_defining_sum(inverse):
    z = draw(3, 6, 2) @ np.array([1, 1j])
    np.testing.assert_allclose(dft(pairs(z), inverse=inverse), pairs(z @ matrix(6, inverse)), atol=1e-12)
    along_0 = dft(pairs(z), None, np.array(0), inverse=inverse)
    np.testing.assert_allclose(along_0, pairs(matrix(3, inverse) @ z), atol=1e-12)
    np.testing.assert_allclose(dft_17(pairs(z), axis=0, inverse=inverse), along_0)


@pytest.mark.parametrize("length", [3, 5, 8])
def test_dft_length_cuts_or_pads(length):
    x = draw(2, 5)
    fitted = np.zeros((2, length))
    fitted[:, : min(5, length)] = x[:, :length]
    expected = pairs(fitted @ matrix(length))
    np.testing.assert_allclose(dft(x[..., None], np.array(length)), expected, atol=1e-12)
    half = dft(x[..., None], np.array(length), onesided=1)
    np.testing.assert_allclose(half, expected[:, : length // 2 + 1], atol=1e-12)
    back = dft(half, np.array(length), onesided=1, inverse=1)
    assert back.shape == (2, length, 1)
    np.testing.assert_allclose(back[..., 0], fitted, atol=1e-12)


def test_the_default_length_of_a_real_inverse_is_even():
    assert dft(draw(2, 4, 2), onesided=1, inverse=1).shape == (2, 6, 1)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_transforms_keep_the_dtype(dtype):
    x = draw(2, 8, 1).astype(dtype)
    assert dft(x).dtype == dtype
    assert stft(x, np.array(2), np.ones(4, dtype)).dtype == dtype


def test_dft_refuses_what_has_no_meaning():
    with pytest.raises(ValueError, match="one-sided spectrum is that of a real signal"):
        dft(draw(2, 4, 2), onesided=1)
    with pytest.raises(ValueError, match="holds the complex numbers"):
        dft(draw(2, 4, 2), None, np.array(-1))
    with pytest.raises(ValueError, match="axis 3 is out of range"):
        dft(draw(2, 4, 2), None, np.array(3))
    with pytest.raises(ValueError, match="real number"):
        dft(draw(2, 4, 3))


def test_dft_types():
    def infer(shape, length=None, axis=None, known=True, **attributes):
        scalar = TensorType("int64", ())
        types = [TensorType("float32", shape), *(None if v is None else scalar for v in (length, axis))]
        values = [None, *(None if v is None or not known else np.array(v) for v in (length, axis))]
        return dft.infer_types(types, attributes, values)[0].shape

    assert infer(("b", "n", 1)) == ("b", "n", 2)
    assert infer(("b", 9, 1), onesided=1) == ("b", 5, 2)
    assert infer(("b", 5, 2), onesided=1, inverse=1) == ("b", 8, 1)
    assert infer(("b", "n", 1), 6, 0) == (6, "n", 2)
    assert infer(("b", 4, 1), 6, 0, known=False) == (None, None, 2)
    assert infer(None) is None
    with pytest.raises(TypeInferenceError, match="one-sided"):
        infer(("b", 5, 2), onesided=1)


@pytest.mark.parametrize(("onesided", "size"), [(0, 1), (1, 1), (0, 2)])
@pytest.mark.parametrize("step", [1, 3, 7])
def test_stft_transforms_each_frame(onesided, size, step):
    x, window = draw(2, 13, size), draw(4, seed=1)
    z = x[..., 0] if size == 1 else x @ np.array([1, 1j])
    starts = range(0, 13 - 4 + 1, step)
    frames = np.stack([z[:, s : s + 4] * window for s in starts], 1)
    expected = pairs(frames @ matrix(4))[:, :, : 3 if onesided else 4]
    np.testing.assert_allclose(stft(x, np.array(step), window, onesided=onesided), expected, atol=1e-12)
    ones = stft(x, np.array(step), None, np.array(4), onesided=onesided)
    np.testing.assert_allclose(ones, stft(x, np.array(step), np.ones(4), onesided=onesided))


def test_stft_refuses_what_does_not_fit():
    x, step = draw(1, 8, 1), np.array(2)
    with pytest.raises(ValueError, match="length 4, which is frame_length"):
        stft(x, step, np.ones(3), np.array(4))
    with pytest.raises(ValueError, match="frames of length 9 do not fit a signal of length 8"):
        stft(x, step, np.ones(9))
    with pytest.raises(ValueError, match="frame_step 0 should be positive"):
        stft(x, np.array(0))
    with pytest.raises(ValueError, match="set onesided=0"):
        stft(draw(1, 8, 2), step)
    with pytest.raises(ValueError, match=r"is \[batch, length, 1 or 2\]"):
        stft(draw(8), step)


def test_stft_takes_a_real_signal_without_its_last_axis():
    x, step, window = draw(2, 9, 1), np.array(2), draw(4)
    np.testing.assert_array_equal(stft(x[..., 0], step, window), stft(x, step, window))


def test_stft_types():
    signal, scalar = TensorType("float32", ("b", 13, 1)), TensorType("int64", ())
    found = stft.infer_types([signal, scalar, TensorType("float32", (4,)), None], {}, [None, np.array(3), None, None])
    assert found == (TensorType("float32", ("b", 4, 3, 2)),)
    assert stft.infer_types([signal, scalar, None, None], {}) == (TensorType("float32", ("b", 1, 7, 2)),)
    assert stft.infer_types([signal, scalar, None, scalar], {}) == (TensorType("float32", ("b", None, None, 2)),)


# ---- windows and filters -------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 7, 64])
def test_symmetric_windows_are_those_of_numpy(size):
    given = {"periodic": 0, "output_datatype": FLOAT64}
    np.testing.assert_allclose(hann_window(np.array(size), **given), np.hanning(size), atol=1e-15)
    np.testing.assert_allclose(blackman_window(np.array(size), **given), np.maximum(np.blackman(size), 0), atol=1e-15)
    hamming = 25 / 46 - 21 / 46 * np.cos(2 * np.pi * np.arange(size) / (size - 1))
    np.testing.assert_allclose(hamming_window(np.array(size), **given), hamming, atol=1e-15)


@pytest.mark.parametrize("window", [hann_window, hamming_window, blackman_window])
def test_windows(window):
    longer = window(np.array(9), periodic=0, output_datatype=FLOAT64)
    np.testing.assert_array_equal(window(np.array(8), output_datatype=FLOAT64), longer[:-1])
    np.testing.assert_array_equal(longer, longer[::-1])
    assert longer.max() == longer[4] == pytest.approx(1, rel=1e-15)
    assert window(np.array(1), periodic=0).tolist() == [1]
    assert window(np.array(4), output_datatype=INT32).dtype == np.int32
    assert window.infer_types([TensorType("int64", ())], {}, [np.array(5)]) == (TensorType("float32", (5,)),)
    with pytest.raises(ValueError, match="size -1 should be 0 or more"):
        window(np.array(-1))


def test_mel_weights_are_triangles():
    edges = np.array(0, np.float32), np.array(4096, np.float32)
    weights = mel_weight_matrix(np.array(8), np.array(16), np.array(8192), *edges)
    assert (weights.shape, weights.dtype) == ((9, 8), np.float32)
    assert weights.max() == 1
    assert weights.min() == 0
    fine = mel_weight_matrix(np.array(5), np.array(4096), np.array(16000), np.array(100.0), np.array(7000.0))
    assert (fine.max(axis=0) == 1).all()
    peaks = fine.argmax(axis=0)
    assert (np.diff(peaks) > 0).all()
    for m in range(1, 4):  # each triangle starts and ends at its neighbors' peaks
        np.testing.assert_allclose(fine[peaks[m] : peaks[m + 1], m : m + 2].sum(axis=1), 1, atol=1e-6)
