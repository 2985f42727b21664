"""The rows in PyTorch: modules with the given weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..rows import Arrays, Row


class RowModule(nn.Module):
    """A row's model: ``forward(x) -> logits``. Running statistics are buffers."""

    def __init__(self, row: Row, weights: Arrays):
        super().__init__()
        self.row, self.body = row, _BODIES[row.kind]
        if row.kind == "lstm":
            self.layer = _lstm_layer(row, weights)
            weights = {k: v for k, v in weights.items() if k not in "wrb"}
        for name, a in weights.items():
            value = torch.from_numpy(a.copy())
            if name.startswith(("mean", "var")):
                self.register_buffer(name, value)
            else:
                self.register_parameter(name, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        """Scores [n, classes]."""
        return self.body(self, x)

    def dense(self, x: Tensor, i: int | str) -> Tensor:
        """A dense layer with the weights ``w{i}`` and ``b{i}``."""
        return F.linear(x, getattr(self, f"w{i}").t(), getattr(self, f"b{i}"))


def _mlp(m: RowModule, x: Tensor) -> Tensor:
    size = m.row.size
    function = {"Relu": torch.relu, "Tanh": torch.tanh}[size["activation"]]
    for i in range(1, len(size["hidden"]) + 1):
        x = function(m.dense(x, i))
    return m.dense(x, len(size["hidden"]) + 1)


def _lenet(m: Any, x: Tensor) -> Tensor:
    x = F.max_pool2d(torch.relu(F.conv2d(x, m.k1, m.c1, padding=2)), 2)
    x = F.max_pool2d(torch.relu(F.conv2d(x, m.k2, m.c2)), 2).flatten(1)
    return m.dense(torch.relu(m.dense(torch.relu(m.dense(x, 1)), 2)), 3)


def _residual(m: Any, x: Tensor) -> Tensor:
    def layer(x: Tensor, i: int) -> Tensor:
        mean, var, scale, shift, k = (getattr(m, f"{n}{i}") for n in ("mean", "var", "scale", "shift", "k"))
        return F.batch_norm(F.conv2d(x, k, padding=1), mean, var, scale, shift, m.training, 0.1)

    for i in range(1, 2 * m.row.size["blocks"], 2):
        x = torch.relu(layer(torch.relu(layer(x, i)), i + 1) + x)
    return m.dense(x.mean((2, 3)), 1)


def _encoder(m: Any, x: Tensor) -> Tensor:
    n, t, d = x.shape
    heads = m.row.size["heads"]
    q, k, v = (m.dense(x, p).view(n, t, heads, d // heads).transpose(1, 2) for p in "qkv")
    mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, d)
    x = F.layer_norm(x + m.dense(mixed, "o"), (d,), m.scale1, m.shift1)
    x = F.layer_norm(x + m.dense(F.gelu(m.dense(x, 1)), 2), (d,), m.scale2, m.shift2)
    return m.dense(x.mean(1), 3)


def _lstm_layer(row: Row, weights: Arrays) -> nn.LSTM:
    h = row.size["hidden"]
    layer = nn.LSTM(row.input[2], h)
    order = torch.cat([torch.arange(g * h, (g + 1) * h) for g in (0, 2, 3, 1)])  # i, o, f, c -> i, f, c, o
    w, r, b = (torch.from_numpy(weights[k][0]) for k in "wrb")
    with torch.no_grad():
        layer.weight_ih_l0.copy_(w[order])
        layer.weight_hh_l0.copy_(r[order])
        layer.bias_ih_l0.copy_(b[: 4 * h][order])
        layer.bias_hh_l0.copy_(b[4 * h :][order])
    return layer


def _lstm(m: Any, x: Tensor) -> Tensor:
    return m.dense(m.layer(x)[1][0][0], 1)


_BODIES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "residual": _residual,
    "encoder": _encoder,
    "lstm": _lstm,
}
