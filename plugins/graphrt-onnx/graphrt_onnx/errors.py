"""One way to say where a model is wrong: file, place, reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from onnx import NodeProto

from graphrt.plugin import ConversionError, GraphrtError


def describe(node: NodeProto) -> str:
    """A node as messages call it: its name (or first output) and its op."""
    label = node.name or next((o for o in node.output if o), "unnamed")
    domain = f"{node.domain}::" if node.domain else ""
    return f"node {label!r} ({domain}{node.op_type})"


@contextmanager
def converting(where: str) -> Iterator[None]:
    """Turns whatever goes wrong inside into a ConversionError that says where.

    An error that names a place already gets the outer place put in front of it.
    """
    try:
        yield
    except ConversionError as e:
        raise ConversionError(f"{where}: {e}") from e.__cause__
    except GraphrtError as e:
        raise ConversionError(f"{where}: {e}") from e
    except RecursionError as e:
        raise ConversionError(f"{where}: it is nested too deeply") from e
    except MemoryError as e:
        raise ConversionError(f"{where}: it does not fit into memory") from e
    except Exception as e:
        raise ConversionError(f"{where}: {type(e).__name__}: {e}") from e
