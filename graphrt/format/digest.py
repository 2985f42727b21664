"""SHA-256 by the quicker of Python's two ways for the amount at hand.

`hashlib` does it with OpenSSL, several times as quick as CPython's own module; but loading OpenSSL takes as long as
that takes for half a megabyte.
"""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress
from typing import Any

SMALL = 1 << 19
"""For so many bytes, loading OpenSSL pays."""


def sha256(nbytes: int) -> Any:
    """A SHA-256 object of `hashlib`'s interface, for about so many bytes."""
    if nbytes < SMALL and "hashlib" not in sys.modules:
        for own in ("_sha2", "_sha256"):  # from CPython 3.12 on, and before
            with suppress(ImportError):
                return importlib.import_module(own).sha256()
    return importlib.import_module("hashlib").sha256()
