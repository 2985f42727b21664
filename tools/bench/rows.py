"""What is timed: models as plain numbers (weights, a batch, a learning rate), the same for every contender.

Each row is made from NumPy alone, by seed, so that every worker process makes the same one without being sent it.
Layouts are ONNX's: dense weights [in, out], convolutions [out, in, kh, kw], LSTM gates in the order i, o, f, c.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Arrays = dict[str, Array]
CLASSES = 10
MOMENTUM = 0.9
FACTOR, SHIFT = 1.001, 1e-4  # of the chain of scalar ops: neither value nor gradient vanishes


@dataclass(frozen=True)
class Row:
    """One model at one size.

    Attributes:
        name: short and unique.
        title: what the table says.
        kind: how it is built: ``"mlp"``, ``"lenet"``, ``"residual"``, ``"encoder"`` or ``"lstm"``.
        size: keyword arguments of the kind, see `KINDS`.
        input: shape of the batch's ``x``.
        rate: learning rate of the training step.
    """

    name: str
    title: str
    kind: str
    input: tuple[int, ...]
    size: dict[str, Any] = field(default_factory=dict)
    rate: float = 0.01

    def weights(self) -> Arrays:
        """The initial weights by name, float32."""
        return KINDS[self.kind](np.random.default_rng(1), self)

    def batch(self) -> Arrays:
        """``x``: float32 of shape `input`; ``target``: int64 [n], classes."""
        rng = np.random.default_rng(2)
        x = rng.standard_normal(self.input, np.float32)
        n = self.input[1 if self.kind == "lstm" else 0]
        return {"x": x, "target": rng.integers(0, CLASSES, n)}


def _normal(rng: np.random.Generator, *shape: int, fan: int) -> Array:
    return rng.standard_normal(shape, np.float32) * np.float32(fan**-0.5)


def _zeros(*shape: int) -> Array:
    return np.zeros(shape, np.float32)


def _ones(*shape: int) -> Array:
    return np.ones(shape, np.float32)


def _dense(rng: np.random.Generator, sizes: list[int], first: int = 1) -> Arrays:
    made: Arrays = {}
    for i, (n, m) in enumerate(itertools.pairwise(sizes), first):
        made |= {f"w{i}": _normal(rng, n, m, fan=n), f"b{i}": _zeros(m)}
    return made


def _mlp(rng: np.random.Generator, row: Row) -> Arrays:
    return _dense(rng, [row.input[1], *row.size["hidden"], CLASSES])


def _lenet(rng: np.random.Generator, row: Row) -> Arrays:
    side = (row.input[2] // 2 - 4) // 2
    return {
        "k1": _normal(rng, 6, row.input[1], 5, 5, fan=25 * row.input[1]),
        "c1": _zeros(6),
        "k2": _normal(rng, 16, 6, 5, 5, fan=150),
        "c2": _zeros(16),
        **_dense(rng, [16 * side * side, 120, 84, CLASSES]),
    }


def _residual(rng: np.random.Generator, row: Row) -> Arrays:
    made: Arrays = {}
    c = row.input[1]
    for i in range(1, 2 * row.size["blocks"] + 1):
        made |= {f"k{i}": _normal(rng, c, c, 3, 3, fan=9 * c), f"scale{i}": _ones(c), f"shift{i}": _zeros(c)}
        made |= {f"mean{i}": _zeros(c), f"var{i}": _ones(c)}
    return made | _dense(rng, [c, CLASSES])


def _encoder(rng: np.random.Generator, row: Row) -> Arrays:
    d, ff = row.input[2], row.size["ff"]
    made = {n: a for p in "qkvo" for n, a in ((f"w{p}", _normal(rng, d, d, fan=d)), (f"b{p}", _zeros(d)))}
    made |= {"scale1": _ones(d), "shift1": _zeros(d), "scale2": _ones(d), "shift2": _zeros(d)}
    return made | _dense(rng, [d, ff, d]) | _dense(rng, [d, CLASSES], 3)


def _lstm(rng: np.random.Generator, row: Row) -> Arrays:
    n, h = row.input[2], row.size["hidden"]
    made = {"w": _normal(rng, 1, 4 * h, n, fan=n), "r": _normal(rng, 1, 4 * h, h, fan=h), "b": _zeros(1, 8 * h)}
    return made | _dense(rng, [h, CLASSES])


KINDS: dict[str, Callable[[np.random.Generator, Row], Arrays]] = {
    "mlp": _mlp,  # hidden: units; activation: "Relu" or "Tanh"
    "lenet": _lenet,
    "residual": _residual,  # blocks: how many, two convolutions each
    "encoder": _encoder,  # heads, ff; x is [n, tokens, d]; post-norm, exact GELU, mean over tokens
    "lstm": _lstm,  # hidden; x is [steps, n, inputs]; the last hidden state is classified
}
"""Kind to what makes its weights."""

ROWS = {
    r.name: r
    for r in (
        Row("mlp-small", "MLP 784-128-10, batch 32", "mlp", (32, 784), {"hidden": [128], "activation": "Relu"}),
        Row("mlp", "MLP 784-512-512-10, batch 128", "mlp", (128, 784), {"hidden": [512, 512], "activation": "Relu"}),
        Row(
            "mlp-large", "MLP 1024-2048-2048-10, batch 256", "mlp", (256, 1024),
            {"hidden": [2048, 2048], "activation": "Relu"},
        ),
        Row("lenet", "LeNet-5, 64x1x28x28", "lenet", (64, 1, 28, 28)),
        Row(
            "residual", "4 residual blocks 64ch 3x3 + BatchNorm, 16x64x32x32", "residual", (16, 64, 32, 32),
            {"blocks": 4},
        ),
        Row(
            "encoder", "Transformer encoder layer d=256 h=4 ff=1024, 8x128", "encoder", (8, 128, 256),
            {"heads": 4, "ff": 1024},
        ),
        Row("lstm", "LSTM 64->128, 32 x 64 steps", "lstm", (64, 32, 64), {"hidden": 128}),
        Row("tiny", "what loads a contender", "mlp", (128, 128), {"hidden": [128], "activation": "Relu"}),
        Row("mlp-tanh", "MLP 784-128-10, batch 32, tanh", "mlp", (32, 784), {"hidden": [128], "activation": "Tanh"}),
    )
}  # fmt: skip
"""Every row by name; the first seven are the ones that the geometric mean is over."""

JUDGED = tuple(ROWS)[:7]

ADAM_SIZE = 4_000_000


def adam_arrays() -> tuple[Array, Array]:
    """Parameters and a gradient, float32 [4,000,000], for one optimizer step."""
    rng = np.random.default_rng(3)
    return rng.standard_normal(ADAM_SIZE, np.float32), rng.standard_normal(ADAM_SIZE, np.float32)
