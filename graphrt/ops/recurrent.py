"""RNN, GRU and LSTM: recurrent layers over whole sequences.

The loop runs over time only. Value, VJP and JVP each are one function of the node's inputs, so a faster kernel can
take the place of any of them (``LSTM``, ``LSTM.vjp[x,w,...]``). The VJPs here read only the inputs, and walk forward
again before they go back. They name y and the tape, the last output of GRU and LSTM, for kernels that go back at once.
A tape is not ONNX's: a joint graph's nodes have one, because the VJP names it. No derivative flows through it: its
tangent is None, and no rule takes its cotangent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Example, op
from graphrt.ops._recurrent import Layer, check_shapes, infer, jvp, layer, value, vjp
from graphrt.ops._recurrent_cells import GRUCell, LSTMCell, RNNCell
from graphrt.types import TensorType

Array = Any
Names = tuple[str, ...] | None
Numbers = tuple[float, ...] | None


# ---- RNN ---------------------------------------------------------------------------------------------------


@op("RNN", version=1, outputs=("y", "y_h"), nondiff="sequence_lens")
def rnn(
    x: Array, w: Array, r: Array, b: Array = None, sequence_lens: Array = None, initial_h: Array = None, *,
    activation_alpha: tuple[float, ...] | None = None, activation_beta: tuple[float, ...] | None = None,
    activations: tuple[str, ...] = ("Tanh", "Tanh"), clip: float | None = None, direction: str = "forward",
    hidden_size: int | None = None, layout: int = 0, output_sequence: int = 0,
) -> tuple[Array, ...]:  # fmt: skip
    """A simple recurrent layer: h' = f(x W^T + h R^T + Wb + Rb).

    x: float [T, N, I]; w: [D, H, I]; r: [D, H, H]; b: [D, 2H] (Wb, Rb); sequence_lens: int32 [N]; initial_h: [D, N, H]
    -> y: [T, D, N, H], every h; y_h: [D, N, H], the last one. D is 2 for direction "bidirectional", else 1;
    "reverse" reads each sequence from its end. With ``layout`` 1 (since opset 14) x is [N, T, I], initial_h and y_h
    [N, D, H], y [N, T, D, H]. Behind a sequence's end y is 0. ``clip`` bounds the arguments of activations.
    Activations: Relu, Tanh, Sigmoid, Affine, LeakyRelu, ThresholdedRelu, ScaledTanh, HardSigmoid, Elu, Softsign,
    Softplus; each takes the next of ``activation_alpha`` (``_beta``) if it has one. At a kink the slope is the lower
    side's (Relu'(0) = 0). ``output_sequence`` (opset 6) changes nothing. Derivative: through all steps.
    16-bit floats are computed in float32. Source: ONNX operator spec.
    """
    given = _rnn_layer(activation_alpha, activation_beta, activations, clip, direction, layout)
    arrays = (x, w, r, b, initial_h, None, None)
    check_shapes(1, given, arrays, hidden_size)
    return value(given, arrays, sequence_lens, 1)


def _rnn_layer(alpha: Numbers, beta: Numbers, names: Names, clip: float | None, direction: str, layout: int) -> Layer:
    return layer(RNNCell, ("Tanh",), direction, names, alpha, beta, clip, layout)


@rnn.vjp("x", "w", "r", "b", "initial_h")
def _(
    ct_y: Array, ct_y_h: Array, x: Array, w: Array, r: Array, b: Array, sequence_lens: Array, initial_h: Array,
    y: Array, activation_alpha: Numbers, activation_beta: Numbers, activations: Names, clip: float | None,
    direction: str, layout: int,
) -> tuple[Any, ...]:  # fmt: skip
    given = _rnn_layer(activation_alpha, activation_beta, activations, clip, direction, layout)
    return tuple(vjp(given, (ct_y, ct_y_h), (x, w, r, b, initial_h, None, None), sequence_lens)[:5])


@rnn.jvp("x", "w", "r", "b", "initial_h")
def _(
    x_dot: Array, w_dot: Array, r_dot: Array, b_dot: Array, initial_h_dot: Array, x: Array, w: Array, r: Array,
    b: Array, sequence_lens: Array, initial_h: Array, activation_alpha: Numbers, activation_beta: Numbers,
    activations: Names, clip: float | None, direction: str, layout: int,
) -> tuple[Any, ...]:  # fmt: skip
    given = _rnn_layer(activation_alpha, activation_beta, activations, clip, direction, layout)
    dots = (x_dot, w_dot, r_dot, b_dot, initial_h_dot, None, None)
    return jvp(given, dots, (x, w, r, b, initial_h, None, None), sequence_lens, 1)


# ---- GRU ---------------------------------------------------------------------------------------------------


@op("GRU", version=3, outputs=("y", "y_h", "tape"), nondiff="sequence_lens")
def gru(
    x: Array, w: Array, r: Array, b: Array = None, sequence_lens: Array = None, initial_h: Array = None, *,
    activation_alpha: tuple[float, ...] | None = None, activation_beta: tuple[float, ...] | None = None,
    activations: tuple[str, ...] | None = None, clip: float | None = None, direction: str = "forward",
    hidden_size: int | None = None, layout: int = 0, linear_before_reset: int = 0, output_sequence: int = 0,
    n_outputs: int = 2,
) -> tuple[Array, ...]:  # fmt: skip
    """A gated recurrent layer; gates in the order z (update), r (reset), h (hidden).

    z, r = f(x W^T + h R^T + Wb + Rb); g = g(x Wh^T + (r h) Rh^T + Wbh + Rbh); h' = (1 - z) g + z h. With
    ``linear_before_reset`` g = g(x Wh^T + r (h Rh^T + Rbh) + Wbh). f defaults to Sigmoid, g to Tanh.
    w: [D, 3H, I]; r: [D, 3H, H]; b: [D, 6H]; all else as for `RNN`. tape: [D, T, 5, H, N], at each step, in the order
    of reading, z, r, g, h - g and what the reset gate multiplies. Sources: ONNX operator spec; Cho et al. 2014.
    """
    given = _gru_layer(activation_alpha, activation_beta, activations, clip, direction, layout, linear_before_reset)
    arrays = (x, w, r, b, initial_h, None, None)
    check_shapes(3, given, arrays, hidden_size)
    return value(given, arrays, sequence_lens, 1, tape=n_outputs > 2)


def _gru_layer(
    alpha: Numbers, beta: Numbers, names: Names, clip: float | None, direction: str, layout: int, after: int
) -> Layer:
    return layer(GRUCell, ("Sigmoid", "Tanh"), direction, names, alpha, beta, clip, layout, after)


@gru.vjp("x", "w", "r", "b", "initial_h")
def _(
    ct_y: Array, ct_y_h: Array, x: Array, w: Array, r: Array, b: Array, sequence_lens: Array, initial_h: Array,
    y: Array, tape: Array, activation_alpha: Numbers, activation_beta: Numbers, activations: Names,
    clip: float | None, direction: str, layout: int, linear_before_reset: int,
) -> tuple[Any, ...]:  # fmt: skip
    given = _gru_layer(activation_alpha, activation_beta, activations, clip, direction, layout, linear_before_reset)
    return tuple(vjp(given, (ct_y, ct_y_h), (x, w, r, b, initial_h, None, None), sequence_lens)[:5])


@gru.jvp("x", "w", "r", "b", "initial_h")
def _(
    x_dot: Array, w_dot: Array, r_dot: Array, b_dot: Array, initial_h_dot: Array, x: Array, w: Array, r: Array,
    b: Array, sequence_lens: Array, initial_h: Array, activation_alpha: Numbers, activation_beta: Numbers,
    activations: Names, clip: float | None, direction: str, layout: int, linear_before_reset: int,
) -> tuple[Any, ...]:  # fmt: skip
    given = _gru_layer(activation_alpha, activation_beta, activations, clip, direction, layout, linear_before_reset)
    dots = (x_dot, w_dot, r_dot, b_dot, initial_h_dot, None, None)
    return (*jvp(given, dots, (x, w, r, b, initial_h, None, None), sequence_lens, 1), None)


# ---- LSTM --------------------------------------------------------------------------------------------------


@op("LSTM", version=1, outputs=("y", "y_h", "y_c", "tape"), nondiff="sequence_lens")
def lstm(
    x: Array, w: Array, r: Array, b: Array = None, sequence_lens: Array = None, initial_h: Array = None,
    initial_c: Array = None, p: Array = None, *,
    activation_alpha: tuple[float, ...] | None = None, activation_beta: tuple[float, ...] | None = None,
    activations: tuple[str, ...] | None = None, clip: float | None = None, direction: str = "forward",
    hidden_size: int | None = None, input_forget: int = 0, layout: int = 0, output_sequence: int = 0,
    n_outputs: int = 3,
) -> tuple[Array, ...]:  # fmt: skip
    """A layer of long short-term memory; gates in the order i (input), o (output), f (forget), c (cell).

    i, f = f(x W^T + h R^T + P c + Wb + Rb); g = g(x Wc^T + h Rc^T + Wbc + Rbc); c' = f c + i g;
    o = f(x Wo^T + h Ro^T + Po c' + Wbo + Rbo); h' = o h(c'). With ``input_forget`` f = 1 - i. Defaults: f Sigmoid,
    g and h Tanh. ``clip`` bounds the arguments of f and g, not the cell state that h reads (as ONNX Runtime does; the
    spec can be read either way). w: [D, 4H, I]; r: [D, 4H, H]; b: [D, 8H]; initial_c, y_c: [D, N, H]; p: [D, 3H],
    peepholes of i, o and f; all else as for `RNN`. tape: [D, T, 6, H, N], at each step, in the order of reading, i, o,
    f, g, h(c') and c. Sources: ONNX operator spec; Hochreiter and Schmidhuber 1997.
    """
    given = _lstm_layer(activation_alpha, activation_beta, activations, clip, direction, layout, input_forget)
    arrays = (x, w, r, b, initial_h, initial_c, p)
    check_shapes(4, given, arrays, hidden_size)
    return value(given, arrays, sequence_lens, 2, tape=n_outputs > 3)


def _lstm_layer(
    alpha: Numbers, beta: Numbers, names: Names, clip: float | None, direction: str, layout: int, coupled: int
) -> Layer:
    return layer(LSTMCell, ("Sigmoid", "Tanh", "Tanh"), direction, names, alpha, beta, clip, layout, coupled)


@lstm.vjp("x", "w", "r", "b", "initial_h", "initial_c", "p")
def _(
    ct_y: Array, ct_y_h: Array, ct_y_c: Array, x: Array, w: Array, r: Array, b: Array, sequence_lens: Array,
    initial_h: Array, initial_c: Array, p: Array, y: Array, tape: Array, activation_alpha: Numbers,
    activation_beta: Numbers, activations: Names, clip: float | None, direction: str, layout: int, input_forget: int,
) -> tuple[Any, ...]:  # fmt: skip
    given = _lstm_layer(activation_alpha, activation_beta, activations, clip, direction, layout, input_forget)
    return tuple(vjp(given, (ct_y, ct_y_h, ct_y_c), (x, w, r, b, initial_h, initial_c, p), sequence_lens))


@lstm.jvp("x", "w", "r", "b", "initial_h", "initial_c", "p")
def _(
    x_dot: Array, w_dot: Array, r_dot: Array, b_dot: Array, initial_h_dot: Array, initial_c_dot: Array, p_dot: Array,
    x: Array, w: Array, r: Array, b: Array, sequence_lens: Array, initial_h: Array, initial_c: Array, p: Array,
    activation_alpha: Numbers, activation_beta: Numbers, activations: Names, clip: float | None, direction: str,
    layout: int, input_forget: int,
) -> tuple[Any, ...]:  # fmt: skip
    given = _lstm_layer(activation_alpha, activation_beta, activations, clip, direction, layout, input_forget)
    dots = (x_dot, w_dot, r_dot, b_dot, initial_h_dot, initial_c_dot, p_dot)
    return (*jvp(given, dots, (x, w, r, b, initial_h, initial_c, p), sequence_lens, 2), None)


# ---- types and examples ------------------------------------------------------------------------------------


@rnn.infer
def _(x: TensorType, r: TensorType, direction: str, hidden_size: int | None, layout: int) -> tuple[TensorType, ...]:
    return infer(x, r, direction, hidden_size, layout, 1)


@gru.infer
def _(x: TensorType, r: TensorType, direction: str, hidden_size: int | None, layout: int) -> tuple[TensorType, ...]:
    return infer(x, r, direction, hidden_size, layout, 1, GRUCell.kept)


@lstm.infer
def _(x: TensorType, r: TensorType, direction: str, hidden_size: int | None, layout: int) -> tuple[TensorType, ...]:
    return infer(x, r, direction, hidden_size, layout, 2, LSTMCell.kept)


def _draw(
    rng: np.random.Generator, gates: int, *, d: int = 1, t: int = 3, n: int = 2, layout: int = 0, b: bool = True,
    lens: tuple[int, ...] | None = None, states: int = 0, p: bool = False, hidden: int = 2, width: int = 3,
) -> tuple[Any, ...]:  # fmt: skip
    """Inputs of a node: ``gates`` is 1, 3 or 4; ``states`` says how many initial states there are."""
    g, h = gates * hidden, hidden
    state = (n, d, h) if layout else (d, n, h)
    inputs = [
        rng.normal(size=(n, t, width) if layout else (t, n, width)),
        rng.normal(size=(d, g, width)),
        rng.normal(size=(d, g, h)),
        rng.normal(size=(d, 2 * g)) if b else None,
        None if lens is None else np.array(lens, np.int32),
        *(rng.normal(size=state) if i < states else None for i in range(2 if gates == 4 else 1)),
    ]
    return (*inputs, rng.normal(size=(d, 3 * h)) if p else None) if gates == 4 else tuple(inputs)


def _of_onnx(count: int, examples: Iterator[Any]) -> Iterator[Any]:
    """Nodes with ONNX's outputs alone: what has a derivative."""
    for inputs, attributes in examples:
        yield inputs, {**attributes, "n_outputs": count}


def _shared_examples(rng: np.random.Generator, gates: int) -> Iterator[Any]:
    most = 2 if gates == 4 else 1
    yield _draw(rng, gates, b=False)[:3], {}
    yield _draw(rng, gates, states=most), {"hidden_size": 2}
    yield _draw(rng, gates, states=1), {"direction": "reverse", "output_sequence": 1}
    yield _draw(rng, gates, d=2, states=most, layout=1), {"direction": "bidirectional", "layout": 1}
    lens = (2, 4, 0)
    yield _draw(rng, gates, d=2, t=4, n=3, lens=lens, states=most), {"direction": "bidirectional"}
    yield _draw(rng, gates, t=4, n=3, lens=lens), {"layout": 0}
    yield _draw(rng, gates, t=0, states=most), {}
    yield _draw(rng, gates, n=0), {}


@rnn.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    yield from _shared_examples(rng, 1)
    yield _draw(rng, 1), {"clip": 0.8}
    for name in ("Relu", "Sigmoid", "Softsign", "Softplus"):
        yield _draw(rng, 1, t=2), {"activations": (name,)}
    for name, alpha, beta in (
        ("Affine", 0.4, 0.3), ("LeakyRelu", 0.3, None), ("ThresholdedRelu", -0.7, None), ("ScaledTanh", 1.3, 0.6),
        ("HardSigmoid", 0.3, 0.4), ("Elu", 0.7, None),
    ):  # fmt: skip
        constants = {"activation_alpha": (alpha,)} | ({} if beta is None else {"activation_beta": (beta,)})
        yield Example(_draw(rng, 1, t=2), {"activations": (name,), **constants}, smooth=name != "ThresholdedRelu")


@gru.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    return _of_onnx(2, _gru_examples(rng))


def _gru_examples(rng: np.random.Generator) -> Iterator[Any]:
    yield from _shared_examples(rng, 3)
    for after in (0, 1):
        yield _draw(rng, 3, d=2, states=1), {"direction": "bidirectional", "linear_before_reset": after}
        yield _draw(rng, 3, b=False, lens=(1, 3)), {"linear_before_reset": after, "clip": 0.9}
    yield (
        _draw(rng, 3, d=2),
        {
            "direction": "bidirectional",
            "activations": ("HardSigmoid", "Softsign", "Sigmoid", "LeakyRelu"),
            "activation_alpha": (0.3, 0.2),
        },
    )


@lstm.examples
def _(rng: np.random.Generator) -> Iterator[Any]:
    return _of_onnx(3, _lstm_examples(rng))


def _lstm_examples(rng: np.random.Generator) -> Iterator[Any]:
    yield from _shared_examples(rng, 4)
    for coupled in (0, 1):
        yield _draw(rng, 4, states=2, p=True), {"input_forget": coupled}
        yield _draw(rng, 4, b=False, p=True, lens=(1, 3)), {"input_forget": coupled, "clip": 0.9}
    yield (
        _draw(rng, 4, d=2, states=2, p=True, layout=1),
        {
            "direction": "bidirectional",
            "layout": 1,
            "activations": ("Sigmoid", "ScaledTanh", "Softsign", "HardSigmoid", "Affine", "Tanh"),
            "activation_alpha": (0.9, 0.3, 0.5),
            "activation_beta": (0.8, 0.4, 0.1),
        },
    )


OPS = (rnn, gru, lstm)
