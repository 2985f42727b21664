"""Loads plug-ins, each on its own, and builds the registry from their hooks once.

The environment variable ``GRAPHRT_PLUGINS`` chooses among the installed plug-ins: unset, all; empty, none;
else a comma-separated list of entry-point names. What ships with graphrt is always there.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

import pluggy

from graphrt import hookspecs
from graphrt.errors import PluginError
from graphrt.installed import InstalledPoint, installed_points
from graphrt.records import dataclass
from graphrt.registry import KINDS, Module, Registry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

Point: TypeAlias = "EntryPoint | InstalledPoint"

GROUP = "graphrt"
BUILTIN = "graphrt.builtin"
_HOOK = "graphrt_register_"


@dataclass(frozen=True)
class PluginStatus:
    """One plug-in as ``graphrt plugins`` shows it.

    ``state`` is ``"ok"``, ``"disabled"``, ``"failed"`` or ``"clash"``; ``reason`` says why it failed, who
    disabled it, or which of its names another plug-in defines too.
    """

    name: str
    distribution: str
    version: str
    state: str
    reason: str = ""
    hooks: tuple[str, ...] = ()


class Manager:
    """The plug-ins of this process and the registry made of them.

    Args:
        points: entry points to load (default: the installed ones of group ``graphrt``).
        enabled: names to load, or None for all.
        disabled: names not to load.
    """

    def __init__(
        self,
        points: Iterable[Point] | None = None,
        enabled: Iterable[str] | None = None,
        disabled: Iterable[str] = (),
    ):
        self._hooks = pluggy.PluginManager(GROUP)
        self._hooks.add_hookspecs(hookspecs)
        self._status: dict[str, PluginStatus] = {}
        self._rejected: list[PluginStatus] = []
        found: Iterable[Point] = installed_points(GROUP) if points is None else points
        self._points: dict[str, Point] = {}
        self._enabled = None if enabled is None else set(enabled)
        self._disabled = set(disabled)
        self._register(importlib.import_module(BUILTIN), "graphrt")
        for point in sorted(found, key=lambda p: p.name):
            self._load(point)
        self._report_unknown(self._enabled or (), "GRAPHRT_PLUGINS")
        self._report_unknown(self._disabled, "--disable-plugin")
        self.registry = Registry(self._definitions, self._load_module)

    def statuses(self) -> tuple[PluginStatus, ...]:
        """Every installed plug-in and how it fared; calls all hooks and imports everything, so that failures show.

        Never raises: of two plug-ins that define one name, both say so here, and `Registry.table` raises for
        that kind. A name that was asked for or disabled and is not installed is listed as failed.
        """
        clashes = [clash for kind in KINDS for clash in self.registry.clashes(kind)]
        self.registry.import_all()
        found = {name: self._described(status) for name, status in self._status.items()}
        for clash in clashes:
            for name in clash.plugins:
                if name in found and found[name].state == "ok":
                    found[name] = replace(found[name], state="clash", reason=str(clash))
        return (*found.values(), *self._rejected)

    def status(self, name: str) -> PluginStatus | None:
        """The status of the plug-in of this name; None for what ships with graphrt."""
        return self._described(self._status[name]) if name in self._status else None

    def failures(self) -> tuple[PluginStatus, ...]:
        """The plug-ins that failed so far."""
        return tuple(self._described(s) for s in (*self._status.values(), *self._rejected) if s.state == "failed")

    def _described(self, status: PluginStatus) -> PluginStatus:
        """The status with its distribution, whose metadata are read only when somebody asks."""
        if status.distribution or status.name not in self._points:
            return status
        distribution, version = _origin(self._points[status.name])
        return replace(status, distribution=distribution, version=version)

    def _report_unknown(self, names: Iterable[str], where: str) -> None:
        for name in sorted(set(names) - self._status.keys()):
            reason = f"{where} names it, and no plug-in of this name is installed"
            self._rejected.append(PluginStatus(name, "", "", "failed", reason))

    def _load(self, point: Point) -> None:
        status = PluginStatus(point.name, "", "", "ok")
        if point.name in self._status or point.name == "graphrt":
            taken = self.status(point.name)
            owner = "graphrt" if taken is None else taken.distribution or "another distribution"
            reason = f"its entry point has the name of one of {owner}; rename it"
            self._rejected.append(PluginStatus(point.name, *_origin(point), "failed", reason))
            return
        self._points[point.name] = point
        self._status[point.name] = status
        if point.name in self._disabled:
            self._status[point.name] = replace(status, state="disabled", reason="by --disable-plugin")
            return
        if self._enabled is not None and point.name not in self._enabled:
            self._status[point.name] = replace(status, state="disabled", reason="by GRAPHRT_PLUGINS")
            return
        try:
            self._register(point.load(), point.name)
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as e:  # whatever a plug-in raises while it loads, SystemExit too, is its failure alone
            self._fail(point.name, e)
            if self._hooks.has_plugin(point.name):
                self._hooks.unregister(name=point.name)
            return
        module = self._hooks.get_plugin(point.name)
        hooks = tuple(k for k in KINDS if hasattr(module, _HOOK + k))
        self._status[point.name] = replace(status, hooks=hooks)

    def _register(self, module: Any, name: str) -> None:
        known = {_HOOK + k for k in KINDS}
        for attribute in dir(module):
            marked = hasattr(getattr(module, attribute, None), "graphrt_impl")
            if attribute not in known and (marked or attribute.startswith(_HOOK)):
                raise PluginError(f"{attribute} is no hook of graphrt; there are: {', '.join(sorted(known))}")
            if attribute in known and not marked:
                raise PluginError(f"{attribute} lacks its decorator: from graphrt.plugin import hookimpl")
        self._hooks.register(module, name=name)

    def _fail(self, name: str, e: BaseException, where: str = "") -> None:
        before = self._status[name]
        reasons = [before.reason] * bool(before.reason) + [f"{where}{type(e).__name__}: {e}"]
        self._status[name] = replace(before, state="failed", reason="; ".join(reasons))

    def _definitions(self, kind: str) -> Iterator[tuple[Any, str]]:
        hook = _HOOK + kind
        for name, module in sorted(self._hooks.list_name_plugin(), key=lambda item: (item[0] != "graphrt", item[0])):
            function = getattr(module, hook, None)
            if function is None:
                continue
            if name == "graphrt":
                yield from ((d, name) for d in function())
                continue
            try:
                given = self._hooks.subset_hook_caller(hook, self._others(module))()
                definitions = [d for chunk in given for d in _checked(kind, chunk, hook)]
            except (KeyboardInterrupt, MemoryError):
                raise
            except BaseException as e:  # as in _load
                self._fail(name, e, f"in {hook}: ")
                continue
            yield from ((d, name) for d in definitions)

    def _load_module(self, module: Module, plugin: str) -> Any:
        """Imports what a plug-in has named; if it cannot, that is the plug-in's failure."""
        if plugin == "graphrt":
            return module.load()
        try:
            return module.load()
        except (KeyboardInterrupt, MemoryError):
            raise
        except BaseException as e:  # as in _load
            self._fail(plugin, e, f"in {module.module}: ")
            raise PluginError(f"plug-in {plugin!r}: {module.module} failed: {type(e).__name__}: {e}") from e

    def _others(self, module: Any) -> list[Any]:
        return [m for m in self._hooks.get_plugins() if m is not module]


def _origin(point: Point) -> tuple[str, str]:
    """Name and version of the distribution that has an entry point, as far as there is one."""
    dist = point.dist
    return (dist.name, dist.version) if dist else ("", "")


def _checked(kind: str, chunk: Any, hook: str) -> list[Any]:
    wanted = _classes_of(kind)
    definitions = list(chunk)
    for d in definitions:
        if not isinstance(d, wanted):
            raise PluginError(f"{hook} returned {d!r}, which is no {wanted[0].__name__}")
    return definitions


@cache
def _classes_of(kind: str) -> tuple[type, ...]:
    """The classes of what a hook returns, from its annotation."""
    (member,) = inspect.get_annotations(getattr(hookspecs, _HOOK + kind), eval_str=True)["return"].__args__
    return getattr(member, "__args__", (member,))


_disabled_names: tuple[str, ...] = ()
_current: Manager | None = None


def disable_plugins(names: Iterable[str]) -> None:
    """Leaves these plug-ins out; call it before anything is loaded (the command line does).

    Raises:
        PluginError: the plug-ins are loaded already.
    """
    global _disabled_names
    if _current is not None:
        raise PluginError("plug-ins are loaded already; disable them first, or set GRAPHRT_PLUGINS")
    _disabled_names = tuple(names)


def get_manager() -> Manager:
    """The manager of this process, made on first use."""
    global _current
    if _current is None:
        chosen = os.environ.get("GRAPHRT_PLUGINS")
        enabled = None if chosen is None else [n.strip() for n in chosen.split(",") if n.strip()]
        _current = Manager(enabled=enabled, disabled=_disabled_names)
    return _current


def get_registry() -> Registry:
    """The registry of this process, made on first use."""
    return get_manager().registry
