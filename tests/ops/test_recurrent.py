"""RNN, GRU and LSTM against the same layers unrolled into graphs of elementary ops, and against their equations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from graphrt.ir.builder import GraphBuilder
from graphrt.ops import recurrent
from graphrt.runtime.session import Session

F = "float64"
T, N, W, H = 4, 3, 3, 2
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
OUTPUTS = {"RNN": 2, "GRU": 2, "LSTM": 3}
OPS = {"RNN": recurrent.rnn, "GRU": recurrent.gru, "LSTM": recurrent.lstm}


# ---- the layer unrolled: x[t] as inputs, elementary ops, one direction at a time -----------------------------


class Unrolled:
    """Writes one direction's steps with elementary ops; ``clip``, peepholes and the flags as in the node."""

    def __init__(self, b, kind, d, given, attributes):
        self.b, self.kind, self.attributes = b, kind, attributes
        self.w, self.r = (b.Squeeze(self.part(given[k], d), b.constant(np.array([0]))) for k in ("w", "r"))
        bias = [self.cut(given["b"], d, i) for i in range(2 * GATES[kind])] if "b" in given else None
        self.bias = bias
        self.peepholes = [self.cut(given["p"], d, i) for i in range(3)] if "p" in given else None

    def part(self, v, d, lo=None, hi=None):
        b = self.b
        starts, ends, axes = ([d], [d + 1], [0]) if lo is None else ([d, lo], [d + 1, hi], [0, 1])
        return b.Slice(v, *(b.constant(np.array(n)) for n in (starts, ends, axes)))

    def cut(self, v, d, i):
        return self.part(v, d, i * H, (i + 1) * H)

    def rows(self, m, i):
        b = self.b
        return b.Transpose(b.Slice(m, *(b.constant(np.array([n])) for n in (i * H, (i + 1) * H, 0))), perm=(1, 0))

    def add(self, *terms):
        total = terms[0]
        for term in terms[1:]:
            total = total if term is None else total + term
        return total

    def act(self, op_type, v):
        clip = self.attributes.get("clip")
        if clip is not None:
            v = self.b.Clip(v, self.b.constant(np.array(-clip)), self.b.constant(np.array(clip)))
        return getattr(self.b, op_type)(v)

    def inputs(self, x, i):
        gates = GATES[self.kind]
        bias = (None, None) if self.bias is None else (self.bias[i], self.bias[gates + i])
        return x @ self.rows(self.w, i), *bias

    def gate(self, x, h, i, *extra):
        xw, wb, rb = self.inputs(x, i)
        return self.add(xw, h @ self.rows(self.r, i), wb, rb, *extra)

    def step(self, x, h, c):
        return getattr(self, self.kind.lower())(x, h, c)

    def rnn(self, x, h, c):
        return self.act("Tanh", self.gate(x, h, 0)), c

    def gru(self, x, h, c):
        z, r = (self.act("Sigmoid", self.gate(x, h, i)) for i in (0, 1))
        xw, wb, rb = self.inputs(x, 2)
        if self.attributes.get("linear_before_reset"):
            inner = self.add(xw, wb, r * self.add(h @ self.rows(self.r, 2), rb))
        else:
            inner = self.add(xw, (r * h) @ self.rows(self.r, 2), wb, rb)
        return (1.0 - z) * self.act("Tanh", inner) + z * h, c

    def lstm(self, x, h, c):
        p = self.peepholes
        i = self.act("Sigmoid", self.gate(x, h, 0, *([p[0] * c] if p else [])))
        f = self.act("Sigmoid", self.gate(x, h, 2, *([p[2] * c] if p else [])))
        if self.attributes.get("input_forget"):
            f = 1.0 - i
        new = f * c + i * self.act("Tanh", self.gate(x, h, 3))
        o = self.act("Sigmoid", self.gate(x, h, 1, *([p[1] * new] if p else [])))
        return o * self.b.Tanh(new), new


def draw(kind, directions, layout=0, skip=(), seed=0):
    rng = np.random.default_rng(seed)
    g, d = GATES[kind], directions
    state = (N, d, H) if layout else (d, N, H)
    shapes = {
        "x": (N, T, W) if layout else (T, N, W), "w": (d, g * H, W), "r": (d, g * H, H), "b": (d, 2 * g * H),
        "initial_h": state, "initial_c": state, "p": (d, 3 * H),
    }  # fmt: skip
    if kind != "LSTM":
        skip = (*skip, "initial_c", "p")
    return {k: rng.normal(size=s) for k, s in shapes.items() if k not in skip}


def weights(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def layer_graph(kind, arrays, attributes, lens=None):
    """f = <weights, outputs> through the node itself."""
    b = GraphBuilder(dtype=F)
    v = {k: b.input(k, F, a.shape) for k, a in arrays.items()}
    v["sequence_lens"] = None if lens is None else b.constant(np.array(lens, np.int32))
    names = [p.name for p in OPS[kind].inputs]
    outs = b.op(kind, *(v.get(n) for n in names), outputs=OUTPUTS[kind], hidden_size=H, **attributes)
    b.output(total(b, outs, OPS[kind](*(arrays.get(n) for n in names), **attributes)), "f")
    return b.build()


def total(b, outs, shapes_of):
    terms = [
        b.ReduceSum(o * b.constant(weights(y.shape, i)), keepdims=0)
        for i, (o, y) in enumerate(zip(outs, shapes_of, strict=True))
    ]
    return b.Sum(*terms)


def unrolled_graph(kind, arrays, attributes):
    """The same f from elementary ops alone (no sequence_lens, layout 0)."""
    b = GraphBuilder(dtype=F)
    v = {k: b.input(k, F, a.shape) for k, a in arrays.items()}
    back = {"forward": (0,), "reverse": (1,), "bidirectional": (0, 1)}[attributes.get("direction", "forward")]
    zero = b.constant(np.zeros((N, H)))
    steps = [b.Gather(v["x"], b.constant(np.array(t)), axis=0) for t in range(T)]
    ys, hs, cs = [], [], []
    for d, reverse in enumerate(back):
        cell = Unrolled(b, kind, d, v, attributes)
        h, c = (
            b.Squeeze(cell.part(v[k], d), b.constant(np.array([0]))) if k in v else zero
            for k in ("initial_h", "initial_c")
        )
        made = {}
        for t in reversed(range(T)) if reverse else range(T):
            h, c = cell.step(steps[t], h, c)
            made[t] = b.Unsqueeze(h, b.constant(np.array([0, 1])))
        ys.append(b.Concat(*(made[t] for t in range(T)), axis=0))
        hs.append(b.Unsqueeze(h, b.constant(np.array([0]))))
        cs.append(b.Unsqueeze(c, b.constant(np.array([0]))))
    outs = [b.Concat(*ys, axis=1), b.Concat(*hs, axis=0), b.Concat(*cs, axis=0)][: OUTPUTS[kind]]
    names = [p.name for p in OPS[kind].inputs]
    b.output(total(b, outs, OPS[kind](*(arrays.get(n) for n in names), **attributes)), "f")
    return b.build()


def unrolled_cases():
    for kind, direction in itertools.product(GATES, ("forward", "reverse", "bidirectional")):
        yield kind, (), {"direction": direction}
        yield kind, ("b", "initial_h", "initial_c", "p"), {"direction": direction, "clip": 0.7}
    yield "GRU", (), {"linear_before_reset": 1, "direction": "bidirectional"}
    yield "GRU", ("b",), {"linear_before_reset": 1, "clip": 0.9}
    yield "LSTM", (), {"input_forget": 1, "direction": "reverse", "clip": 1.1}
    yield "LSTM", ("p",), {"input_forget": 1}


@pytest.mark.parametrize(("kind", "skip", "attributes"), list(unrolled_cases()))
def test_value_and_gradient_of_the_unrolled_layer(kind, skip, attributes):
    arrays = draw(kind, 2 if attributes.get("direction") == "bidirectional" else 1, skip=skip)
    layer = Session(layer_graph(kind, arrays, attributes))
    unrolled = Session(unrolled_graph(kind, arrays, attributes))
    value, gradient = layer.value_and_grad(arrays, wrt=list(arrays))
    expected, slopes = unrolled.value_and_grad(arrays, wrt=list(arrays))
    assert float(value) == pytest.approx(float(expected), rel=1e-12)
    for name, g in gradient.items():
        np.testing.assert_allclose(g, slopes[name], rtol=1e-9, atol=1e-11, err_msg=name)
    dots = {k: weights(a.shape, 7) for k, a in arrays.items()}
    _, tangent = layer.jvp(arrays, dots)
    assert float(tangent["f"]) == pytest.approx(sum(np.sum(slopes[k] * d) for k, d in dots.items()), rel=1e-9)
    _, hessian = layer.hvp(arrays, dots)
    _, expected = unrolled.hvp(arrays, dots)
    for name, g in hessian.items():
        np.testing.assert_allclose(g, expected[name], rtol=1e-8, atol=1e-10, err_msg=name)


# ---- layout and padding --------------------------------------------------------------------------------------


def call(kind, arrays, lens=None, **attributes):
    given = {**arrays, "sequence_lens": None if lens is None else np.array(lens, np.int32)}
    return OPS[kind](*(given.get(p.name) for p in OPS[kind].inputs), **attributes)


@pytest.mark.parametrize("kind", GATES)
def test_layout_1_puts_the_batch_first(kind):
    arrays = draw(kind, 2)
    swapped = {k: np.swapaxes(a, 0, 1) if k in ("x", "initial_h", "initial_c") else a for k, a in arrays.items()}
    y, *last = call(kind, arrays, [2, 4, 1], direction="bidirectional")
    z, *last_of_z = call(kind, swapped, [2, 4, 1], direction="bidirectional", layout=1)
    assert z.shape == (N, T, 2, H)
    np.testing.assert_array_equal(z, np.moveaxis(y, 2, 0))
    for a, b in zip(last, last_of_z, strict=True):
        np.testing.assert_array_equal(b, np.swapaxes(a, 0, 1))


@pytest.mark.parametrize(("kind", "direction"), list(itertools.product(GATES, ("forward", "reverse", "bidirectional"))))
def test_padding_is_as_if_it_were_not_there(kind, direction):
    """Each sequence alone, cut to its length, gives the same; behind its end y is 0, whatever stands in x."""
    d = 2 if direction == "bidirectional" else 1
    arrays, lens = draw(kind, d), [2, 4, 0]
    arrays["x"][2:, 0] = np.nan
    y, *last = call(kind, arrays, lens, direction=direction)
    for n, size in enumerate(lens):
        alone = {k: a[:, n : n + 1] if k in ("initial_h", "initial_c") else a for k, a in arrays.items()}
        alone["x"] = arrays["x"][:size, n : n + 1]
        z, *last_of_z = call(kind, alone, direction=direction)
        np.testing.assert_allclose(y[:size, :, n], z[:, :, 0], rtol=1e-12)
        assert not np.any(y[size:, :, n])
        for a, b in zip(last, last_of_z, strict=True):
            np.testing.assert_allclose(a[:, n], b[:, 0], rtol=1e-12)
    graph = layer_graph(kind, {**arrays, "x": np.nan_to_num(arrays["x"])}, {"direction": direction}, lens)
    _, gradient = Session(graph).value_and_grad(arrays, wrt=list(arrays))
    assert all(np.isfinite(g).all() for g in gradient.values())
    assert not np.any(gradient["x"][2:, 0])


# ---- activations ---------------------------------------------------------------------------------------------

Z = np.array([-2.0, -0.5, -1e-3, 0.0, 0.25, 0.75, 3.0])
ACTIVATIONS = {
    "Relu": ((), lambda x: np.maximum(x, 0)),
    "Tanh": ((), np.tanh),
    "Sigmoid": ((), lambda x: 1 / (1 + np.exp(-x))),
    "Affine": ((0.5, 0.25), lambda x: 0.5 * x + 0.25),
    "LeakyRelu": ((0.2,), lambda x: np.where(x >= 0, x, 0.2 * x)),
    "ThresholdedRelu": ((0.75,), lambda x: np.where(x >= 0.75, x, 0)),
    "ScaledTanh": ((1.5, 0.5), lambda x: 1.5 * np.tanh(0.5 * x)),
    "HardSigmoid": ((0.3, 0.4), lambda x: np.clip(0.3 * x + 0.4, 0, 1)),
    "Elu": ((0.7,), lambda x: np.where(x >= 0, x, 0.7 * np.expm1(np.minimum(x, 0)))),
    "Softsign": ((), lambda x: x / (1 + np.abs(x))),
    "Softplus": ((), lambda x: np.log1p(np.exp(x))),
}


def one_step(x, activation, **attributes):
    """f(x) by an RNN of one unit, one step."""
    one = np.ones((1, 1, 1))
    return recurrent.rnn(x.reshape(1, -1, 1), one, one, activations=(activation,), **attributes)[0].reshape(x.shape)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    constants, f = ACTIVATIONS[name]
    keys = ("activation_alpha", "activation_beta")
    given = {k: (c,) for k, c in zip(keys, constants, strict=False)}
    np.testing.assert_allclose(one_step(Z, name, **given), f(Z), rtol=1e-14)
    np.testing.assert_allclose(one_step(Z, name.lower(), clip=0.6, **given), f(np.clip(Z, -0.6, 0.6)), rtol=1e-14)


def test_default_constants():
    np.testing.assert_allclose(one_step(Z, "LeakyRelu"), np.where(Z > 0, Z, 0.01 * Z))
    np.testing.assert_allclose(one_step(Z, "HardSigmoid"), np.clip(0.2 * Z + 0.5, 0, 1))
    np.testing.assert_allclose(one_step(Z, "Elu"), np.where(Z > 0, Z, np.expm1(Z)))
    np.testing.assert_allclose(one_step(Z, "ThresholdedRelu"), np.where(Z >= 1, Z, 0))


def test_constants_are_taken_in_turn_by_the_activations_that_have_some():
    arrays = draw("LSTM", 1)
    mixed = call("LSTM", arrays, activations=("HardSigmoid", "Tanh", "Affine"), activation_alpha=(0.3, 0.5))
    spelled = call(
        "LSTM", arrays, activations=("HardSigmoid", "Tanh", "Affine"),
        activation_alpha=(0.3, 0.5), activation_beta=(0.5, 0.0),
    )  # fmt: skip
    np.testing.assert_array_equal(mixed[0], spelled[0])


@pytest.mark.parametrize(("name", "slope"), [("Relu", 0.0), ("LeakyRelu", 0.01), ("Elu", 1.0), ("Tanh", 1.0)])
def test_slope_at_zero(name, slope):
    one = np.ones((1, 1, 1))
    b = GraphBuilder(dtype=F)
    y = b.RNN(b.input("x", F, [1, 1, 1]), b.constant(one), b.constant(one), activations=(name,), hidden_size=1)
    b.output(b.ReduceSum(y, keepdims=0), "f")
    _, gradient = Session(b.build()).value_and_grad({"x": one * 0}, wrt=["x"])
    assert float(gradient["x"].item()) == slope


def test_clip_does_not_touch_the_cell_state():
    """c grows beyond clip, and h = o tanh(c) sees all of it."""
    x = np.full((5, 1, 1), 9.0)
    y, _, c = recurrent.lstm(x, np.ones((1, 4, 1)), np.zeros((1, 4, 1)), clip=2.0)
    i, g = 1 / (1 + np.exp(-2.0)), np.tanh(2.0)
    state = 0.0
    for t in range(5):
        state = i * state + i * g
        assert float(y[t].item()) == pytest.approx(i * np.tanh(state))
    assert float(c.item()) == pytest.approx(state)
    assert state > 2.0


# ---- dtypes, old opsets, errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", GATES)
def test_narrow_floats_are_computed_in_float32(kind):
    arrays = draw(kind, 1)
    exact = call(kind, arrays)
    for dtype, tolerance in ((np.float32, 1e-5), (np.float16, 5e-3)):
        for y, z in zip(call(kind, {k: a.astype(dtype) for k, a in arrays.items()}), exact, strict=True):
            assert y.dtype == dtype
            np.testing.assert_allclose(y, z, rtol=tolerance, atol=tolerance)


def test_every_opset_has_the_layers():
    x = draw("GRU", 1, skip=("b", "initial_h"))
    for opset in (6, 7, 14, 22, 24):
        b = GraphBuilder(dtype=F, opset=opset)
        v = [b.input(k, F, a.shape) for k, a in x.items()]
        b.output(b.GRU(*v, hidden_size=H, **({"output_sequence": 1} if opset == 6 else {})), "y")
        np.testing.assert_allclose(Session(b.build()).run(x)["y"], call("GRU", x)[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"direction": "backward"}, "one of forward, reverse, bidirectional"),
        ({"activations": ("Tanh",)}, "1 activations for 1 x 3"),
        ({"activations": ("Tanh", "Sine", "Tanh")}, "no activation is named 'Sine'"),
        ({"hidden_size": 5}, "hidden_size is 5, r has 2 columns"),
        ({"lens": [1, 2, 9]}, r"sequence_lens \[1, 2, 9\] should be 3 numbers from 0 to 4"),
        ({"lens": [1]}, "should be 3 numbers"),
        ({"b": np.zeros((1, 3))}, r"b has shape \[1, 3\]; .* should be \[1, 16\]"),
        ({"x": np.zeros((4, 3))}, "x has 2 dimensions"),
    ],
)
def test_wrong_arguments(changes, message):
    arrays = draw("LSTM", 1) | {k: v for k, v in changes.items() if isinstance(v, np.ndarray)}
    attributes = {k: v for k, v in changes.items() if not isinstance(v, np.ndarray) and k != "lens"}
    with pytest.raises(ValueError, match=message):
        call("LSTM", arrays, changes.get("lens"), **attributes)
