"""The installed entry points of a group, read from the files that installers leave.

`importlib.metadata` gives the same, and importing it takes longer than loading and running a small model does. So the
``entry_points.txt`` of each ``.dist-info`` and ``.egg-info`` folder on ``sys.path`` is read here; where distributions
may be anywhere else (archives, eggs, an importer that finds them its own way), `importlib.metadata` is asked after all.
Source: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import importlib
import operator
import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint


class InstalledPoint:
    """An entry point, with what is used here of `importlib.metadata.EntryPoint`.

    Args:
        name: its name.
        value: what it names: ``package.module`` or ``package.module:attribute``.
        folder: the folder of metadata of its distribution.
    """

    def __init__(self, name: str, value: str, folder: str):
        self.name, self.value, self.folder = name, value, folder

    def load(self) -> Any:
        """Imports the module; returns it, or its attribute."""
        module, _, attributes = self.value.partition("[")[0].partition(":")
        found = importlib.import_module(module.strip())
        return operator.attrgetter(attributes.strip())(found) if attributes else found

    @property
    def dist(self) -> Distribution:
        """The distribution that has it."""
        from importlib.metadata import Distribution

        return Distribution.at(self.folder)


def installed_points(group: str) -> list[InstalledPoint] | list[EntryPoint]:
    """The entry points of a group; of two distributions of one name, those of the first on ``sys.path``."""
    if any(f is not PathFinder and hasattr(f, "find_distributions") for f in sys.meta_path):
        return _asked(group)
    found: dict[str, list[InstalledPoint]] = {}
    for place in (p for p in sys.path if isinstance(p, str)):  # as the importer takes no others
        if place.lower().endswith(".egg") or os.path.isfile(place):
            return _asked(group)
        try:
            names = os.listdir(place or ".")
        except OSError:  # there is no such folder, or it may not be read
            continue
        for name in names:
            if name.lower().endswith((".dist-info", ".egg-info")):
                distribution = re.sub(r"[-_.]+", "_", name.rpartition(".")[0].partition("-")[0]).lower()
                if distribution not in found:
                    found[distribution] = list(_points_in(os.path.join(place, name), group))
    return [point for points in found.values() for point in points]


def _asked(group: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=group))


def _points_in(folder: str, group: str) -> Iterator[InstalledPoint]:
    try:
        with open(os.path.join(folder, "entry_points.txt"), encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif section == group and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield InstalledPoint(name.strip(), value.strip(), folder)
