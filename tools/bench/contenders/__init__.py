"""The contenders: one module each, imported only in the contender's own worker process.

A contender module has ``version() -> str``, ``set_threads(n)`` and ``prepare(task, folder) -> run``: the work of a
task as a function without arguments, whose results (losses, outputs) all contenders must agree on. It raises
`Unable` for a task that it cannot do.
"""

from __future__ import annotations


class Unable(Exception):
    """The contender cannot do this task; the message says why."""


OURS = ("graphrt", "graphrt+numba")
"""graphrt with NumPy alone, and with the kernels that graphrt-numba compiles; the others are their peers."""

MODULES = {
    "graphrt": "ours",
    "graphrt+numba": "ours",
    "torch": "torch_eager",
    "torch.compile": "torch_compiled",
    "jax": "jax_jit",
    "onnxruntime": "ort",
    "onnxruntime-training": "ort_training",
    "onnxsim": "onnxsim_steps",
    "autograd": "hips",
}
"""Contender to its module here."""
