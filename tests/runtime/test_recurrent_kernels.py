"""What the kernels of recurrent layers rest on: tapes, products in pieces, blocks in two threads."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.autodiff import reverse
from graphrt.ir.builder import GraphBuilder
from graphrt.manager import get_registry
from graphrt.ops import recurrent
from graphrt.runtime.kernels import _pieces, _recurrent_walks
from graphrt.runtime.kernels import recurrent as kernels
from graphrt.testing import check_kernel
from tests.runtime.kernel_examples import examples

T, N, WIDTH, H = 5, 4, 3, 2
GATES = {"GRU": 3, "LSTM": 4}
OPS = {"GRU": recurrent.gru, "LSTM": recurrent.lstm}


def drawn(kind, directions):
    rng = np.random.default_rng(0)
    g = GATES[kind] * H
    arrays = [(T, N, WIDTH), (directions, g, WIDTH), (directions, g, H), (directions, 2 * g)]
    states = [(directions, N, H)] * (1 if kind == "GRU" else 2)
    return *(rng.normal(size=s) for s in arrays), None, *(rng.normal(size=s) for s in states)


def taped(kind, inputs, **attributes):
    *outputs, tape = OPS[kind](*inputs, n_outputs=4 if kind == "LSTM" else 3, **attributes)
    return outputs, tape


@pytest.mark.parametrize("backward", [0, 1])
def test_the_tape_of_an_lstm_retells_its_steps(backward):
    inputs = drawn("LSTM", 1)
    (y, y_h, y_c), tape = taped("LSTM", inputs, direction="reverse" if backward else "forward")
    i, o, f, g, squashed, c = np.moveaxis(tape[0], 1, 0)
    new = f * c + i * g
    hidden = y[::-1, 0] if backward else y[:, 0]
    np.testing.assert_allclose(squashed, np.tanh(new), rtol=1e-12)
    np.testing.assert_allclose(np.swapaxes(o * squashed, 1, 2), hidden, rtol=1e-12)
    np.testing.assert_array_equal(c[0].T, inputs[6][0])
    np.testing.assert_allclose(c[1:], new[:-1], rtol=1e-12)
    np.testing.assert_allclose(new[-1].T, y_c[0], rtol=1e-12)
    np.testing.assert_array_equal(hidden[-1], y_h[0])


@pytest.mark.parametrize("after", [0, 1])
def test_the_tape_of_a_gru_retells_its_steps(after):
    inputs = drawn("GRU", 2)
    (y, _), tape = taped("GRU", inputs, direction="bidirectional", linear_before_reset=after)
    for d in (0, 1):
        z, reset, g, difference, u = np.moveaxis(tape[d], 1, 0)
        hidden = np.swapaxes(y[::-1, d] if d else y[:, d], 1, 2)
        before = np.concatenate([inputs[5][d].T[None], hidden[:-1]])
        np.testing.assert_allclose(g + z * difference, hidden, rtol=1e-12)
        np.testing.assert_allclose(g + difference, before, rtol=1e-12)
        outer = np.matmul(inputs[1][d, 2 * H :], np.swapaxes(inputs[0][:: -1 if d else 1], 1, 2))
        bias = inputs[3][d, 2 * H : 3 * H, None] + (0 if after else inputs[3][d, 5 * H :, None])
        inner = reset * u if after else np.matmul(inputs[2][d, 2 * H :], reset * u)
        np.testing.assert_allclose(np.tanh(outer + bias + inner), g, rtol=1e-11)


@pytest.mark.parametrize("kind", GATES)
def test_only_a_joint_graph_has_a_tape(kind):
    x, w, r, *_ = drawn(kind, 1)
    b = GraphBuilder(dtype="float64")
    y = b.op(kind, b.input("x", "float64", x.shape), b.parameter("w", w), b.parameter("r", r), hidden_size=H)
    b.output(b.ReduceSum(y, keepdims=0), "f")
    graph = b.build()
    joint = reverse(graph, get_registry(), ["f"], ["w"]).graph
    assert [len(n.outputs) for n in graph.nodes if n.op_type == kind] == [1]
    (forward,), (back,) = (
        [n for n in joint.nodes if n.op_type.partition(".")[::2] == (kind, s)] for s in ("", rule(kind))
    )
    assert len(forward.outputs) == len(OPS[kind].outputs)
    assert forward.outputs[-1] in back.inputs


def rule(kind):
    return f"vjp[{','.join(OPS[kind].vjp_group('w'))}]"


@pytest.mark.parametrize("kernel", kernels.KERNELS, ids=[k.name for k in kernels.KERNELS])
def test_blocks_in_another_thread(kernel, monkeypatch):
    """As with two threads and much to do; whether there is a second one or not."""
    monkeypatch.setattr(_recurrent_walks, "thread_count", lambda: 2)
    monkeypatch.setattr(_recurrent_walks, "WORK_APART", 0)
    monkeypatch.setattr(_recurrent_walks, "COLUMNS_APART", 7)
    assert check_kernel(kernel, examples(kernel.op_type, np.random.default_rng(2))) > 0


@pytest.mark.parametrize("apart", [False, True])
def test_what_fails_while_blocks_are_made_is_raised(apart):
    def make():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        _recurrent_walks.consume(make(), list, apart=apart)


@pytest.mark.parametrize(
    ("sizes", "count"),
    [((512, 193, 32), 4), ((512, 193, 5), 1), ((400, 151, 37), 4), ((7 * 11, 1000, 20), 7), ((2048, 1025, 64), 1),
     ((512, 10**6, 1), 1)],
)  # fmt: skip
def test_pieces_are_small_equal_and_few(sizes, count, monkeypatch):
    monkeypatch.setattr(_pieces, "has_small_kernels", lambda: True)
    assert _pieces.pieces(*sizes) == count
    monkeypatch.setattr(_pieces, "has_small_kernels", lambda: False)
    assert _pieces.pieces(*sizes) == 1


def test_a_large_layer_in_pieces(monkeypatch):
    """Weights that are divided into pieces, whatever the processor."""
    monkeypatch.setattr(_pieces, "has_small_kernels", lambda: True)
    monkeypatch.setattr(_pieces, "SMALL", 20)
    for kernel in kernels.KERNELS:
        assert check_kernel(kernel, examples(kernel.op_type, np.random.default_rng(3))) > 0
