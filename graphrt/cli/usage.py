"""Wrong usage of the command line: exit code 2."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

_FORMULA = re.compile(r"-(?!-)[^=]*[()*+/^ ].*", re.DOTALL)


class UsageError(Exception):
    """The arguments of a command make no sense; the message says which and what would."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises UsageError, takes no abbreviated options, and can show its help."""

    def __init__(self, prog: str, **options: object):
        super().__init__(prog, allow_abbrev=False, **options)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Raises instead of ending the process."""
        raise UsageError(f"{message}\ntry: {self.prog} --help")


def shield_formulas(arguments: list[str]) -> list[str]:
    """Puts a space before a formula that begins with a minus sign, so that it is not taken for an option.

    >>> shield_formulas(["-x*y", "--at", "x=-1"])
    [' -x*y', '--at', 'x=-1']
    """
    return [f" {a}" if _FORMULA.fullmatch(a) else a for a in arguments]
