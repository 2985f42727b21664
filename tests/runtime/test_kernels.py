"""Every built-in kernel against its op's own function."""

from __future__ import annotations

import numpy as np
import pytest

from graphrt.definitions import Kernel
from graphrt.manager import get_registry
from graphrt.op import Example
from graphrt.testing import KernelCheckError, check_kernel
from tests.runtime.array_examples import examples as array_examples
from tests.runtime.image_examples import examples as image_examples
from tests.runtime.kernel_examples import examples

REGISTRY = get_registry()
KERNELS = tuple(k for k in REGISTRY.table("kernels").values() if REGISTRY.plugin_of("kernels", k) == "graphrt")


def more_examples(op_type):
    """Arguments of a size that matters, where the ops' own examples are small."""
    rng = np.random.default_rng(1)
    yield from examples(op_type, rng)
    yield from image_examples(op_type, rng)
    yield from array_examples(op_type, rng)
    if op_type.startswith(("SGD", "Adam")):
        w, g, m, v = (np.abs(rng.normal(size=(300, 200))) for _ in range(4))
        state = (m,) if op_type == "SGD" else (m, v)
        for step in (1, 3):
            args = (w, g, np.asarray(0.01), np.asarray(step), *state)
            yield Example(
                args, {"weight_decay": 0.1} | ({"momentum": 0.9, "nesterov": step % 2} if op_type == "SGD" else {})
            )
    if op_type.startswith("SoftmaxCrossEntropyLoss"):
        for reduction in ("mean", "sum"):
            scores, labels = rng.normal(size=(9, 5)) * 30, rng.integers(0, 5, 9)
            yield Example((scores, labels), {"reduction": reduction, "n_outputs": 1})


@pytest.mark.parametrize("kernel", KERNELS, ids=[k.name for k in KERNELS])
def test_does_what_the_op_does(kernel):
    assert check_kernel(kernel, more_examples(kernel.op_type)) > 0


def wrong(function):
    return Kernel("wrong", "Tanh", lambda site: function)


@pytest.mark.parametrize(
    ("kernel", "message"),
    [
        (wrong(lambda x: np.tanh(x) * 1.001), "differs by"),
        (wrong(lambda x: np.tanh(x).astype("float32")), "gives float32"),
        (wrong(lambda x: np.tanh(x).ravel()), "the op float"),
        (Kernel("never", "Tanh", lambda site: None), "serves none"),
    ],
)
def test_the_check_catches(kernel, message):
    more = [Example((np.linspace(-1, 1, 6).reshape(2, 3),), {})]
    with pytest.raises(KernelCheckError, match=message):
        check_kernel(kernel, more)
