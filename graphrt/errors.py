"""Every error that graphrt raises on purpose, in one tree.

A message says what failed, where, and what to do next. Each error also carries those facts as
attributes, so that a program need not parse the text.
"""

from __future__ import annotations


class GraphrtError(Exception):
    """The root: ``except GraphrtError`` catches everything graphrt raises on purpose."""


class GraphError(GraphrtError):
    """A graph is not well formed: cycles, undefined values, wrong arity, unknown attributes."""


class UnknownOpError(GraphError):
    """No registered op has this domain, op type and version."""


class TypeInferenceError(GraphError):
    """The types or shapes of a node's inputs do not fit its op."""


class PassError(GraphError):
    """A graph pass broke the graph, or could not do its work; names the pass and those before it."""


class ExpressionError(GraphrtError):
    """An expression such as ``"x*y + sin(x)"`` cannot be read as a graph."""


class FormatError(GraphrtError):
    """A file is damaged, hostile, or not of this format.

    Attributes:
        offset: byte position at which the problem was seen, or None where it has no single place.
        reason: what is wrong there, without the position.
        path: the file, where one is known.
    """

    def __init__(self, reason: str, *, offset: int | None = None, path: str | None = None):
        self.reason, self.offset, self.path = reason, offset, path
        where = f"{path}: " if path else ""
        at = f"byte {offset}: " if offset is not None else ""
        super().__init__(f"{where}{at}{reason}")


class SaveError(GraphrtError):
    """A file could not be written; what was there before is intact."""


class ConversionError(GraphrtError):
    """A model cannot be converted to or from another format; names the node and the reason."""


class InputError(GraphrtError):
    """Arrays or options handed to graphrt do not fit: names the input, what was expected, what came."""


class NotDifferentiableError(GraphrtError):
    """A derivative was asked for through an op input that has no rule for it."""


class ExecutionError(GraphrtError):
    """An op failed while a graph ran; names the node and shows its neighbors in the listing."""


class NonFiniteError(GraphrtError):
    """A NaN or infinity appeared; names the first node that produced it."""


class PluginError(GraphrtError):
    """A plug-in is missing or broken, or two plug-ins define the same thing."""


class DataError(GraphrtError):
    """A data file or array set cannot be used: missing columns, unequal lengths, unreadable."""
