"""The loops of `graphrt_numba.recurrent`: a step's elementwise work, on flat matrices [features, batch]."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphrt_numba.compiler import LOCAL, local, loop
from graphrt_numba.functions import sigmoid, tanh

Array = Any
TWO = np.float32(2)


@loop
def lstm_step(size: int, record: Array, cell: Array, new: Array, state: Array) -> None:
    """Gates from pre-activations, those of i, o and f halved, c' = f c + i g and h = o tanh(c')."""
    i_, o_, f_ = record[:size], record[size : 2 * size], record[2 * size : 3 * size]
    g_, t_ = record[3 * size : 4 * size], record[4 * size : 5 * size]
    a, b, c = local(record, 1), local(record, 1), local(record, 1)
    d, e, h = local(record, 1), local(record, 1), local(record, 1)
    for start in range(0, size, LOCAL):
        stop = min(start + LOCAL, size)
        i, o, f, g, t = i_[start:stop], o_[start:stop], f_[start:stop], g_[start:stop], t_[start:stop]
        old, to, out = cell[start:stop], new[start:stop], state[start:stop]
        for k in range(stop - start):
            a[k], b[k], c[k] = sigmoid(TWO * i[k]), sigmoid(TWO * o[k]), sigmoid(TWO * f[k])
            d[k] = tanh(g[k])
            e[k] = c[k] * old[k] + a[k] * d[k]
            h[k] = tanh(e[k])
        for k in range(stop - start):
            i[k] = a[k]
        for k in range(stop - start):
            o[k] = b[k]
        for k in range(stop - start):
            f[k] = c[k]
        for k in range(stop - start):
            g[k] = d[k]
        for k in range(stop - start):
            to[k] = e[k]
        for k in range(stop - start):
            t[k] = h[k]
        for k in range(stop - start):
            out[k] = b[k] * h[k]
