"""Conformance kits: plain functions that plug-in authors call, with any test runner or none.

>>> from graphrt.op import op
>>> @op("Twice", domain="example", elementwise=True, linear="x")
... def twice(x):
...     return x + x
>>> @twice.vjp("x")
... def _(ct):
...     return ct + ct
>>> check_op(twice)
"""

from graphrt.testing.errors import OpCheckError
from graphrt.testing.kernels import KernelCheckError, check_kernel
from graphrt.testing.ops import check_op, dual_fallbacks
from graphrt.testing.optimizers import OptimizerCheckError, check_optimizer

__all__ = [
    "KernelCheckError",
    "OpCheckError",
    "OptimizerCheckError",
    "check_kernel",
    "check_op",
    "check_optimizer",
    "dual_fallbacks",
]
