"""The op contract: a plain NumPy function, and its derivative rules beneath it.

The function's signature is the op's schema. Positional parameters are the inputs (``= None``: optional;
``*xs``: variadic), keyword-only parameters are the attributes. Three keyword-only names are not attributes
but are supplied by the interpreter: ``rng`` (a `numpy.random.Generator` keyed by seed, node, step and
worker), ``n_outputs`` (how many outputs the node names) and ``opset`` (the version the graph imports).

A rule's parameters are chosen by name:

========== =====================================================================================
``ct``      the cotangent of the first output (``ct_<output>`` of a named one, ``cts`` of all of a
            variadic output; None when nothing flows back through that output)
``x_dot``   the tangent of input ``x`` (None when it has none)
``x``       the input or output named ``x``
``x_like``  shape and dtype of the input or output ``x`` in an array without memory (see `like`): a rule
            that needs no more keeps nothing alive
``x_value`` (``infer`` only) the array of input ``x`` where it is a known constant, else None
attributes  by their names, after all values
========== =====================================================================================

A value that no rule names is freed at its last forward use: the names are the memory plan.
"""

from graphrt.op.arrays import like, unbroadcast
from graphrt.op.core import Op, OpKey, op
from graphrt.op.module import OpModule
from graphrt.op.rules import Example, Rule
from graphrt.op.schema import CONTEXT, Array, AttributeSpec, Function, Param

__all__ = [
    "CONTEXT",
    "Array",
    "AttributeSpec",
    "Example",
    "Function",
    "Op",
    "OpKey",
    "OpModule",
    "Param",
    "Rule",
    "like",
    "op",
    "unbroadcast",
]
