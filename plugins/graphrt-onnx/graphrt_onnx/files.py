"""ONNX files: reading, and writing whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

import onnx
from onnx import TensorProto

from graphrt.errors import SaveError
from graphrt.plugin import ConversionError, Graph
from graphrt.types import dtype_name
from graphrt_onnx.errors import converting
from graphrt_onnx.reading import from_onnx
from graphrt_onnx.tensors import Array, file_bytes, tensor_of
from graphrt_onnx.value_types import ONNX_DTYPE
from graphrt_onnx.writing import to_onnx

LIMIT = (1 << 31) - (1 << 24)
"""From how many bytes of weights on they go to a file beside the model: protobuf ends at 2 GB."""

ALIGNMENT = 4096
SMALLEST = 1024
"""Tensors of fewer bytes stay in the model."""


def load(path: Path) -> Graph:
    """Reads an ``.onnx`` file, and the weights beside it.

    Raises:
        ConversionError: see `graphrt_onnx.from_onnx`.
    """
    return from_onnx(path)


def save(graph: Graph, path: Path, *, external_data: bool | None = None, **options: Any) -> None:
    """Writes an ``.onnx`` file that ONNX's checker accepts.

    Args:
        graph: what to write.
        path: the file; ``<name>.data`` beside it takes the weights if they go there.
        external_data: whether weights go to a file of their own (default: from 2 GB on).
        **options: see `graphrt_onnx.to_onnx`.

    Raises:
        ConversionError: the graph cannot be said in ONNX.
        SaveError: the file cannot be written; what was there before is intact.
    """
    path = Path(os.path.realpath(path))
    if external_data is None:
        external_data = sum(a.nbytes for a in graph.initializers.values()) >= LIMIT
    try:
        scratch = Path(tempfile.mkdtemp(prefix=".onnx-", dir=path.parent))
    except OSError as e:
        raise SaveError(f"{path}: cannot write there: {e.strerror}; choose a writable folder that exists") from e
    try:
        with converting(str(path)):
            if external_data:
                _write_with_data(graph, scratch / path.name, options)
            else:
                _write(scratch / path.name, to_onnx(graph, **options))
        for made in sorted(scratch.iterdir(), key=lambda p: p.name == path.name):
            os.replace(made, path.parent / made.name)
    except OSError as e:
        raise SaveError(f"{path}: could not be written: {e.strerror}; what was there before is intact") from e
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(path: Path, model: onnx.ModelProto) -> None:
    data = model.SerializeToString()
    with path.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())


def _write_with_data(graph: Graph, path: Path, options: dict[str, Any]) -> None:
    data = path.with_name(f"{path.name}.data")
    with data.open("wb") as f:
        model = to_onnx(graph, **{**options, "check": False}, initializer=_outside(f, data.name))
        f.flush()
        os.fsync(f.fileno())
    _write(path, model)
    if options.get("check", True):
        try:
            onnx.checker.check_model(str(path), full_check=True)
        except Exception as e:
            raise ConversionError(f"ONNX's checker refuses the model: {e}") from e


def _outside(f: BinaryIO, location: str) -> Any:
    """A function that makes the message of a weight and writes its bytes to the file."""

    def made(array: Array, name: str) -> TensorProto:
        if array.dtype == object or array.nbytes < SMALLEST:
            return tensor_of(array, name)
        f.write(b"\0" * (-f.tell() % ALIGNMENT))
        offset, data = f.tell(), file_bytes(array)
        f.write(data)
        dtype = ONNX_DTYPE[dtype_name(array.dtype)]
        tensor = TensorProto(name=name, data_type=dtype, dims=array.shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", location), ("offset", offset), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))
        return tensor

    return made
