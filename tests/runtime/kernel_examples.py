"""Arguments for kernels: random shapes, among them ones larger than a block, and values that need care."""

from __future__ import annotations

import numpy as np

from graphrt import optim
from graphrt.definitions import OPTIMIZER_DOMAIN
from graphrt.ir import Graph, Node, Value
from graphrt.op import Example

UNARY = {
    "Abs", "Cos", "Erf", "Exp", "Gelu", "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Sin", "Sqrt", "Tanh",
}  # fmt: skip
BINARY = {"Add", "Sub", "Mul", "Div"}


def examples(op_type, rng):
    """Examples of the values of a family's ops."""
    op = op_type.partition(".")[0]
    if op in UNARY:
        yield from _unary(op, rng)
    if op in BINARY:
        yield from _binary(rng)
    if op == "MatMul":
        yield from _matmul(rng)
    if op in ("Softmax", "LogSoftmax"):
        yield from _softmax(rng)
    if op in ("LayerNormalization", "RMSNormalization"):
        yield from _layer_normalization(op, rng)
    if op in ("ReduceSum", "ReduceMean"):
        yield from _reduction(rng)
    if op == "SumOfSquares":
        yield from _squares(rng)
    if op == "FusedUpdates":
        yield from _updates(rng)
    if op == "Attention":
        yield from _attention(rng)
    if op in ("RNN", "GRU", "LSTM"):
        yield from _recurrent(op, rng)


def _updates(rng):
    """Two parameters, with a momentum each or without, in the first step and in a later one."""
    defaults = optim.SGD(0.1).definition.op.defaults()
    for momentum in (0.0, 0.9):
        names = ["w1", "w2", "g1", "g2", "rate", "step", *(["m1", "m2"] if momentum else [])]
        nodes = tuple(
            Node(
                "SGD",
                (f"w{i}", f"g{i}", "rate", "step", *([f"m{i}"] if momentum else [])),
                (f"w{i}.new", *([f"m{i}.new"] if momentum else [])),
                {**defaults, "momentum": momentum},
                OPTIMIZER_DOMAIN,
            )
            for i in (1, 2)
        )
        made = [nodes[i].outputs[k] for k in range(len(nodes[0].outputs)) for i in (0, 1)]
        body = Graph("updates", {OPTIMIZER_DOMAIN: 1}, tuple(map(Value, names)), tuple(map(Value, made)), nodes)
        for step in (1, 3):
            w, g, m = ([rng.normal(size=(3, 4)), rng.normal(size=5)] for _ in range(3))
            arrays = (*w, *g, np.asarray(0.1), np.asarray(step), *(m if momentum else ()))
            yield Example(arrays, {"body": body, "n_outputs": len(made)})


def _squares(rng):
    arrays = [rng.normal(size=shape) for shape in [(), (0, 3), _shape(rng, 3), (300, 1000), (100_001,)]]
    for x in arrays:
        yield Example((x,), {})
        yield Example((x.T, *arrays[:3]), {})


def _shape(rng, rank, most=9):
    return tuple(int(n) for n in rng.integers(1, most, rank))


def _unary(op, rng):
    variants = [{"approximate": a} for a in ("none", "tanh")] if op == "Gelu" else [{}]
    special = np.array([0.0, -0.0, 1e-20, -1e-20, 9.0, -9.0, 300.0, -300.0, 1e4, -1e4])
    for attributes in variants:
        for shape in [(), (0, 3), _shape(rng, 3), (40, 1000), (20_000,)]:
            x = rng.normal(size=shape) * 3
            yield Example((np.abs(x) + 0.1 if op in ("Log", "Sqrt", "Reciprocal") else x,), attributes)
        yield Example((np.abs(special) if op in ("Log", "Sqrt", "Reciprocal") else special,), attributes)


def _binary(rng):
    pairs = [((), ()), ((3,), ()), ((2, 3, 4), (4,)), ((4,), (2, 3, 4)), ((2, 3), (2, 3)), ((2, 3, 4), (3, 1))]
    pairs += [((0, 3), (3,))]
    pairs += [((2, 3), (1, 1)), ((2, 3, 4), (1, 3, 4)), ((300, 70), (70,)), ((1, 1), (2, 3)), ((200, 100), (200, 100))]
    for a, b in pairs:
        yield Example((rng.normal(size=a), rng.uniform(0.5, 2, b)), {})


def _matmul(rng):
    for _ in range(4):
        m, k, n = _shape(rng, 3, 40)
        batch = _shape(rng, int(rng.integers(1, 3)), 4)
        yield Example((rng.normal(size=(m, k)), rng.normal(size=(k, n))), {})
        yield Example((rng.normal(size=(*batch, m, k)), rng.normal(size=(k, n))), {})
        yield Example((rng.normal(size=(*batch, m, k)), rng.normal(size=(*batch, k, n))), {})
        yield Example((rng.normal(size=(m, k)), rng.normal(size=(*batch, k, n))), {})
    for m, k, n in ((1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 2, 0), (1, 5, 3), (5, 1, 3), (3, 5, 1)):
        yield Example((rng.normal(size=(2, m, k)), rng.normal(size=(k, n))), {})
        yield Example((rng.normal(size=(2, m, k)), rng.normal(size=(2, k, n))), {})


def _softmax(rng):
    for shape in [(1,), (5,), _shape(rng, 4), (300, 70), (3, 20_000), (700, 100), (2, 1)]:
        for scale in (1, 60):
            yield Example((rng.normal(size=shape) * scale,), {"axis": -1})
    masked = rng.normal(size=(6, 5))
    masked[2:, 3:] = masked[4] = -np.inf
    yield Example((masked[:4],), {"axis": 1})
    yield Example((masked,), {"axis": 1})
    yield Example((rng.normal(size=(4, 5)) + np.array([[200.0], [-200.0], [0.0], [1e4]]),), {"axis": -1})


def _layer_normalization(op, rng):
    cases = [((4, 6), -1), ((2, 3, 4), 1), ((2, 3, 4), -2), ((5,), 0), ((300, 170), -1), ((1, 70_000), 1), ((3, 1), 1)]
    for shape, axis in cases:
        if shape == (3, 1) and op == "RMSNormalization":
            continue  # its cotangent is the difference of equals
        inner = shape[axis:]
        x = rng.normal(size=shape) * 3 + 1
        if op == "LayerNormalization":
            vectors = rng.normal(size=(2, *inner))
            yield Example((x, *vectors), {"axis": axis, "epsilon": 0.01, "n_outputs": 1})
        yield Example((x, rng.normal(size=inner)), {"axis": axis, "n_outputs": 1})


def _recurrent(op, rng):
    gates, states = {"RNN": (1, 1), "GRU": (3, 1), "LSTM": (4, 2)}[op]
    for direction, layout, bias, starts, shape in [
        ("forward", 0, 1, 0, None), ("forward", 0, 0, 1, None), ("reverse", 0, 1, 1, None),
        ("bidirectional", 0, 1, 1, None), ("forward", 1, 1, 1, None), ("bidirectional", 1, 0, 0, None),
        ("reverse", 1, 1, 0, None), ("bidirectional", 0, 1, 1, (7, 200, 3, 2)), ("reverse", 1, 1, 1, (6, 256, 2, 3)),
    ]:  # fmt: skip
        for after in (0, 1) if op == "GRU" else (0,):
            t, n, i, h = shape or _shape(rng, 4)
            d = 2 if direction == "bidirectional" else 1
            state = (n, d, h) if layout else (d, n, h)
            inputs = [rng.normal(size=(n, t, i) if layout else (t, n, i)), rng.normal(size=(d, gates * h, i))]
            inputs += [rng.normal(size=(d, gates * h, h)), rng.normal(size=(d, 2 * gates * h)) if bias else None, None]
            inputs += [rng.normal(size=state) if starts else None for _ in range(states)]
            flag = {"linear_before_reset": after} if op == "GRU" else {}
            for tape in (0, 1) if gates > 1 else (0,):
                counted = {"n_outputs": 1 + states + tape} if gates > 1 else {}
                yield Example(tuple(inputs), {"direction": direction, "layout": layout, **flag, **counted})


def _attention(rng):
    sizes = [(2, 4, 2, 5, 7, 3, 2), (1, 2, 2, 300, 200, 4, 5), (1, 3, 1, 1, 6, 2, 2), (2, 2, 2, 70, 700, 8, 8)]
    for b, h, kv, s, t, d, dv in sizes:
        q, k, v = (rng.normal(size=z) for z in ((b, h, s, d), (b, kv, t, d), (b, kv, t, dv)))
        boolean = rng.random((s, t)) < 0.6
        boolean[0] = False
        for causal in (0, 1):
            yield Example((q, k, v), {"is_causal": causal})
            yield Example((q * 30, k * 30, v, boolean), {"is_causal": causal, "scale": 0.5})
            flat = (np.swapaxes(x, 1, 2).reshape(b, x.shape[2], -1) for x in (q, k, v))
            heads = {"q_num_heads": h, "kv_num_heads": kv}
            yield Example((*flat, boolean[None, None]), {"is_causal": causal, **heads})
        yield Example((q, k, v, rng.normal(size=(b, 1, s, t))), {})


def _reduction(rng):
    for shape in ((5,), (3, 4), (2, 3, 4), (40, 30, 20)):
        x = rng.normal(size=shape)
        for axes in (None, (0,), (-1,), tuple(range(len(shape)))):
            for keepdims in (0, 1):
                yield Example((x,) if axes is None else (x, np.array(axes)), {"keepdims": keepdims})
                yield Example((x,), {"keepdims": keepdims, **({"axes": axes} if axes else {})})
