"""Bytes <-> Graph: the ``.grt`` container and the JSON text form. Knows no op.

`schemas/README.md` specifies both.
"""

from graphrt.format.container import MAGIC, VERSION, dumps, loads
from graphrt.format.files import SUFFIXES, load, save, verify_file
from graphrt.format.json_read import from_json
from graphrt.format.json_write import to_json
from graphrt.format.limits import Limits

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
