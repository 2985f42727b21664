"""Tensor bytes that lie in a file beside the model: read only from within the model's folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from onnx import TensorProto

from graphrt.plugin import ConversionError

MAPPED = 1 << 20
"""From how many bytes on external data is mapped into memory instead of read."""

Bytes: TypeAlias = "np.ndarray[Any, np.dtype[np.uint8]]"


class ExternalData:
    """The files that a model's tensors may point into.

    Args:
        folder: the model's folder; None when the model came without a file, so that nothing can be read.
    """

    def __init__(self, folder: Path | None):
        self.folder = folder

    def read(self, tensor: TensorProto, nbytes: int) -> Bytes:
        """The bytes of one tensor, read-only.

        Args:
            tensor: with ``data_location`` EXTERNAL.
            nbytes: how many its type and shape ask for.

        Raises:
            ConversionError: the path leaves the folder, the file is missing or too short, offset or length do
                not fit.
        """
        entries = {e.key: e.value for e in tensor.external_data}
        location = entries.get("location", "")
        path = self._contained(location)
        offset = _number(entries, "offset", 0)
        length = _number(entries, "length", nbytes)
        if length != nbytes:
            raise ConversionError(
                f"external data {location!r}: length says {length} bytes, type and shape need {nbytes}"
            )
        try:
            info = os.stat(path)
            if not stat.S_ISREG(info.st_mode):
                raise ConversionError(f"external data {location!r} is not a regular file")
            if offset + nbytes > info.st_size:
                raise ConversionError(
                    f"external data {location!r} is too short: it has {info.st_size} bytes, "
                    f"{nbytes} are needed from byte {offset} on"
                )
            if nbytes >= MAPPED:
                return np.memmap(path, np.uint8, "r", offset, (nbytes,))
            with open(path, "rb") as f:
                f.seek(offset)
                return np.frombuffer(f.read(nbytes), np.uint8)
        except OSError as e:
            raise ConversionError(
                f"external data {location!r} cannot be read: {e.strerror or e}; it belongs in the model's folder"
            ) from e

    def _contained(self, location: str) -> str:
        if self.folder is None:
            raise ConversionError(
                f"its data is in the external file {location!r}, and a model in memory has no folder: give the path"
            )
        parts = location.replace("\\", "/").split("/")
        if not location or "\0" in location or os.path.isabs(location) or ".." in parts or parts[0][1:2] == ":":
            raise ConversionError(
                f"external data path {location!r} is not a relative path within the model's folder; not read"
            )
        root = os.path.realpath(self.folder)
        path = os.path.realpath(os.path.join(root, location))
        if os.path.commonpath([root, path]) != root:
            raise ConversionError(
                f"external data path {location!r} leads out of the model's folder by a link; not read"
            )
        return path


def _number(entries: dict[str, str], key: str, default: int) -> int:
    text = entries.get(key)
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 19:
        raise ConversionError(f"external data: {key} {text!r:.40} is not a whole number >= 0")
    return int(text)
