"""Arguments for the kernels over images: convolution, pooling, batch normalization, at shapes that take every path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from graphrt.op import Example

CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((3, 16, 7, 6), (18, 16, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 32, 9, 11), (32, 16, 3, 2), {"group": 2, "pads": (0, 2, 1, 1), "dilations": (1, 2)}),
    ((1, 16, 45, 30), (16, 16, 3, 3), {"pads": (2, 1, 2, 0)}),
    ((2, 16, 5, 8), (16, 16, 3, 1), {}),
    ((7, 16, 11, 5), (17, 16, 3, 5), {"auto_pad": "SAME_UPPER"}),
    ((5, 1, 14, 13), (6, 1, 5, 5), {"pads": (2, 2, 2, 2)}),
    ((3, 6, 14, 14), (16, 6, 5, 5), {}),
    ((10, 1, 14, 13), (6, 1, 5, 5), {"pads": (2, 2, 2, 2)}),
    ((14, 6, 9, 14), (16, 6, 5, 5), {}),
    ((22, 3, 9, 14), (5, 3, 3, 4), {"strides": (2, 2), "pads": (1, 0, 2, 1)}),
    ((33, 4, 7, 12), (40, 4, 2, 3), {"strides": (1, 3), "pads": (0, 2, 1, 0), "dilations": (1, 2)}),
    ((13, 5, 8, 12), (4, 5, 3, 3), {"auto_pad": "SAME_UPPER", "dilations": (1, 2)}),
    ((30, 3, 33), (4, 3, 5), {"pads": (3, 1)}),
    ((2, 3, 32, 31), (20, 3, 7, 7), {"pads": (3, 3, 3, 3), "strides": (2, 2)}),
    ((1, 2, 90, 80), (33, 2, 3, 3), {"pads": (1, 1, 1, 1), "strides": (2, 1), "dilations": (2, 3)}),
    ((2, 8, 9, 10), (12, 4, 4, 3), {"group": 2, "pads": (3, 2, 1, 2), "strides": (1, 3)}),
    ((2, 8, 7, 5), (30, 8, 2, 2), {"pads": (4, 3, 5, 3), "dilations": (3, 1)}),
    ((2, 4, 9, 9), (5, 4, 2, 2), {"strides": (3, 4)}),
    ((3, 10, 9, 12), (10, 1, 3, 3), {"group": 10, "pads": (1, 1, 1, 1)}),
    ((2, 40, 17, 30), (40, 1, 5, 3), {"group": 40, "pads": (2, 0, 1, 2), "strides": (2, 3), "dilations": (2, 1)}),
    ((2, 6, 9, 8), (12, 1, 3, 3), {"group": 6, "pads": (1, 1, 1, 1)}),
    ((5, 6, 7, 8), (6, 1, 3, 3), {"group": 6, "pads": (1, 1, 1, 1)}),
    ((5, 6, 8, 7), (6, 1, 3, 2), {"group": 6, "pads": (0, 1, 2, 1), "strides": (2, 1), "dilations": (1, 2)}),
    ((1, 5, 4, 4), (5, 1, 3, 3), {"group": 5, "pads": (1, 1, 1, 1)}),
    ((2, 5, 9, 16), (5, 1, 3, 3), {"group": 5, "pads": (4, 1, 3, 4)}),
    ((2, 3, 20, 150), (3, 1, 3, 3), {"group": 3, "pads": (1, 1, 1, 1)}),
    ((3, 24, 7, 5), (10, 24, 1, 1), {}),
    ((3, 24, 7, 6), (12, 12, 1, 1), {"group": 2, "strides": (2, 3)}),
    ((3, 6, 7, 6), (5, 6, 1, 1), {"pads": (1, 0, 2, 1)}),
    ((3, 16, 30), (17, 16, 5), {"pads": (2, 1), "strides": (2,)}),
    ((3, 16, 30), (16, 1, 4), {"group": 16, "dilations": (2,)}),
    ((3, 16, 9), (4, 16, 1), {}),
)
"""Shapes of x and w, attributes."""

TRANSPOSED: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((3, 5, 6, 7), (5, 4, 2, 2), {"strides": (2, 2)}),
    ((2, 5, 6, 7), (5, 4, 2, 3), {"strides": (2, 3), "output_padding": (1, 0)}),
    ((2, 6, 5, 4), (6, 3, 3, 3), {"strides": (2, 2), "pads": (1, 1, 1, 1), "group": 2}),
    ((2, 6, 5, 4), (6, 1, 3, 3), {"strides": (2, 1), "pads": (1, 1, 1, 1), "group": 6}),
    ((2, 18, 9, 8), (18, 17, 3, 3), {"pads": (1, 1, 1, 1)}),
    ((2, 4, 5, 4), (4, 3, 3, 2), {"dilations": (2, 1), "strides": (1, 2), "auto_pad": "SAME_UPPER"}),
    ((2, 4, 5, 5), (4, 3, 1, 1), {}),
    ((2, 4, 5, 5), (4, 3, 3, 3), {"strides": (2, 2), "output_shape": (10, 11)}),
    ((3, 4, 9), (4, 5, 4), {"strides": (4,)}),
    ((3, 4, 9), (4, 5, 3), {"strides": (2,), "pads": (1, 0)}),
)
"""Shapes of x and w of transposed convolutions, attributes."""

POOLS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((3, 4, 8, 12), {"kernel_shape": (2, 2), "strides": (2, 2)}),
    ((40, 50, 8, 6), {"kernel_shape": (2, 2), "strides": (2, 2)}),
    ((3, 4, 9, 13), {"kernel_shape": (2, 2), "strides": (2, 2)}),
    ((3, 4, 9, 13), {"kernel_shape": (2, 2), "strides": (2, 2), "ceil_mode": 1}),
    ((2, 3, 20, 21), {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    ((2, 3, 10, 11), {"kernel_shape": (3, 2), "strides": (1, 1), "pads": (1, 0, 2, 1), "dilations": (2, 3)}),
    ((2, 3, 10, 11), {"kernel_shape": (3, 5), "strides": (4, 7), "auto_pad": "SAME_UPPER"}),
    ((2, 3, 12), {"kernel_shape": (3,), "strides": (3,)}),
    ((2, 2, 6, 5, 8), {"kernel_shape": (2, 3, 2), "strides": (2, 1, 2), "pads": (0, 1, 1, 0, 1, 1)}),
)
"""Shapes of x, attributes."""


def _random_convolutions(
    rng: np.random.Generator, count: int
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]]:
    for _ in range(count):
        group, kernel = int(rng.choice([1, 1, 2, 3])), rng.integers(1, 5, 2)
        inside, outside = (int(rng.choice([1, 2, 5, 16, 19])) for _ in range(2))
        dilations, strides, pads = rng.integers(1, 3, 2), rng.integers(1, 4, 2), rng.integers(0, 3, 4)
        size = (kernel - 1) * dilations + 1 + rng.integers(0, 12, 2)
        arrays = {"dilations": dilations, "strides": strides, "pads": pads}
        attributes = {"group": group, **{k: tuple(v.tolist()) for k, v in arrays.items()}}
        n = int(rng.integers(1, 6))
        yield (n, group * inside, *size.tolist()), (group * outside, inside, *kernel.tolist()), attributes


def examples(op_type: str, rng: np.random.Generator) -> Iterator[Example]:
    """For a kernel of this op."""
    base = op_type.partition(".")[0]
    if base == "Conv":
        for i, (x_shape, w_shape, attributes) in enumerate((*CONVOLUTIONS, *_random_convolutions(rng, 12))):
            b = (rng.normal(size=w_shape[0]),) if i % 2 else ()
            yield Example((rng.normal(size=x_shape), rng.normal(size=w_shape), *b), attributes)
    if base == "ConvTranspose":
        for i, (x_shape, w_shape, attributes) in enumerate(TRANSPOSED):
            b = (rng.normal(size=w_shape[1] * attributes.get("group", 1)),) if i % 2 else ()
            yield Example((rng.normal(size=x_shape), rng.normal(size=w_shape), *b), attributes)
    if base in ("MaxPool", "AveragePool", "GlobalAveragePool"):
        for shape, attributes in POOLS:
            x = rng.integers(-4, 5, shape).astype(float)  # with ties
            yield Example(
                (x,),
                {} if base == "GlobalAveragePool" else attributes | ({"n_outputs": 1} if base == "MaxPool" else {}),
            )
    if base == "BatchNormalization":
        for shape in ((4, 3, 30, 31), (70, 5), (3, 40, 50, 60), (8, 300, 2)):
            draw, c = rng.normal, shape[1]
            x = draw(size=shape) * 3 + draw(size=(c, *(1,) * (len(shape) - 2))) * 20
            for training in (0, 1):
                yield Example(
                    (x, draw(size=c), draw(size=c), draw(size=c), rng.uniform(0.5, 2, c)), {"training_mode": training}
                )
