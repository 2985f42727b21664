"""Fourier transforms: DFT and STFT.

Complex numbers are pairs on the last axis: size 2, or size 1 for real ones. The transforms are linear, so their
derivatives are their adjoints, which are unscaled transforms with the sign of the exponent turned around.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, op
from graphrt.ops._axes import normalize_axis, zeros
from graphrt.ops._math import quiet
from graphrt.ops._reduced import widen
from graphrt.types import Dim, TensorType

# ---- complex numbers as pairs ------------------------------------------------------------------------------


def _as_complex(x: Array) -> Array:
    """[..., 2] -> complex [...]; [..., 1] -> real [...]; 16-bit floats as float32."""
    if x.ndim == 0 or x.shape[-1] not in (1, 2):
        raise ValueError(f"the last axis of a signal {x.shape} holds a real number (size 1) or a complex one (size 2)")
    wide = widen(x)
    return wide[..., 0] if x.shape[-1] == 1 else wide[..., 0] + 1j * wide[..., 1]


def _as_pairs(z: Array, size: int, dtype: Any) -> Array:
    """The inverse of `_as_complex`; with size 1 the imaginary part is dropped."""
    parts = (np.real(z), np.imag(z))[:size]
    return np.stack(parts, axis=-1).astype(dtype, copy=False)


def _scalar(x: Array) -> int:
    return int(x.reshape(()).item())


def _signal_axis(axis: int, rank: int) -> int:
    at = normalize_axis(axis, rank)
    if at == rank - 1:
        raise ValueError(f"axis {axis} of a signal of rank {rank} holds the complex numbers; choose another")
    return at


def _fitted(z: Array, n: int, axis: int) -> Array:
    """Cut or padded with zeros to length n along an axis."""
    have = z.shape[axis]
    before = (slice(None),) * axis
    if n <= have:
        return z[(*before, slice(n))]
    padding = np.zeros((*z.shape[:axis], n - have, *z.shape[axis + 1 :]), z.dtype)
    return np.concatenate([z, padding], axis=axis)


# ---- DFT -----------------------------------------------------------------------------------------------------


def _length(size: int, dft_length: Array | None, inverse: int, onesided: int) -> int:
    if dft_length is not None:
        return _scalar(dft_length)
    return 2 * (size - 1) if inverse and onesided else size


def _dft(input: Array, dft_length: Array | None, axis: int, inverse: int, onesided: int) -> Array:
    at = _signal_axis(axis, input.ndim)
    n = _length(input.shape[at], dft_length, inverse, onesided)
    if onesided and not inverse and input.shape[-1] == 2:
        raise ValueError("a one-sided spectrum is that of a real signal [..., 1]; this one is complex [..., 2]")
    z = _as_complex(input)
    transform = _TRANSFORMS[bool(inverse), bool(onesided)]
    with quiet():
        return _as_pairs(transform(z, n, at), 1 if inverse and onesided else 2, input.dtype)


_TRANSFORMS: dict[tuple[bool, bool], Any] = {
    (False, False): np.fft.fft, (False, True): np.fft.rfft, (True, False): np.fft.ifft, (True, True): np.fft.irfft,
}  # fmt: skip


def _dft_adjoint(
    ct: Array, input_like: Array, dft_length: Array | None, axis: int, inverse: int, onesided: int
) -> Array:
    at = _signal_axis(axis, input_like.ndim)
    have = input_like.shape[at]
    n = _length(have, dft_length, inverse, onesided)
    z = _as_complex(ct)
    with quiet():
        if inverse and onesided:
            back = np.fft.rfft(z, n, at, norm="forward") * _half_weights(n, z, z.ndim - at)
        elif inverse:
            back = np.fft.fft(z, n, at, norm="forward")
        else:
            back = np.fft.ifft(z, n, at, norm="forward")  # pads a half spectrum with the zeros that were cut off
        return _as_pairs(_fitted(back, have, at), input_like.shape[-1], input_like.dtype)


def _half_weights(n: int, z: Array, trailing: int) -> Array:
    """How often the real inverse uses each entry of the half spectrum: twice, but the first and the middle once."""
    k = np.arange(n // 2 + 1)
    weights = np.where((k == 0) | (2 * k == n), 1, 2).astype(z.dtype)
    return weights.reshape((-1,) + (1,) * (trailing - 1))


@op("DFT", version=20, outputs="output", linear="input", nondiff=("dft_length", "axis"))
def dft(input: Array, dft_length: Array = None, axis: Array = None, *, inverse: int = 0, onesided: int = 0) -> Array:
    """Discrete Fourier transform along one axis.

    input: float [..., n, ..., 1 or 2], real or complex as pairs; dft_length: int [], N, to which the axis is cut or
    padded with zeros (default n); axis: int [] (default -2) -> output: the dtype of input, [..., N, ..., 2].
    y[k] = sum x[j] exp(-2 pi i j k / N); ``inverse``: exp(+...) / N. ``onesided``: of a real input the N // 2 + 1
    entries that determine the rest; with ``inverse`` from those the real signal [..., 1] (default N = 2 (n - 1)).
    Derivative: the adjoint. Raises ValueError for a one-sided transform of complex input.
    Source: ONNX operator spec.
    """
    return _dft(input, dft_length, -2 if axis is None else _scalar(axis), inverse, onesided)


@dft.vjp("input")
def _(ct: Array, input_like: Array, dft_length: Array, axis: Array, inverse: int, onesided: int) -> Array:
    return _dft_adjoint(ct, input_like, dft_length, -2 if axis is None else _scalar(axis), inverse, onesided)


@dft.infer
def _(
    input: TensorType, axis: TensorType | None, dft_length: TensorType | None, dft_length_value: Array,
    axis_value: Array, inverse: int, onesided: int,
) -> TensorType:  # fmt: skip
    if axis is not None and axis_value is None:
        rank = None if input.shape is None else len(input.shape)
        last = 1 if inverse and onesided else 2
        return TensorType(input.dtype, None if rank is None else (*(None,) * (rank - 1), last))
    at = -2 if axis_value is None else _scalar(axis_value)
    return _infer_dft(input, at, dft_length is not None, dft_length_value, inverse, onesided)


def _infer_dft(
    input: TensorType, axis: int, has_length: bool, dft_length_value: Array, inverse: int, onesided: int
) -> TensorType:
    if input.shape is None:
        return TensorType(input.dtype)
    at = _signal_axis(axis, len(input.shape))
    if onesided and not inverse and input.shape[-1] == 2:
        raise ValueError("a one-sided spectrum is that of a real signal [..., 1]; this one is complex [..., 2]")
    size, n = input.shape[at], None  # type: Dim, Dim
    if dft_length_value is not None:
        n = _scalar(dft_length_value)
    elif not has_length:
        n = size if not (inverse and onesided) else 2 * (size - 1) if isinstance(size, int) else None
    if onesided and not inverse:
        n = n // 2 + 1 if isinstance(n, int) else None
    last = 1 if inverse and onesided else 2
    return TensorType(input.dtype, (*input.shape[:at], n, *input.shape[at + 1 : -1], last))


@dft.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    real, pairs = rng.normal(size=(2, 5, 1)), rng.normal(size=(2, 4, 2))
    for attributes in ({}, {"inverse": 1}):
        yield (real,), attributes
        yield (pairs, None, np.array(0)), attributes
        yield (pairs, np.array(6)), attributes
        yield (rng.normal(size=(3, 2, 2, 2)), np.array([2]), np.array(-4)), attributes
    for length in (None, np.array(4), np.array(7)):
        yield (real, length), {"onesided": 1}
        yield (pairs, length), {"onesided": 1, "inverse": 1}
    yield (real, np.array(8)), {"onesided": 1, "inverse": 1}
    yield (rng.normal(size=(0, 3, 1)),), {}


@op("DFT", version=17, outputs="output", linear="input", nondiff="dft_length")
def dft_17(input: Array, dft_length: Array = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0) -> Array:
    """As DFT of opset 20, the axis being an attribute. Source: ONNX operator spec."""
    return _dft(input, dft_length, axis, inverse, onesided)


@dft_17.vjp("input")
def _(ct: Array, input_like: Array, dft_length: Array, axis: int, inverse: int, onesided: int) -> Array:
    return _dft_adjoint(ct, input_like, dft_length, axis, inverse, onesided)


@dft_17.infer
def _(
    input: TensorType, dft_length: TensorType | None, dft_length_value: Array, axis: int, inverse: int, onesided: int
) -> TensorType:
    return _infer_dft(input, axis, dft_length is not None, dft_length_value, inverse, onesided)


@dft_17.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 5, 1)),), {}
    yield (rng.normal(size=(2, 5, 2)), np.array(4)), {"axis": -3, "inverse": 1}
    yield (rng.normal(size=(2, 5, 1)), np.array(8)), {"onesided": 1}
    yield (rng.normal(size=(2, 5, 2)),), {"onesided": 1, "inverse": 1}


# ---- STFT ----------------------------------------------------------------------------------------------------


def _frame_length(signal: Array, window: Array | None, frame_length: Array | None) -> int:
    n = None if frame_length is None else _scalar(frame_length)
    if window is not None:
        if window.ndim != 1 or n not in (None, window.shape[0]):
            wanted = "" if n is None else f" of length {n}, which is frame_length"
            raise ValueError(f"window {window.shape} should have one axis{wanted}")
        n = window.shape[0]
    return signal.shape[1] if n is None else n


def _paired(signal: Array) -> Array:
    """The signal [batch, length, 1 or 2]; PyTorch's exporter leaves the last axis of a real one out."""
    return signal[..., None] if signal.ndim == 2 else signal


def _check_signal(signal: Array, onesided: int) -> None:
    if signal.ndim != 3:
        raise ValueError(f"signal {signal.shape} is [batch, length, 1 or 2]")
    if onesided and signal.shape[2] == 2:
        raise ValueError("a one-sided spectrum is that of a real signal [..., 1]; set onesided=0 for a complex one")


def _frames(signal: Array, step: int, n: int) -> Array:
    """Real or complex [batch, frames, n]: overlapping pieces of the signal, without a copy where possible."""
    if step < 1:
        raise ValueError(f"frame_step {step} should be positive")
    if not 1 <= n <= signal.shape[1]:
        raise ValueError(f"frames of length {n} do not fit a signal of length {signal.shape[1]}")
    return np.lib.stride_tricks.sliding_window_view(_as_complex(signal), n, axis=1)[:, ::step]


def _overlap_add(frames: Array, step: int, length: int) -> Array:
    """The adjoint of `_frames`: [batch, frames, n] -> [batch, length], adding up where frames overlap."""
    batch, count, n = frames.shape
    pieces = -(-n // step)  # of a frame, one step long each; the loop runs over them, not over frames
    split = _fitted(frames, pieces * step, 2).reshape(batch, count, pieces, step)
    total = zeros((batch, count + pieces - 1, step), frames)
    for j in range(pieces):
        total[:, j : j + count] += split[:, :, j]
    return _fitted(total.reshape(batch, (count + pieces - 1) * step), length, 1)


def _transformed(frames: Array, n: int, onesided: int, dtype: Any) -> Array:
    with quiet():
        return _as_pairs((np.fft.rfft if onesided else np.fft.fft)(frames, n, 2), 2, dtype)


def _frames_adjoint(ct: Array, n: int) -> Array:
    with quiet():
        return np.fft.ifft(_as_complex(ct), n, 2, norm="forward")


@op("STFT", version=17, outputs="output", linear=("signal", "window"), nondiff=("frame_step", "frame_length"))
def stft(
    signal: Array, frame_step: Array, window: Array = None, frame_length: Array = None, *, onesided: int = 1
) -> Array:
    """Short-time Fourier transform: the DFT of each windowed frame.

    signal: float [batch, L, 1 or 2], real or complex as pairs; [batch, L] is real too (not in the specification, but
    written by PyTorch and run by ONNX Runtime); frame_step: int []; window: float [n] (default ones);
    frame_length: int [], n (default that of the window, else L) -> output: [batch, (L - n) // frame_step + 1, K, 2],
    K = n // 2 + 1 if ``onesided`` else n.
    y[b, f, k] = sum_j window[j] signal[b, f frame_step + j] exp(-2 pi i j k / n).
    Linear in the signal (derivative: adjoint DFT, window, overlap and add) and in the window. Raises ValueError for
    a one-sided transform of a complex signal and for frames that do not fit. Source: ONNX operator spec.
    """
    signal = _paired(signal)
    _check_signal(signal, onesided)
    n = _frame_length(signal, window, frame_length)
    frames = _frames(signal, _scalar(frame_step), n)
    return _transformed(frames if window is None else frames * widen(window), n, onesided, signal.dtype)


@stft.vjp("signal")
def _(ct: Array, signal_like: Array, frame_step: Array, window: Array, frame_length: Array) -> Array:
    paired = _paired(signal_like)
    n = _frame_length(paired, window, frame_length)
    back = _frames_adjoint(ct, n)
    back = back if window is None else back * widen(window)
    back = np.real(back) if paired.shape[2] == 1 else back
    total = _overlap_add(back, _scalar(frame_step), paired.shape[1])
    return _as_pairs(total, paired.shape[2], paired.dtype).reshape(signal_like.shape)


@stft.vjp("window")
def _(ct: Array, signal: Array, frame_step: Array, window_like: Array) -> Array:
    n, signal = window_like.shape[0], _paired(signal)
    frames, back = _frames(signal, _scalar(frame_step), n), _frames_adjoint(ct, n)
    products = np.real(back) * np.real(frames)
    if signal.shape[2] == 2:
        products = products + np.imag(back) * np.imag(frames)
    return np.sum(products, axis=(0, 1)).astype(window_like.dtype, copy=False)


@stft.infer
def _(
    signal: TensorType, frame_step_value: Array, window: TensorType | None, frame_length: TensorType | None,
    frame_length_value: Array, onesided: int,
) -> TensorType:  # fmt: skip
    batch, length, pair = (*(signal.shape or (None, None, None)), 1)[:3]
    if onesided and pair == 2:
        raise ValueError("a one-sided spectrum is that of a real signal [..., 1]; set onesided=0 for a complex one")
    n: Dim = None
    if frame_length_value is not None:
        n = _scalar(frame_length_value)
    elif window is not None:
        n = None if window.shape is None else window.shape[0]
    elif frame_length is None:
        n = length
    frames: Dim = None
    if n == length and n is not None:
        frames = 1
    elif isinstance(n, int) and isinstance(length, int) and frame_step_value is not None:
        frames = (length - n) // _scalar(frame_step_value) + 1
    bins = n if not onesided else n // 2 + 1 if isinstance(n, int) else None
    return TensorType(signal.dtype, (batch, frames, bins, 2))


@stft.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    real, pairs, window = rng.normal(size=(2, 11, 1)), rng.normal(size=(2, 11, 2)), rng.uniform(0.1, 1, 4)
    for onesided in (0, 1):
        yield (real, np.array(2), window), {"onesided": onesided}
        yield (real, np.array(3), None, np.array(5)), {"onesided": onesided}
    yield (pairs, np.array([2]), rng.uniform(0.1, 1, 5), np.array(5)), {"onesided": 0}
    yield (pairs, np.array(6), window), {"onesided": 0}
    yield (real, np.array(1)), {}
    yield (rng.normal(size=(0, 6, 1)), np.array(2), window), {}
    yield (rng.normal(size=(2, 7)), np.array(2), window), {}


OPS = (dft, dft_17, stft)
