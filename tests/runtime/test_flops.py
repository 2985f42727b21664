"""Operation counts from shapes."""

import numpy as np
import pytest

from graphrt.ir import Node
from graphrt.runtime.flops import count_flops


def zeros(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("op", "read", "made", "expected"),
    [
        ("MatMul", [zeros(5, 2, 3), zeros(3, 4)], [zeros(5, 2, 4)], 2 * 5 * 2 * 3 * 4),
        ("MatMul.vjp[b]", [zeros(2, 4), zeros(2, 3), zeros(3, 4)], [zeros(3, 4)], 2 * 2 * 3 * 4),
        ("Gemm", [zeros(2, 3), zeros(3, 4), zeros(4)], [zeros(2, 4)], 2 * 2 * 3 * 4),
        ("Gemm.vjp[a]", [zeros(2, 4), zeros(3, 4)], [zeros(2, 3)], 2 * 2 * 3 * 4),
        ("Gemm.vjp[c]", [zeros(2, 4), zeros(4)], [zeros(4)], 8),
        ("Conv", [zeros(1, 3, 8, 8), zeros(4, 3, 3, 3)], [zeros(1, 4, 6, 6)], 2 * 4 * 36 * 27),
        ("Conv.vjp[w]", [zeros(1, 4, 6, 6), zeros(1, 3, 8, 8), zeros(4, 3, 3, 3)], [zeros(4, 3, 3, 3)], 8 * 36 * 27),
        ("LSTM", [zeros(7, 2, 3), zeros(1, 20, 3), zeros(1, 20, 5)], [zeros(7, 1, 2, 5)], 2 * 14 * (60 + 100)),
        ("Add", [zeros(2, 3), zeros(3)], [zeros(2, 3)], 6),
        ("Reshape", [zeros(2, 3), np.array([6])], [zeros(6)], 0),
        ("Unheard", [None, zeros(3)], [zeros(2)], 3),
        ("MatMul", [zeros(), zeros(3)], [zeros(3)], 3),
    ],
)  # fmt: skip
def test_counts(op, read, made, expected):
    assert count_flops(Node(op, ("a",), ("b",)), read, made) == pytest.approx(expected)
