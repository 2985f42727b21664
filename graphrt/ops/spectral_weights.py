"""Constants of signal processing: HannWindow, HammingWindow, BlackmanWindow, MelWeightMatrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Array, Op, op
from graphrt.ops._element_types import dtype_of_code, name_of_code
from graphrt.types import TensorType

# ---- windows ---------------------------------------------------------------------------------------------------


def _length(size: Array) -> int:
    n = int(size.reshape(()).item())
    if n < 0:
        raise ValueError(f"size {n} should be 0 or more")
    return n


def _cosines(size: Array, weights: tuple[float, ...], periodic: int, output_datatype: int) -> Array:
    """The sum of weights[k] cos(2 pi k j / N), N = size if periodic, else size - 1, worked out in float64."""
    n = _length(size)
    period = n if periodic else n - 1
    if period < 1:  # one symmetric point is the middle of the window
        return np.ones(n, dtype_of_code(output_datatype))
    # The second half mirrors the first: so the angles stay small, and symmetric points are equal bit by bit.
    j = np.arange(n)
    angles = (2 * np.pi / period) * np.minimum(j, period - j)
    total: Any = sum(w * np.cos(k * angles) for k, w in enumerate(weights))
    return np.maximum(total, 0).astype(dtype_of_code(output_datatype))


def _declare(window: Op) -> Op:
    @window.infer
    def _(size_value: Array, output_datatype: int) -> TensorType:
        return TensorType(name_of_code(output_datatype), (None if size_value is None else _length(size_value),))

    @window.examples
    def _(rng: np.random.Generator) -> Iterator[Any]:
        yield (np.array(8),), {}
        yield (np.array([7], np.int32),), {"periodic": 0, "output_datatype": 11}
        for n in (0, 1, 2):
            yield (np.array(n),), {"output_datatype": 10}
            yield (np.array(n),), {"periodic": 0}

    return window


@_declare
@op("HannWindow", version=17, outputs="output", nondiff=True)
def hann_window(size: Array, *, output_datatype: int = 1, periodic: int = 1) -> Array:
    """The Hann window.  size: int [], n -> output: [n], the type of code ``output_datatype``.

    Value: 0.5 - 0.5 cos(2 pi j / N), with N = n, or n - 1 unless ``periodic`` (a single point is then 1).
    Constant: no derivative.  Source: ONNX operator spec.
    """
    return _cosines(size, (0.5, -0.5), periodic, output_datatype)


@_declare
@op("HammingWindow", version=17, outputs="output", nondiff=True)
def hamming_window(size: Array, *, output_datatype: int = 1, periodic: int = 1) -> Array:
    """The Hamming window.  size: int [], n -> output: [n], the type of code ``output_datatype``.

    Value: 25/46 - 21/46 cos(2 pi j / N), N as for HannWindow.  Constant: no derivative.
    Source: ONNX operator spec.
    """
    return _cosines(size, (25 / 46, -21 / 46), periodic, output_datatype)


@_declare
@op("BlackmanWindow", version=17, outputs="output", nondiff=True)
def blackman_window(size: Array, *, output_datatype: int = 1, periodic: int = 1) -> Array:
    """The Blackman window.  size: int [], n -> output: [n], the type of code ``output_datatype``.

    Value: 0.42 - 0.5 cos(2 pi j / N) + 0.08 cos(4 pi j / N), N as for HannWindow.  Constant: no derivative.
    Source: ONNX operator spec.
    """
    return _cosines(size, (0.42, -0.5, 0.08), periodic, output_datatype)


# ---- mel scale -------------------------------------------------------------------------------------------------


@op("MelWeightMatrix", version=17, outputs="output", nondiff=True)
def mel_weight_matrix(
    num_mel_bins: Array, dft_length: Array, sample_rate: Array, lower_edge_hertz: Array, upper_edge_hertz: Array, *,
    output_datatype: int = 1,
) -> Array:  # fmt: skip
    """Triangular filters, evenly spaced on the mel scale, that turn a linear spectrum into a mel spectrum.

    num_mel_bins M, dft_length L, sample_rate: int []; lower_edge_hertz, upper_edge_hertz: float []
    -> output: [L // 2 + 1, M], the type of code ``output_datatype``.
    Column m rises from 0 at edge m to 1 at edge m + 1 and falls to 0 at edge m + 2. The edges divide the range
    into M + 2 equal steps of mel(f) = 2595 log10(1 + f / 700); frequency f lies in bin floor((L + 1) f / sample_rate).
    Constant: no derivative.  Source: ONNX operator spec.
    """
    bins, length, rate = (int(x.reshape(()).item()) for x in (num_mel_bins, dft_length, sample_rate))
    low, high = (2595 * np.log10(1 + float(x.reshape(()).item()) / 700) for x in (lower_edge_hertz, upper_edge_hertz))
    mels = low + np.arange(bins + 2) * ((high - low) / (bins + 2))
    hertz = 700 * (10 ** (mels / 2595) - 1)
    edges = np.floor((length + 1) * hertz / rate)
    left, peak, right = edges[:-2], edges[1:-1], edges[2:]
    at = np.arange(length // 2 + 1)[:, None]
    rise = (at - left) / np.maximum(peak - left, 1)
    fall = (right - at) / np.maximum(right - peak, 1)
    weights = np.where(at == peak, 1, np.clip(np.minimum(rise, fall), 0, None))
    return weights.astype(dtype_of_code(output_datatype))


@mel_weight_matrix.infer
def _(num_mel_bins_value: Array, dft_length_value: Array, output_datatype: int) -> TensorType:
    rows = None if dft_length_value is None else int(dft_length_value.reshape(()).item()) // 2 + 1
    columns = None if num_mel_bins_value is None else int(num_mel_bins_value.reshape(()).item())
    return TensorType(name_of_code(output_datatype), (rows, columns))


@mel_weight_matrix.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array(8), np.array(16), np.array(8192), np.array(0.0), np.array(4096.0)), {}
    for bins, length in ((4, 65), (1, 7), (0, 8)):
        edges = np.array(100.0, np.float32), np.array([3000.0], np.float32)
        yield (np.array([bins], np.int32), np.array(length), np.array(8000), *edges), {"output_datatype": 11}


OPS = (hann_window, hamming_window, blackman_window, mel_weight_matrix)
