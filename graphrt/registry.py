"""Frozen tables from name to definition, each entry with the plug-in it came from."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from graphrt.definitions import OPTIMIZER_DOMAIN
from graphrt.errors import PluginError, UnknownOpError
from graphrt.ir import Graph, Node
from graphrt.op import Op

KINDS = (
    "ops",
    "optimizers",
    "losses",
    "metrics",
    "schedules",
    "initializers",
    "passes",
    "kernels",
    "converters",
    "engines",
    "commands",
    "callbacks",
)
"""The kinds of definitions, each with a hook ``graphrt_register_<kind>``."""

Source = Callable[[str], Iterable[tuple[Any, str]]]
"""Kind to (definition, plug-in name) pairs; called at most once for each kind."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A name that two plug-ins define."""

    kind: str
    name: str
    plugins: tuple[str, str]

    def __str__(self) -> str:
        both = " and ".join(map(repr, self.plugins))
        return f"{self.kind}: {self.name!r} is defined by both {both}; disable one of them (--disable-plugin NAME)"


class Registry:
    """What is registered. Each kind's table is made when first asked for, and never changes after.

    Args:
        source: gives the definitions of one kind with the names of their plug-ins.
    """

    def __init__(self, source: Source):
        self._source = source
        self._tables: dict[str, Mapping[str, Any]] = {}
        self._plugins: dict[tuple[str, str], str] = {}
        self._clashes: dict[str, list[Clash]] = {}
        self._ops: dict[tuple[str, str], tuple[Op, ...]] | None = None
        self._found: dict[tuple[str, str, int], Op] = {}

    @classmethod
    def of(cls, **definitions: Iterable[Any]) -> Registry:
        """A registry of exactly these definitions, e.g. ``Registry.of(ops=[tanh])``; for tests and tools."""
        return cls(lambda kind: [(d, "given") for d in definitions.get(kind, ())])

    def table(self, kind: str) -> Mapping[str, Any]:
        """Name to definition for one kind.

        Raises:
            PluginError: two plug-ins define one name.
        """
        clashes = self.clashes(kind)
        if clashes:
            raise PluginError("\n".join(map(str, clashes)))
        return self._tables[kind]

    def clashes(self, kind: str) -> tuple[Clash, ...]:
        """The names of one kind that two plug-ins define; while there are any, `table` raises."""
        if kind not in self._tables:
            table: dict[str, Any] = {}
            found = self._clashes.setdefault(kind, [])
            for definition, plugin in self._source(kind):
                name = _key(kind, definition)
                if name in table:
                    found.append(Clash(kind, name, (self._plugins[kind, name], plugin)))
                else:
                    table[name] = definition
                    self._plugins[kind, name] = plugin
            self._tables[kind] = MappingProxyType(dict(sorted(table.items())))
        return tuple(self._clashes[kind])

    def get(self, kind: str, name: str) -> Any:
        """One definition by name.

        Raises:
            PluginError: nothing of this kind has the name; the message lists what there is.
        """
        table = self.table(kind)
        if name not in table:
            raise PluginError(f"{kind}: there is no {name!r}{_nearest(name, table)}; there are: {', '.join(table)}")
        return table[name]

    def plugin_of(self, kind: str, definition: Any) -> str:
        """The plug-in that brought a definition."""
        self.table(kind)
        return self._plugins.get((kind, _key(kind, definition)), "")

    # ---- ops -----------------------------------------------------------------------------------------

    def ops(self) -> Iterator[Op]:
        """Every op, every version, sorted by domain, name and version."""
        for versions in self._op_table().values():
            yield from versions

    def find_op(self, op_type: str, domain: str = "", opset: int | None = None) -> Op:
        """The op a node means: the newest version not above ``opset`` (None: the newest).

        ``op_type`` may name a derived op, such as ``"Tanh.vjp[x]"``.

        Raises:
            UnknownOpError: there is none; the message names near misses.
            NotDifferentiableError: the op has no such rule.
        """
        key = (domain, op_type, -1 if opset is None else opset)
        if key not in self._found:
            base, dot, suffixes = op_type.partition(".")
            found = self._find_version(base, domain, opset)
            for suffix in suffixes.replace("].", "]\n").split("\n") if dot else ():
                found = found.derived(suffix)
            self._found[key] = found
        return self._found[key]

    def op_of(self, node: Node, graph: Graph) -> Op:
        """The op of a node under the graph's opset imports.

        Raises:
            UnknownOpError: there is none; the message names the plug-in to install when the graph says so.
        """
        opset = graph.opset_imports.get(node.domain)
        try:
            return self.find_op(node.op_type, node.domain, opset)
        except UnknownOpError as e:
            wanted = graph.requires.get(node.domain)
            if wanted is None:
                raise
            raise UnknownOpError(f"{e}; the graph says that {wanted!r} has it: pip install {wanted!r}") from e

    def versions(self, op_type: str, domain: str = "") -> tuple[Op, ...]:
        """Every version of one op, oldest first; empty when there is none."""
        return self._op_table().get((domain, op_type), ())

    def _op_table(self) -> dict[tuple[str, str], tuple[Op, ...]]:
        if self._ops is None:
            grouped: dict[tuple[str, str], list[Op]] = {}
            for found in self.table("ops").values():
                grouped.setdefault((found.domain, found.op_type), []).append(found)
            for definition in self.table("optimizers").values():
                grouped[OPTIMIZER_DOMAIN, definition.name] = [definition.op]
            self._ops = {k: tuple(sorted(v, key=lambda o: o.version)) for k, v in sorted(grouped.items())}
        return self._ops

    def _find_version(self, op_type: str, domain: str, opset: int | None) -> Op:
        versions = self.versions(op_type, domain)
        fitting = [o for o in versions if opset is None or o.version <= opset]
        if fitting:
            return fitting[-1]
        where = f"domain {domain!r}" if domain else "the default domain"
        if versions:
            raise UnknownOpError(
                f"op {op_type!r} of {where} is known from version {versions[0].version} on, "
                f"the graph imports version {opset}"
            )
        names = [name for d, name in self._op_table() if d == domain]
        hint = _nearest(op_type, names)
        elsewhere = [d or "the default domain" for d, name in self._op_table() if name == op_type]
        if elsewhere:
            hint += f"; {' and '.join(map(repr, elsewhere))} has an op of that name"
        if not names:
            hint += "; no plug-in that is loaded has any op of that domain (see: graphrt plugins)"
        raise UnknownOpError(f"no op {op_type!r} in {where}{hint}")


def _key(kind: str, definition: Any) -> str:
    if kind == "ops":
        return f"{definition.domain}::{definition.op_type}-{definition.version:04}"
    return str(definition.name)


def _nearest(name: str, names: Iterable[str]) -> str:
    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(lowered[n]) for n in near)}?)" if near else ""
