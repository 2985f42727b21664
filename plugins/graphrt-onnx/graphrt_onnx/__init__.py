"""ONNX files as graphs: a converter for ``.onnx``, the functions `from_onnx` and `to_onnx`, ops of other domains."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graphrt.plugin import Converter, Graph, OpModule, hookimpl

if TYPE_CHECKING:
    from graphrt_onnx.reading import from_onnx
    from graphrt_onnx.writing import to_onnx

__all__ = ["from_onnx", "graphrt_register_converters", "graphrt_register_ops", "load", "save", "to_onnx"]


def load(path: Path) -> Graph:
    """Reads an ``.onnx`` file; see `graphrt_onnx.files.load`."""
    from graphrt_onnx import files

    return files.load(path)


def save(graph: Graph, path: Path, **options: Any) -> None:
    """Writes an ``.onnx`` file; see `graphrt_onnx.files.save`."""
    from graphrt_onnx import files

    files.save(graph, path, **options)


@hookimpl
def graphrt_register_converters() -> Iterable[Converter]:
    """The converter ``onnx``. The package ``onnx`` is imported when it is first used."""
    return [Converter("onnx", (".onnx",), load, save)]


@hookimpl
def graphrt_register_ops() -> Iterable[OpModule]:
    """Ops of ``ai.onnx.ml``, ``ai.onnx.preview.training`` and ``com.microsoft``."""
    from graphrt_onnx.ops import MODULES

    return MODULES


def __getattr__(name: str) -> Any:
    if name == "from_onnx":
        from graphrt_onnx.reading import from_onnx

        return from_onnx
    if name == "to_onnx":
        from graphrt_onnx.writing import to_onnx

        return to_onnx
    raise AttributeError(f"module 'graphrt_onnx' has no attribute {name!r}")
