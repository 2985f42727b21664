"""Normalizations that onnxruntime adds: simplified (root mean square) ones, and those with a sum fused in.

Two of them carry the default domain in files, though ONNX does not define them there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.ops.activations import sigmoid
from graphrt.ops.arithmetic import reciprocal
from graphrt.ops.casts import cast
from graphrt.ops.elementary import sqrt
from graphrt.ops.group_normalization import group_normalization
from graphrt.ops.indexing import gather
from graphrt.ops.normalization import layer_normalization as onnx_layer_normalization
from graphrt.ops.reduction import reduce_mean
from graphrt.ops.shape import reshape
from graphrt.plugin import Array, Dim, TensorType, op
from graphrt_onnx.ops._compose import call, composed, renamed
from graphrt_onnx.ops._microsoft import activate, channels_first, channels_last, ints, microsoft

_FLOAT, _FLOAT16, _DOUBLE = 1, 10, 11

layer_normalization = renamed(onnx_layer_normalization, "LayerNormalization", "")


def _wide(x: Any) -> Any:
    """16-bit floats as float32."""
    return call(cast, x, to=_FLOAT) if x.dtype.itemsize < 4 else x


def _narrow(x: Any, dtype: np.dtype[Any]) -> Any:
    return x if x.dtype == dtype else call(cast, x, to=_FLOAT16 if dtype == np.float16 else 16)


def _rms(x: Any, scale: Any, axis: int, epsilon: float) -> tuple[Any, Any]:
    """x / rms(x) * scale over the dimensions from ``axis`` on, and 1/rms."""
    first = axis + x.ndim if axis < 0 else axis
    wide = _wide(x)
    mean = call(reduce_mean, wide * wide, ints(*range(first, x.ndim)), keepdims=1)
    inverse = call(reciprocal, call(sqrt, mean + epsilon))
    return _narrow(wide * inverse, x.dtype) * scale, inverse


@op("SimplifiedLayerNormalization", outputs=("y", "inv_std_var"))
def simplified_layer_normalization(
    x: Array, scale: Array, *, axis: int = -1, epsilon: float = 1e-5, stash_type: int = 1
) -> tuple[Array, Array]:
    """y = x / sqrt(mean(x^2) + epsilon) * scale, over the dimensions from ``axis`` on.

    x: float [...]; scale: float, the dimensions from ``axis`` on -> y: float [...]; inv_std_var: 1/sqrt(...), float32
    (float64 of float64), ones for the dimensions from ``axis`` on. 16-bit floats are computed in float32.
    Source: onnxruntime, which writes it into the default domain; Zhang and Sennrich 2019.
    """
    return _rms(x, scale, axis, epsilon)


def _statistics(x: TensorType, axis: int) -> TensorType:
    dtype = None if x.dtype is None else "float64" if x.dtype == "float64" else "float32"
    if x.shape is None:
        return TensorType(dtype)
    first = axis + len(x.shape) if axis < 0 else axis
    return TensorType(dtype, (*x.shape[:first], *((1,) * (len(x.shape) - first))))


@simplified_layer_normalization.infer
def _(x: TensorType, axis: int) -> Any:
    return x, _statistics(x, axis)


@simplified_layer_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield (rng.normal(size=(2, 3, 4)), rng.normal(size=4)), {}
    yield (rng.normal(size=(2, 3, 4)), rng.normal(size=(3, 4))), {"axis": 1, "epsilon": 0.1}
    yield (np.zeros((0, 4)), rng.normal(size=4)), {}


# ---- with a sum before ---------------------------------------------------------------------------------------


@microsoft("SkipLayerNormalization", outputs=("output", "mean", "inv_std_var", "input_skip_bias_sum"))
def skip_layer_normalization(
    input: Array, skip: Array, gamma: Array, beta: Array = None, bias: Array = None, *, epsilon: float = 1e-12
) -> tuple[Array, Array, Array, Array]:
    """LayerNormalization over the last axis of s = input + skip + bias.

    input: float [B, S, C] or [T, C]; skip: float, broadcasts to input; gamma, beta, bias: float [C] -> output: like
    input, (s - mean) inv_std_var gamma + beta; mean, inv_std_var: float32 [B, S, 1]; input_skip_bias_sum: s.
    Source: onnxruntime's contributed operators.
    """
    total = input + skip if bias is None else input + skip + bias
    stash = {"stash_type": 11 if total.dtype == np.float64 else 1}
    y, mean, inverse = call(
        onnx_layer_normalization, total, gamma, beta, axis=-1, epsilon=epsilon, n_outputs=3, **stash
    )
    return y, mean, inverse, total


@microsoft("SkipSimplifiedLayerNormalization", outputs=("output", "mean", "inv_std_var", "input_skip_bias_sum"))
def skip_simplified_layer_normalization(
    input: Array, skip: Array, gamma: Array, bias: Array = None, *, epsilon: float = 1e-12
) -> tuple[Array, Array | None, Array, Array]:
    """SimplifiedLayerNormalization over the last axis of s = input + skip + bias.

    input: float [B, S, C] or [T, C]; skip: float, broadcasts to input; gamma, bias: float [C] -> output: like input;
    mean: absent; inv_std_var: float32 [B, S, 1]; input_skip_bias_sum: s. Source: onnxruntime's contributed operators.
    """
    total = input + skip if bias is None else input + skip + bias
    y, inverse = _rms(total, gamma, -1, epsilon)
    return y, None, inverse, total


@skip_layer_normalization.infer
@skip_simplified_layer_normalization.infer
def _(input: TensorType) -> Any:
    statistics = _statistics(input, -1)
    return input, statistics, statistics, input


@skip_layer_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, skip, gamma, beta, bias = (rng.normal(size=s) for s in ((2, 3, 4), (2, 3, 4), (4,), (4,), (4,)))
    yield (x, skip, gamma, beta, bias), {"epsilon": 1e-3}
    yield (x, skip[:1], gamma), {}
    yield (x[0], skip[0], gamma, beta), {}


@skip_simplified_layer_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, skip, gamma, bias = (rng.normal(size=s) for s in ((2, 3, 4), (2, 3, 4), (4,), (4,)))
    yield (x, skip, gamma, bias), {"epsilon": 1e-3}
    yield (x[0], skip[0], gamma), {}


# ---- embeddings ----------------------------------------------------------------------------------------------


@microsoft(
    "EmbedLayerNormalization", outputs=("output", "mask_index", "embedding_sum"),
    nondiff=("input_ids", "segment_ids", "mask", "position_ids"),
)  # fmt: skip
def embed_layer_normalization(
    input_ids: Array, segment_ids: Array | None, word_embedding: Array, position_embedding: Array,
    segment_embedding: Array | None, gamma: Array, beta: Array, mask: Array = None, position_ids: Array = None, *,
    epsilon: float = 1e-12, mask_index_type: int = 0,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """LayerNormalization of the sum of word, position and segment embeddings.

    input_ids, segment_ids, mask: int32 [B, S]; word_, position_, segment_embedding: float [., C]; gamma, beta: float
    [C]; position_ids: int32 [B, S] or [1, S], else 0 .. S-1 -> output: float [B, S, C]; mask_index: int32 [B], the
    ones in each row of mask (0 without); embedding_sum: float [B, S, C]. Source: onnxruntime's contributed operators.
    """
    length = input_ids.shape[1]
    places = np.arange(length)[None] if position_ids is None else position_ids
    total = call(gather, word_embedding, input_ids) + call(gather, position_embedding, places)
    if segment_embedding is not None and segment_ids is not None:
        total = total + call(gather, segment_embedding, segment_ids)
    y, _, _ = call(onnx_layer_normalization, total, gamma, beta, axis=-1, epsilon=epsilon, n_outputs=3)
    count = np.zeros(input_ids.shape[0], np.int32)
    if mask is not None:
        count = np.sum(mask == 1, axis=1).astype(np.int32)
    return y, count, total


@embed_layer_normalization.infer
def _(input_ids: TensorType, word_embedding: TensorType) -> Any:
    rows: Dim = None
    shape: tuple[Dim, ...] | None = None
    if input_ids.shape is not None:
        rows = input_ids.shape[0]
        shape = (*input_ids.shape, word_embedding.shape[1] if word_embedding.shape is not None else None)
    y = TensorType(word_embedding.dtype, shape)
    return y, TensorType("int32", (rows,)), y


@embed_layer_normalization.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    ids, segments = rng.integers(0, 5, (2, 3)).astype(np.int32), rng.integers(0, 2, (2, 3)).astype(np.int32)
    word, place, segment = (rng.normal(size=(n, 4)) for n in (5, 6, 2))
    gamma, beta = rng.normal(size=4), rng.normal(size=4)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    yield (ids, segments, word, place, segment, gamma, beta, mask), {"epsilon": 1e-3}
    yield (ids, None, word, place, None, gamma, beta, None, np.array([[2, 1, 0]], np.int32)), {}


# ---- groups --------------------------------------------------------------------------------------------------


def _grouped(x: Any, gamma: Any, beta: Any, groups: int, epsilon: float, activation: int, last: int) -> Any:
    first = channels_first(x) if last else x
    y = call(group_normalization, first, gamma, beta, num_groups=groups, epsilon=epsilon)
    y = y * call(sigmoid, y) if activation else activate(y, None)
    return channels_last(y) if last else y


@microsoft("GroupNorm")
def group_norm(
    x: Array, gamma: Array, beta: Array, *, activation: int, channels_last: int = 1, epsilon: float = 1e-5, groups: int
) -> Array:
    """GroupNormalization, channels last unless said otherwise; with ``activation`` 1 followed by z sigmoid(z).

    x: float [N, *S, C] (or [N, C, *S]); gamma, beta: float [C] -> y: float, the shape of x.
    Source: onnxruntime's contributed operators; Wu and He 2018.
    """
    return _grouped(x, gamma, beta, groups, epsilon, activation, channels_last)


group_norm.infer(lambda x: x)


@group_norm.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    gamma, beta = rng.normal(size=4), rng.normal(size=4)
    yield (rng.normal(size=(2, 3, 2, 4)), gamma, beta), {"activation": 1, "groups": 2}
    yield (rng.normal(size=(2, 4, 3)), gamma, beta), {"activation": 0, "groups": 2, "channels_last": 0, "epsilon": 0.1}


@microsoft("SkipGroupNorm", outputs=("y", "s"))
def skip_group_norm(
    x: Array, gamma: Array, beta: Array, skip: Array, bias: Array = None, *, activation: int, channels_last: int = 1,
    epsilon: float = 1e-5, groups: int,
) -> tuple[Array, Array]:  # fmt: skip
    """GroupNorm of s = x + skip + bias.

    x: float [N, H, W, C] (or [N, C, H, W]); skip: float, broadcasts to x, or [N, C]; gamma, beta, bias: float [C] ->
    y: float, the shape of x; s: the sum. Source: onnxruntime's contributed operators.
    """
    at = x.ndim - 1 if channels_last else 1

    def along_channels(v: Any) -> Any:
        if v.ndim == x.ndim:
            return v
        shape = [1] * x.ndim
        shape[at] = v.shape[-1]
        shape[0] = v.shape[0] if v.ndim == 2 else 1
        return call(reshape, v, ints(*shape))

    total = x + along_channels(skip)
    total = total if bias is None else total + along_channels(bias)
    return _grouped(total, gamma, beta, groups, epsilon, activation, channels_last), total


@skip_group_norm.infer
def _(x: TensorType) -> Any:
    return x, x


@skip_group_norm.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    x, gamma, beta, bias = (rng.normal(size=s) for s in ((2, 2, 3, 4), (4,), (4,), (4,)))
    yield (x, gamma, beta, rng.normal(size=(2, 2, 3, 4)), bias), {"activation": 1, "groups": 2}
    yield (x, gamma, beta, rng.normal(size=(2, 4))), {"activation": 0, "groups": 4}


composed(simplified_layer_normalization, "x", "scale")
composed(skip_layer_normalization, "input", "skip", "gamma", "beta", "bias")
composed(skip_simplified_layer_normalization, "input", "skip", "gamma", "bias")
composed(embed_layer_normalization, "word_embedding", "position_embedding", "segment_embedding", "gamma", "beta")
composed(group_norm, "x", "gamma", "beta")
composed(skip_group_norm, "x", "gamma", "beta", "skip", "bias")

OPS = (
    layer_normalization,
    simplified_layer_normalization,
    skip_layer_normalization,
    skip_simplified_layer_normalization,
    embed_layer_normalization,
    group_norm,
    skip_group_norm,
)
