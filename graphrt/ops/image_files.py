"""ImageDecoder: the bytes of an image file to pixels."""

from __future__ import annotations

import importlib
import io
import re
import warnings
from typing import Any

import numpy as np

from graphrt.errors import InputError
from graphrt.op import Array, op
from graphrt.types import TensorType

_MODES = {"RGB": "RGB", "BGR": "RGB", "Grayscale": "L"}


@op("ImageDecoder", version=20, outputs="image", nondiff=True)
def image_decoder(encoded_stream: Array, *, pixel_format: str = "RGB") -> Array:
    """Decodes an image file.  encoded_stream: uint8 [n], the file -> image: uint8 [height, width, channels].

    ``pixel_format``: "RGB", "BGR" (3 channels) or "Grayscale" (1). What cannot be decoded gives an image of size
    0 x 0. BMP, JPEG, JPEG 2000, TIFF, PNG, WebP and the portable formats, by the package Pillow; binary 8-bit PGM
    and PPM without it. Raises InputError where Pillow is needed and missing. Source: ONNX operator spec.
    """
    if pixel_format not in _MODES:
        raise ValueError(f"pixel_format is {pixel_format!r}; it should be one of {', '.join(_MODES)}")
    data = encoded_stream.tobytes()
    mode = _MODES[pixel_format]
    pixels = _portable(data, mode)
    if pixels is None:
        pixels = _by_pillow(data, mode)
    return np.ascontiguousarray(pixels[..., ::-1]) if pixel_format == "BGR" else pixels


def _portable(data: bytes, mode: str) -> Array | None:
    """A binary PGM (P5) or PPM (P6) file with 8-bit samples, where it has the channels asked for; else None."""
    comment = rb"(?:\s|#[^\n]*\n)+"
    header = re.match(rb"P([56])" + comment + rb"(\d{1,9})" + comment + rb"(\d{1,9})" + comment + rb"255\s", data)
    if header is None or (header[1] == b"6") != (mode == "RGB"):
        return None
    width, height, channels = int(header[2]), int(header[3]), 3 if mode == "RGB" else 1
    size = width * height * channels
    if len(data) - header.end() < size:
        return _nothing(mode)
    return np.frombuffer(data, np.uint8, size, header.end()).reshape(height, width, channels).copy()


def _by_pillow(data: bytes, mode: str) -> Array:
    image: Any = _pillow()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a file that claims to be huge is only warned about
            with image.open(io.BytesIO(data)) as opened:
                pixels = np.array(opened.convert(mode), np.uint8)
    except Exception:  # whatever is wrong with the file, the spec wants an empty image
        return _nothing(mode)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _pillow() -> Any:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as e:
        raise InputError("decoding this image needs the package Pillow: pip install pillow") from e


def _nothing(mode: str) -> Array:
    return np.zeros((0, 0, 3 if mode == "RGB" else 1), np.uint8)


@image_decoder.infer
def _(pixel_format):
    return TensorType("uint8", (None, None, 1 if pixel_format == "Grayscale" else 3))


@image_decoder.examples
def _(rng):
    pixels = rng.integers(0, 256, (2, 3, 3), np.uint8)
    color = np.frombuffer(b"P6 3 2 255\n" + pixels.tobytes(), np.uint8)
    yield (color,), {}
    yield (color,), {"pixel_format": "BGR"}
    yield (np.frombuffer(b"P5 # gray\n3 2\n255\n" + pixels[..., 0].tobytes(), np.uint8),), {"pixel_format": "Grayscale"}
    yield (color[:-1],), {}


OPS = (image_decoder,)
