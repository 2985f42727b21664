"""Bytes <-> Graph: the ``.grt`` container and the JSON text form. Knows no op.

`schemas/README.md` specifies both.

The code of the text form is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from graphrt.format.container import MAGIC, VERSION, dumps, loads
from graphrt.format.files import SUFFIXES, load, save, verify_file
from graphrt.format.limits import Limits

if TYPE_CHECKING:
    from graphrt.format.json_read import from_json
    from graphrt.format.json_write import to_json

__all__ = [
    "MAGIC",
    "SUFFIXES",
    "VERSION",
    "Limits",
    "dumps",
    "from_json",
    "load",
    "loads",
    "save",
    "to_json",
    "verify_file",
]

_HOMES = {"from_json": "json_read", "to_json": "json_write"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
