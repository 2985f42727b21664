"""Files that are either replaced whole or not touched at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from graphrt.errors import SaveError


def write_atomically(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Writes a file through a temporary one in the same folder, flushed to disk and then renamed.

    A symbolic link is followed: what it points to is replaced. An existing file's permissions are kept.

    Args:
        path: the file to make or to replace.
        write: writes the content to the open file, which can seek.

    Raises:
        SaveError: the folder is missing or not writable, the disk is full, …; the old file is intact
            and no temporary file is left.
    """
    try:
        target = os.path.realpath(path)
        mode = _existing_mode(target)
        temporary, descriptor = _create_beside(target)
    except (OSError, ValueError) as e:
        raise SaveError(f"{path}: cannot write there: {_reason(e)}; choose a writable folder that exists") from e
    try:
        with os.fdopen(descriptor, "w+b") as f:
            if mode is not None:
                os.chmod(temporary, mode)
            write(f)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, target)
    except BaseException as e:
        with suppress(OSError):
            os.unlink(temporary)
        if isinstance(e, OSError):
            raise SaveError(f"{path}: could not be written: {_reason(e)}; what was there before is intact") from e
        raise
    _sync_folder(os.path.dirname(target))


def _existing_mode(target: str) -> int | None:
    try:
        info = os.stat(target)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode):
        raise OSError("it exists and is not a regular file")
    return stat.S_IMODE(info.st_mode)


def _create_beside(target: str) -> tuple[str, int]:
    folder, name = os.path.split(target)
    temporary = os.path.join(folder, f".{name[:100]}.{os.urandom(8).hex()}.tmp")
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return temporary, os.open(temporary, flags, 0o666)


def _sync_folder(folder: str) -> None:
    """Makes the rename last through a power cut, where the system can; the file is complete either way."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
