"""Products with quantized factors of com.microsoft: of two 8-bit matrices, and of floats with packed weights.

Sums of products of 8-bit numbers are exact: they are added up in a float type that holds each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.ops._quantized import centered, quantized
from graphrt.ops.arrange import transpose
from graphrt.ops.indexing import gather
from graphrt.ops.linalg import matmul, product_shape
from graphrt.ops.quantization import dynamic_quantize_linear
from graphrt.ops.recurrent import lstm
from graphrt.ops.shape import reshape
from graphrt.ops.slicing import slice_
from graphrt.plugin import Array, Dim, TensorType
from graphrt.types import dtype_name
from graphrt_onnx.ops._attention import appended, split_heads
from graphrt_onnx.ops._compose import call, composed, plain
from graphrt_onnx.ops._microsoft import ints, microsoft
from graphrt_onnx.ops.microsoft_attention import attend
from graphrt_onnx.ops.microsoft_quantized import bytes_of, real, scale_and_zero


def _whole(a: Array, b: Array, a_zero: Array | None, b_zero: Array | None) -> Array:
    """(a - a_zero) (b - b_zero), exact, in a float type; a zero point per row of a, per column of b."""
    terms = a.shape[-1]
    if a_zero is not None and a_zero.ndim == 1 and a_zero.size > 1:
        a_zero = a_zero[:, None]
    return np.matmul(centered(a, a_zero, terms), centered(b, b_zero, terms))


def _scaled(total: Array, scale: Array, bias: Array | None) -> Array:
    y = total.astype(np.float32) * scale.astype(np.float32)
    return y if bias is None else y + bias


@microsoft("MatMulIntegerToFloat", nondiff=True)
def matmul_integer_to_float(
    a: Array, b: Array, a_scale: Array, b_scale: Array, a_zero_point: Array = None, b_zero_point: Array = None,
    bias: Array = None,
) -> Array:  # fmt: skip
    """y = (a - a_zero_point) (b - b_zero_point) a_scale b_scale + bias.

    a, b: int8 or uint8 [..., M, K], [..., K, N]; a_scale: float []; b_scale: float [] or [N]; zero points: likewise;
    bias: float [N] -> y: the float type of the scales [..., M, N]. Not differentiable.
    Source: onnxruntime's contributed operators.
    """
    y = _scaled(_whole(a, b, a_zero_point, b_zero_point), a_scale.astype(np.float32) * b_scale, bias)
    return y.astype(a_scale.dtype, copy=False)


@matmul_integer_to_float.infer
def _(a: TensorType, b: TensorType, a_scale: TensorType) -> TensorType:
    return TensorType(a_scale.dtype, product_shape(a.shape, b.shape))


@matmul_integer_to_float.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = bytes_of(rng, 2, 3, 4), bytes_of(rng, 4, 5, dtype=np.int8)
    one, many = np.array(0.1, np.float32), rng.uniform(0.1, 1, 5).astype(np.float32)
    zeros = rng.integers(-9, 9, 5).astype(np.int8)
    yield (a, b, one, many, np.array(120, np.uint8), zeros, rng.normal(size=5).astype(np.float32)), {}
    yield (a, b, one, one), {}


@microsoft("DynamicQuantizeMatMul", nondiff=True)
def dynamic_quantize_matmul(
    a: Array, b: Array, b_scale: Array, b_zero_point: Array = None, bias: Array = None
) -> Array:
    """y = a' (b - b_zero_point) b_scale + bias, where a' is a rounded to 256 levels of its own range.

    a: float32 [..., M, K]; b: int8 or uint8 [..., K, N]; b_scale: float32 [] or [N]; b_zero_point: like b, likewise;
    bias: float32 [N] -> y: float32 [..., M, N]. Not differentiable. Source: onnxruntime's contributed operators.
    """
    q, scale, zero = dynamic_quantize_linear(a)
    y = _scaled(_whole(q, b, zero, b_zero_point), scale.astype(np.float32) * b_scale, bias)
    return y.astype(a.dtype, copy=False)


@dynamic_quantize_matmul.infer
def _(a: TensorType, b: TensorType) -> TensorType:
    return TensorType(a.dtype, product_shape(a.shape, b.shape))


@dynamic_quantize_matmul.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = rng.normal(size=(2, 3, 4)).astype(np.float32), bytes_of(rng, 4, 5)
    scales = rng.uniform(0.1, 1, 5).astype(np.float32)
    yield (a, b, scales, bytes_of(rng, 5), rng.normal(size=5).astype(np.float32)), {}
    yield (a, b, np.array(0.1, np.float32)), {}


@microsoft("QGemm", nondiff=True)
def qgemm(
    a: Array, a_scale: Array, a_zero_point: Array, b: Array, b_scale: Array, b_zero_point: Array, c: Array = None,
    y_scale: Array = None, y_zero_point: Array = None, *, alpha: float = 1.0, transA: int = 0, transB: int = 0,
) -> Array:  # fmt: skip
    """y = alpha a_scale b_scale ((a - a_zero_point) (b - b_zero_point) + c), rounded into y_scale where that is given.

    a: int8 or uint8 [M, K], b: int8 or uint8 [K, N] (or transposed); a_scale: float32 []; b_scale: float32 [] or [N];
    zero points: likewise; c: int32, broadcasts to [M, N] -> y: float32 [M, N], or the type of y_zero_point.
    Not differentiable. Source: onnxruntime's contributed operators.
    """
    total = _whole(a.T if transA else a, b.T if transB else b, a_zero_point, b_zero_point)
    total = total if c is None else total + c
    scale = np.float32(alpha) * a_scale.astype(np.float32) * b_scale.astype(np.float32)
    if y_scale is None:
        return _scaled(total, scale, None)
    to = "uint8" if y_zero_point is None else dtype_name(y_zero_point.dtype)
    return quantized(_scaled(total, scale / y_scale.astype(np.float32), None), y_zero_point, to)


@qgemm.infer
def _(
    a: TensorType, b: TensorType, y_scale: TensorType | None, y_zero_point: TensorType | None, transA: int, transB: int
) -> TensorType:
    shapes = [
        None if t.shape is None else t.shape[::-1] if turned else t.shape for t, turned in ((a, transA), (b, transB))
    ]
    dtype = "float32" if y_scale is None else "uint8" if y_zero_point is None else y_zero_point.dtype
    return TensorType(dtype, product_shape(*shapes))


@qgemm.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    a, b = bytes_of(rng, 2, 4), bytes_of(rng, 3, 4, dtype=np.int8)
    first, second = scale_and_zero(0.1, 120), scale_and_zero(0.2, -3, np.int8)
    c = rng.integers(-999, 999, 3).astype(np.int32)
    yield (a, *first, b, *second, c, *scale_and_zero(9.0, 100)), {"transB": 1, "alpha": 0.5}
    yield (a.T.copy(), *first, b.T.copy(), *second), {"transA": 1}


# ---- packed weights ------------------------------------------------------------------------------------------


def unpacked(packed: Array, bits: int) -> Array:
    """uint8 [..., n] -> uint8 [..., n * 8 / bits]: low bits first."""
    if bits not in (2, 4, 8):
        raise ValueError(f"bits is 2, 4 or 8, not {bits}")
    per_byte = 8 // bits
    shifts = (np.arange(per_byte) * bits).astype(np.uint8)
    found = (packed[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return found.reshape(*packed.shape[:-1], packed.shape[-1] * per_byte)


@microsoft("MatMulNBits", nondiff=("b", "g_idx"))
def matmul_n_bits(
    a: Array, b: Array, scales: Array, zero_points: Array = None, g_idx: Array = None, bias: Array = None, *, K: int,
    N: int, accuracy_level: int = 0, bits: int = 4, block_size: int, weight_prepacked: int = 0,
) -> Array:  # fmt: skip
    """y = a W^T + bias with weights in blocks of packed 2-, 4- or 8-bit numbers: W = (q - zero_point) scale.

    a: float [..., K]; b: uint8 [N, blocks, block_size bits/8], low bits first; scales: float [N, blocks];
    zero_points: uint8 [N, ceil(blocks bits/8)] packed, or float [N, blocks], else 2^(bits-1); bias: float [N] -> y:
    float [..., N]. accuracy_level changes nothing; g_idx and prepacked weights are not supported. Differentiable by
    a, scales, float zero_points and bias. Source: onnxruntime's contributed operators; Frantar et al. 2023.
    """
    if g_idx is not None or weight_prepacked:
        raise ValueError("g_idx and weight_prepacked are not supported")
    blocks = -(-K // block_size)
    q = unpacked(np.reshape(b, (N, blocks, -1)), bits)[..., :block_size].astype(np.float32).astype(a.dtype)
    scale = call(reshape, scales, ints(N, blocks, 1))
    if zero_points is None:
        centered_q: Any = q - q.dtype.type(1 << (bits - 1))
    elif zero_points.dtype == np.uint8:
        packed = np.reshape(plain(zero_points), (N, -1))
        centered_q = q - unpacked(packed, bits)[:, :blocks, None].astype(q.dtype)
    else:
        centered_q = q - call(reshape, zero_points, ints(N, blocks, 1))
    weights = call(reshape, scale * centered_q, ints(N, blocks * block_size))
    weights = weights if blocks * block_size == K else call(slice_, weights, ints(0), ints(K), ints(1))
    y = call(matmul, a, call(transpose, weights, perm=(1, 0)))
    return y if bias is None else y + bias


@matmul_n_bits.infer
def _(a: TensorType, N: int) -> TensorType:
    return TensorType(a.dtype, None if a.shape is None else (*a.shape[:-1], N))


@matmul_n_bits.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    size: dict[str, Any] = {"K": 20, "N": 3, "block_size": 16}
    a, scales = rng.normal(size=(2, 20)), rng.uniform(0.1, 1, (3, 2))
    yield (a, bytes_of(rng, 3, 2, 8), scales), size
    yield (a, bytes_of(rng, 3, 2, 16), scales, bytes_of(rng, 3, 2), None, rng.normal(size=3)), {**size, "bits": 8}
    yield (a, bytes_of(rng, 3, 2, 8), scales, bytes_of(rng, 3, 1)), size
    yield (a[:, None], bytes_of(rng, 3, 2, 4), scales, rng.uniform(0, 3, (3, 2))), {**size, "bits": 2}


composed(matmul_n_bits, "a", "scales", "zero_points", "bias")


@microsoft("GatherBlockQuantized", outputs="output", nondiff=("data", "indices", "zero_points"))
def gather_block_quantized(
    data: Array, indices: Array, scales: Array, zero_points: Array = None, *, bits: int = 4, block_size: int = 128,
    gather_axis: int = 0, quantize_axis: int = 1,
) -> Array:  # fmt: skip
    """Rows of a table of blocks of quantized numbers: (data - zero_point) scale, gathered.

    data: int4 or uint4 [...], or uint8 packed with ``bits`` bits along the last axis; indices: int [*Q]; scales: float,
    as data with ceil(n / block_size) on quantize_axis; zero_points: like data (absent: 0; of uint8 2^(bits-1)) ->
    output: float, ``indices`` in the place of gather_axis. An index out of range gives zeros. Differentiable by
    scales. Source: onnxruntime's contributed operators.
    """
    packed = dtype_name(data.dtype) == "uint8"
    q = unpacked(data, bits) if packed else data
    rank, size = q.ndim, q.shape
    at, blocked = gather_axis % rank, quantize_axis % rank
    zero: Any = (1 << (bits - 1)) if packed else 0
    if zero_points is not None:
        zero = unpacked(zero_points, bits) if packed and bits < 8 else zero_points
        zero = zero[(slice(None),) * blocked + (slice(scales.shape[blocked]),)]
    index = np.where(indices < 0, indices + size[at], indices)
    inside = (index >= 0) & (index < size[at])
    index = np.where(inside, index, 0)
    block = np.arange(size[blocked]) // block_size

    def spread(x: Any, take: Any) -> Any:
        if at == blocked:
            return take(x, index // block_size, at)
        behind = blocked if blocked < at else blocked + indices.ndim - 1
        return take(take(x, index, at), block, behind)

    def take(x: Any, i: Any, axis: int) -> Any:
        return np.take(x, i, axis=axis)

    wide = np.take(q, index, axis=at).astype(np.float32)
    wide = wide - (spread(zero, take).astype(np.float32) if isinstance(zero, np.ndarray) else np.float32(zero))
    wide = np.where(inside.reshape(*inside.shape, *(1,) * (rank - at - 1)), wide, np.float32(0)).astype(scales.dtype)
    return spread(scales, lambda x, i, axis: call(gather, x, i, axis=axis)) * wide


@gather_block_quantized.infer
def _(data: TensorType, indices: TensorType, scales: TensorType, bits: int, gather_axis: int) -> TensorType:
    if data.shape is None or indices.shape is None:
        return TensorType(scales.dtype)
    shape: list[Dim] = list(data.shape)
    if data.dtype is None:
        shape[-1] = None
    elif data.dtype == "uint8":
        shape[-1] = shape[-1] * (8 // bits) if isinstance(shape[-1], int) else None if bits < 8 else shape[-1]
    at = gather_axis % len(shape)
    return TensorType(scales.dtype, (*shape[:at], *indices.shape, *shape[at + 1 :]))


@gather_block_quantized.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    index = np.array([[0, 2], [1, -1]])
    scales = rng.uniform(0.1, 1, (3, 2))
    yield (bytes_of(rng, 3, 10), index, scales), {"block_size": 16}
    yield (bytes_of(rng, 3, 20), index, scales, bytes_of(rng, 3, 2)), {"block_size": 16, "bits": 8}
    yield (bytes_of(rng, 3, 10), index, scales, bytes_of(rng, 3, 1)), {"block_size": 16}


composed(gather_block_quantized, "scales")


# ---- whole layers --------------------------------------------------------------------------------------------


@microsoft("QAttention", outputs=("output", "present"), nondiff=True)
def qattention(
    input: Array, weight: Array, bias: Array, input_scale: Array, weight_scale: Array, mask_index: Array = None,
    input_zero_point: Array = None, weight_zero_point: Array = None, past: Array = None, *, do_rotary: int = 0,
    mask_filter_value: float = -10000.0, num_heads: int, past_present_share_buffer: int = 0,
    scale: float | None = None, unidirectional: int = 0,
) -> tuple[Array, Array]:  # fmt: skip
    """Attention whose input and projection weights are 8-bit; everything after the projection is in floats.

    input: int8 or uint8 [B, S, C]; weight: int8 or uint8 [C, 3 H D]; bias: float [3 H D]; input_scale: float [];
    weight_scale: float [] or [3 H D]; zero points: likewise; mask_index, past: as for Attention -> output: float
    [B, S, H D]; present: float [2, B, H, T, D]. Not differentiable. Source: onnxruntime's contributed operators.
    """
    if do_rotary or past_present_share_buffer:
        raise ValueError("do_rotary and past_present_share_buffer are not supported")
    projected = _scaled(_whole(input, weight, input_zero_point, weight_zero_point), input_scale * weight_scale, bias)
    q, k, v = (split_heads(x, num_heads) for x in np.split(projected, 3, axis=-1))
    if past is not None:
        k, v = appended(past[0], k), appended(past[1], v)
    before = k.shape[2] - q.shape[2] if unidirectional else None
    y, _ = attend(q, k, v, mask_index, None, before, scale, mask_filter_value)
    return y, np.stack([k, v])


@qattention.infer
def _(input: TensorType, weight: TensorType, bias: TensorType, past: TensorType | None, num_heads: int) -> Any:
    b, s = input.shape[:2] if input.shape is not None else (None, None)
    wide = weight.shape[1] if weight.shape is not None else None
    hidden = wide // 3 if isinstance(wide, int) else None
    total = s if past is None else None
    size = hidden // num_heads if hidden is not None else None
    return TensorType("float32", (b, s, hidden)), TensorType("float32", (2, b, num_heads, total, size))


@qattention.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, w = bytes_of(rng, 2, 3, 4), bytes_of(rng, 4, 12, dtype=np.int8)
    bias, scales = rng.normal(size=12).astype(np.float32), rng.uniform(0.001, 0.02, 12).astype(np.float32)
    lengths = np.array([2, 3], np.int32)
    given = (x, w, bias, np.array(0.05, np.float32), scales, lengths, np.array(120, np.uint8), np.zeros(12, np.int8))
    yield given, {"num_heads": 2}
    past = rng.normal(size=(2, 2, 2, 1, 2)).astype(np.float32)
    yield (*given[:4], np.array(0.01, np.float32), None, given[6], None, past), {"num_heads": 2, "unidirectional": 1}


def _per_direction(x: Array) -> Array:
    """[D] or [D, 4H] -> [D, 1, 1 or 4H]."""
    return x.reshape(x.shape[0], 1, -1)


@microsoft("DynamicQuantizeLSTM", outputs=("y", "y_h", "y_c"), nondiff=True)
def dynamic_quantize_lstm(
    x: Array, w: Array, r: Array, b: Array | None, sequence_lens: Array | None, initial_h: Array | None,
    initial_c: Array | None, p: Array | None, w_scale: Array, w_zero_point: Array, r_scale: Array,
    r_zero_point: Array, *, activation_alpha: tuple[float, ...] | None = None,
    activation_beta: tuple[float, ...] | None = None, activations: tuple[str, ...] | None = None,
    clip: float | None = None, direction: str = "forward", hidden_size: int | None = None, input_forget: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    """LSTM with 8-bit weights, which are turned into floats first.

    w: int8 or uint8 [D, I, 4H]; r: int8 or uint8 [D, H, 4H]; w_scale, r_scale: float [D] or [D, 4H]; zero points:
    likewise; all else as for LSTM. onnxruntime also rounds x and h to 8 bits at each step, which this does not: results
    agree to about that rounding. Not differentiable. Source: onnxruntime's contributed operators.
    """
    weights = real(w, _per_direction(w_scale), _per_direction(w_zero_point))
    recurrent = real(r, _per_direction(r_scale), _per_direction(r_zero_point))
    result: tuple[Array, ...] = lstm(
        x, np.swapaxes(weights, 1, 2), np.swapaxes(recurrent, 1, 2), b, sequence_lens, initial_h, initial_c, p,
        activation_alpha=activation_alpha, activation_beta=activation_beta, activations=activations, clip=clip,
        direction=direction, hidden_size=hidden_size, input_forget=input_forget,
    )  # fmt: skip
    return result


@dynamic_quantize_lstm.infer
def _(x: TensorType, r: TensorType) -> Any:
    steps, batch = x.shape[:2] if x.shape is not None else (None, None)
    directions, hidden = r.shape[:2] if r.shape is not None else (None, None)
    last = TensorType(x.dtype, (directions, batch, hidden))
    return TensorType(x.dtype, (steps, directions, batch, hidden)), last, last


@dynamic_quantize_lstm.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x = rng.normal(size=(3, 2, 4)).astype(np.float32)
    w, r = bytes_of(rng, 1, 4, 12, dtype=np.int8), bytes_of(rng, 1, 3, 12, dtype=np.int8)
    scale, zero = np.array([0.01], np.float32), np.array([3], np.int8)
    yield (
        (x, w, r, rng.normal(size=(1, 24)).astype(np.float32), None, None, None, None, scale, zero, scale, zero),
        {"hidden_size": 3},
    )


OPS = (
    matmul_integer_to_float,
    dynamic_quantize_matmul,
    qgemm,
    matmul_n_bits,
    gather_block_quantized,
    qattention,
    dynamic_quantize_lstm,
)
