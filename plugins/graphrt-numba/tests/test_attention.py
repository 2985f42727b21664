"""Attention against its op; the same bits however it is shared out."""

from __future__ import annotations

import numpy as np
import pytest
from graphrt_numba import attention, sharing

import graphrt as gr
from graphrt.op import Example
from graphrt.runtime import fusion
from graphrt.testing import check_kernel


@pytest.fixture(autouse=True, params=[1, 3], ids=["whole", "in parts"])
def _all_sizes(monkeypatch, request):
    monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least: request.param)
    monkeypatch.setattr(attention, "SMALLEST", 1)
    monkeypatch.setattr(fusion, "LEAST", 1)


SIZES = [(2, 4, 2, 5, 7, 3, 2), (1, 2, 2, 300, 200, 4, 5), (2, 2, 2, 70, 700, 8, 8), (1, 3, 1, 33, 40, 40, 20)]
"""Examples, heads, key heads, query rows, keys, and the sizes of a key and of a value."""


def examples():
    """Three axes and four, heads that share keys, more rows than a block; masks of all shapes, rows without keys."""
    rng = np.random.default_rng(5)
    for b, h, kv, s, t, d, dv in SIZES:
        q, k, v = (rng.normal(size=z) for z in ((b, h, s, d), (b, kv, t, d), (b, kv, t, dv)))
        allowed = rng.random((s, t)) < 0.6
        allowed[0] = False
        for causal in (0, 1):
            yield Example((q, k, v), {"is_causal": causal, "n_outputs": 1})
            yield Example((q, k, v), {"is_causal": causal, "scale": 1.3})
            yield Example((q * 30, k * 30, v, allowed), {"is_causal": causal, "scale": 0.5})
            flat = (np.swapaxes(x, 1, 2).reshape(b, x.shape[2], -1) for x in (q, k, v))
            heads = {"q_num_heads": h, "kv_num_heads": kv}
            yield Example((*flat, allowed[None, None]), {"is_causal": causal, **heads})
        for shape in ((b, 1, s, t), (b, h, 1, t), (h, s, t), (t,)):
            yield Example((q, k, v, rng.normal(size=shape)), {"n_outputs": 3})
        hidden = np.where(rng.random((b, 1, 1, t)) < 0.5, 0, -np.inf)
        hidden[0] = -np.inf
        yield Example((q, k, v, hidden), {"n_outputs": 1})


@pytest.mark.parametrize("kernel", attention.KERNELS, ids=[k.name for k in attention.KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, examples()) > 20


@pytest.mark.parametrize("causal", [0, 1])
def test_bits_do_not_depend_on_threads(monkeypatch, causal):
    rng = np.random.default_rng(6)
    arrays = {n: rng.normal(size=(2, 6 if n == "q" else 3, 150, 24)).astype(np.float32) for n in "qkv"}
    b = gr.GraphBuilder()
    y = b.Attention(*(b.input(n, "float32", a.shape) for n, a in arrays.items()), is_causal=causal)
    b.output(b.ReduceSum(b.Mul(y, y), keepdims=0), "loss")
    graph, found = b.build(), []
    for threads in (1, 2, 5):
        monkeypatch.setattr(sharing, "threads_for", lambda nanoseconds, least, n=threads: n)
        value, gradients = gr.Session(graph).value_and_grad(arrays, of="loss", wrt=list(arrays))
        found.append([value, *(gradients[n] for n in arrays)])
    for other in found[1:]:
        for x, z in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(x, z)
