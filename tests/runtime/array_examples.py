"""Arguments for kernels of activations, choices, and ops that move elements."""

from __future__ import annotations

import numpy as np

from graphrt.op import Example

_SPECIAL = np.array([0.0, -0.0, 1e-20, 3.0, -3.0, 1e4, -1e4, np.inf, -np.inf, np.nan])


def examples(op_type, rng):
    """Examples of the values of a family's ops."""
    make = _EXAMPLES.get(op_type.partition(".")[0])
    return make(rng) if make else ()


def _arrays(rng):
    for shape in [(), (0, 3), (3, 4, 5), (40, 1000), (20_000,)]:
        yield rng.normal(size=shape) * 3


def _activation(*variants, special=_SPECIAL):
    def make(rng):
        for attributes in variants or ({},):
            yield from (Example((x,), attributes) for x in (*_arrays(rng), special))

    return make


def _clip(rng):
    for x in (*_arrays(rng), _SPECIAL):
        for bounds in ((), (np.array(-1.0),), (None, np.array([0.5])), (np.array(0.0), np.array(6.0))):
            yield Example((x, *bounds), {})
        yield Example((x,), {"min": -1.0, "max": 0.5})
        yield Example((x,), {"max": 0.5})


def _pow(rng):
    for x in _arrays(rng):
        for n in (2.0, 3.0, 0.5, -1.0, 1.7):
            yield Example((np.abs(x) + 0.1, np.array(n)), {})
    yield Example((np.abs(rng.normal(size=(2, 3))), rng.normal(size=3)), {})
    yield Example((np.abs(rng.normal(size=(3,))), rng.normal(size=(1, 1))), {})


def _where(rng):
    shapes = [
        ((200, 300), (200, 300), (200, 300)),
        ((200, 300), (), (1, 1)),
        ((5, 3), (5, 3), ()),
        ((2, 3),) * 3,
        ((3,), (), (2, 1)),
        ((2, 1), (3,), (1,)),
        ((0, 3), (3,), ()),
    ]
    for condition, x, y in shapes:
        yield Example((rng.normal(size=condition) > 0, rng.normal(size=x), rng.normal(size=y)), {})
    yield Example((rng.normal(size=10) > 0, _SPECIAL, np.roll(_SPECIAL, 3)), {})


def _concat(rng):
    for axis, sizes in ((0, (2, 1, 4)), (1, (3, 3)), (-1, (1, 0, 5)), (2, (7,))):
        shape = [2, 3, 4]
        parts = []
        for n in sizes:
            shape[axis] = n
            parts.append(rng.normal(size=shape))
        yield Example(tuple(parts), {"axis": axis})


def _gather(rng):
    x = rng.normal(size=(5, 4, 3))
    for axis, indices in ((0, np.array([[4, 0], [1, 1]])), (1, np.array([-1, 3])), (-1, np.array(2, np.int32))):
        yield Example((x, indices), {"axis": axis})
    yield Example((rng.normal(size=(50, 16)), rng.integers(-50, 50, (8, 20))), {})


def _resize(rng):
    x = rng.normal(size=(2, 3, 9, 40))
    for mode in ("nearest", "linear", "cubic"):
        for scales in ((1, 1, 2, 2), (1, 1, 3, 1.7), (1, 1, 0.4, 0.6), (1, 1, 2, 0.5), (1, 1, 1, 2.5), (1, 2, 2, 2)):
            yield Example((x, None, np.array(scales, np.float32)), {"mode": mode})
            if mode != "cubic":
                yield Example((x, np.array(scales, np.float32)), {"mode": mode})
        yield Example((x, None, None, np.array([2, 3, 9, 100])), {"mode": mode})
        yield Example((x, None, None, np.array([20, 20])), {"mode": mode, "axes": (-1, 2)})


def _instance_normalization(rng):
    for shape in ((2, 3, 4), (4, 20, 30, 40), (1, 5, 7, 6)):
        scale, b = rng.normal(size=shape[1]), rng.normal(size=shape[1])
        yield Example((rng.normal(size=shape) + 1, scale, b), {"epsilon": 0.01})


_EXAMPLES = {
    "Clip": _clip, "Pow": _pow, "Where": _where, "Concat": _concat, "Gather": _gather,
    "HardSigmoid": _activation({}, {"alpha": 1 / 6, "beta": 0.5}),
    "HardSwish": _activation(special=_SPECIAL[:7]),
    "Resize": _resize, "Upsample": _resize,
    "InstanceNormalization": _instance_normalization,
    "LeakyRelu": _activation({}, {"alpha": 0.3}, {"alpha": 1.5}),
    "Swish": _activation({}, {"alpha": 1.702}, special=_SPECIAL[:7]),
}  # fmt: skip
