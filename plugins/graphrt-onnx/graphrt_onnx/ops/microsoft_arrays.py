"""Array ops of com.microsoft: older twins of ONNX ops, transforms, distances, crops, hashes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.ops.arrange import trilu as onnx_trilu
from graphrt.ops.conv_transpose import conv_transpose
from graphrt.ops.generators import range_ as onnx_range
from graphrt.ops.grid_sample import grid_sample as onnx_grid_sample
from graphrt.ops.identity import identity
from graphrt.ops.indexing import gather
from graphrt.ops.indexing import gather_nd as onnx_gather_nd
from graphrt.ops.joining import concat
from graphrt.ops.linalg import matmul
from graphrt.ops.padding import pad as onnx_pad
from graphrt.ops.pooling import max_pool
from graphrt.ops.selection import where
from graphrt.ops.shape import expand, reshape
from graphrt.ops.signal import dft
from graphrt.ops.squeezing import squeeze, unsqueeze
from graphrt.ops.unique import unique as onnx_unique
from graphrt.plugin import Array, Dim, TensorType, broadcast_shapes
from graphrt_onnx.ops._compose import call, composed, plain, renamed
from graphrt_onnx.ops._microsoft import DOMAIN, ints, microsoft
from graphrt_onnx.ops._ml import string_array

trilu = renamed(onnx_trilu, "Trilu", DOMAIN)
gather_nd = renamed(onnx_gather_nd, "GatherND", DOMAIN)
grid_sample = renamed(onnx_grid_sample, "GridSample", DOMAIN)
sample_op = renamed(identity, "SampleOp", DOMAIN)


# ---- shapes and ranges ---------------------------------------------------------------------------------------


@microsoft("ExpandDims", linear="x", nondiff="axis")
def expand_dims(x: Array, axis: Array) -> Array:
    """Inserts a dimension of size 1.  x: any [...]; axis: int32 [] -> y: like x, one more dimension.

    Source: onnxruntime's contributed operators.
    """
    return np.expand_dims(x, int(axis.reshape(())))


@expand_dims.vjp("x")
def _(ct: Array, x_like: Array) -> Array:
    return ct.reshape(x_like.shape)


@expand_dims.infer
def _(x: TensorType, axis_value: Array | None) -> TensorType:
    if x.shape is None:
        return TensorType(x.dtype)
    shape: list[Dim] = list(x.shape)
    if axis_value is None:
        return TensorType(x.dtype, (None,) * (len(shape) + 1))
    at = int(axis_value.reshape(()))
    if not -len(shape) - 1 <= at <= len(shape):
        raise ValueError(f"axis {at} does not lie within {len(shape) + 1} dimensions")
    shape.insert(at % (len(shape) + 1), 1)
    return TensorType(x.dtype, tuple(shape))


@expand_dims.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for axis in (0, 1, -1, -2):
        yield (rng.normal(size=(2, 3)), np.array(axis, np.int32)), {}


@microsoft("Range", nondiff=True)
def range_(start: Array, limit: Array, delta: Array = None) -> Array:
    """start, start + delta, ... up to but not including limit.

    start, limit, delta: number [] or [1] (delta: 1 where absent) -> y: like start [N]. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    step = np.ones((), start.dtype) if delta is None else delta.reshape(())
    return onnx_range(start.reshape(()), limit.reshape(()), step)


range_.infer(lambda start: TensorType(start.dtype, (None,)))


@range_.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array(1), np.array([7]), np.array(2)), {}
    yield (np.array(1.0), np.array(4.0)), {}


@microsoft("Pad", outputs="output", nondiff="pads")
def pad(data: Array, pads: Array, value: Array = None, *, mode: str = "constant") -> Array:
    """Pads (or with negative numbers crops) each axis; see Pad of the default domain.

    data: float [...]; pads: int64 [2r] or [1, 2r], begins then ends; value: float [] or [1] -> output: float.
    Source: onnxruntime's contributed operators.
    """
    value = None if value is None else call(reshape, value, ints())
    return call(onnx_pad, data, np.reshape(pads, -1), value, mode=mode)


@pad.infer
def _(data: TensorType, pads_value: Array | None) -> TensorType:
    if data.shape is None:
        return TensorType(data.dtype)
    if pads_value is None:
        return TensorType(data.dtype, (None,) * len(data.shape))
    amounts = np.reshape(pads_value, (2, -1)).sum(axis=0).tolist()
    shape = [n if not a else n + a if isinstance(n, int) else None for n, a in zip(data.shape, amounts, strict=True)]
    return TensorType(data.dtype, tuple(shape))


@pad.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(2, 3))
    yield (x, np.array([0, 1, 1, 2]), np.array([0.5])), {}
    yield (x, np.array([[0, 1, 0, -1]])), {}
    yield (x, np.array([1, 1, 0, 2])), {"mode": "reflect"}


@microsoft("Unique", outputs=("y", "idx", "counts"), nondiff=True)
def unique(x: Array) -> tuple[Array, Array, Array]:
    """The distinct elements in the order they first occur, where each input stands among them, how often each occurs.

    x: any [N] -> y: like x [K]; idx: int64 [N]; counts: int64 [K]. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    y, _, inverse, counts = onnx_unique(x, sorted=0)
    return y, inverse, counts


@unique.infer
def _(x: TensorType) -> Any:
    size = x.shape[0] if x.shape else None
    return TensorType(x.dtype, (None,)), TensorType("int64", (size,)), TensorType("int64", (None,))


@unique.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([2.0, 1, 1, 3, 4, 3]),), {}
    yield (np.array([5, 5]),), {}


# ---- linear algebra ------------------------------------------------------------------------------------------


@microsoft("Inverse")
def inverse(x: Array) -> Array:
    """The inverse of each matrix.

    x: float [..., M, M] -> y: float [..., M, M]. dL/dx = -y^T ct y^T. A singular matrix raises.
    Source: onnxruntime's contributed operators.
    """
    wide = x.astype(np.float32) if x.dtype.itemsize < 4 else x
    return np.linalg.inv(wide).astype(x.dtype, copy=False)


@inverse.vjp("x")
def _(ct: Array, y: Array) -> Array:
    t = np.swapaxes(y, -1, -2)
    return -np.matmul(np.matmul(t, ct), t)


@inverse.jvp("x")
def _(x_dot: Array, y: Array) -> Array:
    return -np.matmul(np.matmul(y, x_dot), y)


inverse.infer(lambda x: x)


@inverse.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 3)) + 3 * np.eye(3),), {}


def _squares(a: Array, b: Array) -> Array:
    """|a_i - b_j|^2, added up in float64: the sum cancels where points are close."""
    a, b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
    return np.maximum(np.sum(a * a, 1)[:, None] + np.sum(b * b, 1) - 2 * np.matmul(a, b.T), 0)


def _check_metric(metric: str) -> None:
    if metric not in ("sqeuclidean", "euclidean"):
        raise ValueError(f"metric is 'sqeuclidean' or 'euclidean', not {metric!r}")


def _by_square(c: Array, metric: str) -> Array:
    """dc/d(c^2), or 1; 0 at distance 0."""
    if metric == "sqeuclidean":
        return np.ones_like(c)
    return np.where(c == 0, c.dtype.type(0), 1 / (2 * np.where(c == 0, c.dtype.type(1), c)))


@microsoft("CDist", outputs="c")
def cdist(a: Array, b: Array, *, metric: str = "sqeuclidean") -> Array:
    """The distance of each row of a to each row of b.

    a: float [M, N]; b: float [K, N] -> c: float [M, K]. metric: "sqeuclidean", |a_i - b_j|^2, or "euclidean", its
    root, whose derivative at distance 0 is taken as 0. Source: onnxruntime's contributed operators.
    """
    _check_metric(metric)
    squares = _squares(a, b)
    return (squares if metric == "sqeuclidean" else np.sqrt(squares)).astype(a.dtype, copy=False)


@cdist.vjp("a", "b")
def _(ct: Array, a: Array, b: Array, c: Array, metric: str) -> Any:
    ct = 2 * ct * _by_square(c, metric)
    a_ct = np.sum(ct, 1)[:, None] * a - np.matmul(ct, b)
    b_ct = np.sum(ct, 0)[:, None] * b - np.matmul(ct.T, a)
    return a_ct.astype(a.dtype, copy=False), b_ct.astype(b.dtype, copy=False)


@cdist.jvp("a", "b")
def _(a_dot: Array | None, b_dot: Array | None, a: Array, b: Array, c: Array, metric: str) -> Array:
    total: Any = 0
    if a_dot is not None:
        total = total + np.sum(a * a_dot, 1)[:, None] - np.matmul(a_dot, b.T)
    if b_dot is not None:
        total = total + np.sum(b * b_dot, 1) - np.matmul(a, b_dot.T)
    return (2 * total * _by_square(c, metric)).astype(c.dtype, copy=False)


@cdist.infer
def _(a: TensorType, b: TensorType) -> TensorType:
    rows = [t.shape[0] if t.shape is not None else None for t in (a, b)]
    return TensorType(a.dtype, tuple(rows))


@cdist.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    for metric in ("sqeuclidean", "euclidean"):
        yield (rng.normal(size=(3, 2)), rng.normal(size=(4, 2))), {"metric": metric}
        yield (np.zeros((0, 2)), rng.normal(size=(4, 2))), {"metric": metric}


# ---- Fourier transforms, complex products --------------------------------------------------------------------


def _check_fft(normalized: int, onesided: int, signal_ndim: int) -> None:
    if normalized or not onesided or signal_ndim != 1:
        raise ValueError("only onesided=1, normalized=0, signal_ndim=1 are supported")


@microsoft("Rfft")
def rfft(x: Array, *, normalized: int = 0, onesided: int = 1, signal_ndim: int = 1) -> Array:
    """The Fourier transform of real signals along the last axis.

    x: float [..., n] -> y: float [..., n/2 + 1, 2], real and imaginary parts.
    Source: onnxruntime's contributed operators.
    """
    _check_fft(normalized, onesided, signal_ndim)
    signal = call(unsqueeze, x, ints(-1))
    return call(dft, signal, None, np.array(-2), onesided=1)


@rfft.infer
def _(x: TensorType) -> TensorType:
    if x.shape is None:
        return TensorType(x.dtype)
    n = x.shape[-1]
    return TensorType(x.dtype, (*x.shape[:-1], n // 2 + 1 if isinstance(n, int) else None, 2))


@microsoft("Irfft")
def irfft(x: Array, *, normalized: int = 0, onesided: int = 1, signal_ndim: int) -> Array:
    """The real signals of even length n whose transform Rfft gives; divided by n.

    x: float [..., n/2 + 1, 2] -> y: float [..., n]. Source: onnxruntime's contributed operators.
    """
    _check_fft(normalized, onesided, signal_ndim)
    n = 2 * (x.shape[-2] - 1)
    return call(squeeze, call(dft, x, np.array(n), np.array(-2), inverse=1, onesided=1), ints(-1))


@irfft.infer
def _(x: TensorType) -> TensorType:
    if x.shape is None:
        return TensorType(x.dtype)
    n = x.shape[-2]
    return TensorType(x.dtype, (*x.shape[:-2], 2 * (n - 1) if isinstance(n, int) else None))


@rfft.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 6)),), {}


@irfft.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 4, 2)),), {"signal_ndim": 1}


def _complex_product(a: Any, b: Any, sign: float) -> Any:
    """(a0 + i a1) (b0 + sign i b1) with the pairs on the last axis."""
    a0, a1, b0, b1 = (call(gather, x, np.array([i]), axis=-1) for x in (a, b) for i in (0, 1))
    real = a0 * b0 - a1 * b1 * sign
    return call(concat, real, a1 * b0 + a0 * b1 * sign, axis=-1)


@microsoft("ComplexMul", outputs="c")
def complex_mul(a: Array, b: Array) -> Array:
    """The product of complex numbers, real and imaginary part on the last axis.

    a, b: float [..., 2], broadcast together -> c: float [..., 2]. Source: onnxruntime's contributed operators.
    """
    return _complex_product(a, b, 1.0)


@microsoft("ComplexMulConj", outputs="c")
def complex_mul_conj(a: Array, b: Array) -> Array:
    """The product of complex numbers with conjugates, a conj(b); real and imaginary part on the last axis.

    a, b: float [..., 2], broadcast together -> c: float [..., 2]. Source: onnxruntime's contributed operators.
    """
    return _complex_product(a, b, -1.0)


@complex_mul.infer
@complex_mul_conj.infer
def _(a: TensorType, b: TensorType) -> TensorType:
    return TensorType(a.dtype, broadcast_shapes((a.shape, b.shape)))


@complex_mul.examples
@complex_mul_conj.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 2)), rng.normal(size=(3, 2))), {}


# ---- images --------------------------------------------------------------------------------------------------


def _positions(rois: Any, size: int, crop: int, low: int, high: int) -> Any:
    """[R, crop]: pixel positions from the edges in columns low and high of the boxes; a single one is the middle."""
    t = np.linspace(0, 1, crop) if crop > 1 else np.array([0.5])
    weights = np.zeros((4, crop))
    weights[low], weights[high] = (1 - t) * (size - 1), t * (size - 1)
    return call(matmul, rois, weights.astype(rois.dtype))


@microsoft("CropAndResize", nondiff=("batch_indices", "crop_size"))
def crop_and_resize(
    x: Array, rois: Array, batch_indices: Array, crop_size: Array, *, extrapolation_value: float = 0.0,
    mode: str = "bilinear",
) -> Array:  # fmt: skip
    """Boxes cut out of images and resized to one size, corners aligned.

    x: float [N, C, H, W]; rois: float [R, 4], y1, x1, y2, x2 with 0 and 1 at the centers of the corner pixels;
    batch_indices: int32 [R]; crop_size: int32 [2] -> y: float [R, C, *crop_size]; positions outside of the image give
    extrapolation_value. mode: "bilinear" or "nearest". Source: onnxruntime's contributed operators; TensorFlow.
    """
    if mode not in ("bilinear", "nearest"):
        raise ValueError(f"mode is 'bilinear' or 'nearest', not {mode!r}")
    high, wide = (int(n) for n in crop_size)
    (_, _, h, w), r = x.shape, rois.shape[0]
    ys, xs = _positions(rois, h, high, 0, 2), _positions(rois, w, wide, 1, 3)

    def on_grid(v: Any, size: int, shape: tuple[int, ...]) -> Any:
        scaled = v * (2 / (size - 1)) - 1.0 if size > 1 else v * 0.0
        return call(expand, call(reshape, scaled, ints(*shape)), ints(r, high, wide, 1))

    grid = call(concat, on_grid(xs, w, (r, 1, wide, 1)), on_grid(ys, h, (r, high, 1, 1)), axis=-1)
    images = call(gather, x, batch_indices)
    y = call(
        onnx_grid_sample,
        images,
        grid,
        align_corners=1,
        mode="linear" if mode == "bilinear" else mode,
        padding_mode="border",
    )
    at_y, at_x = plain(ys), plain(xs)
    inside = ((at_y >= 0) & (at_y <= h - 1))[:, None, :, None] & ((at_x >= 0) & (at_x <= w - 1))[:, None, None, :]
    return call(where, inside, y, np.asarray(extrapolation_value, x.dtype))


@crop_and_resize.infer
def _(x: TensorType, rois: TensorType, crop_size_value: Array | None) -> TensorType:
    boxes = rois.shape[0] if rois.shape is not None else None
    channels = x.shape[1] if x.shape is not None else None
    size = (None, None) if crop_size_value is None else tuple(int(n) for n in crop_size_value)
    return TensorType(x.dtype, (boxes, channels, *size))


@crop_and_resize.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, which = rng.normal(size=(2, 2, 5, 6)), np.array([0, 1, 1], np.int32)
    rois = np.array([[0.11, 0.13, 0.83, 0.92], [0.21, 0.12, 1.33, 0.61], [0.93, 0.87, 0.04, 0.05]])
    yield (x, rois, which, np.array([3, 4], np.int32)), {"extrapolation_value": 2.0}
    yield (x, rois[:1], which[:1], np.array([1, 1], np.int32)), {}
    yield (x, rois, which, np.array([2, 2], np.int32)), {"mode": "nearest"}


@microsoft("ConvTransposeWithDynamicPads", nondiff="pads")
def conv_transpose_with_dynamic_pads(
    x: Array, w: Array, pads: Array = None, b: Array = None, *, auto_pad: str = "NOTSET",
    dilations: tuple[int, ...] | None = None, group: int = 1, kernel_shape: tuple[int, ...] | None = None,
    output_padding: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """ConvTranspose whose pads are an input.

    x: float [N, C, *S]; w: float [C, M/group, *K]; pads: int64 [2 n], begins then ends; b: float [M] -> y: float
    [N, M, *O]. Source: onnxruntime's contributed operators.
    """
    given = None if pads is None else tuple(int(p) for p in pads)
    return call(
        conv_transpose, x, w, b, auto_pad=auto_pad, dilations=dilations, group=group, kernel_shape=kernel_shape,
        output_padding=output_padding, pads=given, strides=strides,
    )  # fmt: skip


@conv_transpose_with_dynamic_pads.infer
def _(
    x: TensorType, w: TensorType, pads: TensorType | None, pads_value: Array | None, auto_pad: str,
    dilations: tuple[int, ...] | None, group: int, kernel_shape: tuple[int, ...] | None,
    output_padding: tuple[int, ...] | None, strides: tuple[int, ...] | None,
) -> Any:  # fmt: skip
    if pads is not None and pads_value is None:
        return TensorType(x.dtype, None if x.shape is None else (x.shape[0], *(None,) * (len(x.shape) - 1)))
    window = {"auto_pad": auto_pad, "dilations": dilations, "group": group, "kernel_shape": kernel_shape}
    window["pads"] = None if pads_value is None else tuple(int(p) for p in pads_value)
    return conv_transpose.infer_types([x, w], {**window, "output_padding": output_padding, "strides": strides})


@conv_transpose_with_dynamic_pads.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, w, b = rng.normal(size=(1, 2, 4, 3)), rng.normal(size=(2, 2, 3, 3)), rng.normal(size=2)
    yield (x, w, np.array([1, 1, 1, 1]), b), {"strides": (2, 2), "output_padding": (1, 1)}
    yield (x, w), {}


@microsoft("NhwcMaxPool", nondiff=True)
def nhwc_max_pool(
    x: Array, *, auto_pad: str = "NOTSET", ceil_mode: int = 0, dilations: tuple[int, ...] | None = None,
    kernel_shape: tuple[int, ...], pads: tuple[int, ...] | None = None, strides: tuple[int, ...] | None = None,
) -> Array:  # fmt: skip
    """MaxPool of 8-bit tensors with the channels last.

    x: int8 or uint8 [N, *S, C] -> y: like x, pooled. Windows as in MaxPool. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    y, *_ = max_pool(
        np.moveaxis(x, -1, 1), auto_pad=auto_pad, ceil_mode=ceil_mode, dilations=dilations, kernel_shape=kernel_shape,
        pads=pads, strides=strides, **({"n_outputs": 1} if "n_outputs" in max_pool.context else {}),
    )  # fmt: skip
    return np.moveaxis(y, 1, -1)


@nhwc_max_pool.infer
def _(
    x: TensorType, auto_pad: str, ceil_mode: int, dilations: tuple[int, ...] | None, kernel_shape: tuple[int, ...],
    pads: tuple[int, ...] | None, strides: tuple[int, ...] | None,
) -> TensorType:  # fmt: skip
    if x.shape is None:
        return TensorType(x.dtype)
    window = {"auto_pad": auto_pad, "ceil_mode": ceil_mode, "dilations": dilations, "kernel_shape": kernel_shape}
    first = TensorType(x.dtype, (x.shape[0], x.shape[-1], *x.shape[1:-1]))
    y = max_pool.infer_types([first], {**window, "pads": pads, "strides": strides})[0]
    shape = y.shape if isinstance(y, TensorType) else None
    return TensorType(x.dtype, None if shape is None else (shape[0], *shape[2:], shape[1]))


@nhwc_max_pool.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.integers(0, 256, (1, 4, 5, 2)).astype(np.uint8)
    yield (x,), {"kernel_shape": (2, 2)}
    yield (x,), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}


# ---- hashes and checks ---------------------------------------------------------------------------------------


def _rotated(x: Array, by: int) -> Array:
    return (x << np.uint32(by)) | (x >> np.uint32(32 - by))


def _hash(words: Array, seed: int) -> Array:
    """MurmurHash3_x86_32 of each row of 32-bit words: uint32 [..., W] -> [...]."""
    with np.errstate(over="ignore"):
        h = np.full(words.shape[:-1], seed, np.uint32)
        for i in range(words.shape[-1]):
            k = _rotated(words[..., i] * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
            h = _rotated(h ^ k, 13) * np.uint32(5) + np.uint32(0xE6546B64)
        return _finished(h, 4 * words.shape[-1])


def _finished(h: Array, length: int) -> Array:
    h = h ^ np.uint32(length)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


def _hash_text(text: str, seed: int) -> int:
    data = text.encode()
    whole = len(data) // 4 * 4
    h = np.full((), seed, np.uint32)
    with np.errstate(over="ignore"):
        for k in np.frombuffer(data[:whole], "<u4"):
            k = _rotated(k * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593)
            h = _rotated(h ^ k, 13) * np.uint32(5) + np.uint32(0xE6546B64)
        rest = np.uint32(int.from_bytes(data[whole:], "little"))
        h = h ^ (_rotated(rest * np.uint32(0xCC9E2D51), 15) * np.uint32(0x1B873593))
        return int(_finished(h, len(data)))


@microsoft("MurmurHash3", nondiff=True)
def murmur_hash3(x: Array, *, positive: int = 1, seed: int = 0) -> Array:
    """The 32-bit MurmurHash3 of each element's bytes (of a string its UTF-8 bytes).

    x: 32- or 64-bit number or string [...] -> y: uint32 [...], or int32 where ``positive`` is 0. Not differentiable.
    Source: onnxruntime's contributed operators; Appleby, MurmurHash3_x86_32.
    """
    if x.dtype.kind == "O":
        flat = [_hash_text(t, seed) for t in np.ravel(x).tolist()]
        y = np.array(flat, np.uint32).reshape(x.shape)
    else:
        little = np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<"), copy=False).reshape(*x.shape, 1)
        y = _hash(little.view("<u4").astype(np.uint32), seed)
    y = np.asarray(y)
    return y if positive else y.view(np.int32)


@murmur_hash3.infer
def _(x: TensorType, positive: int) -> TensorType:
    return TensorType("uint32" if positive else "int32", x.shape)


@murmur_hash3.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (np.array([3, 4], np.int32),), {}
    yield (np.array([[3, 4]]),), {"positive": 0, "seed": 5}
    yield (string_array(["abc", "hello world", ""]),), {}


@microsoft("IsAllFinite", outputs="output", nondiff=True)
def is_all_finite(*inputs: Array, isinf_only: int = 0, isnan_only: int = 0) -> Array:
    """Whether no element of any tensor is infinite or NaN; one of the two alone where asked.

    inputs: float [...] -> output: bool []. Source: onnxruntime's contributed operators.
    """
    test = np.isinf if isinf_only else np.isnan if isnan_only else lambda x: ~np.isfinite(x)
    return np.array(not any(np.any(test(x)) for x in inputs))


is_all_finite.infer(lambda: TensorType("bool", ()))


@is_all_finite.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=3), np.array(np.inf)), {"isnan_only": 1}
    yield (rng.normal(size=3),), {}


composed(pad, "data", "value")
composed(rfft, "x")
composed(irfft, "x")
composed(complex_mul, "a", "b")
composed(complex_mul_conj, "a", "b")
composed(crop_and_resize, "x", "rois")
composed(conv_transpose_with_dynamic_pads, "x", "w", "b")

OPS = (
    trilu,
    gather_nd,
    grid_sample,
    sample_op,
    expand_dims,
    range_,
    pad,
    unique,
    inverse,
    cdist,
    rfft,
    irfft,
    complex_mul,
    complex_mul_conj,
    crop_and_resize,
    conv_transpose_with_dynamic_pads,
    nhwc_max_pool,
    murmur_hash3,
    is_all_finite,
)
