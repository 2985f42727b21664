"""`OpModule`: ops that are named now and imported when one of them is first used."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator, Mapping

from graphrt.errors import PluginError
from graphrt.op.core import Op, OpKey


class OpModule:
    """A module of ops, and their names: a plug-in's hook may return it in the place of the ops.

    The names alone serve to look ops up and to find clashes; the module is imported when one of its ops is first used.
    It has exactly the named ops in its tuple ``OPS``.

    Args:
        module: its full name.
        names: the ops, apart by spaces: ``"Tanh"`` is version 1, ``"Add-7,13,14"`` three versions,
            ``"graphrt::Step"`` an op of another domain than ``domain``.
        domain: of the ops.

    Attributes:
        keys: the keys of the ops, in the order in which they are named.

    Raises:
        PluginError: a name cannot be read.

    >>> OpModule("graphrt.ops.rounding", "Ceil-6,13 graphrt::Trunc").keys
    (('', 'Ceil', 6), ('', 'Ceil', 13), ('graphrt', 'Trunc', 1))
    """

    def __init__(self, module: str, names: str, *, domain: str = ""):
        self.module, self.names, self.domain = module, names, domain
        self.keys = tuple(self._read())

    def __repr__(self) -> str:
        return f"<ops of {self.module}: {self.names}>"

    def _read(self) -> Iterator[OpKey]:
        for word in self.names.split():
            name, dash, versions = word.rpartition("-")
            domain, colons, op_type = (name if dash else word).rpartition("::")
            for version in versions.split(",") if dash else "1":
                if not version.isdecimal():
                    raise PluginError(f"{self.module}: {word!r} is no name of ops; write Name or Name-7,13")
                yield domain if colons else self.domain, op_type, int(version)

    def load(self) -> Mapping[OpKey, Op]:
        """Imports the module.

        Raises:
            PluginError: it does not define the very ops that are named.
        """
        ops = {o.key: o for o in importlib.import_module(self.module).OPS}
        if ops.keys() != set(self.keys):
            raise PluginError(f"{self.module} is said to define {self.names!r}, and defines {self._text(ops)!r}")
        return ops

    def _text(self, keys: Iterable[OpKey]) -> str:
        """These keys as ``names``."""
        versions: dict[str, list[int]] = {}
        for domain, op_type, version in keys:
            versions.setdefault(op_type if domain == self.domain else f"{domain}::{op_type}", []).append(version)
        return " ".join(n if v == [1] else f"{n}-{','.join(map(str, sorted(v)))}" for n, v in versions.items())
