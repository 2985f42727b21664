"""Frozen tables from name to definition, each entry with the plug-in it came from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, Self, TypeAlias

from graphrt.definitions import OPTIMIZER_DOMAIN, Kernel, KernelModule
from graphrt.errors import PluginError, UnknownOpError
from graphrt.ir import Graph, Node
from graphrt.op import Op, OpKey, OpModule
from graphrt.records import dataclass

ONNX_DOMAIN = "ai.onnx"
"""ONNX's name of the default domain, where it is not left out."""

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

Key: TypeAlias = str | OpKey
"""What a definition is registered under: its name; of an op also its domain and version."""

Module: TypeAlias = OpModule | KernelModule
"""What stands for definitions whose module is imported when one of them is first used."""


@dataclass(frozen=True, slots=True)
class Clash:
    """A name that two plug-ins define."""

    kind: str
    name: str
    plugins: tuple[str, str]

    def __str__(self) -> str:
        both = " and ".join(map(repr, self.plugins))
        return f"{self.kind}: {self.name!r} is defined by both {both}; disable one of them (--disable-plugin NAME)"


class _Entries:
    """What there is of one kind: by key definitions, and modules in the place of ops; modules of kernels apart."""

    def __init__(self, kind: str, given: Iterable[tuple[Any, str]]):
        self.kind = kind
        self.by_key: dict[Any, Any] = {}
        self.plugins: dict[Key, str] = {}
        self.clashes: list[Clash] = []
        self.kernel_modules: list[tuple[KernelModule, str]] = []
        for definition, plugin in given:
            if isinstance(definition, KernelModule):
                self.kernel_modules.append((definition, plugin))
            else:
                self.add(definition, plugin)

    def add(self, definition: Any, plugin: str) -> None:
        """Enters a definition, or its clash with one that is here."""
        for key in _keys(self.kind, definition):
            if key in self.by_key:
                self.clashes.append(Clash(self.kind, _text(key), (self.plugins[key], plugin)))
            else:
                self.by_key[key], self.plugins[key] = definition, plugin

    def check(self) -> Self:
        """Itself; raises PluginError if there are clashes."""
        if self.clashes:
            raise PluginError("\n".join(map(str, self.clashes)))
        return self


class Registry:
    """What is registered. Each kind's table is made when first asked for, and never changes after.

    Args:
        source: gives the definitions of one kind with the names of their plug-ins; an `OpModule` or a `KernelModule`
            may stand for some.
        load: imports such a module, given it and the name of its plug-in; gives what its ``load`` does. Raises
            PluginError.
    """

    def __init__(self, source: Source, load: Callable[[Module, str], Any] = lambda module, plugin: module.load()):
        self._source, self._load = source, load
        self._entries: dict[str, _Entries] = {}
        self._loaded: dict[Module, Any] = {}
        self._tables: dict[str, Mapping[str, Any]] = {}
        self._versions: dict[tuple[str, str], list[int]] | None = None
        self._found: dict[tuple[str, str, int], Op] = {}
        self._kernels: dict[tuple[str, str], tuple[Kernel, ...]] = {}

    @classmethod
    def of(cls, **definitions: Iterable[Any]) -> Registry:
        """A registry of exactly these definitions, e.g. ``Registry.of(ops=[tanh])``; for tests and tools."""
        return cls(lambda kind: [(d, "given") for d in definitions.get(kind, ())])

    def table(self, kind: str) -> Mapping[str, Any]:
        """Name to definition for one kind. What cannot be imported is not there.

        Raises:
            PluginError: two plug-ins define one name.
        """
        if kind not in self._tables:
            found: dict[str, Any] = {}
            for key, definition in self._all(kind).check().by_key.items():
                with suppress(UnknownOpError):
                    found[_text(key)] = self._op(key) if kind == "ops" else definition
            self._tables[kind] = MappingProxyType(dict(sorted(found.items())))
        return self._tables[kind]

    def clashes(self, kind: str) -> tuple[Clash, ...]:
        """The names of one kind that two plug-ins define; while there are any, `table` raises."""
        return tuple(self._all(kind).clashes)

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
        return self._all(kind).check().plugins.get(_keys(kind, definition)[0], "")

    def import_all(self) -> None:
        """Imports whatever is imported only when it is used; what cannot be imported is passed over."""
        for kind in KINDS:
            self._all(kind)
        for key in self._of("ops").by_key:
            with suppress(UnknownOpError):
                self._op(key)

    def _of(self, kind: str) -> _Entries:
        """The entries of a kind, without the kernels that are not imported yet."""
        if kind not in self._entries:
            self._entries[kind] = _Entries(kind, self._source(kind))
        return self._entries[kind]

    def _all(self, kind: str) -> _Entries:
        """The entries of a kind."""
        entries = self._of(kind)
        self._import_kernels(entries.kernel_modules)
        return entries

    def _contents(self, module: Module, plugin: str) -> Any:
        """What a module has; raises PluginError, each time, if it cannot be imported."""
        if module not in self._loaded:
            try:
                self._loaded[module] = self._load(module, plugin)
            except PluginError as e:
                self._loaded[module] = e
        found = self._loaded[module]
        if isinstance(found, PluginError):
            raise found
        return found

    # ---- kernels -------------------------------------------------------------------------------------

    def kernels_for(self, op_type: str, domain: str = "") -> tuple[Kernel, ...]:
        """The kernels of an op, or of a derived one, from the highest priority down.

        Raises:
            PluginError: two plug-ins define kernels of one name.
        """
        key = domain, op_type
        if key not in self._kernels:
            base = domain, op_type.partition(".")[0]
            entries = self._of("kernels")
            self._import_kernels([m for m in entries.kernel_modules if base in m[0].ops])
            found = [k for k in entries.check().by_key.values() if (k.domain, k.op_type) == key]
            self._kernels[key] = tuple(sorted(found, key=lambda k: (-k.priority, k.name)))
        return self._kernels[key]

    def _import_kernels(self, modules: Iterable[tuple[KernelModule, str]]) -> None:
        entries = self._of("kernels")
        for module, plugin in tuple(modules):
            with suppress(PluginError):
                for kernel in self._contents(module, plugin):
                    entries.add(kernel, plugin)
            entries.kernel_modules.remove((module, plugin))

    # ---- ops -----------------------------------------------------------------------------------------

    def ops(self) -> Iterator[Op]:
        """Every op, every version, sorted by domain, name and version."""
        updates = (d.op for d in self.table("optimizers").values())
        yield from sorted([*self.table("ops").values(), *updates], key=lambda o: o.key)

    def find_op(self, op_type: str, domain: str = "", opset: int | None = None) -> Op:
        """The op a node means: the newest version not above ``opset`` (None: the newest).

        ``op_type`` may name a derived op, such as ``"Tanh.vjp[x]"``; ``ai.onnx`` is the default domain's full name.

        Raises:
            UnknownOpError: there is none, and the message names near misses; or its plug-in fails.
            NotDifferentiableError: the op has no such rule.
        """
        key = (domain, op_type, -1 if opset is None else opset)
        if key not in self._found:
            base, dot, suffixes = op_type.partition(".")
            found = self._find_version(base, "" if domain == ONNX_DOMAIN else domain, opset)
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
        """Every version of one op, oldest first; empty when there is none.

        Raises:
            UnknownOpError: the module that has it cannot be imported.
        """
        return tuple(self._op((domain, op_type, v)) for v in self._versions_of(domain, op_type))

    def op_names(self) -> list[tuple[str, str]]:
        """Domain and type of every op but the optimizers' updates, sorted; ops of an `OpModule` are not imported."""
        return list(self._op_versions())

    def plugins_by_domain(self) -> dict[str, str]:
        """The domains of all ops, each with the first of the plug-ins that have ops of it; imports no op."""
        plugins = self._of("ops").check().plugins
        return {key[0]: plugins[key] for key in sorted(plugins, reverse=True)}

    def _versions_of(self, domain: str, op_type: str) -> list[int]:
        if domain == OPTIMIZER_DOMAIN and op_type in self.table("optimizers"):
            return [self.table("optimizers")[op_type].op.version]
        return self._op_versions().get((domain, op_type), [])

    def _op_versions(self) -> dict[tuple[str, str], list[int]]:
        """Domain and op type to versions, oldest first."""
        if self._versions is None:
            keys = sorted(self._of("ops").check().by_key)
            self._versions = {key[:2]: [] for key in keys}
            for key in keys:
                self._versions[key[:2]].append(key[2])
        return self._versions

    def _op(self, key: Any) -> Any:
        """The op of a key; raises UnknownOpError if the module that has it cannot be imported."""
        domain, op_type, _ = key
        if domain == OPTIMIZER_DOMAIN and op_type in self.table("optimizers"):
            return self.table("optimizers")[op_type].op
        entries = self._of("ops")
        found = entries.by_key[key]
        if not isinstance(found, OpModule):
            return found
        try:
            return self._contents(found, entries.plugins[key])[key]
        except PluginError as e:
            raise UnknownOpError(f"op {op_type!r} cannot be imported: {e}") from e

    def _find_version(self, op_type: str, domain: str, opset: int | None) -> Op:
        versions = self._versions_of(domain, op_type)
        fitting = [v for v in versions if opset is None or v <= opset]
        if fitting:
            found: Op = self._op((domain, op_type, fitting[-1]))
            return found
        where = f"domain {domain!r}" if domain else "the default domain"
        if versions:
            raise UnknownOpError(
                f"op {op_type!r} of {where} is known from version {versions[0]} on, the graph imports version {opset}"
            )
        known = sorted({*self.op_names(), *((OPTIMIZER_DOMAIN, name) for name in self.table("optimizers"))})
        names = [name for d, name in known if d == domain]
        hint = _nearest(op_type, names)
        elsewhere = [d or "the default domain" for d, name in known if name == op_type]
        if elsewhere:
            hint += f"; {' and '.join(map(repr, elsewhere))} has an op of that name"
        if not names:
            hint += "; no plug-in that is loaded has any op of that domain (see: graphrt plugins)"
        raise UnknownOpError(f"no op {op_type!r} in {where}{hint}")


def _keys(kind: str, definition: Any) -> tuple[Key, ...]:
    if kind != "ops":
        return (str(definition.name),)
    return definition.keys if isinstance(definition, OpModule) else (definition.key,)


def _text(key: Key) -> str:
    return key if isinstance(key, str) else f"{key[0]}::{key[1]}-{key[2]:04}"


def _nearest(name: str, names: Iterable[str]) -> str:
    import difflib

    lowered = {n.lower(): n for n in names}
    near = difflib.get_close_matches(name.lower(), lowered, n=3, cutoff=0.6)
    return f" (did you mean {' or '.join(repr(lowered[n]) for n in near)}?)" if near else ""
