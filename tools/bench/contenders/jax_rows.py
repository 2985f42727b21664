"""The rows in JAX: ``forward(weights, x, row, train) -> (logits, new running statistics)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..rows import Row

Weights = dict[str, Any]
_LAYOUT = ("NCHW", "OIHW", "NCHW")


def forward(w: Weights, x: Any, row: Row, train: bool) -> tuple[Any, Weights]:
    """Scores [n, classes], and the running statistics after a training step."""
    statistics: Weights = {}
    return _BODIES[row.kind](w, x, row, statistics if train else None), statistics


def _dense(w: Weights, x: Any, i: int | str) -> Any:
    return x @ w[f"w{i}"] + w[f"b{i}"]


def _mlp(w: Weights, x: Any, row: Row, _: Weights | None) -> Any:
    function = {"Relu": jax.nn.relu, "Tanh": jnp.tanh}[row.size["activation"]]
    layers = len(row.size["hidden"])
    for i in range(1, layers + 1):
        x = function(_dense(w, x, i))
    return _dense(w, x, layers + 1)


def _conv(x: Any, k: Any, pad: int) -> Any:
    return lax.conv_general_dilated(x, k, (1, 1), [(pad, pad)] * 2, dimension_numbers=_LAYOUT)


def _pool(x: Any) -> Any:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def _lenet(w: Weights, x: Any, row: Row, _: Weights | None) -> Any:
    for i, pad in ((1, 2), (2, 0)):
        x = _pool(jax.nn.relu(_conv(x, w[f"k{i}"], pad) + w[f"c{i}"][:, None, None]))
    x = x.reshape(x.shape[0], -1)
    for i in (1, 2):
        x = jax.nn.relu(_dense(w, x, i))
    return _dense(w, x, 3)


def _residual(w: Weights, x: Any, row: Row, statistics: Weights | None) -> Any:
    def layer(x: Any, i: int) -> Any:
        x = _conv(x, w[f"k{i}"], 1)
        mean, var = w[f"mean{i}"], w[f"var{i}"]
        if statistics is not None:
            old_mean, old_var = mean, var
            mean = x.mean((0, 2, 3))
            var = jnp.mean(jnp.square(x), (0, 2, 3)) - jnp.square(mean)
            for name, old, new in (("mean", old_mean, mean), ("var", old_var, var)):
                statistics[f"{name}{i}"] = lax.stop_gradient(0.9 * old + 0.1 * new)
        scale = w[f"scale{i}"] * lax.rsqrt(var + 1e-5)
        return x * scale[:, None, None] + (w[f"shift{i}"] - mean * scale)[:, None, None]

    for i in range(1, 2 * row.size["blocks"], 2):
        x = jax.nn.relu(layer(jax.nn.relu(layer(x, i)), i + 1) + x)
    return _dense(w, x.mean((2, 3)), 1)


def _norm(x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * scale + shift


def _encoder(w: Weights, x: Any, row: Row, _: Weights | None) -> Any:
    n, t, d = x.shape
    heads = row.size["heads"]
    q, k, v = (_dense(w, x, p).reshape(n, t, heads, d // heads) for p in "qkv")
    attention = jax.nn.softmax(jnp.einsum("nqhc,nkhc->nhqk", q, k) * (d // heads) ** -0.5, -1)
    mixed = jnp.einsum("nhqk,nkhc->nqhc", attention, v).reshape(n, t, d)
    x = _norm(x + _dense(w, mixed, "o"), w["scale1"], w["shift1"])
    hidden = jax.nn.gelu(_dense(w, x, 1), approximate=False)
    x = _norm(x + _dense(w, hidden, 2), w["scale2"], w["shift2"])
    return _dense(w, x.mean(1), 3)


def _lstm(w: Weights, x: Any, row: Row, _: Weights | None) -> Any:
    h = row.size["hidden"]
    bias = w["b"][0, : 4 * h] + w["b"][0, 4 * h :]
    given = x @ w["w"][0].T + bias
    r = w["r"][0].T

    def cell(state: Any, now: Any) -> Any:
        hidden, c = state
        i, o, f, g = jnp.split(now + hidden @ r, 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (hidden, c), None

    zero = jnp.zeros((x.shape[1], h), x.dtype)
    (last, _c), _ys = lax.scan(cell, (zero, zero), given)
    return _dense(w, last, 1)


_BODIES: dict[str, Callable[[Weights, Any, Row, Weights | None], Any]] = {
    "mlp": _mlp,
    "lenet": _lenet,
    "residual": _residual,
    "encoder": _encoder,
    "lstm": _lstm,
}
